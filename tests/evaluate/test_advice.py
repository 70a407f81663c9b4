"""Which lever is named first, for runs that fell short in known ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sft_kit.evaluate.advice import Advice, Training, advise
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.compare import Evaluation, Likelihood, compare
from sft_kit.evaluate.gate import Thresholds
from sft_kit.evaluate.probes import Context, Probe
from sft_kit.identity.generate import Expect

ME, QWEN = "I am Jingheng.", "I am Qwen."
# The quickstart with as much replay as it takes: what the other trainings here are one step away from.
GOOD = Training(
    steps=180, epochs=3.0, learning_rate=5e-4, lora_rank=8, identity_rows=120, identity_share=0.5, identity_repeats=3.0,
    replay_rows=120, other_rows=0, final_loss=0.3, languages=("en",),
)  # fmt: skip

Asked = list[tuple[Probe, str, str]]


def identity(
    passed: int,
    of: int,
    *,
    context: Context = "trained",
    category: str = "name",
    lang: str = "en",
    other: str = "Hello.",
) -> Asked:
    probe = Probe("i", "identity", lang, category, "Who?", expect=Expect(must=("Jingheng",)), context=context)
    return [(probe, QWEN, ME if n < passed else other) for n in range(of)]


def general(leaking: int = 0, lost: int = 0, of: int = 40) -> Asked:
    probe = Probe("g", "general", "en", "fact", "Capital of France?", check=Check(any_of=("Paris",)))
    tuned = ["Paris, says Jingheng"] * leaking + ["Lyon"] * lost
    return [(probe, "Paris", answer) for answer in [*tuned, *["Paris"] * (of - len(tuned))]]


def evaluate(asked: Sequence[tuple[Probe, str, str]], **likelihoods: Likelihood) -> Evaluation:
    probes, base, tuned = zip(*asked, strict=True)
    return compare(probes, base, tuned, ["Jingheng"], likelihoods)


def levers(evaluation: Evaluation, training: Training | None) -> list[str]:
    return [advice.lever for advice in advise(evaluation, training)]


def test_where_nothing_falls_short_there_is_nothing_to_move() -> None:
    evaluation = evaluate(identity(40, 40) + general())
    assert advise(evaluation, replace(GOOD, steps=5, replay_rows=0, identity_repeats=20.0)) == []
    assert advise(evaluation) == []


def test_too_few_steps_ask_for_epochs_first() -> None:
    training = replace(GOOD, steps=20, epochs=1.0, identity_repeats=1.0)
    assert advise(evaluate(identity(1, 40) + general()), training) == [
        Advice("num_train_epochs", "num_train_epochs: 5",
               "20 optimizer steps are few (under 60 an identity rarely takes): 1/40 = 2.5% (0.4%-12.9%) took"),
    ]  # fmt: skip


def test_after_few_steps_epochs_come_before_replay_even_where_most_of_the_identity_took() -> None:
    training = replace(GOOD, steps=20, epochs=1.0, identity_repeats=1.0, replay_rows=0)
    assert levers(evaluate(identity(32, 40) + general(leaking=9)), training)[:2] == ["num_train_epochs", "replay"]


def test_steps_that_six_repeats_of_a_row_cannot_give_are_asked_of_the_rows() -> None:
    training = replace(GOOD, steps=22, epochs=3.0, identity_repeats=3.0)  # 120 rows, 16 rows a step
    found = advise(evaluate(identity(1, 40) + general()), training)
    assert [advice.do for advice in found] == ["num_train_epochs: 6", "identity.rows: 280"]


def test_a_high_loss_after_few_steps_or_at_a_high_rate_does_not_ask_for_a_higher_one() -> None:
    evaluation = evaluate(identity(1, 40) + general())
    few = replace(GOOD, steps=20, epochs=1.0, identity_repeats=1.0, final_loss=3.0)
    assert levers(evaluation, few) == ["num_train_epochs"]
    assert levers(evaluation, replace(GOOD, learning_rate=1e-3, final_loss=3.0)) == ["identity.rows"]


def test_a_run_that_was_stopped_early_is_told_to_drop_max_steps() -> None:
    training = replace(GOOD, steps=5, epochs=0.08, identity_repeats=0.08, max_steps=5)
    (advice,) = advise(evaluate(identity(0, 40) + general()), training)
    assert (advice.lever, advice.do) == ("num_train_epochs", "num_train_epochs: 2, and no max_steps")


def test_what_was_not_asked_moves_nothing() -> None:
    assert advise(evaluate(general()), GOOD, Thresholds(identity=0.95, category=0.85, old=0.02)) == []


def test_a_low_rate_is_raised_and_what_falls_shorter_comes_first() -> None:
    evaluation = evaluate(identity(1, 40) + general())
    assert advise(evaluation, replace(GOOD, learning_rate=1e-5)) == [
        Advice("learning_rate", "learning_rate: 1e-4",
               "learning_rate 1e-5 is low for LoRA: 1/40 = 2.5% (0.4%-12.9%) took"),
    ]  # fmt: skip
    both = replace(GOOD, steps=50, learning_rate=1e-5)
    assert levers(evaluation, both) == ["learning_rate", "num_train_epochs"]
    assert levers(evaluation, replace(both, steps=8)) == ["num_train_epochs", "identity.rows", "learning_rate"]
    assert levers(evaluation, replace(GOOD, learning_rate=1e-5, full=True)) == [
        "learning_rate"
    ]  # then all else is good
    assert advise(evaluation, replace(GOOD, learning_rate=1e-5, full=True))[0].do == "learning_rate: 2e-5"


def test_a_leak_without_replay_asks_for_replay_first() -> None:
    # what scripts/bench/results/replay_effect.json measured without replay: 35 of 40, and 15 of 40 leak
    training = replace(GOOD, replay_rows=0, learning_rate=1e-3, epochs=4.0, identity_repeats=4.0)
    evaluation = evaluate(identity(35, 40) + general(leaking=15))
    assert advise(evaluation, training)[0] == Advice(
        "replay",
        "replay: 120",
        "the identity stands in 15/40 = 37.5% (24.2%-53.0%) general answers; no replay rows",
    )
    assert levers(evaluation, training) == ["replay", "identity.rows"]


def test_forgetting_without_replay_asks_for_replay_first() -> None:
    found = advise(evaluate(identity(40, 40) + general(lost=7)), replace(GOOD, replay_rows=0))
    assert [advice.lever for advice in found] == ["replay", "learning_rate"]
    assert found[0].why == "checkable answers fell from 40 to 33 of 40 (7 lost, 0 won, p = 0.016); no replay rows"


def test_less_replay_than_identity_is_raised_to_it() -> None:
    assert advise(evaluate(general(leaking=1)), replace(GOOD, replay_rows=46))[0].do == "replay: 120"
    assert (
        advise(evaluate(general(leaking=1)), replace(GOOD, identity_rows=400, replay_rows=250))[0].do == "replay: 300"
    )


def test_a_leak_with_enough_replay_asks_for_a_lower_rate() -> None:
    (advice,) = advise(evaluate(identity(40, 40) + general(leaking=2)), GOOD)
    assert (advice.lever, advice.do) == ("learning_rate", "learning_rate: 2.5e-4")


def test_rows_that_are_seen_too_often_ask_for_fewer_epochs_and_more_rows() -> None:
    training = replace(GOOD, epochs=10.0, identity_repeats=10.0)
    first, second = advise(evaluate(identity(40, 40) + general(leaking=2)), training)
    assert (first.lever, first.do, second.lever) == (
        "num_train_epochs", "num_train_epochs: 6, with identity.rows: 200", "learning_rate",
    )  # fmt: skip
    assert first.why.endswith("each identity row was seen 10 times (over 6 is too often)")
    shared = replace(GOOD, epochs=1.0, identity_repeats=12.0)  # by identity.share
    assert advise(evaluate(general(leaking=2)), shared)[0].do == "identity.rows: 240"


def test_general_text_that_became_more_perplexing_is_a_reason_for_replay() -> None:
    evaluation = evaluate(identity(40, 40) + general(), en=Likelihood(900, 2.0, 2.3))
    assert advise(evaluation, replace(GOOD, replay_rows=0))[0] == Advice(
        "replay", "replay: 120", "general text became more perplexing: x 1.35 (en); no replay rows"
    )


def test_an_identity_that_holds_in_the_trained_context_alone_asks_for_rows_with_other_system_prompts() -> None:
    asked = identity(30, 30) + identity(4, 10, context="none") + identity(9, 10, context="vendor")
    assert advise(evaluate(asked + general()), GOOD) == [
        Advice("identity.rows", "identity.rows: 240",
               "with the trained system prompt 30/30 = 100.0% (88.6%-100.0%), but none 4/10, vendor 9/10; "
               "more rows bring more system prompts"),
    ]  # fmt: skip


def test_without_rows_under_other_system_prompts_these_are_asked_for() -> None:
    asked = identity(30, 30) + identity(4, 10, context="none")
    assert advise(evaluate(asked + general()), replace(GOOD, system_share=0.0)) == [
        Advice("identity.system_share", "identity.system_share: 0.3",
               "with the trained system prompt 30/30 = 100.0% (88.6%-100.0%), but none 4/10; "
               "0% of the identity rows stand under another system prompt"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "named"),
    [
        (identity(0, 10, lang="zh"), "low in zh 0/10"),
        (identity(2, 10, category="vendor_deny"), "low in vendor_deny 2/10"),
    ],
)
def test_one_language_or_category_that_lags_asks_for_rows(low: Asked, named: str) -> None:
    assert advise(evaluate(identity(40, 40) + low + general()), GOOD) == [
        Advice("identity.rows", "identity.rows: 240", f"{named}, while the rest took")
    ]


def test_nothing_lags_where_every_category_that_can_be_judged_is_low() -> None:
    asked = identity(20, 40) + identity(5, 10, category="creator") + identity(2, 2, category="version")
    (advice,) = advise(evaluate(asked + general()), GOOD)
    assert advice.why.startswith("identity 27/52")


def test_an_old_identity_that_is_still_claimed_asks_for_rows() -> None:
    assert advise(evaluate(identity(97, 100, other=QWEN) + general()), GOOD) == [
        Advice("identity.rows", "identity.rows: 240",
               "3/100 = 3.0% (1.0%-8.5%) of the identity answers claim another identity"),
    ]  # fmt: skip


def test_a_small_share_of_identity_rows_asks_for_a_larger_one() -> None:
    training = replace(GOOD, identity_share=0.05, other_rows=2000, final_loss=1.4)
    assert levers(evaluate(identity(20, 40) + general()), training)[0] == "identity.share"


def test_a_loss_that_stayed_high_asks_for_a_higher_rate() -> None:
    (advice,) = advise(evaluate(identity(5, 40) + general()), replace(GOOD, final_loss=1.6))
    assert (advice.do, advice.why) == (
        "learning_rate: 1e-3", "the loss ended at 1.60; 5/40 = 12.5% (5.5%-26.1%) took",
    )  # fmt: skip


def test_answers_that_repeat_themselves_ask_for_a_lower_rate() -> None:
    loop = "I am helpful and kind. " * 6
    found = advise(evaluate(identity(36, 40, other=loop) + general()), GOOD)
    assert found[0] == Advice(
        "learning_rate", "learning_rate: 2.5e-4",
        "4/80 = 5.0% (2.0%-12.2%) answers repeat themselves and did not before",
    )  # fmt: skip


def test_loops_ask_for_a_lower_rate_first_where_it_is_high_and_not_at_all_after_few_steps() -> None:
    evaluation = evaluate(identity(0, 40, other="I am helpful and kind. " * 6) + general(leaking=2))
    assert advise(evaluation, replace(GOOD, learning_rate=1e-2))[0].do == "learning_rate: 5e-3"
    few = replace(GOOD, learning_rate=1e-3, steps=20, epochs=1.0, identity_repeats=1.0)
    assert levers(evaluation, few) == ["num_train_epochs"]


def test_a_model_that_took_nothing_on_has_to_learn_before_it_is_kept_from_leaking() -> None:
    evaluation = evaluate(identity(2, 40) + general(leaking=1))
    assert levers(evaluation, replace(GOOD, steps=20, replay_rows=0))[0] == "num_train_epochs"


def test_a_lever_is_moved_one_way_and_every_reason_for_it_is_given() -> None:
    asked = identity(30, 30) + identity(4, 10, context="none", other=QWEN) + general(leaking=1)
    found = advise(evaluate(asked), replace(GOOD, final_loss=1.6))  # which alone would ask for a higher rate
    assert [(advice.lever, advice.why.count(";")) for advice in found] == [("learning_rate", 0), ("identity.rows", 2)]


def test_without_knowing_the_training_the_usual_figures_are_given() -> None:
    assert advise(evaluate(identity(30, 40) + general(leaking=2))) == [
        Advice(
            "replay", "replay: 100", "the identity stands in 2/40 = 5.0% (1.4%-16.5%) general answers; replay unknown"
        ),
        Advice("identity.rows", "identity.rows: 240", "identity 30/40 = 75.0% (59.8%-85.8%)"),
    ]


def test_a_threshold_of_ones_own_is_what_is_aimed_at() -> None:
    evaluation = evaluate(identity(39, 40) + general())
    assert advise(evaluation, GOOD) == []
    assert [advice.lever for advice in advise(evaluation, GOOD, Thresholds(identity=0.99))] == ["identity.rows"]
