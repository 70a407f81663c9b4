"""What the step records of a running training say that a person should know: the signs.

Owns the rules and the words. Reads the records one by one and keeps a fixed amount of what it saw, however long the
run is. Does not measure where the loss goes (`course`), read files, show or stop anything (`follow` does), nor see a
trainer that hangs (`stall`).

What NaN looks like, from real runs of ms-swift 4.6.0 and 3.12.6 (the rows are in tests/run/test_watch.py). transformers
leaves a loss that is no number out of the mean (`logging_nan_inf_filter`), so that the log says 0.0, and ms-swift
throws away an update whose gradient norm is NaN (swift/trainers/mixin.py, _fix_grad_norm_nan):

    broken weights    loss 0.0, grad_norm NaN, token_acc 0.0    for ever; ms-swift goes on saving, and ends with 0
    one bad batch     loss 0.0, grad_norm NaN, token_acc 0.06   the next step is fine again
    a bad gradient    loss 6.7, grad_norm NaN                   the next step is fine again; usual under fp16. Or it
                                                                is so for ever: learning_rate 1, from step 13 on
    no trained token  loss 0.0, grad_norm 0.0, no token_acc     nothing is learned from that batch

Broken weights need not be NaN themselves: those of learning_rate 1e30 were 1e30, and every answer of theirs was NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sft_kit.msswift.logs import StepLog, is_lost
from sft_kit.msswift.schedule import Schedule
from sft_kit.run.course import Course, Validations

Severity = Literal["error", "warning", "note"]
CODES = frozenset({
    "flat-loss", "nan-gradients", "nan-step", "nan-for-good", "no-gradient", "no-loss", "overfitting", "rising-loss",
    "trainer-goes-on", "trainer-hangs", "wrong-learning-rate", "zero-learning-rate",
})  # fmt: skip
"""Every code that a sign can have; docs/truth.md explains them."""
FATAL = frozenset({"nan-for-good", "nan-gradients"})
"""Those after which no further step can make the model better."""

# Optimizer steps of nothing but NaN after which the weights are taken for broken. One bad batch never lasts that long,
# since each step has other rows.
_DEAD_STEPS = 5
_DEAD_AT_THE_END = 2  # one bad batch may be the last
# The loss scaler of fp16 starts at 65536 and halves it at each step that overflows: 16 such steps in a row are normal.
_LOST_ROWS = 20
_ROWS = 3  # in a row, for a sign that one row alone does not make
_TINY_LOSS = 1e-3  # below it a gradient may well be 0 in the 8 decimals of the log
_VALIDATIONS = 2  # in a row that are worse than the best one
_SCALER_LAG = 20  # steps that a schedule may be late, as a skipped fp16 step does not count for it


@dataclass(frozen=True)
class Sign:
    """One thing seen while training. `step` is the last step it concerns; `code` is one of `CODES`."""

    code: str
    severity: Severity
    step: int
    message: str
    fix: str = ""

    def values(self) -> dict[str, Any]:
        """For `Manifest.signs`."""
        return asdict(self)


def sign_lines(signs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The signs of a manifest, one a line: `step 6: the model gives NaN ... [nan-for-good]`."""
    return [
        (f"step {sign['step']}: " if sign.get("step") else "") + f"{sign.get('message', '')} [{sign.get('code', '')}]"
        for sign in signs
        if isinstance(sign, Mapping)
    ]


def broken_from(steps: Sequence[StepLog], signs: Sequence[Mapping[str, Any]]) -> int | None:
    """`Watch.broken_from` of a log that is read afterwards. `signs` are the manifest's: the one that only the end of a
    training makes certain is certain where it was told."""
    watch = Watch()
    for record in steps:
        watch.see(record)
    if steps and any(sign.get("code") in FATAL and sign.get("step") == steps[-1].step for sign in signs):
        watch.end(steps[-1])
    return watch.broken_from


class Watch:
    """The signs in the records of one training process, in the order of the log.

    `schedule` is the learning rate to expect, None where nothing is known; `scaled` whether a loss scaler may skip
    steps (fp16); `start` the step of the checkpoint that it goes on from.
    """

    def __init__(self, schedule: Schedule | None = None, *, scaled: bool = False, start: int = 0) -> None:
        self._schedule = schedule
        self._lag = _SCALER_LAG if scaled else 0
        self._told: set[str] = set()
        self._start_step = self._last_step = start
        self._nan = _NanState()
        self._rows = dict.fromkeys(("zero-loss", "zero-gradient", "wrong-rate", "zero-rate", "rates"), 0)
        self._course = Course()
        self._validations = Validations()

    @property
    def broken_from(self) -> int | None:
        """The first step whose checkpoint cannot be trusted, once a sign of `FATAL` was told."""
        return self._nan.broken_from if self._told & FATAL else None

    def see(self, record: StepLog) -> list[Sign]:
        """The signs that `record` completes; each is told once, only lost steps again when they are ten times more."""
        signs: list[Sign] = []
        if record.eval_loss is not None:
            signs += self._validated(record)
        if record.loss is None:
            return signs
        signs += self._numbers(record)
        signs += self._nothing_trained(record)
        signs += self._rates(record)
        if not is_lost(record) and math.isfinite(record.loss):
            signs += self._moved(record)
        self._last_step = record.step
        return signs

    def end(self, record: StepLog | None) -> list[Sign]:
        """The signs that only the end makes certain; `record` is the last one."""
        if record is None or self._nan.dead < _DEAD_AT_THE_END or self.broken_from is not None:
            return []
        return list(self._once(self._for_good(record)))

    def _once(self, sign: Sign) -> Iterator[Sign]:
        if sign.code not in self._told:
            self._told.add(sign.code)
            yield sign

    def _numbers(self, record: StepLog) -> Iterator[Sign]:
        state = self._nan
        if not state.add(record, self._last_step):
            return
        if state.dead >= _DEAD_STEPS:
            yield from self._once(self._for_good(record))
        elif state.lost_rows >= _LOST_ROWS:
            yield from self._once(
                Sign(
                    "nan-gradients",
                    "error",
                    record.step,
                    f"none of the last {state.lost_rows} logged steps had a gradient that is a number: ms-swift threw "
                    "these updates away, and nothing is learned",
                    "set torch_dtype: bfloat16 instead of float16, or a lower learning_rate",
                )
            )
        elif is_lost(record) and state.lost_in_all in (1, 10, 100, 1000):
            yield Sign(
                "nan-step",
                "warning",
                record.step,
                f"the loss was no number (ms-swift logs 0): that update is thrown away ({state.lost_in_all} so far)",
                "a single one does no harm; many mean bad rows or a learning_rate that is too high",
            )

    def _for_good(self, record: StepLog) -> Sign:
        since = self._nan.broken_from
        if since == self._start_step:
            message = "the loss has been NaN from the first step on (ms-swift logs 0): nothing is learned"
            fix = "set torch_dtype: bfloat16 (float16 overflows), and look at the weights that this run starts from"
        else:
            message = f"the model gives NaN since step {since} (ms-swift logs a loss of 0), which never heals"
            fix = "in a new run (a resumed one keeps its rate): a lower learning_rate, warmup_ratio: 0.05, bfloat16"
        return Sign("nan-for-good", "error", record.step, message, fix)

    def _nothing_trained(self, record: StepLog) -> Iterator[Sign]:
        masked = record.loss == 0.0 and not is_lost(record) and (record.token_acc or 0.0) < 0.5
        gradient = record.grad_norm == 0.0 and record.loss is not None and record.loss > _TINY_LOSS
        if self._row("zero-loss", masked) >= _ROWS:
            message = f"the loss is exactly 0 in {self._rows['zero-loss']} logged steps in a row"
            if record.token_acc is None:
                message += ", and no token was counted: no token of these rows is trained"
            fix = "sft-kit preview CONFIG shows which tokens are trained; look at loss_scale and truncation_strategy"
            yield from self._once(Sign("no-loss", "error", record.step, message, fix))
        if self._row("zero-gradient", gradient) >= _ROWS:
            message = "the gradient is exactly 0 though there is a loss: no weight is being trained"
            fix = "look at target_modules, freeze_parameters and a custom loss: it must depend on trained weights"
            yield from self._once(Sign("no-gradient", "error", record.step, message, fix))

    def _rates(self, record: StepLog) -> Iterator[Sign]:
        rate = record.learning_rate
        if rate is None or record.step >= record.max_steps > 0:  # the last rate is 0 by right
            return
        seen = self._row("rates", holds=True)
        if self._row("zero-rate", rate == 0.0) == seen >= _ROWS:
            message = "the learning rate has been 0 from the beginning: nothing is learned"
            fix = "set a learning_rate above 1e-8; look at warmup_steps, and at a scheduler of deepspeed"
            yield from self._once(Sign("zero-learning-rate", "error", record.step, message, fix))
            return
        schedule = self._schedule
        if schedule is None or record.max_steps <= 0:
            return
        due = range(record.step, max(-1, record.step - self._lag - 1), -1)
        right = any(schedule.matches(rate, step, record.max_steps) for step in due)
        if self._row("wrong-rate", not right) >= _ROWS and "zero-learning-rate" not in self._told:
            expected = schedule.rate(record.step, record.max_steps)
            message = (
                f"the learning rate is {rate:.3g}, but {schedule.name} with learning_rate {schedule.learning_rate:g} "
                f"gives {expected:.3g} at step {record.step} of {record.max_steps}"
            )
            fix = "a resumed run keeps the rate it began with; else something besides the config sets the schedule"
            yield from self._once(Sign("wrong-learning-rate", "warning", record.step, message, fix))

    def _moved(self, record: StepLog) -> Iterator[Sign]:
        """Where the loss goes. A loss that is a number."""
        if rises := self._course.rises(record):
            fix = "lower learning_rate, or add warmup_ratio: 0.05; or the rows from here on are of another kind"
            yield from self._once(Sign("rising-loss", "warning", record.step, f"the loss rises: {rises}", fix))
        if still := self._course.stands_still(record):
            message = f"the loss has not moved in {record.step} steps ({still})"
            rate = f" ({self._course.highest_rate:g} at its highest)" if self._course.highest_rate else ""
            fix = f"raise learning_rate{rate}, or lora_rank; or the model already knew these answers"
            yield from self._once(Sign("flat-loss", "note", record.step, message, fix))

    def _validated(self, record: StepLog) -> Iterator[Sign]:
        best = self._validations
        if record.eval_loss is None or not math.isfinite(record.eval_loss):
            return
        training = self._course.level
        worse = best.add(record.eval_loss, record.step, training)
        if worse >= _VALIDATIONS and training <= best.training:
            message = (
                f"the validation loss rises while the training loss falls: {record.eval_loss:.3g} now, "
                f"{best.best:.3g} at step {best.step}; it learns the rows by heart"
            )
            fix = f"take the checkpoint of step {best.step}, or the last one before it; fewer epochs, or more rows"
            yield from self._once(Sign("overfitting", "note", record.step, message, fix))

    def _row(self, what: str, holds: bool) -> int:
        """Rows in a row for which it holds."""
        self._rows[what] = self._rows[what] + 1 if holds else 0
        return self._rows[what]


@dataclass
class _NanState:
    """How long there has been nothing but NaN."""

    dead: int = 0  # optimizer steps in a row whose forward pass gave no number
    lost_rows: int = 0  # rows in a row without a gradient
    lost_in_all: int = 0
    broken_from: int = 0
    _began: bool = field(default=False, repr=False)

    def add(self, record: StepLog, before: int) -> bool:
        """Whether `record`, which stands for the steps after step `before`, has no gradient or no loss."""
        lost = is_lost(record)
        if not lost and (record.grad_norm is None or math.isfinite(record.grad_norm)):
            self.dead = self.lost_rows = 0
            self._began = False
            return False
        if not self._began:
            # All NaN: the update of the step before broke the weights. Else one inside the window did.
            self.broken_from = before + (0 if lost or record.step - before <= 1 else 1)
            self._began = True
        self.lost_rows += 1
        self.lost_in_all += lost
        # A healthy model hits a token now and then even where the loss is NaN; one of NaN weights cannot.
        self.dead = self.dead + max(1, record.step - before) if lost and not record.token_acc else 0
        return True
