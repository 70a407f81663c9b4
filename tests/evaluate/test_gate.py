"""Thresholds: which are judged, which are enforced, and what is said of those that are missed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.compare import Evaluation, Likelihood, compare
from sft_kit.evaluate.gate import Shortfall, Thresholds, judge
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import Expect

ME, QWEN = "I am Jingheng.", "I am Qwen."

CATEGORIES = "at least 85% of each category of 5 answers or more: raise eval.questions"


def identity(answers: Sequence[str], category: str = "name") -> list[tuple[Probe, str, str]]:
    probe = Probe("i", "identity", "en", category, "Who are you?", expect=Expect(must=("Jingheng",)))
    return [(probe, QWEN, answer) for answer in answers]


def general(*, clean: int = 0, leaking: int = 0, lost: int = 0, won: int = 0) -> list[tuple[Probe, str, str]]:
    probe = Probe("g", "general", "en", "fact", "Capital of France?", check=Check(any_of=("Paris",)))
    answers = [("Paris", "Paris")] * clean + [("Paris", "Paris, says Jingheng")] * leaking
    return [(probe, *both) for both in [*answers, *[("Paris", "Lyon")] * lost, *[("Lyon", "Paris")] * won]]


def evaluate(asked: Sequence[tuple[Probe, str, str]], **likelihoods: Likelihood) -> Evaluation:
    probes, base, tuned = zip(*asked, strict=True) if asked else ((), (), ())
    return compare(probes, base, tuned, ["Jingheng"], likelihoods)


def test_nothing_falls_short_of_an_evaluation_that_reaches_the_usual_thresholds() -> None:
    evaluation = evaluate(identity([ME] * 95 + ["Hello."] * 5) + general(clean=94, lost=5, won=1))
    assert judge(evaluation, Thresholds()) == []


def test_all_that_is_missed_is_told_and_only_what_the_config_writes_is_enforced() -> None:
    evaluation = evaluate(identity([ME] * 9 + [QWEN]) + general(clean=19, leaking=1, lost=12))
    assert judge(evaluation, Thresholds(identity=0.92, leakage=0.0)) == [
        Shortfall("identity", "9/10 = 90.0% (59.6%-98.2%)", "at least 92%", enforced=True),
        Shortfall("old", "1/10 = 10.0% (1.8%-40.4%)", "at most 2%", enforced=False),
        Shortfall("leakage", "1/32 = 3.1% (0.6%-15.7%)", "at most 0%", enforced=True),
        Shortfall("forgetting", "32/32 before, 20/32 = 62.5% (45.3%-77.1%) after; 12 lost, 0 won, p = 0.00049",
                  "no drop with p < 0.05", enforced=False),
    ]  # fmt: skip


def test_a_written_threshold_replaces_the_usual_one() -> None:
    evaluation = evaluate(identity([ME] * 9 + ["Hello."]))
    assert judge(evaluation, Thresholds(identity=0.9, category=0.9)) == []
    assert [one.measure for one in judge(evaluation, Thresholds(category=0.91))] == ["identity", "category"]


def test_a_category_is_judged_by_itself_from_five_answers_on() -> None:
    names = identity([ME] * 96)
    four, five = identity([ME] * 3 + ["Hello."], "creator"), identity([ME] * 4 + ["Hello."], "creator")
    assert judge(evaluate(names + four), Thresholds(category=0.85)) == []
    assert judge(evaluate(names + five), Thresholds(category=0.85)) == [
        Shortfall("category", "creator 4/5 = 80.0% (37.6%-96.4%)", "at least 85%", enforced=True)
    ]


@pytest.mark.parametrize(("lost", "won", "missed"), [(5, 0, False), (6, 0, True), (12, 5, False), (5, 20, False)])
def test_a_drop_is_forgetting_when_it_is_more_than_chance(lost: int, won: int, missed: bool) -> None:
    found = judge(evaluate(general(clean=10, lost=lost, won=won)), Thresholds(forgetting=0.05))
    assert [one.measure for one in found] == ["forgetting"] * missed


def test_what_is_enforced_and_was_not_asked_is_not_met_and_what_is_usual_is_not_told() -> None:
    assert judge(evaluate([]), Thresholds()) == []
    assert judge(evaluate([]), Thresholds(0.95, 0.85, 0.02, 0.0, 0.05)) == [
        Shortfall("identity", "nothing was asked", "at least 95%", enforced=True),
        Shortfall("category", "nothing was asked", CATEGORIES, enforced=True),
        Shortfall("old", "nothing was asked", "at most 2%", enforced=True),
        Shortfall("leakage", "nothing was asked", "at most 0%", enforced=True),
        Shortfall("forgetting", "nothing was asked", "no drop with p < 0.05", enforced=True),
    ]


def test_a_text_that_became_more_perplexing_is_told() -> None:
    evaluation = evaluate([], en=Likelihood(900, 2.0, 2.09), zh=Likelihood(900, 2.0, 2.2))
    assert judge(evaluation, Thresholds()) == [
        Shortfall("likelihood", "perplexity of the zh text x 1.22", "at most x 1.10", enforced=False)
    ]
