"""A real training that hangs and goes on, and whose weights then break: it is stopped, and what is left is good."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import checkpoints
from sft_kit.msswift.logs import read_steps
from sft_kit.run.directory import RunDirectory
from sft_kit.run.stall import Limits, Stall
from sft_kit.run.watch import Sign
from tests.integration.conftest import run_cli

pytestmark = pytest.mark.real

PLUGIN = """\
import pathlib

import torch
from swift.trainers import Seq2SeqTrainer

compute_loss = Seq2SeqTrainer.compute_loss


def with_broken_weights(self, model, *args, **kwargs):
    if pathlib.Path("break").exists():
        with torch.no_grad():
            next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))
    return compute_loss(self, model, *args, **kwargs)


Seq2SeqTrainer.compute_loss = with_broken_weights
"""
CONFIG = """\
model: sft-kit/tiny-qwen2
dataset: {rows}
external_plugins: [plugin.py]
torch_dtype: float32
max_length: 64
max_steps: 100000
per_device_train_batch_size: 1
gradient_accumulation_steps: 1
logging_steps: 1
save_steps: 10
save_total_limit: 6
split_dataset_ratio: 0
dataset_num_proc: 1
dataloader_num_workers: 0
learning_rate: 1e-4
launch: {{gpus: 0}}
"""
SHORT = Limits(before_s=60, least_s=1.0, times=3, look_every_s=0.2)


def until(found: Callable[[], bool], launcher: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 120
    while not found():
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.1)


def signs_of_a_pause(run: RunDirectory) -> list[Sign]:
    """The trainer is suspended until that is told, then woken until it is told that it goes on."""
    pid = run.read().pid
    assert pid is not None
    stall, signs = Stall(pid, run.log, limits=SHORT), []
    give_up = time.monotonic() + 60
    last = read_steps(run.logging_jsonl)[-1].step
    stall.look(time.monotonic(), step=last)
    os.kill(pid, signal.SIGSTOP)
    try:
        while len(signs) < 2:
            assert time.monotonic() < give_up
            step = read_steps(run.logging_jsonl)[-1].step
            signs += stall.look(time.monotonic(), step=step if step > last else None)
            last = step
            if signs:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    return signs


def test_a_run_whose_weights_break_is_stopped_and_keeps_what_was_good(own_rows: Sequence[Path], tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG.format(rows=own_rows[0]), encoding="utf-8")
    launcher = subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "train", "config.yaml", "--yes"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        until(lambda: bool(list(tmp_path.glob("output/*/checkpoint-*/trainer_state.json"))), launcher)
        (path,) = (tmp_path / "output").iterdir()
        run = RunDirectory(path)
        hangs, goes_on = signs_of_a_pause(run)
        assert "suspended (kill -CONT wakes it)" in hangs.message and "its last line: '" in hangs.message
        assert (hangs.code, goes_on.code) == ("trainer-hangs", "trainer-goes-on")
        (tmp_path / "break").touch()
        _, told = launcher.communicate(timeout=120)
    finally:
        launcher.kill()
        launcher.wait()

    steps = read_steps(run.logging_jsonl)
    broken_from = max(step.step for step in steps if not math.isnan(step.loss or 0.0))
    manifest = run.read()
    sign = next(sign for sign in manifest.signs if sign["code"] == "nan-for-good")
    good = [each for each in checkpoints(run.path) if each.complete]
    assert (launcher.returncode, manifest.status) == (3, "failed")
    assert (
        sign["message"]
        == f"the model gives NaN since step {broken_from} (ms-swift logs a loss of 0), which never heals"
    )
    assert good and max(each.step for each in good) < broken_from
    assert f"training was stopped ({good[-1].path.name} is from before)" in manifest.message
    assert manifest.checkpoint == good[-1].path.name
    assert all(each.step >= broken_from for each in checkpoints(run.kit / "broken"))
    assert not (path / "last-checkpoint").is_symlink() or (path / "last-checkpoint").exists()
    assert "[nan-step]" in told
    shown = run_cli("runs", "show", "latest", cwd=tmp_path).stdout
    assert f"{sign['message']} [nan-for-good]" in shown
    assert json.loads(run_cli("runs", "--json", cwd=tmp_path).stdout)[0]["signs"] == list(manifest.signs)
