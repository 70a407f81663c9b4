"""What one epoch trains on: counted as ms-swift counts, repeated to the share asked for, doubted where it is odd."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.errors import ConfigError
from sft_kit.plan.mix import Source
from sft_kit.run.mix import MIX_COLUMNS, mix_line, mix_rows
from sft_kit.run.prepare import examine
from tests.run.test_prepare import after, argv_of, job_of

MODEL = "model: sft-kit/tiny-qwen2\nnum_train_epochs: 1\n"
IDENTITY = "identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 60}\n"


def write_rows(path: Path, count: int, *, long: int = 0, wrong: int = 0) -> Path:
    """`count` good rows, then `long` ones of 400 words and `wrong` ones with a role that ms-swift does not know."""
    lines = []
    for number in range(count + long + wrong):
        answer = f"{number * number} is what you get."
        answer += " and so on" * (400 if count <= number < count + long else 0)
        role = "helper" if number >= count + long else "assistant"
        talk = [{"role": "user", "content": f"Square of {number}?"}, {"role": role, "content": answer}]
        lines.append(json.dumps({"messages": talk}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_the_identity_is_repeated_to_its_share_of_what_ms_swift_keeps(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 300, long=20, wrong=10)
    section = IDENTITY.replace("rows: 60", "rows: 60, share: 0.25")

    job = job_of(tmp_path, MODEL + section + f"dataset: {rows}\nmax_length: 256\n")

    assert [replace(source, tokens=None) for source in job.mix()] == [
        Source("identity", 60, 100),
        Source(str(rows), 300, 300),
    ]
    assert after(argv_of(job), "--dataset").endswith("/identity.jsonl#100")


def test_a_sample_is_drawn_before_the_long_rows_are_left_out(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 90, long=10)

    job = job_of(tmp_path, MODEL + IDENTITY + f"dataset: {rows}#50\nmax_length: 256\n")

    assert replace(job.mix()[1], tokens=None) == Source(f"{rows}#50", 90, 45)


def test_replay_rows_count_as_they_were_written(tmp_path: Path) -> None:
    job = job_of(tmp_path, MODEL + IDENTITY + "replay: 50\n")

    assert [source.trained for source in job.mix()] == [60, 50]
    assert [source.trained for source in job.mix(replay_rows=41)] == [60, 41]


def test_a_share_beside_rows_that_nobody_counted_is_refused(tmp_path: Path) -> None:
    section = IDENTITY.replace("rows: 60", "rows: 60, share: 0.25")

    with pytest.raises(ConfigError) as error:
        job_of(tmp_path, MODEL + section + "dataset: [owner/some-data, owner/other#500]\n")

    (problem,) = error.value.problems
    assert problem.place == f"{tmp_path}/config.yaml:3:73"
    assert problem.message == "identity.share: needs to know how many rows there are of owner/some-data"
    assert problem.fix == "write owner/some-data#500"


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("split_dataset_ratio: 0.1", [396, 90]),  # 40 of the 400 drawn are different rows: 4 are held out
        ("split_dataset_ratio: 0.001", [399, 99]),  # one at the least
        ("split_dataset_ratio: 0.1\neval_strategy: 'no'", [400, 100]),
        ("split_dataset_ratio: 0.1\nval_dataset: owner/data", [400, 100]),
    ],
)
def test_what_is_held_out_for_validation_is_not_trained(text: str, trained: list[int], tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 100)
    section = IDENTITY.replace("rows: 60", "rows: 40, share: 0.8")

    job = job_of(tmp_path, MODEL + section + f"dataset: {rows}\n{text}\n")

    assert [source.trained for source in job.mix()] == trained
    assert after(argv_of(job), "--dataset").endswith("/identity.jsonl#400")


def test_streaming_repeats_no_rows(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 60)
    text = MODEL + IDENTITY + f"dataset: {rows}#90\nstreaming: true\nmax_steps: 5\n"

    assert [source.trained for source in job_of(tmp_path, text).mix()] == [60, 60]
    with pytest.raises(ConfigError, match=r"identity\.share: with streaming ms-swift repeats no rows"):
        job_of(tmp_path, text.replace("rows: 60", "rows: 60, share: 0.9"))


def test_a_cached_data_set_is_a_source_that_nobody_counted(tmp_path: Path) -> None:
    (tmp_path / "cached").mkdir()

    job = job_of(tmp_path, MODEL + IDENTITY + f"cached_dataset: [{tmp_path}/cached, {tmp_path}/cached#70]\n")

    assert [(source.rows, source.trained) for source in job.mix()] == [(60, 60), (None, None), (None, 70)]


def test_interleaved_sources_need_a_number_each_and_are_not_counted(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 60)
    text = MODEL + IDENTITY + f"dataset: {rows}\n"

    job = job_of(tmp_path, text + "interleave_prob: [0.3, 0.7]\n")

    assert [source.trained for source in job.mix()] == [None, None]
    assert after(argv_of(job), "--dataset").endswith("/identity.jsonl")
    with pytest.raises(ConfigError, match=r"has 1 numbers for 2 data sets, 1 of them written by sft-kit"):
        job_of(tmp_path, text + "interleave_prob: [1.0]\n")
    with pytest.raises(ConfigError, match=r"identity\.share: and interleave_prob both say"):
        job_of(tmp_path, text.replace("rows: 60", "rows: 60, share: 0.9") + "interleave_prob: [0.3, 0.7]\n")


def codes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return [finding.code for finding in examine(path, [f"output_dir={tmp_path}/output"], ask_hub=False).data]


def test_more_than_six_passes_over_the_identity_are_a_warning(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 60)
    text = MODEL + IDENTITY + f"dataset: {rows}\n"

    assert codes(tmp_path, text.replace("epochs: 1", "epochs: 6")) == []
    assert codes(tmp_path, text.replace("epochs: 1", "epochs: 7")) == ["many-repeats"]
    assert codes(tmp_path, text + "max_steps: 60\ngradient_accumulation_steps: 16\n") == ["many-repeats"]


def test_too_small_a_share_and_repeated_rows_are_warnings(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 1300)

    assert codes(tmp_path, MODEL + IDENTITY + f"dataset: {rows}\n") == ["small-identity-share"]
    assert codes(tmp_path, MODEL + IDENTITY + f"dataset: {write_rows(tmp_path / 'few.jsonl', 60)}#90\n") == [
        "repeated-rows"
    ]


def test_a_file_that_is_named_twice_is_a_warning_and_counts_twice(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 60)
    text = MODEL + f"dataset: [{rows}, {rows}#30, owner/data, owner/data]\n"

    assert codes(tmp_path, text) == ["repeated-rows"]
    assert [source.trained for source in job_of(tmp_path, text).mix()] == [60, 30, None, None]


SOURCES = [Source("identity", 120, 400, 20_000), Source("owner/data#500", None, 500), Source("mine.jsonl", 100, 100, 9)]


def test_the_table_shows_rows_repeats_share_and_tokens() -> None:
    assert MIX_COLUMNS == ("source", "rows", "trained", "repeats", "share", "tokens")
    assert mix_rows(SOURCES) == [
        ("identity", "120", "400", "3.3", "40.0%", "20,000"),
        ("owner/data#500", "not counted", "500", "", "50.0%", ""),
        ("mine.jsonl", "100", "100", "1", "10.0%", "9"),
        ("all", "", "1,000", "", "", ""),
    ]


def test_the_mix_fits_in_a_line() -> None:
    expected = (
        "one epoch: identity 400 rows (120 x 3.3, 40.0%), owner/data#500 500 rows (50.0%), mine.jsonl 100 rows (10.0%)"
    )
    assert mix_line(SOURCES) == expected
    assert mix_line([Source("owner/data", None, None)]) == "one epoch: owner/data ? rows"
