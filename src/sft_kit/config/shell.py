"""Reads a pasted shell script, without running any of it, as the commands it would start.

Owns what a shell does to words: assignments and exports, `$NAME` and its defaults, arrays, splitting, braces, files
that match a pattern, wrappers such as nohup and sudo, simple `for` loops. Nothing is executed: `$(...)` is worked out
only for the few commands that need no program (`expr`, `nproc`, `pwd`, `echo`, `basename`, `dirname`); any other, a
variable that is set nowhere, and a secret of the environment stay in the word as they were written, with a doubt beside
them. Does not know ms-swift.

`tests/config/test_shell.py` compares the commands, word for word and with their variables, with those of a real bash.
"""

from __future__ import annotations

import ast
import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sft_kit.config.shell_words import Note as Note
from sft_kit.config.shell_words import Operator, Part, Token, Word, parts_of, tokenize
from sft_kit.errors import Problem, UsageError
from sft_kit.secrets import hide_in_env, is_secret

MAX_CHARACTERS = 64_000
_MAX_COMMANDS = 200  # a loop in a loop may ask for more: nobody wants so many configs
# Characters that variables, braces and loops may make of a script: `A=$A$A` a few times would fill the memory.
_MAX_EXPANDED = 500_000
_MAX_STRIPPED = 1_000  # characters of a value that `${NAME##*/}` is worked out for
_LONGEST_PATH = 4_096  # characters; no file's is longer
_MAX_WILD = 3  # parts of a path that may be patterns: more would search whole disks
_FILLED_IN = "paste the command with its values filled in"


@dataclass(frozen=True)
class ShellCommand:
    """One command of a script: its words after expansion, and the variables that it is given.

    `doubts` says, by the index of a word or the name of a variable, what could not be worked out; such a text stands as
    it was written. `left_out` are the wrappers and redirections around the command. `inside` names the block (`if`,
    a function) in which it stands; whether it would run is not decided here.
    """

    line: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[int | str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    inside: str = ""


@dataclass(frozen=True)
class Script:
    """The commands of a script in their order, and what was read otherwise than a shell would."""

    commands: tuple[ShellCommand, ...]
    notes: tuple[Note, ...]


def read_script(text: str, name: str = "command", environ: Mapping[str, str] = os.environ) -> Script:
    """The commands in `text`, a line or a whole script; `environ` is what the script would find set.

    Raises UsageError, at `name:line:column`, for a quote or bracket that is never closed, and for a text that is no
    script (a NUL, over 64,000 characters) or that would become too much (loops in loops, a variable doubled again and
    again, brackets in brackets).
    """
    if "\0" in text:
        raise UsageError(Problem(name, "is no shell script", "give the text of the command, or @FILE"))
    if len(text) > MAX_CHARACTERS:
        fix = "paste the command by itself"
        raise UsageError(Problem(name, f"is longer than {MAX_CHARACTERS:,} characters", fix))
    try:
        tokens, notes = tokenize(text, name)
        shell = _Shell(name, environ, notes)
        shell.run(tokens)
    except RecursionError:
        raise UsageError(Problem(name, "is nested too deeply", _FILLED_IN)) from None
    return Script(tuple(shell.commands), tuple(dict.fromkeys(shell.notes)))


_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")
_DECLARE = ("export", "declare", "typeset", "readonly", "local")
_FILTERS = ("tee", "grep", "cat", "less", "more", "ts", "head", "tail", "sed", "awk", "tr", "col")
_OPENERS = ("if", "while", "until", "case", "select", "[[")
_CLOSERS = ("fi", "done", "esac", "]]")
_GO_ON = ("then", "do", "else", "elif", "{", "}", "!", "time", "coproc")  # a command may follow


@dataclass
class _Field:
    """A word while it is put together: its text, and the pattern of file names that its unquoted part may be."""

    text: str = ""
    pattern: str = ""
    is_pattern: bool = False

    def add(self, text: str, *, quoted: bool) -> None:
        self.text += text
        self.pattern += glob.escape(text) if quoted else text
        self.is_pattern = self.is_pattern or (not quoted and any(c in text for c in "*?["))


class _Shell:
    """The state of a shell that has read a script so far."""

    def __init__(self, name: str, environ: Mapping[str, str], notes: list[Note]) -> None:
        self.name, self.environ, self.notes = name, environ, notes
        self.variables: dict[str, list[str]] = {}  # a plain variable is an array of one
        self.exported: dict[str, None] = {}
        self.unknown: dict[str, str] = {}  # variables whose value was not worked out, and why
        self.commands: list[ShellCommand] = []
        self.blocks: list[str] = []
        self.alternative = ""  # what a command is, of which a shell decides whether it runs
        self.doubts: list[str] = []  # of the word that is being expanded
        self.in_one_piece = False  # whether the part that is being expanded is not split at blanks
        self.line = 0
        self.moved = False
        self.size = 0  # of what the script becomes: characters, words, and tokens of loops

    def note(self, message: str, line: int = 0) -> None:
        self.notes.append(Note(line or self.line, message))

    def grow(self, size: int) -> None:
        """Count what the script becomes; raises UsageError when that is too much."""
        self.size += size
        if self.size > _MAX_EXPANDED:
            message, fix = "its variables, braces and loops become too much text", _FILLED_IN
            raise UsageError(Problem(f"{self.name}:{self.line}", message, fix))

    # --- commands ------------------------------------------------------------------------------------------------

    def run(self, tokens: Sequence[Token]) -> None:
        """Read the simple commands among `tokens` one after the other."""
        self.grow(len(tokens))
        words: list[Word] = []
        left_out: list[str] = []
        piped = False
        at = 0
        while at < len(tokens):
            token = tokens[at]
            at += 1
            if isinstance(token, Operator):
                if token.redirect:
                    left_out.append(token.text)
                    continue
                if token.text == "(" and len(words) == 1 and _is(tokens, at, ")"):
                    self.blocks.append(f"function {words.pop().plain} {{")
                    at += 1
                    continue
                self.finish(words, [*left_out, *(["&"] if token.text == "&" else [])], piped=piped)
                words, left_out, piped = [], [], token.text in ("|", "|&")
                self.alternative = "an alternative behind ||" if token.text == "||" else ""
                continue
            if not words and token.plain == "for":
                at = self.loop(tokens, at)
            elif not words and self.keyword(token):
                pass
            else:
                words.append(token)
        self.finish(words, left_out, piped=piped)

    def keyword(self, word: Word) -> bool:
        """Whether `word` is a reserved word where a command is expected; keeps account of the open blocks."""
        text = word.plain
        if text in _OPENERS or text == "function":
            self.blocks.append(f"{text} (line {word.line})" + (" {" if text == "function" else ""))
        elif text in _CLOSERS or (text == "}" and self.blocks and self.blocks[-1].endswith("{")):
            if self.blocks:
                self.blocks.pop()
        elif text not in _GO_ON:
            return False
        return True

    def loop(self, tokens: Sequence[Token], at: int) -> int:
        """`for NAME in WORDS; do ... done`, read once for each word; any other `for` is a block. Goes behind it."""
        line = tokens[at - 1].line
        name = tokens[at] if at < len(tokens) else None
        body = next((i for i in range(at, len(tokens)) if _plain(tokens[i]) == "do"), len(tokens))
        end = _matching_done(tokens, body)
        items = [token for token in tokens[at + 2 : body] if isinstance(token, Word)]
        if not (isinstance(name, Word) and name.plain.isidentifier() and _plain_at(tokens, at + 1) == "in" and items):
            self.blocks.append(f"for (line {line})")
            return at
        if self.blocks:
            self.unknown[name.plain] = "it is set in a block"
        for item in items:
            self.line = item.line
            for value in self.fields(item):
                self.variables[name.plain] = [value]
                self.run(tokens[body + 1 : end])
                if len(self.commands) > _MAX_COMMANDS:
                    fix = "paste one command of the loop"
                    raise UsageError(Problem(f"{self.name}:{line}", "the loop starts too many commands", fix))
        return end + 1

    def finish(self, words: list[Word], left_out: list[str], *, piped: bool) -> None:
        """One simple command: assignments alone set variables, the rest is a command with its own environment."""
        env: dict[str, str] = {}
        doubts: dict[int | str, str] = {}
        while words and (found := _assignment(words[0])):
            word = words.pop(0)
            self.line = word.line
            values = self.assigned(word, found)
            if words:
                env[found.group(1)] = " ".join(values)
                doubts |= {found.group(1): "; ".join(self.doubts)} if self.doubts else {}
            else:
                self.set(found.group(1), values)
        if not words:
            return
        self.line = words[0].line
        if words[0].plain in _DECLARE:
            self.declare(words)
            return
        argv: list[str] = []
        for word in words:
            for text in self.fields(word):
                if self.doubts:
                    doubts[len(argv)] = "; ".join(dict.fromkeys(self.doubts))
                argv.append(text)
        if argv:
            around = {name: " ".join(self.variables[name]) for name in self.exported if name in self.variables}
            self.grow(_size(around.values()))
            inside = self.alternative or (self.blocks[-1].rstrip(" {") if self.blocks else "")
            doubts |= {name: self.unknown[name] for name in self.exported if name in self.unknown and name not in env}
            command = ShellCommand(words[0].line, tuple(argv), {**around, **env}, doubts, tuple(left_out),
                                   inside)  # fmt: skip
            self.start(command, piped=piped)

    def start(self, command: ShellCommand, *, piped: bool) -> None:
        """Note a command without its wrappers; a shell's own commands are acted on."""
        command = self.unwrapped(command)
        name = os.path.basename(command.argv[0]) if command.argv else ""
        if not name:
            return
        if name in ("set", "setx") and len(command.argv) > 1 and (found := _ASSIGNMENT.match(command.argv[1])):
            self.note(f"{name} {found.group(1)} is read as export, which it is on Windows")
            self.set(found.group(1), [" ".join(command.argv[1:])[found.end() :]])
            self.exported[found.group(1)] = None
        elif name == "unset":
            for gone in command.argv[1:]:
                self.variables.pop(gone, None)
                self.exported.pop(gone, None)
        elif name in ("bash", "sh", "zsh", "eval") and (inner := _inner_script(name, command.argv)):
            self.grow(len(inner))
            tokens, notes = tokenize(inner, f"{self.name}:{command.line}")
            self.notes += [Note(command.line, note.message) for note in notes]
            self.run(tokens)
        elif piped and name in _FILTERS and self.commands:
            last = self.commands[-1]
            self.commands[-1] = replace(last, left_out=(*last.left_out, "| " + " ".join(command.argv)))
        else:
            self.moved = self.moved or name in ("cd", "pushd")
            self.commands.append(command)

    def unwrapped(self, command: ShellCommand) -> ShellCommand:
        """`command` without `nohup`, `sudo`, `env A=1`, `time` and the like before it."""
        argv, env, left_out = list(command.argv), dict(command.env), list(command.left_out)
        while argv and (wrapper := os.path.basename(argv[0])) in _WRAPPERS:
            taken = 1
            while taken < len(argv) and argv[taken].startswith("-"):
                taken += 2 if argv[taken] in _WRAPPERS[wrapper] else 1
            while wrapper in ("env", "sudo") and taken < len(argv) and (found := _ASSIGNMENT.match(argv[taken])):
                env[found.group(1)] = argv[taken][found.end() :]
                taken += 1
            if taken >= len(argv):
                break
            left_out.append(" ".join(word for word in argv[:taken] if not _ASSIGNMENT.match(word)))
            argv = argv[taken:]
        gone = len(command.argv) - len(argv)
        doubts: dict[int | str, str] = {}
        for key, reason in command.doubts.items():
            if isinstance(key, str):
                doubts[key] = reason
            elif key >= gone:
                doubts[key - gone] = reason
            elif found := _ASSIGNMENT.match(command.argv[key]):
                doubts[found.group(1)] = reason
        return replace(command, argv=tuple(argv), env=env, doubts=doubts, left_out=tuple(left_out))

    # --- variables -----------------------------------------------------------------------------------------------

    def assigned(self, word: Word, found: re.Match[str]) -> list[str]:
        """The value of the assignment `word`; what could not be worked out is in `doubts` afterwards."""
        self.doubts = []
        if word.items is not None:
            values: list[str] = []
            doubts: list[str] = []
            for item in word.items:
                values += self.fields(item)
                doubts += self.doubts
            self.doubts = doubts
        else:
            first = word.parts[0]
            rest = (replace(first, text=first.text[found.end() :]), *word.parts[1:])
            values = [self.joined(rest)]
        if not found.group(2):
            return values
        before = self.variables.get(found.group(1), [])
        if word.items is not None:
            return [*before, *values]
        return [*before[:-1], (before[-1] if before else "") + values[0]]

    def set(self, name: str, values: list[str]) -> None:
        self.variables[name] = values
        reasons = [*self.doubts, *([f"{name} is set inside {self.blocks[-1]}"] if self.blocks else [])]
        self.unknown.pop(name, None)
        if reasons:
            self.unknown[name] = "; ".join(dict.fromkeys(reasons))
        if name in self.environ:
            self.exported[name] = None  # the environment has it, so a shell gives its new value on

    def declare(self, words: list[Word]) -> None:
        exports = words[0].plain == "export"
        for word in words[1:]:
            if word.plain.startswith("-"):
                exports = exports or "x" in word.plain
                continue
            found = _assignment(word)
            self.doubts = []
            name = found.group(1) if found else self.joined(word.parts)
            if found:
                self.set(name, self.assigned(word, found))
            if exports:
                self.exported[name] = None

    # --- expansion -----------------------------------------------------------------------------------------------

    def fields(self, word: Word) -> list[str]:
        """The words that `word` becomes: none, one or many. Resets `doubts` to those of this word."""
        self.doubts = []
        texts: list[str] = []
        for parts in _braces(word.parts):
            for one in self.split(parts):
                texts += self.matching(one) or [one.text]
                self.grow(_size(part.text for part in parts))
        return texts

    def matching(self, one: _Field) -> list[str]:
        """The files here that a word stands for, if it is a pattern that some match."""
        if not one.is_pattern or len(one.pattern) > _LONGEST_PATH:
            return []
        if sum(map(glob.has_magic, one.pattern.split("/"))) > _MAX_WILD:
            self.doubts.append(f"{one.text} is a pattern of too many parts")
            return []
        found: list[str] = []
        for file in glob.iglob(one.pattern):
            self.grow(len(file))
            found.append(file)
        if found:
            self.note(f"{one.text} is replaced by the {len(found)} files here that match it")
        return sorted(found)

    def joined(self, parts: Sequence[Part]) -> str:
        """`parts` as the one text that an assignment or a quoted word is."""
        home = [self.tilde(part) if index == 0 else part for index, part in enumerate(parts)]
        return "".join(" ".join(self.value(part)) if part.kind != "text" else part.text for part in home)

    def split(self, parts: Sequence[Part]) -> list[_Field]:
        fields: list[_Field] = []
        current: _Field | None = None
        for index, part in enumerate(parts):
            if part.kind == "text":
                part = self.tilde(part) if index == 0 else part
                current = current or _Field()
                current.add(part.text, quoted=part.quoted)
                continue
            doubtful = len(self.doubts)
            self.in_one_piece = part.quoted
            values = self.value(part)
            if not self.in_one_piece and len(self.doubts) == doubtful:  # what was not worked out is not split
                text = " ".join(values)
                pieces = text.split()
                if current and (not pieces or text[0].isspace()):
                    fields += [current] if text else []
                    current = None if text else current
                for number, piece in enumerate(pieces):
                    if number:
                        fields += [current] if current else []
                        current = None
                    current = current or _Field()
                    current.add(piece, quoted=False)
                if current and pieces and text[-1].isspace():
                    fields.append(current)
                    current = None
                continue
            for number, value in enumerate(values):
                if number:
                    fields += [current] if current else []
                    current = None
                current = current or _Field()
                current.add(value, quoted=True)
        return [*fields, current] if current else fields

    def tilde(self, part: Part) -> Part:
        home = self.environ.get("HOME")
        if part.kind == "text" and not part.quoted and re.match(r"~(?:/|$)", part.text) and home:
            return replace(part, text=home + part.text[1:])
        return part

    def value(self, part: Part) -> list[str]:
        """What a part stands for: one text, or the items of an array; as it was written if that is not known."""
        self.grow(len(part.text))
        values = self.worked_out(part)
        self.grow(_size(values))
        return values

    def worked_out(self, part: Part) -> list[str]:
        if part.kind == "command":
            printed = self.substitute(part.text)
            if printed is None:
                self.doubts.append(f"{part.source} is not run")
            return [part.source if printed is None else printed]
        if part.kind == "arithmetic":
            number = self.calculate(self.joined(parts_of(part.text, self.name, quoted=True)))
            if number is None:
                self.doubts.append(f"{part.source} cannot be worked out")
            return [part.source if number is None else str(number)]
        if part.kind == "placeholder":
            self.doubts.append(f"{part.text} is a placeholder")
            return [part.text]
        return self.parameter(part)

    def parameter(self, part: Part) -> list[str]:
        found = re.fullmatch(
            r"(?P<count>\#?)(?P<name>[A-Za-z_]\w*|[0-9]+|[@*#?$!-])(?P<index>\[[^\]]*\])?(?P<rest>.*)",
            part.text,
            re.DOTALL,
        )
        if not found or (found["count"] and (found["rest"] or found["index"])):
            self.doubts.append(f"{part.source} cannot be worked out")
            return [part.source]
        name, rest = found["name"], found["rest"]
        values = self.known(name, found["index"] or "")
        operator = re.match(r":?[-=+?]", rest)
        if operator:
            return self.with_default(part, name, values, operator.group(), rest[operator.end() :])
        if values is None and name in ("@", "*"):
            self.note(f"{part.source} is empty: there are no arguments here")
            return [] if part.quoted else [""]
        if values is None:
            why = "a secret" if name in self.variables and is_secret(name) else "not set in what was pasted"
            self.doubts.append(f"{part.source} is {why}")
            return [part.source]
        if name in self.unknown:
            self.doubts.append(self.unknown[name])
        if found["count"]:
            return [str(len(values[0]))]
        changed = [self.without(value, rest) for value in values]
        if None in changed:
            self.doubts.append(f"{part.source} cannot be worked out")
            return [part.source]
        return [value for value in changed if value is not None]

    def known(self, name: str, index: str) -> list[str] | None:
        """The values of a variable, None if it has none: the script's own, else the environment's."""
        if name in self.variables:
            values = self.variables[name]
            if is_secret(name) and not all(value.isdecimal() for value in values):
                return None
            if index in ("[@]", "[*]"):
                return values
            place = int(index[1:-1]) if re.fullmatch(r"\[\d{1,9}\]", index) else 0
            return [values[place]] if place < len(values) else None
        if name == "PWD" and not self.moved:
            return [os.getcwd()]
        if name in self.environ and name != "PWD" and not is_secret(name):
            value = hide_in_env({name: self.environ[name]})[name]
            self.note(f"${name} is {value} here" if value.isprintable() else f"${name} is set here")
            return [self.environ[name]]
        return None

    def with_default(self, part: Part, name: str, values: list[str] | None, operator: str, default: str) -> list[str]:
        empty = values is None or (operator[0] == ":" and not any(values))
        if operator[-1] == "+":
            return [] if empty and part.quoted else [""] if empty else self.default(part, default)
        if not empty and values is not None:
            if name in self.unknown:
                self.doubts.append(self.unknown[name])
            return values
        if operator[-1] == "?":
            self.doubts.append(f"{part.source} is not set in what was pasted")
            return [part.source]
        chosen = self.default(part, default)
        if operator[-1] == "=":
            self.variables[name] = chosen
        return chosen

    def default(self, part: Part, text: str) -> list[str]:
        parts = parts_of(text, self.name, quoted=part.quoted)
        self.in_one_piece = part.quoted or any(inner.quoted for inner in parts)
        return [self.joined(parts)]

    def without(self, value: str, rest: str) -> str | None:
        """`value` after `${NAME#pattern}`, `##`, `%`, `%%`; None for what is none of these."""
        found = re.fullmatch(r"(##?|%%?)(.*)", rest, re.DOTALL)
        if not found or len(value) > _MAX_STRIPPED:
            return value if not rest else None
        self.grow(10 * len(value))  # it takes as long
        pattern = re.compile(fnmatch.translate(self.joined(parts_of(found[2], self.name, quoted=False))))
        cuts = range(len(value) + 1)
        if found[1][0] == "#":
            ends = [cut for cut in cuts if pattern.match(value[:cut])]
            return value[max(ends) if found[1] == "##" else min(ends) :] if ends else value
        starts = [cut for cut in cuts if pattern.match(value[cut:])]
        return value[: min(starts) if found[1] == "%%" else max(starts)] if starts else value

    def substitute(self, text: str) -> str | None:
        """What `$(text)` prints, for a command that needs no program; None for any other."""
        tokens, _ = tokenize(text, self.name)
        tokens = tokens[:-1] if tokens and isinstance(tokens[-1], Operator) and tokens[-1].text == "\n" else tokens
        if not tokens or not all(isinstance(token, Word) and token.items is None for token in tokens):
            return None
        doubts, self.doubts = self.doubts, []
        words: list[str] = []
        unsure = False
        for token in tokens:
            if isinstance(token, Word):
                words += self.fields(token)
                unsure = unsure or bool(self.doubts)
        self.doubts = doubts
        known = _SUBSTITUTES.get(words[0]) if words and not unsure else None
        if words[:1] == ["pwd"] and self.moved:
            return None
        worked_out = known(words[1:]) if known else None
        if worked_out is not None and words[0] in ("nproc", "pwd"):
            self.note(f"$({words[0]}) is {worked_out} here")
        return worked_out

    def calculate(self, text: str) -> int | None:
        """An arithmetic expression of whole numbers and variables, as a shell works it out; None if it is another."""

        def number(name: re.Match[str]) -> str:
            values = self.known(name.group(), "")
            known = values and name.group() not in self.unknown and re.fullmatch(r"-?\d{1,18}", values[0])
            return str(int(values[0])) if known and values else name.group()

        return _whole(re.sub(r"(?<![\w.])[A-Za-z_]\w*", number, text))


_WRAPPERS: Mapping[str, tuple[str, ...]] = {  # and their options that take a value
    "nohup": (), "sudo": ("-u", "-g"), "time": ("-f", "-o"), "exec": ("-a",), "command": (), "setsid": (),
    "nice": ("-n",), "ionice": ("-c", "-n"), "stdbuf": ("-o", "-e", "-i"), "env": ("-u", "-C"), "builtin": (),
}  # fmt: skip


def _expr(words: list[str]) -> str | None:
    number = _whole(" ".join(words)) if all(re.fullmatch(r"-?\d+|[-+*/%()]", word) for word in words) else None
    return None if number is None else str(number)


def _echo(words: list[str]) -> str | None:
    return None if words and words[0].startswith("-") else " ".join(words)


def _basename(words: list[str]) -> str | None:
    if not words or words[0].startswith("-") or len(words) > 2:
        return None
    name = words[0].rstrip("/").rpartition("/")[2] or "/"
    return name.removesuffix(words[1]) if len(words) == 2 and name != words[1] else name


def _dirname(words: list[str]) -> str | None:
    return os.path.dirname(words[0].rstrip("/")) or "." if len(words) == 1 and not words[0].startswith("-") else None


def _cores(words: list[str]) -> str | None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return None if words else str(cores)


_SUBSTITUTES: Mapping[str, Callable[[list[str]], str | None]] = {
    "expr": _expr, "echo": _echo, "basename": _basename, "dirname": _dirname, "nproc": _cores,
    "pwd": lambda words: None if words else str(Path.cwd()),
}  # fmt: skip


def _whole(text: str) -> int | None:
    """`text` as whole-number arithmetic with + - * / % and brackets, division cutting towards zero; else None."""
    try:
        tree = ast.parse(text.strip().replace("//", "?"), mode="eval") if len(text) < 200 else None
        return None if tree is None else _node(tree.body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _node(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _node(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _node(node.left), _node(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        if isinstance(node.op, ast.Div):
            return quotient
        if isinstance(node.op, ast.Mod):
            return left - quotient * right
    raise ValueError("no whole-number arithmetic")


def _size(texts: Iterable[str]) -> int:
    return sum(len(text) + 1 for text in texts)


def _assignment(word: Word) -> re.Match[str] | None:
    first = word.parts[0]
    return _ASSIGNMENT.match(first.text) if first.kind == "text" and not first.quoted else None


def _is(tokens: Sequence[Token], at: int, text: str) -> bool:
    return at < len(tokens) and isinstance(tokens[at], Operator) and tokens[at].text == text  # type: ignore[union-attr]


def _plain(token: Token) -> str:
    return token.plain if isinstance(token, Word) else ""


def _plain_at(tokens: Sequence[Token], at: int) -> str:
    return _plain(tokens[at]) if at < len(tokens) else ""


def _matching_done(tokens: Sequence[Token], body: int) -> int:
    depth = 0
    for at in range(body, len(tokens)):
        depth += {"do": 1, "done": -1}.get(_plain(tokens[at]), 0)
        if not depth:
            return at
    return len(tokens)


def _inner_script(name: str, argv: Sequence[str]) -> str:
    """The script text in `bash -c 'text'` or `eval text`, else ""."""
    if name == "eval":
        return " ".join(argv[1:])
    flags = [at for at, word in enumerate(argv[1:-1], start=1) if re.fullmatch(r"-[a-z]*c", word)]
    return argv[flags[0] + 1] if flags else ""


def _braces(parts: tuple[Part, ...]) -> Iterator[tuple[Part, ...]]:
    """The words of `a{1,2}b` and `a{1..3}b`; a brace that holds quotes or expansions stays as it is."""
    for index, part in enumerate(parts):
        if part.kind != "text" or part.quoted:
            continue
        for found in re.finditer(r"\{([^{}]*)\}", part.text):
            choices = _choices(found.group(1))
            if choices:
                for choice in choices:
                    text = part.text[: found.start()] + choice + part.text[found.end() :]
                    yield from _braces((*parts[:index], replace(part, text=text), *parts[index + 1 :]))
                return
    yield parts


def _choices(inside: str) -> Iterable[str]:
    numbers = re.fullmatch(r"(-?\d{1,9})\.\.(-?\d{1,9})", inside)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        step = 1 if first <= last else -1
        return map(str, range(first, last + step, step))
    return inside.split(",") if "," in inside else []
