"""Reads a YAML file into plain values, remembering the line and column of every key.

Owns YAML itself: encoding, size, duplicate keys, merge keys, aliases, `--set` overrides. Does not know which keys
are allowed or what they mean. YAML 1.2 by ruamel.yaml, so `1e-4` is a number and `no` is the word "no".
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sft_kit.errors import ConfigError, Problem

Value: TypeAlias = "None | bool | int | float | str | list[Value] | dict[str, Value]"
Place: TypeAlias = "tuple[str | int, ...]"  # ("identity", "name", "zh") or ("dataset", 0)

MAX_BYTES = 1_000_000
MAX_NODES = 20_000  # after aliases are expanded: a config has hundreds; a billion-laughs file has billions
MAX_DEPTH = 40


@dataclass(frozen=True)
class Source:
    """The values of one config file and where each stands. `name` is how the user called the file."""

    name: str
    values: dict[str, Value]
    marks: Mapping[Place, tuple[int, int]]
    problems: tuple[Problem, ...] = ()

    def place(self, key: Place | str) -> str:
        """`config.yaml:14:3` for a key (`"identity.name"` or a tuple), or the nearest parent that has a place."""
        at: Place = tuple(key.split(".")) if isinstance(key, str) else key
        while at:
            if at in self.marks:
                line, column = self.marks[at]
                return f"{self.name}:{line}:{column}" if line else self.name
            at = at[:-1]
        return self.name


def read_source(path: Path) -> Source:
    """Read and parse the YAML file `path`.

    Duplicate keys and the like are collected in `problems`; what makes the file unreadable as a whole (missing,
    not UTF-8, over 1 MB, broken YAML, not a mapping) raises ConfigError at once.
    """
    name = str(path)
    text = _read_text(path)
    if not text.strip():
        raise ConfigError(Problem(name, "the file is empty", "write one with `sft-kit init`"))
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(io.StringIO(text))
        builder = _Builder(name, yaml)
        if not isinstance(root, MappingNode):
            raise ConfigError(Problem(name, "a config is a mapping of keys to values", "write `key: value` lines"))
        values = builder.mapping(root, (), 0)
    except MarkedYAMLError as error:
        raise ConfigError(_yaml_problem(name, error)) from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(Problem(name, f"not valid YAML: {str(error).splitlines()[0]}")) from error
    except RecursionError as error:
        raise ConfigError(Problem(name, f"nested deeper than {MAX_DEPTH} levels")) from error
    return Source(name, values, builder.marks, tuple(builder.problems))


def apply_overrides(source: Source, overrides: Sequence[str]) -> Source:
    """`source` with each `KEY=VALUE` of `--set` applied in order; KEY may be dotted, VALUE is read as YAML.

    Raises ConfigError naming every override that cannot be applied.
    """
    values = _copy(source.values)
    marks = dict(source.marks)
    problems: list[Problem] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        place: Place = tuple(key.strip().split("."))
        if not equals or not all(place):
            problems.append(Problem(f"--set {override}", "is not KEY=VALUE", "write --set learning_rate=1e-4"))
            continue
        try:
            value = _override_value(text)
        except (YAMLError, ValueError, RecursionError) as error:
            reason = str(error).splitlines()[0] if str(error) else "too deep"
            problems.append(Problem(f"--set {override}", f"the value is not valid YAML: {reason}", "quote it"))
            continue
        problem = _put(values, place, value)
        if problem:
            problems.append(Problem(f"--set {override}", problem))
            continue
        for mark in [m for m in marks if m[: len(place)] == place]:
            del marks[mark]
        marks[place] = (0, 0)
    if problems:
        raise ConfigError(*problems)
    return Source(source.name, values, marks, source.problems)


def _read_text(path: Path) -> str:
    name = str(path)
    try:
        if path.is_dir():
            raise ConfigError(Problem(name, "is a directory", "give the config file"))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(Problem(name, "no such file", f"write one with `sft-kit init {name}`")) from None
    except OSError as error:
        raise ConfigError(Problem(name, f"cannot be read: {error.strerror}")) from error
    if len(raw) > MAX_BYTES:
        fix = "is this a data file? A config names it under `dataset:`"
        raise ConfigError(Problem(name, f"larger than {MAX_BYTES // 1_000_000} MB", fix))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise ConfigError(Problem(f"{name}:{line}", message, "save the file as UTF-8")) from error


def _yaml_problem(name: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    message = error.problem or error.context or "not valid YAML"
    if "'\\t'" in message:
        return Problem(place, "a tab character, which YAML does not allow here", "indent with spaces")
    return Problem(place, f"not valid YAML: {message}", "check the indentation, colons and quotes around this place")


@dataclass
class _Builder:
    """Turns composed nodes into plain values, noting each key's place and each duplicate."""

    name: str
    yaml: YAML
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def value(self, node: Node, place: Place, depth: int) -> Value:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ConfigError(Problem(self.name, f"expands to more than {MAX_NODES} values", "remove the YAML aliases"))
        if depth > MAX_DEPTH:
            raise ConfigError(Problem(self.at(node), f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(node, MappingNode):
            return self.mapping(node, place, depth)
        if isinstance(node, SequenceNode):
            items: list[Value] = []
            for index, item in enumerate(node.value):
                below: Place = (*place, index)
                self.marks[below] = (item.start_mark.line + 1, item.start_mark.column + 1)
                items.append(self.value(item, below, depth + 1))
            return items
        return self.scalar(node)

    def scalar(self, node: Node) -> Value:
        kind = str(node.tag).rpartition(":")[2]
        if kind in ("null", "bool", "int", "float"):
            value: Value = self.yaml.constructor.construct_object(node)
            return value
        if kind in ("str", "timestamp"):  # a date stays the text that was written
            return str(node.value)
        self.problems.append(Problem(self.at(node), f"the YAML tag {node.tag} is not supported", "write a plain value"))
        return None

    def mapping(self, node: MappingNode, place: Place, depth: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag).endswith(":merge"):
                for part in self.merged_mappings(value_node):
                    merged = {**self.mapping(part, place, depth + 1), **merged}
                continue
            if not isinstance(key_node, ScalarNode):
                self.problems.append(Problem(self.at(key_node), "a key must be a plain word"))
                continue
            key = str(key_node.value)
            at: Place = (*place, key)
            if key in values:
                first = self.marks[at][0]
                message = f"{key}: written twice (first in line {first})"
                self.problems.append(Problem(self.at(key_node), message, "keep one of them"))
                continue
            self.marks[at] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            values[key] = self.value(value_node, at, depth + 1)
        return {**merged, **values}

    def merged_mappings(self, node: Node) -> Iterator[MappingNode]:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(part, MappingNode):
                yield part
            else:
                self.problems.append(Problem(self.at(part), "<<: merges mappings only"))

    def at(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _override_value(text: str) -> Value:
    if not text.strip():
        return text
    yaml = YAML(typ="safe", pure=True)
    node = yaml.compose(io.StringIO(text))
    if node is None:  # a comment, such as `--set system='# hash'`
        return text
    builder = _Builder("--set", yaml)
    value = builder.value(node, (), 0)
    if builder.problems:
        raise ValueError(builder.problems[0].message)
    return value


def _put(values: dict[str, Value], place: Place, value: Value) -> str:
    """Set `value` at `place`, creating mappings on the way; a text says why it cannot be done."""
    at = values
    for depth, part in enumerate(place[:-1]):
        below = at.setdefault(str(part), {})
        if below is None:
            below = at[str(part)] = {}
        if not isinstance(below, dict):
            parent = ".".join(map(str, place[: depth + 1]))
            return f"{parent} holds one value, not a mapping; use --set {parent}=... instead"
        at = below
    at[str(place[-1])] = value
    return ""


def _copy(value: dict[str, Value]) -> dict[str, Value]:
    return {key: _copy(item) if isinstance(item, dict) else item for key, item in value.items()}
