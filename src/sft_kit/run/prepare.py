"""Turns a checked config into a `Job`: everything decided and nothing started or written yet.

Owns the checks that need more than the config alone (models, names, batch, directories) and reports all of them at
once, each at its place in the config. Those of the data are in `training_data`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sft_kit.config.load import LoadedConfig, load_config
from sft_kit.config.schema import EvalSection, IdentitySection, RunConfig
from sft_kit.errors import ConfigError, Problem, UsageError
from sft_kit.evaluate.probes import user_probes
from sft_kit.findings import Finding
from sft_kit.identity.generate import IdentityData, IdentitySpec, generate
from sft_kit.identity.names import check_names
from sft_kit.identity.templates import load_templates
from sft_kit.msswift.checkpoints import is_complete, kind_of
from sft_kit.msswift.command import Command, processes_of, swift_command
from sft_kit.msswift.dataset_syntax import with_home
from sft_kit.msswift.dialect import translate_model_type
from sft_kit.msswift.hub import is_hub_id, looks_like_path, uses_hugging_face
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.plan.batch import BatchPlan, plan_batch
from sft_kit.plan.gpus import gpu_environment, list_gpus
from sft_kit.plan.mix import Source
from sft_kit.resources import user_path
from sft_kit.run.base_model import BaseModel, locate_model, refuse_plugins
from sft_kit.run.data_check import DataFile
from sft_kit.run.directory import check_output_dir
from sft_kit.run.found import Found
from sft_kit.run.mix import identity_sample, mix_of
from sft_kit.run.training_data import check_mix, check_sources, data_findings, entries_of, lengths_for, read_data

SECRET_VARIABLES = {True: "HF_TOKEN", False: "MODELSCOPE_API_TOKEN"}  # by whether the hub is Hugging Face


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
    """One training run, fully decided. `notes` and `doubts` are warnings; doubts are worth a question.

    `findings` are those of the data, `ignored` the ones that the config says to ignore.
    """

    loaded: LoadedConfig
    installation: Installation
    model: BaseModel
    identity: IdentityData | None
    batch: BatchPlan
    processes: int
    env: Mapping[str, str]
    data: tuple[DataFile, ...]
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]
    notes: tuple[Problem, ...]
    doubts: tuple[Problem, ...]

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

    def command(self, run: Path, own: OwnData) -> Command:
        """The `swift sft` that trains this job into `run`, with `own` (identity, replay) before the user's data."""
        config = self.config
        values: dict[str, Any] = dict(config.swift_values())
        values.pop("hub_token", None)  # by environment: the argv is printed and saved
        values["model"] = self.model.source
        values |= {"model_type": self.model.model_type, "template": self.model.template}
        values["dataset"] = [*self._own_entries(own), *map(with_home, config.dataset or [])] or None
        values["val_dataset"] = [*map(with_home, config.val_dataset or [])] or None
        values["output_dir"] = str(run)
        values["add_version"] = False
        if self.model.local and config.check_model is None:
            values["check_model"] = False  # see MS_SWIFT notes: 22 s of hub look-ups, and a pickle is read
        values["per_device_train_batch_size"] = self.batch.micro_batch
        values["gradient_accumulation_steps"] = self.batch.accumulation
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


def prepare(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    ask_hub: bool = True,
    evaluate: bool = True,
    measure: int = 0,
    refuse_data: bool = True,
) -> Job:
    """Load and check everything about a run that can be known before it starts; nothing is written or downloaded.

    `ask_hub` False leaves out the one request that asks whether hub ids can be had (for a dry run); `evaluate` says
    whether the run will be asked before and after; of each data file the tokens of `measure` rows are counted;
    `refuse_data` False leaves the findings about data to the caller. Raises ConfigError with all problems, or
    MissingError when only something outside the config is missing.
    """
    installation = find_installation()
    loaded = load_config(path, overrides, SwiftKeys(installation))
    config, found = loaded.config, Found(loaded)
    environ = {**os.environ, **config.launch.env}
    hugging_face = uses_hugging_face(config.use_hf, environ)
    processes = processes_of(environ, config.launch.gpus)
    model = _model(installation, found, environ, hugging_face=hugging_face, ask_hub=ask_hub)
    check_sources(found, environ, hugging_face=hugging_face, ask_hub=ask_hub and not found.missing)
    _check_checkpoints(found)
    _note_what_has_no_effect(found)
    identity = _identity(found)
    batch = _batch(found, processes)
    lengths = lengths_for(installation, config, model, environ, hugging_face=hugging_face)
    data = read_data(found, installation, identity, lengths, measure)
    rows_a_step = (batch.micro_batch or 1) * (batch.accumulation or 1) * processes
    sources = mix_of(config, data)
    check_mix(found, sources, (identity is not None) + bool(config.replay))
    findings, ignored = data_findings(found, data, sources, rows_a_step, refuse=refuse_data)
    with found.at("output_dir"):
        if not config.output_dir.strip():
            raise UsageError(Problem("", "is empty", "give a directory, such as output"))
        check_output_dir(user_path(config.output_dir), versioned=config.add_version is not False)
    if identity is not None and evaluate and config.save_strategy == "no":
        fix = "save by steps or epoch, or train with --no-eval"
        found.add(found.problems, "save_strategy", Problem("", "no leaves nothing to evaluate", fix))
    if config.identity is None and config.eval != EvalSection():
        problem = Problem("", "scores an identity, but there is none", "add identity: or remove it")
        found.add(found.problems, "eval", problem)
    _check_questions(found)
    env = dict(config.launch.env)
    if config.hub_token:
        env[SECRET_VARIABLES[hugging_face]] = config.hub_token
    if config.use_hf:
        env["USE_HF"] = "1"  # the evaluation loads the base by its id, and an adapter's args.json does not say where
    gpus = 0 if config.use_cpu or not config.launch.gpus else processes
    with found.at("launch.gpus"):
        env = {**gpu_environment(gpus, environ), **env}
    found.raise_if_any()
    if model is None:  # not reached: without a model there is a finding
        raise ConfigError("model: missing")
    return Job(
        loaded, installation, model, identity, batch, processes, env, tuple(data),
        findings, ignored, tuple(found.notes), tuple(found.doubts),
    )  # fmt: skip


def _model(
    installation: Installation, found: Found, environ: Mapping[str, str], *, hugging_face: bool, ask_hub: bool
) -> BaseModel | None:
    config = found.loaded.config
    if not config.model:
        problem = Problem("", "missing", "add `model: Qwen/Qwen2.5-7B-Instruct` or another")
        found.add(found.problems, "model", problem)
        return None
    with found.at("model"):
        model = locate_model(config.model, hugging_face=hugging_face, ask_hub=ask_hub, environ=environ)
        given = translate_model_type(
            config.model_type, config.template, installation.generation, architecture=model.architecture
        )
        if given.note:
            found.add(found.notes, "model_type" if config.model_type else "template", Problem("", given.note))
        return replace(
            model, model_type=given.model_type or model.model_type, template=given.template or model.template
        )
    return None


def _check_checkpoints(found: Found) -> None:
    """What training goes on from: adapters, and a checkpoint to resume."""
    config = found.loaded.config
    for index, name in enumerate(config.adapters or []):
        folder = user_path(name)
        if folder.is_dir() and kind_of(folder) == "adapter":
            with found.at("adapters"):
                refuse_plugins(folder)
        elif folder.exists() or looks_like_path(name) or not is_hub_id(name):
            problem = Problem("", f"{name}: no adapter there (no adapter_config.json)", "give a checkpoint-N folder")
            found.add(found.problems, "adapters", problem, index=index)
    resumed = config.resume_from_checkpoint
    if resumed and not is_complete(user_path(resumed)):
        problem = Problem("", f"{resumed}: no complete checkpoint there", "give a checkpoint-N folder of a run")
        found.add(found.problems, "resume_from_checkpoint", problem)
    if (
        isinstance(config.deepspeed, str)
        and config.deepspeed.endswith(".json")
        and not user_path(config.deepspeed).is_file()
    ):
        found.add(
            found.problems, "deepspeed", Problem("", f"{config.deepspeed}: no such file", "zero2 and zero3 need none")
        )


def _check_questions(found: Found) -> None:
    """The user's own questions are read now, and not after hours of training."""
    file = found.loaded.config.eval.file
    if file and not user_path(file).is_file():
        found.add(found.problems, "eval.file", Problem("", f"{file}: no such file"))
    elif file:
        with found.at("eval.file"):
            user_probes(user_path(file))


def _note_what_has_no_effect(found: Found) -> None:
    config = found.loaded.config
    fills = any("self-cognition" in entry for entry in config.dataset or [])
    for key in ("model_name", "model_author"):
        if getattr(config, key) and not fills:
            message = "only fills placeholders of swift/self-cognition, which is not in dataset"
            found.add(found.doubts, key, Problem("", message, "name the model under identity:"))
    if config.torch_dtype in ("bfloat16", "float16") and not list_gpus():
        message = f"{config.torch_dtype}, but no NVIDIA GPU is found here; ms-swift refuses that on a CPU"
        found.add(found.notes, "torch_dtype", Problem("", message, "on a CPU set torch_dtype: float32"))


def _batch(found: Found, processes: int) -> BatchPlan:
    config = found.loaded.config
    batch = plan_batch(
        config.per_device_train_batch_size,
        config.gradient_accumulation_steps,
        config.effective_batch_size,
        processes=processes,
    )
    if isinstance(batch, BatchPlan):
        return batch
    for problem in batch:
        found.add(found.problems, problem.place, Problem("", problem.message, problem.fix))
    return BatchPlan(None, None)


def identity_data(section: IdentitySection) -> IdentityData:
    """The rows and held-out questions of an identity section. Raises UsageError for templates that cannot be used."""
    name, author = section.per_language("name"), section.per_language("author")
    spec = IdentitySpec(
        name, author, tuple(section.languages), section.rows, section.seed, section.slots, section.system_share
    )
    return generate(spec, load_templates(user_path(section.template) if section.template else None))


def _identity(found: Found) -> IdentityData | None:
    """The identity rows themselves: making them takes milliseconds and finds all that is wrong with the section."""
    section = found.loaded.config.identity
    if section is None:
        return None
    name, author = section.per_language("name"), section.per_language("author")
    said: set[tuple[str, str]] = set()
    refused = False
    for finding in check_names(name, author, force=section.force):
        key = finding.key.split(".")[0]
        if (key, finding.message) in said:  # one text for every language is one problem
            continue
        said.add((key, finding.message))
        refused = refused or finding.severity == "error"
        where = found.problems if finding.severity == "error" else found.doubts
        found.add(where, f"identity.{finding.key}", Problem("", finding.message, finding.fix))
    if refused:
        return None
    with found.at("identity"):
        data = identity_data(section)
        for note in data.notes:
            found.add(found.notes, "identity", Problem("", note))
        return data
    return None
