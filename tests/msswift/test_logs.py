from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_kit.msswift.logs import LogFollower, StepLog, read_results, read_steps, read_summary, smooth, trend

# As written by ms-swift 4.6.0 (transformers 5.19, CPU); the checkpoint's path and log_history shortened.
SWIFT_4 = """\
{"loss": 7.05054998, "grad_norm": 3.42049313, "learning_rate": 5e-05, "token_acc": 0.1, "epoch": 1.0, "global_step/max_steps": "1/2", "elapsed_time": "6s", "remaining_time": "6s", "train_speed(s/it)": 6.072697}
{"loss": 7.02213955, "grad_norm": 3.32285357, "learning_rate": 0.0, "token_acc": 0.1, "epoch": 2.0, "global_step/max_steps": "2/2", "elapsed_time": "7s", "remaining_time": "0s", "train_speed(s/it)": 3.429774}
{"train_runtime": 6.9149, "train_samples_per_second": 4.628, "train_steps_per_second": 0.289, "total_flos": 5236985856.0, "train_loss": 7.03634477, "epoch": 2.0, "global_step/max_steps": "2/2", "elapsed_time": "7s", "remaining_time": "0s", "train_speed(s/it)": 3.456994}
{"train_dataset": "67.000000±0.000000, min=67.000000, max=67.000000, size=8", "model_parameter_info": "PeftModelForCausalLM: 0.9780M Params (0.0748M Trainable [7.6430%]), 0.0000M Buffers.", "last_model_checkpoint": "out/checkpoint-2", "best_model_checkpoint": null, "best_metric": null, "global_step": 2, "log_history": [{"loss": 7.0505499839782715, "step": 1}], "memory": 0}
"""  # noqa: E501

# As written by ms-swift 3.12.6: a `percentage` more.
SWIFT_3_STEP = """\
{"loss": 7.05054951, "grad_norm": 3.42026663, "learning_rate": 5e-05, "token_acc": 0.1, "epoch": 1.0, "global_step/max_steps": "1/2", "percentage": "50.00%", "elapsed_time": "1s", "remaining_time": "1s", "train_speed(s/it)": 1.251278}
"""  # noqa: E501


def step_row(step: int, max_steps: int = 9, **fields: object) -> str:
    return json.dumps({**fields, "global_step/max_steps": f"{step}/{max_steps}"}) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logging.jsonl"


def test_the_steps_of_ms_swift_4_are_read(log: Path) -> None:
    log.write_text(SWIFT_4, encoding="utf-8")
    assert read_steps(log) == [
        StepLog(
            step=1,
            max_steps=2,
            loss=7.05054998,
            token_acc=0.1,
            grad_norm=3.42049313,
            learning_rate=5e-05,
            epoch=1.0,
            elapsed_s=6,
            remaining_s=6,
            seconds_per_step=6.072697,
        ),
        StepLog(
            step=2,
            max_steps=2,
            loss=7.02213955,
            token_acc=0.1,
            grad_norm=3.32285357,
            learning_rate=0.0,
            epoch=2.0,
            elapsed_s=7,
            remaining_s=0,
            seconds_per_step=3.429774,
        ),
    ]


def test_the_steps_of_ms_swift_3_are_read(log: Path) -> None:
    log.write_text(SWIFT_3_STEP, encoding="utf-8")
    assert read_steps(log) == [
        StepLog(
            step=1,
            max_steps=2,
            loss=7.05054951,
            token_acc=0.1,
            grad_norm=3.42026663,
            learning_rate=5e-05,
            epoch=1.0,
            elapsed_s=1,
            remaining_s=1,
            seconds_per_step=1.251278,
        )
    ]


def test_long_times_and_gpu_memory_are_read(log: Path) -> None:
    row = {"loss": 1.5, "memory(GiB)": 17.25, "elapsed_time": "1d 2h 3m 4s", "remaining_time": "5m 0s"}
    log.write_text(step_row(7, **row))
    assert read_steps(log) == [StepLog(7, 9, loss=1.5, memory_gib=17.25, elapsed_s=93_784, remaining_s=300)]


def test_a_loss_that_is_nan_stays_nan_and_a_missing_one_is_none(log: Path) -> None:
    log.write_text(step_row(1, loss=math.nan) + step_row(2, epoch=1.0))
    first, second = read_steps(log)
    assert first.loss is not None and math.isnan(first.loss)
    assert second == StepLog(2, 9, epoch=1.0)


def test_an_evaluation_joins_the_step_it_follows(log: Path) -> None:
    log.write_text(step_row(5, loss=1.0) + step_row(5, eval_loss=1.25, epoch=0.5))
    assert read_steps(log) == [StepLog(5, 9, loss=1.0, eval_loss=1.25, epoch=0.5)]


def test_a_resumed_run_replaces_the_steps_that_it_repeats(log: Path) -> None:
    log.write_text("".join(step_row(step, loss=step) for step in (1, 2, 3, 4)) + step_row(3, loss=30))
    assert [(step.step, step.loss) for step in read_steps(log)] == [(1, 1), (2, 2), (3, 30)]


def test_the_closing_rows_are_one_summary_without_the_repeated_steps(log: Path) -> None:
    log.write_text(SWIFT_4, encoding="utf-8")
    summary = read_summary(log)
    assert summary == {
        "train_runtime": 6.9149,
        "train_samples_per_second": 4.628,
        "train_steps_per_second": 0.289,
        "total_flos": 5236985856.0,
        "train_loss": 7.03634477,
        "epoch": 2.0,
        "global_step/max_steps": "2/2",
        "elapsed_time": "7s",
        "remaining_time": "0s",
        "train_speed(s/it)": 3.456994,
        "train_dataset": "67.000000±0.000000, min=67.000000, max=67.000000, size=8",
        "model_parameter_info": "PeftModelForCausalLM: 0.9780M Params (0.0748M Trainable [7.6430%]), 0.0000M Buffers.",
        "last_model_checkpoint": "out/checkpoint-2",
        "best_model_checkpoint": None,
        "best_metric": None,
        "global_step": 2,
        "memory": 0,
    }


def test_a_run_that_goes_on_has_no_summary(log: Path) -> None:
    assert read_summary(log) == {}
    log.write_text(SWIFT_4 + step_row(1, loss=1.0), encoding="utf-8")
    assert read_summary(log) == {}


def test_a_follower_tells_each_row_once_and_waits_for_whole_lines(log: Path) -> None:
    follower = LogFollower(log)
    assert follower.poll() == []
    first, second = step_row(1, loss=1.0), step_row(2, loss=2.0)
    with log.open("w") as stream:
        stream.write(first + second[:20])
        stream.flush()
        assert follower.poll() == [StepLog(1, 9, loss=1.0)]
        assert follower.poll() == []
        stream.write(second[20:])
    assert follower.poll() == [StepLog(2, 9, loss=2.0)]
    assert follower.poll() == []


def test_a_follower_starts_again_on_a_new_shorter_file(log: Path) -> None:
    follower = LogFollower(log)
    log.write_text(step_row(1, loss=1.0) + step_row(2, loss=2.0))
    assert len(follower.poll()) == 2
    log.write_text(step_row(1, loss=10.0))
    assert follower.poll() == [StepLog(1, 9, loss=10.0)]


def test_an_endless_line_is_passed_over_and_not_kept(log: Path) -> None:
    follower = LogFollower(log)
    with log.open("w") as stream:
        stream.write("x" * (3 << 20))
        stream.flush()
        assert follower.poll() == []
        stream.write(step_row(7, loss=7.0))  # still the same line
        stream.write(step_row(1, loss=1.0))
    assert follower.poll() == [StepLog(1, 9, loss=1.0)]
    assert all(not isinstance(value, bytes | list) for value in vars(follower).values())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
almost_rows = st.dictionaries(
    st.sampled_from(
        ["loss", "global_step/max_steps", "elapsed_time", "memory(GiB)", "train_runtime", "response", "epoch"]
    ),
    json_values | st.sampled_from(["1/2", "2/1", "٣/4", "9" * 5000 + "/1", "1d 2h 3m 4s", "²s"]),
).map(lambda row: json.dumps(row).encode())
any_lines = st.lists(st.binary(max_size=200) | almost_rows | st.just(b"[" * 100_000) | st.just(b"9" * 5000))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=any_lines, cut=st.integers(0, 50))
def test_no_content_ever_raises(log: Path, lines: list[bytes], cut: int) -> None:
    content = b"\n".join(lines)
    log.write_bytes(content[: len(content) - cut])
    steps = read_steps(log)
    assert [step.step for step in steps] == sorted({step.step for step in steps})
    assert isinstance(read_summary(log), dict)
    assert all(isinstance(answer, str) for answer in read_results(log))
    assert trend(step.loss for step in steps) in ("falling", "flat", "rising", "unknown")


def test_answers_stay_beside_their_questions_where_a_line_is_broken(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text(
        '{"response": "我是精衡。", "labels": null, "logprobs": null, "messages": []}\n'
        '{"response": "cut of\n'
        '{"response": null}\n'
        '{"response": "four\\nlines\u2028all in one"}\n'
        "\n",
        encoding="utf-8",
    )
    assert read_results(results) == ["我是精衡。", "", "", "four\nlines\u2028all in one"]
    assert read_results(tmp_path / "none.jsonl") == []


def test_smoothing_is_that_of_ms_swifts_own_plots() -> None:
    # tensorboard_smoothing of swift/utils/tb_utils.py, ms-swift 4.6.0, of the same values
    assert smooth([1.0, 2.0, 4.0, 0.5]) == [1.0, 1.5263157894736843, 2.439114391143911, 1.8752544344286128]


def test_smoothing_leaves_a_gap_where_the_loss_is_no_number() -> None:
    gap, *rest = smooth([math.nan, 2.0, math.inf, 2.0])
    assert math.isnan(gap) and math.isnan(rest[1])
    assert (rest[0], rest[2]) == (2.0, 2.0)


def test_a_trend_needs_more_than_the_noise() -> None:
    noise = random.Random(0)  # noqa: S311
    flat = [1 + noise.gauss(0, 0.2) for _ in range(200)]
    assert trend(flat) == "flat"
    assert trend([loss - index / 100 for index, loss in enumerate(flat)]) == "falling"
    assert trend([loss + index / 100 for index, loss in enumerate(flat)]) == "rising"
    assert trend([1.0] * 6) == "flat"
    assert trend([3.0, 2.0, 1.0, math.nan, None, 0.5]) == "unknown"


def test_a_pipe_in_place_of_a_log_holds_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "logging.jsonl")
    assert (read_steps(tmp_path / "logging.jsonl"), read_summary(tmp_path / "logging.jsonl")) == ([], {})
