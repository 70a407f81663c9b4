"""Two evaluations beside each other: what one run does better than another, on the questions both were asked.

Owns the matching of questions and the differences. Does not own the rates of one evaluation (`evaluate.compare`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from sft_kit.evaluate.compare import Evaluation, Pair
from sft_kit.evaluate.statistics import Rate, mcnemar
from sft_kit.report.words import p_value, percent

COLUMNS = ("measure", "theirs", "ours", "difference", "chance")


@dataclass(frozen=True)
class Difference:
    """One rate of the tuned models of two runs, on the questions both were asked; `p` is the exact two-sided p-value of
    McNemar's test."""

    measure: str
    theirs: Rate
    ours: Rate
    p: float

    def cells(self) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        points = 100 * (self.ours.share - self.theirs.share)
        return (self.measure, _rate(self.theirs), _rate(self.ours), f"{points:+.1f} points", p_value(self.p))


@dataclass(frozen=True)
class PerplexityDifference:
    """The perplexity of the same bundled text after each of two runs."""

    measure: str
    theirs: float
    ours: float

    def cells(self) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        return (self.measure, f"{self.theirs:.2f}", f"{self.ours:.2f}", f"{self.ours / self.theirs - 1:+.1%}", "")


@dataclass(frozen=True)
class Comparison:
    """`differences`, over the `both` questions that both runs were asked; so many only one of them was."""

    differences: tuple[Difference | PerplexityDifference, ...]
    both: int
    only_theirs: int
    only_ours: int

    @property
    def note(self) -> str:
        """What was compared, in a sentence."""
        left_out = self.only_theirs + self.only_ours
        asked = f"{self.both} questions that both runs were asked"
        return f"{asked}; {left_out} that only one of them was asked are left out" if left_out else asked


def against(ours: Evaluation, theirs: Evaluation) -> Comparison:
    """The tuned model of `ours` compared with that of `theirs`, each judged by its own run's names.

    A question is the same where its words, the turns before it and its context are.
    """
    mine, other = ({_key(pair): pair for pair in evaluation.pairs} for evaluation in (ours, theirs))
    both = [(other[key], mine[key]) for key in mine if key in other]
    differences = [
        _difference(measure, [(holds(theirs), holds(ours)) for theirs, ours in both])
        for measure, holds in _MEASURES.items()
    ]
    found: list[Difference | PerplexityDifference] = [one for one in differences if one is not None]
    for lang, one in ours.likelihoods.items():
        their = theirs.likelihoods.get(lang)
        if their is not None and their.tokens == one.tokens:  # else another text, or another tokenizer
            found.append(
                PerplexityDifference(f"perplexity of the {lang} text", math.exp(their.tuned), math.exp(one.tuned))
            )
    return Comparison(tuple(found), len(both), len(other) - len(both), len(mine) - len(both))


def against_markdown(comparison: Comparison, *, ours: str, theirs: str) -> str:
    """The comparison as a table; `ours` and `theirs` are the runs' names."""
    head = [theirs if column == "theirs" else ours if column == "ours" else column for column in COLUMNS]
    rows = [difference.cells() for difference in comparison.differences]
    lines = [" | ".join(row) for row in (head, ["---"] * len(COLUMNS), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    return f"# {ours} against {theirs}\n\n{comparison.note[0].upper()}{comparison.note[1:]}.\n\n{table}\n"


def _identity(pair: Pair) -> bool | None:
    if pair.probe.kind != "identity" or pair.probe.about_nature or pair.tuned.verdict is None:
        return None
    return pair.tuned.verdict.passed


def _old(pair: Pair) -> bool | None:
    return None if pair.tuned.old is None else pair.tuned.old.affirmed is not None


def _leaked(pair: Pair) -> bool | None:
    return bool(pair.tuned.leaked) if pair.probe.kind == "general" else None


def _right(pair: Pair) -> bool | None:
    return pair.tuned.correct if pair.probe.kind == "general" else None


_MEASURES: dict[str, Callable[[Pair], bool | None]] = {
    "new identity": _identity,
    "old identity claimed": _old,
    "identity in general answers": _leaked,
    "checkable general questions right": _right,
}


def _difference(measure: str, found: list[tuple[bool | None, bool | None]]) -> Difference | None:
    judged = [(theirs, ours) for theirs, ours in found if theirs is not None and ours is not None]
    if not judged:
        return None
    theirs, ours = (Rate(sum(map(bool, side)), len(judged)) for side in zip(*judged, strict=True))
    return Difference(measure, theirs, ours, mcnemar(judged.count((True, False)), judged.count((False, True))))


def _key(pair: Pair) -> Hashable:
    probe = pair.probe
    return probe.kind, probe.context, probe.system, probe.turns, probe.question


def _rate(rate: Rate) -> str:
    return f"{rate.k}/{rate.n} = {percent(rate.share)}"
