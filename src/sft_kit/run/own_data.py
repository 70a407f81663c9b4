"""The data that sft-kit itself writes for a run: identity rows with their held-out questions, and replay rows."""

from __future__ import annotations

from pathlib import Path

from sft_kit.console import say
from sft_kit.data.formats import write_rows
from sft_kit.identity.generate import write_identity
from sft_kit.run.answers import replay_rows
from sft_kit.run.directory import RunDirectory
from sft_kit.run.prepare import Job


def own_data_files(job: Job, run: RunDirectory) -> list[Path]:
    """The files that `write_own_data` will write, for a dry run; the trainer gets them before the user's own."""
    files = [_identity_file(run)] if job.identity else []
    return [*files, *([_replay_file(run)] if job.config.replay else [])]


def write_own_data(job: Job, run: RunDirectory) -> list[Path]:
    """Write the files, the held-out questions beside them, and say what is in them; returns those with rows."""
    files = []
    if job.identity:
        write_identity(job.identity, _identity_file(run), "messages", run.data / "identity.held_out.jsonl")
        say(f"identity: {len(job.identity.rows)} rows, {len(job.identity.held_out)} held-out questions")
        files.append(_identity_file(run))
    if job.config.replay and _write_replay(job, run):
        files.append(_replay_file(run))
    return files


def _write_replay(job: Job, run: RunDirectory) -> int:
    wanted = job.config.replay
    languages = job.identity.spec.languages if job.identity else ("zh", "en")
    values, log = job.model_values(), run.kit / "replay.log"
    replay = replay_rows(job.installation, values, wanted, languages, log=log, env=job.env)
    write_rows(_replay_file(run), replay.rows)
    short = wanted - len(replay.rows) - replay.skipped
    notes = (
        (replay.shortened, f"{replay.shortened} cut back to their last full sentence"),
        (replay.skipped, f"{replay.skipped} without a usable answer left out"),
        (short, f"{short} fewer than asked: there are no more prompts in these languages"),
        (replay.cached, "answers from the cache"),
    )
    said = "; ".join(text for happened, text in notes if happened)
    say(f"replay: {len(replay.rows)} rows" + (f" ({said})" if said else ""))
    return len(replay.rows)


def _identity_file(run: RunDirectory) -> Path:
    return run.data / "identity.jsonl"


def _replay_file(run: RunDirectory) -> Path:
    return run.data / "replay.jsonl"
