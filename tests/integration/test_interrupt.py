"""A launcher is stopped in mid-training: nothing is left running, `runs` tells the truth.

SIGKILL is in test_resume, Ctrl-C twice in test_process_life, every signal with a cheap command in tests/run.
"""

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_and_the_run_is_interrupted(
    number: signal.Signals, own_rows: Sequence[Path], tmp_path: Path
) -> None:
    settings = ("max_steps=100000", "identity=null", "eval=null", f"dataset={own_rows[0]}", "dataloader_num_workers=2")
    endless = [word for setting in settings for word in ("--set", setting)]
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
        assert sum("swift/cli/sft.py" in " ".join(child.cmdline()) for child in children) == 3  # and its two workers
        launcher.send_signal(number)
        began = time.monotonic()
        launcher.wait(timeout=10)
        _, alive = psutil.wait_procs(children, timeout=5 - (time.monotonic() - began))
        assert alive == []
        assert launcher.returncode == 130
        (found,) = json.loads(run_cli("runs", "--json", cwd=tmp_path).stdout)
        assert (found["status"], found["message"]) == ("interrupted", f"stopped by {number.name}")
    finally:
        launcher.kill()
        launcher.communicate()
