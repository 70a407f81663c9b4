"""Before and after, side by side: each probe with both answers and what they amount to, and the rates they add up to.

Owns what is counted in which rate, and the JSON form of it all (schema 2). Does not own how one answer is judged
(`score`, `checks`), nor whether the rates are good enough (`gate`).

A question asked in two contexts counts twice in the identity rate. Its answers are not independent, so the interval is
a little too narrow; the rates of one context are free of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sft_kit.data.rows import Message
from sft_kit.data.text import fold
from sft_kit.errors import Problem, UsageError
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.probes import Kind, Probe
from sft_kit.evaluate.score import OldIdentity, Verdict, judge_identity, leaked, old_identity
from sft_kit.evaluate.statistics import Rate, mcnemar
from sft_kit.identity.generate import Expect

SCHEMA = 2

SideName = Literal["base", "tuned"]
Grouping = Literal["category", "lang", "context"]


@dataclass(frozen=True)
class Side:
    """One model's answer to a probe. `verdict` where the probe expects something of an identity answer, `correct` where
    it has a check, `old` for identity probes; `leaked` are the identity strings in an answer to any other probe."""

    answer: str
    verdict: Verdict | None = None
    correct: bool | None = None
    leaked: tuple[str, ...] = ()
    old: OldIdentity | None = None


@dataclass(frozen=True)
class Pair:
    """One probe, answered by the base model and by the tuned one."""

    probe: Probe
    base: Side
    tuned: Side

    def side(self, name: SideName) -> Side:
        return self.base if name == "base" else self.tuned


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of a bundled text, in nats per token, over `tokens` tokens."""

    tokens: int
    base: float
    tuned: float

    @property
    def ratio(self) -> float:
        """Perplexity of the tuned model over that of the base: 1.1 is 10 % more surprised by the same text."""
        return math.exp(self.tuned - self.base)


@dataclass(frozen=True)
class Flips:
    """Checkable questions whose answer was right before only (`lost`) or after only (`won`)."""

    lost: int
    won: int

    @property
    def p(self) -> float:
        """Exact two-sided p-value of McNemar's test."""
        return mcnemar(self.lost, self.won)

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.won} won, p = {self.p:.2g}"


@dataclass(frozen=True)
class Evaluation:
    """All pairs of one evaluation. `names` are the new name and author in every language; `likelihoods` by language."""

    pairs: tuple[Pair, ...]
    names: tuple[str, ...]
    likelihoods: Mapping[str, Likelihood] = field(default_factory=dict)

    def of(self, kind: Kind) -> list[Pair]:
        """The pairs of one kind, in the order asked."""
        return [pair for pair in self.pairs if pair.probe.kind == kind]

    def identity(self, side: SideName) -> Rate:
        """Answers to questions about the name, the maker or another's name that state the new identity."""
        return _passed(self._identity(), side)

    def nature(self, side: SideName) -> Rate:
        """Answers to "are you human?", "how old are you?" and the like that own up to being an AI. No part of the
        identity rate: most base models pass, and a right answer names no one."""
        return _passed([pair for pair in self.of("identity") if pair.probe.about_nature], side)

    def old(self, side: SideName, *, affirmed: bool = True) -> Rate:
        """Identity answers that claim another identity ("I am Qwen"); with `affirmed` off, those that name one at all,
        be it to deny it."""

        def told(pair: Pair) -> bool:
            old = pair.side(side).old
            return old is not None and bool(old.affirmed if affirmed else old.raw)

        return _rate(self.of("identity"), told)

    def leakage(self, side: SideName) -> Rate:
        """General answers that hold the identity or a part of it."""
        return _leaked(self.of("general"), side)

    def correct(self, side: SideName) -> Rate:
        """Checkable general questions that are answered right."""
        return _correct(self.of("general"), side)

    def user(self, side: SideName) -> Rate:
        """The user's own questions, those of them that a rule can judge, that are answered right."""
        judged = [p for p in self.of("user") if p.base.correct is not None or p.base.verdict is not None]
        return _rate(judged, lambda pair: _right(pair.side(side)))

    def flips(self) -> Flips:
        """Checkable general questions that base and tuned do not both answer right, or both wrong."""
        checked = [(p.base.correct, p.tuned.correct) for p in self.of("general") if p.base.correct is not None]
        return Flips(lost=checked.count((True, False)), won=checked.count((False, True)))

    def identity_by(self, grouping: Grouping) -> dict[str, tuple[Rate, Rate]]:
        """(base, tuned) identity rates by category, language or context, in the order asked."""
        return _by(grouping, self._identity(), _passed)

    def leakage_by(self, grouping: Grouping) -> dict[str, tuple[Rate, Rate]]:
        return _by(grouping, self.of("general"), _leaked)

    def correct_by(self, grouping: Grouping) -> dict[str, tuple[Rate, Rate]]:
        checked = [pair for pair in self.of("general") if pair.base.correct is not None]
        return _by(grouping, checked, _correct)

    def _identity(self) -> list[Pair]:
        return [pair for pair in self.of("identity") if not pair.probe.about_nature]

    def summary(self) -> dict[str, Any]:
        """The rates of the tuned model, and with `_before` of the base, as plain values for a manifest or JSON."""
        rates: dict[str, Any] = {}
        for suffix, side in _SIDES:
            rates[f"identity{suffix}"] = _plain(self.identity(side))
            rates[f"nature{suffix}"] = _plain(self.nature(side))
            rates[f"old{suffix}"] = _plain(self.old(side))
            rates[f"old_named{suffix}"] = _plain(self.old(side, affirmed=False))
            rates[f"leakage{suffix}"] = _plain(self.leakage(side))
            rates[f"correct{suffix}"] = _plain(self.correct(side))
            rates[f"user{suffix}"] = _plain(self.user(side))
        flips = self.flips()
        rates["flips"] = {"lost": flips.lost, "won": flips.won, "p": flips.p}
        rates["likelihood"] = {
            lang: {**asdict(likelihood), "ratio": likelihood.ratio} for lang, likelihood in self.likelihoods.items()
        }
        return rates

    def to_json(self) -> dict[str, Any]:
        """Everything, for report.json (schema 2). `from_json` needs names, likelihoods and pairs; the rest is for
        readers."""
        groupings: tuple[Grouping, ...] = ("category", "lang", "context")
        return {
            "schema": SCHEMA,
            "names": list(self.names),
            "rates": self.summary(),
            "identity_by": {by: _plain_pairs(self.identity_by(by)) for by in groupings},
            "leakage_by": {by: _plain_pairs(self.leakage_by(by)) for by in groupings[:2]},
            "correct_by": {by: _plain_pairs(self.correct_by(by)) for by in groupings[:2]},
            "likelihoods": {lang: asdict(likelihood) for lang, likelihood in self.likelihoods.items()},
            "pairs": [_pair_values(pair) for pair in self.pairs],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote. Raises UsageError for another schema and for values that are none."""
        if values.get("schema") != SCHEMA:
            message = f"the evaluation has schema {values.get('schema')!r}, and this sft-kit reads {SCHEMA}"
            raise UsageError(Problem("", message, "evaluate again with sft-kit eval"))
        try:
            pairs = tuple(map(_pair_of, values["pairs"]))
            likelihoods = {lang: Likelihood(**one) for lang, one in values["likelihoods"].items()}
            return cls(pairs, tuple(values["names"]), likelihoods)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"the evaluation cannot be read: {type(error).__name__}: {error}"
            raise UsageError(Problem("", message, "evaluate again with sft-kit eval")) from None


def compare(
    probes: Sequence[Probe],
    base: Sequence[str],
    tuned: Sequence[str],
    names: Sequence[str],
    likelihoods: Mapping[str, Likelihood] | None = None,
) -> Evaluation:
    """Score `base[i]` and `tuned[i]`, the answers to `probes[i]`. The three are equally long."""
    authors = _authors(probes, names)
    pairs = [
        Pair(probe, _side(probe, before, names, authors), _side(probe, after, names, authors))
        for probe, before, after in zip(probes, base, tuned, strict=True)
    ]
    return Evaluation(tuple(pairs), tuple(names), dict(likelihoods or {}))


def _authors(probes: Sequence[Probe], names: Sequence[str]) -> set[str]:
    """Those of `names` that only the questions for the maker ask for; what the model is called may be the same."""

    def wanted(category: str) -> set[str]:
        musts = (p.expect.must for p in probes if p.kind == "identity" and p.category == category and p.expect)
        return {text for must in musts for text in must} & set(names)

    return wanted("creator") - wanted("name") if wanted("name") else set()


def _side(probe: Probe, answer: str, names: Sequence[str], authors: Collection[str]) -> Side:
    identity = probe.kind == "identity"
    expect = probe.expect
    return Side(
        answer,
        judge_identity(answer, expect, probe.question, lang=probe.lang, own=names, authors=authors) if expect else None,
        _holds(probe.check, answer, probe.question) if probe.check else None,
        () if identity else leaked(answer, names, probe.question),
        old_identity(answer, names) if identity else None,
    )


def _holds(check: Check, answer: str, question: str) -> bool:
    """An echo of the question is no answer, even where its words happen to be right."""
    return fold(answer) != fold(question) and check.holds(answer)


def _right(side: Side) -> bool:
    """Whether all that can be judged of an answer is right."""
    return (side.verdict is None or side.verdict.passed) and side.correct is not False


def _rate(pairs: Sequence[Pair], holds: Callable[[Pair], bool]) -> Rate:
    return Rate(sum(map(holds, pairs)), len(pairs))


def _passed(pairs: Sequence[Pair], side: SideName) -> Rate:
    return _rate(pairs, lambda pair: (verdict := pair.side(side).verdict) is not None and verdict.passed)


def _leaked(pairs: Sequence[Pair], side: SideName) -> Rate:
    return _rate(pairs, lambda pair: bool(pair.side(side).leaked))


def _correct(pairs: Sequence[Pair], side: SideName) -> Rate:
    checked = [pair for pair in pairs if pair.side(side).correct is not None]
    return _rate(checked, lambda pair: pair.side(side).correct is True)


def _by(
    grouping: Grouping, pairs: Iterable[Pair], rate: Callable[[Sequence[Pair], SideName], Rate]
) -> dict[str, tuple[Rate, Rate]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(getattr(pair.probe, grouping), []).append(pair)
    return {name: (rate(members, "base"), rate(members, "tuned")) for name, members in groups.items()}


_SIDES: tuple[tuple[str, SideName], ...] = (("_before", "base"), ("", "tuned"))


def _plain(rate: Rate) -> dict[str, Any]:
    return {"k": rate.k, "n": rate.n, "interval": list(rate.interval)}


def _plain_pairs(rates: Mapping[str, tuple[Rate, Rate]]) -> dict[str, Any]:
    return {name: {"base": _plain(base), "tuned": _plain(tuned)} for name, (base, tuned) in rates.items()}


def _pair_values(pair: Pair) -> dict[str, Any]:
    probe = asdict(pair.probe)
    probe["check"] = pair.probe.check.to_json() if pair.probe.check else None
    return {"probe": probe, "base": asdict(pair.base), "tuned": asdict(pair.tuned)}


def _pair_of(values: Mapping[str, Any]) -> Pair:
    return Pair(_probe_of(values["probe"]), _side_of(values["base"]), _side_of(values["tuned"]))


def _probe_of(values: Mapping[str, Any]) -> Probe:
    given = dict(values)
    expect = given["expect"]
    if expect is not None:
        given["expect"] = Expect(tuple(expect["must"]), tuple(expect["must_not"]), expect["polarity"])
    if given["check"] is not None:
        given["check"] = Check.of(given["check"])
    given["turns"] = tuple(Message(**turn) for turn in given["turns"])
    return Probe(**given)


def _side_of(values: Mapping[str, Any]) -> Side:
    verdict, old = values["verdict"], values["old"]
    return Side(
        values["answer"],
        Verdict(**{**verdict, "found": tuple(verdict["found"])}) if verdict is not None else None,
        values["correct"],
        tuple(values["leaked"]),
        OldIdentity(tuple(old["raw"]), old["affirmed"]) if old is not None else None,
    )
