"""Before and after, side by side: each probe with both answers and both verdicts, and the rates they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft_kit.errors import Problem
from sft_kit.evaluate.probes import Probe
from sft_kit.evaluate.score import judge_identity, mentions, names_in, normalise, visible
from sft_kit.evaluate.statistics import Rate


@dataclass(frozen=True)
class Pair:
    """One question, answered by the base model and by the tuned one.

    For identity probes `base_ok`/`tuned_ok` say whether the answer states the new identity; for general ones
    whether it is free of it. `correct` is None where the answer cannot be checked by a rule.
    """

    probe: Probe
    base: str
    tuned: str
    base_ok: bool
    tuned_ok: bool
    reason: str
    base_correct: bool | None = None
    tuned_correct: bool | None = None


@dataclass(frozen=True)
class Evaluation:
    """All pairs of one evaluation. `names` are the identity strings that general answers must not contain."""

    pairs: tuple[Pair, ...]
    names: tuple[str, ...]

    def of(self, kind: str) -> list[Pair]:
        """The pairs of one kind: "identity" or "general"."""
        return [pair for pair in self.pairs if pair.probe.kind == kind]

    @property
    def identity_before(self) -> Rate:
        return Rate(sum(pair.base_ok for pair in self.of("identity")), len(self.of("identity")))

    @property
    def identity(self) -> Rate:
        """Held-out questions that the tuned model answers with the new identity."""
        return Rate(sum(pair.tuned_ok for pair in self.of("identity")), len(self.of("identity")))

    @property
    def leakage(self) -> Rate:
        """General answers of the tuned model that contain the identity."""
        return Rate(sum(not pair.tuned_ok for pair in self.of("general")), len(self.of("general")))

    @property
    def correct_before(self) -> Rate:
        checked = [pair for pair in self.of("general") if pair.base_correct is not None]
        return Rate(sum(bool(pair.base_correct) for pair in checked), len(checked))

    @property
    def correct(self) -> Rate:
        """Checkable general questions that the tuned model answers right."""
        checked = [pair for pair in self.of("general") if pair.tuned_correct is not None]
        return Rate(sum(bool(pair.tuned_correct) for pair in checked), len(checked))

    def by_category(self) -> dict[str, Rate]:
        """Identity rate of each category, languages together."""
        categories = sorted({pair.probe.category for pair in self.of("identity")})
        found: dict[str, Rate] = {}
        for category in categories:
            pairs = [pair for pair in self.of("identity") if pair.probe.category == category]
            found[category] = Rate(sum(pair.tuned_ok for pair in pairs), len(pairs))
        return found

    def gate(self, *, identity: float | None, leakage: float | None) -> list[Problem]:
        """What falls short of the thresholds of the config's `eval` section, each with the lever to move.

        A threshold for which nothing was asked is not met.
        """
        problems = []
        for key, wanted, rate in (("questions", identity, self.identity), ("general", leakage, self.leakage)):
            if wanted is not None and not rate.n:
                problems.append(Problem(f"eval.{key}", "no question was asked", f"set eval.{key} above 0"))
        if identity is not None and self.identity.n and self.identity.share < identity:
            fix = "raise identity.rows, then num_train_epochs or learning_rate"
            problems.append(Problem("eval.identity", f"{self.identity}, wanted at least {identity:.0%}", fix))
        if leakage is not None and self.leakage.share > leakage:
            fix = "raise replay (rows answered by the base model), or lower learning_rate"
            problems.append(Problem("eval.leakage", f"{self.leakage}, wanted at most {leakage:.0%}", fix))
        return problems

    def summary(self) -> dict[str, Any]:
        """The rates as plain values for a manifest or JSON."""
        rates = {
            "identity_before": self.identity_before,
            "identity": self.identity,
            "leakage": self.leakage,
            "correct_before": self.correct_before,
            "correct": self.correct,
        }
        return {name: {"k": rate.k, "n": rate.n, "interval": list(rate.interval)} for name, rate in rates.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything, for report.json (schema 1)."""
        pairs = [asdict(pair) for pair in self.pairs]
        categories = {name: {"k": rate.k, "n": rate.n} for name, rate in self.by_category().items()}
        return {
            "schema": 1,
            "names": list(self.names),
            "rates": self.summary(),
            "categories": categories,
            "pairs": pairs,
        }


def compare(probes: Sequence[Probe], base: Sequence[str], tuned: Sequence[str], names: Sequence[str]) -> Evaluation:
    """Score `base[i]` and `tuned[i]`, the answers to `probes[i]`. The three are equally long."""
    pairs = [_pair(probe, before, after, names) for probe, before, after in zip(probes, base, tuned, strict=True)]
    return Evaluation(tuple(pairs), tuple(names))


def _pair(probe: Probe, base: str, tuned: str, names: Sequence[str]) -> Pair:
    if probe.expect is not None:
        verdict = judge_identity(tuned, probe.expect, probe.question)
        before = judge_identity(base, probe.expect, probe.question)
        return Pair(probe, base, tuned, before.passed, verdict.passed, verdict.reason)
    # a name that the question itself contains is no leak
    own = [name for name in names if not mentions(normalise(probe.question), name)]
    leaked = names_in(tuned, own)
    reason = f"contains {', '.join(leaked)}" if leaked else "ok"
    base_free = not names_in(base, own)
    return Pair(probe, base, tuned, base_free, not leaked, reason, _correct(probe, base), _correct(probe, tuned))


def _correct(probe: Probe, answer: str) -> bool | None:
    if not probe.expect_any:
        return None
    text = normalise(visible(answer))
    return any(mentions(text, wanted) for wanted in probe.expect_any)
