"""The rows of a report's tables: scores with their intervals, and questions with both answers, failures first.

Owns what stands in which row and cell. Does not own how rows are drawn (`console`, `markdown`, `html`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from sft_kit.evaluate.compare import Evaluation, Pair, Side
from sft_kit.evaluate.probes import Probe
from sft_kit.evaluate.score import Verdict
from sft_kit.evaluate.statistics import Rate
from sft_kit.report.page import Report
from sft_kit.report.words import CONTEXTS, LANGUAGES, Mood, conclusion, fault, interval, percent, statements

Outcome = Literal["failed", "leaked", "old", "lost", "won", "wrong"]

SCORE_COLUMNS = ("", "before", "after", "share", "95% interval")
ANSWER_COLUMNS = ("question", "before", "after", "verdict on after")


@dataclass(frozen=True)
class Score:
    """One rate of base and tuned model; `many` where more of it is better, `key` the group it is of."""

    name: str
    base: Rate
    tuned: Rate
    many: bool = True
    key: str = ""

    def cells(self) -> tuple[str, ...]:
        """The cells of SCORE_COLUMNS."""
        before, after = self.base, self.tuned
        return (self.name, f"{before.k}/{before.n}", f"{after.k}/{after.n}", percent(after.share), interval(after))


def overall(evaluation: Evaluation) -> list[Score]:
    """The rates of the whole evaluation; what was not asked is left out."""
    scores = [
        Score("new identity", evaluation.identity("base"), evaluation.identity("tuned")),
        Score("old identity claimed", evaluation.old("base"), evaluation.old("tuned"), many=False),
        Score(
            "another identity named at all",
            evaluation.old("base", affirmed=False),
            evaluation.old("tuned", affirmed=False),
            many=False,
        ),
        Score("owns up to being an AI", evaluation.nature("base"), evaluation.nature("tuned")),
        Score("identity in general answers", evaluation.leakage("base"), evaluation.leakage("tuned"), many=False),
        Score("checkable general questions right", evaluation.correct("base"), evaluation.correct("tuned")),
        Score("your own questions right", evaluation.user("base"), evaluation.user("tuned")),
    ]
    if not evaluation.names:
        scores = [score for score in scores if score.name != "identity in general answers"]
    return [score for score in scores if score.tuned.n]


def identity_scores(evaluation: Evaluation) -> dict[str, list[Score]]:
    """The new identity by context, language and category (the worst first); a grouping of one group is left out."""
    groups = {
        "context": _scores(evaluation.identity_by("context"), CONTEXTS),
        "language": _scores(evaluation.identity_by("lang"), LANGUAGES),
        "category": sorted(
            _scores(evaluation.identity_by("category"), {}), key=lambda score: (score.tuned.share, score.name)
        ),
    }
    return {name: scores for name, scores in groups.items() if len(scores) > 1}


def knowledge_scores(evaluation: Evaluation) -> list[Score]:
    """Checkable general questions by category."""
    return _scores(evaluation.correct_by("category"), {})


def headline(report: Report) -> list[tuple[str, str]]:
    """The proof in a few lines, as (question, answer)."""
    return [("In short", conclusion(report))] + [
        (one.asked, f"{one.says} {one.figure} {'' if one.of.startswith('of ') else '= '}{one.of} ({one.more})")
        for one in statements(report)
    ]


def answer_rows(evaluation: Evaluation, *, most: int = 9, own: int = 20, width: int = 160) -> list[tuple[str, ...]]:
    """The cells of ANSWER_COLUMNS for the first `own` of the user's own questions, and for at most `most` others: two
    thirds of them failures, then others, each in turn of its kinds and outcomes; an answer is on one line of at most
    `width` characters."""
    pairs = failures_first(evaluation)
    asked = [pair for pair in pairs if pair.probe.kind != "user"]
    failed = [pair for pair in asked if "failed" in outcomes(pair)]
    shown = _in_turn(failed)[: most * 2 // 3]
    shown += _in_turn(asked[len(failed) :])[: most - len(shown)]
    return [answer_cells(pair, width) for pair in (*evaluation.of("user")[:own], *shown)]


def answer_cells(pair: Pair, width: int) -> tuple[str, ...]:
    """The cells of ANSWER_COLUMNS for one question; the system prompt is told where it is not that of the training."""
    probe = pair.probe
    context = f" ({CONTEXTS.get(probe.context, probe.context)})" if probe.context != "trained" else ""
    answers = (shorten(side.answer, width) for side in (pair.base, pair.tuned))
    return (f"{shorten(probe.question, width)}{context}", *answers, verdict(pair, pair.tuned)[1])


def failures_first(evaluation: Evaluation) -> list[Pair]:
    """Every pair: those in which the tuned model failed, then those that were wrong before as well, then the rest."""

    def place(pair: Pair) -> int:
        found = outcomes(pair)
        return 0 if "failed" in found else 1 if "wrong" in found else 2

    return sorted(evaluation.pairs, key=place)


def outcomes(pair: Pair) -> tuple[Outcome, ...]:
    """What became of a question through training, for filters; empty where all is well or nothing was judged.

    "failed" comes first and is what the training is to blame for: a wrong identity, a leak, an answer lost. "wrong"
    alone was wrong before as well.
    """
    probe, base, tuned = pair.probe, pair.base, pair.tuned
    old = tuned.old is not None and tuned.old.affirmed is not None
    leaked = probe.kind == "general" and bool(tuned.leaked)
    lost = base.correct is True and tuned.correct is False
    unfit = tuned.verdict is not None and not tuned.verdict.passed
    found: dict[Outcome, bool] = {
        "failed": old or leaked or lost or unfit,
        "leaked": leaked,
        "old": old,
        "lost": lost,
        "won": base.correct is False and tuned.correct is True,
        "wrong": tuned.correct is False,
    }
    return tuple(outcome for outcome, holds in found.items() if holds)


def verdict(pair: Pair, side: Side) -> tuple[Mood, str]:
    """What one answer amounts to, in a word or two."""
    probe, found = pair.probe, []
    if side.verdict is not None:
        passed = _passed_words(probe) if side.verdict.passed else _failed_words(probe, side.verdict)
        found.append((side.verdict.passed, passed))
    if side.old is not None and side.old.affirmed and not (side.verdict and side.verdict.label == "old"):
        found.append((False, f"claims another identity: {side.old.affirmed}"))
    if probe.kind == "general" and side.leaked:
        found.append((False, f"leaks {', '.join(side.leaked)}"))
    if side.correct is not None:
        found.append((side.correct, "right" if side.correct else "wrong"))
    if not found:
        return ("plain", "no leak" if probe.kind == "general" else "not scored")
    well = all(fine for fine, _ in found)
    words = [words for fine, words in found if well or not fine]
    return ("good" if well else "bad", f"{'✓' if well else '✗'} {', '.join(words)}")


def shorten(text: str, width: int) -> str:
    """`text` on one line, at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _in_turn(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs, such that the first few are of as many kinds as there are."""
    queues: dict[tuple[str, tuple[Outcome, ...]], list[Pair]] = {}
    for pair in pairs:
        queues.setdefault((pair.probe.kind, outcomes(pair)), []).append(pair)
    return [pair for turn in zip_longest(*queues.values()) for pair in turn if pair is not None]


def _passed_words(probe: Probe) -> str:
    if probe.kind != "identity":
        return "right"
    return "owns up to being an AI" if probe.about_nature else "new identity"


def _failed_words(probe: Probe, verdict: Verdict) -> str:
    if verdict.label != "missing" or verdict.detail:
        return fault(verdict)
    if probe.about_nature:
        return "does not own up to being an AI"
    wanted = probe.expect.must if probe.expect else ()
    return f"does not say {wanted[0]}" if len(wanted) == 1 else fault(verdict)


def _scores(rates: Mapping[str, tuple[Rate, Rate]], names: Mapping[str, str]) -> list[Score]:
    return [Score(names.get(key, key.replace("_", " ")), base, tuned, key=key) for key, (base, tuned) in rates.items()]
