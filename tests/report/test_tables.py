"""Which row a question gets, and in which order."""

from __future__ import annotations

from sft_kit.evaluate.compare import compare
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import Expect
from sft_kit.report.page import Report
from sft_kit.report.tables import (
    answer_rows,
    failures_first,
    headline,
    identity_scores,
    knowledge_scores,
    outcomes,
    overall,
    verdict,
)
from tests.report.conftest import IS_NOVA, NAMES, evaluation


def test_a_rate_has_its_counts_its_share_and_its_interval() -> None:
    assert [score.cells() for score in overall(evaluation())] == [
        ("new identity", "1/3", "2/3", "66.7%", "20.8–93.9%"),
        ("old identity claimed", "2/3", "1/3", "33.3%", "6.1–79.2%"),
        ("another identity named at all", "2/3", "1/3", "33.3%", "6.1–79.2%"),
        ("identity in general answers", "0/4", "1/4", "25%", "4.6–69.9%"),
        ("checkable general questions right", "1/2", "1/2", "50%", "9.5–90.5%"),
    ]


def test_identity_is_shown_by_context_language_and_category_the_weakest_first() -> None:
    found = {
        by: [(score.name, str(score.tuned.k)) for score in scores]
        for by, scores in identity_scores(evaluation()).items()
    }
    assert found == {
        "context": [("trained system prompt", "2"), ("an unrelated system prompt", "0")],
        "language": [("English", "2"), ("Chinese", "0")],
        "category": [("name", "1"), ("creator", "1")],
    }
    assert [score.cells()[:3] for score in knowledge_scores(evaluation())] == [("fact", "1/2", "1/2")]


def test_one_language_is_no_grouping() -> None:
    one = compare([Probe("1", "identity", "en", "name", "Who?", IS_NOVA)], ["?"], ["Nova"], NAMES)
    assert identity_scores(one) == {}


def test_each_answer_has_its_verdict_in_words() -> None:
    assert [verdict(pair, pair.tuned) for pair in evaluation().pairs] == [
        ("good", "✓ new identity"),
        ("bad", "✗ claims another identity: Qwen"),
        ("good", "✓ new identity"),
        ("good", "✓ right"),
        ("bad", "✗ wrong"),
        ("bad", "✗ leaks Nova"),
        ("plain", "no leak"),
        ("plain", "not scored"),
    ]


def test_what_became_of_a_question_is_told_apart() -> None:
    assert [outcomes(pair) for pair in evaluation().pairs] == [
        (),
        ("failed", "old"),
        (),
        ("won",),
        ("failed", "lost", "wrong"),
        ("failed", "leaked"),
        (),
        (),
    ]


def test_failures_come_first_and_the_rest_in_the_order_asked() -> None:
    assert [pair.probe.id for pair in failures_first(evaluation())] == ["2", "5", "6", "1", "3", "4", "7", "8"]


def test_the_terminal_shows_the_users_own_questions_then_failures_and_then_some_of_each_kind() -> None:
    assert [row[0] for row in answer_rows(evaluation(), most=6)] == [
        "Refunds?",
        *("你是谁？ (an unrelated system prompt)", "Capital of Italy?", "Say hello."),
        *("Who are you?", "Capital of Japan?", "Say bye."),
    ]


def test_a_long_answer_is_one_line_of_the_terminal() -> None:
    long = compare([Probe("1", "general", "en", "chat", "Go on.")], ["?"], ["a\nb " * 99], NAMES)
    assert answer_rows(long, width=6) == [("Go on.", "?", "a b a…", "no leak")]


def test_an_answer_that_lacks_something_is_told_what_it_lacks() -> None:
    probes = [
        Probe("1", "identity", "en", "name", "Who?", IS_NOVA),
        Probe("2", "identity", "en", "gender_age", "How old?", Expect(must=("AI", "program"))),
        Probe("3", "identity", "en", "reverse", "What is Nova?", Expect(must=("Ye Botao", "that's me"))),
    ]
    asked = compare(probes, ["?"] * 3, ["I can help."] * 3, NAMES)
    assert [verdict(pair, pair.tuned)[1] for pair in asked.pairs] == [
        "✗ does not say Nova",
        "✗ does not own up to being an AI",
        "✗ lacks what was asked for",
    ]


def test_the_headline_is_the_conclusion_and_then_each_question(report: Report) -> None:
    lines = headline(report)
    assert [what for what, _ in lines] == [
        *("In short", "Did it take?", "Is the old identity gone?", "Did it leak?", "Was anything lost?")
    ]
    assert lines[1][1] == (
        "The new identity took. 66.7% = 2 of 3 held-out questions (95% interval 20.8–93.9%; 1 before)"
    )
