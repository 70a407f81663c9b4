"""The signs of a training that goes wrong, in rows that ms-swift really wrote, and their absence where all is well."""

from __future__ import annotations

import json
import math
import random
import re
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.msswift.logs import LogFollower, StepLog
from sft_kit.msswift.schedule import Schedule, schedule_of
from sft_kit.run.course import Epochs, Losses
from sft_kit.run.watch import CODES, Sign, Watch

# As written by ms-swift 4.6.0 and 3.12.6 for the tiny model, times left out. learning_rate 1e30: the first update
# breaks the weights.
BROKEN = """\
{"loss": 7.2422266, "grad_norm": 3.78119349, "learning_rate": 9.829629131445341e+29, "token_acc": 0.06666667, "epoch": 0.005, "global_step/max_steps": "1/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 9.330127018922194e+29, "token_acc": 0.0, "epoch": 0.01, "global_step/max_steps": "2/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 8.535533905932738e+29, "token_acc": 0.0, "epoch": 0.015, "global_step/max_steps": "3/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 7.500000000000001e+29, "token_acc": 0.0, "epoch": 0.02, "global_step/max_steps": "4/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 6.2940952255126035e+29, "token_acc": 0.0, "epoch": 0.025, "global_step/max_steps": "5/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 5e+29, "token_acc": 0.0, "epoch": 0.03, "global_step/max_steps": "6/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 3.705904774487396e+29, "token_acc": 0.0, "epoch": 0.035, "global_step/max_steps": "7/12"}
"""  # noqa: E501
# The same with logging_steps: 5. The row of step 5 stands for steps 2 to 5.
BROKEN_EVERY_5 = """\
{"loss": 7.19696474, "grad_norm": 4.14621735, "learning_rate": 9.829629131445341e+29, "token_acc": 0.0, "epoch": 0.005, "global_step/max_steps": "1/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 6.2940952255126035e+29, "token_acc": 0.0, "epoch": 0.025, "global_step/max_steps": "5/12"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 6.698729810778065e+28, "token_acc": 0.0, "epoch": 0.05, "global_step/max_steps": "10/12"}
"""  # noqa: E501
# The same with logging_nan_inf_filter: false.
BROKEN_UNFILTERED = """\
{"loss": 7.19696474, "grad_norm": 4.14621735, "learning_rate": 9.045084971874738e+29, "token_acc": 0.0, "epoch": 0.005, "global_step/max_steps": "1/5"}
{"loss": NaN, "grad_norm": NaN, "learning_rate": 6.545084971874737e+29, "token_acc": 0.0, "epoch": 0.01, "global_step/max_steps": "2/5"}
{"loss": NaN, "grad_norm": NaN, "learning_rate": 3.454915028125263e+29, "token_acc": 0.0, "epoch": 0.015, "global_step/max_steps": "3/5"}
{"loss": NaN, "grad_norm": NaN, "learning_rate": 9.549150281252633e+28, "token_acc": 0.0, "epoch": 0.02, "global_step/max_steps": "4/5"}
{"loss": NaN, "grad_norm": NaN, "learning_rate": 0.0, "token_acc": 0.0, "epoch": 0.025, "global_step/max_steps": "5/5"}
"""  # noqa: E501
# A plugin made the loss of step 4 NaN (in another run infinite, with the same rows); the weights stayed as they were.
ONE_BAD_BATCH = """\
{"loss": 6.81358624, "grad_norm": 2.83239317, "learning_rate": 0.00069134, "token_acc": 0.0625, "global_step/max_steps": "3/8"}
{"loss": 0.0, "grad_norm": NaN, "learning_rate": 0.0005, "token_acc": 0.0625, "global_step/max_steps": "4/8"}
{"loss": 6.66474676, "grad_norm": 3.18659425, "learning_rate": 0.00030866, "token_acc": 0.125, "global_step/max_steps": "5/8"}
{"loss": 6.6119504, "grad_norm": 2.70254755, "learning_rate": 0.00014645, "token_acc": 0.13333333, "global_step/max_steps": "6/8"}
"""  # noqa: E501
# The same with the gradient of step 4, as fp16 does now and then.
ONE_BAD_GRADIENT = ONE_BAD_BATCH.replace('"loss": 0.0,', '"loss": 6.68100548,')
# A plugin masked every label.
MASKED = """\
{"loss": 0.0, "grad_norm": 0.0, "learning_rate": 0.00096194, "global_step/max_steps": "1/8"}
{"loss": 0.0, "grad_norm": 0.0, "learning_rate": 0.00085355, "global_step/max_steps": "2/8"}
{"loss": 0.0, "grad_norm": 0.0, "learning_rate": 0.00069134, "global_step/max_steps": "3/8"}
"""
# A plugin cut the loss off from the weights.
NO_GRADIENT = """\
{"loss": 7.2422266, "grad_norm": 0.0, "learning_rate": 0.00096194, "token_acc": 0.06666667, "global_step/max_steps": "1/8"}
{"loss": 7.25249147, "grad_norm": 0.0, "learning_rate": 0.00085355, "token_acc": 0.0, "global_step/max_steps": "2/8"}
{"loss": 7.18333006, "grad_norm": 0.0, "learning_rate": 0.00069134, "token_acc": 0.0, "global_step/max_steps": "3/8"}
"""  # noqa: E501


# Whole logs of real runs; data/watch/README.md tells what each is.
REAL = sorted((Path(__file__).parent / "data" / "watch").glob("*.jsonl"))


def rows(text: str, folder: Path) -> list[StepLog]:
    log = folder / "logging.jsonl"
    log.write_text(text, encoding="utf-8")
    return LogFollower(log).poll()


def watched(records: Iterable[StepLog], watch: Watch | None = None) -> list[tuple[str, int]]:
    """Code and step of every sign."""
    watch = watch or Watch()
    return [(sign.code, sign.step) for record in records for sign in watch.see(record)]


def course(losses: Sequence[float], **fields: float) -> list[StepLog]:
    count = len(losses)
    return [StepLog(step, 10 * count, loss, grad_norm=1.0, **fields) for step, loss in enumerate(losses, 1)]  # type: ignore[arg-type]


def test_a_model_that_gives_nothing_but_nan_is_told_with_its_first_broken_checkpoint(tmp_path: Path) -> None:
    watch = Watch()
    signs = [sign for record in rows(BROKEN, tmp_path) for sign in watch.see(record)]
    assert signs == [
        Sign(
            "nan-step",
            "warning",
            2,
            "the loss was no number (ms-swift logs 0): that update is thrown away (1 so far)",
            "a single one does no harm; many mean bad rows or a learning_rate that is too high",
        ),
        Sign(
            "nan-for-good",
            "error",
            6,
            "the model gives NaN since step 1 (ms-swift logs a loss of 0), which never heals",
            "in a new run (a resumed one keeps its rate): a lower learning_rate, warmup_ratio: 0.05, bfloat16",
        ),
    ]
    assert watch.broken_from == 1


@pytest.mark.parametrize(("text", "steps"), [(BROKEN_EVERY_5, (5, 10)), (BROKEN.replace("NaN", "Infinity"), (2, 6))])
def test_it_is_steps_that_count_and_not_rows(text: str, steps: tuple[int, int], tmp_path: Path) -> None:
    assert watched(rows(text, tmp_path)) == [("nan-step", steps[0]), ("nan-for-good", steps[1])]


def test_a_loss_without_a_gradient_norm_is_nan_where_no_token_is_right(tmp_path: Path) -> None:
    unclipped = [replace(record, grad_norm=None) for record in rows(BROKEN, tmp_path)]
    assert watched(unclipped) == [("nan-step", 2), ("nan-for-good", 6)]


def test_a_short_run_that_ends_in_nan_is_told_at_its_end(tmp_path: Path) -> None:
    watch, records = Watch(), rows(BROKEN_UNFILTERED, tmp_path)
    assert watched(records, watch) == [("nan-step", 2)]
    assert [(sign.code, sign.step) for sign in watch.end(records[-1])] == [("nan-for-good", 5)]
    assert watch.broken_from == 1


def test_one_bad_batch_at_the_very_end_does_not_take_the_last_checkpoint_away() -> None:
    fine = [StepLog(step, 20, 1.5, grad_norm=1.0, token_acc=0.5) for step in range(1, 20)]
    last = StepLog(20, 20, 0.0, grad_norm=math.nan, token_acc=0.0)
    watch = Watch()
    assert watched([*fine, last], watch) == [("nan-step", 20)]
    assert (watch.end(last), watch.broken_from) == ([], None)


def test_a_window_that_is_nan_in_part_leaves_the_checkpoint_before_it_good() -> None:
    half = [StepLog(10, 99, 1.5, grad_norm=1.0), StepLog(20, 99, 0.7, grad_norm=math.nan)]
    dead = [StepLog(30, 99, 0.0, grad_norm=math.nan, token_acc=0.0)]
    watch = Watch()
    watched([*half, *dead], watch)
    assert watch.broken_from == 11


def test_nan_from_the_first_step_of_a_resumed_run_does_not_touch_what_was_before_its_checkpoint() -> None:
    watch = Watch(start=40)
    dead = [StepLog(step, 99, 0.0, grad_norm=math.nan, token_acc=0.0) for step in range(41, 50)]
    (_, sign) = [sign for record in dead for sign in watch.see(record)]
    assert (watch.broken_from, sign.message) == (
        40,
        "the loss has been NaN from the first step on (ms-swift logs 0): nothing is learned",
    )


def test_one_bad_batch_is_told_and_is_not_the_end(tmp_path: Path) -> None:
    watch, records = Watch(), rows(ONE_BAD_BATCH, tmp_path)
    assert watched(records, watch) == [("nan-step", 4)]
    assert (watch.end(records[-1]), watch.broken_from) == ([], None)


def test_bad_batches_are_told_again_when_there_are_ten_times_as_many() -> None:
    records = [StepLog(n, 9999, 0.0 if n % 3 else 2.0 - n / 200, grad_norm=math.nan if n % 3 else 1.0, token_acc=0.3)
               for n in range(1, 160)]  # fmt: skip
    assert watched(records) == [("nan-step", 1), ("nan-step", 14), ("nan-step", 149)]


def test_many_bad_batches_in_a_row_are_not_the_end_while_tokens_are_right() -> None:
    lost = [StepLog(step, 99, 0.0, grad_norm=math.nan, token_acc=0.3) for step in range(1, 16)]
    assert watched(lost) == [("nan-step", 1), ("nan-step", 10)]


def test_the_steps_that_a_loss_scaler_skips_are_no_sign(tmp_path: Path) -> None:
    skipped = [StepLog(step, 99, 2.0, grad_norm=math.nan) for step in range(1, 17)]  # from 65536 down to 1
    assert watched(skipped) == watched(rows(ONE_BAD_GRADIENT, tmp_path)) == []


def test_gradients_that_never_are_numbers_are_told() -> None:
    watch = Watch()
    healthy = [StepLog(step, 99, 6.4, grad_norm=1.0) for step in range(1, 13)]
    lost = [StepLog(step, 99, 6.4, grad_norm=math.nan, token_acc=0.14) for step in range(13, 40)]
    assert watched([*healthy, *lost], watch) == [("nan-gradients", 32)]
    assert watch.broken_from == 12


def test_rows_without_a_trained_token_are_told(tmp_path: Path) -> None:
    assert watched(rows(MASKED, tmp_path)) == [("no-loss", 3)]


def test_a_loss_of_0_of_a_model_that_knows_the_rows_by_heart_is_no_sign() -> None:
    assert watched(course([0.0] * 60, token_acc=1.0)) == []


def test_a_gradient_of_0_is_told(tmp_path: Path) -> None:
    assert watched(rows(NO_GRADIENT, tmp_path)) == [("no-gradient", 3)]


def test_a_gradient_of_0_is_no_sign_where_there_is_no_loss_left() -> None:
    done = [StepLog(step, 99, 1e-5, grad_norm=0.0, token_acc=1.0) for step in range(1, 20)]
    assert watched(done) == []


def test_a_learning_rate_that_is_not_the_config_s_is_told_once() -> None:
    watch = Watch(Schedule("cosine", 1e-4))
    records = [StepLog(step, 100, 2.0 - step / 100, grad_norm=1.0, learning_rate=1e-4) for step in range(1, 60)]
    (sign,) = [sign for record in records for sign in watch.see(record)]
    assert (sign.code, sign.message) == (
        "wrong-learning-rate",
        "the learning rate is 0.0001, but cosine with learning_rate 0.0001 gives 9.94e-05 at step 5 of 100",
    )


def test_a_schedule_that_is_late_by_skipped_steps_is_right() -> None:
    schedule = Schedule("linear", 1e-4)
    late = [StepLog(step, 100, 2.0 - step / 100, grad_norm=1.0, learning_rate=schedule.rate(max(0, step - 7), 100))
            for step in range(1, 100)]  # fmt: skip
    assert watched(late, Watch(schedule, scaled=True)) == []
    assert watched(late, Watch(schedule))[:1] == [("wrong-learning-rate", 3)]


def test_a_learning_rate_of_0_is_told_but_not_the_last_one() -> None:
    zero = [StepLog(step, 9, 2.0, grad_norm=1.0, learning_rate=0.0) for step in range(1, 6)]
    assert watched(zero, Watch(Schedule("cosine", 1e-4))) == [("zero-learning-rate", 3)]
    assert watched([StepLog(1, 1, 2.0, grad_norm=1.0, learning_rate=0.0)] * 5, Watch(Schedule("cosine", 1e-4))) == []


def test_a_loss_that_rises_is_told() -> None:
    assert watched(course([3.0, 2.5, 2.0, 1.5] * 3 + [1.0] * 10 + [5.0] * 20)) == [("rising-loss", 32)]


def test_a_loss_that_breaks_in_the_first_steps_is_told_though_there_is_no_level_to_compare_with() -> None:
    broken = [StepLog(step, 99, 6.0, token_acc=0.02) for step in range(2, 40)]
    watch = Watch()
    (sign,) = [sign for record in [StepLog(1, 99, 2.0, token_acc=0.6), *broken] for sign in watch.see(record)]
    assert (sign.step, sign.message) == (
        11,
        "the loss rises: 6 now, 2 in the first row, with 60% of the tokens right and now 2%",
    )


def test_a_first_row_that_is_easier_than_the_others_is_no_sign() -> None:
    others = [StepLog(step, 99, 2.5, token_acc=0.68) for step in range(2, 40)]
    assert watched([StepLog(1, 99, 1.0, token_acc=0.93), *others]) == []


def test_a_loss_that_rises_with_the_rate_is_told_before_it_has_doubled() -> None:
    losses = [3.0] * 20 + [4.2] * 20
    rising = [replace(record, learning_rate=record.step * 1e-3) for record in course(losses)]
    assert (watched(rising), watched(course(losses))) == ([("rising-loss", 30)], [])


def test_rows_of_another_kind_later_on_are_no_break_of_the_first_steps() -> None:
    losses = [3.2 if step <= 50 else 6.0 for step in range(1, 100)]
    changed = [StepLog(step, 99, loss, token_acc=0.06 if step > 50 else 0.2) for step, loss in enumerate(losses, 1)]
    assert watched(changed) == []


def test_spikes_are_no_sign() -> None:
    losses = [8.0 if n % 7 == 3 else 2.0 - n / 200 for n in range(200)]
    assert watched(course(losses)) == []


def test_a_loss_that_does_not_move_is_noted_when_the_log_is_long_and_quiet_enough() -> None:
    noise = random.Random(1)  # noqa: S311
    assert watched(course([2.0 + noise.gauss(0, 0.05) for _ in range(400)], token_acc=0.4)) == [("flat-loss", 192)]


@pytest.mark.parametrize(
    "losses",
    [
        [0.002] * 400,  # learned
        [2.0 - n / 4000 for n in range(400)],  # falls by 5 %
        [2.0] * 40,  # too short
    ],
)
def test_a_loss_that_is_learned_falls_slowly_or_is_young_is_not_flat(losses: Sequence[float]) -> None:
    assert watched(course(losses, token_acc=0.4)) == []


def test_a_loss_that_is_too_noisy_to_tell_is_not_flat() -> None:
    noise = random.Random(2)  # noqa: S311
    assert watched(course([abs(2.0 + noise.gauss(0, 0.8)) for _ in range(400)], token_acc=0.4)) == []


def epochs(rows: Sequence[float], falls: Sequence[float], **fields: float) -> list[StepLog]:
    """An epoch of the losses `rows` for each of `falls`, which are multiplied with them."""
    count = len(rows)
    losses = [loss * fall for fall in falls for loss in rows]
    return [
        StepLog(step, len(losses), loss, epoch=round(step / count, 4), grad_norm=1.0, **fields)  # type: ignore[arg-type]
        for step, loss in enumerate(losses, 1)
    ]


NOISY = [0.4, 2.9, 1.1, 5.0, 0.2, 1.7, 3.3, 0.9, 2.2, 1.3, 4.1, 0.7]


def test_noisy_rows_that_come_again_with_the_same_losses_are_told_at_the_end_of_the_second_epoch() -> None:
    watch = Watch()
    (sign,) = [sign for record in epochs(NOISY, [1, 0.996, 0.991, 0.98]) for sign in watch.see(record)]
    assert (sign.code, sign.step, sign.message) == (
        "flat-loss",
        24,
        "the loss has not moved in 24 steps (by 0.4% since the first epoch)",
    )


@pytest.mark.parametrize(
    "records",
    [
        epochs(NOISY, [1, 0.98, 0.96]),  # learns
        epochs(NOISY, [1, 1.05, 1.1]),  # gets worse: another sign's matter
        epochs(NOISY[:9], [1, 1, 1]),  # too few rows
        epochs(NOISY, [1, 1], token_acc=0.97),  # knows them
        epochs([loss / 100 for loss in NOISY], [1, 1]),  # knows them
        epochs(NOISY, [1]),
    ],
)
def test_epochs_that_differ_are_short_or_leave_nothing_to_learn_are_no_sign(records: Sequence[StepLog]) -> None:
    assert watched(records) == []


def test_a_loss_that_does_not_move_while_the_rate_warms_up_is_no_sign() -> None:
    warming = [replace(record, learning_rate=record.step * 1e-6) for record in epochs(NOISY, [1, 1, 1])]
    assert watched(warming) == []


def test_a_resumed_run_compares_no_part_of_an_epoch_with_a_whole_one() -> None:
    half = [record for record in epochs(NOISY * 2, [1, 1.3, 1.3]) if record.step > 12]
    assert watched(half) == [("flat-loss", 72)]


def test_the_end_of_an_epoch_is_found_where_the_log_passes_over_it() -> None:
    parts = Epochs()
    falls = [parts.add(1.0 if step <= 50 else 0.9, step / 50) for step in range(3, 151, 3)]
    assert [(n, round(fall, 3)) for n, fall in enumerate(falls) if fall is not None] == [(33, 0.1), (49, 0.1)]


@pytest.mark.parametrize("log", REAL, ids=lambda log: log.stem)
def test_a_real_run_has_its_signs_at_their_steps_and_no_other(log: Path) -> None:
    head = json.loads(log.read_text(encoding="utf-8").partition("\n")[0])
    watch, records = Watch(schedule_of(head["arguments"], head["arguments"])), LogFollower(log).poll()
    told = [*watched(records, watch), *((sign.code, sign.step) for sign in watch.end(records[-1]))]
    assert told == [tuple(sign) for sign in head["signs"]]


def test_real_runs_earn_every_sign_of_the_course_of_a_training_and_most_earn_none() -> None:
    heads = [json.loads(log.read_text(encoding="utf-8").partition("\n")[0]) for log in REAL]
    codes = {code for head in heads for code, _ in head["signs"]}
    assert {"flat-loss", "rising-loss", "overfitting", "no-loss", "zero-learning-rate"} <= codes
    assert len([head for head in heads if not head["signs"]]) >= 8
    table = (REAL[0].parent / "README.md").read_text(encoding="utf-8")
    assert [log.stem for log in REAL] == re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)
    assert max(log.stat().st_size for log in REAL) < 20_000


def validated(losses: Sequence[float], validations: Sequence[float]) -> list[StepLog]:
    """Ten steps between two validations."""
    records = course([loss for loss in losses for _ in range(10)])
    for number, loss in reversed(list(enumerate(validations, 1))):
        records.insert(number * 10, StepLog(number * 10, records[0].max_steps, eval_loss=loss))
    return records


def test_learning_by_heart_is_noted_with_the_better_checkpoint() -> None:
    watch = Watch()
    records = validated([2.0, 1.5, 1.0, 0.7], [2.1, 1.8, 1.9, 2.0])
    (sign,) = [sign for record in records for sign in watch.see(record)]
    assert (sign.code, sign.step, sign.fix) == (
        "overfitting",
        40,
        "take the checkpoint of step 20, or the last one before it; fewer epochs, or more rows",
    )


@pytest.mark.parametrize("validations", [[2.1, 1.8, 1.81, 1.82], [2.1, 1.8, 1.9, 1.7], [2.1, math.nan, math.nan, 2.0]])
def test_a_validation_that_only_wavers_is_no_sign(validations: Sequence[float]) -> None:
    assert watched(validated([2.0, 1.5, 1.0, 0.7], validations)) == []


@pytest.mark.parametrize("seed", range(40))
def test_healthy_runs_have_no_sign(seed: int) -> None:
    """Fine-tunings as they are: down to a floor, noisy, of any length, with spikes; a quarter learn their rows."""
    chance = random.Random(seed)  # noqa: S311
    start, floor, pace = chance.uniform(0.8, 7), chance.choice([0.001, 0.3, 0.7]), chance.uniform(3, 80)
    noise, schedule = chance.uniform(0.02, 0.25), Schedule("cosine", 2e-4, 0.05)
    count = chance.choice([5, 20, 60, 300, 1500])
    records = []
    for step in range(1, count + 1):
        level = floor + (start - floor) * math.exp(-step / pace)
        loss = level * math.exp(chance.gauss(0, noise)) * (4 if chance.random() < 0.01 else 1)
        rate = round(schedule.rate(step, count), 8)
        records.append(StepLog(step, count, loss, None, min(1.0, 1 / (1 + loss)), loss, rate))
    found = [code for code, _ in watched(records, Watch(schedule)) if code != "flat-loss"]
    assert found == []


def test_the_memory_of_a_watch_does_not_grow() -> None:
    watch = Watch(Schedule("constant", 1e-4))
    records = course([2.0 + n % 5 for n in range(100)], learning_rate=1e-4)
    watched(records * 10, watch)
    tracemalloc.start()
    watched(records * 20, watch)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000


def test_the_pieces_of_a_series_keep_its_means() -> None:
    losses = Losses()
    for n in range(3000):
        losses.add(3.0 if n < 1500 else 1.5)
    fall, error = losses.fall()
    assert fall == pytest.approx(0.5) and error == pytest.approx(0.0, abs=1e-6)


def test_a_hidden_nan_is_shown_as_one(tmp_path: Path) -> None:
    shown = [record.loss for record in rows(BROKEN, tmp_path)][:3]
    assert json.dumps(shown) == "[7.2422266, NaN, NaN]"


def test_every_sign_is_explained_once_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "truth.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == sorted(CODES)


def test_every_sign_that_is_made_has_a_known_code() -> None:
    package = Path(__file__).parents[2] / "src" / "sft_kit"
    source = "".join((package / "run" / name).read_text(encoding="utf-8") for name in ("watch.py", "stall.py"))
    assert set(re.findall(r'Sign\(\s*"([a-z-]+)"', source)) == CODES
