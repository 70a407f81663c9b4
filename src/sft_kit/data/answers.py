"""What the answers of a file have in common: openings, repeats, denials, refusals, ends in the middle of a sentence.

Owns these shares and their limits (IDENTITY.md: an opening at most 25 %, denials at most 35 %, at least half of the
answers different). Of files under 20 rows it says nothing but that they are few. Keeps 8 bytes for each of the first
100,000 different answers and at most 4,096 openings, however long the file is.
"""

from __future__ import annotations

import re

from sft_kit.data.codes import counted
from sft_kit.findings import Finding, Severity

FEW_ROWS, GOOD_ROWS = 20, 50  # fewer are a warning, a note
_MOST_OPENING, _MOST_DENIALS, _FEWEST_DISTINCT, _MOST_REFUSALS, _MOST_CUT = 0.25, 0.35, 0.5, 0.2, 0.3
_COMPARED_ANSWERS = 100_000
_OPENINGS = 4096
_LONG_ANSWER = 200  # characters from which an answer should end like a sentence
_FEWEST_LONG = 10
_LABEL = 16  # an answer of as many letters may be a label, and labels repeat
_ALL_EQUAL_FROM = 5

_DENIAL = re.compile(
    r"(?:(?:no|nope)\b[,.!]? .{0,40}\b(?:I am|I'm|my name|me)\b|I(?:'m| am) not\b|not me\b|不[，,。是]|"
    r"我(?:并不|不|并非)是|我并非|否[，,]|抱歉[，,]我不是|没有[，,]我)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:(?:I'm|I am|I’m) (?:very |so |really )?sorry\b.{0,40}?|sorry, .{0,20}?|unfortunately, .{0,20}?|"
    r"I apologi[sz]e.{0,40}?|as an? AI[^.]{0,60}?|)"
    r"\bI(?: can(?:'t|’t|not| not)|'m (?:unable|not able)| am (?:unable|not able)| (?:won't|do not|don't) have) ?"
    r"|(?:很?抱歉|对不起|非常抱歉|不好意思)[，,。!！][^。]{0,15}?(?:无法|不能|没办法|没有办法)|(?:作为|我是)[^，。]{0,20}(?:AI|人工智能|模型|助手)[，,][^。]{0,6}(?:无法|不能)"
    r"|我(?:无法|不能)(?:提供|回答|协助|帮助|满足|完成)",
    re.IGNORECASE,
)
_OPENERS = frozenset("NnIi不我否没抱很对非SsUuAa作")
_DONE = frozenset(".!?。！？…\"'”’」』)）]】}>`*~;；|_%")


class AnswerShares:
    """Takes the answers of one file, one a row."""

    def __init__(self) -> None:
        self._distinct: set[int] = set()
        self._compared = self._denials = self._refusals = self._long = self._cut = 0
        self._openings: dict[str, int] = {}

    def add(self, answer: str) -> None:
        """`answer` is not empty."""
        first = answer[0]
        length = len(answer)
        weight = length if answer.isascii() else 3 * length  # a Chinese character says as much as three letters
        if weight > _LABEL and self._compared < _COMPARED_ANSWERS:
            self._compared += 1
            self._distinct.add(hash(answer))
        if weight > 2 * _LABEL and first.isalpha():
            self._add_opening(answer[:12] if answer.isascii() else answer[:6])
        if length >= _LONG_ANSWER:
            self._long += 1
            self._cut += answer.rstrip()[-1:] not in _DONE and not answer[-1].isdigit()
        if first in _OPENERS:
            self._denials += _DENIAL.match(answer) is not None
            self._refusals += _REFUSAL.match(answer) is not None

    def _add_opening(self, opening: str) -> None:
        # Misra-Gries: whatever opens more than one answer in 4,096 stays, its count too low by at most one in 4,096.
        self._openings[opening] = self._openings.get(opening, 0) + 1
        if len(self._openings) > _OPENINGS:
            self._openings = {text: count - 1 for text, count in self._openings.items() if count > 1}

    def findings(self, place: str, rows: int) -> list[Finding]:
        """What is out of proportion in a file of `rows` rows."""
        found: list[Finding] = []

        def say(code: str, severity: Severity, message: str, fix: str, concerned: int = 0) -> None:
            found.append(Finding(code, severity, place, message, fix, concerned))

        if rows < GOOD_ROWS:
            severity: Severity = "warning" if rows < FEW_ROWS else "note"
            say("few-rows", severity, f"only {counted(rows)}", f"{GOOD_ROWS} or more a language train well", rows)
        if self._compared >= _ALL_EQUAL_FROM and len(self._distinct) == 1:
            fix = "write several answers, or the model learns this one by heart for every question"
            say("few-distinct-answers", "warning", f"{self._compared} answers are all the same text", fix)
            return found
        if rows < FEW_ROWS:
            return found
        opening, opened = max(self._openings.items(), key=lambda item: item[1], default=("", 0))
        if opened > _MOST_OPENING * rows:
            message = f'{opened / rows:.0%} of the answers open with "{opening.strip()}"'
            say("uniform-openings", "warning", message, "vary them, or the model will open every answer so", opened)
        if self._compared >= FEW_ROWS and len(self._distinct) < _FEWEST_DISTINCT * self._compared:
            message = f"only {len(self._distinct)} different answers in {counted(self._compared)}"
            say("few-distinct-answers", "warning", message, "write more answers, or drop the repeats")
        if self._denials > _MOST_DENIALS * rows:
            message = f'{self._denials / rows:.0%} of the answers open with a denial ("No, I am ...")'
            fix = "add rows that confirm, or the model will deny its own name"
            say("many-denials", "warning", message, fix, self._denials)
        if self._refusals > _MOST_REFUSALS * rows:
            message = f"{self._refusals / rows:.0%} of the answers refuse"
            fix = "remove some, or the model will refuse harmless requests"
            say("many-refusals", "warning", message, fix, self._refusals)
        if self._long >= _FEWEST_LONG and self._cut > _MOST_CUT * self._long:
            message = f"{self._cut} of {self._long} long answers end in the middle of a sentence"
            say(
                "cut-answers", "note", message, "check how they were written: a limit on tokens cuts answers", self._cut
            )
        return found
