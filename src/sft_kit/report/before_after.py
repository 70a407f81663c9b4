"""The before/after report of one run: the rates, then every question with both answers, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sft_kit.evaluate.compare import Evaluation, Pair

COLUMNS = ("question", "before", "after", "verdict on after")


def headline(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The rates of an evaluation as (what, value); intervals are 95 % Wilson score intervals."""
    before, after = evaluation.identity_before, evaluation.identity
    lines = [("new identity on held-out questions", f"{before.k}/{before.n} before, {after} after")]
    if evaluation.leakage.n:
        lines.append(("identity in general answers", str(evaluation.leakage)))
    if evaluation.correct.n:
        before, after = evaluation.correct_before, evaluation.correct
        lines.append(("checkable general questions right", f"{before.k}/{before.n} before, {after} after"))
    return lines


def verdict(pair: Pair) -> str:
    """What the tuned answer amounts to, in a word or two."""
    if pair.probe.kind == "identity":
        return "✓ new identity" if pair.tuned_ok else f"✗ {pair.reason}"
    if not pair.tuned_ok:
        return "✗ leak"
    return {True: "✓ right", False: "✗ wrong", None: "no leak"}[pair.tuned_correct]


def table_rows(pairs: Iterable[Pair], *, width: int = 160) -> list[tuple[str, str, str, str]]:
    """(question, base answer, tuned answer, verdict), answers on one line of at most `width` characters."""
    return [
        (pair.probe.question, shorten(pair.base, width), shorten(pair.tuned, width), verdict(pair)) for pair in pairs
    ]


def markdown_report(evaluation: Evaluation, facts: Sequence[tuple[str, str]], title: str) -> str:
    """The whole report. `facts` are (what, value) lines about the run, such as its model and seconds."""
    lines = [f"# {title}", ""]
    lines += [f"- {what}: {_inline(value)}" for what, value in (*facts, *headline(evaluation))]
    lines += ["", "## Identity by category", "", "| category | new identity |", "|---|---|"]
    lines += [f"| {name} | {rate} |" for name, rate in evaluation.by_category().items()]
    for kind, heading in (("identity", "Held-out identity questions"), ("general", "General questions")):
        pairs = evaluation.of(kind)
        if pairs:
            lines += ["", f"## {heading}", "", f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|"]
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table_rows(pairs, width=2_000)]
    return "\n".join(lines) + "\n"


def shorten(text: str, width: int) -> str:
    """`text` on one line, at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _cell(text: str) -> str:
    """Text that stays inside its table cell and is shown as it is, not as markup."""
    return re.sub(r"([\\|`*_\[\]!])", r"\\\1", _inline(text)) or " "


def _inline(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
