"""The effective batch is split exactly, or refused in the config's own keys."""

from __future__ import annotations

import pytest

from sft_kit.plan.batch import BatchPlan, Size, plan_batch

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
