"""`sft-kit eval`: what is evaluated against which base, with which identity and thresholds, and where its report goes.

Owns these decisions for a run of ours, for an adapter or a model from elsewhere, and for the run it is compared with.
Does not own the asking (`evaluation`) or the report (`reporting`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sft_kit.checks.base_model import locate_model
from sft_kit.config.load import check_source, load_config
from sft_kit.config.schema import EvalSection, RunConfig
from sft_kit.config.source import Source, apply_overrides
from sft_kit.console import say, warn
from sft_kit.errors import InterruptedRun, Problem, SftKitError, UsageError
from sft_kit.evaluate.compare import Evaluation
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import IdentitySpec, generate, parse_languages, read_held_out
from sft_kit.identity.names import LANGUAGES, Lang, check_names, raise_name_errors
from sft_kit.identity.templates import load_templates
from sft_kit.models.catalog import is_own_model
from sft_kit.msswift.hub import uses_hugging_face
from sft_kit.msswift.install import Installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.plan.gpus import gpu_environment
from sft_kit.report.against import Comparison, against, against_markdown
from sft_kit.report.page import Report
from sft_kit.run.directory import Manifest, RunDirectory, run_around, write_atomic
from sft_kit.run.evaluation import Identity, Models, Questions, evaluate, models_of, plan
from sft_kit.run.prepare import identity_data
from sft_kit.run.reporting import foreign_report, read_report, refuse_others_files, run_report, write_report
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import temporary_log
from sft_kit.run.system_prompts import prompts_of
from sft_kit.run.targets import Target, Trust, resolve_adapter, resolve_model, resolve_one


@dataclass(frozen=True)
class Asked:
    """What the command line says; None where nothing is said."""

    adapter: str | None
    model: str | None
    base: str | None
    questions: Path | None
    against: str | None
    overrides: tuple[str, ...]
    name: str | None
    author: str | None
    name_en: str | None
    author_en: str | None
    lang: str | None
    out: Path | None
    output_dir: Path
    trust: bool = False

    @property
    def names(self) -> dict[Lang, str]:
        """The model's name in each language in which there is one."""
        return _per_language(self.name, self.name_en)

    @property
    def authors(self) -> dict[Lang, str]:
        return _per_language(self.author, self.author_en)


def _per_language(text: str | None, english: str | None) -> dict[Lang, str]:
    given: dict[Lang, str | None] = {"zh": text, "en": english or text}
    return {lang: value for lang, value in given.items() if value}


@dataclass(frozen=True)
class Evaluated:
    """The report, the place of its files without their suffix, and the comparison with the run called `other`."""

    report: Report
    stem: Path
    comparison: Comparison | None = None
    other: str = ""

    def values(self) -> dict[str, Any]:
        """What report.json holds; with a comparison, `against` beside it."""
        values = self.report.to_json()
        if self.comparison:
            values["against"] = {"title": self.other, **asdict(self.comparison)}
        return values


@dataclass(frozen=True)
class _Subject:
    """One thing to evaluate. `run` and `config` are set for a checkpoint of a run of ours."""

    title: str
    models: Models
    section: EvalSection
    languages: tuple[str, ...]
    identity: Identity | None
    env: dict[str, str]
    run: RunDirectory | None = None
    config: RunConfig | None = None
    checkpoint: str = ""

    @property
    def is_best(self) -> bool:
        """Whether this is the checkpoint that the run stands for."""
        manifest = self.manifest
        return manifest is not None and self.checkpoint == manifest.checkpoint

    @property
    def manifest(self) -> Manifest | None:
        return self.run.read() if self.run else None

    @property
    def model(self) -> str:
        """What a report on it calls the model: that of the run, or the place of one from elsewhere."""
        if manifest := self.manifest:
            return manifest.model
        return str(self.models.tuned["adapters"][0] if self.models.one_load else self.models.tuned["model"])


def evaluate_command(asked: Asked, installation: Installation) -> Evaluated:
    """Evaluate, write the report, and compare if that is asked.

    Raises UsageError for what cannot be evaluated, MissingError for a base that cannot be had and MsSwiftError when a
    model cannot be loaded. Thresholds are left to the caller.
    """
    subject = _subject(
        asked, resolve_one(asked.adapter, asked.model, asked.output_dir, Trust(asked.trust)), installation
    )
    other = _other(asked, subject, installation)
    stem = _stem(asked, subject)
    with signals_as_interrupts(), _resumable():
        evaluation = _evaluate(subject, installation)
        report = _report(subject, evaluation)
        write_report(report, stem)
        if subject.run and stem == subject.run.report():
            _record_scores(subject.run, evaluation)
        if other is None:
            return Evaluated(report, stem)
        comparison = against(evaluation, _known_or_asked(other, installation))
    text = against_markdown(comparison, ours=report.title, theirs=other.title)
    write_atomic(stem.with_name(f"{stem.name}-against-{other.title.replace(' ', '-')}.md"), text)
    return Evaluated(report, stem, comparison, other.title)


@contextmanager
def _resumable() -> Iterator[None]:
    """Say of an interrupt that nothing is lost."""
    try:
        yield
    except (KeyboardInterrupt, InterruptedRun):
        raise InterruptedRun(
            "stopped; the answers so far are kept, and the same command goes on with the rest"
        ) from None


def _subject(asked: Asked, target: Target, installation: Installation) -> _Subject:
    run = _run_of(Path(target.path))
    overrides = _overrides(asked)
    if run:
        config = load_config(run.config_path, overrides, SwiftKeys(installation)).config
    else:
        config = check_source(apply_overrides(Source("--set", {}, {}), overrides)).config
    models = _models(asked, target, installation)
    identity, languages = _identity(asked, run, config)
    if identity is None and (config.eval.gate or config.eval.identity is not None):
        fix = "give --name and --author"
        raise UsageError(Problem("eval.identity", f"no identity is known for {target.path}", fix))
    gpus = 0 if config.use_cpu or not config.launch.gpus else 1
    env = {**gpu_environment(gpus, {**os.environ, **config.launch.env}), **config.launch.env, **target.env}
    title = f"{run.name}" if run else _name(target.path)
    found = _Subject(title, models, config.eval, languages, identity, env, run, config, Path(target.path).name)
    return found if not run or found.is_best else replace(found, title=f"{title} {found.checkpoint}")


def _run_of(checkpoint: Path) -> RunDirectory | None:
    """The run of ours in whose directory a checkpoint lies."""
    run = run_around(checkpoint)
    return run if run and run.config_path.is_file() else None


def _overrides(asked: Asked) -> list[str]:
    foreign = [text for text in asked.overrides if not text.strip().startswith(("eval.", "eval="))]
    if foreign:
        fix = "the training is over; set eval.KEY=VALUE"
        raise UsageError(*(Problem(f"--set {text}", "only eval can be set here", fix) for text in foreign))
    if asked.questions is None:
        return list(asked.overrides)
    return [*asked.overrides, f"eval.file={json.dumps(str(asked.questions))}"]


def _models(asked: Asked, target: Target, installation: Installation) -> Models:
    """Both models; the base is looked for before anything is loaded."""
    found = models_of(Path(target.path), installation.generation)
    if target.kind == "adapter":
        if asked.base:
            raise UsageError(Problem("--base", "is for --model", "an adapter is switched off to ask its base"))
        base = {**found.base, "model": found.base.get("model") or target.values.get("model")}
        if not base["model"]:  # an adapter of a hub, whose files are not here yet
            return Models(target.values, {"the base of": target.path})
        _look_for(str(base["model"]), base.get("use_hf"), target.path)
        return Models(target.values, base)
    told = found.base.get("model")
    if told and not asked.base and Path(str(told)).absolute() != Path(target.path).absolute():
        _look_for(str(told), found.base.get("use_hf"), target.path)
        return Models(target.values, found.base)
    name = asked.base or _base_of_card(Path(target.path))
    if not name:
        fix = "give --base ID_OR_DIR, the model that it was trained from"
        raise UsageError(Problem(target.path, "does not tell its base model", fix))
    kept = {key: found.base[key] for key in ("template", "system", "torch_dtype") if key in found.base}
    given = {key: value for key, value in resolve_model(name, Trust(asked.trust)).values.items() if value is not None}
    return Models(target.values, {**kept, **given})


def _look_for(base: str, use_hf: bool | None, trained: str) -> None:
    """Raise the error of `locate_model` for a base that cannot be had, saying whose base it is."""
    if is_own_model(base):
        return
    try:
        locate_model(base, hugging_face=uses_hugging_face(use_hf, os.environ))
    except SftKitError as error:
        problems = [replace(each, place=f"base model of {trained}") for each in error.problems]
        raise type(error)(*problems) from None


def _base_of_card(model: Path) -> str | None:
    """`base_model` of a model card, as exported models and those of hubs have one."""
    try:
        card = (model / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    named = re.search(r"\A---\n(?:.*\n)*?base_model: *([\w./-]+) *\n(?:.*\n)*?---\n", card)
    return named[1] if named else None


def _identity(asked: Asked, run: RunDirectory | None, config: RunConfig) -> tuple[Identity | None, tuple[str, ...]]:
    """Whose answers are looked for, and the languages: the command line's, else the run's."""
    if bool(asked.names) != bool(asked.authors):
        missing = "--author" if asked.names else "--name"
        raise UsageError(Problem(missing, "is missing", "an identity is a name and an author"))
    section = config.identity
    told = parse_languages(asked.lang) if asked.lang else None
    if asked.names:
        languages = told or tuple(section.languages if section else LANGUAGES)
        return _named(asked, languages), languages
    if run is None or section is None:
        return None, told or LANGUAGES
    languages = told or tuple(section.languages)
    held_out = read_held_out(run.held_out) if run.held_out.is_file() else list(identity_data(section).held_out)
    return Identity.of(section, [question for question in held_out if question.lang in languages]), languages


def _named(asked: Asked, languages: Sequence[Lang]) -> Identity:
    names, authors = ({lang: given.get(lang) or next(iter(given.values())) for lang in languages}
                      for given in (asked.names, asked.authors))  # fmt: skip
    findings = check_names(names, authors, force=True)
    raise_name_errors(findings)
    for finding in findings:
        warn(f"{finding.key} {finding.message}; {finding.fix}")
    data = generate(IdentitySpec(names, authors, tuple(languages), rows=1), load_templates(None))
    return Identity(tuple(sorted({*asked.names.values(), *asked.authors.values()})), data.held_out)


def _name(path: str) -> str:
    """What a model from elsewhere is called: its folder, with the one above where that says nothing."""
    parts = [part for part in Path(path).parts if part not in ("/", "..", "~")]
    last = parts[-1] if parts else "model"
    return "-".join(parts[-2:]) if last.startswith("checkpoint-") else last


def _stem(asked: Asked, subject: _Subject) -> Path:
    """Where the report goes; whatever else lies there stays."""
    if asked.out is None and subject.run:
        return subject.run.report(None if subject.is_best else subject.checkpoint)
    folder = (asked.out or Path(f"eval-{subject.title.replace(' ', '-')}")).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(Problem(str(folder), "is a file", "give a directory as --out"))
    stem = folder / "report"
    refuse_others_files(stem, subject.title, subject.model)
    return stem


def _evaluate(subject: _Subject, installation: Installation) -> Evaluation:
    questions = _questions(subject, installation)
    tokens = subject.section.max_new_tokens
    with temporary_log("eval") as log:
        return evaluate(installation, subject.models, questions, max_new_tokens=tokens, log=log, env=subject.env)


def _questions(subject: _Subject, installation: Installation) -> Questions:
    prompts = prompts_of(installation, subject.models.base)
    return plan(subject.section, subject.languages, subject.identity, prompts=prompts)


def _report(subject: _Subject, evaluation: Evaluation) -> Report:
    manifest = subject.manifest
    if subject.run and manifest and subject.config:
        report = run_report(evaluation, subject.section, subject.run, subject.checkpoint, manifest, subject.config)
        return replace(report, title=subject.title)
    facts = {"model": subject.model, "base": str(subject.models.base.get("model") or "")}
    return foreign_report(evaluation, subject.section, subject.title, facts)


def _record_scores(run: RunDirectory, evaluation: Evaluation) -> None:
    """The manifest of a finished run tells its newest scores; one that trains is left to its own launcher."""
    if not run.locked():
        with run.lock():
            run.write(replace(run.read(), scores=evaluation.summary()))


def _other(asked: Asked, subject: _Subject, installation: Installation) -> _Subject | None:
    """The run that is compared with, asked what `subject` is asked."""
    if asked.against is None:
        return None
    plain = replace(asked, base=None, questions=None, overrides=(), lang=None)
    plain = replace(plain, name=None, author=None, name_en=None, author_en=None)
    found = _subject(plain, resolve_adapter(asked.against, asked.output_dir, Trust(asked.trust)), installation)
    if found.run is None:
        raise UsageError(Problem(asked.against, "is no run of sft-kit", "`sft-kit runs` lists the runs"))
    return replace(found, section=subject.section)


def _known_or_asked(other: _Subject, installation: Installation) -> Evaluation:
    """The other run's report where it answers the same questions, else its answers to them."""
    known = read_report(other.run.report(None if other.is_best else other.checkpoint)) if other.run else None
    if known and dict(known.facts).get("checkpoint") != other.checkpoint:  # the run went on after its report
        known = None
    wanted = {_key(probe) for probe in _questions(other, installation).probes}
    if known and wanted <= {_key(pair.probe) for pair in known.evaluation.pairs}:
        return known.evaluation
    say(f"now the same of {other.title}")
    return _evaluate(other, installation)


def _key(probe: Probe) -> tuple[Any, ...]:
    return probe.kind, probe.context, probe.system, probe.turns, probe.question
