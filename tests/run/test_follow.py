"""What a training that is being followed shows, records and leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

from sft_kit.config.schema import LaunchSection, RunConfig
from sft_kit.console import TrainingView
from sft_kit.errors import ExitCode, GateError
from sft_kit.run.directory import RunDirectory
from sft_kit.run.follow import Following

TENSORS = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "v0-20260101-000000")
    run.kit.mkdir(parents=True)
    for step in (2, 4, 6):
        checkpoint = run.path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "adapter_config.json").write_text("{}", encoding="utf-8")
        (checkpoint / "trainer_state.json").write_text("{}", encoding="utf-8")
        (checkpoint / "adapter_model.safetensors").write_bytes(len(TENSORS).to_bytes(8, "little") + TENSORS + bytes(4))
    (run.path / "last-checkpoint").symlink_to("checkpoint-6")
    return run


def log(run: RunDirectory, *steps: tuple[int, float, float], rate: float = 1e-4) -> None:
    """Rows of step, loss and gradient norm."""
    with run.logging_jsonl.open("a", encoding="utf-8") as file:
        for step, loss, norm in steps:
            row: dict[str, Any] = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "token_acc": 0.0}
            file.write(json.dumps({**row, "global_step/max_steps": f"{step}/99"}) + "\n")


GOOD = [(step, 2.0, 1.0) for step in range(1, 5)]
DEAD = [(step, 0.0, float("nan")) for step in range(5, 12)]


def following(run: RunDirectory, told: list[dict[str, Any]], on_nan: Literal["stop", "warn"] = "stop") -> Following:
    config = RunConfig(launch=LaunchSection(on_nan=on_nan), lr_scheduler_type="constant", learning_rate=1e-4)
    return Following(run, config, told.extend)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.startswith(("checkpoint", "last")))


def test_nan_for_good_ends_the_training_and_names_the_checkpoint_from_before(run: RunDirectory) -> None:
    told: list[dict[str, Any]] = []
    follow = following(run, told)
    log(run, *GOOD, *DEAD)
    with TrainingView() as view, pytest.raises(GateError) as raised:
        follow.look(view)
    follow.set_aside()
    assert raised.value.exit_code == ExitCode.GATE
    assert str(raised.value) == (
        "step 9: the model gives NaN since step 4 (ms-swift logs a loss of 0), which never heals; training was stopped "
        "(checkpoint-2 is from before); in a new run (a resumed one keeps its rate): a lower learning_rate, "
        "warmup_ratio: 0.05, bfloat16; launch.on_nan: warn goes on all the same"
    )
    assert [sign["code"] for sign in told] == ["nan-step", "nan-for-good"]
    assert names(run.path) == ["checkpoint-2", "last-checkpoint"]
    assert names(run.kit / "broken") == ["checkpoint-4", "checkpoint-6"]
    assert (run.path / "last-checkpoint").resolve().name == "checkpoint-2"


def test_a_training_may_go_on_all_the_same(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[dict[str, Any]] = []
    follow = following(run, told, "warn")
    log(run, *GOOD, *DEAD)
    with TrainingView() as view:
        follow.look(view)
        follow.end(view, ended_well=True)
    follow.set_aside()
    assert [sign["code"] for sign in told] == ["nan-step", "nan-for-good"]
    assert names(run.path) == ["checkpoint-2", "last-checkpoint"]
    shown = capsys.readouterr().err
    assert "step 11/99  loss nan" in shown and "[nan-for-good]" in shown


@pytest.mark.parametrize(("ended_well", "codes"), [(True, ["nan-step", "nan-for-good"]), (False, ["nan-step"])])
def test_nan_at_the_end_is_a_failure_of_a_training_that_ended_well(
    ended_well: bool, codes: list[str], run: RunDirectory
) -> None:
    told: list[dict[str, Any]] = []
    follow = following(run, told)
    log(run, *GOOD, *DEAD[:3])
    with TrainingView() as view:
        try:
            follow.end(view, ended_well=ended_well)
        except GateError:
            assert ended_well
    assert [sign["code"] for sign in told] == codes


def test_the_rows_of_an_earlier_start_are_past(run: RunDirectory) -> None:
    log(run, *GOOD, *DEAD)
    told: list[dict[str, Any]] = []
    follow = following(run, told)
    log(run, *((step, 2.0 - step / 100, 1.0) for step in range(5, 12)))
    with TrainingView() as view:
        follow.look(view)
        follow.end(view, ended_well=True)
    follow.set_aside()
    assert told == []
    assert names(run.path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "last-checkpoint"]


def test_the_schedule_is_that_of_the_config(run: RunDirectory) -> None:
    told: list[dict[str, Any]] = []
    follow = following(run, told)
    log(run, *GOOD, rate=5e-5)
    with TrainingView() as view:
        follow.look(view)
    assert [sign["code"] for sign in told] == ["wrong-learning-rate"]


def test_a_checkpoint_is_on_the_disk_when_the_training_has_ended_well(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    follow = following(run, [])
    new = run.path / "checkpoint-8"
    shutil.copytree(run.path / "checkpoint-6", new)
    with TrainingView() as view:
        follow.look(view)
        follow.end(view, ended_well=True)
    assert sorted(flushed) == sorted(map(str, new.iterdir()))
