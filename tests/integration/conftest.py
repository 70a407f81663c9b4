"""One real training run of the tiny model, shared by every test that only looks at what a run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE = REPOSITORY / "configs" / "smoke-cpu.yaml"

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def run_cli(
    *arguments: str, cwd: Path, stdin: str | None = None, timeout_s: float = 600, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The real command in a real process; the hubs are out of reach for it."""
    return subprocess.run(
        [sys.executable, "-m", "sft_kit", *arguments],
        cwd=cwd,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})},
    )


@dataclass(frozen=True)
class FinishedRun:
    """What `sft-kit train configs/smoke-cpu.yaml` left in `workdir`."""

    workdir: Path
    run: Path
    result: subprocess.CompletedProcess[str]

    def cli(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return run_cli(*arguments, cwd=self.workdir, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    workdir = tmp_path_factory.mktemp("smoke")
    result = run_cli("train", str(SMOKE), cwd=workdir)
    assert result.returncode == 0, result.stderr
    runs = list((workdir / "output").iterdir())
    assert len(runs) == 1
    return FinishedRun(workdir, runs[0], result)


@pytest.fixture(scope="session")
def own_rows(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """A small data set of a user's own."""
    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    line = '{"messages": [{"role": "user", "content": "ping %d"}, {"role": "assistant", "content": "pong %d"}]}\n'
    path.write_text("".join(line % (n, n) for n in range(400)), encoding="utf-8")
    return [path]
