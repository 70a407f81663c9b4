"""How many tokens the rows of a file have, and which are too long; an exact count only where it can matter.

Owns what is counted of a file and how it is summed up. Does not own the counting itself (`msswift.lengths`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sft_kit.findings import Finding
from sft_kit.msswift.datasets import Conversation
from sft_kit.msswift.lengths import Lengths

MEASURED_ROWS = 2_000
"""Rows of a file whose tokens are counted for its histogram and for the plan; a longer file is judged by its first."""
LINES_SHOWN = 10
_TEMPLATE_BYTES = 256  # more than any template puts around a turn: no row with fewer bytes to spare is over the limit
_BATCH = 512
BINS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of the rows that were counted, as ms-swift encodes them; `histogram` is {upper bound: rows}, `over` the
    rows longer than max_length, `exact` whether the counts are ms-swift's to the token."""

    rows: int
    least: int
    median: int
    most: int
    mean: float
    histogram: Mapping[int, int]
    over: int
    exact: bool
    lengths: tuple[int, ...] = field(repr=False, default=())
    """Each counted row's tokens, in ascending order."""


@dataclass(frozen=True)
class Measure:
    """How rows are measured: by `lengths`, against `max_length` and what ms-swift does with longer ones.

    `system` is the prompt of rows that bring none. The first `sample` rows of a file are counted for its histogram;
    of the others only those that may be over the limit, so that short data costs nothing.
    """

    lengths: Lengths
    max_length: int | None
    strategy: str
    system: str | None
    sample: int


class Meter:
    """Counts tokens, a batch of rows at a time."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._waiting: list[tuple[int, int, Conversation]] = []  # (number, line, messages)
        self._seen = 0
        self._lengths: list[int] = []
        self._over: list[tuple[int, int]] = []  # (line, tokens) of the first few
        self.over = 0

    @property
    def deletes(self) -> bool:
        """Whether rows over the limit are left out, not cut."""
        return self._measure.strategy == "delete"

    def add(self, line: int, messages: Conversation) -> None:
        self._seen += 1
        if self._seen <= self._measure.sample or self._may_be_over(messages):
            self._waiting.append((self._seen, line, messages))
            if len(self._waiting) >= _BATCH:
                self._count()

    def _may_be_over(self, messages: Conversation) -> bool:
        """A token is at least one byte, so that a row with few bytes cannot have many tokens."""
        if self._measure.max_length is None:
            return False
        characters = len(self._measure.system or "") + sum([len(text) for _, text in messages])
        return _TEMPLATE_BYTES * (len(messages) + 1) + 4 * characters > self._measure.max_length

    def _count(self) -> None:
        system, limit = self._measure.system, self._measure.max_length
        rows, self._waiting = self._waiting, []
        counted = self._measure.lengths.count_many([messages for *_, messages in rows], system)
        for (number, line, _), tokens in zip(rows, counted, strict=True):
            if number <= self._measure.sample:
                self._lengths.append(tokens)
            if limit is not None and tokens > limit:
                self.over += 1
                if len(self._over) < LINES_SHOWN:
                    self._over.append((line, tokens))

    def counts(self) -> TokenCounts | None:
        """Of the sample; None where it is empty."""
        self._count()
        if not self._lengths:
            return None
        ordered = sorted(self._lengths)
        return TokenCounts(
            len(ordered),
            ordered[0],
            ordered[len(ordered) // 2],
            ordered[-1],
            sum(ordered) / len(ordered),
            histogram(ordered),
            self.over,
            self._measure.lengths.exact,
            tuple(ordered),
        )

    def findings(self, place: str) -> list[Finding]:
        self._count()
        if not self.over:
            return []
        limit, strategy = self._measure.max_length, self._measure.strategy
        longest = max(tokens for _, tokens in self._over)
        about = "" if self._measure.lengths.exact else "about "
        what = f"{self.over} row(s) are longer than max_length {limit} tokens ({about}{longest} in one of them)"
        lines = tuple(line for line, _ in self._over)
        if self.deletes:
            fix = "raise max_length, shorten the rows, or set truncation_strategy: right"
            message = f"{what}; ms-swift leaves them out"
        else:
            fix = "raise max_length, or shorten the rows"
            message = f"{what}; they are cut (truncation_strategy: {strategy})"
        return [Finding("over-max-length", "warning", at_line(place, lines), message, fix, self.over, lines)]


def histogram(lengths: Iterable[int]) -> dict[int, int]:
    """{upper bound: rows} in powers of two; what is longer than the last bound counts there."""
    bins: dict[int, int] = {}
    for tokens in lengths:
        bound = next((bound for bound in BINS if tokens <= bound), 2 ** math.ceil(math.log2(max(tokens, 1))))
        bins[bound] = bins.get(bound, 0) + 1
    return dict(sorted(bins.items()))


def at_line(place: str, lines: Sequence[int]) -> str:
    return f"{place}:{lines[0]}" if lines else place
