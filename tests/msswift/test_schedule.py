"""The learning rate to expect: against rows that ms-swift logged, and against transformers itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sft_kit.msswift.schedule import Schedule, schedule_of

ALL = ("cosine", "linear", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
_ASK = """
import json, sys, torch
from transformers.optimization import get_scheduler
rates = {}
for name in sys.argv[1].split(","):
    for warmup in (0, 4):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=23)
        rates[f"{name} {warmup}"] = []
        for _ in range(23):
            optimizer.step()
            scheduler.step()
            rates[f"{name} {warmup}"].append(scheduler.get_last_lr()[0])
print(json.dumps(rates))
"""


@pytest.mark.real
def test_every_schedule_is_transformers_own() -> None:
    asked = subprocess.run([sys.executable, "-c", _ASK, ",".join(ALL)], capture_output=True, text=True, check=True)
    wanted = json.loads(asked.stdout)
    ours = {
        f"{name} {warmup}": [Schedule(name, 1e-3, warmup).rate(step, 23) for step in range(1, 24)]
        for name in ALL
        for warmup in (0, 4)
    }
    assert {key: pytest.approx(rates) for key, rates in wanted.items()} == ours


@pytest.mark.parametrize(
    ("step", "max_steps", "logged"),
    [(1, 8, 0.00096194), (4, 8, 0.0005), (7, 8, 3.806e-05), (8, 8, 0.0), (1, 2, 0.0005)],
)
def test_a_rate_that_ms_swift_logged_matches(step: int, max_steps: int, logged: float) -> None:
    assert Schedule("cosine", 1e-3).matches(logged, step, max_steps)
    assert not Schedule("cosine", 2e-3).matches(logged or 1e-4, step, max_steps)


def test_the_rounding_of_the_log_is_forgiven() -> None:
    schedule = Schedule("cosine", 1e-6)
    assert all(schedule.matches(round(schedule.rate(step, 50), 8), step, 50) for step in range(1, 51))


def test_a_share_of_warm_up_is_rounded_up() -> None:
    assert Schedule("linear", 1.0, 0.1).rate(1, 25) == pytest.approx(1 / 3)


def test_the_config_beats_what_ms_swift_wrote() -> None:
    written = {"learning_rate": 1e-5, "lr_scheduler_type": "cosine", "warmup_ratio": 0.0, "warmup_steps": 3}
    assert schedule_of({}, written) == Schedule("cosine", 1e-5, 3.0)
    given = {"learning_rate": 1e-4, "lr_scheduler_type": "linear", "warmup_ratio": 0.05}
    assert schedule_of(given, written) == Schedule("linear", 1e-4, 0.05)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, {}),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, {"learning_rate": 1e-4}),
        ({"deepspeed": "zero2"}, {"learning_rate": 1e-4, "lr_scheduler_type": "cosine"}),
        ({"vit_lr": 1e-5}, {"learning_rate": 1e-4, "lr_scheduler_type": "cosine"}),
        ({}, {"learning_rate": "1e-4", "lr_scheduler_type": ["cosine"]}),
    ],
)
def test_nothing_is_said_of_a_schedule_that_is_not_known(given: dict[str, object], written: dict[str, object]) -> None:
    assert schedule_of(given, written) is None
