"""The order of a training run: data, ms-swift, loss plot, evaluation, report, with the manifest right at every exit.

Reads top to bottom. What each step means is owned elsewhere: `prepare` decides, `process` supervises, `evaluation`
asks models, `evaluate` scores, `reporting` writes.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sft_kit.config.load import resolved_yaml
from sft_kit.config.schema import RunConfig
from sft_kit.console import TrainingView, say, say_words, warn
from sft_kit.data.text import shell_word
from sft_kit.errors import GateError, InterruptedRun, MsSwiftError, Problem, SftKitError, UsageError
from sft_kit.identity.generate import read_held_out
from sft_kit.models.catalog import is_own_model, resolve_own_model
from sft_kit.msswift.checkpoints import checkpoints, is_complete
from sft_kit.msswift.command import Command
from sft_kit.msswift.logs import read_steps
from sft_kit.plan.batch import BatchPlan
from sft_kit.report.page import Report
from sft_kit.report.plot import loss_svg
from sft_kit.resources import user_path
from sft_kit.run.aside import set_aside
from sft_kit.run.directory import Manifest, RunDirectory, Status, check_output_dir, create_run, now_iso, write_atomic
from sft_kit.run.disk import as_not_written, with_room
from sft_kit.run.evaluation import Identity, evaluate, models_of, plan
from sft_kit.run.follow import Following
from sft_kit.run.job import Job, OwnData
from sft_kit.run.mix import mix_line, mix_values
from sft_kit.run.own_data import keep_edited, write_own_data
from sft_kit.run.process import Exit, start, supervise
from sft_kit.run.provenance import data_digests, versions
from sft_kit.run.reporting import put_by_report, run_report, write_report
from sft_kit.run.results import results_of, way_on
from sft_kit.run.resume import Resumption
from sft_kit.run.saved_config import portable
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import Shortage, oom_kills, shortage_of, swift_failed
from sft_kit.run.system_prompts import prompts_of
from sft_kit.secrets import hide_in_argv, hide_in_env
from sft_kit.writes import NotWritten, flush_to_disk


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
        self.behind: NotWritten | None = None  # why the manifest on disk is not this one
        run.write(manifest)

    def update(self, **changes: Any) -> None:
        """Change the manifest and write it. Where that cannot be written now, it is with the next update: a training
        that goes well does not end for it."""
        self.manifest = replace(self.manifest, **changes)
        try:
            self.run.write(self.manifest)
        except NotWritten as error:
            if self.behind is None:
                warn(replace(error.problems[0], fix=f"{error.problems[0].fix}; what it should say is not lost yet"))
            self.behind = error
        else:
            self.behind = None

    def settle(self) -> None:
        """Write what could not be written before. Raises NotWritten where that is so still."""
        if self.behind:
            self.run.write(self.manifest)
            self.behind = None

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of this block to the manifest (written with its next update)."""
        began = time.monotonic()
        try:
            yield
        finally:
            before = self.manifest.seconds.get(step, 0.0)  # of the start that this one goes on with
            seconds = {**self.manifest.seconds, step: round(before + time.monotonic() - began, 2)}
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
            if run.recorded():  # unversioned, and another launcher was faster
                check_output_dir(run.path, versioned=False)
            _save_config(run, job, job.config)  # before the manifest: a run has both
            recorder = Recorder(run, _first_manifest(job))
            with _recording(recorder, "interrupted", "failed"):
                _train(job, run, recorder, None)
            return _prove(job, run, recorder, prove=prove)


def resume(resumption: Resumption, *, prove: bool = True) -> Outcome:
    """Go on with a run; ends as `train` does. Checkpoints that cannot be used are set aside.

    Raises UsageError also when another launcher has the run, or had it since `resumption` was prepared.
    """
    job, run = resumption.job, resumption.run
    with signals_as_interrupts():
        if is_own_model(job.model.name):
            resolve_own_model(job.model.name, say)
        with run.lock():
            if run.recorded() != resumption.recorded:
                fix = "look at it with sft-kit runs, and try again"
                raise UsageError(Problem(run.name, "another sft-kit has gone on with it just now", fix))
            for line in resumption.lines():
                say(line)
            if resumption.stage != "evaluate":
                recorder = Recorder(run, _resumed_manifest(resumption))
                with _recording(recorder, "interrupted", "failed"):
                    _go_on(resumption, recorder)
            else:
                recorder = Recorder(run, replace(resumption.before, message=""))
            return _prove(job, run, recorder, prove=prove)


def _go_on(resumption: Resumption, recorder: Recorder) -> None:
    job, run = resumption.job, resumption.run
    set_aside(run, resumption.unfit)
    if resumption.stage == "train" and resumption.before.checkpoint:
        put_by_report(run.report(), resumption.before.checkpoint)
    if resumption.stage == "finish":
        _record_success(run, recorder)
        return
    if resumption.own is None:
        keep_edited(run, resumption.before.data)
    if resumption.changes:
        _save_config(run, job, resumption.config)
    _train(job, run, recorder, resumption.own)


def _save_config(run: RunDirectory, job: Job, config: RunConfig) -> None:
    write_atomic(run.config_path, resolved_yaml(portable(config), job.loaded.source.ignored))


def _prove(job: Job, run: RunDirectory, recorder: Recorder, *, prove: bool) -> Outcome:
    if not (prove and job.identity):
        return Outcome(run, recorder.manifest, None)
    say(f"trained: {run.path}; now base and tuned model are asked the same questions")
    say(f"(if that is stopped, sft-kit eval --adapter {run.path} goes on with it)")
    with _recording(recorder, "succeeded", "succeeded"):
        report = _evaluate(job, run, recorder)
    return Outcome(run, recorder.manifest, report)


@contextmanager
def _recording(recorder: Recorder, if_interrupted: Status, if_failed: Status) -> Iterator[None]:
    """Write the status of a run whose block is left by an error, then let the error go on; what it says of a full disk
    has the numbers, and how to go on. Raises NotWritten where a block ends well and its manifest cannot say so."""

    def note(status: Status, message: str) -> None:
        run, ended = recorder.run, recorder.manifest.ended or now_iso()
        results: dict[str, Any] = {}
        with suppress(OSError):  # a disk that is gone must not hide what went wrong first
            results = results_of(run, read_steps(run.logging_jsonl), recorder.manifest.signs)
        recorder.update(**results, status=status, ended=ended, message=message, pid=None)
        if recorder.behind:
            warn(Problem(str(run.manifest_path), f"does not tell how the run ended ({status}: {message})"))

    def failed(error: SftKitError) -> SftKitError:
        told = with_room(error, recorder.run)
        note(if_failed, str(told))
        return _with_way_on(error, recorder.run) if told is error else told

    try:
        yield
    except (KeyboardInterrupt, InterruptedRun) as error:
        message = str(error) or "stopped by SIGINT"
        note(if_interrupted, message)
        fix = f"sft-kit train --resume {shell_word(str(recorder.run.path))} goes on with it"
        raise InterruptedRun(Problem(recorder.run.name, message, fix)) from None
    except SftKitError as error:
        raise failed(error) from None
    except BaseException as error:
        if isinstance(error, OSError) and (cannot := as_not_written(error, recorder.run)):
            raise failed(cannot) from error
        note(if_failed, f"internal error: {type(error).__name__}: {error}")
        raise
    try:
        recorder.settle()
    except NotWritten as error:
        raise with_room(error, recorder.run) from None


def _with_way_on(error: SftKitError, run: RunDirectory) -> SftKitError:
    """What goes on with the run, for an ms-swift that failed for a reason which may be mended."""
    if not isinstance(error, MsSwiftError) or not (how := way_on(run)):
        return error
    *others, last = error.problems
    return MsSwiftError(
        *others, replace(last, fix=f"{last.fix}; then {how}"), returncode=error.returncode, failure=error.failure
    )


def _train(job: Job, run: RunDirectory, recorder: Recorder, own: OwnData | None) -> None:
    """Train `job` on `own` rows of an earlier start, or on newly written ones."""
    if own is None:
        with recorder.timed("prepare"):
            own = write_own_data(job, run)
    mix = job.mix(own.replay_rows)
    for line in (mix_line(mix), *job.plan.lines):
        say_words(line)
    recorder.update(mix=mix_values(mix), replay=own.replay_counts)
    since = run.log.stat().st_size if run.log.exists() else 0
    with recorder.timed("train"):
        exit_, shortage = _run_attempts(job, run, recorder, own)
    recorder.update(returncode=exit_.returncode, signal=exit_.signal, pid=None)
    if not exit_.ok:
        failed = swift_failed(exit_, run.log, shortage, since=since)
        recorder.update(failure=failed.failure)
        raise failed
    _record_success(run, recorder)


def _record_success(run: RunDirectory, recorder: Recorder) -> None:
    """Last of all say so: a run that is killed before that is gone on with, one that has succeeded is not."""
    steps = read_steps(run.logging_jsonl)
    results = results_of(run, steps, recorder.manifest.signs)
    whole = [checkpoint.path for checkpoint in checkpoints(run.path) if checkpoint.complete]
    flush_to_disk([run.logging_jsonl, *whole])  # the trainer does not
    try:
        write_atomic(run.kit / "loss.svg", loss_svg(steps, title=run.name))
    except NotWritten as error:  # a picture is no reason to call a finished training failed
        warn(error.problems[0])
    recorder.update(**results, status="succeeded", ended=now_iso())


def _run_attempts(job: Job, run: RunDirectory, recorder: Recorder, own: OwnData) -> tuple[Exit, Shortage | None]:
    """Run ms-swift; where memory runs out in training, run it once more from the beginning with the next smaller plan
    (the same rows in the same order, the same effective batch and seed), unless the config says stop."""
    batch, earlier = job.plan.batch, recorder.manifest.attempts
    there = set(os.listdir(run.path))
    exit_, shortage = _attempt(job, run, recorder, own, batch)
    next_batch = next_start(shortage, job.plan.smaller, job.config.launch.on_out_of_memory)
    from_ = job.config.resume_from_checkpoint  # may be gone: save_total_limit removes the oldest
    if shortage is None or next_batch is None or (from_ and not is_complete(user_path(from_))):
        return exit_, shortage
    first = _attempt_values(batch, exit_, shortage)
    message = f"memory ran out with {batch.describe()}; starting over with {next_batch.describe()}"
    recorder.update(attempts=(*earlier, first), pid=None)
    _put_aside(run, there, message)
    fix = "the effective batch stays; launch.on_out_of_memory: stop turns this off"
    warn(Problem("", f"{message} ({shortage.message[:200]})", fix))
    exit_, shortage = _attempt(job, run, recorder, own, next_batch)
    recorder.update(attempts=(*earlier, first, _attempt_values(next_batch, exit_, shortage)))
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
    records = run.next_attempt()
    aside = records.with_suffix("")
    if run.logging_jsonl.exists() and run.logging_jsonl.name not in there:
        run.logging_jsonl.replace(records)
    made = [path for path in run.path.iterdir() if path.name not in there]
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
    following = Following(run, job.config, lambda signs: recorder.update(signs=(*recorder.manifest.signs, *signs)))
    say(f"run {run.name}: {run.path}")
    _give_back_memory()
    with start(command.argv, log=run.log, env=command.environment()) as process:
        recorder.update(status="running", started=recorder.manifest.started or now_iso(), pid=process.pid)
        recorder.update(
            versions=versions(), data=data_digests([*own_data, *job.local_data()])
        )  # while ms-swift is importing
        with TrainingView() as view:
            view.waiting("ms-swift is loading the model")
            following.started(process.pid)
            try:
                exit_ = supervise(process, tick=lambda: following.look(view))
                following.end(view, ended_well=exit_.ok)
            finally:
                following.set_aside()
    return exit_


def _evaluate(job: Job, run: RunDirectory, recorder: Recorder) -> Report:
    """Ask base and tuned model, score, and write the report."""
    section, identity = job.config.eval, job.identity
    name = recorder.manifest.checkpoint
    if identity is None or job.config.identity is None or name is None:
        raise _nothing_to_evaluate(run)
    models = models_of(run.path / name, job.installation.generation)
    # the file is what no row asks, also where another sft-kit would make other rows today
    held_out = read_held_out(run.held_out) if run.held_out.is_file() else identity.held_out
    wanted = Identity.of(job.config.identity, held_out)
    prompts = prompts_of(job.installation, models.base)
    questions = plan(section, identity.spec.languages, wanted, prompts=prompts)
    log, tokens = run.kit / "evaluate.log", section.max_new_tokens
    with recorder.timed("evaluate"):
        evaluation = evaluate(job.installation, models, questions, max_new_tokens=tokens, log=log, env=job.env)
    recorder.update(scores=evaluation.summary())
    report = run_report(evaluation, section, run, name, recorder.manifest, job.config)
    write_report(report, run.report())
    return report


def _nothing_to_evaluate(run: RunDirectory) -> SftKitError:
    if any(run.kit.glob("broken/checkpoint-*")):
        fix = "train a new run with a lower learning_rate, warmup_ratio: 0.05 or bfloat16"
        return GateError(Problem(str(run.path), "every checkpoint gives NaN (they lie in sft-kit/broken/)", fix))
    fix = "set save_strategy to steps or epoch, or train with --no-eval"
    return UsageError(Problem(str(run.path), "the run saved no checkpoint to evaluate", fix))


def _resumed_manifest(resumption: Resumption) -> Manifest:
    """The manifest as it was, its end taken back. Own rows that are to be written anew are struck out, lest a start
    that is killed before they are leaves the old ones, under a config that asks for others, as good."""
    before, now = resumption.before, now_iso()
    scores = {} if resumption.stage == "train" else before.scores  # those of another checkpoint
    own = resumption.run.data
    return replace(
        before,
        status="planned",
        ended=None,
        returncode=None,
        signal=None,
        message="",
        failure={},
        scores=scores,
        data=tuple(entry for entry in before.data if resumption.own or own not in Path(str(entry.get("path"))).parents),
        signs=resumption.signs(done_again=False),
        resumed=(*before.resumed, resumption.entry(now)),
    )


def _first_manifest(job: Job) -> Manifest:
    return Manifest(
        status="planned",
        created=now_iso(),
        config=str(Path(job.loaded.source.name).absolute()),
        model=job.model.name,
        tuner_type=job.config.tuner_type or "lora",
    )
