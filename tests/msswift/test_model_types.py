"""The table of model types against the real registry, and suggestions of ids."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sft_kit.msswift.install import find_installation
from sft_kit.msswift.model_types import ModelTypeInfo, RegisteredModel, model_types, suggest_model_id

TYPES = {
    "qwen2": ModelTypeInfo(
        ("qwen2_5",),
        ("Qwen2ForCausalLM",),
        (
            RegisteredModel("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "qwen2_5"),
            RegisteredModel("LLM-Research/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B", "llama3"),
            RegisteredModel("AI-ModelScope/twin-7b", None, None),
            RegisteredModel("swift/Twin-7B", None, None),
        ),
    )
}


@pytest.mark.real
def test_every_model_type_is_the_real_registrys(real_ms_swift: dict[str, Any]) -> None:
    ours = {
        name: [
            list(info.templates),
            list(info.architectures),
            [[model.ms_id, model.hf_id, model.template] for model in info.models],
        ]
        for name, info in model_types(find_installation()).items()
    }
    assert len(ours) > 200
    assert ours == real_ms_swift["model_types"]


@pytest.mark.parametrize(
    ("name", "use_hf", "meant"),
    [
        ("Qwen2.5-7B-Instruct", False, "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen2_5-7b-instruct", False, "Qwen/Qwen2.5-7B-Instruct"),
        ("Llama-3-8B", False, "LLM-Research/Meta-Llama-3-8B"),
        ("llama3-8b", True, "meta-llama/Meta-Llama-3-8B"),
        ("qwen/qwen2.5-7b-instruct", False, "Qwen/Qwen2.5-7B-Instruct"),
        ("models/Meta-Llama-3-8B/", False, "LLM-Research/Meta-Llama-3-8B"),
        ("Meta-Llama-3-8B", True, "meta-llama/Meta-Llama-3-8B"),
        ("Twin-7B", False, "AI-ModelScope/twin-7b"),
        ("swift/twin-7b", False, "swift/Twin-7B"),
        ("Qwen/Qwen2.5-7B-Instruct", False, None),
        ("no-such-model", False, None),
        ("", False, None),
    ],
)
def test_a_model_name_is_met_with_the_id_that_was_meant(name: str, use_hf: bool, meant: str | None) -> None:
    assert suggest_model_id(name, TYPES, use_hf=use_hf) == meant


def test_the_tutorials_model_name_is_known_to_the_installed_ms_swift() -> None:
    assert suggest_model_id("Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"


def test_model_types_come_back_from_the_cache_as_they_were_read(own_cache: Path) -> None:
    read = dict(model_types(find_installation()))
    model_types.cache_clear()
    start = time.process_time()
    assert dict(model_types(find_installation())) == read
    assert time.process_time() - start < 0.05
    assert [path.suffix for path in (own_cache / "model_types").iterdir()] == [".json"]
