"""Going on with a run that did not come to its end: which run, from where, and whether anything has changed since.

Owns the decision. Nothing is written here: `train` sets half-written checkpoints aside and goes on. What makes a
checkpoint complete is `checkpoints`' to say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sft_kit.config.load import load_config
from sft_kit.config.schema import RunConfig
from sft_kit.console import say, warn
from sft_kit.data.text import shell_word
from sft_kit.errors import Problem, UsageError
from sft_kit.msswift.checkpoints import (
    Checkpoint,
    TrainerState,
    kind_of,
    read_json,
    trainer_state,
    why_not_resumable,
)
from sft_kit.msswift.contents import why_not_as_written
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.msswift.logs import StepLog, read_steps
from sft_kit.resources import user_path
from sft_kit.run.aside import Unfit, sort_out
from sft_kit.run.changes import Change, changes_since
from sft_kit.run.directory import Manifest, RunDirectory, run_around
from sft_kit.run.disk import held_bytes
from sft_kit.run.job import Job, OwnData
from sft_kit.run.own_data import planned_own_data
from sft_kit.run.prepare import prepare
from sft_kit.run.provenance import is_as_recorded
from sft_kit.run.runs import find_run, list_runs
from sft_kit.run.watch import FATAL
from sft_kit.secrets import HIDDEN
from sft_kit.writes import size

Stage = Literal["train", "finish", "evaluate"]

# What a checkpoint brings along, so that another value in the config is read by nobody: an adapter its settings
# (adapter_config.json), the optimizer's state its own (torch Optimizer.load_state_dict: `param_groups`).
_KEPT_BY_WEIGHTS = frozenset({
    "resume_from_checkpoint", "adapters", "model", "tuner_type", "lora_rank", "lora_alpha", "lora_dropout", "lora_bias",
    "target_modules", "target_regex", "modules_to_save", "use_rslora", "use_dora",
})  # fmt: skip
_KEPT_BY_STATES = frozenset({"optim", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"})

_SPLIT = ("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
_BATCH = frozenset({*_SPLIT, "effective_batch_size", "launch.gpus", "processes"})
_MUCH = 4 << 30  # bytes that take a disk more than a moment
_OWN_ROWS = frozenset({"identity", "replay"})


@dataclass(frozen=True)
class Resumption:
    """A run to go on with.

    `stage` is where: in training, where only the end of a training has to be recorded, or at the evaluation.
    `checkpoint` is the one to go on from, None for the beginning; `weights_only` whether it is without states;
    `last_step` the last one that was logged. `unfit` are the checkpoints in the way that cannot be gone on from. `own`
    are the rows of the run where they lie there unchanged. `recorded` is the manifest's text, to see whether somebody
    else went on meanwhile; `config` is the run's from now on: the job's without the checkpoint.
    """

    job: Job
    run: RunDirectory
    before: Manifest
    stage: Stage
    checkpoint: Checkpoint | None
    weights_only: bool
    last_step: int
    unfit: tuple[Unfit, ...]
    changes: tuple[Change, ...]
    own: OwnData | None
    recorded: bytes
    config: RunConfig

    @property
    def step(self) -> int:
        """The optimizer step to go on from."""
        return self.checkpoint.step if self.checkpoint else 0

    def describe(self) -> str:
        """Where it goes on, in one line."""
        if self.stage == "evaluate":
            return f"run {self.run.name} is trained; going on with its evaluation"
        if self.stage == "finish":
            return f"run {self.run.name} had come to its last step ({self.step}); nothing is trained again"
        if self.checkpoint is None:
            return f"run {self.run.name} has no complete checkpoint: starting from the beginning"
        lost = max(0, self.last_step - self.step)
        again = f"; {'1 step after it is' if lost == 1 else f'{lost} steps after it are'} done again" if lost else ""
        anew = "; it holds weights only (save_only_model): optimizer and schedule start anew"
        from_ = f"from {self.checkpoint.path.name}{again}{anew if self.weights_only else ''}"
        return f"going on with run {self.run.name} {from_}"

    def lines(self) -> list[str]:
        """Where it goes on, and what has changed, for people."""
        changed = [f"changed since it began: {change}" for change in self.changes]
        stopped = any(sign.get("code") in FATAL for sign in self.before.signs)
        again = "it gave nothing but NaN: with the same config it may well do so again (sft-kit runs show tells when)"
        return [self.describe(), *changed, *([again] if stopped and self.stage == "train" else [])]

    def signs(self, *, done_again: bool) -> list[Mapping[str, Any]]:
        """Those of the manifest that are about steps which are done again, or all the others."""
        after = self.step if self.stage == "train" else self.last_step
        later = [sign for sign in self.before.signs if isinstance(step := sign.get("step"), int) and step > after]
        return later if done_again else [sign for sign in self.before.signs if sign not in later]

    def entry(self, now: str) -> dict[str, Any]:
        """The record of this resumption for the manifest; `now` is its time."""
        return {
            "at": now,
            "checkpoint": self.checkpoint.path.name if self.checkpoint else None,
            "step": self.step,
            "status": self.before.status,
            "message": self.before.message,
            "changed": [str(change) for change in self.changes],
            "signs": self.signs(done_again=True),
        }


def prepare_resumption(
    name: str,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    accept_changes: bool = False,
    ask_hub: bool = True,
    evaluate: bool = True,
    trust: bool = False,
) -> Resumption:
    """What `train --resume` goes on with; nothing is written.

    `name` is a run as `find_run` takes it. The config is the run's own unless `config` is given; `overrides` apply to
    either; `trust` is `prepare`'s. Raises UsageError where there is nothing to go on with, where something has changed
    (data files that only moved have not) and `accept_changes` is False, or where a change cannot take effect; and what
    `prepare` raises.
    """
    rules = SwiftKeys(find_installation())
    given = None if config is None else load_config(config, overrides, rules).config
    run = _find(name, _output_dir(given, overrides))
    recorded = run.recorded()
    before = _in_its_place(run.read(), run)
    _refuse_running(run, before)
    path = config or run.config_path
    saved = _own_config(run, rules, needed=given is None)
    if given is None:
        given = load_config(path, overrides, rules).config
    saved = saved or given
    steps = read_steps(run.logging_jsonl)
    last_step = steps[-1].step if steps else 0
    checkpoint, unfit = _where(run, steps, before, read_through=before.status != "succeeded" or accept_changes)
    state = trainer_state(checkpoint.path) if checkpoint else None
    weights_only = state is not None and state.weights_only
    changes = changes_since(before, run, saved, given, checkpoint.path if checkpoint else None)
    asked = [change for change in changes if change.of == "config"]
    stage = _stage(run, before, given, state, asked, accept=accept_changes, evaluate=evaluate)
    in_the_way = [change for change in (changes if stage == "train" else asked) if change.of_training]
    _refuse_changes(run, in_the_way, checkpoint, weights_only=weights_only, accept=accept_changes)
    resumed: dict[str, Any] = {}
    if checkpoint and stage == "train":
        split = not any(change.what in _BATCH for change in changes)
        resumed = _values_of(checkpoint.path, saved, weights_only=weights_only, split=split)
    overrides = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in resumed.items())]
    job = prepare(path, overrides, ask_hub=ask_hub, evaluate=evaluate, into=run.path, trust=trust)
    job = replace(job, notes=(*job.notes, *_lost_secrets(run, before, job)))
    own = None if any(change.what.split(".")[0] in _OWN_ROWS for change in changes) else _kept(job, run, before)
    return Resumption(
        job, run, before, stage, checkpoint, weights_only, last_step, unfit, changes, own, recorded, given
    )


def _own_config(run: RunDirectory, rules: SwiftKeys, *, needed: bool) -> RunConfig | None:
    """The config that was saved with the run; None where it cannot be read and is not `needed`."""
    fix = f"give the one it was started with: sft-kit train CONFIG --resume {shell_word(str(run.path))}"
    if not run.config_path.is_file():
        if needed:
            raise UsageError(Problem(str(run.config_path), "the run's own config is gone", fix))
        return None
    try:
        return load_config(run.config_path, (), rules).config
    except UsageError as error:
        message = "the run's own config is not valid any more"
        if needed:
            raise UsageError(*error.problems, Problem(str(run.config_path), message, f"correct it, or {fix}")) from None
        warn(Problem(str(run.config_path), f"{message}: nothing tells what has changed since it began"))
        return None


def _in_its_place(manifest: Manifest, run: RunDirectory) -> Manifest:
    """The manifest of a run that may have been moved or copied since: what it records inside the run is where the run
    lies now. Where that was is told by the command of its last start."""
    argv = manifest.argv
    at = argv.index("--output_dir") + 1 if "--output_dir" in argv[:-1] else None
    began = Path(argv[at]) if at is not None else run.path

    def moved(entry: Mapping[str, Any]) -> Mapping[str, Any]:
        path = Path(str(entry.get("path")))
        return {**entry, "path": str(run.path / path.relative_to(began))} if began in path.parents else entry

    return manifest if began == run.path else replace(manifest, data=tuple(map(moved, manifest.data)))


def _output_dir(given: RunConfig | None, overrides: Sequence[str]) -> Path:
    """Where runs are looked for: the config's output_dir, else that of `--set`, else ours."""
    if given is not None:
        return user_path(given.output_dir)
    named = [value for key, _, value in (text.partition("=") for text in overrides) if key.strip() == "output_dir"]
    return user_path(named[-1] if named else "output")


def _find(name: str, output_dir: Path) -> RunDirectory:
    path = user_path(name)
    if path.name.startswith("checkpoint-") and path.is_dir() and (run := run_around(path)):
        message = "is a checkpoint; a run goes on from its last complete one"
        fix = f"give the run: --resume {run.path}; or train a new run with resume_from_checkpoint: {name}"
        raise UsageError(Problem(name, message, fix))
    run = find_run(name, output_dir, elsewhere="--set output_dir=... looks elsewhere")
    if not os.access(run.path, os.W_OK | os.X_OK):
        fix = "make it writable, or copy it and give the copy: --resume DIRECTORY"
        raise UsageError(
            Problem(str(run.path), "cannot be written (no permission), and a run goes on where it lies", fix)
        )
    return run


def _where(
    run: RunDirectory, steps: Sequence[StepLog], before: Manifest, *, read_through: bool
) -> tuple[Checkpoint | None, tuple[Unfit, ...]]:
    """The last checkpoint that can be gone on from, and those that are no good or will be written once more. With
    `read_through` its files are read as well, whose lengths alone do not tell what a loss of power has left."""
    good, unfit = sort_out(run, steps, before.signs)
    while good:
        last = good[-1].path
        if read_through and (bytes_ := held_bytes(last)) > _MUCH:
            say(f"reading {last.name} through ({size(bytes_)}): is it what was saved?")
        if cut := why_not_resumable(last):
            why = f"is not complete ({cut})"
        elif read_through and (lost := why_not_as_written(last)):
            why = f"is not what was saved ({lost})"
        else:
            break
        unfit.append(Unfit(good.pop(), "incomplete", why))
    return good[-1] if good else None, tuple(sorted(unfit, key=lambda one: one.checkpoint.step))


def _refuse_running(run: RunDirectory, manifest: Manifest) -> None:
    if manifest.status in ("planned", "running"):
        raise UsageError(Problem(run.name, "is running now", "wait for it, or stop it first"))


def _stage(
    run: RunDirectory,
    before: Manifest,
    given: RunConfig,
    state: TrainerState | None,
    asked: Sequence[Change],
    *,
    accept: bool,
    evaluate: bool,
) -> Stage:
    """Where to go on from `state`. Raises UsageError for a run that is done, unless changes of its training that were
    `asked` for, and are to be accepted, make more of it."""
    if accept and any(change.of_training for change in asked):
        return "train"
    if before.status == "succeeded":
        proven = run.report().with_suffix(".html").is_file()  # the last of its files to be written
        if evaluate and given.identity is not None and not proven:
            return "evaluate"
        message = "has come to its end; there is nothing to resume"
        raise UsageError(Problem(run.name, message, _instead(run, before, given, asked)))
    return "finish" if state and 0 < state.max_steps <= state.step else "train"


def _instead(run: RunDirectory, before: Manifest, given: RunConfig, asked: Sequence[Change]) -> str:
    """What makes more of this run, or another one of its model beside it that did not come to its end."""
    if asked and all(change.of_evaluation for change in asked):
        sets = " ".join(f"--set {shell_word(f'{change.what}={change.after}')}" for change in asked)
        return f"sft-kit eval --adapter {shell_word(str(run.path))} {sets} asks once more"
    if wanted := [str(change) for change in asked if change.of_training]:
        return f"--accept-changes trains it further, with {', '.join(wanted)}"
    for other in list_runs(run.path.parent):
        try:
            found = other.read()
        except UsageError:
            continue
        if found.status in ("failed", "interrupted") and found.model == before.model:
            what = "failed" if found.status == "failed" else "was interrupted"
            return f"{other.name} beside it {what}: --resume {shell_word(str(other.path))}"
    longer = "max_steps" if (given.swift_values().get("max_steps") or 0) > 0 else "num_train_epochs"
    return f"--set {longer}=... --accept-changes trains it for longer"


def _refuse_changes(
    run: RunDirectory,
    changes: Sequence[Change],
    checkpoint: Checkpoint | None,
    *,
    weights_only: bool,
    accept: bool,
) -> None:
    """Raises UsageError for changes that are not accepted, and for those of what `checkpoint` brings along."""
    kept = _KEPT_BY_WEIGHTS if weights_only else _KEPT_BY_WEIGHTS | _KEPT_BY_STATES
    fixed = [change for change in changes if change.what in kept]
    if checkpoint and fixed:
        key = "adapters" if kind_of(checkpoint.path) == "adapter" else "model"
        fix = f"leave it, or train a new run; {key}: {checkpoint.path} starts from these weights"
        message = "cannot be changed in the middle of a run: the checkpoint brings its own"
        raise UsageError(*(Problem(run.name, f"{change}: {message}", fix) for change in fixed))
    if changes and not accept:
        fix = "--accept-changes goes on with all of this; the result is then not that of an uninterrupted run"
        problems = [Problem(run.name, f"changed since it began: {change}") for change in changes]
        raise UsageError(*problems[:-1], replace(problems[-1], fix=fix))


def _values_of(checkpoint: Path, saved: RunConfig, *, weights_only: bool, split: bool) -> dict[str, Any]:
    """What the config has to say to go on from `checkpoint`; with `split` that of the batch that it was trained with:
    `auto` could choose another one today, and a start that ran out of memory has led to a smaller one."""
    told = read_json(checkpoint / "args.json")
    values: dict[str, Any] = {"resume_from_checkpoint": str(checkpoint)}
    if split:
        values |= {key: told[key] for key in _SPLIT if isinstance(told.get(key), int)}
    if weights_only:  # without it DeepSpeed fails for want of its states
        values["resume_only_model"] = True
    elif saved.swift_values().get("resume_only_model"):  # was about the weights that the run began from
        values |= {"resume_only_model": False, "ignore_data_skip": False}
    return values


def _lost_secrets(run: RunDirectory, before: Manifest, job: Job) -> Iterator[Problem]:
    """Secrets are not saved with a run; those that its first start took from the config are missing now."""
    hidden = [name for name, value in before.env.items() if HIDDEN in value]
    if lost := [name for name in hidden if name not in job.env and name not in os.environ]:
        message = f"began with {', '.join(lost)} from its config, which no run saves"
        fix = "set it in the environment, or give the config: sft-kit train CONFIG --resume"
        yield Problem(run.name, message, fix)


def _kept(job: Job, run: RunDirectory, before: Manifest) -> OwnData | None:
    """The rows that sft-kit wrote for the run, where they lie there as they were trained on; None: write them anew."""
    recorded = {str(entry.get("path")): entry for entry in before.data}
    planned = planned_own_data(job, run)
    rows = before.replay.get("rows", 0)
    own = OwnData(planned.identity, planned.replay if rows else None, rows, before.replay)
    if job.config.replay and not isinstance(before.replay.get("rows"), int):
        return None
    files = [str(path.absolute()) for path in own.files]
    return own if all(path in recorded and is_as_recorded(recorded[path]) for path in files) else None
