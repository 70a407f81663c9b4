"""`infer` and `export` on what a real run left: adapter, run, latest, merged and base model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import FinishedRun, run_cli

pytestmark = pytest.mark.real
SHORT = ("--max-new-tokens", "6")


def test_run_name_path_and_latest_give_the_same_answer(smoke_run: FinishedRun) -> None:
    names = ["latest", smoke_run.run.name, "v0", str(smoke_run.run / "checkpoint-2")]
    answers = [smoke_run.cli("infer", "--adapter", name, "-p", "Who are you?", *SHORT) for name in names]
    assert [answer.returncode for answer in answers] == [0, 0, 0, 0], answers[0].stderr
    assert len({answer.stdout for answer in answers}) == 1
    assert answers[0].stdout.strip()
    assert f"{smoke_run.run.name}/checkpoint-2" in answers[0].stderr


def test_lines_from_a_pipe_are_one_conversation(smoke_run: FinishedRun) -> None:
    lines = "hello\nbye\n/clear\nbye\n/exit\nnever asked\n"
    piped = smoke_run.cli("infer", "--adapter", "latest", *SHORT, stdin=lines)
    assert piped.returncode == 0, piped.stderr
    assert "forgotten" in piped.stderr
    first, with_history, after_clear = piped.stdout.splitlines()
    alone = smoke_run.cli("infer", "--adapter", "latest", *SHORT, "-p", "hello", "-p", "bye").stdout.splitlines()
    assert [first, after_clear] == alone
    assert with_history != after_clear  # the model saw the first turn too


def test_a_closed_stdin_is_said_at_once(smoke_run: FinishedRun) -> None:
    command = [sys.executable, "-m", "sft_kit", "infer", "--adapter", "latest"]
    closed = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *command],
        cwd=smoke_run.workdir,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert closed.returncode == 2
    assert "stdin is closed" in closed.stderr
    assert "--prompt" in closed.stderr


def test_a_merged_model_answers_like_its_adapter_and_is_never_overwritten(smoke_run: FinishedRun) -> None:
    merged = smoke_run.workdir / "merged"
    export = smoke_run.cli("export", "--adapter", "latest", "--out", str(merged))
    assert export.returncode == 0, export.stderr
    assert export.stdout.strip() == str(merged)
    assert {"config.json", "model.safetensors", "tokenizer_config.json"} <= {path.name for path in merged.iterdir()}
    tuned = smoke_run.cli("infer", "--adapter", "latest", "-p", "Who made you?", *SHORT)
    whole = smoke_run.cli("infer", "--model", str(merged), "-p", "Who made you?", *SHORT)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout == tuned.stdout
    base = smoke_run.cli("infer", "--model", "sft-kit/tiny-qwen2", "-p", "Who made you?", *SHORT)
    assert base.stdout != tuned.stdout  # so a merge that did nothing would be seen
    before = sorted((path.name, path.stat().st_mtime_ns) for path in merged.iterdir())
    again = smoke_run.cli("export", "--adapter", "latest", "--out", str(merged))
    assert again.returncode == 2
    assert "is already there" in again.stderr
    assert sorted((path.name, path.stat().st_mtime_ns) for path in merged.iterdir()) == before
    left = [path.name for path in smoke_run.workdir.iterdir() if path.name.startswith(".merged")]
    assert left == []


def test_a_base_model_by_its_own_name_answers(tmp_path: Path) -> None:
    answered = run_cli("infer", "--model", "sft-kit/tiny-qwen2", "-p", "hi", *SHORT, cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()


def test_an_adapter_whose_weights_are_broken_is_ms_swifts_failure_with_its_cause(
    smoke_run: FinishedRun, tmp_path: Path
) -> None:
    broken = tmp_path / "checkpoint-9"
    broken.mkdir()
    before = sorted((smoke_run.run / "checkpoint-2").iterdir())
    assert all(path.is_file() for path in before)  # no earlier infer has left anything in the checkpoint
    for file in before:
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "adapter_model.safetensors").write_bytes(b"not weights")
    failed = smoke_run.cli("infer", "--adapter", str(broken), "-p", "hi")
    assert failed.returncode == 4
    assert "SafetensorError" in failed.stderr
