"""Cuts the text of a shell script into words and operators, forgiving what copying from a web page does to it.

Owns quotes, comments, continuation lines and what stands in a text that no shell would take: prompts, full-width and
typographic characters, HTML entities, markdown fences. Expands nothing: a word keeps its `$NAME` and `$(...)` as parts
for `shell`. Text inside quotes is never changed, so that `shlex.join` of any words is read back to the letter.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sft_kit.errors import Problem, UsageError


@dataclass(frozen=True)
class Note:
    """Something that was read otherwise than a shell would, or left out; `line` from 1."""

    line: int
    message: str


@dataclass(frozen=True)
class Part:
    """A piece of a word. `text` is what stands inside `${}`, `$()` or `$(())`; `source` the piece as it was written.

    A placeholder is `<your model>`, which a shell would take for redirections.
    """

    kind: Literal["text", "parameter", "command", "arithmetic", "placeholder"]
    text: str
    quoted: bool
    source: str = ""


@dataclass(frozen=True)
class Word:
    """One word before expansion; `items` are the words of an array (`NAME=(a b)`), whose parts are `NAME=`."""

    line: int
    parts: tuple[Part, ...]
    items: tuple[Word, ...] | None = None

    @property
    def plain(self) -> str:
        """The text of a word without quotes and expansions, else ""."""
        return "".join(p.text for p in self.parts) if all(p.kind == "text" and not p.quoted for p in self.parts) else ""


@dataclass(frozen=True)
class Operator:
    """`;`, `&`, `&&`, `||`, `|`, `(`, `)`, a line's end, or (`redirect`) a whole redirection such as `> train.log`."""

    line: int
    text: str
    redirect: bool = False


Token = Word | Operator

_BLANKS = " \t"
_MOST_READINGS = 6  # of a text that has to be changed first
_INVISIBLE = frozenset("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad")
_OTHER_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_TYPOGRAPHIC = {"“": '”“"', "”": '”"', "„": '”“"', "＂": '＂"', "‘": "’‘'", "’": "’'", "＇": "＇'"}
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#0?39|#34|#x27|#160);")
_REDIRECT = re.compile(r"\d*(?:<<<|<<-?|>>|>&|<&|<>|>\||>|<)|&>>?")
_CONTROL = re.compile(r";;|&&|\|\||\|&|[;&|()]")
_PLACEHOLDER = re.compile(r"<(?=[^\s<>(&])[^<>\n|&;()]{0,60}(?<=\S)>(?=[\s/:.,#'\"]|\Z)")
_OPTION = re.compile(rf"[ \t{_OTHER_SPACES}]*(?:>[ \t]+)?(?:-{{1,2}}[A-Za-z]|(?=-*[{_DASHES}])[-{_DASHES}]+[A-Za-z])")
_PROMPT = re.compile(
    r"[ \t]*(?:\([\w.-]+\)[ \t]*)*"  # (base), a conda environment
    r"(?:\[?[\w.-]+@[\w.-]+[^\n$#%>]{0,80}[$#%>]"  # user@host:~/x$
    r"|PS [A-Za-z]:[^\n>]*>|[A-Za-z]:\\[^\n>]*>|\$|>>>|>|%|❯|➜|In \[\d*\]:)[ \t]+"
)
_MAGIC = re.compile(
    r"[ \t]*(?:%%(?:bash|sh|shell|script[^\n]*|capture[^\n]*|time)(?=[ \t]*\n)|(%|\$)env[: ]|[!%](?=[A-Za-z]))"
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(?:([\w+-]+)[ \t]*)?$", re.MULTILINE)
_SHELLS = ("", "bash", "sh", "shell", "console", "zsh", "text", "shell-session", "bat", "powershell")
_ANSI = {
    "n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "e": 27, "E": 27, "f": 12, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63,
}  # fmt: skip


class _ReadAgain(Exception):
    """The whole text has to be changed first: it has the line ends of Windows, or is HTML."""

    def __init__(self, text: str, note: Note) -> None:
        self.text, self.note = text, note


def tokenize(text: str, name: str) -> tuple[list[Token], list[Note]]:
    """The tokens of the script `text`, which errors call `name`, and what was read otherwise than written.

    Raises UsageError with line and column for a quote or bracket that is never closed.
    """
    notes: list[Note] = []
    text = _unfenced(text, notes)
    for _ in range(_MOST_READINGS):
        lexer = _Lexer(text, name)
        try:
            lexer.run()
        except _ReadAgain as again:
            text = again.text
            notes.append(again.note)
        else:
            return lexer.tokens, list(dict.fromkeys([*notes, *lexer.notes]))
    raise UsageError(Problem(name, "holds HTML entities within HTML entities", "write the characters they mean"))


def parts_of(text: str, name: str, *, quoted: bool) -> tuple[Part, ...]:
    """The parts of `text` as the inside of double quotes, or as one word in which blanks mean nothing."""
    lexer = _Lexer(text, name)
    if quoted:
        lexer.until("", 0)
    else:
        lexer.pieces(whole=True)
    return tuple(lexer.parts)


def _unfenced(text: str, notes: list[Note]) -> str:
    """The code blocks of a markdown text, everything else blanked out so that lines keep their numbers."""
    fences = list(_FENCE.finditer(text))
    if fences and "swift" not in text[: fences[0].start()]:
        lines = text.split("\n")
        places = [text.count("\n", 0, fence.end()) for fence in fences] + [len(lines)]
        kept = [""] * len(lines)
        for opening, closing, fence in zip(places[::2], places[1::2], fences[::2], strict=False):
            inside = lines[opening + 1 : closing]
            if (fence.group(1) or "").lower() in _SHELLS or any(re.match(r"\s*[!%]", line) for line in inside):
                kept[opening + 1 : closing] = inside
        notes.append(Note(places[0] + 1, "what stands between the ``` fences is read"))
        return "\n".join(kept)
    inline = re.fullmatch(r"\s*`([^`\n]+)`\s*", text)
    return inline.group(1) if inline else text


class _Lexer:
    """Reads one text from its start to its end; `parts` is the word being read."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.at = 0
        self.tokens: list[Token] = []
        self.notes: list[Note] = []
        self.parts: list[Part] = []
        self.heredocs: list[tuple[str, bool]] = []  # (end word, whether tabs before it are left out)
        self.prompted = False
        self.counted = (0, 1)  # a place and its line, from which later lines are counted

    # --- where we are --------------------------------------------------------------------------------------------

    @property
    def line(self) -> int:
        at, line = self.counted if self.counted[0] <= self.at else (0, 1)
        self.counted = (self.at, line + self.text.count("\n", at, self.at))
        return self.counted[1]

    def note(self, message: str, line: int | None = None) -> None:
        self.notes.append(Note(line or self.line, message))

    def error(self, start: int, message: str, fix: str) -> UsageError:
        line = self.text.count("\n", 0, start) + 1
        column = start - (self.text.rfind("\n", 0, start) + 1) + 1
        return UsageError(Problem(f"{self.name}:{line}:{column}", message, fix))

    def match(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        return re.compile(pattern).match(self.text, self.at)

    # --- lines ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.line_start()
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\n":
                self.newline()
            elif char == "\r":
                self.carriage_return()
            elif char in _BLANKS:
                self.at += 1
            elif char in _OTHER_SPACES or char in _INVISIBLE:
                self.stray_space(char)
            elif char == "#" or (char == "＃" and self.in_comment_place()):
                self.comment()
            elif not (self.continuation() or self.operator()):
                self.word()

    def line_start(self) -> None:
        """Leave out a prompt or a notebook's mark at the beginning of a command."""
        if found := self.match(_PROMPT):
            self.prompted = True
            self.note("a prompt is left out")
            self.at = found.end()
        if found := self.match(_MAGIC):
            if found.group(1):
                self.tokens.append(Word(self.line, (Part("text", "export", False),)))
            self.at = found.end()

    def newline(self) -> None:
        """The end of a command, unless the next line goes on with options: then a backslash was forgotten."""
        at_line = self.line
        self.at += 1
        self.skip_heredocs()
        if not self.in_command():
            self.line_start()
            return
        ended = self.text[self.text.rfind("\n", 0, self.at - 1) + 1 : self.at].strip()
        commented = ended.startswith("#")
        rest = self.at
        while found := re.compile(rf"[ \t{_OTHER_SPACES}]*(#[^\n]*)?\r?\n").match(self.text, rest):
            commented = commented or bool(found.group(1))
            rest = found.end()
        cut_in = ended.startswith("#") and ended.endswith("\\") and self.text[rest:].strip()
        if not (cut_in or _OPTION.match(self.text, rest)):
            self.tokens.append(Operator(at_line, "\n"))
            self.line_start()
            return
        why = (
            "a comment"
            if commented
            else "an empty line"
            if not ended or rest > self.at
            else "no \\ at the end of the line"
        )
        self.note(f"{why} inside the command, which ends there in a shell; read on", at_line)
        self.at = rest
        self.leave_out_second_prompt()

    def in_command(self) -> bool:
        """Whether the tokens so far end inside a command."""
        last = self.tokens[-1] if self.tokens else None
        return isinstance(last, Word) or (last is not None and last.redirect)

    def carriage_return(self) -> None:
        if self.text.startswith("\r\n", self.at):
            note = Note(self.line, "the line ends of Windows are read as a shell's")
            raise _ReadAgain(self.text.replace("\r\n", "\n"), note)
        self.at += 1

    def stray_space(self, char: str) -> None:
        what = "an invisible character" if char in _INVISIBLE else "a non-breaking or full-width space"
        self.note(f"{what} (U+{ord(char):04X}) is read as a space")
        self.at += 1

    def in_comment_place(self) -> bool:
        return not self.tokens or isinstance(self.tokens[-1], Operator)

    def comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def continuation(self) -> bool:
        """A backslash at the end of a line, as it was meant; also ^ and ` of Windows."""
        char = self.text[self.at]
        if char not in "\\^`＼":
            return False
        found = self.match(
            r"[\\＼^`](?P<blanks>[ \t\u00a0\u3000]*)(?P<comment>(?<=[ \t])#[^\n]*?)?(?P<cr>\r?)(?:\n|\Z)"
        )
        if found and (char != "`" or not found.group("comment")) and found.end() > self.at + 1 - (char == "\\"):
            if found.group("cr"):
                self.carriage_return_at(found.start("cr"))
            self.note_continuation(char, found)
            self.at = found.end()
            self.leave_out_second_prompt()
            return True
        if char == "\\" and (found := self.match(r"\\[ \t]+(?=\S)")):
            self.note("a \\ without its line end is left out: the lines were joined when they were copied")
            self.at = found.end()
            return True
        return False

    def carriage_return_at(self, place: int) -> None:
        self.at = place
        if self.text.startswith("\r\n", place):
            self.carriage_return()

    def note_continuation(self, char: str, found: re.Match[str]) -> None:
        if char != "\\":
            self.note(f"{char} at the end of the line is read as \\")
        elif found.group("comment"):
            self.note("a comment behind \\: in a shell the command ends there; read on")
        elif found.group("blanks") and found.group().endswith("\n"):
            self.note("blanks behind \\: in a shell the command ends there; read on")

    def leave_out_second_prompt(self) -> None:
        """`> ` at the start of a continued line is a prompt where the copied text has prompts or an option follows."""
        pattern = r"[ \t]*>[ \t]+(?=\S)" if self.prompted else rf"[ \t]*>[ \t]+(?=[-{_DASHES}])"
        if found := self.match(pattern):
            self.note("a prompt is left out")
            self.at = found.end()

    def skip_heredocs(self) -> None:
        for end_word, tabs in self.heredocs:
            self.note(f"the text up to {end_word} (a here-document) is not read")
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                line = self.text[self.at : end if end >= 0 else len(self.text)]
                self.at = end + 1 if end >= 0 else len(self.text)
                if (line.lstrip("\t") if tabs else line) == end_word:
                    break
        self.heredocs.clear()

    # --- operators -----------------------------------------------------------------------------------------------

    def operator(self) -> bool:
        if self.text[self.at] == "&" and _ENTITY.match(self.text, self.at):
            plain = _ENTITY.sub(lambda found: html.unescape(found.group()), self.text)
            raise _ReadAgain(plain, Note(self.line, "HTML entities such as &amp; are read as the characters they mean"))
        if self.match(_PLACEHOLDER):
            return False
        if found := self.match(_REDIRECT):
            self.redirect(found)
            return True
        if found := self.match(_CONTROL):
            self.tokens.append(Operator(self.line, found.group()))
            self.at = found.end()
            return True
        return False

    def redirect(self, found: re.Match[str]) -> None:
        start, line = self.at, self.line
        self.at = found.end()
        while self.at < len(self.text) and self.text[self.at] in _BLANKS:
            self.at += 1
        if self.match(r"[<>]?\("):
            self.at = self.text.index("(", self.at)
            self.bracket("(", ")")
        elif self.at < len(self.text) and self.text[self.at] not in "\n;&|":
            self.word()
            target = self.tokens.pop()
            if "<<" in found.group() and "<<<" not in found.group() and isinstance(target, Word):
                self.heredocs.append(("".join(part.text for part in target.parts), found.group().endswith("-")))
        self.tokens.append(Operator(line, self.text[start : self.at], redirect=True))

    # --- words ---------------------------------------------------------------------------------------------------

    def word(self) -> None:
        line, start = self.line, self.at
        self.parts = []
        if not self.bare_json():
            self.pieces()
        if self.at == start:  # a character that begins no word: take it as it is
            self.add(self.text[self.at], False)
            self.at += 1
        if self.text.startswith("(", self.at) and re.fullmatch(
            r"[A-Za-z_]\w*\+?=", Word(line, tuple(self.parts)).plain
        ):
            self.array(line)
            return
        self.tokens.append(Word(line, self.mended(line)))

    def array(self, line: int) -> None:
        name = self.mended(line)
        outer, self.tokens = self.tokens, []
        opened = self.at
        self.at += 1
        while not self.text.startswith(")", self.at):
            if self.at >= len(self.text):
                raise self.error(opened, "the ( opened here is never closed", "close it with )")
            char = self.text[self.at]
            if char in " \t\r\n":
                self.at += 1
            elif char == "#":
                self.comment()
            elif not self.continuation():
                self.word()
        self.at += 1
        items = tuple(token for token in self.tokens if isinstance(token, Word))
        self.tokens = [*outer, Word(line, name, items)]

    def bare_json(self) -> bool:
        """A JSON mapping without quotes around it, of which a shell would take the quotes away."""
        if not self.match(r'\{[ \t]*"'):
            return False
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            return False
        if not isinstance(value, dict) or self.text[end : end + 1] not in ("", " ", "\t", "\n", "\r"):
            return False
        self.note("JSON without quotes around it is taken as it stands; a shell would take its quotes away")
        self.add(self.text[self.at : end], True)
        self.at = end
        return True

    def add(self, text: str, quoted: bool) -> None:
        self.parts.append(Part("text", text, quoted))

    def pieces(self, *, whole: bool = False) -> None:
        """Read parts up to the end of the word; `whole`: up to the end of the text, blanks being text."""
        readers: dict[str, Callable[[], None]] = {
            "'": self.single,
            '"': lambda: self.double('"'),
            "$": lambda: self.dollar(quoted=False),
            "`": lambda: self.backticks(quoted=False),
            "\\": self.escape,
        }
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "<" and (found := self.match(_PLACEHOLDER)):
                self.parts.append(Part("placeholder", found.group(), False, found.group()))
                self.at = found.end()
                continue
            if not whole and self.ends_word(char):
                return
            if char in readers:
                readers[char]()
            elif char in _TYPOGRAPHIC and self.at_value_start() and self.typographic(char):
                continue
            else:
                self.add(char, False)
                self.at += 1

    def ends_word(self, char: str) -> bool:
        if char in " \t\n;|<>()" or char in _OTHER_SPACES:
            return True
        if char == "&":
            return True
        if char == "\r":
            return self.text.startswith("\r\n", self.at)
        return char == "\\" and bool(self.match(r"\\[ \t]+(?:#[^\n]*)?\r?(?:\n|\Z)|\\\r\n"))

    def at_value_start(self) -> bool:
        return not self.parts or (self.parts[-1].text.endswith("=") and not self.parts[-1].quoted)

    def typographic(self, char: str) -> bool:
        closing = _TYPOGRAPHIC[char]
        closed = re.compile(f"[{closing}]").search(self.text, self.at + 1)
        if not closed:
            return False
        end = closed.start()
        self.note(f"the typographic quotes {char} {self.text[end]} are read as quotes")
        self.at += 1
        if char in "‘’＇":
            self.add(self.text[self.at : end], True)
            self.at = end + 1
        else:
            self.at -= 1
            self.double(closing)
        return True

    def single(self) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self.error(self.at, "the ' opened here is never closed", "close it with '")
        self.add(self.text[self.at + 1 : end], True)
        self.at = end + 1

    def double(self, closing: str) -> None:
        start = self.at
        before = len(self.parts)
        self.at += 1
        self.until(closing, start)
        if len(self.parts) == before:  # "" is a word, "$@" without arguments is none
            self.add("", True)

    def until(self, closing: str, start: int) -> None:
        """The inside of double quotes up to one of `closing` (""): up to the end of the text."""
        buffer: list[str] = []

        def flush() -> None:
            if buffer:
                self.add("".join(buffer), True)
                buffer.clear()

        while self.at < len(self.text):
            char = self.text[self.at]
            if closing and char in closing:
                flush()
                self.at += 1
                return
            following = self.text[self.at + 1 : self.at + 2]
            if char == "\\" and following and following in '$`"\\\n':
                buffer.append("" if following == "\n" else following)
                self.at += 2
            elif char in "$`":
                flush()
                self.dollar(quoted=True) if char == "$" else self.backticks(quoted=True)
            else:
                buffer.append(char)
                self.at += 1
        flush()
        if closing:
            quote = self.text[start]
            raise self.error(start, f"the {quote} opened here is never closed", f'close it, or write \\" for a {quote}')

    def escape(self) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if following == "\n":
            self.at += 2
        elif following:
            self.add(following, True)
            self.at += 2
        else:
            self.at += 1

    def dollar(self, *, quoted: bool) -> None:
        start = self.at
        if not quoted and self.text.startswith("$'", start):
            self.at += 1
            self.ansi_c()
        elif not quoted and self.text.startswith('$"', start):
            self.at += 1
            self.double('"')
        elif self.text.startswith("$((", start) and self.arithmetic(quoted):
            pass
        elif self.text.startswith("$(", start):
            self.at += 1
            inside = self.bracket("(", ")")
            self.parts.append(Part("command", inside, quoted, self.text[start : self.at]))
        elif self.text.startswith("${", start):
            self.at += 1
            inside = self.bracket("{", "}")
            self.parts.append(Part("parameter", inside, quoted, self.text[start : self.at]))
        elif found := self.match(r"\$([A-Za-z_]\w*|[0-9@*#?$!-])"):
            self.parts.append(Part("parameter", found.group(1), quoted, found.group()))
            self.at = found.end()
        else:
            self.add("$", quoted)
            self.at += 1

    def arithmetic(self, quoted: bool) -> bool:
        start = self.at
        self.at += 1
        inside = self.bracket("(", ")")
        if not (inside.startswith("(") and inside.endswith(")")):
            self.at = start
            return False
        self.parts.append(Part("arithmetic", inside[1:-1], quoted, self.text[start : self.at]))
        return True

    def backticks(self, *, quoted: bool) -> None:
        end = self.text.find("`", self.at + 1)
        if end < 0:
            raise self.error(self.at, "the ` opened here is never closed", "close it, or leave it out")
        inside = self.text[self.at + 1 : end].replace("\\`", "`")
        self.parts.append(Part("command", inside, quoted, self.text[self.at : end + 1]))
        self.at = end + 1

    def bracket(self, opening: str, closing: str) -> str:
        """The text inside the bracket that opens here, quotes in it respected; goes behind its end."""
        start, depth, at = self.at, 0, self.at
        while at < len(self.text):
            char = self.text[at]
            if char == "\\":
                at += 1
            elif char in "'\"" and (
                found := re.compile(r"'[^']*'" if char == "'" else r'"(?:\\.|[^"\\])*"', re.DOTALL).match(self.text, at)
            ):
                at = found.end() - 1
            elif char == opening:
                depth += 1
            elif char == closing:
                depth -= 1
                if not depth:
                    self.at = at + 1
                    return self.text[start + 1 : at]
            at += 1
        raise self.error(start, f"the {opening} opened here is never closed", f"close it with {closing}")

    def ansi_c(self) -> None:
        start = self.at
        found = self.match(r"'((?:\\.|[^'\\])*)'") or re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL).match(
            self.text, start
        )
        if not found:
            raise self.error(start, "the $' opened here is never closed", "close it with '")
        self.add(_ansi_c(found.group(1)), True)
        self.at = found.end()

    # --- what web pages do ---------------------------------------------------------------------------------------

    def mended(self, line: int) -> tuple[Part, ...]:
        """The word's parts, joined where they can be, with the unquoted text as it was before a page changed it."""
        joined: list[Part] = []
        for part in self.parts:
            last = joined[-1] if joined else None
            if last and last.kind == part.kind == "text" and last.quoted == part.quoted:
                joined[-1] = Part("text", last.text + part.text, part.quoted)
            else:
                joined.append(part)
        first = True
        for index, part in enumerate(joined):
            if part.kind == "text" and not part.quoted:
                text = _mended(part.text, dashes=first)
                if text != part.text:
                    self.note(f"{part.text} is read as {text}", line)
                    joined[index] = Part("text", text, False)
            first = False
        return tuple(part for part in joined if part.text or part.quoted or part.kind != "text" or len(joined) == 1)


def _mended(text: str, *, dashes: bool) -> str:
    if text.isascii():
        return text
    text = "".join(char for char in text if char not in _INVISIBLE)
    if dashes:
        found = re.match(rf"[-{_DASHES}]*[{_DASHES}][-{_DASHES}]*", text)
        if found:
            minus = "-" if re.match(r"[\d.]", text[found.end() :]) else "--"
            text = minus + text[found.end() :]
    narrow = "".join(chr(ord(char) - 0xFEE0) if 0xFF01 <= ord(char) <= 0xFF5E else char for char in text)
    return narrow if narrow.isascii() else text


def _ansi_c(text: str) -> str:
    """The escapes of $'...' (bash's manual, ANSI-C Quoting); octal and \\x are bytes of UTF-8."""
    out = bytearray()
    at = 0
    pattern = re.compile(
        r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c(.)|(.))", re.DOTALL
    )
    for found in pattern.finditer(text):
        out += text[at : found.start()].encode("utf-8", "surrogatepass")
        at = found.end()
        hexadecimal, octal, short, long, control, single = found.groups()
        if hexadecimal:
            out.append(int(hexadecimal, 16))
        elif octal:
            out.append(int(octal, 8) & 255)
        elif short or long:
            out += chr(min(int(short or long, 16), 0x10FFFF)).encode("utf-8", "surrogatepass")
        elif control:
            out.append(ord(control.upper()) & 31 if control.isascii() else 63)
        else:
            out += bytes([_ANSI[single]]) if single in _ANSI else ("\\" + single).encode()
    out += text[at:].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "replace")
