"""`runs` and `runs show`: what the manifests say, with each run's true status."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_kit.console import duration, print_table, result, result_json, say, warn
from sft_kit.data.text import shell_command
from sft_kit.errors import Problem, UsageError
from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.results import read_with_results, resumed_line, way_on
from sft_kit.run.watch import sign_lines
from sft_kit.writes import not_read


def show_runs(runs: Sequence[RunDirectory], output_dir: Path, *, as_json: bool) -> None:
    """A line for each run. What cannot be read is a warning and a line that says so, not the end of the list; in JSON,
    which is for scripts, it is only the warning."""
    read = [(run, _read(run)) for run in runs]
    if as_json:
        result_json([_values(run, manifest) for run, manifest in read if manifest])
    elif not read:
        say(f"no runs below {output_dir}/; `sft-kit train CONFIG` makes one")
    else:
        columns = ("run", "status", "steps", "loss", "identity", "time", "model")
        print_table("", columns, [_line_or_what_is_wrong(run, manifest) for run, manifest in read], whole=6)


def _read(run: RunDirectory) -> Manifest | None:
    """The manifest, without what the run left behind where only that cannot be read; why not is said."""
    try:
        try:
            return read_with_results(run)
        except OSError as error:
            warn(not_read(run.path, error).problems[0])
            return run.read()
    except UsageError as error:
        for problem in error.problems:
            warn(problem)
    return None


def _line_or_what_is_wrong(run: RunDirectory, manifest: Manifest | None) -> tuple[str, ...]:
    if manifest is not None:
        try:
            return _line(run, manifest)
        except _ODD_VALUES as error:
            warn(_damaged(run, error))
    return (run.name, "unreadable", *[""] * 5)


def show_run(run: RunDirectory, *, as_json: bool) -> None:
    """All that is known of one run."""
    manifest = read_with_results(run)
    if as_json:
        result_json(_values(run, manifest))
        return
    try:
        facts = _facts(run, manifest)
    except _ODD_VALUES as error:
        raise UsageError(_damaged(run, error)) from error
    for what, value in facts:
        if value:
            result(f"{what:<10}  {value}")


def _facts(run: RunDirectory, manifest: Manifest) -> list[tuple[str, str]]:
    return [
        ("run", str(run.path)),
        ("status", _status(manifest)),
        ("go on", way_on(run) if manifest.status in ("failed", "interrupted") else ""),
        ("created", manifest.created),
        ("config", manifest.config),
        ("model", manifest.model),
        ("steps", f"{manifest.steps or 0}" + (f", last loss {loss}" if (loss := _loss(manifest)) else "")),
        *(("resumed", f"{each['at']} {resumed_line(each)}") for each in manifest.resumed),
        *(("sign", line) for line in sign_lines(manifest.signs)),
        *_failure(manifest),
        ("checkpoint", manifest.checkpoint or "none"),
        ("time", ", ".join(f"{step} {duration(value)}" for step, value in manifest.seconds.items())),
        ("identity", _rate(manifest, "identity")),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())),
        ("data", ", ".join(f"{Path(str(entry['path'])).name} ({entry['bytes']} bytes)" for entry in manifest.data)),
        ("command", shell_command(manifest.argv)),
        ("log", str(run.log)),
        ("report", str(report) if (report := run.report().with_suffix(".html")).is_file() else ""),
    ]


def _status(manifest: Manifest) -> str:
    """What ended the run is told once: the cause of a failure has lines of its own."""
    return manifest.status + (f" ({manifest.message})" if manifest.message and not manifest.failure else "")


def _failure(manifest: Manifest) -> list[tuple[str, str]]:
    """Why ms-swift failed, what to do, and the lines of its log that say so."""
    failure = manifest.failure
    if not failure:
        return []
    lines = [("", f"| {line}") for line in failure["lines"]]
    return [("cause", failure["cause"]), ("fix", failure["fix"]), *lines]


# what a value of another kind than sft-kit writes can raise when it is shown: a manifest may have been written by hand
_ODD_VALUES = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


def _damaged(run: RunDirectory, error: Exception) -> Problem:
    return Problem(str(run.manifest_path), f"is damaged: {error}", "its checkpoints can still be used by their path")


def _line(run: RunDirectory, manifest: Manifest) -> tuple[str, ...]:
    seconds = duration(spent) if (spent := _seconds(manifest)) else ""
    steps = str(manifest.steps) if manifest.steps is not None else ""
    return (run.name, manifest.status, steps, _loss(manifest), _rate(manifest, "identity"), seconds, manifest.model)


def _seconds(manifest: Manifest) -> float:
    """What it took; of a run that goes on, what earlier starts took and the time since this one began."""
    spent = sum(manifest.seconds.values())
    if manifest.status != "running":
        return spent
    began = manifest.resumed[-1]["at"] if manifest.resumed else manifest.created
    since = datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(began)
    return (spent if manifest.resumed else 0.0) + max(0.0, since.total_seconds())


def _loss(manifest: Manifest) -> str:
    return f"{manifest.final_loss:.4g}" if manifest.final_loss is not None else ""


def _rate(manifest: Manifest, name: str) -> str:
    rate = manifest.scores.get(name)
    return f"{rate['k']}/{rate['n']}" if isinstance(rate, dict) and rate.get("n") else ""


def _values(run: RunDirectory, manifest: Manifest) -> dict[str, Any]:
    return {"run": run.name, "path": str(run.path), **asdict(manifest)}
