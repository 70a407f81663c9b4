"""What the figures say in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.evaluate.gate import NOTHING_ASKED, Shortfall
from sft_kit.evaluate.score import Verdict
from sft_kit.evaluate.statistics import Rate
from sft_kit.report.page import Report
from sft_kit.report.words import conclusion, fault, gate, interval, p_value, percent, statements
from tests.report.conftest import NAMES, PROBES, TUNED


def missing(report: Report, *measures: str, enforced: bool = True) -> Report:
    return replace(report, shortfalls=tuple(Shortfall(measure, "", "", enforced) for measure in measures))


def test_the_questions_of_the_proof_are_answered_in_their_order(report: Report) -> None:
    found = [(one.asked, one.mood, f"{one.figure} {one.of}") for one in statements(report)]
    assert found == [
        ("Did it take?", "good", "66.7% 2 of 3 held-out questions"),
        ("Is the old identity gone?", "doubt", "1 of 3 identity answers"),
        ("Did it leak?", "bad", "1 of 4 general answers"),
        ("Was anything lost?", "doubt", "50% 1 of 2 checkable questions right"),
    ]


@pytest.mark.parametrize(
    ("missed", "start"),
    [
        ((), "The new identity took; "),
        (("category",), "The new identity took, but not in every category; "),
        (("identity", "category"), "The new identity took only in part; "),
    ],
)
def test_whether_it_took_follows_from_what_is_missed(report: Report, missed: tuple[str, ...], start: str) -> None:
    said = conclusion(missing(report, *missed))
    assert said == f"{start}an old identity still shows; it leaked; nothing measurable was forgotten."


def test_forgetting_is_said_where_its_threshold_is_missed(report: Report) -> None:
    assert conclusion(missing(report, "forgetting")).endswith("it leaked; some of what it knew was forgotten.")


def test_a_model_that_knew_nothing_could_lose_nothing(report: Report) -> None:
    ignorant = compare(PROBES, ["?"] * len(PROBES), TUNED, NAMES)
    last = statements(replace(report, evaluation=ignorant))[-1]
    assert (last.brief, last.says, last.mood) == ("", "Nothing could be lost: none were right before.", "plain")


def test_nothing_is_claimed_where_nothing_was_asked(report: Report) -> None:
    empty = replace(report, evaluation=Evaluation((), ("Nova",)), shortfalls=())
    assert (statements(empty), conclusion(empty)) == ([], "Nothing was asked that a rule can judge.")


def test_a_category_of_which_too_little_was_asked_is_not_said_to_have_failed(report: Report) -> None:
    unasked = replace(report, shortfalls=(Shortfall("category", NOTHING_ASKED, "at least 85%", True),))
    assert conclusion(unasked).startswith("The new identity took; ")
    assert gate(unasked) == ("bad", "The gate is not met: 1 threshold missed.")


def test_where_nothing_is_worth_the_headline_the_first_answer_is(report: Report) -> None:
    ignorant = compare([PROBES[3]], ["?"], ["?"], ())
    alone = replace(report, evaluation=ignorant, shortfalls=())
    assert conclusion(alone) == "Nothing could be lost: none were right before."


def test_the_gate_is_missed_by_enforced_thresholds_alone(report: Report) -> None:
    assert gate(missing(report)) == ("good", "Every threshold is met.")
    told = ("doubt", "2 usual thresholds are missed, which this run does not enforce.")
    assert gate(missing(report, "old", "leakage", enforced=False)) == told
    assert gate(report) == ("bad", "The gate is not met: 1 threshold missed.")


def test_figures_are_as_precise_as_they_are_worth() -> None:
    assert [percent(share) for share in (0, 0.5, 0.9666, 1)] == ["0%", "50%", "96.7%", "100%"]
    assert interval(Rate(20, 20)) == "83.9–100%"
    assert [p_value(p) for p in (1.0, 0.1094, 0.0004)] == ["p = 1", "p = 0.11", "p < 0.001"]


def test_a_fault_names_what_was_found() -> None:
    assert fault(Verdict(False, "old", "Qwen")) == "claims another identity: Qwen"
    assert fault(Verdict(False, "loop")) == "repeats itself"
