"""What `--adapter` and `--model` mean: an adapter, a run, `latest`, a full checkpoint, a merged or a base model.

Looks at files only, and says what to give instead when the thing given is something else. A model that would run its
own code here is refused, and contained where its files are not here yet, unless the user trusts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sft_kit.checks.base_model import locate_model
from sft_kit.checks.trust import FLAG, allow, refuse_odd, refuse_traps, vet
from sft_kit.console import say
from sft_kit.errors import MissingError, Problem, UsageError
from sft_kit.models.catalog import is_own_model, resolve_own_model
from sft_kit.models.trust import own_code_of, without_own_code
from sft_kit.msswift import no_plugin
from sft_kit.msswift.checkpoints import kind_of, read_json
from sft_kit.msswift.hub import cached_model, hub_problem, is_hub_id, looks_like_path, uses_hugging_face
from sft_kit.resources import user_path
from sft_kit.run.aside import sort_out_now
from sft_kit.run.directory import RUN_NAME, RunDirectory
from sft_kit.run.runs import find_run


@dataclass(frozen=True)
class Target:
    """A model to talk to or to export. `values` are `swift infer` arguments (4.x names), `env` what the process that
    loads it must get: without trust, variables with which no code of a model can run."""

    kind: str  # "adapter" or "model"
    path: str  # directory or hub id
    values: dict[str, Any]
    note: str = ""  # what was chosen, when the user named something wider (a run, latest)
    env: Mapping[str, str] = field(default_factory=dict, compare=False)  # of the machine, not of the model

    @property
    def base(self) -> str:
        """The base model an adapter was trained on, as its args.json names it; empty for a model."""
        return str(read_json(Path(self.path) / "args.json").get("model") or "") if self.kind == "adapter" else ""


@dataclass(frozen=True)
class Trust:
    """Whether the user lets models run their own code (`--trust-remote-code`), and who is told which that is."""

    given: bool = False
    say: Callable[[str], None] = say

    def vet(self, folder: Path) -> None:
        """Raise UsageError for a directory that must not be loaded."""
        vet(folder, trusted=self.given, say=self.say)

    def vet_of_hub(self, name: str, environ: Mapping[str, str] = os.environ, *, hugging_face: bool) -> None:
        """The same for a hub's model that is in its cache; what is not here yet is contained."""
        cached = cached_model(name, hugging_face=hugging_face, environ=environ)
        if cached:
            refuse_traps(cached)
            allow(own_code_of(cached), trusted=self.given, say=self.say)
        elif self.given:
            self.say(f"{FLAG}: {name} is not on this machine yet, so the code that it may bring cannot be shown")

    def target(self, kind: str, path: str, values: Mapping[str, Any], note: str = "") -> Target:
        """A target with the environment that belongs to it."""
        return Target(kind, path, dict(values), note, {} if self.given else without_own_code())


UNTRUSTED = Trust()


def resolve_adapter(name: str, output_dir: Path, trust: Trust = UNTRUSTED) -> Target:
    """The adapter (or, for a full fine-tune, the checkpoint) that `--adapter name` means.

    `name` is an adapter directory, a run directory or its name, or `latest`. Raises UsageError naming the fix.
    """
    path = user_path(name)
    is_run_name = name == "latest" or RUN_NAME.match(name) or (name[:1] == "v" and name[1:].isdigit())
    if path.is_dir():
        _refuse_odd(path)
        kind = kind_of(path)
        if kind == "adapter":
            return _adapter(path, trust)
        if kind == "model":
            raise UsageError(Problem(name, "is a full model, not an adapter", f"use --model {name}"))
        if kind == "unknown":
            fix = "give a checkpoint-N folder, a run directory, or latest"
            raise UsageError(Problem(name, "holds no adapter (no adapter_config.json) and no checkpoints", fix))
        return _of_run(path.resolve(), trust)
    if path.exists():
        raise UsageError(Problem(name, "is a file", "give the folder that holds adapter_config.json"))
    if is_run_name:
        return _of_run(find_run(name, output_dir).path, trust)
    if is_hub_id(name) and not looks_like_path(name):
        problem = hub_problem(name, "models", hugging_face=uses_hugging_face(None, os.environ))
        if problem:
            raise MissingError(problem)
        return trust.target("adapter", name, {"adapters": [name], **_without_plugins(trust)})
    raise UsageError(Problem(name, "no such adapter, run or checkpoint", "`sft-kit runs` lists the runs"))


def resolve_model(name: str, trust: Trust) -> Target:
    """The model that `--model name` means: sft-kit's own, a directory, the last checkpoint of a run, or a hub id."""
    path = user_path(name)
    if path.is_dir():
        _refuse_odd(path)
    if path.is_dir() and kind_of(path) == "adapter":
        raise UsageError(Problem(name, "is an adapter, not a full model", f"use --adapter {name}"))
    if path.is_dir() and kind_of(path) == "run":
        return _of_run(path.resolve(), trust)
    model = locate_model(name, hugging_face=uses_hugging_face(None, os.environ))
    values = {"model": model.source, "model_type": model.model_type, "template": model.template}
    if is_own_model(name):
        resolve_own_model(name, trust.say)
    elif model.local:
        trust.vet(Path(model.source))
    else:
        trust.vet_of_hub(name, hugging_face=uses_hugging_face(None, os.environ))
        values |= _without_plugins(trust)
    return trust.target("model", model.source, values)


def resolve_one(adapter: str | None, model: str | None, output_dir: Path, trust: Trust) -> Target:
    """What `--adapter` or `--model` means, of which exactly one is given; UsageError else."""
    if (adapter is None) == (model is None):
        fix = "`--adapter latest` for your newest run, `--model DIR` for a full or merged model"
        raise UsageError(Problem("", "give either --adapter or --model", fix))
    return resolve_adapter(adapter, output_dir, trust) if adapter is not None else resolve_model(model or "", trust)


def _of_run(run: Path, trust: Trust) -> Target:
    """The best good checkpoint of a run (by its validation loss), else the last one."""
    _refuse_odd(run)
    good, unfit = sort_out_now(RunDirectory(run))
    if not good:
        why = f": {unfit[-1].name} {unfit[-1].why}" if unfit else ""
        fix = "`sft-kit runs` shows what became of it"
        raise UsageError(Problem(str(run), f"has no complete checkpoint{why}", fix))
    for one in unfit:
        if one.folder == "broken":
            trust.say(f"{run.name}: {one.name} {one.why}, and is passed over")
    manifest = read_json(run / "sft-kit" / "manifest.json")
    best = next((c for c in good if c.path.name == manifest.get("best_checkpoint")), good[-1])
    note = f"{run.name}/{best.path.name}"
    if kind_of(best.path) == "adapter":
        return replace(_adapter(best.path, trust), note=note)
    trust.vet(best.path)
    return trust.target("model", str(best.path), {"model": str(best.path)}, note)


def _adapter(path: Path, trust: Trust) -> Target:
    trust.vet(path)
    arguments = read_json(path / "args.json")
    values: dict[str, Any] = {"adapters": [str(path)], "use_hf": arguments.get("use_hf") or None}
    base = arguments.get("model")
    if not arguments:
        base = read_json(path / "adapter_config.json").get("base_model_name_or_path")
        if not base:
            raise UsageError(Problem(str(path), "names no base model (no args.json)", "was it trained with ms-swift?"))
        values["model"] = base
    if base:
        _vet_base(path, base, uses_hugging_face(bool(values["use_hf"]), os.environ), trust)
    return trust.target("adapter", str(path), values)


def _vet_base(adapter: Path, name: object, hugging_face: bool, trust: Trust) -> None:
    """The base model that an adapter names is loaded as well, whatever its maker wrote there."""
    if isinstance(name, str) and Path(name).is_dir():
        if kind_of(Path(name)) != "model":
            fix = "write the right one into its args.json, or adapter_config.json"
            raise UsageError(Problem(str(adapter), f"its base model {name} has no config.json", fix))
        trust.vet(Path(name))
    elif isinstance(name, str) and looks_like_path(name):
        fix = "put it back, or train again on the model you have"
        raise UsageError(Problem(str(adapter), f"its base model {name} is not there any more", fix))
    elif isinstance(name, str) and is_hub_id(name, hugging_face=hugging_face):
        trust.vet_of_hub(name, hugging_face=hugging_face)
    else:
        fix = "write the right one into its args.json, or adapter_config.json"
        raise UsageError(Problem(str(adapter), f"its base model {name!r} is neither a directory nor a hub id", fix))


def _without_plugins(trust: Trust) -> dict[str, Any]:
    """The args.json of a hub's model, unseen, may name Python files to import; what is given here goes before it."""
    nothing = str(Path(no_plugin.__file__))
    return {} if trust.given else {"external_plugins": [nothing], "custom_register_path": [nothing]}


def _refuse_odd(folder: Path) -> None:
    """Raise UsageError for what nobody may open in `folder`, its checkpoints and sft-kit's own files."""
    for each in (folder, folder / "sft-kit", *folder.glob("checkpoint-*")):
        refuse_odd(each)
