"""Checkpoints of a model that gives NaN, where the launcher was killed before it could move them: nobody takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_kit.errors import UsageError
from sft_kit.run.aside import sort_out_now
from sft_kit.run.directory import Manifest, RunDirectory, now_iso
from sft_kit.run.disk import room_problem
from sft_kit.run.results import read_with_results
from sft_kit.run.targets import Trust, resolve_adapter, resolve_model
from sft_kit.run.watch import FATAL

TENSORS = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
NAN = float("nan")


def row(step: int, loss: float, norm: float) -> str:
    values: dict[str, Any] = {"loss": loss, "grad_norm": norm, "token_acc": 0.0, "learning_rate": 1e-4}
    return json.dumps({**values, "global_step/max_steps": f"{step}/99"}) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Checkpoints 2, 4, 6 and 8; the last one was cut off; the model gives NaN since step 4."""
    run = RunDirectory(tmp_path / "v0-20260101-000000")
    run.kit.mkdir(parents=True)
    for step in (2, 4, 6, 8):
        checkpoint = run.path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "adapter_config.json").write_text("{}", encoding="utf-8")
        (checkpoint / "args.json").write_text('{"model": "owner/base"}', encoding="utf-8")
        (checkpoint / "adapter_model.safetensors").write_bytes(len(TENSORS).to_bytes(8, "little") + TENSORS + bytes(4))
        if step < 8:
            (checkpoint / "trainer_state.json").write_text("{}", encoding="utf-8")
    rows = [row(step, 2.0, 1.0) for step in range(1, 5)] + [row(step, 0.0, NAN) for step in range(5, 12)]
    run.logging_jsonl.write_text("".join(rows), encoding="utf-8")
    run.write(Manifest("running", now_iso(), "config.yaml"))
    return run


def test_what_is_good_and_what_is_not_is_told_apart_by_log_and_files(run: RunDirectory) -> None:
    good, unfit = sort_out_now(run)
    assert [each.path.name for each in good] == ["checkpoint-2"]
    assert [(one.name, one.folder) for one in unfit] == [
        ("checkpoint-4", "broken"), ("checkpoint-6", "broken"), ("checkpoint-8", "broken"),
    ]  # fmt: skip


def test_runs_names_the_last_good_one(run: RunDirectory) -> None:
    assert read_with_results(run).last_checkpoint == "checkpoint-2"


@pytest.mark.parametrize("resolve", [lambda name, trust: resolve_adapter(name, Path("output"), trust), resolve_model])
def test_whoever_asks_for_the_run_gets_the_last_good_one_and_is_told(run: RunDirectory, resolve: Any) -> None:
    said: list[str] = []
    target = resolve(str(run.path), Trust(say=said.append))
    assert (target.path, target.note) == (str(run.path / "checkpoint-2"), f"{run.name}/checkpoint-2")
    assert said == [
        f"{run.name}: checkpoint-{step} is of a model that gives NaN, and is passed over" for step in (4, 6, 8)
    ]


def test_a_run_that_went_on_from_a_good_one_is_good_again(run: RunDirectory) -> None:
    with run.logging_jsonl.open("a", encoding="utf-8") as file:
        file.writelines(row(step, 2.0, 1.0) for step in range(3, 9))
    good, unfit = sort_out_now(run)
    assert [each.step for each in good] == [2, 4, 6]
    assert [(one.name, one.why) for one in unfit] == [
        ("checkpoint-8", "is not complete (trainer_state.json is missing)")
    ]


def test_a_sign_that_only_the_end_made_certain_counts(run: RunDirectory) -> None:
    rows = run.logging_jsonl.read_text(encoding="utf-8").splitlines(keepends=True)[:6]
    run.logging_jsonl.write_text("".join(rows), encoding="utf-8")
    assert [each.step for each in sort_out_now(run)[0]] == [2, 4, 6]
    sign = {"code": sorted(FATAL)[-1], "step": 6, "message": "", "severity": "error", "fix": ""}
    run.write(Manifest("running", now_iso(), "config.yaml", signs=(sign,)))
    assert [each.step for each in sort_out_now(run)[0]] == [2]
    assert read_with_results(run).last_checkpoint == "checkpoint-2"


def test_a_full_disk_names_the_one_that_resume_goes_on_from(run: RunDirectory) -> None:
    run.log.write_text("OSError: [Errno 28] No space left on device\n", encoding="utf-8")
    problem = room_problem(run)
    assert problem is not None
    assert "goes on from checkpoint-2" in problem.fix


def test_a_run_of_nothing_but_broken_checkpoints_has_none(run: RunDirectory) -> None:
    run.logging_jsonl.write_text("".join(row(step, 0.0, NAN) for step in range(1, 12)), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        resolve_adapter(str(run.path), Path("output"))
    assert str(caught.value) == (
        f"{run.path}: has no complete checkpoint: checkpoint-8 is of a model that gives NaN; "
        "`sft-kit runs` shows what became of it"
    )
