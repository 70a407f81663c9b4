"""What one epoch trains on: counted as ms-swift counts, repeated to the share asked for, doubted where it is odd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_kit.errors import ConfigError
from sft_kit.plan.mix import Source
from sft_kit.run.mix import MIX_COLUMNS, mix_line, mix_rows
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

    assert job.mix() == [Source("identity", 60, 100), Source(str(rows), 300, 300)]
    assert after(argv_of(job), "--dataset").endswith("/identity.jsonl#100")


def test_a_sample_is_drawn_before_the_long_rows_are_left_out(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 90, long=10)

    job = job_of(tmp_path, MODEL + IDENTITY + f"dataset: {rows}#50\nmax_length: 256\n")

    assert job.mix()[1] == Source(f"{rows}#50", 90, 45)


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


def codes(tmp_path: Path, text: str) -> list[str]:
    return [finding.code for finding in job_of(tmp_path, text).findings]


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


SOURCES = [Source("identity", 120, 400, 20_000), Source("owner/data#500", None, 500), Source("mine.jsonl", 100, 100, 9)]


def test_the_table_shows_rows_repeats_share_and_tokens() -> None:
    assert MIX_COLUMNS == ("source", "rows", "trained", "repeats", "share", "tokens")
    assert mix_rows(SOURCES) == [
        ("identity", "120", "400", "3.3", "40.0%", "20,000"),
        ("owner/data#500", "on a hub", "500", "", "50.0%", ""),
        ("mine.jsonl", "100", "100", "1", "10.0%", "9"),
        ("all", "", "1,000", "", "", ""),
    ]


def test_the_mix_fits_in_a_line() -> None:
    expected = (
        "one epoch: identity 400 rows (120 x 3.3, 40.0%), owner/data#500 500 rows (50.0%), mine.jsonl 100 rows (10.0%)"
    )
    assert mix_line(SOURCES) == expected
    assert mix_line([Source("owner/data", None, None)]) == "one epoch: owner/data ? rows"
