"""Two launches at once, and an impatient Ctrl-C, with the real ms-swift. More of the lock: tests/run/test_lock.py."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from sft_kit.run.directory import RunDirectory
from tests.integration.conftest import SMOKE
from tests.integration.test_interrupt import signals_as_a_terminal_leaves_them, wait_for

pytestmark = pytest.mark.real


@contextlib.contextmanager
def training(rows: Path, where: Path) -> Iterator[subprocess.Popen[str]]:
    """A launch into `where`/output that goes on until it is stopped."""
    settings = ["max_steps=100000", "identity=null", "eval=null", "add_version=false", f"dataset={rows}"]
    command = [sys.executable, "-m", "sft_kit", "train", str(SMOKE), "--no-eval"]
    with subprocess.Popen(
        [*command, *(word for setting in settings for word in ("--set", setting))],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=signals_as_a_terminal_leaves_them,
    ) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


def test_of_two_launches_into_one_unversioned_directory_one_runs_and_ctrl_c_twice_ends_it_in_130(
    own_rows: Sequence[Path], tmp_path: Path
) -> None:
    with training(own_rows[0], tmp_path) as first, training(own_rows[0], tmp_path) as second:
        give_up = time.monotonic() + 120
        while all(launcher.poll() is None for launcher in (first, second)):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        loser, winner = (first, second) if first.poll() is not None else (second, first)
        _, errors = loser.communicate()
        assert (loser.returncode, winner.poll()) == (2, None)
        assert "already holds a run" in errors
        wait_for(tmp_path / "output" / "sft-kit" / "train.log", 120)
        children = psutil.Process(winner.pid).children(recursive=True)
        assert children
        winner.send_signal(signal.SIGINT)
        time.sleep(0.03)
        winner.send_signal(signal.SIGINT)
        winner.communicate(timeout=20)
        assert winner.returncode == 130
        assert psutil.wait_procs(children, timeout=0)[1] == []
    manifest = RunDirectory(tmp_path / "output").read()
    assert (manifest.status, manifest.message) == ("interrupted", "stopped by SIGINT")
