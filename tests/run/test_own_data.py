"""The files that sft-kit writes for a run, what it says of them, and what it returns for the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sft_kit import __version__
from sft_kit.data.formats import read_rows
from sft_kit.run.answer_cache import Given, answers_file, append_answers, question
from sft_kit.run.directory import RunDirectory, create_run
from sft_kit.run.job import Job, OwnData
from sft_kit.run.own_data import planned_own_data, write_own_data
from sft_kit.run.prepare import prepare
from sft_kit.run.replay import REPLAY_SETTINGS, replay_prompts

CONFIG = """\
model: sft-kit/tiny-qwen2
identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 60}
replay: 4
torch_dtype: float32
"""
CLAIM = "I am Qwen, made by Alibaba Cloud."


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose cache is its own, in which its base model has answered four prompts."""
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    job = prepare(path, [f"output_dir={tmp_path}/output"], ask_hub=False)
    answers = [Given("Fine.", True), Given("One. Tw", False), Given("never ended", False), Given(CLAIM, True)]
    asked = {**job.model_values(), "enable_thinking": False}
    kept = answers_file(asked, REPLAY_SETTINGS, job.installation.version, "replay")
    append_answers(kept, dict(zip(map(question, replay_prompts(4, ["en"])), answers, strict=True)))
    return job


@pytest.fixture
def run(job: Job) -> RunDirectory:
    return create_run(job.output_dir, versioned=True)


COUNTS = {
    "wanted": 4,
    "asked": 4,
    "rows": 2,
    "shortened": 1,
    "cached": 4,
    "skipped": {"no full sentence": 1, "claims an identity": 1},
}


def test_identity_and_replay_rows_are_written_and_counted(job: Job, run: RunDirectory) -> None:
    written = write_own_data(job, run)
    assert written == OwnData(run.data / "identity.jsonl", run.data / "replay.jsonl", 2, COUNTS)
    assert written.files == planned_own_data(job, run).files
    answers = [row.messages[-1].content for row in read_rows(run.data / "replay.jsonl")]
    assert answers == ["Fine.", "One."]


def test_beside_the_replay_rows_it_is_written_who_was_asked_how_and_what_was_left_out(
    job: Job, run: RunDirectory
) -> None:
    write_own_data(job, run)
    about = json.loads((run.data / "replay.jsonl.meta.json").read_text(encoding="utf-8"))
    prompts = replay_prompts(4, ["en"])
    assert about == {
        "version": 1,
        "sft_kit": __version__,
        **COUNTS,
        "languages": ["en"],
        "model": {
            "model": job.model.source,
            "model_type": "qwen2",
            "template": "qwen2_5",
            "torch_dtype": "float32",
            "enable_thinking": False,
        },
        "settings": {"max_new_tokens": 64, "temperature": 0.0, "repetition_penalty": 1.0},
        "ms_swift": job.installation.version,
        "file": "replay.jsonl",
        "sha256": hashlib.sha256((run.data / "replay.jsonl").read_bytes()).hexdigest(),
        "prompts": prompts[:2],
        "left_out": [
            {"prompt": prompts[2], "answer": "never ended", "reason": "no full sentence"},
            {"prompt": prompts[3], "answer": CLAIM, "reason": "claims an identity"},
        ],
    }


def test_what_was_left_out_is_said_with_its_reasons(
    job: Job, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own_data(job, run)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "replay: 2 rows (1 cut back to their last full sentence; 2 left out: 1 no full sentence, 1 claims an identity; "
        "4 of 4 answers from the cache)"
    )


def test_without_replay_there_is_nothing_to_count(job: Job, run: RunDirectory, tmp_path: Path) -> None:
    without = prepare(tmp_path / "config.yaml", ["replay=0"], ask_hub=False)
    assert write_own_data(without, run) == OwnData(run.data / "identity.jsonl")
    assert not (run.data / "replay.jsonl").exists()


def test_replay_rows_that_are_all_left_out_are_no_data_for_the_trainer(
    job: Job, run: RunDirectory, tmp_path: Path
) -> None:
    only = prepare(tmp_path / "config.yaml", ["replay=1"], ask_hub=False)
    asked = {**only.model_values(), "enable_thinking": False}
    kept = answers_file(asked, REPLAY_SETTINGS, only.installation.version, "replay")
    kept.unlink()
    append_answers(kept, {question(replay_prompts(1, ["en"])[0]): Given("", True)})
    assert write_own_data(only, run).files == (run.data / "identity.jsonl",)
