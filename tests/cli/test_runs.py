"""`runs` as a command: where it looks."""

from __future__ import annotations

import json
from pathlib import Path

from sft_kit.run.directory import Manifest, RunDirectory
from tests.cli.conftest import Run


def run_in(output: Path, name: str) -> None:
    run = RunDirectory(output / name)
    run.data.mkdir(parents=True)
    run.write(Manifest("succeeded", "2026-01-01T00:00:00+00:00", "config.yaml", model="m"))


def test_output_dir_is_where_runs_are_looked_for(sft_kit: Run, tmp_path: Path) -> None:
    run_in(tmp_path / "output", "v0-20260101-000000")
    run_in(tmp_path / "elsewhere", "v7-20260102-000000")

    def named(*arguments: str) -> list[str]:
        done = sft_kit("runs", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [Path(run["path"]).name for run in json.loads(done.stdout)]

    assert named() == ["v0-20260101-000000"]
    assert named("--output-dir", "elsewhere") == ["v7-20260102-000000"]
    shown = sft_kit("runs", "show", "v7", "--output-dir", "elsewhere")
    assert (shown.returncode, shown.stdout.splitlines()[0].split()[-1]) == (
        0, str(tmp_path / "elsewhere" / "v7-20260102-000000"),
    )  # fmt: skip
    assert sft_kit("runs", "show", "v7").returncode == 2
