"""What lies in a directory that ms-swift or transformers wrote: an adapter, a full model, a run, or nothing known.

Reads file names and small JSON files only: never weights, never pickles.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["adapter", "model", "run", "unknown"]
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoint-N`; `complete` means its weights and its trainer state are both there."""

    path: Path
    step: int
    complete: bool


def kind_of(directory: Path) -> Kind:
    """Look at `directory` and say what it is."""
    if (directory / "adapter_config.json").is_file():
        return "adapter"
    if (directory / "config.json").is_file():
        return "model"
    if checkpoints(directory) or (directory / "sft-kit" / "manifest.json").is_file():
        return "run"
    return "unknown"


def checkpoints(run: Path) -> list[Checkpoint]:
    """The checkpoints of a run directory, by step."""
    if not run.is_dir():
        return []
    entries = [entry for entry in run.iterdir() if entry.is_dir()]
    found = [(int(match[1]), run / match[0]) for entry in entries if (match := _CHECKPOINT.fullmatch(entry.name))]
    return [Checkpoint(path, step, is_complete(path)) for step, path in sorted(found)]


def is_complete(checkpoint: Path) -> bool:
    """Whether the weights are there in full. trainer_state.json is written after them, so it marks the end.

    (args.json does not: ms-swift writes it before the optimizer state.)
    """
    if not (checkpoint / "trainer_state.json").is_file():
        return False
    if (checkpoint / "adapter_config.json").is_file():
        return any((checkpoint / f"adapter_model{suffix}").is_file() for suffix in _WEIGHTS)
    return (checkpoint / "config.json").is_file() and not missing_weights(checkpoint)


def missing_weights(model: Path) -> list[str]:
    """Names of the weight files that `model` should have and has not; `*.safetensors` when it has none at all."""
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        table = read_json(model / index)
        if isinstance(table.get("weight_map"), dict):
            return sorted({str(name) for name in table["weight_map"].values() if not (model / str(name)).is_file()})
    has_any = model.is_dir() and any(entry.suffix in _WEIGHTS for entry in model.iterdir())
    return [] if has_any else ["*.safetensors"]


def plugins(checkpoint: Path) -> list[str]:
    """The Python files that ms-swift would import when it loads `checkpoint`, as its args.json names them."""
    arguments = read_json(checkpoint / "args.json")
    named: list[str] = []
    for key in ("external_plugins", "custom_register_path"):
        value = arguments.get(key) or []
        named += map(str, value if isinstance(value, list) else [value])
    return named


def architecture(model: Path) -> str | None:
    """`architectures[0]` of the model's config.json; None when there is none."""
    named = read_json(model / "config.json").get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when it is missing, unreadable or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
