"""Whether one file of conversations is fit to train on: what its rows say, how they repeat, what they are made of.

Owns the order of the checks on conversations as ms-swift will train them, and the counts. Does not own reading (`scan`,
`msswift.datasets`), nor the rules it applies (`blemishes`, `personal`, `duplicates`, `language`, `answers`), nor who
else an answer may claim to be: that is given as a function, since `data` knows nothing of identities.

Rows come one at a time and are not kept. 32 bytes a row stay for the duplicates, and what `answers` states. A short row
costs about 10 microseconds: the precise rules run only where a fast look found something that they begin with.

Severity: an error is text that is wrong in any training row (an empty answer, a slot never filled, a model's special
token); what may be meant is a warning, or a note where it concerns too few rows to matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sft_kit.data.answers import AnswerShares
from sft_kit.data.blemishes import blemishes, suspicious, thinking
from sft_kit.data.codes import KINDS, Hits, finding
from sft_kit.data.duplicates import DuplicateSearch
from sft_kit.data.language import Language, answered_in_another, language_of
from sft_kit.data.personal import personal_data
from sft_kit.findings import Finding

Conversation = tuple[tuple[str, str], ...]  # ((role, content), ...), roles as ms-swift names them

_PLAYED = re.compile(
    r"pretend|role[- ]?play|act as|imagine|you are now|play the|story|dialogue|script|simulat|translat|"
    r"rewrite|paraphras|summari[sz]e|correct the|"
    r"扮演|假装|假设|模仿|模拟|故事|对话|台词|剧本|翻译|改写|润色|总结|续写|仿写|修改",
    re.IGNORECASE,
)
_ANSWERS = ("assistant", "tool_call")
_MOST_SHAPES = 1000  # orders of roles that are remembered; a file has few


@dataclass
class FileCounts:
    """How many rows a file has, in all and by the language of the last answer (zh, en, other, none)."""

    rows: int = 0
    languages: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Shape:
    """What the roles alone say about a row: what is wrong with their order (code, example), the places of the answers
    and of the questions, that of the last question when the last message answers it (-1: it does not)."""

    wrong: tuple[tuple[str, str], ...]
    answers: tuple[int, ...]
    questions: tuple[int, ...]
    answered: int
    system: bool


class Lint:
    """Takes the rows of one file and says what is wrong with them.

    `own_names` are the user's own: an answer that claims them is right. `other_identity` names whom an answer claims to
    be (`identity.claims.claimed_identity`), or None.
    """

    def __init__(
        self,
        place: str,
        *,
        own_names: Collection[str] = (),
        other_identity: Callable[[str], str | None] | None = None,
    ) -> None:
        self._place = place
        self._own = tuple(name for name in own_names if name)
        self._other_identity = other_identity
        self._hits: dict[str, Hits] = {}
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._duplicates = DuplicateSearch()
        self._answers = AnswerShares()
        self._rows = 0
        self._by_language: dict[Language, int] = {"zh": 0, "en": 0, "other": 0, "none": 0}

    def add(self, line: int, messages: Conversation) -> None:
        """One row as ms-swift will train it; `line` is where it stands in the file, counted from 1."""
        roles, contents = zip(*messages, strict=True) if messages else ((), ())
        shape = self._shapes.get(roles) or self._shape_of(roles)
        text = "\n".join(contents)
        self._rows += 1
        for code, example in shape.wrong:
            self._hit(code, line, example)
        if not all(contents) or any(map(str.isspace, contents)):
            self._look_for_empty(line, messages, shape)
        marked, personal = suspicious(text, text.encode("utf-8", "surrogatepass"))
        if marked:
            self._look_at(line, messages)
        if personal:
            for code, example in personal_data(text):
                self._hit(code, line, example)
        if self._other_identity is not None:
            for at in shape.answers:
                if (who := self._other_identity(contents[at])) is not None:
                    self._add_identity(line, who, messages[:at])
        answer = contents[-1] if contents else ""
        if answer and roles[-1] == "assistant":
            self._answers.add(answer)
            self._add_language(line, contents[shape.answered] if shape.answered >= 0 else "", answer)
        self._add_duplicate(line, text, contents, answer, shape.system)

    def _add_language(self, line: int, question: str, answer: str) -> None:
        language = language_of(answer)
        self._by_language[language] += 1
        if answer == question:
            self._hit("answer-repeats-question", line, _short(answer))
        # A question in ASCII may be English, one that is not may be Chinese: most rows need no more than this look.
        elif (
            question
            and language in ("zh", "en")
            and question.isascii() == (language == "zh")
            and answered_in_another(question, answer, language)
        ):
            self._hit("other-language-answer", line, _short(answer))

    def _add_identity(self, line: int, who: str, before: Conversation) -> None:
        claimed = who.casefold()
        own = any(claimed in name.casefold() or name.casefold() in claimed for name in self._own)
        if not own and not any(_PLAYED.search(said) for role, said in before if role not in _ANSWERS):
            self._hit("other-identity", line, who)

    def _add_duplicate(self, line: int, text: str, contents: Sequence[str], answer: str, has_system: bool) -> None:
        if self._own and any(map(answer.__contains__, self._own)):
            # Several answers to one question about the own name are what identity data is made of.
            self._duplicates.add(line, text, text, "")
        elif len(contents) < 2:  # there is no question that could have been asked before
            self._duplicates.add(line, text, text, "")
        elif len(contents) == 2:
            self._duplicates.add(line, text, contents[0], "")
        else:
            self._duplicates.add(line, text, "\n".join(contents[has_system:-1]), contents[0] if has_system else "")

    def _look_for_empty(self, line: int, messages: Conversation, shape: _Shape) -> None:
        for code, places in (("empty-answer", shape.answers), ("empty-question", shape.questions)):
            for at in places:
                if not messages[at][1].strip():
                    self._hit(code, line)

    def _look_at(self, line: int, messages: Conversation) -> None:
        question = ""
        for role, content in messages:
            if role in ("user", "assistant", "system"):
                for code, example in blemishes(content, question if role == "assistant" else ""):
                    self._hit(code, line, example)
            if role == "assistant" and "think>" in content and (found := thinking(content)):
                self._hit(found[0], line, found[1])
            question = content if role == "user" else question

    def _hit(self, code: str, line: int, example: str = "") -> None:
        self._hits.setdefault(code, Hits()).add(self._rows, line, example)

    def _shape_of(self, roles: tuple[str, ...]) -> _Shape:
        shape = _shape(roles)
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes[roles] = shape
        return shape

    @property
    def counts(self) -> FileCounts:
        """What the rows so far amount to."""
        return FileCounts(self._rows, {language: rows for language, rows in self._by_language.items() if rows})

    def findings(self) -> list[Finding]:
        """One finding a code, in a fixed order: what single rows have, then repeats, then the file as a whole."""
        found = self._duplicates.found()
        hits = dict(self._hits)
        for code, lines in (
            ("duplicate-rows", found.equal),
            ("contradictory-answers", found.contradictory),
            ("near-duplicates", found.near),
        ):
            for number, line in enumerate(lines):
                hits.setdefault(code, Hits()).add(number, line)
        rows = [finding(code, self._place, hits[code], self._rows) for code in KINDS if code in hits]
        return rows + self._answers.findings(self._place, self._rows)


def _shape(roles: tuple[str, ...]) -> _Shape:
    system = roles[:1] == ("system",)
    talk = roles[1:] if system else roles
    wrong: list[tuple[str, str]] = []
    if not set(talk) & set(_ANSWERS):
        wrong.append(("nothing-trained", ""))
    elif talk[-1] == "user":
        wrong.append(("unanswered-end", ""))
    if talk[:1] == ("assistant",):
        wrong.append(("no-question", ""))
    if twice := next((one for one, other in pairwise(talk) if one == other and one in ("user", "assistant")), ""):
        wrong.append(("joined-turns", twice))
    return _Shape(
        tuple(wrong),
        tuple(at for at, role in enumerate(roles) if role in _ANSWERS),
        tuple(at for at, role in enumerate(roles) if role == "user"),
        len(roles) - 2 if roles[-2:] == ("user", "assistant") else -1,
        system,
    )


def _short(text: str, most: int = 40) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= most else f'"{line[: most - 1]}…"'
