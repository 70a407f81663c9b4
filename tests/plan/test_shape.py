"""Shapes from config.json, against the real modules and against published sizes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from sft_kit.plan.memory import Tuning
from sft_kit.plan.shape import Linear, known_shape, shape_of
from sft_kit.resources import shipped
from tests.plan.test_memory import traced

MODELS = json.loads((shipped("data") / "models" / "shapes.json").read_text(encoding="utf-8"))["models"]
REAL = [entry for entry in MODELS if not entry["config"]["model_type"].startswith(("internlm", "chatglm"))]
"""Those whose modules transformers has."""


def test_a_config_gives_every_linear_of_the_model() -> None:
    config = {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    shape = shape_of(config)
    assert shape is not None
    assert shape.linears == (
        Linear("q_proj", 3584, 3584, 28, True),
        Linear("k_proj", 3584, 512, 28, True),
        Linear("v_proj", 3584, 512, 28, True),
        Linear("o_proj", 3584, 3584, 28, False, "context"),
        Linear("gate_proj", 3584, 18944, 28, False, "mlp"),
        Linear("up_proj", 3584, 18944, 28, False, "mlp"),
        Linear("down_proj", 18944, 3584, 28, False, "product"),
    )
    assert shape.parameters == 7_615_616_512  # as Qwen2.5-7B's safetensors index says
    assert (shape.q_dim, shape.kv_dim, shape.head_dim) == (3584, 512, 128)


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry["ids"][0])
def test_a_listed_model_has_its_published_size(entry: dict[str, Any]) -> None:
    shape = known_shape(entry["ids"][-1].upper())
    assert shape is not None
    assert shape.parameters == pytest.approx(entry["parameters"], rel=0.01)


def test_parameters_and_adapters_are_those_of_the_real_modules() -> None:
    tunings = [
        Tuning("lora", rank=8),
        Tuning("lora", rank=16, dora=True),
        Tuning("lora", rank=64, targets=("q_proj", "v_proj", "qkv_proj", "lm_head")),
    ]
    # one layer says as much as all do
    asked = [({**entry["config"], "num_hidden_layers": 1}, tunings[number % 3]) for number, entry in enumerate(REAL)]
    told = traced([{"config": config, "tuning": asdict(tuning)} for config, tuning in asked])
    assert len(told) > 30
    for (config, tuning), counts in zip(asked, told, strict=True):
        shape = shape_of(config)
        assert shape is not None
        adapter = shape.lora_parameters(tuning.targets, tuning.rank, dora=tuning.dora)
        assert [shape.parameters, adapter] == counts, (config, tuning)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "mamba2", "hidden_size": 64},
        {"model_type": "qwen3_moe", "hidden_size": 2048, "num_experts": 128},
        {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}, "vision_config": {}},
        {"model_type": "qwen2", "hidden_size": 64},
        {"model_type": "qwen2", "hidden_size": "sixty-four"},
        {**REAL[0]["config"], "num_hidden_layers": -7},
        {**REAL[0]["config"], "hidden_size": float("inf")},
    ],
)
def test_an_architecture_that_is_not_known_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_of(config) is None


def test_a_model_that_is_not_listed_has_no_shape() -> None:
    assert known_shape("someone/their-own-model") is None


def test_every_id_is_listed_once() -> None:
    ids = [model_id.lower() for entry in MODELS for model_id in entry["ids"]]
    assert sorted(set(ids)) == sorted(ids)


def test_targets_are_named_by_the_last_part_of_the_module_name() -> None:
    shape = known_shape("LLM-Research/Phi-3.5-mini-instruct")
    assert shape is not None
    assert [linear.name for linear in shape.targeted(("self_attn.qkv_proj", "lm_head"))] == ["qkv_proj", "lm_head"]
    assert shape.targeted(("q_proj",)) == ()
    assert [linear.name for linear in shape.targeted(("all-linear",))] == [
        "qkv_proj",
        "o_proj",
        "gate_up_proj",
        "down_proj",
    ]
