"""Which lever to move next, from what was measured and how it was trained.

Owns the order of the levers and the figures they are moved to. Does not own the thresholds (`gate`), nor who moves
them: this is advice, and the next run shows whether it was good.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sft_kit.evaluate.compare import Evaluation, Grouping
from sft_kit.evaluate.degenerate import repeats_itself
from sft_kit.evaluate.gate import LEAST_OF_A_CATEGORY, MOST_PERPLEXITY_RATIO, NOTHING_ASKED, USUAL, Thresholds, judge
from sft_kit.evaluate.statistics import Rate

FEW_STEPS = 60  # 28 steps at 5e-5 had no effect at all (IDENTITY.md)
GOOD_STEPS = 100
MOST_REPEATS = 6.0  # how often a model may see the same identity row (IDENTITY.md)
LOW_RATE = {False: 5e-5, True: 5e-6}  # by `full`; under it a few hundred short rows move next to nothing
GOOD_RATE = {False: 1e-4, True: 1e-5}  # ms-swift's own defaults
MOST_RATE = {False: 1e-3, True: 1e-4}  # at 1e-3 on 20 rows every answer became the identity (IDENTITY.md)
HIGH_LOSS = 1.0  # on identity and replay rows alone; a run that took ends under 0.5
SMALL_SHARE = 0.2
GOOD_SHARE = 0.3
GOOD_SYSTEM_SHARE = 0.3
USUAL_ROWS = 120
LEAST_REPLAY = 100
MOST_REPLAY = 300  # bundled prompts of one language
MANY_LOOPS = 0.03


@dataclass(frozen=True)
class Training:
    """How a model was trained, as far as it is known; None where it is not.

    `identity_share` is the identity's part of the rows of one epoch, `identity_repeats` how often the model saw each
    identity row over all epochs. `other_rows` are the user's own rows of one epoch, replay not among them. `max_steps`
    is set where the config ends the training by it, whatever its epochs. `system_share` of the identity rows stand
    under a system prompt of their own. `full` is a fine-tune of all weights. No `learning_rate` is ms-swift's default.
    """

    steps: int | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    lora_rank: int | None = None
    identity_rows: int | None = None
    identity_share: float | None = None
    identity_repeats: float | None = None
    replay_rows: int | None = None
    other_rows: int | None = None
    final_loss: float | None = None
    max_steps: int | None = None
    system_share: float | None = None
    languages: tuple[str, ...] = ()
    full: bool = False

    @property
    def rate(self) -> float:
        return self.learning_rate or GOOD_RATE[self.full]


@dataclass(frozen=True)
class Advice:
    """`lever`: a key of the config; `do`: what to write there; `why`: the measured figure that asks for it."""

    lever: str
    do: str
    why: str


def advise(
    evaluation: Evaluation, training: Training | None = None, enforced: Thresholds | None = None
) -> list[Advice]:
    """What to change so that `enforced` and the other usual thresholds are met, the most useful lever first and each
    at most once; empty where there is nothing to move.

    What the training broke (leakage, forgetting) comes before an identity that took on most questions, and after one
    that took on less than half or had few steps: such a model has to learn first, unless a high rate made it repeat
    itself. (After 20 steps the quickstart's model leaks and forgets more than after 150: scripts/bench/results.)
    """
    enforced = enforced or Thresholds()
    known = training or Training()
    missed = {shortfall.measure for shortfall in judge(evaluation, enforced) if shortfall.got != NOTHING_ASKED}
    identity = _learn(evaluation, known, enforced) if missed & {"identity", "category"} else []
    if "old" in missed:
        why = f"{evaluation.old('tuned')} of the identity answers claim another identity"
        identity.append(_more_rows(known, why))
    damage = _keep(evaluation, known, missed)
    loops = _loops(evaluation, known)
    rate = evaluation.identity("tuned")
    few_steps = known.steps is not None and known.steps < FEW_STEPS
    diverged = bool(loops) and not few_steps and known.rate >= MOST_RATE[known.full]
    if (
        identity and (rate.share < 0.5 or few_steps) and not diverged
    ):  # what few steps leave unfinished is no sign of a high rate
        return _once([*identity, *([] if few_steps else loops), *damage])
    return _once([*damage, *loops, *identity])


def _learn(evaluation: Evaluation, training: Training, enforced: Thresholds) -> list[Advice]:
    """The identity did not take, or not everywhere."""
    least = _threshold(enforced, "identity")
    rate = evaluation.identity("tuned")
    starved = _starved(training, rate)
    found = [*starved]
    found += _contexts(evaluation, training, least)
    found += _lagging(evaluation, training, "lang", least)
    if training.identity_share is not None and training.identity_share < SMALL_SHARE and training.other_rows:
        why = f"{training.identity_share:.0%} of the rows are identity rows; {rate} took"
        found.append(Advice("identity.share", f"identity.share: {GOOD_SHARE:g}", why))
    faster = not starved and 2 * training.rate <= MOST_RATE[training.full]  # the loss after few steps tells nothing
    if faster and not training.other_rows and (training.final_loss or 0.0) > HIGH_LOSS:
        why = f"the loss ended at {training.final_loss:.2f}; {rate} took"
        found.append(_rate_advice(training, 2, why))
    found += _lagging(evaluation, training, "category", _threshold(enforced, "category"))
    if not found and faster and rate.share < 0.5:
        found.append(_rate_advice(training, 2, f"identity {rate}, with nothing else that is too little"))
    return found or [_more_rows(training, f"identity {rate}")]


def _starved(training: Training, rate: Rate) -> list[Advice]:
    """Too few steps and too low a rate, what falls shorter first."""
    found: list[tuple[float, list[Advice]]] = []
    if training.steps and training.steps < FEW_STEPS:
        found.append((FEW_STEPS / training.steps, _more_steps(training, training.steps, rate)))
    if training.rate < LOW_RATE[training.full]:
        good = GOOD_RATE[training.full]
        why = f"learning_rate {_number(training.rate)} is low for {'all weights' if training.full else 'LoRA'}: {rate}"
        advice = Advice("learning_rate", f"learning_rate: {_number(good)}", f"{why} took")
        found.append((LOW_RATE[training.full] / training.rate, [advice]))
    found.sort(key=lambda one: -one[0])
    return [advice for _, several in found for advice in several]


def _more_steps(training: Training, steps: int, rate: Rate) -> list[Advice]:
    """By epochs, up to six repeats of each identity row; what that leaves missing by rows."""
    why = f"{steps} optimizer steps are few (under {FEW_STEPS} an identity rarely takes): {rate} took"
    epochs = training.epochs or 3.0
    repeats_an_epoch = training.identity_repeats / epochs if training.identity_repeats else 1.0
    wanted = epochs * GOOD_STEPS / steps
    most = max(1, math.floor(MOST_REPEATS / repeats_an_epoch + 1e-6))
    new = min(math.ceil(wanted), most)
    found: list[Advice] = []
    if new > epochs:
        stop = ", and no max_steps" if training.max_steps else ""
        found.append(Advice("num_train_epochs", f"num_train_epochs: {new}{stop}", why))
    if wanted > 1.2 * max(new, epochs):
        rows = _tens((training.identity_rows or USUAL_ROWS) * wanted / max(new, epochs))
        found.append(Advice("identity.rows", f"identity.rows: {rows}", why))
    return found


def _contexts(evaluation: Evaluation, training: Training, least: float) -> list[Advice]:
    """It took with the trained system prompt and not with others: more rows bring more system prompts."""
    rates = {context: tuned for context, (_, tuned) in evaluation.identity_by("context").items()}
    trained = rates.pop("trained", Rate(0, 0))
    low = _low(rates, least)
    if not low or not trained.n or trained.share < least:
        return []
    why = f"with the trained system prompt {trained}, but {_listed(low)}"
    share = training.system_share
    if share is not None and share < GOOD_SYSTEM_SHARE:
        lever = "identity.system_share"
        had = f"{share:.0%} of the identity rows stand under another system prompt"
        return [Advice(lever, f"{lever}: {GOOD_SYSTEM_SHARE:g}", f"{why}; {had}")]
    why += "; more rows bring more system prompts"
    return [_more_rows(training, why)]


def _lagging(evaluation: Evaluation, training: Training, grouping: Grouping, least: float) -> list[Advice]:
    """Some languages or categories are low while others are not."""
    rates = {name: tuned for name, (_, tuned) in evaluation.identity_by(grouping).items()}
    low = _low(rates, least)
    if not low or len(low) == sum(rate.n >= LEAST_OF_A_CATEGORY for rate in rates.values()):
        return []
    return [_more_rows(training, f"low in {_listed(low)}, while the rest took")]


def _keep(evaluation: Evaluation, training: Training, missed: set[str]) -> list[Advice]:
    """The identity leaks, or what the model knew is lost."""
    figures: list[str] = []
    if "leakage" in missed:
        figures.append(f"the identity stands in {evaluation.leakage('tuned')} general answers")
    if "forgetting" in missed:
        before, after = evaluation.correct("base"), evaluation.correct("tuned")
        figures.append(f"checkable answers fell from {before.k} to {after.k} of {after.n} ({evaluation.flips()})")
    if "likelihood" in missed:
        ratios = {lang: one.ratio for lang, one in evaluation.likelihoods.items() if one.ratio > MOST_PERPLEXITY_RATIO}
        told = ", ".join(f"x {ratio:.2f} ({lang})" for lang, ratio in ratios.items())
        figures.append(f"general text became more perplexing: {told}")
    if not figures:
        return []
    why = "; ".join(figures)
    found = [*_replay(training, why), *_fewer_repeats(training, why)]
    # A lower rate costs identity too: not where that is missing and something else can be moved.
    unlearned = evaluation.identity("tuned").share < 0.5
    if missed & {"identity", "category"} and (found or unlearned):
        return found
    return [*found, _rate_advice(training, 0.5, why)]


def _replay(training: Training, why: str) -> list[Advice]:
    rows, identity = training.replay_rows or 0, training.identity_rows or 0
    most = MOST_REPLAY * max(1, len(training.languages))
    wanted = min(most, _tens(max(LEAST_REPLAY, identity, 2 * rows)))
    if rows >= max(LEAST_REPLAY, identity) or rows >= wanted:
        return []
    had = f"{rows} replay rows" if rows else "no replay rows" if training.replay_rows == 0 else "replay unknown"
    return [Advice("replay", f"replay: {wanted}", f"{why}; {had}")]


def _fewer_repeats(training: Training, why: str) -> list[Advice]:
    repeats, epochs = training.identity_repeats or 0.0, training.epochs or 0.0
    if repeats <= MOST_REPEATS or not epochs:
        return []
    new = max(1, math.floor(epochs * MOST_REPEATS / repeats))
    rows = _tens((training.identity_rows or USUAL_ROWS) * repeats / MOST_REPEATS)
    seen = f"{why}; each identity row was seen {repeats:.0f} times (over {MOST_REPEATS:.0f} is too often)"
    if new >= epochs:  # the rows of one epoch are repeated already, by identity.share
        return [Advice("identity.rows", f"identity.rows: {rows}", seen)]
    return [Advice("num_train_epochs", f"num_train_epochs: {new}, with identity.rows: {rows}", seen)]


def _loops(evaluation: Evaluation, training: Training) -> list[Advice]:
    """Answers that repeat themselves, and did not before."""
    answers = [(pair.base.answer, pair.tuned.answer) for pair in evaluation.pairs]
    new = Rate(sum(repeats_itself(tuned) and not repeats_itself(base) for base, tuned in answers), len(answers))
    if new.share <= MANY_LOOPS:
        return []
    return [_rate_advice(training, 0.5, f"{new} answers repeat themselves and did not before")]


def _more_rows(training: Training, why: str) -> Advice:
    return Advice("identity.rows", f"identity.rows: {_tens(2 * (training.identity_rows or USUAL_ROWS))}", why)


def _rate_advice(training: Training, factor: float, why: str) -> Advice:
    return Advice("learning_rate", f"learning_rate: {_number(training.rate * factor)}", why)


def _threshold(enforced: Thresholds, name: str) -> float:
    own = getattr(enforced, name)
    return float(getattr(USUAL, name) if own is None else own)


def _low(rates: Mapping[str, Rate], least: float) -> dict[str, Rate]:
    return {name: rate for name, rate in rates.items() if rate.n >= LEAST_OF_A_CATEGORY and rate.share < least}


def _listed(rates: Mapping[str, Rate]) -> str:
    return ", ".join(f"{name} {rate.k}/{rate.n}" for name, rate in rates.items())


def _once(advice: Iterable[Advice]) -> list[Advice]:
    """Each lever where it stands first; what else asks for the same is added to its why."""
    found: dict[str, Advice] = {}
    for one in advice:
        first = found.setdefault(one.lever, one)
        if first.do == one.do and one.why not in first.why:
            found[one.lever] = Advice(first.lever, first.do, f"{first.why}; {one.why}")
    return list(found.values())


def _tens(number: float) -> int:
    """Rounded up, as one writes it."""
    return 10 * math.ceil(number / 10 - 1e-9)


def _number(rate: float) -> str:
    """1e-4 and not 0.0001."""
    return re.sub(r"(?:\.0)?e([+-])0*", r"e\1", f"{rate:.1e}")
