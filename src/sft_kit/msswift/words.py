"""The words that the installed ms-swift takes where its parser takes any text: tuners, optimizers, schedulers, ...

Owns their reading by `ast` out of ms-swift's and transformers' own tables; none is written down here but the few that
stand in code. Arguments whose annotation lists its choices are `arguments`' business, model types are
`model_types`'. tests/msswift/test_words.py compares every list with the imported tables.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import cast

from sft_kit.msswift.install import Generation, Installation
from sft_kit.msswift.source import cached

Words = Mapping[str, tuple[str, ...]]
"""Argument (4.x name) -> its words. An argument whose table could not be read is left out."""

# Argument -> file and name of a mapping, list or set: its keys or items are the words.
_TABLES: Mapping[Generation, Mapping[str, tuple[str, str]]] = {
    4: {
        "tuner_type": ("tuner_plugin/mapping.py", "tuners_map"),
        "optimizer": ("optimizers/mapping.py", "optimizers_map"),
        "loss_type": ("loss/mapping.py", "loss_map"),
        "eval_metric": ("metrics/mapping.py", "eval_metrics_map"),
        "callbacks": ("callbacks/mapping.py", "callbacks_map"),
        "agent_template": ("agent_template/mapping.py", "agent_template_map"),
        "loss_scale": ("loss_scale/mapping.py", "loss_scale_map"),
        "loss_scale_base": ("loss_scale/base.py", "ALL_BASE_STRATEGY"),
    },
    3: {
        "tuner_type": ("plugin/tuner.py", "extra_tuners"),
        "optimizer": ("plugin/optimizer.py", "optimizers_map"),
        "loss_type": ("plugin/loss.py", "loss_mapping"),
        "eval_metric": ("plugin/metric.py", "metric_mapping"),
        "agent_template": ("plugin/agent_template/__init__.py", "agent_templates"),
        "loss_scale": ("plugin/loss_scale/loss_scale.py", "loss_scale_map"),
        "loss_scale_base": ("plugin/loss_scale/loss_scale.py", "ALL_BASE_STRATEGY"),
    },
}
_BUILT_IN_TUNERS: Mapping[Generation, str] = {
    4: "arguments/base_args/base_args.py",
    3: "llm/argument/base_args/base_args.py",
}
_TEMPLATE_NAMES: Mapping[Generation, str] = {4: "template/constant.py", 3: "llm/template/constant.py"}
_PRESETS: Mapping[Generation, tuple[str, str]] = {4: ("config", "config"), 3: ("llm/ds_config", "llm/fsdp_config")}

OWN_CODE = ("external_plugins", "custom_register_path")
"""Arguments that make ms-swift import the user's Python, which may add words to every table."""


@lru_cache(maxsize=4)
def words(installation: Installation) -> Words:
    """The words of every argument that has a closed list of them."""
    return cached("words", installation, lambda: _read(installation), _decode, __file__)


def unknown_word(installation: Installation, key: str, value: str) -> tuple[str, tuple[str, ...]] | None:
    """The part of `value` that `key` does not know, and the words it does know; None if all is well or not known."""
    known = words(installation)
    if key == "loss_scale":
        return _unknown_loss_scale(installation.generation, known, value)
    if key not in known:
        return None
    allowed = known[key]
    if value in allowed or (key in ("deepspeed", "fsdp") and _is_json(value)):
        return None
    if key == "attn_impl" and _is_kernel(value):
        return None
    if key == "init_weights" and (value.lower() in allowed or re.fullmatch(r"pissa_niter_\d+", value)):
        return None
    if key == "device_map" and (_is_json(value) or value.isdigit() or re.fullmatch(r"[a-z]+:\d+", value)):
        return None
    if key == "rope_scaling" and _is_json(value):
        return None
    return value, allowed


def _unknown_loss_scale(generation: Generation, known: Words, value: str) -> tuple[str, tuple[str, ...]] | None:
    """`base+kind`, either alone; in 4.x any number of kinds (swift/loss_scale/mapping.py: get_loss_scale)."""
    bases, kinds = known.get("loss_scale_base", ()), known.get("loss_scale", ())
    if not bases or not kinds:
        return None
    parts = value.split("+") if generation == 4 else value.split("+", 1)
    if parts[0] in bases:
        parts = parts[1:]
    elif generation == 3 and len(parts) == 2:
        return parts[0], bases
    return next(((part, (*bases, *kinds)) for part in parts if part not in kinds), None)


def _is_kernel(value: str) -> bool:
    """A kernel of a hub: transformers/integrations/hub_kernels.py, is_kernel."""
    return re.search(r"^[^/:]+/[^/:]+(?:@[^/:]+)?(?::[^/:]+)?$", value) is not None


def _is_json(value: str) -> bool:
    """What ms-swift's json_parse_to_dict reads: JSON text, or the path of a file."""
    return value.lstrip().startswith("{") or os.path.exists(os.path.expanduser(value))


def _decode(value: object) -> Words:
    stored = cast("dict[str, list[str]]", value)
    return MappingProxyType({key: tuple(found) for key, found in stored.items() if found or key == "fsdp"})


def _read(installation: Installation) -> tuple[object, Iterable[Path]]:
    package, generation = installation.package, installation.generation
    trainer_utils = installation.transformers_package / "trainer_utils.py"
    integrations = installation.transformers_package / "integrations" / "integration_utils.py"
    modeling = installation.transformers_package / "modeling_utils.py"
    peft = package.parent / "peft" / "tuners" / "lora" / "config.py"
    files = _Files()
    found = {key: files.table(package / file, name) for key, (file, name) in _TABLES[generation].items()}
    tuners = files.returned_set(package / _BUILT_IN_TUNERS[generation], "get_supported_tuners")
    found["tuner_type"] = [*tuners, *found["tuner_type"]] if tuners else []
    found["template"] = files.texts_of_classes(package / _TEMPLATE_NAMES[generation])
    found["lr_scheduler_type"] = files.enum(trainer_utils, "SchedulerType")
    trackers = files.table(integrations, "INTEGRATION_TO_CALLBACK")
    found["report_to"] = [*trackers, "all", "none"] if trackers else []
    attention = files.table(modeling, "_global_mapping")
    # `flash_attn` is ms-swift's own word for flash_attention_2 (AttnImpl.update_attn_impl).
    found["attn_impl"] = ["flash_attn", "eager", *attention] if attention else []
    initial = files.literal_texts(peft, "init_lora_weights")
    # `lora-ga` is ms-swift's own (prepare_adapter), `bat` that of the tuner bone; `true` and `false` become switches.
    found["init_weights"] = ["true", "false", "lora-ga", "lora_ga", "bat", *initial] if initial else []
    folders = _PRESETS[generation]
    found["deepspeed"] = sorted(file.stem for file in (package / folders[0]).glob("zero*.json"))
    # 3.12.6 names a preset fsdp2 and ships no file for it: "Expecting value: line 1 column 1" (measured).
    found["fsdp"] = sorted(file.stem for file in (package / folders[1]).glob("fsdp*.json"))
    # In code and not in a table: ModelArguments._init_rope_scaling, transformers' check_and_set_device_map.
    found["rope_scaling"] = ["linear", "dynamic", "yarn"]
    found["device_map"] = ["auto", "balanced", "balanced_low_0", "sequential", "cpu", "cuda", "mps", "npu", "xpu",
                           "musa", "mlu", "hpu", "meta", "disk"]  # fmt: skip
    return found, [*files.read, *(package / folder for folder in folders if (package / folder).is_dir())]


class _Files:
    """Python files, each parsed once. What is not there, or not written as we know it, gives an empty list."""

    def __init__(self) -> None:
        self._trees: dict[Path, ast.Module] = {}

    @property
    def read(self) -> list[Path]:
        return list(self._trees)

    def table(self, file: Path, name: str) -> list[str]:
        """Keys of a dict, or items of a list, that is assigned to `name` at any depth of `file`."""
        for node in ast.walk(self._tree(file)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return _texts(getattr(node, "value", None))
        return []

    def returned_set(self, file: Path, function: str) -> list[str]:
        """The texts of the first set or list that `function` returns, alone or in a union."""
        for node in ast.walk(self._tree(file)):
            if isinstance(node, ast.FunctionDef) and node.name == function:
                sets = (part for part in ast.walk(node) if isinstance(part, (ast.Set, ast.List)))
                return next((_texts(part) for part in sets), [])
        return []

    def enum(self, file: Path, name: str) -> list[str]:
        """The values of an enumeration."""
        for node in ast.walk(self._tree(file)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                values = (each.value for each in node.body if isinstance(each, ast.Assign))
                return [str(v.value) for v in values if isinstance(v, ast.Constant)]
        return []

    def texts_of_classes(self, file: Path) -> list[str]:
        """`attribute = 'text'` of every class of a file."""
        classes = (node for node in self._tree(file).body if isinstance(node, ast.ClassDef))
        values = (each.value for node in classes for each in node.body if isinstance(each, ast.Assign))
        return [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]

    def literal_texts(self, file: Path, field: str) -> list[str]:
        """The texts in the annotation of a dataclass field."""
        for node in ast.walk(self._tree(file)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == field:
                constants = (part for part in ast.walk(node.annotation) if isinstance(part, ast.Constant))
                return [part.value for part in constants if isinstance(part.value, str)]
        return []

    def _tree(self, file: Path) -> ast.Module:
        if file not in self._trees:
            if not file.is_file():
                return ast.Module([], [])
            self._trees[file] = ast.parse(file.read_bytes())
        return self._trees[file]


def _texts(node: ast.expr | None) -> list[str]:
    items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    return [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
