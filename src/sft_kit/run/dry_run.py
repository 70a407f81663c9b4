"""What a run would do, without doing it."""

from __future__ import annotations

from sft_kit.console import result, say, say_words, warn
from sft_kit.run.directory import RunDirectory, next_run_path
from sft_kit.run.job import Job, OwnData
from sft_kit.run.mix import mix_line
from sft_kit.run.own_data import planned_own_data
from sft_kit.run.resume import Resumption


def show_dry_run(job: Job) -> None:
    """Notes and the data to be built on stderr; on stdout the one command, shell-quoted, and nothing else."""
    for note in (*job.notes, *job.doubts):
        warn(note)
    run = RunDirectory(next_run_path(job.output_dir) if job.versioned else job.output_dir.resolve())
    say(f"ms-swift {job.installation.version}; the run directory would be {run.path}")
    if job.identity:
        languages = ", ".join(job.identity.spec.languages)
        say(f"identity: {len(job.identity.rows)} rows in {languages} would be written first")
    if job.config.replay:
        say(f"replay: the base model would answer {job.config.replay} general prompts first")
    _show_command(job, run, planned_own_data(job, run))


def show_dry_resumption(resumption: Resumption) -> None:
    """The same for a run that would be gone on with; no command where there is nothing left to train."""
    job, run = resumption.job, resumption.run
    for note in (*job.notes, *job.doubts):
        warn(note)
    say(f"ms-swift {job.installation.version}")
    for line in resumption.lines():
        say(line)
    for unfit in resumption.unfit:
        say(f"{unfit.name} {unfit.why}; it would be moved to sft-kit/{unfit.folder}/")
    if resumption.stage == "train":
        _show_command(job, run, resumption.own or planned_own_data(job, run))


def _show_command(job: Job, run: RunDirectory, own: OwnData) -> None:
    for line in (mix_line(job.mix()), *job.plan.lines):
        say_words(line)
    result(job.command(run.path, own).shell())
