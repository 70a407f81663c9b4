"""The data that sft-kit itself writes for a run: identity rows with their held-out questions, and replay rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_kit import __version__
from sft_kit.console import say, warn
from sft_kit.data.formats import write_rows, write_text
from sft_kit.errors import Problem
from sft_kit.identity.generate import meta_path, write_identity
from sft_kit.run.directory import RunDirectory
from sft_kit.run.job import Job, OwnData
from sft_kit.run.provenance import is_as_recorded
from sft_kit.run.replay import Replay, replay_rows

EDITED = ".edited"
"""Behind the name of a file that somebody else has changed since it was written."""


def keep_edited(run: RunDirectory, recorded: Sequence[Mapping[str, Any]]) -> None:
    """Rename the run's own files that are not as `recorded` (entries of a manifest's `data`): they are written anew."""
    for entry in recorded:
        path = Path(str(entry.get("path")))
        if run.data in path.parents and path.is_file() and not is_as_recorded(entry):
            path.replace(path.with_name(path.name + EDITED))
            warn(Problem(path.name, f"was changed since it was written; kept as {path.name}{EDITED} and written anew"))


def planned_own_data(job: Job, run: RunDirectory) -> OwnData:
    """What `write_own_data` will write, for a dry run."""
    replay = _replay_file(run) if job.config.replay else None
    return OwnData(_identity_file(run) if job.identity else None, replay, job.config.replay)


def write_own_data(job: Job, run: RunDirectory) -> OwnData:
    """Write the files, the held-out questions and what became of each replay prompt beside them, and say it."""
    identity = _identity_file(run) if job.identity else None
    if job.identity:
        write_identity(job.identity, _identity_file(run), "messages", run.held_out)
        say(f"identity: {len(job.identity.rows)} rows, {len(job.identity.held_out)} held-out questions")
    if not job.config.replay:
        return OwnData(identity)
    counts = _write_replay(job, run)
    return OwnData(identity, _replay_file(run) if counts["rows"] else None, counts["rows"], counts)


def _write_replay(job: Job, run: RunDirectory) -> dict[str, Any]:
    wanted = job.config.replay
    languages = job.identity.spec.languages if job.identity else ("zh", "en")
    values, log = job.model_values(), run.kit / "replay.log"
    replay = replay_rows(job.installation, values, wanted, languages, log=log, env=job.env)
    counts = {
        "wanted": wanted,
        "asked": len(replay.rows) + len(replay.skipped),
        "rows": len(replay.rows),
        "shortened": replay.shortened,
        "cached": replay.cached,
        "skipped": replay.reasons,
    }
    write_rows(_replay_file(run), replay.rows)
    about = {"version": 1, "sft_kit": __version__, **counts, "languages": list(languages), **_origin(replay, job, run)}
    write_text(meta_path(_replay_file(run)), json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    say(_summary(replay, wanted))
    return counts


def _origin(replay: Replay, job: Job, run: RunDirectory) -> dict[str, Any]:
    """Who was asked, how, and what; the skipped with their answers, so that one can see why."""
    return {
        "model": {key: value for key, value in replay.model.items() if value is not None},
        "settings": dict(replay.settings),
        "ms_swift": job.installation.version,
        "file": _replay_file(run).name,
        "sha256": hashlib.sha256(_replay_file(run).read_bytes()).hexdigest(),
        "prompts": [row.messages[0].content for row in replay.rows],
        "left_out": [asdict(skipped) for skipped in replay.skipped],
    }


def _summary(replay: Replay, wanted: int) -> str:
    """`replay: 37 rows (9 cut back to their last full sentence; 11 left out: 6 no full sentence, 5 repeats itself)`"""
    asked = len(replay.rows) + len(replay.skipped)
    reasons = ", ".join(f"{count} {reason}" for reason, count in replay.reasons.items())
    notes = (
        (replay.shortened, f"{replay.shortened} cut back to their last full sentence"),
        (replay.skipped, f"{len(replay.skipped)} left out: {reasons}"),
        (wanted - asked, f"{wanted - asked} fewer than asked: there are no more prompts in these languages"),
        (replay.cached, f"{replay.cached} of {asked} answers from the cache"),
    )
    said = "; ".join(text for happened, text in notes if happened)
    return f"replay: {len(replay.rows)} rows" + (f" ({said})" if said else "")


def _identity_file(run: RunDirectory) -> Path:
    return run.data / "identity.jsonl"


def _replay_file(run: RunDirectory) -> Path:
    return run.data / "replay.jsonl"
