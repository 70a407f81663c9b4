"""Where the losses of a training go: whether they rise, stand still, or rise in validation alone.

Owns the measures, over a fixed amount of memory however long the run is. Does not own the signs and their words
(`watch`), nor losses that are no numbers, which are not to be given to it.

Real rows scatter. Those of twelve logs of SmolLM2, each of 1 to 40 rows of data, did by 13 to 31 % of their mean from
one to the next; those of a random tiny model by 2 to 4 %, on which no threshold is to be tried (docs/truth.md).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

from sft_kit.msswift.logs import StepLog

_RECENT = 10  # rows whose median is the level of the loss
# A loss that rises: each of the last rows lies so much above the level at the beginning, and, once the rate no longer
# rises with it, above the best one. Single rows may scatter by half of their mean, and spike.
_OVERSHOOT, _ABOVE_BEST = 1.25, 2.0
# One that a far too high learning rate breaks before there is a level, in the first rows: each of the last ones lies so
# much above the very first one, which no update has touched, and has less than this share of its right tokens. Later on
# that may be rows of another kind: of Chinese after English ones a real run had 8.1 after 3.2.
_EARLY, _BROKEN, _TOKENS_LEFT = 30, 1.5, 0.5
# A loss that stands still: no fall of 1 % between two epochs, whose rows are the same and so is their scatter; or,
# where all rows differ, no fall that is seen, nor one of 1 %, between the first and the last third of a log that is so
# long and so quiet that 0.5 % can be told. Rows that scatter by 25 % would have to be 15,000 for that.
_LEAST_FALL, _EPOCH_ROWS = 0.01, 10
_LONG, _MEASURED = 96, 0.005
_EPOCH_ENDS = 1e-6  # the epoch is logged with 8 decimals at most
_KNOWN_LOSS, _KNOWN_TOKENS = 0.1, 0.95  # of rows that the model knows: there is nothing left to fall
_WORSE = 1.02  # a validation that is 2 % worse than the best one


class Course:
    """The rows of one training, in their order: each is given to `rises` and to `stands_still`, in this order."""

    def __init__(self) -> None:
        self._begin: StepLog | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._accuracies: deque[float] = deque(maxlen=_RECENT)
        self._first: float | None = None  # the loss of the first `_RECENT` rows, and the best such since
        self._best = math.inf
        self._losses, self._epochs = Losses(), Epochs()
        self.highest_rate = 0.0  # the highest learning rate so far, and how many rows there were before it
        self._rows_before_it = 0

    @property
    def level(self) -> float:
        """The loss of the last rows; infinite before the first."""
        return median(self._recent) if self._recent else math.inf

    def rises(self, record: StepLog) -> str | None:
        """What it was and what it is now, once it is far above; None else."""
        loss = record.loss or 0.0
        self._begin = self._begin or record
        self._recent.append(loss)
        if record.token_acc is not None:
            self._accuracies.append(record.token_acc)
        if len(self._recent) < _RECENT:
            return None
        now, best = self.level, self._best
        self._first = now if self._first is None else self._first
        self._best = min(best, now)
        above_best = 1.0 if (record.learning_rate or 0.0) > self.highest_rate else _ABOVE_BEST
        if min(self._recent) > max(_OVERSHOOT * self._first, above_best * best):
            return f"{now:.3g} now, {self._first:.3g} at the beginning, {best:.3g} at its best"
        return self._broke_at_once(self._begin) if self._losses.rows < _EARLY else None

    def _broke_at_once(self, begin: StepLog) -> str | None:
        if not begin.loss or not begin.token_acc or len(self._accuracies) < _RECENT:
            return None
        if min(self._recent) <= _BROKEN * begin.loss or max(self._accuracies) >= _TOKENS_LEFT * begin.token_acc:
            return None
        right = f"with {begin.token_acc:.0%} of the tokens right and now {median(self._accuracies):.0%}"
        return f"{self.level:.3g} now, {begin.loss:.3g} in the first row, {right}"

    def stands_still(self, record: StepLog) -> str | None:
        """By how much it has moved, once that is next to nothing, and could be more; None else."""
        loss = record.loss or 0.0
        of_epochs = self._epochs.add(loss, record.epoch) if record.epoch is not None else None
        of_thirds = self._losses.add(loss)
        if (record.learning_rate or 0.0) > self.highest_rate:
            self.highest_rate, self._rows_before_it = record.learning_rate or 0.0, self._losses.rows
        warming_up = self._rows_before_it > 2 / 3 * self._losses.rows
        known = self.level < _KNOWN_LOSS or (bool(self._accuracies) and median(self._accuracies) > _KNOWN_TOKENS)
        if warming_up or known:
            return None
        if of_epochs is not None and abs(of_epochs) < _LEAST_FALL:
            return f"by {of_epochs:.1%} since the first epoch"
        if of_thirds and self._losses.rows >= _LONG:
            fall, error = self._losses.fall()
            if error < _MEASURED and fall < 3 * error and abs(fall) + error < _LEAST_FALL:
                return f"by {fall:.1%}, measured to {error:.1%}"
        return None


@dataclass(frozen=True)
class _Piece:
    """Sums over consecutive losses."""

    rows: int
    total: float
    squares: float

    def __add__(self, other: _Piece) -> _Piece:
        return _Piece(self.rows + other.rows, self.total + other.total, self.squares + other.squares)


class Losses:
    """A series of losses in at most `PIECES` pieces, each of as many rows as the others."""

    PIECES = 48

    def __init__(self) -> None:
        self._full: list[_Piece] = []
        self._open = _Piece(0, 0.0, 0.0)
        self._rows = 1  # of a full piece

    def add(self, loss: float) -> bool:
        """Whether the series has just become so long that its pieces were joined in pairs."""
        self._open += _Piece(1, loss, loss * loss)
        if self._open.rows < self._rows:
            return False
        self._full.append(self._open)
        self._open = _Piece(0, 0.0, 0.0)
        if len(self._full) < self.PIECES:
            return False
        self._full = [a + b for a, b in zip(self._full[::2], self._full[1::2], strict=True)]
        self._rows *= 2
        return True

    @property
    def rows(self) -> int:
        """How many losses there were."""
        return len(self._full) * self._rows + self._open.rows

    def fall(self) -> tuple[float, float]:
        """(share by which the mean of the last third lies below that of the first, its standard error)."""
        third = len(self._full) // 3
        first, last = (sum(part[1:], part[0]) for part in (self._full[:third], self._full[-third:]))
        means = [part.total / part.rows for part in (first, last)]
        variances = [max(0.0, p.squares / p.rows - m * m) / p.rows for p, m in zip((first, last), means, strict=True)]
        if means[0] <= 0:
            return math.inf, 0.0
        return (means[0] - means[1]) / means[0], math.sqrt(sum(variances)) / means[0]


class Epochs:
    """The mean loss of the first whole epoch, and of the one that ended last."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._number: int | None = None
        self._whole = False
        self._total, self._rows = 0.0, 0

    def add(self, loss: float, epoch: float) -> float | None:
        """The share by which the epoch that ends here lies below the first one; None where none ends, or a short one.

        `epoch` is the logged one: 1.0 at the end of the first. A row that passes over an end counts to the next.
        """
        number = max(1, math.ceil(epoch - _EPOCH_ENDS))
        fall = self._ended() if self._number is not None and number > self._number else None
        if self._number is None:  # a resumed run may begin in the middle of one
            self._whole = epoch - (number - 1) <= 1 / _EPOCH_ROWS
        self._number = number
        self._total, self._rows = self._total + loss, self._rows + 1
        return self._ended() if number - epoch <= _EPOCH_ENDS else fall

    def _ended(self) -> float | None:
        total, rows, whole = self._total, self._rows, self._whole
        self._total, self._rows, self._whole = 0.0, 0, True
        if rows < _EPOCH_ROWS or not whole:
            return None
        mean = total / rows
        if self._first is None:
            self._first = mean
            return None
        return (self._first - mean) / self._first if self._first > 0 else None


@dataclass
class Validations:
    """The best validation so far, and how many have been worse than it since."""

    best: float = math.inf
    step: int = 0
    training: float = math.inf  # the training loss at the best one
    _worse: int = 0

    def add(self, loss: float, step: int, training: float) -> int:
        """How many validations in a row have been 2 % worse than the best one."""
        if loss < self.best:
            self.best, self.step, self.training, self._worse = loss, step, training, 0
        else:
            self._worse = self._worse + 1 if loss > _WORSE * self.best else 0
        return self._worse
