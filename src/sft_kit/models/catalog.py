"""The models named `sft-kit/...` in a config: what ms-swift must be told about each, and where each is kept.

Owns the names. Does not own how a model is built (see `tiny` and `smollm2`), and imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sft_kit.errors import MissingError, Problem, UsageError
from sft_kit.models.cached import Say, build_once, run_module
from sft_kit.models.smollm2 import ensure_smollm2, smollm2_path
from sft_kit.resources import cache_dir

_PREFIX = "sft-kit/"
_SMOLLM2 = "sft-kit/smollm2-135m"

# Name -> (model_type, template). Both ms-swift 3.12 and 4.x have all of these, and need them: the architectures alone
# fit several types. (ms-swift 3 files Qwen2.5 under `qwen2_5`, but its `qwen2` is the same loader.)
OWN_MODELS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        _SMOLLM2: ("llama", "chatml"),
        "sft-kit/tiny-qwen2": ("qwen2", "qwen2_5"),
        "sft-kit/tiny-qwen3": ("qwen3", "qwen3"),
        "sft-kit/tiny-llama": ("llama", "chatml"),
    }
)


@dataclass(frozen=True)
class OwnModel:
    """One of our models on disk: a Hugging Face directory, and ms-swift's `model_type` and `template` for it."""

    name: str
    path: Path
    model_type: str
    template: str


def is_own_model(name: str) -> bool:
    """Whether `name` is written like one of ours; it may still be unknown."""
    return name.startswith(_PREFIX)


def own_model_types(name: str) -> tuple[str, str]:
    """The `model_type` and `template` of a model; builds nothing. Raises UsageError for an unknown name."""
    if name not in OWN_MODELS:
        near = difflib.get_close_matches(name, OWN_MODELS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(Problem("model", f"there is no {name}", f"{hint}sft-kit has {', '.join(OWN_MODELS)}"))
    return OWN_MODELS[name]


def own_model_path(name: str) -> Path:
    """Where a model is or will be kept; builds nothing. Raises UsageError for an unknown name."""
    own_model_types(name)
    if name == _SMOLLM2:
        return smollm2_path()
    # A tokenizer saved by one major version of transformers does not load in the other.
    return cache_dir() / "models" / f"{name.removeprefix(_PREFIX)}-{_transformers_major()}"


def resolve_own_model(name: str, say: Say) -> OwnModel:
    """The model, built or downloaded into the cache first if it is not there yet; `say` hears of what takes long.

    Raises UsageError for an unknown name, MissingError when the model cannot be had.
    """
    model_type, template = own_model_types(name)
    if name == _SMOLLM2:
        return OwnModel(name, ensure_smollm2(say=say), model_type, template)
    family = name.removeprefix(f"{_PREFIX}tiny-")

    def build(directory: Path) -> None:
        say(f"Building {name}")
        run_module("sft_kit.models.tiny", directory, family, fix="install transformers and torch beside sft-kit")

    return OwnModel(name, build_once(own_model_path(name), build, say=say), model_type, template)


def _transformers_major() -> str:
    try:
        return importlib.metadata.version("transformers").partition(".")[0]
    except importlib.metadata.PackageNotFoundError as error:
        problem = Problem("transformers", "not installed in this environment", "run pip install ms-swift transformers")
        raise MissingError(problem) from error
