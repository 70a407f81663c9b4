from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_kit.models.catalog import OwnModel
from sft_kit.msswift.logs import read_results, read_steps, read_summary

Tiny = Callable[[str], OwnModel]
Train = Callable[[str], Path]


def python(code: str, *arguments: object) -> object:
    """What `code` prints as JSON, in a process of its own: transformers stays out of the tests' process."""
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def train_two_steps(trained: Train, family: str) -> None:
    log = trained(family) / "logging.jsonl"
    steps = read_steps(log)
    assert [(step.step, step.max_steps) for step in steps] == [(1, 2), (2, 2)]
    # Random weights guess one of 1,280 tokens.
    assert [step.loss for step in steps] == pytest.approx([math.log(1280)] * 2, abs=0.5)
    assert str(read_summary(log)["last_model_checkpoint"]).endswith("checkpoint-2")


@pytest.mark.real
def test_ms_swift_trains_a_tiny_qwen2(trained: Train) -> None:
    train_two_steps(trained, "qwen2")


@pytest.mark.real
def test_ms_swift_trains_a_tiny_qwen3(trained: Train) -> None:
    train_two_steps(trained, "qwen3")


@pytest.mark.real
def test_ms_swift_trains_a_tiny_llama(trained: Train) -> None:
    train_two_steps(trained, "llama")


@pytest.mark.real
def test_ms_swift_answers_with_a_tiny_qwen2_and_appends_to_its_result_file(
    trained: Train, infer: Callable[..., None], tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text('{"response": "from before"}\n', encoding="utf-8")
    questions = tmp_path / "questions.jsonl"
    question = json.dumps({"messages": [{"role": "user", "content": "Who are you?"}]})
    questions.write_text(f"{question}\n{question}\n", encoding="utf-8")
    infer(
        *("--adapters", trained("qwen2") / "checkpoint-2", "--val_dataset", questions, "--result_path", results),
        *("--max_new_tokens", "8", "--temperature", "0", "--stream", "false"),
    )
    before, first, second = read_results(results)
    assert before == "from before"
    assert first == second != ""


@pytest.mark.real
def test_transformers_reads_a_tokenizer_as_its_file_says_and_puts_the_familys_system_message_first(tiny: Tiny) -> None:
    code = """
import json, sys
from tokenizers import Tokenizer
from transformers import AutoTokenizer
text = "<|im_start|>user\\n你好, I'm 12345 the 龘 fox!\\n\\n  x\\té<|im_end|>\\n"
hello = [{"role": "user", "content": "hello"}]
seen = []
for folder in sys.argv[1:]:
    mine, direct = AutoTokenizer.from_pretrained(folder), Tokenizer.from_file(folder + "/tokenizer.json")
    ids = mine.encode(text)
    render = lambda rows: mine.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    seen.append([ids == direct.encode(text).ids, mine.decode(ids) == text,
                 render(hello), render([{"role": "system", "content": "Be brief."}, *hello])])
print(json.dumps(seen))
"""
    turn = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    brief = "<|im_start|>system\nBe brief.<|im_end|>\n" + turn
    qwen = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    assert python(code, *(tiny(family).path for family in ("qwen2", "qwen3", "llama"))) == [
        [True, True, qwen + turn, brief],
        [True, True, turn, brief],
        [True, True, turn, brief],
    ]


@pytest.mark.real
def test_the_seed_alone_decides_the_weights(tmp_path: Path) -> None:
    code = """
import hashlib, json, sys
from pathlib import Path
from sft_kit.models.tiny import build_tiny_model
folder = Path(sys.argv[1])
built = [build_tiny_model(folder / str(index), "llama", seed=seed) for index, seed in enumerate((1, 1, 2))]
print(json.dumps([hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() for path in built]))
"""
    first, again, other = python(code, tmp_path)
    assert first == again != other
