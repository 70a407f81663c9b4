"""`sft-kit eval` on a finished run of the real ms-swift."""

from __future__ import annotations

import json
import shutil
import uuid

import pytest

from tests.integration.conftest import FinishedRun

pytestmark = pytest.mark.real
NAMED = ("--name", "Jingheng", "--author", "Ye Botao", "--lang", "en")
FEW = ("--set", "eval={questions: 2, general: 2, max_new_tokens: 8}")


def test_what_the_run_answered_is_known_and_no_model_is_loaded(smoke_run: FinishedRun) -> None:
    again = smoke_run.cli("eval", "--adapter", "latest", "--json")
    assert again.returncode == 0, again.stderr
    assert "no model is loaded" in again.stderr
    shown = json.loads(again.stdout)
    assert shown == json.loads((smoke_run.run / "sft-kit" / "report.json").read_text(encoding="utf-8"))
    assert shown["evaluation"]["rates"]["identity"]["n"] == 4


def test_a_threshold_that_is_missed_is_exit_3_after_the_report(smoke_run: FinishedRun) -> None:
    missed = smoke_run.cli("eval", "--adapter", "latest", "--set", "eval.identity=1.0", "--out", "missed")
    assert missed.returncode == 3, missed.stderr
    assert "eval.identity: 0/4" in missed.stderr
    assert (smoke_run.workdir / "missed" / "report.html").is_file()


def test_a_moved_adapter_is_the_same_one_by_its_files(smoke_run: FinishedRun) -> None:
    shutil.copytree(smoke_run.run / "checkpoint-2", smoke_run.workdir / "moved")
    moved = smoke_run.cli("eval", "--adapter", "moved", *NAMED, *FEW)
    assert moved.returncode == 0, moved.stderr
    assert "no model is loaded" in moved.stderr
    assert "new identity" in moved.stdout
    assert (smoke_run.workdir / "eval-moved" / "report.json").is_file()


def test_a_question_of_the_users_is_asked_of_both_in_one_load_and_the_run_compared_with_itself(
    smoke_run: FinishedRun,
) -> None:
    # to one of 60 such questions two models that differ by two steps say the same
    new = [f"What is {uuid.uuid4()}?" for _ in range(4)]
    mine = smoke_run.workdir / "mine.yaml"
    mine.write_text("".join(f"- question: {one}\n  expect_any: [something]\n" for one in new), encoding="utf-8")
    asked = smoke_run.cli("eval", "--adapter", "v0", "--questions", str(mine), "--against", "v0", "--out", "own")
    assert asked.returncode == 0, asked.stderr
    assert "answers of both models: 8 to make" in asked.stderr
    assert asked.stderr.count("loading ") == 1
    assert "your own questions right" in asked.stdout
    assert "against" in asked.stdout
    report = json.loads((smoke_run.workdir / "own" / "report.json").read_text(encoding="utf-8"))
    own = [pair for pair in report["evaluation"]["pairs"] if pair["probe"]["kind"] == "user"]
    assert [pair["probe"]["question"] for pair in own] == new
    assert not any(pair[side]["correct"] for pair in own for side in ("base", "tuned"))
    assert [pair["base"]["answer"] for pair in own] != [pair["tuned"]["answer"] for pair in own]
