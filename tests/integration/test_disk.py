"""A disk that is full at a checkpoint: what was whole stays whole, what is needed is said, the run goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import checkpoints
from tests.integration.conftest import SMOKE, FinishedRun, run_cli
from tests.small_disk import SmallDisk, on_small_disk
from tests.weights import differences

pytestmark = pytest.mark.real

ONE_CHECKPOINT = 1700 * 1024  # takes the first one (1.0 MB and ms-swift's own files), and not the second
BEFORE_A_CHECKPOINT = 500 * 1024  # where a file cannot become larger: optimizer.pt is 640 kB


@dataclass(frozen=True)
class Seen:
    real: bool
    code: int
    errors: str
    status: str
    message: str
    whole: list[str]
    left: list[str]
    went_on: int
    said: str
    status_then: str
    adapter: bytes


def test_what_was_saved_before_the_disk_was_full_is_gone_on_from(smoke_run: FinishedRun, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    seen = on_small_disk(disk, lambda small: fill_at_the_second_checkpoint(small, tmp_path), kib=12_000, files=1000)
    assert seen.code == 4, seen.errors
    assert (seen.status, seen.left) == ("failed", [])
    assert seen.whole == (["checkpoint-1"] if seen.real else [])
    if seen.real:
        assert "a checkpoint takes 9" in seen.errors
        assert f"{disk} has " in seen.errors
        assert "goes on from checkpoint-1" in seen.errors
        assert "the disk" in seen.message
    assert seen.went_on == 0, seen.said
    assert seen.status_then == "succeeded"
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(seen.adapter)
    assert differences(kept, smoke_run.run / "checkpoint-2" / "adapter_model.safetensors") == {}


def fill_at_the_second_checkpoint(disk: SmallDisk, workdir: Path) -> Seen:
    output = disk.path / "output"
    if not disk.real:
        disk.fill(BEFORE_A_CHECKPOINT)
    keys = ("--no-eval", "--set", "save_steps=1", "--set", f"output_dir={output}")
    launcher = subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "train", str(SMOKE), *keys],
        cwd=workdir,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    while disk.real and launcher.poll() is None and not list(output.glob("v*/sft-kit/train.log")):
        time.sleep(0.01)
    if disk.real:
        disk.fill(ONE_CHECKPOINT)
    _, errors = launcher.communicate(timeout=600)
    (run,) = output.glob("v*")
    (shown,) = json.loads(run_cli("runs", "--json", "--output-dir", str(output), cwd=workdir).stdout)
    whole = [one.path.name for one in checkpoints(run) if one.complete]
    left = sorted(path.name for path in (run / "sft-kit").iterdir() if path.name.startswith((".", "reserve")))
    disk.make_room()
    again = run_cli("train", "--resume", str(run), "--no-eval", cwd=workdir)
    then = json.loads(run_cli("runs", "--json", "--output-dir", str(output), cwd=workdir).stdout)[0]["status"]
    adapter = run / "checkpoint-2" / "adapter_model.safetensors"
    return Seen(
        disk.real,
        launcher.returncode,
        errors,
        shown["status"],
        shown["message"],
        whole,
        left,
        again.returncode,
        again.stderr,
        then,
        adapter.read_bytes() if adapter.is_file() else b"",
    )
