"""Rates with their intervals, and whether a difference is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """k of n with the 95 % Wilson score interval (Wilson 1927): 20/20 still only shows >= 83.9 %."""

    k: int
    n: int

    @property
    def share(self) -> float:
        return self.k / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the share, each in 0..1."""
        if not self.n:
            return (0.0, 1.0)
        z = 1.959964
        centre = (self.share + z * z / (2 * self.n)) / (1 + z * z / self.n)
        half = z * math.sqrt(self.share * (1 - self.share) / self.n + z * z / (4 * self.n * self.n))
        half /= 1 + z * z / self.n
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.k}/{self.n} = {self.share:.1%} ({low:.1%}-{high:.1%})"


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947) on paired answers: `lost` were right before only, `won` after
    only. Where nothing is different each of the two is as likely, so it is a binomial test; 1.0 where none flipped."""
    flipped = lost + won
    tail = sum(math.comb(flipped, k) for k in range(min(lost, won) + 1))
    return float(min(1.0, 2 * tail / 2**flipped))
