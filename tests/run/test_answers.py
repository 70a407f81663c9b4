"""Replay rows: which prompts, what becomes of cut answers, and the cache. Asking a real model is tested elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_kit.data.rows import Message, Row
from sft_kit.msswift.install import find_installation
from sft_kit.run.answers import Replay, _replay_key, full_sentences, replay_prompts, replay_rows


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. And thr", "One. Two."),
        ("巴黎是法国的首都。它位于塞纳", "巴黎是法国的首都。"),
        ("No end at all", ""),
        ("Hi. " + "a very long sentence that is never finished " * 3, ""),  # under a third would be left
        ("Version 3.5 is out and so", ""),
        ("- one\n- two\n- thr", "- one\n- two"),
    ],
)
def test_a_cut_answer_is_kept_up_to_its_last_full_sentence(text: str, kept: str) -> None:
    assert full_sentences(text) == kept


def test_prompts_come_in_turn_from_the_languages_and_more_only_add_to_fewer() -> None:
    few, many = replay_prompts(10, ["zh", "en"]), replay_prompts(60, ["zh", "en"])
    assert many[:10] == few
    assert len(set(many)) == 60
    assert [prompt.isascii() for prompt in few] == [False, True] * 5


def test_cached_answers_become_rows_without_any_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    model = {"model": "Nobody/nothing"}
    prompts = replay_prompts(3, ["en"])
    installation = find_installation()
    path = tmp_path / "replay" / f"{_replay_key(model, prompts, installation)}.json"
    path.parent.mkdir()
    path.write_text(json.dumps([["Yes.", True], ["A. B", False], ["never ended", False]]), encoding="utf-8")
    rows = tuple(
        Row((Message("user", prompt), Message("assistant", answer)))
        for prompt, answer in zip(prompts, ("Yes.", "A."), strict=False)
    )
    found = replay_rows(installation, model, 3, ["en"], log=tmp_path / "log", env={})
    assert found == Replay(rows, shortened=1, skipped=1, cached=True)
