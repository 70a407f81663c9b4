"""The report as Markdown."""

from __future__ import annotations

from dataclasses import replace

from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.report.markdown import markdown
from sft_kit.report.page import Report
from tests.report.conftest import NAMES, PROBES


def test_it_says_the_verdict_first_and_shows_every_part(report: Report) -> None:
    text = markdown(report)
    lines = text.splitlines()
    assert lines[:3] == [
        "# v0-20260101-000000",
        "",
        "**The new identity took; an old identity still shows; it leaked; plain text became harder to predict.**",
    ]
    assert [line for line in lines if line.startswith("#")] == [
        "# v0-20260101-000000",
        "## What to change next",
        "## Scores",
        "### New identity by context",
        "### New identity by language",
        "### New identity by category",
        "## What was forgotten",
        "## Identity questions, failures first",
        "## General questions, failures first",
        "## Your own questions, failures first",
        "## Training data",
        "## How it was made",
    ]
    assert "| leakage | 1/4 | at most 0% | yes |" in lines
    assert "1. **replay: 120** (the identity leaked)" in lines
    assert "| en | 100 | × 1.649 |" in lines
    assert "| identity | 8 | 16 | 100% |" in lines
    assert "    swift sft --model 'a b'" in lines


def test_failures_are_the_first_rows_with_their_reason(report: Report) -> None:
    lines = markdown(report).splitlines()
    first = lines[lines.index("## Identity questions, failures first") + 4]
    assert first == (
        "| 你是谁？ (an unrelated system prompt) | 我是 Qwen。 | 我是 Qwen！ | ✗ claims another identity: Qwen |"
    )


def test_markup_in_an_answer_stays_text_inside_its_cell(report: Report) -> None:
    hostile = compare([PROBES[6]], ["<b>\u202e"], ["Bye | *see* you\n![x](http://a) ~~y~~"], NAMES)
    lines = markdown(replace(report, evaluation=hostile)).splitlines()
    row = next(line for line in lines if line.startswith("| Say bye."))
    assert row == (r"| Say bye. | &lt;b>\[U+202E\] | Bye \| \*see\* you \!\[x\](http://a) \~\~y\~\~ | no leak |")


def test_a_report_without_questions_or_training_is_short() -> None:
    assert markdown(Report("eval", Evaluation((), ()))) == (
        "# eval\n\n**Nothing was asked that a rule can judge.**\n\nNo threshold was judged.\n"
    )
