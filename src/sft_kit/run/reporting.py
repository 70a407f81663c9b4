"""From an evaluation and what is known of the training to a report, and to its three files.

Owns which facts a report gets and where its files lie. Does not own what a report looks like (`report`), nor what falls
short (`evaluate.gate`) and what to do about it (`evaluate.advice`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from sft_kit.config.schema import EvalSection, RunConfig
from sft_kit.console import duration
from sft_kit.errors import GateError, Problem, UsageError
from sft_kit.evaluate.advice import Training, advise
from sft_kit.evaluate.compare import Evaluation
from sft_kit.evaluate.gate import USUAL, Thresholds, judge
from sft_kit.msswift.checkpoints import checkpoints, read_json
from sft_kit.msswift.command import Command
from sft_kit.msswift.logs import StepLog, read_steps
from sft_kit.report.html import html
from sft_kit.report.markdown import markdown
from sft_kit.report.page import Report
from sft_kit.run.directory import Manifest, RunDirectory, now_iso, write_atomic
from sft_kit.run.results import resumed_line
from sft_kit.run.watch import sign_lines

SUFFIXES = ("json", "md", "html")


def run_report(
    evaluation: Evaluation,
    section: EvalSection,
    run: RunDirectory,
    checkpoint: str,
    manifest: Manifest,
    config: RunConfig,
) -> Report:
    """The report on the `checkpoint` (its folder's name) of a run of ours."""
    steps = read_steps(run.logging_jsonl)
    taken = next((one.step for one in checkpoints(run.path) if one.path.name == checkpoint), manifest.steps)
    until = [step for step in steps if taken is None or step.step <= taken]
    training = _training(run, manifest, config, until, taken)
    shortfalls = tuple(judge(evaluation, thresholds(section)))
    facts = {
        "model": manifest.model,
        "checkpoint": checkpoint,
        "steps": _steps(training, manifest),
        "resumed": "; ".join(map(resumed_line, manifest.resumed)),
        "signs": "; ".join(sign_lines(manifest.signs)),
        "time": ", ".join(f"{step} {duration(seconds)}" for step, seconds in manifest.seconds.items()),
        "ms-swift": str(manifest.versions.get("ms-swift", "")),
        "sft-kit": str(manifest.versions.get("sft-kit", "")),
    }
    return Report(
        title=run.name,
        evaluation=evaluation,
        created=now_iso(),
        facts=_given(facts),
        command=Command(manifest.argv, manifest.env).shell() if manifest.argv else "",
        training=training,
        shortfalls=shortfalls,
        advice=tuple(advise(evaluation, training, thresholds(section))),
        loss=tuple(steps),
        mix=tuple(manifest.mix),
    )


def foreign_report(evaluation: Evaluation, section: EvalSection, title: str, facts: Mapping[str, str]) -> Report:
    """The report on a model whose training is not known to us."""
    return Report(
        title=title,
        evaluation=evaluation,
        created=now_iso(),
        facts=_given(facts),
        shortfalls=tuple(judge(evaluation, thresholds(section))),
        advice=tuple(advise(evaluation, None, thresholds(section))),
    )


def write_report(report: Report, stem: Path) -> None:
    """Write `<stem>.json`, `.md` and `.html`, each whole or not at all."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = (json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n", markdown(report), html(report))
    for suffix, text in zip(SUFFIXES, texts, strict=True):
        # a lone surrogate of an answer becomes a question mark: no file may fail for it
        write_atomic(_file(stem, suffix), text.encode("utf-8", "replace").decode())


def put_by_report(stem: Path, checkpoint: str) -> None:
    """Name the report after the `checkpoint` that it is on, so that what is trained from there has none yet."""
    for suffix in reversed(SUFFIXES):  # the HTML first: where it is missing, the evaluation is to be done
        with suppress(FileNotFoundError):
            _file(stem, suffix).replace(stem.with_name(f"{stem.name}-{checkpoint}.{suffix}"))


def read_report(stem: Path) -> Report | None:
    """The report of `write_report`; None where there is none, or one of another schema."""
    try:
        return Report.from_json(read_json(_file(stem, "json")))
    except UsageError:
        return None


def refuse_others_files(stem: Path, title: str, model: str) -> None:
    """Raise UsageError where writing the report `title` on `model` would overwrite anything else."""
    there = [file for suffix in SUFFIXES if (file := _file(stem, suffix)).exists()]
    known = read_report(stem) if there else None
    if there and (known is None or (known.title, dict(known.facts).get("model")) != (title, model)):
        fix = "give another --out, or remove it"
        raise UsageError(*(Problem(str(file), f"is there and is not a report on {title}", fix) for file in there))


def raise_if_missed(report: Report) -> None:
    """Raise GateError (exit 3) when a threshold that counts is missed."""
    missed = [shortfall for shortfall in report.shortfalls if shortfall.enforced]
    if missed:
        raise GateError(*(Problem(f"eval.{short.measure}", f"{short.got}, wanted {short.wanted}") for short in missed))


def _file(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}.{suffix}")


def _given(facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((what, value) for what, value in facts.items() if value)


def thresholds(section: EvalSection) -> Thresholds:
    """Those of the config that count: the written ones and, with `gate`, the usual ones for the others."""
    written = {field.name: getattr(section, field.name) for field in fields(Thresholds)}
    usual = {name: getattr(USUAL, name) if section.gate else None for name in written}
    return Thresholds(**{name: usual[name] if value is None else value for name, value in written.items()})


def _steps(training: Training, manifest: Manifest) -> str:
    """Those that the evaluated checkpoint took, and the loss it had then."""
    if training.final_loss is None:
        return ""
    of = f" of {manifest.steps}" if training.steps != manifest.steps else ""
    return f"{training.steps}{of}, last loss {training.final_loss:.4g}"


def _training(
    run: RunDirectory, manifest: Manifest, config: RunConfig, steps: Sequence[StepLog], taken: int | None
) -> Training:
    """How a checkpoint was trained after `taken` steps, of which `steps` are logged."""
    told = read_json(run.path / "args.json")  # ms-swift's defaults, too
    mix = {str(source.get("name")): source for source in manifest.mix}
    identity, replay = mix.get("identity", {}), mix.get("replay", {})
    epochs = next((step.epoch for step in reversed(steps) if step.epoch is not None), None)
    repeats = identity.get("repeats")
    full = config.tuner_type == "full"
    others = [source.get("trained") for name, source in mix.items() if name not in ("identity", "replay")]
    return Training(
        steps=taken,
        epochs=epochs,
        learning_rate=config.learning_rate or told.get("learning_rate"),
        lora_rank=None if full else config.lora_rank or told.get("lora_rank"),
        identity_rows=identity.get("rows"),
        identity_share=identity.get("share"),
        identity_repeats=repeats * epochs if repeats is not None and epochs is not None else None,
        replay_rows=replay.get("rows", 0),
        other_rows=sum(filter(None, others)) if None not in others else None,
        final_loss=next((step.loss for step in reversed(steps) if step.loss is not None), manifest.final_loss),
        max_steps=config.max_steps if config.max_steps and config.max_steps > 0 else None,
        system_share=config.identity.system_share if config.identity else None,
        languages=tuple(config.identity.languages) if config.identity else (),
        full=full,
    )
