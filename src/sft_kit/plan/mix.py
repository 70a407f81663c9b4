"""What one epoch trains on: its sources, how many rows of each, and the oversampling of the identity to a share.

Owns the arithmetic. Does not read data: counts come in, and a count that cannot be known (a data set on a hub
without `#N`) is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_REPEATS = 6.0
"""Times that a model may see the same identity row before it answers everything with it (IDENTITY.md)."""


@dataclass(frozen=True)
class Source:
    """One source of rows. `rows` are the distinct ones that ms-swift keeps, `trained` those of one epoch (`#N`
    samples or repeats them), `tokens` those of the trained rows."""

    name: str
    rows: int | None
    trained: int | None
    tokens: int | None = None

    @property
    def repeats(self) -> float | None:
        """How often an epoch trains each row, on average."""
        return self.trained / self.rows if self.trained is not None and self.rows else None

    def share(self, sources: Sequence[Source]) -> float | None:
        """This source's part of the rows of one epoch; None when a source is not counted."""
        counts = [source.trained for source in sources]
        if self.trained is None or None in counts:
            return None
        total = sum(count for count in counts if count)
        return self.trained / total if total else None


def rows_for_share(share: float, rows: int, others: int) -> int:
    """How many of `rows` identity rows an epoch must train, repeats included, to be `share` of all rows.

    Never fewer than there are: nothing that was written for the identity is left out.
    """
    return max(rows, round(others * share / (1 - share)))


def epochs_of(epochs: float | None, max_steps: int | None, rows_a_step: int, rows: int | None) -> float | None:
    """Passes over the data: what `max_steps` makes of `rows` where it is set, else `epochs` (ms-swift: 3)."""
    if max_steps is not None and max_steps > 0:
        return max_steps * rows_a_step / rows if rows else None
    return 3.0 if epochs is None else epochs
