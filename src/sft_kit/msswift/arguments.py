"""The arguments that the installed ms-swift accepts, read from its source, and whether it would accept a value.

Owns the argument tables of the verbs we start and the check of a YAML value against them. Does not know which
arguments were renamed (`dialect`), nor builds whole command lines (`command`).

ms-swift hands its dataclasses to transformers' HfArgumentParser. This module does the same with `ast` instead of
imports, in 0.1 s instead of 8: bases are followed through the files that import them, fields are collected as
`dataclasses` does, and annotations become parser types as `HfArgumentParser._parse_dataclass_field` does it.
tests/msswift/test_arguments.py compares every name, type, nargs and choice with the real parser.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

from sft_kit.errors import MissingError, Problem
from sft_kit.msswift import dialect
from sft_kit.msswift.install import Generation, Installation
from sft_kit.msswift.install import Verb as Verb  # the tables are per verb
from sft_kit.msswift.source import Module, Sources, cached

Kind = Literal["bool", "int", "float", "str", "json", "object"]
"""What one word is turned into. `json`: a JSON text, the path of a JSON file, or a mapping. `object`: a Python object
that no command line can express; it exists in the table so that it is refused with the right words."""


@dataclass(frozen=True)
class Argument:
    """One argument: `type` and `default` as ms-swift's source has them (`default` None: there is none)."""

    name: str
    type: str
    kind: Kind
    choices: tuple[str, ...] | None
    many: bool
    optional: bool
    default: str | None


_CLASSES: Mapping[Generation, tuple[str, Mapping[Verb, str]]] = {
    4: (
        "swift.arguments",
        {"sft": "SftArguments", "infer": "InferArguments", "export": "ExportArguments", "deploy": "DeployArguments"},
    ),
    3: (
        "swift.llm.argument",
        {"sft": "TrainArguments", "infer": "InferArguments", "export": "ExportArguments", "deploy": "DeployArguments"},
    ),
}

# Declared as text, parsed as JSON (ray_utils calls json.loads, model_args json_parse_to_dict), and written as mappings.
_JSON_IN_TEXT = {"device_groups", "rope_scaling"}


def arguments(installation: Installation, verb: Verb) -> Mapping[str, Argument]:
    """Every argument of `swift <verb>`, by name, in the parser's order.

    Raises MissingError if this ms-swift's source is not laid out as the versions we know.
    """
    return _tables(installation)[verb]


@lru_cache(maxsize=4)
def _tables(installation: Installation) -> Mapping[Verb, Mapping[str, Argument]]:
    return cached("arguments", installation, lambda: _read_tables(installation), _decode, __file__)


def _decode(value: object) -> Mapping[Verb, Mapping[str, Argument]]:
    stored = cast("dict[Verb, list[list[object]]]", value)
    tables: dict[Verb, Mapping[str, Argument]] = {}
    for verb in get_args(Verb):
        rows = [_argument(*row) for row in stored[verb]]  # type: ignore[arg-type]
        tables[verb] = MappingProxyType({argument.name: argument for argument in rows})
    return MappingProxyType(tables)


def _argument(
    name: str, type_: str, kind: Kind, choices: list[str] | None, many: bool, optional: bool, default: str | None
) -> Argument:
    return Argument(name, type_, kind, None if choices is None else tuple(choices), many, optional, default)


def _read_tables(installation: Installation) -> tuple[object, Iterable[Path]]:
    sources = Sources(installation)
    home, names = _CLASSES[installation.generation]
    reader = _Reader(sources)
    tables = {}
    for verb, name in names.items():
        module = sources.module(home)
        found = sources.find_class(module, name) if module else None
        if found is None:
            raise _unknown_layout(installation, f"{home}.{name}")
        tables[verb] = [astuple(argument) for argument in reader.fields(*found).values()]
    return tables, sources.read


def _unknown_layout(installation: Installation, what: str) -> MissingError:
    message = f"ms-swift {installation.version} has no {what} where sft-kit looks for its arguments"
    return MissingError(Problem(str(installation.package), message, "install a version that sft-kit knows"))


class _Reader:
    """Collects a dataclass's fields over its bases. Stands in for each class with an empty Python class, so that the
    method resolution order is Python's own."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._stand_ins: dict[tuple[str, str], type] = {}
        self._own: dict[type, dict[str, Argument | None]] = {}

    def fields(self, module: Module, node: ast.ClassDef) -> dict[str, Argument]:
        collected: dict[str, Argument | None] = {}
        for base in reversed(self._stand_in(module, node).__mro__):
            collected.update(self._own.get(base, {}))
        return {name: argument for name, argument in collected.items() if argument is not None}

    def _stand_in(self, module: Module, node: ast.ClassDef) -> type:
        key = (module.name, node.name)
        if key not in self._stand_ins:
            bases = []
            for expression in node.bases:
                name = ast.unparse(expression)
                found = self._sources.find_class(module, name)
                if found:
                    bases.append(self._stand_in(*found))
                elif name not in ("object", "ABC"):
                    message = f"cannot read the arguments of {node.name}: no source for its base {name}"
                    raise MissingError(Problem(str(module.path), message, "install a version that sft-kit knows"))
            stand_in = type(node.name, tuple(bases) or (object,), {})
            self._own[stand_in] = self._own_fields(module, node) if _is_dataclass(node) else {}
            self._stand_ins[key] = stand_in
        return self._stand_ins[key]

    def _own_fields(self, module: Module, node: ast.ClassDef) -> dict[str, Argument | None]:
        """The fields a class declares; None for one that is not an argument (`field(init=False)`)."""
        fields: dict[str, Argument | None] = {}
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                if not ast.unparse(statement.annotation).startswith(("ClassVar", "typing.ClassVar")):
                    fields[name] = self._field(module, name, statement)
        return fields

    def _field(self, module: Module, name: str, statement: ast.AnnAssign) -> Argument | None:
        value = statement.value
        default = None if value is None else ast.unparse(value)
        stated: tuple[str, ...] | None = None
        if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
            given = {keyword.arg: keyword.value for keyword in value.keywords}
            if "init" in given and ast.unparse(given["init"]) == "False":
                return None
            default = _field_default(given)
            stated = _stated_choices(given.get("metadata"))
        members = _members(statement.annotation)
        kind, choices, many = self._parser_type(module, members)
        choices = choices or stated
        if name in _JSON_IN_TEXT:
            kind = "json"
        return Argument(
            name, ast.unparse(statement.annotation), kind, choices, many, "None" in _names(members), default
        )

    def _parser_type(self, module: Module, members: list[ast.expr]) -> tuple[Kind, tuple[str, ...] | None, bool]:
        """The type, choices and plurality that HfArgumentParser takes from an annotation's union members."""
        names = _names(members)
        chosen = members[0]
        if len(members) > 1 and "None" not in names:
            chosen = members[0] if names[1] == "str" else members[1]
        elif len(members) > 1 and "bool" not in names:
            chosen = members[0] if names[1] == "None" else members[1]
            if "str" in names and any(_head(name) in ("dict", "Dict") for name in names):
                # ms-swift reorders Union[str, dict, None] so that the parser takes the text and it parses the JSON.
                return "json", None, False
        elif len(members) > 1:
            return ("bool" if set(names) == {"bool", "None"} else "object"), None, False
        return self._one_type(module, chosen)

    def _one_type(self, module: Module, node: ast.expr) -> tuple[Kind, tuple[str, ...] | None, bool]:
        text = ast.unparse(node)
        head = _head(text)
        if head in ("bool", "int", "float", "str"):
            return cast("Kind", head), None, False
        if head == "Path":
            return "str", None, False
        if isinstance(node, ast.Subscript) and head == "Literal":
            return "str", tuple(str(ast.literal_eval(item)) for item in _items(node.slice)), False
        if isinstance(node, ast.Subscript) and head in ("List", "list"):
            kind, choices, _ = self._one_type(module, node.slice)
            return kind, choices, True
        found = self._sources.find_class(module, text)
        if found and any(ast.unparse(base).endswith("Enum") for base in found[1].bases):
            return "str", _enum_values(found[1]), False
        return "object", None, False


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(_head(ast.unparse(d).split("(")[0]).endswith("dataclass") for d in node.decorator_list)


def _field_default(given: Mapping[str | None, ast.expr]) -> str | None:
    if "default" in given:
        return ast.unparse(given["default"])
    factory = given.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return ast.unparse(factory.body)
    return None if factory is None else {"list": "[]", "dict": "{}"}.get(ast.unparse(factory), ast.unparse(factory))


# transformers' log levels are put together at import (utils.logging.log_levels and "passive"), not written down.
_LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")


def _stated_choices(metadata: ast.expr | None) -> tuple[str, ...] | None:
    """`choices` in a field's metadata, which the parser hands on to argparse."""
    for key, value in zip(metadata.keys, metadata.values, strict=True) if isinstance(metadata, ast.Dict) else ():
        if isinstance(key, ast.Constant) and key.value == "choices":
            if isinstance(value, (ast.List, ast.Tuple)):
                return tuple(str(ast.literal_eval(item)) for item in value.elts)
            if "trainer_log_levels" in ast.unparse(value):
                return _LOG_LEVELS
    return None


def _members(annotation: ast.expr) -> list[ast.expr]:
    """The members of a union in typing's order, `Optional[X]` and `X | None` alike; [annotation] if it is none."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _members(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _members(annotation.left) + _members(annotation.right)
    if isinstance(annotation, ast.Subscript):
        head = _head(ast.unparse(annotation.value))
        if head == "Optional":
            return [*_members(annotation.slice), ast.Constant(None)]
        if head == "Union":
            return [member for item in _items(annotation.slice) for member in _members(item)]
    return [annotation]


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _names(members: list[ast.expr]) -> list[str]:
    return [ast.unparse(member) for member in members]


def _head(text: str) -> str:
    return text.split("[")[0].removeprefix("typing.")


def _enum_values(node: ast.ClassDef) -> tuple[str, ...]:
    return tuple(
        str(statement.value.value)
        for statement in node.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
    )


TRUE = ("yes", "true", "t", "y", "1")  # transformers' string_to_bool
FALSE = ("no", "false", "f", "n", "0")
_NEGATIVE = re.compile(r"^-\d+$|^-\d*\.\d+$")  # argparse.ArgumentParser._negative_number_matcher


def words(argument: Argument, value: object) -> list[str]:
    """The command-line words that pass a YAML value: `--name VALUE...`, or none for None (ms-swift's default).

    A mapping becomes JSON. A single word that begins with a dash is joined (`--system=-x`), since argparse would take
    it for an option. Meant for values that `check_value` let pass.
    """
    if value is None:
        return []
    texts = [_text(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    if len(texts) == 1 and texts[0].startswith("-"):
        return [f"--{argument.name}={texts[0]}"]
    return [f"--{argument.name}", *texts]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # 3.0 and 1e3 are whole numbers in YAML, and int("3.0") is an error in the parser
    return str(value)


def check_value(argument: Argument, value: object) -> str | None:
    """What ms-swift's parser would say against a YAML value, or None if it would take it.

    None means "not given" and always passes. One value does for a list. Numbers and switches are taken by their text,
    so `'1e-4'` is a number and `'yes'` a switch, as on the command line. Stricter than the parser in three places
    where it takes what cannot work: a mapping for an argument that is not JSON, a one-item list for an argument that
    takes one value, and an `object`.
    """
    if value is None:
        return None
    if argument.kind == "object":
        return f"takes a Python object ({argument.type}), which cannot be given in a config"
    if not isinstance(value, (list, tuple)):
        return _check_one(argument, value)
    if argument.kind == "json":
        return f"takes a mapping, a JSON text or the path of a JSON file, not a list: {value!r}"
    if not argument.many:
        return f"takes one value, not a list: {value!r}"
    if not value:
        return "is an empty list; leave the key out instead"
    for item in value:
        problem = "has an empty item" if item is None else _check_one(argument, item)
        if problem is None and len(value) > 1 and _looks_like_an_option(_text(item)):
            problem = f"has an item that begins with a dash, which ms-swift takes for an option: {item!r}"
        if problem:
            return problem
    return None


def _check_one(argument: Argument, value: object) -> str | None:
    if isinstance(value, Mapping):
        if argument.kind == "json":
            return _check_json(value)
        return f"takes {_wanted(argument)}, not a mapping"
    if not isinstance(value, (bool, int, float, str)):
        return f"takes {_wanted(argument)}, not {value!r}; put it in quotes"
    text = _text(value)
    if argument.choices is not None:
        if text in argument.choices:
            return None
        known = dialect.value_word(argument.name, text)
        close = [known] if known in argument.choices else difflib.get_close_matches(text, argument.choices, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        return f"takes {_wanted(argument)}, not {text!r}{meant}"
    if argument.kind == "bool":
        return None if text.lower() in TRUE + FALSE else f"takes true or false, not {text!r}"
    if argument.kind in ("int", "float"):
        try:
            int(text) if argument.kind == "int" else float(text)
        except ValueError:
            return f"takes {_wanted(argument)}, not {text!r}"
    return None


def _check_json(value: Mapping[object, object]) -> str | None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        return f"cannot be written as JSON: {error}"
    return None


def _wanted(argument: Argument) -> str:
    if argument.choices is not None:
        return "one of " + ", ".join(argument.choices)
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}.get(argument.kind, "text")


def _looks_like_an_option(text: str) -> bool:
    """argparse's rule: a dash first, unless the word is "-", holds a space, or is a plain negative number."""
    return text.startswith("-") and text != "-" and " " not in text and not _NEGATIVE.match(text)


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The argument that was probably meant by an unknown name: a known renaming first, then the closest spelling."""
    names = set(known)
    plain = name.strip().lstrip("-").replace("-", "_").lower()
    for candidate in (plain, *dialect.other_names(plain)):
        if candidate in names:
            return candidate
    close = difflib.get_close_matches(plain, sorted(names), n=1, cutoff=0.7)
    return close[0] if close else None
