"""Which runs lie below an output directory, and which one a name means.

Owns the order (newest first) and what counts as a run: one that cannot be read does, so that nobody takes it for gone.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path

from sft_kit.errors import Problem, UsageError
from sft_kit.run.directory import RUN_NAME, RunDirectory, names_in
from sft_kit.writes import is_of_disk


def list_runs(output_dir: Path) -> list[RunDirectory]:
    """The runs below `output_dir` (or `output_dir` itself if it is one), newest first; those whose manifest does not
    say when they were created, or cannot be read, last. Raises UsageError where `output_dir` itself cannot be read."""
    candidates = [output_dir, *(output_dir / name for name in names_in(output_dir))]
    runs = [RunDirectory(path.resolve()) for path in candidates if _is_run(path)]
    return sorted(runs, key=_age, reverse=True)


def find_run(name: str, output_dir: Path, elsewhere: str = "--output-dir looks elsewhere") -> RunDirectory:
    """The run called `name`: `latest`, a path, a name below `output_dir`, or the start of one such as `v3`.

    Raises UsageError naming what there is, and that `elsewhere`.
    """
    if _is_run(Path(name)):
        return RunDirectory(Path(name).resolve())
    runs = list_runs(output_dir)
    if name == "latest" and runs:
        return runs[0]
    matches = [run for run in runs if run.name == name] or [run for run in runs if run.name.split("-")[0] == name]
    if matches:
        return matches[0]
    there = ", ".join(run.name for run in runs[:5]) or "none yet"
    fix = f"runs below {output_dir}: {there}; {elsewhere}"
    raise UsageError(Problem(name, "no such run", fix))


def _is_run(path: Path) -> bool:
    """Whether a run lies there: something is in the place of a manifest, or its disk does not answer, or it may not be
    looked at and has a run's name."""
    try:
        os.lstat(path / "sft-kit" / "manifest.json")
    except ValueError:  # a name with a NUL
        return False
    except OSError as error:
        hidden = error.errno == errno.EACCES and RUN_NAME.match(path.name)
        return is_of_disk(error) or bool(hidden)
    return True


def _age(run: RunDirectory) -> tuple[float, int]:
    """When a run was created (seconds since 1970; 0 when its manifest does not say) and its number."""
    number = RUN_NAME.match(run.name)
    try:
        created = datetime.datetime.fromisoformat(json.loads(run.recorded())["created"]).timestamp()
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        created = 0.0
    return created, int(number[1]) if number else -1
