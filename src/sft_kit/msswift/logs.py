"""Read what ms-swift writes while it trains and answers: logging.jsonl and the result files of `infer`.

Owns the meaning of their rows. Reads a file that another process is writing, or was killed while writing, so no
content ever raises: what cannot be understood is passed over. Does not own where the files lie, nor their display.

Rows of logging.jsonl, as seen from ms-swift 3.12.6 and 4.6.0: one a logged step; one an evaluation (`eval_loss`); one
with `train_runtime` when the steps are done; one summary at the end. A resumed run appends to the same file.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO, Literal

# The longest step row seen has 400 bytes. Only the summary is longer (it repeats every step), and no step is in it.
_MAX_LINE_BYTES = 1 << 20

# Beyond the range of float32 a loss is no measurement, and its square would overflow.
_MAX_LOSS = 3e38

_DURATION = re.compile(r"(?:(\d+)d )?(?:(\d+)h )?(?:(\d+)m )?(\d+)s")


@dataclass(frozen=True)
class StepLog:
    """One optimizer step as ms-swift logged it. None: the row does not say. NaN: ms-swift wrote NaN.

    `loss` and `grad_norm` are means since the row before; `memory_gib` is the peak so far, on a GPU only;
    `seconds_per_step` is the mean since the start of this process, and `elapsed_s` counts from there too.
    """

    step: int
    max_steps: int
    loss: float | None = None
    eval_loss: float | None = None
    token_acc: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    epoch: float | None = None
    memory_gib: float | None = None
    elapsed_s: int | None = None
    remaining_s: int | None = None
    seconds_per_step: float | None = None


class LogFollower:
    """The new rows of a logging.jsonl at each `poll`, while it grows.

    Keeps only its place in the file. A step may come twice: from an evaluation after it, or from a resumed run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inside_overlong_line = False

    def poll(self) -> list[StepLog]:
        """The step rows finished since the last call, in file order; none while the file does not exist."""
        stream = _opened(self._path)
        if stream is None:
            return []
        steps = []
        with stream:
            if self._path.stat().st_size < self._offset:  # a new file has taken the old one's place
                self._offset, self._inside_overlong_line = 0, False
            stream.seek(self._offset)
            while line := stream.readline(_MAX_LINE_BYTES):
                finished = line.endswith(b"\n")
                if not finished and len(line) < _MAX_LINE_BYTES:
                    break  # still being written: read it again as a whole next time
                self._offset += len(line)
                if finished and not self._inside_overlong_line:
                    step = _step_log(_row(line))
                    if step is not None:
                        steps.append(step)
                self._inside_overlong_line = not finished
        return steps


def read_steps(path: Path) -> list[StepLog]:
    """Every step of a logging.jsonl, each once and in rising order; empty when there is no such file.

    Where a resumed run goes back to a checkpoint, the steps it repeats replace the abandoned ones, and abandoned ones
    that it has not reached yet are left out.
    """
    steps: list[StepLog] = []
    for step in LogFollower(path).poll():
        while steps and steps[-1].step > step.step:
            steps.pop()
        if steps and steps[-1].step == step.step:
            steps[-1] = _merged(steps[-1], step)
        else:
            steps.append(step)
    return steps


def read_summary(path: Path) -> dict[str, object]:
    """The closing rows of the last training in a logging.jsonl, as one; empty when it has not come to its end.

    The keys are ms-swift's: `train_runtime` (seconds), `train_loss`, `last_model_checkpoint`, `best_model_checkpoint`,
    `best_metric`, `model_parameter_info`, `train_dataset` (lengths in tokens, and the number of rows), ... That they
    are there does not mean success: trust the exit code.
    """
    summary: dict[str, object] = {}
    for row in _rows(path):
        if "train_runtime" in row or "last_model_checkpoint" in row:
            summary |= row
        elif _step_log(row) is not None:
            summary = {}  # a resumed run: what closed the one before no longer holds
    summary.pop("log_history", None)  # every step once more
    return summary


def read_results(path: Path) -> list[str]:
    """The `response` of every line of an `infer` result file, in order, which is that of the questions.

    A line that holds none counts as "", so that the others stay beside their questions. ms-swift appends: give every
    `infer` a new file. Empty when there is no such file.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    return [_text(_row(line).get("response")) or "" for line in lines if line.strip()]


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """The exponential mean that ms-swift's own plots show: swift/utils/tb_utils.py, tensorboard_smoothing.

    The weights are normalised, so that the first value is not pulled towards 0. NaN stays NaN and is not averaged in.
    """
    total = norm = 0.0
    smoothed = []
    for value in values:
        if math.isfinite(value):
            total = total * weight + value
            norm = norm * weight + 1
            smoothed.append(total / norm)
        else:
            smoothed.append(math.nan)
    return smoothed


def trend(losses: Iterable[float | None]) -> Literal["falling", "flat", "rising", "unknown"]:
    """Where the loss goes: the mean of its last third against that of its first.

    They differ when they lie more than 2 % and two standard errors apart. "unknown" below six finite losses.
    """
    finite = [loss for loss in losses if loss is not None and abs(loss) < _MAX_LOSS]
    third = len(finite) // 3
    if third < 2:
        return "unknown"
    first, last = finite[:third], finite[-third:]
    difference = _mean(last) - _mean(first)
    standard_error = math.sqrt((_variance(first) + _variance(last)) / third)
    if abs(difference) <= max(2 * standard_error, 0.02 * abs(_mean(first))):
        return "flat"
    return "falling" if difference < 0 else "rising"


def _opened(path: Path) -> BinaryIO | None:
    """A file to read; None where it is none (opening a pipe would wait for ever) or cannot be opened."""
    try:
        return path.open("rb") if os.path.isfile(path) else None
    except OSError:
        return None


def _rows(path: Path) -> Iterable[dict[str, object]]:
    stream = _opened(path)
    if stream is None:
        return
    with stream:
        for line in stream:
            yield _row(line)


def _row(line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: a line of brackets; ValueError: all else, wrong UTF-8 too
        return {}
    return row if isinstance(row, dict) else {}


def _step_log(row: dict[str, object]) -> StepLog | None:
    place = re.fullmatch(r"(\d{1,15})/(\d{1,15})", str(row.get("global_step/max_steps")), re.ASCII)
    if place is None or "train_runtime" in row:
        return None
    record = StepLog(
        step=int(place[1]),
        max_steps=int(place[2]),
        loss=_number(row.get("loss")),
        eval_loss=_number(row.get("eval_loss")),
        token_acc=_number(row.get("token_acc")),
        grad_norm=_number(row.get("grad_norm")),
        learning_rate=_number(row.get("learning_rate")),
        epoch=_number(row.get("epoch")),
        memory_gib=_number(row.get("memory(GiB)")),
        elapsed_s=_seconds(row.get("elapsed_time")),
        remaining_s=_seconds(row.get("remaining_time")),
        seconds_per_step=_number(row.get("train_speed(s/it)")),
    )
    return replace(record, loss=math.nan) if is_lost(record) else record


def is_lost(record: StepLog) -> bool:
    """Whether no step of `record` had a loss that is a number.

    transformers hides that behind a loss of 0 (`logging_nan_inf_filter`); then the gradient's norm is NaN, or without
    clipping not logged, and no token is right (ms-swift 3.12.6 and 4.6.0, measured). A record of `read_steps` or
    `LogFollower` has its loss as NaN.
    """
    if record.loss is None:
        return False
    if not math.isfinite(record.loss):
        return True
    without_clipping = record.grad_norm is None and record.token_acc == 0.0
    return record.loss == 0.0 and (without_clipping or not math.isfinite(record.grad_norm or 0.0))


def _merged(earlier: StepLog, later: StepLog) -> StepLog:
    said = {field.name: getattr(later, field.name) for field in fields(later)}
    return replace(earlier, **{name: value for name, value in said.items() if value is not None})


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> int | None:
    found = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < 100 else None
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
