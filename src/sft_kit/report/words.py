"""What the figures of a report say, in plain words: did it take, did it leak, what was lost, is the gate met.

Owns the wording, which the terminal, Markdown and the page share. Does not own what counts as enough: that is told by
the report's shortfalls (`evaluate.gate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sft_kit.evaluate.compare import Evaluation
from sft_kit.evaluate.gate import NOTHING_ASKED
from sft_kit.evaluate.score import Label, Verdict
from sft_kit.evaluate.statistics import Rate
from sft_kit.report.page import Report

Mood = Literal["good", "doubt", "bad", "plain"]

KINDS = {"identity": "identity", "general": "general", "user": "your own"}
LANGUAGES = {"en": "English", "zh": "Chinese"}
CONTEXTS = {
    "trained": "trained system prompt",
    "none": "no system prompt",
    "vendor": "the vendor's system prompt",
    "custom": "an unrelated system prompt",
    "own": "the question's own system prompt",
}
MEASURES = {
    "identity": "new identity",
    "category": "new identity, one category",
    "old": "old identity claimed",
    "leakage": "leakage",
    "forgetting": "forgetting",
    "likelihood": "plain text",
}


_FAULTS: Mapping[Label, str] = {
    "empty": "empty",
    "token": "holds a special token",
    "placeholder": "holds an unfilled placeholder",
    "echo": "only repeats the question",
    "loop": "repeats itself",
    "language": "in another language",
    "old": "claims another identity",
    "forbidden": "says what it must not",
    "denies": "denies it",
    "confirms": "agrees to a wrong identity",
    "refusal": "refuses to answer",
    "missing": "lacks what was asked for",
}


@dataclass(frozen=True)
class Statement:
    """One question of the proof with its answer, in a sentence and, for the headline, in a few words (`brief`).
    `figure` is its number, `of` what that counts, `more` the rest."""

    asked: str
    brief: str
    says: str
    mood: Mood
    figure: str
    of: str
    more: str


def statements(report: Report) -> list[Statement]:
    """The answers to the questions that were asked of the run, in the order a reader asks them."""
    evaluation = report.evaluation
    missed = {short.measure for short in report.shortfalls if short.got != NOTHING_ASKED}
    found = []
    if evaluation.identity("tuned").n:
        found.append(_took(evaluation, missed))
    if evaluation.old("tuned").n:
        found.append(_old(evaluation, missed))
    if evaluation.leakage("tuned").n and evaluation.names:
        found.append(_leaked(evaluation, missed))
    if evaluation.correct("tuned").n:
        found.append(_forgot(evaluation, missed))
    if evaluation.user("tuned").n:
        found.append(_user(evaluation))
    return found


def conclusion(report: Report) -> str:
    """The whole proof in a sentence: `The new identity took; nothing leaked; nothing measurable was forgotten.`"""
    found = statements(report)
    briefs = "; ".join(one.brief for one in found if one.brief)
    if not briefs and found:
        return found[0].says
    return _sentence(briefs or "nothing was asked that a rule can judge")


def fault(verdict: Verdict) -> str:
    """What is wrong with an answer, for a reader: `claims another identity: Qwen`."""
    words = _FAULTS.get(verdict.label, verdict.label)
    return f"{words}: {verdict.detail}" if verdict.detail else words


def gate(report: Report) -> tuple[Mood, str]:
    """Whether the gate is met, in a sentence."""
    enforced = [shortfall for shortfall in report.shortfalls if shortfall.enforced]
    if enforced:
        return "bad", f"The gate is not met: {_count(len(enforced), 'threshold')} missed."
    if report.shortfalls:
        told = _count(len(report.shortfalls), "usual threshold")
        which = "is missed, which" if len(report.shortfalls) == 1 else "are missed, which"
        return "doubt", f"{told} {which} this run does not enforce."
    if not statements(report):
        return "plain", "No threshold was judged."
    return "good", "Every threshold is met."


def percent(share: float) -> str:
    """`96.7%`, `100%`: one decimal, and none where there is nothing to show."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def interval(rate: Rate) -> str:
    """`88.6–99.1%`"""
    low, high = rate.interval
    return f"{percent(low).removesuffix('%')}–{percent(high)}"


def p_value(p: float) -> str:
    """`p = 0.11`, `p < 0.001`"""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _took(evaluation: Evaluation, missed: set[str]) -> Statement:
    before, after = evaluation.identity("base"), evaluation.identity("tuned")
    mood: Mood = "good"
    brief = "the new identity took"
    if "identity" in missed:
        mood = "bad"
        brief = "the new identity took only in part" if after.share >= 0.5 else "the new identity did not take"
    elif "category" in missed:
        mood, brief = "doubt", "the new identity took, but not in every category"
    of = f"{after.k} of {after.n} held-out questions"
    more = _interval_and_before(before, after)
    return Statement("Did it take?", brief, _sentence(brief), mood, percent(after.share), of, more)


def _old(evaluation: Evaluation, missed: set[str]) -> Statement:
    before, after = evaluation.old("base"), evaluation.old("tuned")
    claimed = Counter(
        pair.tuned.old.affirmed for pair in evaluation.of("identity") if pair.tuned.old and pair.tuned.old.affirmed
    )
    names = ", ".join(f"{name} ({count})" for name, count in claimed.most_common(3))
    says = f"Some answers claim another identity: {names}." if after.k else "No answer claims another identity."
    mood: Mood = "bad" if "old" in missed else "doubt" if after.k else "good"
    return Statement(
        "Is the old identity gone?", "an old identity still shows" if after.k else "", says, mood,
        f"{after.k}", f"of {after.n} identity answers", _interval_and_before(before, after),
    )  # fmt: skip


def _leaked(evaluation: Evaluation, missed: set[str]) -> Statement:
    before, after = evaluation.leakage("base"), evaluation.leakage("tuned")
    mood: Mood = "bad" if "leakage" in missed else "doubt" if after.k else "good"
    return Statement(
        "Did it leak?", "it leaked" if after.k else "nothing leaked",
        f"{'The identity' if after.k else 'Nothing'} leaked into unrelated answers.", mood,
        f"{after.k}", f"of {after.n} general answers", _interval_and_before(before, after),
    )  # fmt: skip


def _forgot(evaluation: Evaluation, missed: set[str]) -> Statement:
    before, after, flips = evaluation.correct("base"), evaluation.correct("tuned"), evaluation.flips()
    mood: Mood = "good"
    brief, says = "nothing measurable was forgotten", "Nothing measurable was forgotten."
    if not before.k:
        mood, brief, says = "plain", "", "Nothing could be lost: none were right before."
    elif "forgetting" in missed:
        mood, brief, says = "bad", "some of what it knew was forgotten", "Some of what it knew was forgotten."
    elif "likelihood" in missed:
        mood, brief = "doubt", "plain text became harder to predict"
        says = "No more answers were lost than by chance, but plain text became harder to predict."
    elif after.k < before.k:
        says = "No loss beyond what chance would give."
    return Statement(
        "Was anything lost?", brief, says, mood, percent(after.share),
        f"{after.k} of {after.n} checkable questions right",
        f"{before.k} before; {flips.lost} lost, {flips.won} won, {p_value(flips.p)}",
    )  # fmt: skip


def _user(evaluation: Evaluation) -> Statement:
    before, after = evaluation.user("base"), evaluation.user("tuned")
    compared = "As many" if after.k == before.k else "More" if after.k > before.k else "Fewer"
    return Statement(
        "And your own questions?", "", f"{compared} are right {'as' if after.k == before.k else 'than'} before.",
        "doubt" if after.k < before.k else "plain", percent(after.share), f"{after.k} of {after.n} right",
        _interval_and_before(before, after),
    )  # fmt: skip


def _sentence(brief: str) -> str:
    return f"{brief[0].upper()}{brief[1:]}."


def _interval_and_before(before: Rate, after: Rate) -> str:
    return f"95% interval {interval(after)}; {before.k} before"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
