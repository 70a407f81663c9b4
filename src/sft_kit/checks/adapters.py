"""What is wrong with what a run goes on training from: adapters (other base, lost weights, settings without effect),
and a checkpoint of somebody else.

Judges adapter_config.json and the headers of weights. That adapters are there and run no plugins is checked before
(`prepare`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import resumed
from sft_kit.checks.trust import is_old_torch, names_of, refuse_traps
from sft_kit.errors import UsageError
from sft_kit.findings import Finding
from sft_kit.models.directory import ModelDirectory, WeightFile, weight_file
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.model_choice import model_name, registered_type
from sft_kit.resources import user_path

_HIDDEN_IN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "query_key_value", "qkv_proj", "gate_up_proj")
"""Modules that take the hidden state as it is, so that their width is config.json's hidden_size."""
_PEFT = ("lora", "adalora", "boft", "vera", "ia3")
"""Words of `tuner_type` that are peft's own names."""
_PREFIX = "base_model.model."


def adapter_findings(facts: Facts) -> Iterator[Finding]:
    """What is wrong; `place` is `adapters` or one of its entries."""
    named = facts.config.adapters or []
    if facts.model is None or not named:
        return
    if facts.config.tuner_type == "full":
        # swift/pipelines/train/tuner.py (3.x: swift/llm/train/tuner.py) loads them only where tuner_type is not full
        message = "full tuning does not load adapters: it would start from the model itself"
        yield Finding("adapters-not-loaded", "error", "adapters", message, "merge them first (sft-kit export)")
        return
    if len(named) > 1:  # `assert not args.adapters or len(args.adapters) == 1`, there, after the model is loaded
        message = f"{len(named)} adapters, and ms-swift goes on training from one"
        yield Finding("several-adapters", "error", "adapters", message, "merge the others first (sft-kit export)")
    for number, name in enumerate(named):
        folder = user_path(name)
        config = read_json(folder / "adapter_config.json")
        if config:
            yield from _adapter(facts, f"adapters.{number}", folder, config)


def _adapter(facts: Facts, place: str, folder: Path, config: Mapping[str, Any]) -> Iterator[Finding]:
    if (folder / "adapter_model.safetensors").is_file():
        weights = weight_file(folder, "adapter_model.safetensors")
        if weights.state != "whole":
            why = {"pointer": "is a Git LFS pointer", "empty": "is empty"}.get(weights.state) or weights.damage
            message = f"its weights cannot be read: {why}"
            yield Finding("broken-adapter", "error", place, message, "give another checkpoint")
            return
        yield from _base(facts, place, config, weights)
    elif (folder / "adapter_model.bin").is_file():
        message = "adapter_model.bin is a pickle, which can hold code; peft reads only tensors of it"
        yield Finding("pickled-weights", "warning", place, message, "save it as safetensors")
    else:
        message = "has no weights (adapter_model.safetensors)"
        yield Finding("broken-adapter", "error", place, message, "give another checkpoint")
        return
    yield from _settings(facts, place, config)


def _base(facts: Facts, place: str, config: Mapping[str, Any], weights: WeightFile) -> Iterator[Finding]:
    """Another base shows in the shapes; in names only where ms-swift knows both, because directories are renamed."""
    model = facts.model
    trained_on = config.get("base_model_name_or_path")
    if model is None:
        return
    was = trained_on if isinstance(trained_on, str) and trained_on else "another model"
    fix = "give the adapter's own base as model:"
    misfit = _misfit(weights, facts.directory) if facts.directory else ""
    if misfit:
        message = f"was trained on {was}, not {model.name}: {misfit}"
        yield Finding("adapter-of-another-base", "error", place, message, fix)
        return
    generation = facts.installation.generation
    then, now = (_bare(model_name(name, generation)) for name in (was, model.source))
    known = all(registered_type(facts.installation, name) for name in (was, model.source))
    if known and then != now:
        message = f"was trained on {was}, and model: is {model.name}"
        yield Finding("adapter-of-another-base", "warning", place, message, fix)


def _misfit(weights: WeightFile, base: ModelDirectory) -> str:
    """Where the adapter's matrices do not fit the base's (LoRA's A is rank x in, B is out x rank), in words."""
    hidden = base.config.get("hidden_size")
    for name, tensor in weights.tensors.items():
        module, _, side = name.removeprefix(_PREFIX).partition(".lora_")
        if side not in ("A.weight", "B.weight", "A.default.weight", "B.default.weight") or len(tensor.shape) != 2:
            continue
        own = base.tensors.get(f"{module}.weight")
        wide = tensor.shape[1] if side[0] == "A" else tensor.shape[0]
        if own is not None and len(own.shape) == 2 and not base.quantization:
            fitting: object = own.shape[1] if side[0] == "A" else own.shape[0]
        elif side[0] == "A" and module.endswith(_HIDDEN_IN) and ".layers." in module and "vis" not in module:
            fitting = hidden
        else:
            continue
        if isinstance(fitting, int) and wide != fitting:
            return f"its {module.rpartition('.')[2]} is {wide} wide, the model's {fitting}"
    return ""


def _settings(facts: Facts, place: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """`Swift.from_pretrained(model, adapter, is_trainable=True)` takes them from the adapter, whatever the keys say."""
    given = facts.config
    pairs: list[tuple[str, object, object]] = [
        ("lora_rank", given.lora_rank, config.get("r")),
        ("lora_alpha", given.lora_alpha, config.get("lora_alpha")),
    ]
    kind = config.get("peft_type")
    if isinstance(kind, str) and given.tuner_type in _PEFT:
        pairs.append(("tuner_type", given.tuner_type, kind.lower()))
    known = [pair for pair in pairs if None not in pair]
    different = [f"{key} {now} (it has {then})" for key, now, then in known if then != now]
    if different:
        message = f"keeps its own settings: {', '.join(different)} is without effect"
        yield Finding("adapter-settings-win", "warning", place, message, "leave the keys out, or start a new adapter")


def resumed_findings(facts: Facts) -> Iterator[Finding]:
    """A checkpoint of somebody else that training is to go on from: plugins, and states that are unpickled whole.

    transformers reads optimizer.pt, scheduler.pt and rng_state.pth with `weights_only`, training_args.bin not at all.
    DeepSpeed's *_states.pt and the .metadata of torch.distributed.checkpoint (FSDP) are unpickled without limits. What
    lies below output_dir is the user's own.
    """
    folder = resumed(facts)
    if folder is None:
        return
    try:
        refuse_traps(folder)
    except UsageError as error:
        for problem in error.problems:
            message = f"{problem.place}: {problem.message}"
            yield Finding(problem.code, "error", "resume_from_checkpoint", message, problem.fix)
        return
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(user_path(facts.config.output_dir))):
        return
    states = _unpickled_states(folder, facts.environment.versions.get("torch", ""))
    if states:
        message = f"{names_of(states)}: unpickled without limits, so whoever made this checkpoint can run code here"
        fix = (
            "if it is yours, say so: `# sft-kit: ignore pickled-state`; else start from its weights (adapters:, model:)"
        )
        yield Finding("pickled-state", "error", "resume_from_checkpoint", message, fix)


def _unpickled_states(folder: Path, torch: str) -> list[str]:
    found = [*folder.glob("*/*_states.pt"), *folder.glob("*/.metadata")]
    if is_old_torch(torch):
        found += folder.glob("rng_state*.pth")  # transformers 4.57 leaves weights_only to torch there
    return sorted(str(file.relative_to(folder)) for file in found)


def _bare(name: str) -> str:
    """A model's name without what only says how its weights are stored: a LoRA fits those of one model alike."""
    name = name.lower()
    for suffix in ("-gptq-int4", "-gptq-int8", "-awq", "-int4", "-int8", "-fp8", "-bnb-4bit", "-gguf"):
        name = name.removesuffix(suffix)
    return name
