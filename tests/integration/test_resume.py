"""Runs that are killed and resumed with the real ms-swift. All kinds of kills and moments: scripts/bench/kills.py."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from scripts.bench.kills import SAVE, SAVE_STEPS, STEP, Case, Seen, measure

from tests.integration.conftest import FinishedRun, run_cli

pytestmark = pytest.mark.real

PYTHON = Path(sys.executable)


@pytest.fixture(scope="session")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One run that is killed twice: in a save, and in a later step."""
    kills = (("launcher", "SIGKILL", SAVE), ("trainer", "SIGKILL", STEP))
    seen = measure(Case("lora", kills), PYTHON, tmp_path_factory.mktemp("kills"), "tested")
    assert seen is not None
    return seen


def test_a_run_that_was_killed_ends_equal_to_one_that_was_not(resumed: Seen) -> None:
    assert resumed.equal, resumed.said
    assert resumed.kills[1]["at_step"] > SAVE_STEPS
    assert resumed.lost_steps is not None and resumed.lost_steps <= SAVE_STEPS


def test_no_kill_leaves_a_process(resumed: Seen) -> None:
    assert [kill["left"] for kill in resumed.kills] == [[], []]


def test_what_is_shown_is_what_happened(resumed: Seen) -> None:
    first, second = (kill["shown"] for kill in resumed.kills)
    assert first == "interrupted: the launcher is gone (killed, or the machine stopped)"
    assert second.startswith("failed: ")
    assert "SIGKILL" in second


def test_a_half_written_checkpoint_is_set_aside(resumed: Seen) -> None:
    (half,) = resumed.kills[0]["half_written"]
    assert half in resumed.set_aside


def test_a_trained_run_without_its_report_is_only_evaluated(smoke_run: FinishedRun, tmp_path: Path) -> None:
    run = tmp_path / "output" / smoke_run.run.name
    shutil.copytree(smoke_run.run, run)
    for report in (run / "sft-kit").glob("report.*"):
        report.unlink()
    again = run_cli("train", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"run {run.name} is trained; going on with its evaluation" in again.stderr
    assert "no model is loaded" in again.stderr  # the answers were kept
    reports = [
        json.loads((each / "sft-kit" / "report.json").read_text(encoding="utf-8")) for each in (smoke_run.run, run)
    ]
    assert reports[0]["evaluation"] == reports[1]["evaluation"]


def test_a_trained_run_is_trained_for_longer_and_has_no_report_of_its_new_end_yet(
    smoke_run: FinishedRun, tmp_path: Path
) -> None:
    run = tmp_path / "output" / smoke_run.run.name
    shutil.copytree(smoke_run.run, run)
    kept = (run / "sft-kit" / "report.html").read_bytes()
    more = ("--resume", str(run), "--set", "max_steps=3", "--accept-changes")
    again = run_cli("train", *more, "--no-eval", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (run / "sft-kit" / "report-checkpoint-2.html").read_bytes() == kept
    assert list((run / "sft-kit").glob("report.*")) == []
    (shown,) = json.loads(run_cli("runs", "--json", cwd=tmp_path).stdout)
    assert (shown["last_checkpoint"], shown["scores"]) == ("checkpoint-3", {})
    assert [entry["changed"] for entry in shown["resumed"]] == [["max_steps: 2 -> 3"]]
    next_ = run_cli("train", "--resume", "--dry-run", cwd=tmp_path)
    assert f"run {run.name} is trained; going on with its evaluation" in next_.stdout + next_.stderr
