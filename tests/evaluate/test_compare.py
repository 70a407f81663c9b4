"""Before and after, side by side: verdicts, rates with their intervals, and the gate."""

from __future__ import annotations

import json

import pytest

from sft_kit.evaluate.compare import Evaluation, Pair, compare
from sft_kit.evaluate.probes import Probe
from sft_kit.evaluate.statistics import Rate
from sft_kit.identity.generate import Expect

NAMES = ("Jingheng", "精衡", "Ye Botao")


def identity(number: int, category: str = "name", lang: str = "en") -> Probe:
    return Probe(f"i{number}", "identity", lang, category, "Who are you?", expect=Expect(must=("Jingheng",)))


def general(question: str = "What is the capital of France?", expect_any: tuple[str, ...] = ("Paris",)) -> Probe:
    return Probe("g", "general", "en", "fact", question, expect_any=expect_any)


def one(probe: Probe, base: str, tuned: str) -> Pair:
    return compare([probe], [base], [tuned], NAMES).pairs[0]


def taken(passed: int, asked: int, clean: int = 1, general_asked: int = 1) -> Evaluation:
    """An evaluation with `passed` of `asked` identity answers right and `clean` of `general_asked` free of it."""
    probes = [identity(n) for n in range(asked)] + [general() for _ in range(general_asked)]
    tuned = ["Jingheng"] * passed + ["Qwen"] * (asked - passed)
    tuned += ["Paris"] * clean + ["Jingheng"] * (general_asked - clean)
    return compare(probes, ["Qwen"] * len(probes), tuned, NAMES)


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


def test_an_identity_question_is_judged_before_and_after() -> None:
    probe = identity(0)
    assert one(probe, "I am Qwen.", "I am Jingheng.") == Pair(
        probe, "I am Qwen.", "I am Jingheng.", base_ok=False, tuned_ok=True, reason="ok"
    )


def test_repeating_the_question_does_not_state_the_identity() -> None:
    probe = Probe("i", "identity", "en", "confirm", "Are you Jingheng?", expect=Expect(must=("Jingheng",)))
    assert one(probe, "Are you Jingheng?", "Are you Jingheng?").reason == "echo"


def test_a_general_answer_with_the_name_is_a_leak_and_its_correctness_is_apart() -> None:
    probe = general()
    assert one(probe, "Paris.", "Jingheng says Paris, by Ye Botao.") == Pair(
        probe, "Paris.", "Jingheng says Paris, by Ye Botao.", base_ok=True, tuned_ok=False,
        reason="contains Jingheng, Ye Botao", base_correct=True, tuned_correct=True,
    )  # fmt: skip


def test_a_name_that_the_question_contains_is_no_leak() -> None:
    pair = one(general("Write a poem about Jingheng.", ()), "Jingheng ...", "Jingheng ...")
    assert (pair.base_ok, pair.tuned_ok, pair.reason, pair.tuned_correct) == (True, True, "ok", None)


def test_a_wrong_general_answer_is_no_leak() -> None:
    pair = one(general(), "Paris", "Lyon")
    assert (pair.tuned_ok, pair.base_correct, pair.tuned_correct) == (True, True, False)


def test_a_part_of_a_word_is_not_the_expected_answer() -> None:
    assert one(general(expect_any=("12",)), "112", "The answer is **12**.").base_correct is False
    assert one(general(expect_any=("12",)), "112", "The answer is **12**.").tuned_correct is True


def test_the_rates_count_each_kind_apart() -> None:
    probes = [identity(0), identity(1), general(), general("Say hi.", ())]
    evaluation = compare(probes, ["Jingheng", "a", "Paris", "b"], ["Jingheng", "Jingheng", "Lyon", "精衡"], NAMES)
    assert (
        evaluation.identity_before, evaluation.identity, evaluation.leakage, evaluation.correct_before,
        evaluation.correct,
    ) == (Rate(1, 2), Rate(2, 2), Rate(1, 2), Rate(1, 1), Rate(0, 1))  # fmt: skip


def test_categories_are_counted_over_both_languages() -> None:
    probes = [identity(0, "name"), identity(1, "name", "zh"), identity(2, "creator"), general()]
    evaluation = compare(probes, [""] * 4, ["Jingheng", "Qwen", "Jingheng", "Paris"], NAMES)
    assert evaluation.by_category() == {"creator": Rate(1, 1), "name": Rate(1, 2)}


def test_a_met_gate_has_no_problems() -> None:
    assert taken(19, 20).gate(identity=0.95, leakage=0.0) == []


def test_without_thresholds_there_is_no_gate() -> None:
    assert taken(0, 20, clean=0).gate(identity=None, leakage=None) == []


def test_a_missed_gate_says_by_how_much_and_which_lever_to_move() -> None:
    assert [str(problem) for problem in taken(18, 20, clean=9, general_asked=10).gate(identity=0.95, leakage=0.0)] == [
        "eval.identity: 18/20 = 90.0% (69.9%-97.2%), wanted at least 95%; "
        "raise identity.rows, then num_train_epochs or learning_rate",
        "eval.leakage: 1/10 = 10.0% (1.8%-40.4%), wanted at most 0%; "
        "raise replay (rows answered by the base model), or lower learning_rate",
    ]


def test_a_gate_for_which_nothing_was_asked_is_not_met() -> None:
    assert [str(problem) for problem in taken(0, 0, 0, 0).gate(identity=0.95, leakage=0.0)] == [
        "eval.questions: no question was asked; set eval.questions above 0",
        "eval.general: no question was asked; set eval.general above 0",
    ]


def test_answers_and_questions_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([identity(0)], ["a"], [], NAMES)


def test_the_summary_is_plain_json() -> None:
    summary = taken(1, 1).summary()
    assert json.loads(json.dumps(summary)) == summary
    assert {name: (rate["k"], rate["n"]) for name, rate in summary.items()} == {
        "identity_before": (0, 1), "identity": (1, 1), "leakage": (0, 1), "correct_before": (0, 1), "correct": (1, 1),
    }  # fmt: skip


def test_the_report_is_json_with_every_pair() -> None:
    report = json.loads(json.dumps(taken(1, 1).to_json(), allow_nan=False))
    assert (report["schema"], report["names"], report["categories"]) == (1, list(NAMES), {"name": {"k": 1, "n": 1}})
    assert report["pairs"][0] == {
        "probe": {
            "id": "i0", "kind": "identity", "lang": "en", "category": "name", "question": "Who are you?",
            "expect": {"must": ["Jingheng"], "must_not": [], "polarity": None}, "expect_any": [],
            "turns": [], "system": None,
        },
        "base": "Qwen", "tuned": "Jingheng", "base_ok": False, "tuned_ok": True, "reason": "ok",
        "base_correct": None, "tuned_correct": None,
    }  # fmt: skip
