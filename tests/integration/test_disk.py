"""A disk that is full at a checkpoint: what was whole stays whole, what is needed is said, the run goes on from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import checkpoints, why_not_resumable
from sft_kit.msswift.contents import why_not_as_written
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


@dataclass(frozen=True)
class Refused:
    real: bool
    code: int
    errors: str
    kept: bool
    left: list[str]


def test_a_report_for_which_there_is_no_room_leaves_the_old_one(smoke_run: FinishedRun, tmp_path: Path) -> None:
    """No model is loaded: what the run answered is known."""

    def evaluate_again(disk: SmallDisk) -> Refused:
        run = disk.path / smoke_run.run.name
        shutil.copytree(smoke_run.run, run, symlinks=True)
        before = contents(run)
        disk.fill()
        ended = smoke_run.cli("eval", "--adapter", str(run))
        after = contents(run)
        left = sorted(name for name in after.keys() - before.keys() if "evaluate.log" not in name)
        return Refused(disk.real, ended.returncode, ended.stderr, before.items() <= after.items(), left)

    seen = on_small_disk(tmp_path, evaluate_again, kib=12_000, files=1000)
    assert (seen.code, seen.kept, seen.left) == (5, True, []), seen.errors
    place = f"{tmp_path}/{smoke_run.run.name}/sft-kit/report."
    assert f"error: {place}" in seen.errors
    if seen.real:
        assert "cannot be written: the disk is full (it takes " in seen.errors
        assert f", and {tmp_path} has " in seen.errors


def test_a_merged_model_for_which_there_is_no_room_leaves_nothing(smoke_run: FinishedRun, tmp_path: Path) -> None:
    """Refused before it begins where that is known; else when ms-swift has found the disk full."""

    def export_twice(disk: SmallDisk) -> tuple[Refused, Refused]:
        mine = disk.path / "mine"
        mine.write_text("mine")
        out = disk.path / "new" / "merged"
        words = ("export", "--adapter", str(smoke_run.run), "--out", str(out), "--no-verify", "--yes")
        disk.fill(1_000_000)
        known = smoke_run.cli(*words)
        first = Refused(disk.real, known.returncode, known.stderr, mine.read_text() == "mine", names(disk.path))
        disk.make_room()
        if not disk.real:
            disk.fill(1_000_000)  # no file may become as large as the weights
        command = [sys.executable, "-m", "sft_kit", *words]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as exporting:
            while disk.real and exporting.poll() is None and not list(out.parent.glob(".merged.*")):
                time.sleep(0.01)
            if disk.real:
                disk.fill(500_000)
            _, errors = exporting.communicate(timeout=600)
        then = Refused(disk.real, exporting.returncode, errors, mine.read_text() == "mine", names(disk.path))
        return first, then

    known, found = on_small_disk(tmp_path, export_twice, kib=12_000, files=1000)
    if known.real:
        assert (known.code, known.kept, known.left) == (5, True, ["filler", "mine"]), known.errors
        assert f"{tmp_path}/new/merged: the exported model takes " in known.errors
        assert f", and {tmp_path} has 9" in known.errors
    assert (found.code, found.kept) == (4, True), found.errors
    assert [name for name in found.left if name != "filler"] == ["mine", "new"]


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "scheduler.pt", "adapter_model.safetensors"])
def test_what_a_loss_of_power_leaves_in_the_files_of_a_real_checkpoint_is_seen(
    name: str, smoke_run: FinishedRun, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint-2"
    shutil.copytree(smoke_run.run / "checkpoint-2", checkpoint)
    assert (why_not_resumable(checkpoint), why_not_as_written(checkpoint)) == ("", "")
    file = checkpoint / name
    written = file.read_bytes()
    half = len(written) // 2 // 4096 * 4096
    if name.endswith(".safetensors"):
        file.write_bytes(written[:half] + bytes(len(written) - half))
    elif half:
        lost = next(start for start in range(half, len(written), 4096) if any(written[start : start + 4096]))
        file.write_bytes(written[:lost] + bytes(4096) + written[lost + 4096 :])
    else:  # less than a page: lost as a whole
        file.write_bytes(bytes(len(written)))
    assert (why_not_resumable(checkpoint) or why_not_as_written(checkpoint)).startswith(f"{name} ")
    assert half == 0 or why_not_resumable(checkpoint) == ""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names(folder: Path) -> list[str]:
    """Everything below `folder`."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
