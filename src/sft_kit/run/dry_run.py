"""What a run would do, without doing it."""

from __future__ import annotations

from sft_kit.console import result, say, say_words, warn
from sft_kit.run.directory import RunDirectory, next_run_path
from sft_kit.run.job import Job
from sft_kit.run.mix import mix_line
from sft_kit.run.own_data import planned_own_data


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
    for line in (mix_line(job.mix()), *job.plan.lines):
        say_words(line)
    command = job.command(run.path, planned_own_data(job, run))
    result(command.shell())
