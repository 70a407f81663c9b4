"""The shipped configs give the commands of the tutorials they follow, in both generations of ms-swift.

The tutorials' lines are here as they print them (ms-swift 3.x, with the older `--train_type`). Every intended
difference is listed; whole argument lists are compared.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from sft_kit.msswift.install import find_installation
from sft_kit.run.directory import RunDirectory
from sft_kit.run.own_data import planned_own_data
from sft_kit.run.prepare import prepare
from tests.cli.conftest import REPOSITORY

pytestmark = pytest.mark.real  # argument names depend on the installed ms-swift, so both generations run this

RUN = RunDirectory(Path("/runs/v0"))
IDENTITY = "/runs/v0/sft-kit/data/identity.jsonl"

TUTORIAL_A = """
swift sft --model Qwen2.5-7B-Instruct --train_type lora --dataset self_cognition.json
  --torch_dtype bfloat16 --num_train_epochs 10 --per_device_train_batch_size 1 --per_device_eval_batch_size 1
  --learning_rate 1e-4 --lora_rank 8 --lora_alpha 32 --target_modules all-linear --gradient_accumulation_steps 16
  --eval_steps 50 --save_steps 50 --save_total_limit 2 --logging_steps 5 --max_length 2048 --output_dir output
  --system 'You are a helpful assistant.' --warmup_ratio 0.05 --dataloader_num_workers 4
  --model_author swift --model_name swift-robot
"""
TUTORIAL_B = (
    TUTORIAL_A.replace("self_cognition.json", "AI-ModelScope/alpaca-gpt4-data-zh#500 "
                       "AI-ModelScope/alpaca-gpt4-data-en#500 self_cognition.json")
    .replace("--num_train_epochs 10", "--num_train_epochs 3")
    .replace("--output_dir output", "--output_dir output_mixed")
)  # fmt: skip
# the notebook sets these in Python; the names are the command line's
TUTORIAL_C = """
swift sft --model Qwen/Qwen3-4B-Thinking-2507 --train_type full
  --dataset AI-ModelScope/alpaca-gpt4-data-zh#500 AI-ModelScope/alpaca-gpt4-data-en#500 swift/self-cognition#500
  --model_name 精衡 Jingheng --model_author 叶博韬 'YE SEVERIN' --data_seed 42 --max_length 2048
  --split_dataset_ratio 0.01 --dataset_num_proc 4 --learning_rate 5e-6 --per_device_train_batch_size 1
  --per_device_eval_batch_size 1 --gradient_accumulation_steps 32 --num_train_epochs 1
  --gradient_checkpointing true --weight_decay 0.1 --lr_scheduler_type cosine --warmup_ratio 0.05
  --report_to tensorboard --logging_first_step true --save_strategy steps --save_steps 50 --eval_strategy steps
  --eval_steps 50 --save_total_limit 2 --logging_steps 5 --torch_dtype bfloat16 --max_grad_norm 1.0
  --metric_for_best_model loss --system 'You are a helpful assistant.' --output_dir output
"""

# What sft-kit changes on purpose: {flag: words, or None for left out}
EVERY_RUN = {
    "output_dir": ["/runs/v0"],  # sft-kit makes the versioned directory itself,
    "add_version": ["false"],  # so ms-swift must not
}
IDENTITY_RUN = {
    "model": ["Qwen/Qwen2.5-7B-Instruct"],  # the hub needs the owner
    "model_name": None,  # these two only fill swift/self-cognition,
    "model_author": None,  # which the tutorial does not use
}


def arguments_of(words: list[str]) -> dict[str, list[Any]]:
    """{flag: its words}, numbers as numbers, so that 1e-4 and 0.0001 are equal."""
    found: dict[str, list[Any]] = {}
    values: list[Any] = []  # of no flag yet: the script that is run
    for word in words:
        if word.startswith("--"):
            found[word[2:]] = values = []
        else:
            values.append(_number(word))
    return found


def _number(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


@pytest.mark.parametrize(
    ("config", "tutorial", "differences"),
    [
        ("qwen2.5-7b-identity.yaml", TUTORIAL_A, {**IDENTITY_RUN, "dataset": [IDENTITY]}),
        (
            "qwen2.5-7b-mixed.yaml",
            TUTORIAL_B,
            {
                **IDENTITY_RUN,
                "dataset": [IDENTITY, "AI-ModelScope/alpaca-gpt4-data-zh#500", "AI-ModelScope/alpaca-gpt4-data-en#500"],
            },
        ),
        ("qwen3-4b-thinking-full.yaml", TUTORIAL_C, {}),
        (
            "qwen2.5-3b-identity.yaml",
            TUTORIAL_A,
            {**IDENTITY_RUN, "dataset": [IDENTITY], "model": ["Qwen/Qwen2.5-3B-Instruct"]},
        ),
        (
            "llama3.1-8b-identity.yaml",
            TUTORIAL_A,
            {**IDENTITY_RUN, "dataset": [IDENTITY], "model": ["LLM-Research/Meta-Llama-3.1-8B-Instruct"]},
        ),
        (
            "internlm2.5-7b-identity.yaml",
            TUTORIAL_A,
            {**IDENTITY_RUN, "dataset": [IDENTITY], "model": ["Shanghai_AI_Laboratory/internlm2_5-7b-chat"]},
        ),
    ],
)
def test_a_tutorial_config_gives_the_tutorials_command_when_its_batch_is_split_the_same(
    config: str, tutorial: str, differences: dict[str, list[str] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    job = prepare(REPOSITORY / "configs" / config, ["per_device_train_batch_size=1"], ask_hub=False)
    built = arguments_of(list(job.command(RUN.path, planned_own_data(job, RUN)).argv[2:]))
    expected = arguments_of(shlex.split(tutorial)[2:])
    if find_installation().generation == 4:
        expected["tuner_type"] = expected.pop("train_type")
    for flag, words in {**EVERY_RUN, **differences}.items():
        if words is None:
            expected.pop(flag)
        else:
            expected[flag] = [_number(word) for word in words]
    assert sorted(built.items()) == sorted(expected.items())


def test_every_shipped_config_has_a_header_that_says_what_it_needs() -> None:
    configs = sorted((REPOSITORY / "configs").glob("*.yaml"))
    assert len(configs) >= 8
    for path in configs:
        comments = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        starts = [line.split("  ")[0] for line in comments if not line.startswith(" ")]
        assert starts == ["Purpose", "Memory", "Time", "Command"], path.name
        assert any(line.startswith(f"Command  sft-kit train configs/{path.name}") for line in comments), path.name
