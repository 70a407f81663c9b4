"""How a run that failed is started once more, and what is said of it (for real: tests/integration)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_kit.errors import ExitCode, MsSwiftError, Problem
from sft_kit.plan.batch import BatchPlan
from sft_kit.run.directory import Manifest, RunDirectory, create_run, now_iso
from sft_kit.run.swift_log import Shortage
from sft_kit.run.train import Recorder, _nothing_to_evaluate, _recording, next_start

IN_A_STEP = Shortage("MemoryError", training=True)
SMALLER = (BatchPlan(2, 8), BatchPlan(1, 16))


def test_a_shortage_in_a_step_is_answered_with_the_next_smaller_batch() -> None:
    assert next_start(IN_A_STEP, SMALLER, "smaller") == BatchPlan(2, 8)


def test_the_config_can_have_it_stop_instead() -> None:
    assert next_start(IN_A_STEP, SMALLER, "stop") is None


def test_what_a_smaller_batch_cannot_help_is_not_started_again() -> None:
    assert next_start(Shortage("MemoryError", training=False), SMALLER, "smaller") is None
    assert next_start(IN_A_STEP, (), "smaller") is None
    assert next_start(None, SMALLER, "smaller") is None


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    found = create_run(tmp_path / "output", versioned=True)
    (found.kit / "train.log").write_text("", encoding="utf-8")
    return found


def checkpoint(run: RunDirectory, step: int) -> None:
    folder = run.path / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    (folder / "args.json").write_text("{}", encoding="utf-8")
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}', encoding="utf-8")


def failure(run: RunDirectory) -> MsSwiftError:
    """How a run is left of which somebody killed the trainer."""
    recorder = Recorder(run, Manifest("running", now_iso(), "config.yaml"))
    with pytest.raises(MsSwiftError) as caught, _recording(recorder, "interrupted", "failed"):
        raise MsSwiftError(Problem("ms-swift", "was killed", "see dmesg"), returncode=-9)
    return caught.value


def test_a_failure_with_a_good_checkpoint_says_how_to_go_on(run: RunDirectory) -> None:
    checkpoint(run, 10)
    error = failure(run)
    assert error.problems[-1].fix == f"see dmesg; then `sft-kit train --resume {run.path}` goes on from checkpoint-10"
    assert (error.returncode, run.read().message) == (-9, "ms-swift: was killed; see dmesg")


def test_a_failure_without_one_does_not_advise_to_do_the_same_again(run: RunDirectory) -> None:
    assert failure(run).problems[-1].fix == "see dmesg"


def test_a_run_whose_every_checkpoint_gives_nan_is_not_told_to_save_some(run: RunDirectory) -> None:
    without = _nothing_to_evaluate(run)
    (run.kit / "broken" / "checkpoint-3").mkdir(parents=True)
    broken = _nothing_to_evaluate(run)
    assert (without.exit_code, "saved no checkpoint" in str(without)) == (ExitCode.USAGE, True)
    assert (broken.exit_code, "every checkpoint gives NaN" in str(broken)) == (ExitCode.GATE, True)
