"""The learning rate that a config asks for at each step, as transformers computes it.

Owns the formulas of the usual schedules (transformers/optimization.py, the same in 4.57 and 5.19) and what ms-swift
logs of them: the rate after the step, rounded to 8 decimals (swift/trainers/mixin.py, patcher.py). Does not judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Arguments that give some parameters a rate of their own, or hand the schedule to somebody else.
_OTHER_RATES = ("optimizer", "lorap_lr_ratio", "vit_lr", "aligner_lr", "use_galore", "deepspeed", "lr_scheduler_kwargs")


@dataclass(frozen=True)
class Schedule:
    """One schedule: its name in transformers, the highest rate, and the steps (or, below 1, the share) of warm-up."""

    name: str
    learning_rate: float
    warmup: float = 0.0

    def rate(self, step: int, max_steps: int) -> float:
        """What is logged for `step` (from 1) of `max_steps`: the rate that the next step will use."""
        warmup = int(self.warmup) if self.warmup >= 1 else math.ceil(max_steps * self.warmup)
        if step < warmup and self.name != "constant":
            return self.learning_rate * step / warmup
        return self.learning_rate * _AFTER_WARMUP[self.name](self, step - warmup, max(1, max_steps - warmup))

    def matches(self, logged: float, step: int, max_steps: int) -> bool:
        """Whether `logged` is that rate, but for the rounding of the log."""
        return math.isclose(logged, self.rate(step, max_steps), rel_tol=1e-3, abs_tol=1.1e-8)


def schedule_of(given: Mapping[str, Any], arguments: Mapping[str, Any]) -> Schedule | None:
    """The schedule of a run; None where it is not one of the usual ones, so that nothing can be said.

    `given` is what the config says (4.x names); what it leaves out is taken from `arguments`, the args.json that
    ms-swift writes before it trains.
    """
    if any(given.get(key) for key in _OTHER_RATES):
        return None
    name = given.get("lr_scheduler_type") or arguments.get("lr_scheduler_type")
    rate = given.get("learning_rate") or arguments.get("learning_rate")
    own = given if given.get("warmup_steps") or given.get("warmup_ratio") else arguments
    warmup = own.get("warmup_steps") or own.get("warmup_ratio") or 0.0
    if not isinstance(name, str) or not isinstance(rate, int | float) or not isinstance(warmup, int | float):
        return None
    return Schedule(name, float(rate), float(warmup)) if name in _AFTER_WARMUP else None


def _cosine(_: Schedule, step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _linear(_: Schedule, step: int, steps: int) -> float:
    return max(0.0, (steps - step) / steps)


def _restarts(_: Schedule, step: int, steps: int) -> float:
    return 0.0 if step >= steps else 0.5 * (1 + math.cos(math.pi * (step / steps % 1.0)))


def _polynomial(schedule: Schedule, step: int, steps: int) -> float:
    """Of power 1, down to 1e-7 and not to 0."""
    end = 1e-7 / schedule.learning_rate
    return end if step > steps else (1 - end) * (1 - step / steps) + end


def _constant(_: Schedule, step: int, steps: int) -> float:
    return 1.0


_AFTER_WARMUP: Mapping[str, Callable[[Schedule, int, int], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "cosine_with_restarts": _restarts,
    "polynomial": _polynomial,
    "constant": _constant,
    "constant_with_warmup": _constant,
}
