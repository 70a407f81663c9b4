"""`runs` and `runs show`: what the manifests say, with each run's true status."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft_kit.console import duration, print_table, result, say, warn
from sft_kit.errors import UsageError
from sft_kit.run.directory import Manifest, RunDirectory


def show_runs(runs: Sequence[RunDirectory], output_dir: Path, *, as_json: bool) -> None:
    """A line for each run; a manifest that cannot be read is a warning, not the end of the list."""
    read: list[tuple[RunDirectory, Manifest]] = []
    for run in runs:
        try:
            read.append((run, run.read()))
        except UsageError as error:
            for problem in error.problems:
                warn(problem)
    if as_json:
        result(json.dumps([_values(run, manifest) for run, manifest in read], ensure_ascii=False))
    elif not read:
        say(f"no runs below {output_dir}/; `sft-kit train CONFIG` makes one")
    else:
        columns = ("run", "status", "steps", "loss", "identity", "time", "model")
        print_table("", columns, [_line(run, manifest) for run, manifest in read], whole=6)


def show_run(run: RunDirectory, *, as_json: bool) -> None:
    """All that is known of one run."""
    manifest = run.read()
    if as_json:
        result(json.dumps(_values(run, manifest), ensure_ascii=False))
        return
    facts: list[tuple[str, str]] = [
        ("run", str(run.path)),
        ("status", manifest.status + (f" ({manifest.message})" if manifest.message else "")),
        ("created", manifest.created),
        ("config", manifest.config),
        ("model", manifest.model),
        ("steps", f"{manifest.steps or 0}" + (f", last loss {loss}" if (loss := _loss(manifest)) else "")),
        ("checkpoint", manifest.checkpoint or "none"),
        ("time", ", ".join(f"{step} {duration(value)}" for step, value in manifest.seconds.items())),
        ("identity", _rate(manifest, "identity")),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())),
        ("data", ", ".join(f"{Path(str(entry['path'])).name} ({entry['bytes']} bytes)" for entry in manifest.data)),
        ("command", shlex.join(manifest.argv)),
        ("log", str(run.log)),
        ("report", str(report) if (report := run.report().with_suffix(".html")).is_file() else ""),
    ]
    for what, value in facts:
        if value:
            result(f"{what:<10}  {value}")


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
