"""How often the scorer agrees with a reader; how far to trust the figures is told in golden/README.md."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from sft_kit.evaluate.score import Label, leaked, old_identity
from tests.evaluate.golden import answers, confusion, general_answers, precision_and_recall

LABELS: tuple[Label, ...] = get_args(Label)
LEAST = 0.98


def test_the_golden_file_has_enough_answers_of_each_label_language_and_part() -> None:
    everything = answers()
    assert len(everything) >= 480
    assert sum(one.lang == "zh" for one in everything) >= 0.4 * len(everything)
    assert sum(one.part == "held-back" for one in everything) >= 0.45 * len(everything)
    counts = Counter(one.label for one in everything)
    assert {label: counts[label] for label in LABELS if counts[label] < 25} == {}
    by_language = Counter((one.label, one.lang) for one in everything)
    assert [
        pair for pair in ((label, lang) for label in LABELS for lang in ("zh", "en")) if by_language[pair] < 10
    ] == []


def test_no_answer_stands_twice() -> None:
    everything = answers()
    assert [name for name, count in Counter(one.id for one in everything).items() if count > 1] == []
    said = Counter((one.question, one.own, one.answer) for one in everything)
    assert [text for text, count in said.items() if count > 1] == []


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_found_where_a_reader_gives_it_and_nowhere_else(label: Label) -> None:
    precision, recall = precision_and_recall(confusion("held-back"), label)
    assert min(precision, recall) >= LEAST


def test_precision_and_recall_hold_over_all_labels_too() -> None:
    figures = [precision_and_recall(confusion("held-back"), label) for label in LABELS]
    assert min(sum(values) / len(values) for values in zip(*figures, strict=True)) >= LEAST


def test_every_development_answer_is_judged_as_a_reader_does() -> None:
    wrong = {
        one.id: (one.label, one.judged().label)
        for one in answers()
        if one.part == "development" and one.judged().label != one.label
    }
    assert wrong == {}


def test_an_old_identity_is_affirmed_where_a_reader_sees_the_claim() -> None:
    """Of broken text (a loop, an echo) nobody asks it."""
    readable = [one for one in answers() if one.label not in ("loop", "echo", "language", "token", "placeholder")]
    found = Counter(
        (one.claims is not None, old_identity(one.answer, one.own).affirmed is not None) for one in readable
    )
    assert found[True, True] >= LEAST * (found[True, True] + found[True, False])
    assert found[True, True] >= LEAST * (found[True, True] + found[False, True])


def test_a_leak_is_found_where_a_reader_sees_it() -> None:
    given = {one.id: (set(one.leaks), set(leaked(one.answer, one.own, one.question))) for one in general_answers()}
    wrong = {name: sets for name, sets in given.items() if sets[0] != sets[1]}
    assert len(given) >= 60
    assert len(wrong) <= (1 - LEAST) * len(given), wrong
