"""The report as Markdown, for a terminal's pager, a pull request or a model card. What it says is `words` and `tables`;
this owns only how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sft_kit.evaluate.compare import Evaluation
from sft_kit.report.marked import readable
from sft_kit.report.page import Report
from sft_kit.report.tables import (
    ANSWER_COLUMNS,
    SCORE_COLUMNS,
    Score,
    answer_cells,
    failures_first,
    identity_scores,
    knowledge_scores,
    overall,
)
from sft_kit.report.words import KINDS, MEASURES, conclusion, gate, p_value, percent, statements

_ANSWER_CHARACTERS = 2_000  # of an answer in its cell; report.json has the whole


def markdown(report: Report) -> str:
    """The whole report: the verdict, the scores, then every question with both answers, failures first."""
    parts = [
        f"# {_inline(report.title)}",
        *_verdict(report),
        *_scores(report.evaluation),
        *_forgetting(report.evaluation),
        *_answers(report.evaluation),
        *_made_with(report),
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(report: Report) -> list[str]:
    lines = [f"- {_inline(one.says)} {one.figure} {one.of} ({one.more})" for one in statements(report)]
    parts = [f"**{conclusion(report)}**", *(["\n".join(lines)] if lines else [])]
    parts.append(gate(report)[1])
    if report.shortfalls:
        rows = [
            (MEASURES.get(one.measure, one.measure), one.got, one.wanted, "yes" if one.enforced else "no")
            for one in report.shortfalls
        ]
        parts.append(_table(("measure", "measured", "wanted", "enforced"), rows))
    if report.advice:
        levers = [f"1. **{_inline(one.do)}** ({_inline(one.why)})" for one in report.advice]
        parts += ["## What to change next", "\n".join(levers)]
    return parts


def _scores(evaluation: Evaluation) -> list[str]:
    scores = overall(evaluation)
    if not scores:
        return []
    parts = ["## Scores", _score_table("", scores)]
    for grouping, scores in identity_scores(evaluation).items():
        parts += [f"### New identity by {grouping}", _score_table(grouping, scores)]
    return parts


def _forgetting(evaluation: Evaluation) -> list[str]:
    scores, parts = knowledge_scores(evaluation), []
    if scores:
        flips = evaluation.flips()
        parts.append(
            f"{flips.lost} questions were right before only, {flips.won} after only (exact McNemar {p_value(flips.p)})."
        )
        parts.append(_score_table("kind of question", scores))
    if evaluation.likelihoods:
        rows = [(lang, f"{one.tokens:,}", f"× {one.ratio:.3f}") for lang, one in evaluation.likelihoods.items()]
        parts.append(_table(("text", "tokens", "perplexity after / before"), rows))
    return ["## What was forgotten", *parts] if parts else []


def _answers(evaluation: Evaluation) -> list[str]:
    pairs, parts = failures_first(evaluation), []
    for kind, name in KINDS.items():
        rows = [answer_cells(pair, _ANSWER_CHARACTERS) for pair in pairs if pair.probe.kind == kind]
        if rows:
            parts += [f"## {name.capitalize()} questions, failures first", _table(ANSWER_COLUMNS, rows)]
    return parts


def _made_with(report: Report) -> list[str]:
    parts = []
    if report.mix:
        rows = [
            (
                str(source.get("name", "")),
                _number(source.get("rows")),
                _number(source.get("trained")),
                _share(source.get("share")),
            )
            for source in report.mix
        ]
        parts += ["## Training data", _table(("source", "rows", "rows trained in an epoch", "share"), rows)]
    facts = [*report.facts, *([("evaluated", report.created)] if report.created else [])]
    if facts or report.command:
        parts.append("## How it was made")
    if facts:
        parts.append("\n".join(f"- {_inline(what)}: {_inline(value)}" for what, value in facts))
    if report.command:
        parts.append("\n".join(f"    {readable(line)}" for line in report.command.splitlines()))
    return parts


def _score_table(what: str, scores: Iterable[Score]) -> str:
    return _table((what, *SCORE_COLUMNS[1:]), [score.cells() for score in scores])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    """Text that stays inside its table cell and is shown as it is, not as markup."""
    return _plain(text, r"([\\|`*_\[\]!~])") or " "


def _inline(text: str) -> str:
    """Text on one line in which no link, no image (which a viewer would fetch), no code and no tag begins."""
    return _plain(text, r"([\\`\[\]])")


def _plain(text: str, marks: str) -> str:
    """`text` on one line, a backslash before each of `marks`."""
    return re.sub(marks, r"\\\1", readable(" ".join(text.split()))).replace("&", "&amp;").replace("<", "&lt;")


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _share(value: object) -> str:
    return percent(value) if isinstance(value, float) else ""
