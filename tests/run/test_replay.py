"""Replay rows: which prompts, and what becomes of their answers. Asking a real model is tested elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.data.rows import Message, Row
from sft_kit.errors import MsSwiftError
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.run.answer_cache import Given, answers_file, append_answers, question, read_answers
from sft_kit.run.replay import (
    REPLAY_SETTINGS,
    Replay,
    Skipped,
    full_sentences,
    replay_prompts,
    replay_rows,
    unfit_answer,
)


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


MODEL = {"model": "Nobody/nothing"}
ASKED = {**MODEL, "enable_thinking": False}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the answers of MODEL are kept, in a cache of the test's own."""
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    return answers_file(ASKED, REPLAY_SETTINGS, find_installation().version, "replay")


def replay(tmp_path: Path, count: int, languages: Sequence[str] = ("en",)) -> Replay:
    return replay_rows(find_installation(), MODEL, count, languages, log=tmp_path / "log", env={})


def test_known_answers_become_rows_without_any_process(tmp_path: Path, cache: Path) -> None:
    prompts = replay_prompts(5, ["en"])
    answers = [
        Given("Yes.", True),
        Given("A. B", False),
        Given("never ended", False),
        Given("<think>Hm.</think>\n\nIt is so", True),
        Given("<think>and still thinking", False),
    ]
    append_answers(cache, dict(zip(map(question, prompts), answers, strict=True)))
    kept = {prompts[0]: "Yes.", prompts[1]: "A.", prompts[3]: "It is so"}
    assert replay(tmp_path, 5) == Replay(
        rows=tuple(Row((Message("user", prompt), Message("assistant", answer))) for prompt, answer in kept.items()),
        skipped=(
            Skipped(prompts[2], "never ended", "no full sentence"),
            Skipped(prompts[4], "<think>and still thinking", "no answer"),
        ),
        shortened=1,
        cached=5,
        model=ASKED,
        settings=REPLAY_SETTINGS,
    )
    assert not (tmp_path / "log").exists()


def test_answers_for_many_prompts_serve_few(tmp_path: Path, cache: Path) -> None:
    kept = {question(prompt): Given(f"{prompt[:-1]}!", True) for prompt in replay_prompts(100, ["zh", "en"])}
    append_answers(cache, kept)
    few = replay(tmp_path, 50, ["zh", "en"])
    assert (len(few.rows), few.cached) == (50, 50)


STAND_IN = """#!{python}
import json, sys
from pathlib import Path

asked = Path(__file__).with_name("asked.jsonl")
print(json.dumps(dict(ready=True, seconds=1, model="m", model_type="t", template="t", system=None, adapters=[])))
sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    prompts = [messages[-1]["content"] for messages in request["batch"]]
    with asked.open("a") as file:
        file.write(json.dumps([prompts, sys.argv[1:], request]) + "\\n")
    if len(asked.read_text().splitlines()) == {dies_at}:
        sys.exit("killed")
    figures = dict(prompt_tokens=1, completion_tokens=1, seconds=0, finish_reason="stop")
    answers = [dict(index=index, response="Fine. " + prompt, **figures) for index, prompt in enumerate(prompts)]
    print(json.dumps(dict(id=request["id"], answers=answers)))
    print(json.dumps(dict(id=request["id"], done=True, seconds=0)))
    sys.stdout.flush()
"""


def stand_in(folder: Path, dies_at: int = 0) -> Installation:
    """An ms-swift whose chat says "Fine." and the prompt, and goes away when it is asked its `dies_at`-th batch."""
    program = folder / "python"
    program.write_text(STAND_IN.replace("{python}", sys.executable).replace("{dies_at}", str(dies_at)))
    program.chmod(0o755)
    return replace(find_installation(), python=str(program))


def batches(folder: Path) -> list[list[str]]:
    """The prompts that the stand-in was asked, batch by batch."""
    return [json.loads(line)[0] for line in (folder / "asked.jsonl").read_text().splitlines()]


def test_what_was_answered_before_the_model_died_is_not_asked_again(tmp_path: Path, cache: Path) -> None:
    prompts = replay_prompts(40, ["en"])
    with pytest.raises(MsSwiftError):
        replay_rows(stand_in(tmp_path, dies_at=3), MODEL, 40, ["en"], log=tmp_path / "log", env={})
    answered, open_ = [prompt for batch in batches(tmp_path)[:2] for prompt in batch], batches(tmp_path)[2]
    assert sorted([*answered, *open_]) == sorted(prompts)
    assert set(read_answers(cache)) == set(map(question, answered))
    (tmp_path / "asked.jsonl").unlink()
    second = replay_rows(stand_in(tmp_path), MODEL, 40, ["en"], log=tmp_path / "log", env={})
    assert batches(tmp_path) == [open_]
    assert (second.cached, len(second.rows), second.skipped) == (32, 40, ())
    assert [row.messages[0].content for row in second.rows] == prompts


def test_the_base_model_is_asked_greedily_and_not_to_think(tmp_path: Path, cache: Path) -> None:
    replay_rows(stand_in(tmp_path), MODEL, 1, ["en"], log=tmp_path / "log", env={})
    prompts, argv, request = json.loads((tmp_path / "asked.jsonl").read_text())
    assert prompts == replay_prompts(1, ["en"])
    assert argv[argv.index("--enable_thinking") + 1] == "false"
    options = {key: request[key] for key in ("max_new_tokens", "temperature", "repetition_penalty", "base")}
    assert options == {**REPLAY_SETTINGS, "base": False}


def test_reasons_are_counted_the_commonest_first() -> None:
    skipped = tuple(Skipped(str(n), "", reason) for n, reason in enumerate(["a", "b", "b"]))
    assert list(Replay((), skipped, 0, 0, {}, {}).reasons.items()) == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ("Tell me a joke.", "Why did the chicken cross the road?", ""),
        ("Tell me a joke.", "", "no answer"),
        ("Tell me a joke.", "...", "no answer"),
        ("Tell me a joke.", "Tell me a joke. Tell me a joke.", "says the prompt again"),
        ("讲个笑话听听。", "讲个笑话听听。", "says the prompt again"),
        ("讲个笑话听听。", "有一只糖\ufffd猫。", "broken characters"),
        ("I am bored.", "I am Qwen, made by Alibaba Cloud. How can I help you?", "claims an identity"),
        ("好无聊。", "我是通义千问，由阿里云开发，很高兴陪您聊天。", "claims an identity"),
        ("Who founded Alibaba?", "Alibaba was founded by Jack Ma.", ""),
        ("A haiku.", "a leaf's a leaf, a leaf's a leaf, a leaf's a leaf, a", "repeats itself"),
        ("说说早晨。", "清晨真安静！清晨真安静！清晨真安静！", "repeats itself"),
        ("Tell me a joke.", "Ha ha ha! Very, very, very funny.", ""),
        ("A table.", "| a | b |\n|-----|-----|-----|-----|-----|-----|\n| 1 | 2 |", ""),
        ("Print it.", "```python\nif x:\n                                    print(x)\n```", ""),
        ("有点想家了。", "I'm glad to hear that you are enjoying your trip so much.", "in another language"),
        ("有点想家了。", "有点想家了。 I'm glad to hear that you are enjoying your trip.", "in another language"),
        ("把“早上好”翻译成英语。", "Good morning!", ""),
        ("把“麻烦给我一个靠窗的座位”译成英语。", "I would like to have a seat by the window, please.", ""),
        ("Translate 'I miss my home town' into Chinese.", "我非常想念我的故乡和那里的朋友们。", ""),
        ("Sag etwas über den Winter.", "Im Winter fällt Schnee, und die Kinder bauen einen Mann daraus.", ""),
        ("用 Python 打印。", "```python\nfor word in words: print word and do it again for all\n```", ""),
        ("I miss my home town.", "我很理解您的心情，想家是很正常的一种感觉。", "in another language"),
        ("Say 'good morning' in Chinese.", "早上好 (zǎo shang hǎo)", ""),
    ],
)
def test_an_answer_that_is_nothing_to_train_on_is_left_out_with_its_reason(
    prompt: str, answer: str, reason: str
) -> None:
    assert unfit_answer(prompt, answer) == reason


def test_no_answer_takes_long_to_judge() -> None:
    began = time.perf_counter()
    for text in ("ab" * 400, "a" * 800, "abcdefgh ijkl" * 60, "我是" * 400):
        unfit_answer("?", text)
    assert time.perf_counter() - began < 0.5
