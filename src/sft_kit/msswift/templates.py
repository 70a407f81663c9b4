"""The chat templates that the installed ms-swift registers; which of them a model gets, `model_choice` knows.

Owns the reading of ms-swift's `register_template(...)` calls by `ast`: each is a dataclass (`TemplateMeta` or a kin of
it) whose defaults and arguments are plain texts and lists. Does not render anything (`lengths` counts, `encode` asks
ms-swift itself), and does not know what a template's own class does; it names the class, so that others can be careful.

tests/msswift/test_templates.py compares every field of every template with the real registry.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from sft_kit.errors import MissingError, Problem
from sft_kit.msswift.install import Generation, Installation
from sft_kit.msswift.source import Module, Sources, cached

Part = str | tuple[str | int, ...]
"""A text with `{{SYSTEM}}`, `{{QUERY}}`, or token ids; ids may be named (`eos_token_id`) after the tokenizer's own."""

Prompt = tuple[Part, ...]

PLAIN_CLASS = "Template"
"""The class whose prompt is nothing but these parts; any other may change texts or tokens."""


@dataclass(frozen=True)
class Template:
    """One registered template, after the rules of ms-swift's `TemplateMeta.__post_init__`.

    A row is `prefix` (or `system_prefix`), then for each turn `prompt`, the answer, and `chat_sep` or, at the end,
    `suffix`. `system_prompt` takes the place of the last `prompt` where the system prompt belongs there.
    """

    name: str
    prefix: Prompt
    system_prefix: Prompt | None
    prompt: Prompt
    system_prompt: Prompt | None
    chat_sep: Prompt | None
    suffix: Prompt
    default_system: str | None
    auto_add_bos: bool
    stop_words: Prompt
    is_thinking: bool
    non_thinking_prefix: str
    history_thinking_prefix: str
    preserve_thinking: bool | None
    class_name: str

    @property
    def takes_system(self) -> bool:
        return self.system_prefix is not None or self.system_prompt is not None


_FOLDERS: Mapping[Generation, str] = {4: "template/templates", 3: "llm/template/template"}
_DATE = re.compile(r"\{\{DATE:([^}]*)\}\}")


def dated(text: str, now: datetime) -> str:
    """`text` with the dates that a template puts in (Llama 3.2's "Today Date") as of `now`."""
    return _DATE.sub(lambda match: now.strftime(match[1]), text)


@lru_cache(maxsize=4)
def templates(installation: Installation) -> Mapping[str, Template]:
    """Every registered template by name. One that cannot be read from the source alone is left out.

    Raises MissingError if this ms-swift's source is not laid out as the versions we know.
    """
    return cached("templates", installation, lambda: _read(installation), _decode, __file__)


def _decode(value: object) -> Mapping[str, Template]:
    stored = cast("list[list[Any]]", value)
    found = {}
    for row in stored:
        fields: list[Any] = [_prompt(field) if isinstance(field, list) else field for field in row]
        found[str(row[0])] = Template(*fields)
    return MappingProxyType(found)


def _prompt(value: list[Any]) -> Prompt:
    return tuple(tuple(part) if isinstance(part, list) else part for part in value)


def _read(installation: Installation) -> tuple[object, Iterable[Path]]:
    folder = installation.package / _FOLDERS[installation.generation]
    files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    sources = Sources(installation)
    package = ".".join(("swift", *folder.relative_to(installation.package).parts))
    modules = [sources.module(f"{package}.{file.stem}") for file in files]
    if not files or not all(modules):
        message = f"ms-swift {installation.version} has no {folder.name} where sft-kit looks for its templates"
        raise MissingError(Problem(str(installation.package), message, "install a version that sft-kit knows"))
    reader = _Reader(sources, installation.generation)
    found = [template for module in modules if module for template in reader.registered(module)]
    return [astuple(template) for template in found], [folder, *sources.read]


class _Unreadable(Exception):
    """An expression that is more than texts, lists and names of them."""


_NOW = object()  # what `datetime.now()` evaluates to


class _Reader:
    """Evaluates the arguments of `register_template`, each in the module that wrote it."""

    def __init__(self, sources: Sources, generation: Generation) -> None:
        self._sources = sources
        self._generation = generation

    def registered(self, module: Module) -> Iterator[Template]:
        for statement in module.tree.body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register_template":
                meta = call.args[0]
                if isinstance(meta, ast.Call) and isinstance(meta.func, ast.Name):
                    try:
                        yield self._template(module, meta)
                    except _Unreadable:
                        continue

    def _template(self, module: Module, call: ast.Call) -> Template:
        values = self._fields(module, cast(ast.Name, call.func).id)
        given = [*zip(values, call.args, strict=False), *((k.arg, k.value) for k in call.keywords if k.arg)]
        for name, node in given:
            values[name] = (
                node.id if name == "template_cls" and isinstance(node, ast.Name) else self._value(module, node)
            )
        return _finished(values, self._generation)

    def _fields(self, module: Module, class_name: str) -> dict[str, Any]:
        """Defaults of a dataclass's fields in their order, those of its bases first."""
        found = self._sources.find_class(module, class_name)
        if found is None:
            raise _Unreadable(class_name)
        home, node = found
        values: dict[str, Any] = {}
        for base in node.bases:
            values |= self._fields(home, ast.unparse(base))
        # 3.12's GLM4_1VTemplateMeta forgot the decorator, so that what it declares is no field and changes nothing
        is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        for statement in node.body if is_dataclass else []:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                values[name] = self._default(home, name, statement.value)
            elif isinstance(statement, ast.FunctionDef) and statement.name == "__post_init__" and node.bases:
                raise _Unreadable(class_name)
        return values

    def _default(self, module: Module, name: str, node: ast.expr | None) -> Any:
        if node is None:
            return None
        if name == "template_cls":
            return ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "field":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            factory = given.get("default_factory")
            if isinstance(factory, ast.Lambda):
                return self._value(module, factory.body)
            return [] if factory is not None else self._value(module, given["default"])
        return self._value(module, node)

    def _value(self, module: Module, node: ast.expr, local: Mapping[str, Any] = MappingProxyType({})) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self._value(module, item, local) for item in node.elts]
        if isinstance(node, ast.JoinedStr):
            return "".join(str(self._value(module, item, local)) for item in node.values)
        if isinstance(node, ast.FormattedValue):
            return self._value(module, node.value, local)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._value(module, node.left, local) + self._value(module, node.right, local)
        if isinstance(node, ast.Name):
            return local[node.id] if node.id in local else self._named(module, node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(module, node)
        if isinstance(node, ast.Call):
            return self._called(module, node, local)
        raise _Unreadable(ast.unparse(node))

    def _named(self, module: Module, name: str) -> Any:
        """A module's own constant, or one that it imports."""
        for statement in module.tree.body:
            if isinstance(statement, ast.Assign) and any(ast.unparse(target) == name for target in statement.targets):
                return self._value(module, statement.value)
        home, name_there = module.imports.get(name, ("", ""))
        target = self._sources.module(home) if home else None
        if target is None:
            raise _Unreadable(name)
        return self._named(target, name_there)

    def _attribute(self, module: Module, node: ast.Attribute) -> Any:
        """`LLMTemplateType.qwen`: a constant of a class."""
        found = self._sources.find_class(module, ast.unparse(node.value))
        if found is None:
            raise _Unreadable(ast.unparse(node))
        for statement in found[1].body:
            if isinstance(statement, ast.Assign) and any(ast.unparse(each) == node.attr for each in statement.targets):
                return self._value(found[0], statement.value)
        raise _Unreadable(ast.unparse(node))

    def _called(self, module: Module, node: ast.Call, local: Mapping[str, Any]) -> Any:
        """Today's date, as a mark that `dated` fills in, and functions of the module that do no more than use it."""
        called = ast.unparse(node.func)
        if called.endswith("datetime.now") and not node.args:
            return _NOW
        if isinstance(node.func, ast.Attribute) and node.func.attr == "strftime":
            if self._value(module, node.func.value, local) is _NOW:
                return f"{{{{DATE:{self._value(module, node.args[0])}}}}}"
            raise _Unreadable(called)
        function = next((s for s in module.tree.body if isinstance(s, ast.FunctionDef) and s.name == called), None)
        if function is None or node.args or node.keywords:
            raise _Unreadable(called)
        inside: dict[str, Any] = {}
        for statement in function.body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self._value(module, statement.value, inside)
            if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
                break
            inside[statement.targets[0].id] = self._value(module, statement.value, inside)
        raise _Unreadable(called)


def _finished(values: Mapping[str, Any], generation: Generation) -> Template:
    """The template as `TemplateMeta.__post_init__` leaves it."""
    prefix, system_prefix, prompt = values["prefix"], values["system_prefix"], values["prompt"]
    if _has_system(prefix):
        system_prefix = prefix
        # 3.x loses token ids here (a bos, in Ziya's and BlueLM's templates), 4.x keeps them.
        kept = [part for part in prefix if isinstance(part, str) or generation == 4]
        prefix = [part.replace("{{SYSTEM}}", "") if isinstance(part, str) else part for part in kept]
    system_prompt = prompt if _has_system(prompt) else None
    if system_prompt is not None:
        prompt = [part for part in prompt if "{{SYSTEM}}" not in part]
    lists = {"prefix": prefix, "system_prefix": system_prefix, "prompt": prompt, "system_prompt": system_prompt}
    lists |= {key: values[key] for key in ("chat_sep", "suffix", "stop_words")}
    prompts = {key: None if value is None else _prompt(value) for key, value in lists.items()}
    return Template(
        name=values["template_type"],
        default_system=values["default_system"],
        auto_add_bos=values["auto_add_bos"],
        is_thinking=values["is_thinking"],
        non_thinking_prefix=values["non_thinking_prefix"],
        history_thinking_prefix=values["history_thinking_prefix"],
        preserve_thinking=values.get("preserve_thinking"),
        class_name=values["template_cls"],
        **cast("dict[str, Any]", prompts),
    )


def _has_system(prompt: list[Any]) -> bool:
    return any("{{SYSTEM}}" in part for part in prompt if isinstance(part, str))
