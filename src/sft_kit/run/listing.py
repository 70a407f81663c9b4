"""`runs` and `runs show`: what the manifests say, with each run's true status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_kit.console import duration, print_table, result, result_json, say, warn
from sft_kit.data.text import shell_command
from sft_kit.errors import Problem, UsageError
from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.results import read_with_results
from sft_kit.run.watch import sign_lines


def show_runs(runs: Sequence[RunDirectory], output_dir: Path, *, as_json: bool) -> None:
    """A line for each run; a manifest that cannot be read is a warning, not the end of the list."""
    read: list[tuple[RunDirectory, Manifest]] = []
    for run in runs:
        try:
            read.append((run, read_with_results(run)))
        except UsageError as error:
            for problem in error.problems:
                warn(problem)
    if as_json:
        result_json([_values(run, manifest) for run, manifest in read])
    elif not read:
        say(f"no runs below {output_dir}/; `sft-kit train CONFIG` makes one")
    else:
        columns = ("run", "status", "steps", "loss", "identity", "time", "model")
        lines = []
        for run, manifest in read:
            try:
                lines.append(_line(run, manifest))
            except _ODD_VALUES as error:
                warn(_damaged(run, error))
        print_table("", columns, lines, whole=6)


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
        ("status", manifest.status + (f" ({manifest.message})" if manifest.message else "")),
        ("created", manifest.created),
        ("config", manifest.config),
        ("model", manifest.model),
        ("steps", f"{manifest.steps or 0}" + (f", last loss {loss}" if (loss := _loss(manifest)) else "")),
        *(("resumed", f"{each['at']} from {each['checkpoint'] or 'the beginning'}") for each in manifest.resumed),
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
    seconds = duration(sum(manifest.seconds.values())) if manifest.seconds else ""
    steps = str(manifest.steps) if manifest.steps is not None else ""
    return (run.name, manifest.status, steps, _loss(manifest), _rate(manifest, "identity"), seconds, manifest.model)


def _loss(manifest: Manifest) -> str:
    return f"{manifest.final_loss:.4g}" if manifest.final_loss is not None else ""


def _rate(manifest: Manifest, name: str) -> str:
    rate = manifest.scores.get(name)
    return f"{rate['k']}/{rate['n']}" if isinstance(rate, dict) and rate.get("n") else ""


def _values(run: RunDirectory, manifest: Manifest) -> dict[str, Any]:
    return {"run": run.name, "path": str(run.path), **asdict(manifest)}
