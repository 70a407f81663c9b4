"""Whether a run that ran out of memory is started once more (for real: tests/integration/test_out_of_memory.py)."""

from __future__ import annotations

from sft_kit.plan.batch import BatchPlan
from sft_kit.run.swift_log import Shortage
from sft_kit.run.train import next_start

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
