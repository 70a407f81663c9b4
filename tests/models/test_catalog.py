from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_kit.errors import Problem, UsageError
from sft_kit.models.catalog import (
    OWN_MODELS,
    OwnModel,
    is_own_model,
    own_model_path,
    own_model_types,
    resolve_own_model,
)


def test_our_names_are_told_from_hub_ids_and_paths() -> None:
    names = ["sft-kit/smollm2-135m", "sft-kit/none-such", "Qwen/Qwen3-0.6B", "./sft-kit/tiny-qwen2", "sft-kit"]
    assert [is_own_model(name) for name in names] == [True, True, False, False, False]


def test_an_unknown_name_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        own_model_types("sft-kit/tiny-qwen")
    assert caught.value.problems == (
        Problem(
            "model",
            "there is no sft-kit/tiny-qwen",
            "did you mean sft-kit/tiny-qwen3? sft-kit has sft-kit/smollm2-135m, sft-kit/tiny-qwen2, "
            "sft-kit/tiny-qwen3, sft-kit/tiny-llama",
        ),
    )


def test_each_model_has_the_type_and_template_that_both_generations_of_ms_swift_know() -> None:
    assert {name: own_model_types(name) for name in OWN_MODELS} == {
        "sft-kit/smollm2-135m": ("llama", "chatml"),
        "sft-kit/tiny-qwen2": ("qwen2", "qwen2_5"),
        "sft-kit/tiny-qwen3": ("qwen3", "qwen3"),
        "sft-kit/tiny-llama": ("llama", "chatml"),
    }


def test_every_unknown_name_is_refused_before_anything_is_built(cache: Path) -> None:
    for refuse in (own_model_path, lambda name: resolve_own_model(name, print)):
        with pytest.raises(UsageError):
            refuse("sft-kit/none-such")
    assert not cache.exists()


def test_asking_where_the_models_will_be_builds_nothing(cache: Path) -> None:
    major = importlib.metadata.version("transformers").partition(".")[0]
    assert {name: own_model_path(name) for name in OWN_MODELS} == {
        "sft-kit/smollm2-135m": cache / "models" / "smollm2-135m",
        "sft-kit/tiny-qwen2": cache / "models" / f"tiny-qwen2-{major}",
        "sft-kit/tiny-qwen3": cache / "models" / f"tiny-qwen3-{major}",
        "sft-kit/tiny-llama": cache / "models" / f"tiny-llama-{major}",
    }
    assert not cache.exists()


@pytest.mark.real
def test_a_tiny_model_is_built_once_and_then_taken_from_the_cache(
    tiny: Callable[[str], OwnModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tiny("qwen2")
    monkeypatch.setenv("SFT_KIT_CACHE", str(built.path.parents[1]))
    said: list[str] = []
    assert resolve_own_model("sft-kit/tiny-qwen2", said.append) == built
    assert built == OwnModel("sft-kit/tiny-qwen2", own_model_path("sft-kit/tiny-qwen2"), "qwen2", "qwen2_5")
    assert said == []
