"""The launcher is stopped in mid-training in every way there is: nothing is left running, `runs` tells the truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import SMOKE, run_cli

pytestmark = pytest.mark.real


def wait_for(path: Path, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not (path.is_file() and path.stat().st_size):
        assert time.monotonic() < give_up, f"{path} did not come"
        time.sleep(0.1)


def signals_as_a_terminal_leaves_them() -> None:
    """A test run that was started with nohup, or behind `&`, ignores these two, and so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGKILL, -9, "the launcher is gone (killed, or the machine stopped)"),
        (signal.SIGTERM, 130, "stopped by SIGTERM"),
        (signal.SIGINT, 130, "stopped by SIGINT"),
        (signal.SIGHUP, 130, "stopped by SIGHUP"),
    ],
)
def test_no_process_is_left_and_the_run_is_interrupted(
    number: signal.Signals, code: int, message: str, own_rows: Sequence[Path], tmp_path: Path
) -> None:
    endless = [
        "--set",
        "max_steps=100000",
        "--set",
        "identity=null",
        "--set",
        "eval=null",
        "--set",
        f"dataset={own_rows[0]}",
    ]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "train", str(SMOKE), "--no-eval", *endless],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=signals_as_a_terminal_leaves_them,
    )
    try:
        give_up = time.monotonic() + 120
        while not list(tmp_path.glob("output/*/logging.jsonl")):
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.1)
        (run,) = (tmp_path / "output").iterdir()
        wait_for(run / "logging.jsonl", 60)
        assert json.loads(run_cli("runs", "--json", cwd=tmp_path).stdout)[0]["status"] == "running"
        children = psutil.Process(launcher.pid).children(recursive=True)
        assert any("swift/cli/sft.py" in " ".join(child.cmdline()) for child in children)
        launcher.send_signal(number)
        began = time.monotonic()
        launcher.wait(timeout=10)
        _, alive = psutil.wait_procs(children, timeout=5 - (time.monotonic() - began))
        assert alive == []
        assert launcher.returncode == code
        (found,) = json.loads(run_cli("runs", "--json", cwd=tmp_path).stdout)
        assert (found["status"], found["message"]) == ("interrupted", message)
    finally:
        launcher.kill()
        launcher.communicate()
