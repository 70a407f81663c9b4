"""The report of one evaluation as a value, and as report.json: what every way of showing it is made from.

Owns which parts a report has and their JSON form. Does not own the rates and verdicts in it (`evaluate`), nor how it
looks (`tables`, `markdown`, `html`).

report.json, schema 2:

    schema      2; another number is another format
    title       the run's name
    created     when it was evaluated, ISO 8601
    facts       [{what, value}]: model, steps, seconds, versions, as text
    command     the shell command of its last start
    training    what was trained, with the fields of `evaluate.advice.Training`, or null
    evaluation  rates with intervals, and every question with both answers (`evaluate.compare.Evaluation.to_json`)
    shortfalls  [{measure, got, wanted, enforced}]: what falls short of the gate or of what is usual
    advice      [{lever, do, why}]: what to change, the most useful first
    loss        [{step, max_steps, loss}]: the training loss; null where it was no number
    mix         [{name, rows, trained, repeats, share, tokens}]: the sources of the training data
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sft_kit.errors import Problem, UsageError
from sft_kit.evaluate.advice import Advice, Training
from sft_kit.evaluate.compare import Evaluation
from sft_kit.evaluate.gate import Shortfall
from sft_kit.msswift.logs import StepLog

SCHEMA = 2


@dataclass(frozen=True)
class Report:
    """All that a report shows. `facts` are (what, value) lines; `mix` is that of the run's manifest."""

    title: str
    evaluation: Evaluation
    created: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    command: str = ""
    training: Training | None = None
    shortfalls: tuple[Shortfall, ...] = ()
    advice: tuple[Advice, ...] = ()
    loss: tuple[StepLog, ...] = ()
    mix: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The values of report.json. Of `loss` the step and the loss are kept."""
        return {
            "schema": SCHEMA,
            "title": self.title,
            "created": self.created,
            "facts": [{"what": what, "value": value} for what, value in self.facts],
            "command": self.command,
            "training": asdict(self.training) if self.training else None,
            "evaluation": self.evaluation.to_json(),
            "shortfalls": [asdict(shortfall) for shortfall in self.shortfalls],
            "advice": [asdict(advice) for advice in self.advice],
            "loss": [
                {"step": step.step, "max_steps": step.max_steps, "loss": _finite(step.loss)} for step in self.loss
            ],
            "mix": [dict(source) for source in self.mix],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Report:
        """The report that `to_json` wrote. Raises UsageError for another schema and for values that are no report."""
        if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
            schema = values.get("schema") if isinstance(values, Mapping) else None
            message = f"the report has schema {schema!r}, and this sft-kit reads {SCHEMA}"
            raise UsageError(Problem("", message, "evaluate again with sft-kit eval"))
        try:
            return cls(
                title=str(values["title"]),
                evaluation=Evaluation.from_json(values["evaluation"]),
                created=str(values["created"]),
                facts=tuple((str(fact["what"]), str(fact["value"])) for fact in values["facts"]),
                command=str(values["command"]),
                training=_training_of(values["training"]),
                shortfalls=tuple(Shortfall(**shortfall) for shortfall in values["shortfalls"]),
                advice=tuple(Advice(**advice) for advice in values["advice"]),
                loss=tuple(StepLog(**step) for step in values["loss"]),
                mix=tuple(dict(source) for source in values["mix"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"the report cannot be read: {type(error).__name__}: {error}"
            raise UsageError(Problem("", message, "evaluate again with sft-kit eval")) from None


def _training_of(values: Mapping[str, Any] | None) -> Training | None:
    return None if values is None else Training(**{**values, "languages": tuple(values["languages"])})


def _finite(loss: float | None) -> float | None:
    """JSON has no NaN."""
    return loss if loss is not None and math.isfinite(loss) else None
