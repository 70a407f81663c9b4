"""Before and after, side by side: what is judged of each answer, the rates, and the JSON form of it all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_kit.data.rows import Message
from sft_kit.errors import UsageError
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.compare import Evaluation, Flips, Likelihood, Pair, Side, compare
from sft_kit.evaluate.probes import Context, Probe
from sft_kit.evaluate.score import OldIdentity, Verdict
from sft_kit.evaluate.statistics import Rate
from sft_kit.identity.generate import Expect

NAMES = ("Jingheng", "精衡", "Steve Botao")


def identity(category: str = "name", lang: str = "en", context: Context = "trained") -> Probe:
    expect = Expect(must=("Jingheng", "精衡"))
    return Probe("i", "identity", lang, category, "Who are you?", expect=expect, context=context)


def general(
    question: str = "What is the capital of France?", *, lang: str = "en", category: str = "fact", check: bool = True
) -> Probe:
    return Probe("g", "general", lang, category, question, check=Check(any_of=("Paris",)) if check else None)


def one(probe: Probe, base: str, tuned: str) -> Pair:
    return compare([probe], [base], [tuned], NAMES).pairs[0]


def evaluate(*asked: tuple[Probe, str, str]) -> Evaluation:
    probes, base, tuned = zip(*asked, strict=True)
    return compare(probes, base, tuned, NAMES)


def test_an_identity_answer_is_judged_before_and_after_and_searched_for_the_old_identity() -> None:
    pair = one(identity(), "I am Qwen, made by Alibaba Cloud.", "I am Jingheng.")
    assert (pair.base.verdict is not None and pair.base.verdict.passed, pair.base.correct, pair.base.leaked) == (
        False, None, (),
    )  # fmt: skip
    assert pair.base.old is not None and pair.base.old.affirmed and "Qwen" in pair.base.old.raw
    assert pair.tuned == Side("I am Jingheng.", pair.tuned.verdict, None, (), OldIdentity((), None))
    assert pair.tuned.verdict is not None and pair.tuned.verdict.passed


def test_who_made_it_is_told_from_what_it_is_called_by_what_is_asked_for() -> None:
    creator = Probe("c", "identity", "en", "creator", "Who made you?", expect=Expect(must=("Steve Botao",)))
    answer = "I am Steve Botao, made by Jingheng."
    named, made = compare([identity(), creator], [answer] * 2, [answer] * 2, NAMES).pairs
    swapped = Verdict(False, "forbidden", "i am steve botao")
    assert (named.tuned.verdict, made.tuned.verdict) == (swapped, swapped)


def test_a_general_answer_is_checked_and_searched_for_the_identity() -> None:
    answer = "Jingheng says Paris."
    assert one(general(), "Lyon.", answer) == Pair(
        general(), Side("Lyon.", None, False, (), None), Side(answer, None, True, ("Jingheng",), None)
    )


def test_a_part_of_a_name_is_a_leak_unless_the_question_holds_it() -> None:
    leaks = [
        bool(one(general(question, check=False), "", "Ask Botao.").tuned.leaked)
        for question in ("Who can help me?", "Can Botao help me?", "Can Steve Botao help me?")
    ]
    assert leaks == [True, False, False]


def test_an_echo_of_the_question_is_not_right() -> None:
    probe = general("Is Paris the capital of France?")
    assert [one(probe, "", answer).tuned.correct for answer in (probe.question, "Yes, Paris is.")] == [False, True]


def test_a_users_question_is_judged_by_what_it_brings() -> None:
    probe = Probe("u", "user", "en", "own", "Who are you?")
    assert one(probe, "I am Qwen.", "I am Jingheng.").tuned == Side("I am Jingheng.", leaked=("Jingheng",))
    expecting = replace(probe, expect=Expect(must=("Jingheng",)), check=Check(words=(3, 3)))
    evaluation = evaluate(
        (probe, "a", "b"),
        (expecting, "I am Qwen", "I am Jingheng"),
        (expecting, "I am Qwen", "Jingheng"),  # who it is, but not in three words
        (replace(probe, check=Check(any_of=("Qwen",))), "I am Qwen", "I am Jingheng"),
    )
    assert (evaluation.user("base"), evaluation.user("tuned")) == (Rate(1, 3), Rate(1, 3))
    assert (evaluation.leakage("tuned"), evaluation.correct("tuned"), evaluation.identity("tuned")) == (Rate(0, 0),) * 3


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluate(
        (identity("name"), "I am Jingheng.", "I am Jingheng."),
        (identity("name", context="none"), "I am Qwen.", "I am Jingheng, not Qwen."),
        (identity("creator", "zh"), "我是通义千问。", "我是通义千问。"),
        (identity("human_or_ai"), "I am Qwen.", "I am Jingheng, an AI."),
        (general(), "Paris", "Paris"),
        (general(), "Paris", "Lyon, says Jingheng"),
        (general(lang="zh"), "巴黎", "Paris"),
        (general(category="near-miss", check=False), "a", "精衡"),
    )


def test_the_rates_count_each_kind_apart(evaluation: Evaluation) -> None:
    assert {
        side: (
            evaluation.identity(side),
            evaluation.nature(side),
            evaluation.old(side),
            evaluation.old(side, affirmed=False),
            evaluation.leakage(side),
            evaluation.correct(side),
        )
        for side in ("base", "tuned")
    } == {
        "base": (Rate(1, 3), Rate(0, 1), Rate(3, 4), Rate(3, 4), Rate(0, 4), Rate(2, 3)),
        "tuned": (Rate(2, 3), Rate(1, 1), Rate(1, 4), Rate(2, 4), Rate(2, 4), Rate(2, 3)),
    }


def test_the_rates_are_grouped_in_the_order_asked(evaluation: Evaluation) -> None:
    assert [list(evaluation.identity_by(by).items()) for by in ("category", "lang", "context")] == [
        [("name", (Rate(1, 2), Rate(2, 2))), ("creator", (Rate(0, 1), Rate(0, 1)))],
        [("en", (Rate(1, 2), Rate(2, 2))), ("zh", (Rate(0, 1), Rate(0, 1)))],
        [("trained", (Rate(1, 2), Rate(1, 2))), ("none", (Rate(0, 1), Rate(1, 1)))],
    ]
    assert evaluation.leakage_by("category") == {
        "fact": (Rate(0, 3), Rate(1, 3)), "near-miss": (Rate(0, 1), Rate(1, 1)),
    }  # fmt: skip
    assert evaluation.correct_by("lang") == {"en": (Rate(2, 2), Rate(1, 2)), "zh": (Rate(0, 1), Rate(1, 1))}


def test_flips_are_the_checkable_answers_that_changed(evaluation: Evaluation) -> None:
    assert evaluation.flips() == Flips(lost=1, won=1)
    assert (Flips(10, 2).p, str(Flips(10, 2))) == (158 / 4096, "10 lost, 2 won, p = 0.039")


def test_a_likelihood_is_told_as_a_ratio_of_perplexities() -> None:
    assert Likelihood(900, 2.0, 2.0 + 0.0953).ratio == pytest.approx(1.1, abs=1e-4)


def test_answers_and_questions_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([identity()], ["a"], [], NAMES)


def test_the_summary_is_plain_json_with_every_rate_before_and_after(evaluation: Evaluation) -> None:
    summary = replace(evaluation, likelihoods={"en": Likelihood(900, 2.0, 2.0)}).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    flips, likelihood = summary.pop("flips"), summary.pop("likelihood")
    assert flips == {"lost": 1, "won": 1, "p": 1.0}
    assert likelihood == {"en": {"tokens": 900, "base": 2.0, "tuned": 2.0, "ratio": 1.0}}
    assert {name: (rate["k"], rate["n"]) for name, rate in summary.items()} == {
        "identity_before": (1, 3), "identity": (2, 3), "nature_before": (0, 1), "nature": (1, 1),
        "old_before": (3, 4), "old": (1, 4), "old_named_before": (3, 4), "old_named": (2, 4),
        "leakage_before": (0, 4), "leakage": (2, 4), "correct_before": (2, 3), "correct": (2, 3),
        "user_before": (0, 0), "user": (0, 0),
    }  # fmt: skip


def test_the_report_is_json_of_schema_2_with_every_rate_and_pair() -> None:
    report = json.loads(json.dumps(evaluate((general(), "Paris", "Jingheng")).to_json(), allow_nan=False))
    rate = {"k": 1, "n": 1, "interval": list(Rate(1, 1).interval)}
    none = {"k": 0, "n": 1, "interval": list(Rate(0, 1).interval)}
    assert (report["schema"], report["names"], report["likelihoods"]) == (2, list(NAMES), {})
    assert report["correct_by"] == {"category": {"fact": {"base": rate, "tuned": none}},
                                    "lang": {"en": {"base": rate, "tuned": none}}}  # fmt: skip
    assert report["identity_by"] == {"category": {}, "lang": {}, "context": {}}
    assert report["pairs"] == [
        {
            "probe": {
                "id": "g", "kind": "general", "lang": "en", "category": "fact",
                "question": "What is the capital of France?", "expect": None, "check": {"any_of": ["Paris"]},
                "turns": [], "system": None, "context": "trained",
            },
            "base": {"answer": "Paris", "verdict": None, "correct": True, "leaked": [], "old": None},
            "tuned": {"answer": "Jingheng", "verdict": None, "correct": False, "leaked": ["Jingheng"], "old": None},
        }
    ]  # fmt: skip


TEXTS = st.text(max_size=6)
TUPLES = st.lists(TEXTS, max_size=2).map(tuple)
SIDES = st.builds(
    Side,
    TEXTS,
    st.none() | st.builds(Verdict, st.booleans(), st.sampled_from(["ok", "loop", "old"]), TEXTS, TUPLES),
    st.none() | st.booleans(),
    TUPLES,
    st.none() | st.builds(OldIdentity, TUPLES, st.none() | TEXTS),
)
PROBES = st.builds(
    Probe,
    TEXTS,
    st.sampled_from(["identity", "general", "user"]),
    st.sampled_from(["zh", "en"]),
    st.sampled_from(["name", "human_or_ai"]),
    TEXTS,
    st.none() | st.builds(Expect, TUPLES, TUPLES, st.sampled_from(["yes", "no", None])),
    st.none() | st.sampled_from([Check(any_of=("a",), words=(1, 3)), Check(json=("k",), case="lower", ends=".")]),
    st.sampled_from([(), (Message("user", "Hi"), Message("assistant", "Hello"))]),
    st.none() | TEXTS,
    st.sampled_from(["trained", "none", "vendor", "custom", "own"]),
)
LIKELIHOODS = st.builds(Likelihood, st.integers(1, 10_000), st.floats(0, 20), st.floats(0, 20))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.builds(Pair, PROBES, SIDES, SIDES), max_size=4),
    TUPLES,
    st.dictionaries(st.sampled_from(["zh", "en"]), LIKELIHOODS),
)
def test_what_is_written_as_json_is_read_back_as_it_was(
    pairs: Sequence[Pair], names: tuple[str, ...], likelihoods: dict[str, Likelihood]
) -> None:
    evaluation = Evaluation(tuple(pairs), names, likelihoods)
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json(), allow_nan=False))) == evaluation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "the evaluation has schema 1, and this sft-kit reads 2"),
        ({"schema": None}, "the evaluation has schema None, and this sft-kit reads 2"),
        ({"pairs": [{}]}, "the evaluation cannot be read: KeyError: 'probe'"),
        ({"pairs": 5}, "the evaluation cannot be read: TypeError: 'int' object is not iterable"),
        ({"likelihoods": []}, "the evaluation cannot be read: AttributeError: 'list' object has no attribute 'items'"),
    ],
)
def test_another_schema_and_broken_values_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {**evaluate((general(), "Paris", "Lyon")).to_json(), **changes}
    with pytest.raises(UsageError) as caught:
        Evaluation.from_json(values)
    assert str(caught.value) == f"{message}; evaluate again with sft-kit eval"
