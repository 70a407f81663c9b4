"""Intervals and p-values against published figures."""

from __future__ import annotations

import pytest

from sft_kit.evaluate.statistics import Rate, mcnemar


@pytest.mark.parametrize(
    ("rate", "low", "high"),
    [
        (Rate(120, 120), 0.9690, 1.0),
        (Rate(20, 20), 0.8389, 1.0),
        (Rate(0, 20), 0.0, 0.1611),
        (Rate(15, 20), 0.5313, 0.8881),  # Newcombe 1998, table I, method 3 gives the like
        (Rate(81, 263), 0.2553, 0.3662),  # Newcombe 1998, example 81/263: 0.2553 to 0.3662
        (Rate(0, 0), 0.0, 1.0),
    ],
)
def test_the_interval_of_a_rate_is_wilsons(rate: Rate, low: float, high: float) -> None:
    assert rate.interval == pytest.approx((low, high), abs=5e-5)


def test_a_rate_is_shown_with_its_interval() -> None:
    assert [str(Rate(*rate)) for rate in ((120, 120), (20, 20), (35, 37), (0, 0))] == [
        "120/120 = 100.0% (96.9%-100.0%)",
        "20/20 = 100.0% (83.9%-100.0%)",
        "35/37 = 94.6% (82.3%-98.5%)",
        "0/0 = 0.0% (0.0%-100.0%)",
    ]


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (4, 4, 1.0),
        (5, 0, 0.0625),
        (6, 0, 0.03125),
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2^12
        (59, 6, 0.0),
    ],
)
def test_mcnemars_test_is_the_exact_two_sided_one(lost: int, won: int, p: float) -> None:
    assert mcnemar(lost, won) == mcnemar(won, lost) == pytest.approx(p, abs=1e-9)
