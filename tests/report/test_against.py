"""Two runs are compared on the questions that both were asked."""

from __future__ import annotations

from sft_kit.evaluate.compare import Likelihood, compare
from sft_kit.evaluate.statistics import Rate
from sft_kit.report.against import Difference, PerplexityDifference, against, against_markdown
from tests.report.conftest import BASE, NAMES, PROBES, evaluation

BETTER = compare(
    PROBES[:-1],
    BASE[:-1],
    ("I am Nova.", "我是 Nova。", "I am Nova.", "Tokyo", "Rome", "Hello!", "Bye!"),
    NAMES,
    {"en": Likelihood(100, 2.0, 2.0), "zh": Likelihood(50, 2.0, 2.0)},
)


def test_every_measure_has_both_rates_and_the_chance_of_their_difference() -> None:
    comparison = against(BETTER, evaluation())
    assert comparison.differences[:4] == (
        Difference("new identity", Rate(2, 3), Rate(3, 3), 1.0),
        Difference("old identity claimed", Rate(1, 3), Rate(0, 3), 1.0),
        Difference("identity in general answers", Rate(1, 4), Rate(0, 4), 1.0),
        Difference("checkable general questions right", Rate(1, 2), Rate(2, 2), 1.0),
    )
    assert (comparison.both, comparison.only_theirs, comparison.only_ours) == (7, 1, 0)
    assert comparison.note == "7 questions that both runs were asked; 1 that only one of them was asked are left out"


def test_the_chance_is_that_of_the_flips() -> None:
    probes = [PROBES[0].__class__(str(i), "general", "en", "fact", f"{i}?", check=PROBES[3].check) for i in range(8)]
    ours, theirs = (compare(probes, ["?"] * 8, [answer] * 8, NAMES) for answer in ("Tokyo", "Kyoto"))
    found = {one.measure: one for one in against(ours, theirs).differences}
    assert found["checkable general questions right"].cells() == (
        *("checkable general questions right", "0/8 = 0%", "8/8 = 100%", "+100.0 points", "p = 0.0078"),
    )


def test_perplexities_of_the_same_text_are_compared() -> None:
    (one,) = against(BETTER, evaluation()).differences[4:]
    assert isinstance(one, PerplexityDifference)
    assert one.cells() == ("perplexity of the en text", "12.18", "7.39", "-39.3%", "")


def test_a_question_in_another_context_is_another_question() -> None:
    moved = [PROBES[1].__class__("2", "identity", "zh", "name", "你是谁？", PROBES[1].expect)]
    assert against(compare(moved, ["?"], ["Nova"], NAMES), evaluation()).both == 0


def test_the_markdown_names_the_runs() -> None:
    text = against_markdown(against(BETTER, evaluation()), ours="v1", theirs="v0").splitlines()
    assert text[0] == "# v1 against v0"
    assert text[4:7] == [
        "| measure | v0 | v1 | difference | chance |",
        "| --- | --- | --- | --- | --- |",
        "| new identity | 2/3 = 66.7% | 3/3 = 100% | +33.3 points | p = 1 |",
    ]
