"""A training run, fully decided: what `prepare` hands on, and the command line that follows from it.

Owns the values and the `swift sft` command of a run. Decides nothing (`prepare`) and starts nothing (`train`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_kit.checks.base_model import BaseModel
from sft_kit.config.load import LoadedConfig
from sft_kit.config.schema import RunConfig
from sft_kit.errors import Problem
from sft_kit.identity.generate import IdentityData
from sft_kit.msswift.command import Command, swift_command
from sft_kit.msswift.dataset_syntax import with_home
from sft_kit.msswift.install import Installation
from sft_kit.plan.batch import BatchPlan
from sft_kit.plan.mix import Source
from sft_kit.resources import user_path
from sft_kit.run.data_check import DataFile
from sft_kit.run.mix import identity_sample, mix_of
from sft_kit.run.run_plan import RunPlan
from sft_kit.run.training_data import entries_of


@dataclass(frozen=True)
class OwnData:
    """The files that sft-kit writes for a run, before ms-swift gets the user's own. `replay_counts` tells what became
    of the replay prompts (asked, rows, shortened, cached, skipped by reason), for the manifest."""

    identity: Path | None = None
    replay: Path | None = None
    replay_rows: int = 0
    replay_counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.identity, self.replay) if path)


@dataclass(frozen=True)
class Job:
    """One training run, fully decided. `notes` and `doubts` are warnings; doubts are worth a question."""

    loaded: LoadedConfig
    installation: Installation
    model: BaseModel
    identity: IdentityData | None
    plan: RunPlan
    processes: int
    env: Mapping[str, str]
    data: tuple[DataFile, ...]
    notes: tuple[Problem, ...] = ()
    doubts: tuple[Problem, ...] = ()

    @property
    def config(self) -> RunConfig:
        return self.loaded.config

    @property
    def output_dir(self) -> Path:
        return user_path(self.config.output_dir)

    @property
    def versioned(self) -> bool:
        return self.config.add_version is not False

    @property
    def full(self) -> bool:
        """Whether all weights are trained, so that a checkpoint is a model and not an adapter."""
        return self.config.tuner_type == "full"

    def mix(self, replay_rows: int | None = None) -> list[Source]:
        """What one epoch trains on; `replay_rows` are those that were written, before that all that were asked for."""
        return mix_of(self.config, self.data, replay_rows)

    def command(self, run: Path, own: OwnData, batch: BatchPlan | None = None) -> Command:
        """The `swift sft` that trains this job into `run`, with `own` (identity, replay) before the user's data.

        `batch` is another split of the same effective batch than the plan's.
        """
        config, batch = self.config, batch or self.plan.batch
        values: dict[str, Any] = dict(config.swift_values())
        values.pop("hub_token", None)  # it is in `env`, under the name of the hub
        values["model"] = self.model.source
        values |= {"model_type": self.model.model_type, "template": self.model.template}
        values["dataset"] = [*self._own_entries(own), *map(with_home, config.dataset or [])] or None
        values["val_dataset"] = [*map(with_home, config.val_dataset or [])] or None
        values["output_dir"] = str(run)
        values["add_version"] = False
        if self.model.local and config.check_model is None:
            values["check_model"] = False  # see MS_SWIFT notes: 22 s of hub look-ups, and a pickle is read
        values["per_device_train_batch_size"] = batch.micro_batch
        values["gradient_accumulation_steps"] = batch.accumulation
        if batch.checkpointing is not None:
            values["gradient_checkpointing"] = batch.checkpointing
        return swift_command(self.installation, "sft", values, processes=self.processes, env=self.env)

    def _own_entries(self, own: OwnData) -> Iterator[str]:
        """`identity.jsonl#N` where ms-swift has to repeat its rows to reach the share asked for."""
        if own.identity and self.identity:
            sample = identity_sample(self.config, self.data, own.replay_rows)
            yield str(own.identity) + (f"#{sample}" if sample else "")
        if own.replay:
            yield str(own.replay)

    def local_data(self) -> list[Path]:
        """The user's own data files, without `#N`; folders and hub ids are not files."""
        paths = [user_path(entry.name) for *_, entry in entries_of(self.config)]
        return [path for path in paths if path.is_file()]

    def model_values(self) -> dict[str, Any]:
        """What `swift infer` needs to load the base model as this run does (4.x names)."""
        config = self.config
        kept = ("model_revision", "use_hf", "torch_dtype", "attn_impl", "quant_method", "quant_bits", "system",
                "max_length")  # fmt: skip
        given = config.swift_values()
        base = {"model": self.model.source, "model_type": self.model.model_type, "template": self.model.template}
        return base | {key: given[key] for key in kept if key in given}
