"""A run directory survives a crash at any write (many more examples: scripts/bench/fuzz.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.faults import Fault
from tests.fuzz.machine import RunDirectories, seen, stand_ins

FEW = settings(
    max_examples=3, stateful_step_count=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def no_ms_swift(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with stand_ins():
        yield


def test_whatever_happens_in_whatever_order_a_run_comes_to_its_end_and_nothing_lies() -> None:
    run_state_machine_as_test(RunDirectories, settings=FEW)
    assert seen.operations


@pytest.mark.parametrize(
    ("at", "where"),
    [
        (14, "before its first manifest"),
        (63, "when its rows are on record"),
        (110, "in a checkpoint"),
        (172, "when it has succeeded"),
        (184, "in its report"),
    ],
)
def test_a_power_failure_leaves_a_run_that_can_be_gone_on_with(at: int, where: str) -> None:
    machine = RunDirectories()
    machine.output_dir(versioned=False, prove=True)
    machine.train(fault=Fault("power", at))
    machine.looks_right()
    machine.teardown()


def test_a_change_of_the_identity_that_was_cut_short_leaves_no_rows_of_the_old_one() -> None:
    for at in (16, 23):
        machine = RunDirectories()
        machine.output_dir(versioned=True, prove=False)
        machine.train(fault=Fault("crash", 75))
        machine.resume(which=0, fault=Fault("crash", at), change="name")
        machine.teardown()


def test_a_run_killed_at_any_write_of_its_last_status_keeps_no_room_on_the_disk() -> None:
    seen.crashed_at.clear()
    for at in range(169, 174):
        machine = RunDirectories()
        machine.output_dir(versioned=True, prove=False)
        machine.train(fault=Fault("crash", at))
        machine.teardown()
    assert {"remove v<N>/sft-kit/reserve", "rename to v<N>/sft-kit/manifest.json"} <= set(seen.crashed_at)
