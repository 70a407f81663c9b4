"""One thing that makes ms-swift fail: how its message reads, what it means, what to do about it.

Owns the value and how it is found in an exception. The tables are `causes_machine` and `causes_run`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sft_kit.msswift.tracebacks import LogLine

_LONGEST = 200  # characters of a message that a cause or a fix takes over


@dataclass(frozen=True)
class Cause:
    """`pattern` is searched for in the exception (`KeyError: 'x'`, all lines of its message) and, with `where`, only in
    one whose calls (their files and source lines) have that too; `beside` finds another line that tells more.
    `cause` and `fix` may name groups of all three.

    A `consequence` is what the others of a run say when one of its processes is gone: any other cause is better.
    """

    code: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    where: re.Pattern[str] | None = None
    beside: re.Pattern[str] | None = None
    consequence: bool = False

    def found_in(self, text: str, calls: str = "", log: Sequence[LogLine] = ()) -> Found | None:
        """What is wrong and what to do, in words; None where this is not the cause."""
        found = self.pattern.search(text)
        place = self.where.search(calls) if self.where else None
        if found is None or (self.where and place is None):
            return None
        beside, told = self._line_beside(log)
        given = {**found.groupdict(""), **(place.groupdict("") if place else {}), **told}
        groups = {name: text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for name, text in given.items()}
        return Found(_tidy(self.cause.format_map(groups)), _tidy(self.fix.format_map(groups)), beside)

    def _line_beside(self, log: Sequence[LogLine]) -> tuple[LogLine | None, dict[str, str]]:
        if self.beside is None:
            return None, {}
        for line in reversed(log):
            if found := self.beside.search(line.text):
                return LogLine(line.number, line.text[found.start() :]), found.groupdict("")
        return None, dict.fromkeys(self.beside.groupindex, "")


@dataclass(frozen=True)
class Found:
    """A cause in the words of its message, and the other line of the log that tells more of it."""

    cause: str
    fix: str
    beside: LogLine | None = None


def _tidy(text: str) -> str:
    """`text` without what stood around a group that was not there."""
    return re.sub(r":(?: :)+", ":", " ".join(text.split())).rstrip(": ")


def cause(
    code: str, pattern: str, says: str, fix: str, *, where: str = "", beside: str = "", consequence: bool = False
) -> Cause:
    """A `Cause` from the texts of its patterns."""
    place, other = (re.compile(text) if text else None for text in (where, beside))
    return Cause(code, re.compile(pattern, re.MULTILINE), says, fix, place, other, consequence)


def codes_of(*tables: Iterable[Cause]) -> frozenset[str]:
    """The codes that the entries of `tables` have."""
    return frozenset(each.code for table in tables for each in table)
