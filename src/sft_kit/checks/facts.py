"""Everything about a run that the checks look at, gathered once, so that each rule is a function of values.

Owns the shape of those facts. Does not gather them (`prepare` does) nor judge them (`rules`, `model`,
`machine`, `run.run_plan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.environment import Environment
from sft_kit.config.schema import RunConfig
from sft_kit.models.directory import ModelDirectory
from sft_kit.msswift.install import Installation
from sft_kit.plan.batch import BatchPlan
from sft_kit.plan.shape import ModelShape, known_shape, shape_of


@dataclass(frozen=True)
class Facts:
    """What is known before a run. None or empty where something is not known, or was wrong and is reported already.

    `rows` are the training rows of one epoch, `validation_rows` those of the validation set (split off or given), both
    None where a hub's data set is not counted; `lengths` the tokens of a sample of the training rows.
    """

    config: RunConfig
    installation: Installation
    environment: Environment
    model: BaseModel | None
    directory: ModelDirectory | None
    """The model's files, where they lie on this machine (a directory, or a hub's cache)."""
    batch: BatchPlan
    processes: int
    hugging_face: bool
    rows: int | None
    validation_rows: int | None
    lengths: tuple[int, ...]

    @cached_property
    def shape(self) -> ModelShape | None:
        """The sizes of the model: by its config.json where that is here, else by its hub id."""
        if self.directory is not None and self.directory.config:
            return shape_of(self.directory.config)
        return known_shape(self.model.source) if self.model is not None else None

    @property
    def rows_a_step(self) -> int:
        """Rows of one optimizer step; ms-swift's own choice where the config says nothing: micro-batch 1, 16 in all."""
        micro = self.batch.micro_batch or 1
        accumulation = self.batch.accumulation or max(1, -(-16 // (micro * self.processes)))
        return micro * accumulation * self.processes
