"""The effective batch is split exactly, or refused in the config's own keys."""

from __future__ import annotations

import pytest

from sft_kit.plan.batch import BatchPlan, Size, plan_batch, search, smaller, splits
from sft_kit.plan.memory import MemoryPlan

MICRO, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@pytest.mark.parametrize(
    ("micro", "accumulation", "effective", "processes", "plan"),
    [
        # without an effective batch what was given is passed on, and the rest is ms-swift's
        (None, None, None, 1, BatchPlan(None, None)),
        (4, None, None, 1, BatchPlan(4, None)),
        (None, 8, None, 1, BatchPlan(None, 8)),
        (4, 8, None, 2, BatchPlan(4, 8)),
        # with one, what is auto or left out is filled in
        ("auto", "auto", 16, 1, BatchPlan(1, 16)),
        (None, None, 16, 1, BatchPlan(1, 16)),
        ("auto", None, 16, 4, BatchPlan(1, 4)),
        (4, "auto", 16, 1, BatchPlan(4, 4)),
        (4, None, 16, 2, BatchPlan(4, 2)),
        ("auto", 8, 16, 1, BatchPlan(2, 8)),
        (None, 8, 16, 2, BatchPlan(1, 8)),
        (2, 4, 16, 2, BatchPlan(2, 4)),
        (16, "auto", 16, 1, BatchPlan(16, 1)),
        ("auto", "auto", 1, 1, BatchPlan(1, 1)),
    ],
)
def test_the_product_is_the_effective_batch(
    micro: Size, accumulation: Size, effective: int | None, processes: int, plan: BatchPlan
) -> None:
    assert plan_batch(micro, accumulation, effective, processes=processes) == plan


@pytest.mark.parametrize(
    ("micro", "accumulation", "effective", "processes", "problems"),
    [
        ("auto", None, None, 1, [f"{MICRO}: auto needs effective_batch_size to aim at; add effective_batch_size: 16"]),
        (
            4,
            "auto",
            None,
            1,
            [f"{ACCUMULATION}: auto needs effective_batch_size to aim at; add effective_batch_size: 16"],
        ),
        (
            "auto",
            "auto",
            None,
            1,
            [
                f"{MICRO}: auto needs effective_batch_size to aim at; add effective_batch_size: 16",
                f"{ACCUMULATION}: auto needs effective_batch_size to aim at; add effective_batch_size: 16",
            ],
        ),
        (
            4,
            8,
            16,
            1,
            ["effective_batch_size: 16, but 4 x 8 x 1 process(es) = 32; set gradient_accumulation_steps: auto"],
        ),
        (
            3,
            "auto",
            16,
            1,
            [f"effective_batch_size: 16 is not a multiple of {MICRO} 3; choose a multiple of 3"],
        ),
        (
            "auto",
            5,
            16,
            1,
            [f"effective_batch_size: 16 is not a multiple of {ACCUMULATION} 5; choose a multiple of 5"],
        ),
        (
            4,
            "auto",
            20,
            2,
            [f"effective_batch_size: 20 is not a multiple of {MICRO} 4 x 2 processes; choose a multiple of 8"],
        ),
        (
            "auto",
            "auto",
            16,
            3,
            ["effective_batch_size: 16 is not a multiple of 3 processes; choose a multiple of 3"],
        ),
        (32, None, 16, 1, [f"effective_batch_size: 16 is not a multiple of {MICRO} 32; choose a multiple of 32"]),
    ],
)
def test_what_cannot_be_split_is_refused(
    micro: Size, accumulation: Size, effective: int | None, processes: int, problems: list[str]
) -> None:
    plan = plan_batch(micro, accumulation, effective, processes=processes)
    assert not isinstance(plan, BatchPlan)
    assert [str(problem) for problem in plan] == problems


def test_every_split_of_the_effective_batch_is_exact() -> None:
    assert splits(12, 2, (True,)) == [BatchPlan(micro, 6 // micro, True) for micro in (1, 2, 3, 6)]
    assert splits(4, 1, (True, False)) == [
        BatchPlan(micro, 4 // micro, kept) for kept in (True, False) for micro in (1, 2, 4)
    ]
    assert splits(16, 3, (None,)) == []
    assert [plan.micro_batch for plan in splits(256, 1, (None,))] == [1, 2, 4, 8, 16, 32, 64]


def gib(number: float) -> MemoryPlan:
    return MemoryPlan({"all": int(number * 2**30)})


def found(seconds: dict[int, float], memory: dict[int, float], budget_gib: float | None) -> list[int | None]:
    """The micro-batches that `search` finds, in its order."""
    plans = [BatchPlan(micro, 16 // micro) for micro in seconds]
    candidates = search(
        plans,
        lambda plan: gib(memory[plan.micro_batch or 0]),
        lambda plan: seconds[plan.micro_batch or 0],
        budget_gib,
    )
    return [candidate.batch.micro_batch for candidate in candidates]


def test_the_fastest_that_fits_comes_first() -> None:
    assert found({1: 1.6, 4: 0.7, 16: 0.4}, {1: 16, 4: 18, 16: 30}, 24) == [4, 1]
    assert found({1: 1.6, 4: 0.7, 16: 0.4}, {1: 16, 4: 18, 16: 30}, None) == [16, 4, 1]


def test_of_two_that_are_about_as_fast_the_one_in_less_memory_comes_first() -> None:
    assert found({4: 0.47, 8: 0.46, 16: 0.53}, {4: 20, 8: 21, 16: 22}, 40) == [4, 8, 16]


def test_nothing_is_found_where_nothing_fits() -> None:
    assert found({1: 1.6, 4: 0.7}, {1: 16, 4: 18}, 15) == []


@pytest.mark.parametrize(
    ("batch", "plans"),
    [
        (BatchPlan(4, 4, False), [BatchPlan(2, 8, False), BatchPlan(1, 16, False), BatchPlan(1, 16, True)]),
        (BatchPlan(16, 1), [BatchPlan(8, 2), BatchPlan(4, 4), BatchPlan(2, 8), BatchPlan(1, 16)]),
        (BatchPlan(6, 1, True), [BatchPlan(3, 2, True), BatchPlan(1, 6, True)]),
        (BatchPlan(5, 2), [BatchPlan(2, 5), BatchPlan(1, 10)]),
        (BatchPlan(1, 16, True), []),
        (BatchPlan(None, None), []),
    ],
)
def test_what_to_fall_back_on_keeps_the_rows_of_a_step(batch: BatchPlan, plans: list[BatchPlan]) -> None:
    assert smaller(batch) == plans


def test_a_plan_says_what_it_is() -> None:
    assert BatchPlan(4, 4, False).describe() == "4 rows x 4 accumulated, gradient checkpointing off"
    assert BatchPlan(1, 16).describe() == "1 row x 16 accumulated"
    assert BatchPlan(None, 8).describe() == "ms-swift's own split of the batch"
