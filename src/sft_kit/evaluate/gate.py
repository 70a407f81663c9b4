"""Whether an evaluation reaches what it should: thresholds, and what falls short of them.

Owns the usual thresholds and how each is judged. Does not own what to do about a shortfall (`advice`), nor the exit
code (`run`, `cli`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from sft_kit.evaluate.compare import Evaluation
from sft_kit.evaluate.statistics import Rate

LEAST_OF_A_CATEGORY = 5
MOST_PERPLEXITY_RATIO = 1.10
NOTHING_ASKED = "nothing was asked"


@dataclass(frozen=True)
class Thresholds:
    """What is wanted; None asks for nothing. Shares are in 0..1.

    `identity`: least share of identity answers that pass, over all contexts. `category`: the same within each
    category. `old`: most identity answers that claim the old identity. `leakage`: most general answers with the
    identity in them. `forgetting`: the p-value under which a drop on checkable questions counts.
    """

    identity: float | None = None
    category: float | None = None
    old: float | None = None
    leakage: float | None = None
    forgetting: float | None = None


USUAL = Thresholds(identity=0.95, category=0.85, old=0.02, leakage=0.0, forgetting=0.05)


@dataclass(frozen=True)
class Shortfall:
    """One measure that is not met. `measure` is a key of the config's `eval` section, or "likelihood", which has no
    threshold there; `enforced` ones fail the gate, the others are only told."""

    measure: str
    got: str
    wanted: str
    enforced: bool


def judge(evaluation: Evaluation, enforced: Thresholds) -> list[Shortfall]:
    """What falls short of `enforced` and, where that leaves a threshold out, of the usual one.

    An enforced threshold for which nothing was asked is not met; a usual one is not told then. A category with under
    five answers is not judged by itself: one miss of four would be 75 %, and says nothing. Forgetting needs a drop and
    a p-value: a model that answers two questions of 60 otherwise has not forgotten. A text that became over 10 % more
    perplexing is told and never enforced: a run that also teaches a new style moves it, rightly.
    """
    found: list[Shortfall] = []
    for field in fields(Thresholds):
        own = getattr(enforced, field.name)
        threshold = getattr(USUAL, field.name) if own is None else own
        for got, wanted in _MEASURES[field.name](evaluation, threshold):
            if own is not None or got != NOTHING_ASKED:
                found.append(Shortfall(field.name, got, wanted, own is not None))
    for lang, likelihood in evaluation.likelihoods.items():
        if likelihood.ratio > MOST_PERPLEXITY_RATIO:
            got = f"perplexity of the {lang} text x {likelihood.ratio:.2f}"
            found.append(Shortfall("likelihood", got, f"at most x {MOST_PERPLEXITY_RATIO:.2f}", enforced=False))
    return found


_Misses = Iterator[tuple[str, str]]


def _identity(evaluation: Evaluation, least: float) -> _Misses:
    yield from _at_least("", evaluation.identity("tuned"), least)


def _category(evaluation: Evaluation, least: float) -> _Misses:
    rates = {name: tuned for name, (_, tuned) in evaluation.identity_by("category").items()}
    judged = {name: rate for name, rate in rates.items() if rate.n >= LEAST_OF_A_CATEGORY}
    if not judged:
        wanted = f"at least {least:.0%} of each category of {LEAST_OF_A_CATEGORY} answers or more: raise eval.questions"
        yield (NOTHING_ASKED, wanted)
    for name, rate in judged.items():
        yield from _at_least(f"{name} ", rate, least)


def _old(evaluation: Evaluation, most: float) -> _Misses:
    yield from _at_most(evaluation.old("tuned"), most)


def _leakage(evaluation: Evaluation, most: float) -> _Misses:
    yield from _at_most(evaluation.leakage("tuned"), most)


def _forgetting(evaluation: Evaluation, p: float) -> _Misses:
    before, after, flips = evaluation.correct("base"), evaluation.correct("tuned"), evaluation.flips()
    wanted = f"no drop with p < {p:g}"
    if not after.n:
        yield (NOTHING_ASKED, wanted)
    elif after.k < before.k and flips.p < p:
        yield (f"{before.k}/{before.n} before, {after} after; {flips}", wanted)


_MEASURES = {
    "identity": _identity,
    "category": _category,
    "old": _old,
    "leakage": _leakage,
    "forgetting": _forgetting,
}


def _at_least(what: str, rate: Rate, least: float) -> _Misses:
    if not rate.n or rate.share < least:
        yield (f"{what}{rate}" if rate.n else NOTHING_ASKED, f"at least {least:.0%}")


def _at_most(rate: Rate, most: float) -> _Misses:
    if not rate.n or rate.share > most:
        yield (str(rate) if rate.n else NOTHING_ASKED, f"at most {most:.0%}")
