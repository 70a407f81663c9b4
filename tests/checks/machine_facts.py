"""Facts about a run on a made-up machine, for the tests of what is said about machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.environment import Disk, Environment, Memory, Torch
from sft_kit.checks.facts import Facts
from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.models.directory import ModelDirectory, TokenizerFiles
from sft_kit.msswift.install import find_installation
from sft_kit.plan.batch import BatchPlan
from sft_kit.plan.gpus import Gpu, Holder, visible_gpus

GIB = 2**30
HUB_MODEL = BaseModel("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", False)
CUDA_TORCH = Torch("2.8.0+cu128", "12.8", None)
SMALL = {  # 0.36 million parameters
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 3000,
    "tie_word_embeddings": True, "torch_dtype": "float32",
}  # fmt: skip


def card(
    index: int = 0,
    name: str = "NVIDIA GeForce RTX 4090",
    capability: tuple[int, int] | None = (8, 9),
    *,
    total: int = 24564,
    free: int | None = None,
    driver: str = "570.133.20",
    holders: Sequence[Holder] = (),
) -> Gpu:
    """One card; all of it free but for what a driver keeps."""
    free = total - 400 if free is None else free
    return Gpu(index, name, free, total, f"GPU-{index:08x}", capability, driver, tuple(holders))


def machine(
    *gpus: Gpu, environ: Mapping[str, str] = MappingProxyType({}), torch: Torch | None = CUDA_TORCH, **more: Any
) -> Environment:
    """A machine with those cards, and room for anything."""
    values = {
        "versions": {},
        "disk": Disk(Path("/runs"), 1000 * GIB),
        "memory": Memory(256 * GIB, 200 * GIB, 64 * GIB),
    } | more
    visible = tuple(visible_gpus(gpus, environ.get("CUDA_VISIBLE_DEVICES")))
    return Environment(gpus=gpus, visible=visible, environ=environ, torch=torch, **values)


def directory(config: Mapping[str, Any]) -> ModelDirectory:
    """A model directory of which only config.json matters."""
    nothing = TokenizerFiles({}, (), {}, {}, "")
    return ModelDirectory(Path("/models/small"), config, {}, {}, (), (), nothing, {}, (), (), (), (), {})


def facts(environment: Environment, keys: Mapping[str, Any] = MappingProxyType({}), **more: Any) -> Facts:
    """Facts of a config with `keys` on that machine; `more` replaces what is known of the rest."""
    config = RunConfig(model="Qwen/Qwen2.5-7B-Instruct", **keys)
    found = Facts(
        config=config,
        installation=find_installation(),
        environment=environment,
        model=HUB_MODEL,
        directory=directory(SMALL),
        batch=BatchPlan(1, 16),
        processes=max(1, config.launch.gpus),
        hugging_face=False,
        rows=1600,
        validation_rows=0,
        lengths=(),
    )
    return replace(found, **more)


def short(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """(code, severity, place) of each."""
    return [(finding.code, finding.severity, finding.place) for finding in findings]
