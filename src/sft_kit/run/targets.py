"""What `--adapter` and `--model` mean: an adapter, a run, `latest`, a full checkpoint, a merged or a base model.

Looks at files only, and says what to give instead when the thing given is something else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.checks.base_model import locate_model, refuse_plugins
from sft_kit.errors import MissingError, Problem, UsageError
from sft_kit.models.catalog import is_own_model, resolve_own_model
from sft_kit.msswift.checkpoints import checkpoints, kind_of, read_json
from sft_kit.msswift.hub import hub_problem, is_hub_id, looks_like_path, uses_hugging_face
from sft_kit.resources import user_path
from sft_kit.run.directory import RUN_NAME, find_run


@dataclass(frozen=True)
class Target:
    """A model to talk to or to export. `values` are `swift infer` arguments (4.x names)."""

    kind: str  # "adapter" or "model"
    path: str  # directory or hub id
    values: dict[str, Any]
    note: str = ""  # what was chosen, when the user named something wider (a run, latest)

    @property
    def base(self) -> str:
        """The base model an adapter was trained on, as its args.json names it; empty for a model."""
        return str(read_json(Path(self.path) / "args.json").get("model") or "") if self.kind == "adapter" else ""


def resolve_adapter(name: str, output_dir: Path) -> Target:
    """The adapter (or, for a full fine-tune, the checkpoint) that `--adapter name` means.

    `name` is an adapter directory, a run directory or its name, or `latest`. Raises UsageError naming the fix.
    """
    path = user_path(name)
    is_run_name = name == "latest" or RUN_NAME.match(name) or (name[:1] == "v" and name[1:].isdigit())
    if path.is_dir():
        kind = kind_of(path)
        if kind == "adapter":
            return _adapter(path)
        if kind == "model":
            raise UsageError(Problem(name, "is a full model, not an adapter", f"use --model {name}"))
        if kind == "unknown":
            fix = "give a checkpoint-N folder, a run directory, or latest"
            raise UsageError(Problem(name, "holds no adapter (no adapter_config.json) and no checkpoints", fix))
        return _of_run(path.resolve())
    if path.exists():
        raise UsageError(Problem(name, "is a file", "give the folder that holds adapter_config.json"))
    if is_run_name:
        return _of_run(find_run(name, output_dir).path)
    if is_hub_id(name) and not looks_like_path(name):
        problem = hub_problem(name, "models", hugging_face=uses_hugging_face(None, os.environ))
        if problem:
            raise MissingError(problem)
        return Target("adapter", name, {"adapters": [name]})
    raise UsageError(Problem(name, "no such adapter, run or checkpoint", "`sft-kit runs` lists the runs"))


def resolve_model(name: str, say: Callable[[str], None]) -> Target:
    """The model that `--model name` means: sft-kit's own, a directory, the last checkpoint of a run, or a hub id."""
    path = user_path(name)
    if path.is_dir() and kind_of(path) == "adapter":
        raise UsageError(Problem(name, "is an adapter, not a full model", f"use --adapter {name}"))
    if path.is_dir() and kind_of(path) == "run":
        return _of_run(path.resolve())
    model = locate_model(name, hugging_face=uses_hugging_face(None, os.environ))
    if is_own_model(name):
        resolve_own_model(name, say)
    values = {"model": model.source, "model_type": model.model_type, "template": model.template}
    return Target("model", model.source, values)


def resolve_one(adapter: str | None, model: str | None, output_dir: Path, say: Callable[[str], None]) -> Target:
    """What `--adapter` or `--model` means, of which exactly one is given; UsageError else."""
    if (adapter is None) == (model is None):
        fix = "`--adapter latest` for your newest run, `--model DIR` for a full or merged model"
        raise UsageError(Problem("", "give either --adapter or --model", fix))
    return resolve_adapter(adapter, output_dir) if adapter is not None else resolve_model(model or "", say)


def _of_run(run: Path) -> Target:
    """The best complete checkpoint of a run (by its validation loss), else the last one."""
    complete = [checkpoint for checkpoint in checkpoints(run) if checkpoint.complete]
    if not complete:
        fix = "`sft-kit runs` shows what became of it"
        raise UsageError(Problem(str(run), "has no complete checkpoint", fix))
    manifest = read_json(run / "sft-kit" / "manifest.json")
    best = next((c for c in complete if c.path.name == manifest.get("best_checkpoint")), complete[-1])
    note = f"{run.name}/{best.path.name}"
    if kind_of(best.path) == "adapter":
        target = _adapter(best.path)
        return Target(target.kind, target.path, target.values, note)
    refuse_plugins(best.path)
    return Target("model", str(best.path), {"model": str(best.path)}, note)


def _adapter(path: Path) -> Target:
    arguments = read_json(path / "args.json")
    values: dict[str, Any] = {"adapters": [str(path)], "use_hf": arguments.get("use_hf") or None}
    if not arguments:
        base = read_json(path / "adapter_config.json").get("base_model_name_or_path")
        if not base:
            raise UsageError(Problem(str(path), "names no base model (no args.json)", "was it trained with ms-swift?"))
        values["model"] = str(base)
    refuse_plugins(path)
    base_model = str(arguments.get("model") or values.get("model"))
    if looks_like_path(base_model) and not Path(base_model).is_dir():
        fix = "put it back, or train again on the model you have"
        raise UsageError(Problem(str(path), f"its base model {base_model} is not there any more", fix))
    return Target("adapter", str(path), values)
