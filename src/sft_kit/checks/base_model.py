"""Where a base model lies: one of sft-kit's own, a directory, or a hub id. Never starts or downloads anything.

A name that looks like a path and is not there is an error, and never taken for a hub id as ms-swift would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sft_kit.checks.trust import refuse_traps
from sft_kit.errors import MissingError, Problem, UsageError
from sft_kit.models.catalog import is_own_model, own_model_path, own_model_types
from sft_kit.msswift.checkpoints import architecture, kind_of, missing_weights
from sft_kit.msswift.hub import cached_model, hub_problem, is_hub_id, looks_like_path
from sft_kit.msswift.model_types import is_registered, suggest_model_id
from sft_kit.resources import user_path


@dataclass(frozen=True)
class BaseModel:
    """A model as ms-swift is told of it: `source` is a directory or a hub id."""

    name: str  # as the user wrote it
    source: str
    local: bool
    model_type: str | None = None  # of sft-kit's own models, whose architecture alone is ambiguous
    template: str | None = None
    architecture: str | None = None  # of a local directory: architectures[0] of its config.json


def locate_model(
    name: str, *, hugging_face: bool, ask_hub: bool = True, environ: Mapping[str, str] = os.environ
) -> BaseModel:
    """The model that `name` means.

    Raises UsageError for a name that cannot be one, with what was probably meant, and MissingError when it has to
    come from a hub that does not have it or does not answer (asked only with `ask_hub`, and not for a cached one).
    `environ` is what ms-swift will see.
    """
    if is_own_model(name):
        model_type, template = own_model_types(name)
        return BaseModel(name, str(own_model_path(name)), True, model_type, template)
    folder = user_path(name)
    if folder.is_dir():
        _check_directory(folder)
        return BaseModel(name, str(folder), True, architecture=architecture(folder))
    looks_wrong = looks_like_path(name) and not is_registered(name)
    if folder.exists() or looks_wrong or not is_hub_id(name, hugging_face=hugging_face):
        known = suggest_model_id(name, use_hf=hugging_face)
        fix = f"did you mean {known}?" if known else "give a directory that is there, or a hub id (owner/name)"
        what = "is a file, not a model directory" if folder.exists() else "no such directory"
        raise UsageError(Problem("", f"{name}: {what}", fix))
    cached = cached_model(name, hugging_face=hugging_face, environ=environ)
    if cached:
        refuse_traps(cached)
    elif ask_hub:
        problem = hub_problem(name, "models", hugging_face=hugging_face, environ=environ)
        if problem:
            raise MissingError(problem)
    return BaseModel(name, name, False)


def _check_directory(folder: Path) -> None:
    refuse_traps(folder)
    kind = kind_of(folder)
    if kind == "adapter":
        fix = "give its base model here; the adapter goes under adapters:"
        raise UsageError(Problem("", f"{folder} is an adapter, not a full model", fix))
    if kind != "model":
        fix = "give the folder with config.json"
        raise UsageError(Problem("", f"{folder} is not a model directory (no config.json)", fix))
    lost = missing_weights(folder)
    if lost and any(folder.glob("*.gguf")):
        message = f"{folder} holds GGUF files only, which ms-swift does not train"
        fix = "give the original model in safetensors; GGUF is made from a trained one"
        raise UsageError(Problem("", message, fix, "gguf-only"))
    if lost:
        code = "no-weights" if lost == ["*.safetensors"] else "missing-shard"
        fix = "download or export the model again"
        raise UsageError(Problem("", f"{folder} lacks weights: {', '.join(lost[:4])}", fix, code))
