"""The order of a training run: data, ms-swift, loss plot, evaluation, report, with the manifest right at every exit.

Reads top to bottom. What each step means is owned elsewhere: `prepare` decides, `process` supervises, `evaluation`
asks models, `evaluate` scores, `reporting` writes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from sft_kit import __version__
from sft_kit.config.load import resolved_yaml
from sft_kit.console import TrainingView, say, say_words, warn
from sft_kit.errors import InterruptedRun, Problem, SftKitError, UsageError
from sft_kit.models.catalog import is_own_model, resolve_own_model
from sft_kit.msswift.checkpoints import checkpoints
from sft_kit.msswift.command import Command
from sft_kit.msswift.logs import LogFollower, StepLog, read_steps, read_summary, trend
from sft_kit.plan.batch import BatchPlan
from sft_kit.report.page import Report
from sft_kit.report.plot import loss_svg
from sft_kit.run.directory import Manifest, RunDirectory, Status, create_run, now_iso, write_atomic
from sft_kit.run.evaluation import Identity, evaluate, models_of, plan
from sft_kit.run.job import Job, OwnData
from sft_kit.run.mix import mix_line, mix_values
from sft_kit.run.own_data import write_own_data
from sft_kit.run.process import Exit, start, supervise
from sft_kit.run.reporting import run_report, write_report
from sft_kit.run.saved_config import portable
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import Shortage, oom_kills, shortage_of, swift_failed
from sft_kit.run.system_prompts import prompts_of
from sft_kit.secrets import hide_in_argv, hide_in_env

_RECORDED_VERSIONS = ("ms-swift", "transformers", "peft", "torch", "datasets")


@dataclass(frozen=True)
class Outcome:
    """A finished run. `report` is None when there was no identity to prove, or it was not asked for."""

    run: RunDirectory
    manifest: Manifest
    report: Report | None


class Recorder:
    """Keeps the manifest of a run on disk in step with what happens."""

    def __init__(self, run: RunDirectory, manifest: Manifest) -> None:
        self.run = run
        self.manifest = manifest
        run.write(manifest)

    def update(self, **changes: Any) -> None:
        """Change the manifest and write it."""
        self.manifest = replace(self.manifest, **changes)
        self.run.write(self.manifest)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of this block to the manifest (written with its next update)."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = {**self.manifest.seconds, step: round(time.monotonic() - began, 2)}
            self.manifest = replace(self.manifest, seconds=seconds)


def train(job: Job, *, prove: bool = True) -> Outcome:
    """Run `job` from nothing to a finished run directory, evaluated if `prove`.

    Raises MsSwiftError when ms-swift fails and InterruptedRun on SIGINT, SIGTERM or SIGHUP; the manifest says so
    before this function is left, and no child process outlives it. A trained run whose evaluation fails or is
    interrupted has still succeeded: its manifest says that, and in `message` what became of the evaluation.
    """
    with signals_as_interrupts():
        if is_own_model(job.model.name):
            resolve_own_model(job.model.name, say)
        run = create_run(job.output_dir, versioned=job.versioned)
        with run.lock():
            return _train_in(job, run, prove=prove)


def _train_in(job: Job, run: RunDirectory, *, prove: bool) -> Outcome:
    recorder = Recorder(run, _first_manifest(job))
    with _recording(recorder, "interrupted", "failed"):
        _train(job, run, recorder)
    if not (prove and job.identity):
        return Outcome(run, recorder.manifest, None)
    say(f"trained: {run.path}; now base and tuned model are asked the same questions")
    say(f"(if that is stopped, sft-kit eval --adapter {run.path} goes on with it)")
    with _recording(recorder, "succeeded", "succeeded"):
        report = _evaluate(job, run, recorder)
    return Outcome(run, recorder.manifest, report)


@contextmanager
def _recording(recorder: Recorder, if_interrupted: Status, if_failed: Status) -> Iterator[None]:
    """Write the status of a run whose block is left by an error, then let the error go on."""

    def note(status: Status, message: str) -> None:
        ended = recorder.manifest.ended or now_iso()
        try:
            steps = read_steps(recorder.run.logging_jsonl)
            recorder.update(**_results(recorder.run, steps), status=status, ended=ended, message=message, pid=None)
        except OSError as error:  # a full disk must not hide what went wrong first
            warn(Problem(str(recorder.run.manifest_path), f"cannot be updated: {error.strerror}"))

    try:
        yield
    except (KeyboardInterrupt, InterruptedRun) as error:
        message = str(error) or "stopped by SIGINT"
        note(if_interrupted, message)
        raise InterruptedRun(f"{recorder.run.name}: {message}") from None
    except SftKitError as error:
        note(if_failed, str(error))
        raise
    except BaseException as error:
        note(if_failed, f"internal error: {type(error).__name__}: {error}")
        raise


def _train(job: Job, run: RunDirectory, recorder: Recorder) -> None:
    write_atomic(run.config_path, resolved_yaml(portable(job.config)))
    with recorder.timed("prepare"):
        own = write_own_data(job, run)
    mix = job.mix(own.replay_rows)
    for line in (mix_line(mix), *job.plan.lines):
        say_words(line)
    recorder.update(mix=mix_values(mix), replay=own.replay_counts)
    with recorder.timed("train"):
        exit_, shortage = _run_attempts(job, run, recorder, own)
    steps = read_steps(run.logging_jsonl)
    recorder.update(**_results(run, steps), returncode=exit_.returncode, signal=exit_.signal, pid=None)
    if not exit_.ok:
        raise swift_failed(exit_, run.log, shortage)
    write_atomic(run.kit / "loss.svg", loss_svg(steps, title=run.name))
    recorder.update(status="succeeded", ended=now_iso())


def _run_attempts(job: Job, run: RunDirectory, recorder: Recorder, own: OwnData) -> tuple[Exit, Shortage | None]:
    """Run ms-swift; where memory runs out in training, run it once more from the beginning with the next smaller plan
    (the same rows in the same order, the same effective batch and seed), unless the config says stop."""
    batch = job.plan.batch
    there = set(os.listdir(run.path))
    exit_, shortage = _attempt(job, run, recorder, own, batch)
    next_batch = next_start(shortage, job.plan.smaller, job.config.launch.on_out_of_memory)
    if shortage is None or next_batch is None:
        return exit_, shortage
    first = _attempt_values(batch, exit_, shortage)
    message = f"memory ran out with {batch.describe()}; starting over with {next_batch.describe()}"
    recorder.update(attempts=(first,), pid=None)
    _put_aside(run, there, message)
    fix = "the effective batch stays; launch.on_out_of_memory: stop turns this off"
    warn(Problem("", f"{message} ({shortage.message[:200]})", fix))
    exit_, shortage = _attempt(job, run, recorder, own, next_batch)
    recorder.update(attempts=(first, _attempt_values(next_batch, exit_, shortage)))
    return exit_, shortage


def next_start(
    shortage: Shortage | None, smaller: Sequence[BatchPlan], wanted: Literal["smaller", "stop"]
) -> BatchPlan | None:
    """What to start over with; None where that is no help (it was not in a training step), not wanted or not there."""
    return smaller[0] if shortage and shortage.training and wanted == "smaller" and smaller else None


def _attempt(
    job: Job, run: RunDirectory, recorder: Recorder, own: OwnData, batch: BatchPlan
) -> tuple[Exit, Shortage | None]:
    command = job.command(run.path, own, batch)
    recorder.update(argv=hide_in_argv(command.argv), env=hide_in_env(command.env))
    since, kills = run.log.stat().st_size if run.log.exists() else 0, oom_kills()
    exit_ = _run_swift(job, run, recorder, command, own.files)
    return exit_, shortage_of(exit_, run.log, since=since, kills_before=kills)


def _attempt_values(batch: BatchPlan, exit_: Exit, shortage: Shortage | None) -> dict[str, Any]:
    message = shortage.message if shortage else ""
    return {**asdict(batch), "returncode": exit_.returncode, "signal": exit_.signal, "message": message}


def _put_aside(run: RunDirectory, there: Collection[str], message: str) -> None:
    """Leave nothing of a start that failed among the results, and lose nothing of it: its step records, checkpoints
    and TensorBoard files are moved. What was `there` before is not touched."""
    if run.logging_jsonl.exists() and run.logging_jsonl.name not in there:
        run.logging_jsonl.replace(run.attempt(1))
    made = [path for path in run.path.iterdir() if path.name not in there]
    aside = run.attempt(1).with_suffix("")
    for folder in (path for path in made if path.name in ("runs", "images") or path.name.startswith("checkpoint-")):
        aside.mkdir(exist_ok=True)
        folder.rename(aside / folder.name)
    with run.log.open("a", encoding="utf-8") as log:
        log.write(f"\n{'=' * 20} sft-kit: {message} {'=' * 20}\n\n")


def _give_back_memory() -> None:
    """Return what data and tokenizer took to the system: the launcher only waits from here on. glibc keeps freed pages
    (82 MB instead of 54 after a 49,000-token tokenizer); other C libraries have no such call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _run_swift(job: Job, run: RunDirectory, recorder: Recorder, command: Command, own_data: Sequence[Path]) -> Exit:
    follower = LogFollower(run.logging_jsonl)
    losses: list[float] = []
    last: StepLog | None = None

    def show(view: TrainingView, *, final: bool = False) -> None:
        nonlocal last
        for record in follower.poll():
            if record.loss is not None:
                losses.append(record.loss)
                del losses[:-200]
            last = record
            view.step(record, trend(losses))
        if final and last:
            view.step(last, trend(losses), final=True)

    say(f"run {run.name}: {run.path}")
    _give_back_memory()
    with start(command.argv, log=run.log, env=command.environment()) as process:
        recorder.update(status="running", started=recorder.manifest.started or now_iso(), pid=process.pid)
        recorder.update(
            versions=_versions(), data=_data_digests([*own_data, *job.local_data()])
        )  # while ms-swift is importing
        with TrainingView() as view:
            view.waiting("ms-swift is loading the model")
            exit_ = supervise(process, tick=lambda: show(view))
            show(view, final=True)
    return exit_


def _evaluate(job: Job, run: RunDirectory, recorder: Recorder) -> Report:
    """Ask base and tuned model, score, and write the report."""
    section, identity = job.config.eval, job.identity
    name = recorder.manifest.checkpoint
    if identity is None or job.config.identity is None or name is None:
        fix = "set save_strategy to steps or epoch, or train with --no-eval"
        raise UsageError(Problem(str(run.path), "the run saved no checkpoint to evaluate", fix))
    models = models_of(run.path / name, job.installation.generation)
    wanted = Identity.of(job.config.identity, identity.held_out)
    prompts = prompts_of(job.installation, models.base)
    questions = plan(section, identity.spec.languages, wanted, prompts=prompts)
    log, tokens = run.kit / "evaluate.log", section.max_new_tokens
    with recorder.timed("evaluate"):
        evaluation = evaluate(job.installation, models, questions, max_new_tokens=tokens, log=log, env=job.env)
    recorder.update(scores=evaluation.summary())
    report = run_report(evaluation, section, run, name, recorder.manifest, job.config)
    write_report(report, run.report())
    return report


def _results(run: RunDirectory, steps: Sequence[StepLog]) -> dict[str, Any]:
    """What the run left behind: checkpoints, steps, the last loss; `steps` are those of its log."""
    complete = [checkpoint for checkpoint in checkpoints(run.path) if checkpoint.complete]
    summary = read_summary(run.logging_jsonl)
    best = Path(str(summary.get("best_model_checkpoint") or "")).name
    losses = [record.loss for record in steps if record.loss is not None]
    return {
        "last_checkpoint": complete[-1].path.name if complete else None,
        "best_checkpoint": best if best in {checkpoint.path.name for checkpoint in complete} else None,
        "steps": summary.get("global_step") or (steps[-1].step if steps else None),
        "final_loss": losses[-1] if losses else None,
    }


def _first_manifest(job: Job) -> Manifest:
    return Manifest(
        status="planned",
        created=now_iso(),
        config=str(Path(job.loaded.source.name).absolute()),
        model=job.model.name,
        tuner_type=job.config.tuner_type or "lora",
    )


def _versions() -> dict[str, str]:
    found = {"sft-kit": __version__}
    for name in _RECORDED_VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _data_digests(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Path, bytes and SHA-256 of those `paths` that are local files."""
    digests = []
    for path in paths:
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            digests.append({"path": str(path.absolute()), "bytes": path.stat().st_size, "sha256": digest.hexdigest()})
    return digests
