"""Turns a config into a `Job`: everything that can be known before a run starts, and nothing started or written yet.

Owns the order of the checks and the places of what they find in the config; all of it is reported at once. The rules
themselves are in `checks` (keys, model, machine), `training_data` and `run_plan`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sft_kit.checks.base_model import BaseModel, locate_model
from sft_kit.checks.environment import look
from sft_kit.checks.facts import Facts
from sft_kit.checks.machine import environment_findings
from sft_kit.checks.model import model_findings
from sft_kit.checks.rules import config_findings
from sft_kit.checks.trust import FLAG, described, refuse_traps
from sft_kit.config.load import LoadedConfig, read_config
from sft_kit.config.schema import EvalSection, IdentitySection, RunConfig
from sft_kit.console import say
from sft_kit.errors import ConfigError, Problem, UsageError
from sft_kit.findings import Finding
from sft_kit.identity.generate import IdentityData, IdentitySpec, generate
from sft_kit.identity.names import check_names
from sft_kit.identity.templates import load_templates
from sft_kit.models.cached import is_whole
from sft_kit.models.catalog import is_own_model
from sft_kit.models.directory import read_directory
from sft_kit.models.trust import own_code, without_own_code
from sft_kit.msswift.checkpoints import checkpoints, is_complete, kind_of
from sft_kit.msswift.command import processes_here, processes_of
from sft_kit.msswift.dialect import translate_model_type
from sft_kit.msswift.hub import cached_model, is_hub_id, looks_like_path, uses_hugging_face
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.plan.batch import BatchPlan, plan_batch
from sft_kit.plan.gpus import Gpu, gpu_environment
from sft_kit.plan.mix import Source
from sft_kit.resources import user_path
from sft_kit.run.data_check import DataFile
from sft_kit.run.directory import check_output_dir
from sft_kit.run.found import Found
from sft_kit.run.job import Job
from sft_kit.run.mix import held_out_ratio, mix_of, user_sources
from sft_kit.run.run_plan import RunPlan, plan_run
from sft_kit.run.token_counts import MEASURED_ROWS
from sft_kit.run.training_data import check_mix, check_sources, data_findings, lengths_for, read_data

SECRET_VARIABLES = {True: "HF_TOKEN", False: "MODELSCOPE_API_TOKEN"}  # by whether the hub is Hugging Face
_ASKED = frozenset({"bf16-without-gpu", "does-not-fit"})  # a person is asked whether to go on


@dataclass(frozen=True)
class Examination:
    """All that was found out about a run.

    `found` holds what is wrong with single keys, and what is missing beside them; the findings are those of `rules`
    (keys, model, memory: an error is the config's), of the `machine` (an error is something missing) and of the
    `data`, without the `ignored` ones. `job` is None where something keeps the run from being decided at all.
    """

    found: Found
    facts: Facts
    rules: tuple[Finding, ...]
    machine: tuple[Finding, ...]
    data: tuple[Finding, ...]
    ignored: tuple[Finding, ...]
    files: tuple[DataFile, ...]
    sources: tuple[Source, ...]
    plan: RunPlan
    job: Job | None


def prepare(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    ask_hub: bool = True,
    evaluate: bool = True,
    into: Path | None = None,
    trust: bool = False,
) -> Job:
    """The job that `train` starts; nothing is written or downloaded.

    `ask_hub` False leaves out the one request that asks whether hub ids can be had (for a dry run); `evaluate` says
    whether the run will be asked before and after; `into` is the run directory that is gone on with; `trust` lets the
    model run its own code, as a config that ignores `remote-code` does: that code is shown then. Raises ConfigError
    with all problems, or MissingError when only something outside the config is missing.
    """
    examination = examine(path, overrides, ask_hub=ask_hub, evaluate=evaluate, into=into, trust=trust)
    found = examination.found
    skip = found.loaded.source.ignored
    for said, code in ((found.notes, "config-note"), (found.doubts, "config-doubt")):
        said[:] = [_with_code(each, code) for each in said if (each.code or code) not in skip]
    lost = {code for file in examination.files for code in file.lost}
    for finding in (*examination.rules, *examination.machine, *examination.data):
        if finding.severity == "error":
            where = found.missing if finding in examination.machine else found.problems
        else:
            where = found.doubts if finding.code in lost | _ASKED else found.notes
        if finding.severity != "note":
            where.append(finding.problem())
    found.raise_if_any()
    if examination.job is None:  # not reached: what keeps a job from being decided has been raised
        raise ConfigError("the run cannot be decided")
    if _is_trusted(found.loaded, trust):
        for line in _code_that_runs(examination.facts):
            say(line)
    return replace(examination.job, notes=tuple(found.notes), doubts=tuple(found.doubts))


def _is_trusted(loaded: LoadedConfig, flag: bool) -> bool:
    """Whether the model's own code may run, in training, for replay rows and in the evaluation."""
    return flag or "remote-code" in loaded.source.ignored


def _code_that_runs(facts: Facts) -> Iterator[str]:
    if facts.directory is not None:
        code = own_code(facts.directory)
        yield from described(code) if code else ()
    elif facts.model is not None and not facts.model.local:
        yield f"{FLAG}: {facts.model.name} is not on this machine yet, so the code that it may bring cannot be shown"


def _with_code(problem: Problem, code: str) -> Problem:
    """As a finding is shown: with the code that `# sft-kit: ignore` takes."""
    return replace(problem, message=f"{problem.message} [{problem.code or code}]")


def examine(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    ask_hub: bool = True,
    evaluate: bool = True,
    into: Path | None = None,
    trust: bool = False,
) -> Examination:
    """Look at everything about a run that can be known before it starts.

    Raises ConfigError for a file that is no config, MissingError without ms-swift; all else is in the result.
    """
    gc.freeze()  # what is imported stays: the collector need not look through it again and again (30 ms)
    installation = find_installation()
    loaded = read_config(path, overrides, SwiftKeys(installation))
    config, found = loaded.config, Found.of(loaded)
    environ = {**os.environ, **config.launch.env}
    hugging_face = uses_hugging_face(config.use_hf, environ)
    processes = processes_of(environ, config.launch.gpus)
    model = _model(installation, found, environ, hugging_face=hugging_face, ask_hub=ask_hub)
    check_sources(found, environ, hugging_face=hugging_face, ask_hub=ask_hub and not found.missing)
    _check_checkpoints(found)
    _note_what_has_no_effect(found)
    identity = _identity(found)
    batch = _batch(found, processes)
    folder = _folder(model, environ, hugging_face=hugging_face)
    lengths = lengths_for(installation, config, model, folder)
    files = read_data(found, installation, identity, lengths, MEASURED_ROWS)
    rows_a_step = (batch.micro_batch or 1) * (batch.accumulation or 1) * processes
    sources = mix_of(config, files)
    check_mix(found, sources, (identity is not None) + bool(config.replay))
    data, ignored = data_findings(found, files, sources, rows_a_step)
    _check_output(found, into)
    if identity is not None and evaluate and config.save_strategy == "no":
        fix = "save by steps or epoch, or train with --no-eval"
        problem = Problem("", "no leaves nothing to evaluate", fix, "save-no-with-eval")
        found.add(found.problems, "save_strategy", problem)
    if config.identity is None and config.eval != EvalSection() and "identity" not in loaded.wrong:
        problem = Problem("", "scores an identity, but there is none", "add identity: or remove it", "bad-section")
        found.add(found.problems, "eval", problem)
    _check_questions(found)
    facts = Facts(
        config,
        installation,
        look(environ, output_dir=into or user_path(config.output_dir)),
        model,
        read_directory(folder) if folder else None,
        batch,
        processes,
        hugging_face,
        _trained_rows(sources),
        _validation_rows(config, files),
        tuple(length for file in files if file.key != "val_dataset" and file.tokens for length in file.tokens.lengths),
    )
    plan = plan_run(facts)
    rules = _placed(found, (*config_findings(facts), *model_findings(facts), *plan.findings))
    machine = _placed(found, environment_findings(facts))
    env = _environment(found, environ, facts.environment.gpus, hugging_face=hugging_face)
    trusted = _is_trusted(loaded, trust)
    env = {**env, **({} if trusted else without_own_code())}
    skip = {*loaded.source.ignored, *(["remote-code"] if trusted else [])}
    job = None
    if model is not None and not found.problems:
        job = Job(loaded, installation, model, identity, plan, processes, {**plan.env, **env}, tuple(files))
    return Examination(
        found,
        facts,
        tuple(finding for finding in rules if finding.code not in skip),
        tuple(finding for finding in machine if finding.code not in skip),
        data,
        (*ignored, *(finding for finding in (*rules, *machine) if finding.code in skip)),
        tuple(files),
        tuple(sources),
        plan,
        job,
    )


def _folder(model: BaseModel | None, environ: Mapping[str, str], *, hugging_face: bool) -> Path | None:
    """Where the model's files lie on this machine; None where they do not, or will be made anew."""
    if model is None:
        return None
    folder = (
        Path(model.source) if model.local else cached_model(model.source, hugging_face=hugging_face, environ=environ)
    )
    if folder is None or not folder.is_dir() or (is_own_model(model.name) and not is_whole(folder)):
        return None
    return folder


def _trained_rows(sources: Sequence[Source]) -> int | None:
    counts = [source.trained for source in sources]
    return None if None in counts else sum(filter(None, counts))


def _validation_rows(config: RunConfig, files: Sequence[DataFile]) -> int | None:
    """Rows to validate on: those of `val_dataset`, else those that ms-swift holds out of each source."""
    if config.val_dataset:
        own = [file for file in files if file.key == "val_dataset"]
        return sum(file.kept for file in own) if len({file.index for file in own}) == len(config.val_dataset) else None
    ratio = held_out_ratio(config)
    if not ratio:
        return 0
    counts = [source.trained for source in user_sources(config, files)]
    return None if None in counts else sum(max(int(count * ratio), 1) for count in counts if count)


def _placed(found: Found, findings: Iterable[Finding]) -> list[Finding]:
    """Findings of dotted config keys at their places; those about a key that is wrong anyway are left out."""
    placed = []
    for finding in findings:
        key = finding.place
        top = key.split(".")[0]
        if top in found.loaded.wrong:
            continue
        if top in RunConfig.model_fields or top in (found.loaded.config.model_extra or {}):
            place = found.loaded.source.place(_location(key))
            finding = replace(finding, place=place, message=f"{key}: {finding.message}")
        elif not key:
            finding = replace(finding, place=found.loaded.source.name)
        placed.append(finding)
    return list(dict.fromkeys(placed))


def _location(key: str) -> tuple[str | int, ...]:
    """`dataset.0` as the config's source knows it: a number is the index in a list."""
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


def _check_output(found: Found, into: Path | None) -> None:
    config = found.loaded.config
    with found.at("output_dir", "output-dir"):
        if into is not None:
            check_output_dir(into, versioned=True)  # it holds a run, as it should
            return
        if not config.output_dir.strip():
            raise UsageError(Problem("", "is empty", "give a directory, such as output"))
        check_output_dir(user_path(config.output_dir), versioned=config.add_version is not False)


def _environment(
    found: Found, environ: Mapping[str, str], gpus: Sequence[Gpu], *, hugging_face: bool
) -> Mapping[str, str]:
    """What is added to ms-swift's environment."""
    config = found.loaded.config
    env = dict(config.launch.env)
    if config.hub_token:
        env[SECRET_VARIABLES[hugging_face]] = config.hub_token
    if config.use_hf:
        env["USE_HF"] = "1"  # the evaluation loads the base by its id, and an adapter's args.json does not say where
    wanted = 0 if config.use_cpu or not config.launch.gpus else processes_here(environ, config.launch.gpus)
    with found.at("launch.gpus", "too-few-gpus"):
        env = {**gpu_environment(wanted, environ, gpus), **env}
    return env


def _model(
    installation: Installation, found: Found, environ: Mapping[str, str], *, hugging_face: bool, ask_hub: bool
) -> BaseModel | None:
    config = found.loaded.config
    if not config.model:
        if "model" not in found.loaded.wrong:
            fix = "add `model: Qwen/Qwen2.5-7B-Instruct` or another"
            found.add(found.problems, "model", Problem("", "missing", fix, "missing-model"))
        return None
    with found.at("model", "bad-model"):
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
        with found.at("adapters", "no-adapter", index=index):
            folder = user_path(name)
            if folder.is_dir() and kind_of(folder) == "adapter":
                refuse_traps(folder)
            elif folder.exists() or looks_like_path(name) or not is_hub_id(name):
                message = f"{name}: no adapter there (no adapter_config.json)"
                raise UsageError(Problem("", message, f"give {_last_checkpoint(name) or 'a checkpoint-N folder'}"))
            elif config.swift_values().get("load_args"):
                message = f"{name}: load_args would run the plugins that its args.json names, unseen"
                raise UsageError(
                    Problem("", message, "leave load_args out, or download it and give the folder", "plugins")
                )
    resumed = config.resume_from_checkpoint
    with found.at("resume_from_checkpoint", "no-checkpoint"):
        if resumed and not is_complete(user_path(resumed)):
            message = f"{resumed}: no complete checkpoint there"
            raise UsageError(
                Problem("", message, f"give {_last_checkpoint(resumed) or 'a checkpoint-N folder of a run'}")
            )
    if (
        isinstance(config.deepspeed, str)
        and config.deepspeed.endswith(".json")
        and not user_path(config.deepspeed).is_file()
    ):
        problem = Problem("", f"{config.deepspeed}: no such file", "zero2 and zero3 need none", "no-such-path")
        found.add(found.problems, "deepspeed", problem)


def _last_checkpoint(run: str) -> str:
    """The last complete checkpoint in the folder `run`, where it is the folder of a run."""
    complete = [each.path for each in checkpoints(user_path(run)) if each.complete]
    return str(Path(run) / complete[-1].name) if complete else ""


def _check_questions(found: Found) -> None:
    """The user's own questions are read now, and not after hours of training."""
    file = found.loaded.config.eval.file
    if file and not user_path(file).is_file():
        found.add(found.problems, "eval.file", Problem("", f"{file}: no such file", code="no-such-path"))
    elif file:
        from sft_kit.evaluate.probes import user_probes  # the patterns of evaluation take 0.05 s to import

        with found.at("eval.file", "bad-section"):
            user_probes(user_path(file))


def _note_what_has_no_effect(found: Found) -> None:
    config = found.loaded.config
    fills = any("self-cognition" in entry for entry in config.dataset or [])
    for key in ("model_name", "model_author"):
        if getattr(config, key) and not fills:
            message = "only fills placeholders of swift/self-cognition, which is not in dataset"
            found.add(found.doubts, key, Problem("", message, "name the model under identity:", "no-effect"))


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
        place = problem.place
        problem = Problem("", problem.message, problem.fix, "batch-does-not-divide")
        found.add(found.problems, place, problem)
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
        wrong = finding.severity == "error"
        refused = refused or wrong
        code = "bad-names" if wrong else "doubtful-names"
        problem = Problem("", finding.message, finding.fix, code)
        found.add(found.problems if wrong else found.doubts, f"identity.{finding.key}", problem)
    if refused:
        return None
    with found.at("identity", "bad-section"):
        data = identity_data(section)
        for note in data.notes:
            found.add(found.notes, "identity", Problem("", note))
        return data
    return None
