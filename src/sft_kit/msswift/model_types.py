"""The model types that the installed ms-swift registers: their templates, architectures and hub models.

Owns the reading of ms-swift's `register_model(...)` calls and look-ups in them. Does not know how type names changed
between generations (`dialect`), nor looks into a model's own files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import cast

from sft_kit.errors import MissingError, Problem
from sft_kit.msswift.install import Generation, Installation, find_installation
from sft_kit.msswift.source import cached


@dataclass(frozen=True)
class RegisteredModel:
    """A model that ms-swift knows by its id on ModelScope, Hugging Face or both, and the template it gets."""

    ms_id: str | None
    hf_id: str | None
    template: str | None


@dataclass(frozen=True)
class ModelTypeInfo:
    """One model type: the templates it may take, the first its own, and the architectures (config.json) it loads."""

    templates: tuple[str, ...]
    architectures: tuple[str, ...]
    models: tuple[RegisteredModel, ...]


@dataclass(frozen=True)
class _Layout:
    """Where a generation keeps its registrations, and which positional argument is the template."""

    models: str
    type_names: str
    template_names: str
    meta_template: int
    group_template: int | None
    no_template: str | None


_LAYOUTS: Mapping[Generation, _Layout] = {
    4: _Layout("model/models", "model/constant.py", "template/constant.py", 3, 1, None),
    3: _Layout("llm/model/model", "llm/model/constant.py", "llm/template/constant.py", 2, None, "dummy"),
}


@lru_cache(maxsize=4)
def model_types(installation: Installation) -> Mapping[str, ModelTypeInfo]:
    """Every registered model type by name, in the order of ms-swift's files.

    Raises MissingError if this ms-swift's source is not laid out as the versions we know.
    """
    return cached("model_types", installation, lambda: _read(installation), _decode, __file__)


def _decode(value: object) -> Mapping[str, ModelTypeInfo]:
    stored = cast("dict[str, tuple[list[str], list[str], list[list[str | None]]]]", value)
    return MappingProxyType(
        {
            name: ModelTypeInfo(tuple(templates), tuple(architectures), tuple(RegisteredModel(*m) for m in models))
            for name, (templates, architectures, models) in stored.items()
        }
    )


def _read(installation: Installation) -> tuple[object, Iterable[Path]]:
    layout = _LAYOUTS[installation.generation]
    folder = installation.package / layout.models
    constant_files = [installation.package / layout.type_names, installation.package / layout.template_names]
    files = sorted(folder.glob("*.py"))
    if not files or not all(file.is_file() for file in constant_files):
        message = f"ms-swift {installation.version} has no {layout.models} where sft-kit looks for its model types"
        raise MissingError(Problem(str(installation.package), message, "install a version that sft-kit knows"))
    type_names, template_names = (dict(_constants(file)) for file in constant_files)
    types = {}
    for file in files:
        for call in _calls(ast.parse(file.read_bytes()).body, "register_model"):
            meta = call.args[0]
            if isinstance(meta, ast.Call):
                name, info = _model_type(meta, layout, type_names, template_names)
                types[name] = astuple(info)
    return types, [folder, *constant_files, *files]


def _constants(file: Path) -> Iterator[tuple[str, str]]:
    """`attribute = 'text'` of every class of a file; the classes of one file never disagree on a name."""
    for node in ast.parse(file.read_bytes()).body:
        for statement in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        yield target.id, str(statement.value.value)


def _calls(statements: Iterable[ast.stmt], name: str) -> Iterator[ast.Call]:
    for statement in statements:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            if isinstance(call.func, ast.Name) and call.func.id == name and call.args:
                yield call


def _model_type(
    meta: ast.Call, layout: _Layout, type_names: Mapping[str, str], template_names: Mapping[str, str]
) -> tuple[str, ModelTypeInfo]:
    name = _text(_argument(meta, 0, "model_type"), type_names) or ""
    own = _text(_argument(meta, layout.meta_template, "template"), template_names) or layout.no_template
    templates = [own] if own else []
    models: list[RegisteredModel] = []
    groups = _argument(meta, 1, "model_groups")
    for group in groups.elts if isinstance(groups, (ast.List, ast.Tuple)) else [groups]:
        if not isinstance(group, ast.Call):
            continue
        of_group = None if layout.group_template is None else _argument(group, layout.group_template, "template")
        template = _text(of_group, template_names) or own
        templates += [template] if template else []
        listed = _argument(group, 0, "models")
        for model in listed.elts if isinstance(listed, (ast.List, ast.Tuple)) else []:
            if isinstance(model, ast.Call):
                ms_id = _text(_argument(model, 0, "ms_model_id"))
                hf_id = _text(_argument(model, 1, "hf_model_id"))
                models.append(RegisteredModel(ms_id, hf_id, template))
    listed = _argument(meta, None, "architectures")
    architectures = [_text(item) or "" for item in listed.elts] if isinstance(listed, ast.List) else []
    return name, ModelTypeInfo(tuple(dict.fromkeys(templates)), tuple(architectures), tuple(models))


def _argument(call: ast.Call, position: int | None, name: str) -> ast.expr | None:
    if position is not None and position < len(call.args):
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _text(node: ast.expr | None, names: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """A text, or what an attribute (`LLMModelType.qwen2`) means in `names`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return names.get(node.attr) if isinstance(node, ast.Attribute) else None


def suggest_model_id(
    name: str, types: Mapping[str, ModelTypeInfo] | None = None, *, use_hf: bool = False
) -> str | None:
    """The registered id that was probably meant: right name without its owner, in other case or with other dashes.

    `Qwen2.5-7B-Instruct`, `qwen/qwen2.5-7b-instruct` and ms-swift 2.x's `qwen2_5-7b-instruct` all give
    `Qwen/Qwen2.5-7B-Instruct`; a name whose maker is left out, such as `Llama-3.1-8B-Instruct`, the id with it.
    A ModelScope id unless `use_hf`. None for a name that no id has, or only as it is. `types` None: those of this
    interpreter's ms-swift, none if it is not there.
    """
    if types is None:
        try:
            types = model_types(find_installation())
        except MissingError:
            return None
    wanted = _plain(name.rstrip("/").rpartition("/")[2])
    found: list[str] = []
    with_maker: list[str] = []  # Meta-Llama-3.1-8B-Instruct for Llama-3.1-8B-Instruct
    for info in types.values():
        for model in info.models:
            names = [plain for plain in (_plain(model.ms_id), _plain(model.hf_id)) if plain]
            best = (model.hf_id or model.ms_id) if use_hf else (model.ms_id or model.hf_id)
            if best and wanted in names:
                found.append(best)
            elif best and wanted and any(_lacks_maker(wanted, model_id) for model_id in (model.ms_id, model.hf_id)):
                with_maker.append(best)
    found = found or sorted(with_maker, key=len)[:1]
    if not found or name in found:
        return None
    # Several owners can share a model's name; the one the user wrote wins, then the first registered.
    owner = name.rpartition("/")[0].lower()
    return next((model_id for model_id in found if model_id.rpartition("/")[0].lower() == owner), found[0])


def is_registered(name: str, types: Mapping[str, ModelTypeInfo] | None = None) -> bool:
    """Whether `name` is, to the letter, a hub id that ms-swift knows. `types` as for `suggest_model_id`."""
    if types is None:
        try:
            types = model_types(find_installation())
        except MissingError:
            return False
    return any(name in (model.ms_id, model.hf_id) for info in types.values() for model in info.models)


def _lacks_maker(wanted: str, model_id: str | None) -> bool:
    """Whether `model_id` is `wanted` with the name of its owner before it: meta-llama/Meta-Llama-3.1-8B."""
    owner, _, _ = (model_id or "").partition("/")
    prefix = (_plain(model_id) or "").removesuffix(wanted)
    return bool(prefix) and prefix + wanted == _plain(model_id) and (_plain(owner) or "").startswith(prefix)


def _plain(model_id: str | None) -> str | None:
    return None if model_id is None else re.sub(r"[^a-z0-9]", "", model_id.rpartition("/")[2].lower())
