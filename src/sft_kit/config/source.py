"""Reads a YAML file into plain values, remembering the line and column of every key.

Owns YAML itself: encoding, size, duplicate keys, merge keys, aliases, `--set` overrides. Does not know which keys
are allowed or what they mean. YAML 1.2 by ruamel.yaml, so `1e-4` is a number and `no` is the word "no".
"""

from __future__ import annotations

import difflib
import io
import os
import re
import select
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sft_kit.errors import ConfigError, Problem
from sft_kit.findings import CODES
from sft_kit.secrets import is_secret, remember

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Place: TypeAlias = "tuple[str | int, ...]"  # ("identity", "name", "zh") or ("dataset", 0)

# ruamel.yaml takes 0.25 s for 1,000 values, so what is no config is refused before it is read in full.
MAX_BYTES = 100_000
MAX_WRITTEN = 2_000  # values in the file: a config has hundreds
MAX_NODES = 20_000  # after aliases are expanded: a billion-laughs file has billions
MAX_DEPTH = 40
MAX_PROBLEMS = 100  # told of one file
_SMALL = 20_000  # characters that may be parsed without counting first,
_FEW_BRACKETS = 100  # unless there are more of these: ruamel.yaml's time grows with the square of their depth
_LONGEST_NUMBER = 400  # characters; Python itself refuses to show a number of more than 4,300 digits
_PIPE_WAIT_S = 1.0  # for what writes into a pipe, as in `sft-kit check <(...)`
_YAML = "tag:yaml.org,2002:"
_LOST_SAMPLE = re.compile(r"\s*(?:-|(?:val_)?dataset:)\s+(?P<entry>[^\s#'\"\[]+)\s+(?P<sample>#\d+)\s*$")
_NO_COLON = re.compile(r"\s*(?P<key>[A-Za-z_][\w.]*)(?P<colon>：|:(?=[^\s/:]))(?P<value>[^#]*)")
_BLOCK = re.compile(r"[^#]*:\s*[|>][-+\d]*\s*(?:#.*)?$")  # what follows, further in, is text
_IGNORE = re.compile(r"#\s*sft-kit:\s*ignore\s+([\w-]+(?:\s*,\s*[\w-]+)*)([\w\s,-]*)")


@dataclass(frozen=True)
class Source:
    """The values of one config file and where each stands. `name` is how the user called the file.

    `marks` holds (line, column) from 1; (0, 0) is a value of `--set`.
    """

    name: str
    values: dict[str, Value]
    marks: Mapping[Place, tuple[int, int]]
    problems: tuple[Problem, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # {finding code: line of its `# sft-kit: ignore`}

    def place(self, key: Place | str) -> str:
        """`config.yaml:14:3` for a key (`"identity.name"` or a tuple), or the nearest parent that has a place.

        `--set` for a value that was given there.
        """
        at: Place = tuple(key.split(".")) if isinstance(key, str) else key
        while at:
            if at in self.marks:
                line, column = self.marks[at]
                return f"{self.name}:{line}:{column}" if line else "--set"
            at = at[:-1]
        return self.name

    def overridden(self, key: str) -> bool:
        """Whether the flat key was given by `--set`."""
        return self.marks.get((key,)) == (0, 0)


def read_source(path: Path) -> Source:
    """Read and parse the YAML file `path`.

    Duplicate keys and the like are collected in `problems`; what makes the file unreadable as a whole (missing,
    a device, not UTF-8, over 100 kB, broken YAML, not a mapping) raises ConfigError at once.
    """
    name = str(path)
    text = _read_text(path)
    yaml = YAML(typ="safe", pure=True)
    try:
        if len(text) > _SMALL or text.count("[") + text.count("{") > _FEW_BRACKETS:
            _refuse_data(name, text)
        root = yaml.compose(io.StringIO(text))
        builder = _Builder(name, yaml)
        if root is None or (isinstance(root, ScalarNode) and not root.value):
            fix = f"`sft-kit init {name} --force` writes one"
            raise ConfigError(Problem(name, "the file is empty", fix, "not-a-config"))
        if not isinstance(root, MappingNode):
            if problem := _colon_problem(name, text, text.count("\n") + 1):
                raise ConfigError(problem)
            message = "a config is a mapping of keys to values"
            raise ConfigError(Problem(name, message, "write `key: value` lines", "not-a-config"))
        values = builder.mapping(root, (), 0)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        until = mark.line + 1 if mark else text.count("\n") + 1
        raise ConfigError(_colon_problem(name, text, until) or _yaml_problem(name, error)) from error
    except YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        message = f"not valid YAML: {_reason(error)}"
        raise ConfigError(Problem(f"{name}:{line}", message, code="broken-yaml")) from error
    except RecursionError as error:
        raise ConfigError(Problem(name, f"nested deeper than {MAX_DEPTH} levels", code="not-a-config")) from error
    # an alias repeats its own
    problems = tuple(dict.fromkeys([*builder.problems, *_lost_samples(name, text)]))[:MAX_PROBLEMS]
    return Source(name, values, builder.marks, problems, _ignored(text))


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
        remember(text, secret=any(map(is_secret, key.split("."))))  # before the first message that quotes it
        if not equals or not all(place):
            problems.append(
                Problem(f"--set {override}", "is not KEY=VALUE", "write --set learning_rate=1e-4", "bad-override")
            )
            continue
        try:
            value = _override_value(text)
        except (YAMLError, ConfigError, RecursionError) as error:
            fix = f"quote it for YAML: --set '{key}=\"...\"'"
            message = f"the value is not valid YAML: {_reason(error)}"
            problems.append(Problem(f"--set {override}", message, fix, "bad-override"))
            continue
        problem = _put(values, place, value)
        if problem:
            problems.append(Problem(f"--set {override}", problem, code="bad-override"))
            continue
        for mark in [m for m in marks if m[: len(place)] == place]:
            del marks[mark]
        marks[place] = (0, 0)
        for depth in range(1, len(place)):
            marks.setdefault(place[:depth], (0, 0))  # a section that only --set made
    if problems:
        raise ConfigError(*problems)
    return replace(source, values=values, marks=marks)


def _read_text(path: Path) -> str:
    name = str(path)
    try:
        if path.is_dir():
            raise ConfigError(Problem(name, "is a directory", "give the config file", "missing-file"))
        raw = _read_bytes(path)
    except FileNotFoundError:
        raise ConfigError(
            Problem(name, "no such file", f"write one with `sft-kit init {name}`", "missing-file")
        ) from None
    except OSError as error:
        raise ConfigError(Problem(name, f"cannot be read: {error.strerror}", code="missing-file")) from error
    if len(raw) > MAX_BYTES:
        fix = "is this a data file? A config names it under `dataset:`"
        raise ConfigError(Problem(name, f"larger than {MAX_BYTES // 1_000} kB", fix, "not-a-config"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise ConfigError(Problem(f"{name}:{line}", message, "save the file as UTF-8", "not-a-config")) from error


def _read_bytes(path: Path) -> bytes:
    """The first bytes of a file or, for as long as somebody writes into it, a pipe. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer opens at once too
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ConfigError(Problem(str(path), "is a device, not a file", "give the config file", "missing-file"))
        raw = b""
        while len(raw) <= MAX_BYTES:
            if stat.S_ISFIFO(mode) and not select.select([descriptor], [], [], _PIPE_WAIT_S)[0]:
                fix = "give the config file"
                raise ConfigError(Problem(str(path), "is a pipe into which nobody writes", fix, "missing-file"))
            if not (read := os.read(descriptor, MAX_BYTES + 1 - len(raw))):
                break
            raw += read
        return raw
    finally:
        os.close(descriptor)


def _lost_samples(name: str, text: str) -> Iterator[Problem]:
    """`- mine.jsonl #500`: to YAML the sample size is a comment, and all rows would be trained."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _LOST_SAMPLE.match(line):
            column = match.start("sample") + 1
            message = f"{match['sample']} stands behind a blank, so that YAML takes it for a comment"
            yield Problem(
                f"{name}:{number}:{column}", message, f"write {match['entry']}{match['sample']}", "bad-sample"
            )


def _ignored(text: str) -> dict[str, int]:
    """The codes of every `# sft-kit: ignore CODE, CODE` comment, each with its line.

    Without commas the words that follow are codes up to the first that is like none: there the reason begins.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for match in _IGNORE.finditer(line):
            listed, rest = (re.findall(r"[\w-]+", words) for words in match.groups())
            codes = [*listed, *takewhile(lambda word: difflib.get_close_matches(word, CODES, 1, 0.8), rest)]
            found.update({code: found.get(code, number) for code in codes})
    return found


def _refuse_data(name: str, text: str) -> None:
    """Raise ConfigError for a large file that cannot be a config, at the first sign of it."""
    depth = written = 0
    for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
        opens = isinstance(event, CollectionStartEvent)
        depth += opens - isinstance(event, CollectionEndEvent)
        written += opens or isinstance(event, ScalarEvent)
        if depth > MAX_DEPTH:
            place = f"{name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
            raise ConfigError(Problem(place, f"nested deeper than {MAX_DEPTH} levels", code="not-a-config"))
        if written > MAX_WRITTEN:
            fix = "is this a data file? A config names it under `dataset:`"
            raise ConfigError(Problem(name, f"holds more than {MAX_WRITTEN} values", fix, "not-a-config"))


def _reason(error: Exception) -> str:
    """What is wrong, in one line and without the parser's own file names."""
    if isinstance(error, ConfigError):
        return error.problems[0].message
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} levels"
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _colon_problem(name: str, text: str, until: int) -> Problem | None:
    """The first line, up to line `until` of a file that is no YAML, in which a key is not ended by `: `; YAML itself
    tells only of a later place."""
    text_deeper_than: int | None = None
    for number, line in enumerate(text.splitlines()[:until], 1):
        indent = len(line) - len(line.lstrip())
        if text_deeper_than is not None and (indent > text_deeper_than or not line.strip()):
            continue
        text_deeper_than = indent if _BLOCK.match(line) else None
        if match := _NO_COLON.match(line):
            what = "a full-width colon, no colon to YAML" if match["colon"] == "：" else "no blank behind the colon"
            fix = f"write `{match['key']}: {match['value'].strip()}`".replace(": `", ":`")
            return Problem(f"{name}:{number}:{match.start('colon') + 1}", what, fix, "broken-yaml")
    return None


def _yaml_problem(name: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    message = error.problem or error.context or "not valid YAML"
    if "another document" in message:
        return Problem(
            place, "a second YAML document begins here", "one file holds one config: remove the `---`", "broken-yaml"
        )
    if "'\\t'" in message:
        return Problem(place, "a tab character, which YAML does not allow here", "indent with spaces", "broken-yaml")
    fix = "check the indentation, colons and quotes around this place"
    return Problem(place, f"not valid YAML: {message}", fix, "broken-yaml")


@dataclass
class _Builder:
    """Turns composed nodes into plain values, noting each key's place and each duplicate."""

    name: str
    yaml: YAML
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def value(self, node: Node, place: Place, depth: int) -> Value:
        if isinstance(node, MappingNode):
            return self.mapping(node, place, depth)
        self.count(node, depth)
        if isinstance(node, SequenceNode):
            self.untagged(node, "seq")
            items: list[Value] = []
            for index, item in enumerate(node.value):
                below: Place = (*place, index)
                self.marks[below] = (item.start_mark.line + 1, item.start_mark.column + 1)
                items.append(self.value(item, below, depth + 1))
            return items
        return self.scalar(node)

    def scalar(self, node: Node) -> Value:
        tag, text = str(node.tag), self.text(node)
        if text is None or tag in (f"{_YAML}str", f"{_YAML}timestamp"):  # a date stays the text that was written
            return text
        if tag in (f"{_YAML}null", f"{_YAML}bool", f"{_YAML}int", f"{_YAML}float"):
            try:
                if len(text) > _LONGEST_NUMBER:
                    raise ValueError
                value: Value = self.yaml.constructor.construct_object(node)
                return value
            except (ValueError, LookupError, AttributeError):  # `!!int eight`, or a number of 5,000 digits
                shown = f"{node.value[:40]}..." if len(node.value) > 40 else node.value
                message = f"{shown!r} is not a number or switch that can be read"
                self.problems.append(Problem(self.at(node), message, code="wrong-value"))
                return None
        self.untagged(node, "str")
        return None

    def text(self, node: Node) -> str | None:
        """What is written in a value or a key; None where no file, no argument and no terminal could take it."""
        text = str(node.value)
        if "\0" in text:
            self.problems.append(Problem(self.at(node), "holds a NUL character", "remove the \\0", "wrong-value"))
            return None
        try:  # JSON writes an emoji as the escapes of two halves: put them together
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            fix = "write it without \\u"
            self.problems.append(Problem(self.at(node), "holds half of a character", fix, "wrong-value"))
            return None

    def untagged(self, node: Node, kind: str) -> None:
        """Note a tag such as `!custom` or `!!set`: taking the bare value would ignore what was written."""
        if str(node.tag) != _YAML + kind:
            tag = str(node.tag).replace(_YAML, "!!")
            message = f"the YAML tag {tag} is not supported"
            self.problems.append(Problem(self.at(node), message, "write a plain value", "wrong-value"))

    def count(self, node: Node, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            message = f"expands to more than {MAX_NODES} values"
            raise ConfigError(Problem(self.name, message, "remove the YAML aliases", "not-a-config"))
        if depth > MAX_DEPTH:
            raise ConfigError(Problem(self.at(node), f"nested deeper than {MAX_DEPTH} levels", code="not-a-config"))

    def mapping(self, node: MappingNode, place: Place, depth: int) -> dict[str, Value]:
        self.count(node, depth)
        self.untagged(node, "map")
        merged: dict[str, Value] = {}
        for key_node, value_node in node.value:  # first, so that the marks of written keys stand over merged ones
            if str(key_node.tag).endswith(":merge"):
                for part in self.merged_mappings(value_node):
                    merged = {**self.mapping(part, place, depth + 1), **merged}
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag).endswith(":merge"):
                continue
            if not isinstance(key_node, ScalarNode) or not key_node.value.strip():
                self.problems.append(Problem(self.at(key_node), "a key must be a plain word", code="unknown-key"))
                continue
            key = self.text(key_node)
            if key is None:
                continue
            at: Place = (*place, key)
            if key in values:
                first = self.marks[at][0]
                message = f"{key}: written twice (first in line {first})"
                self.problems.append(Problem(self.at(key_node), message, "keep one of them", "duplicate-key"))
                continue
            self.marks[at] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            values[key] = self.value(value_node, at, depth + 1)
        return {**merged, **values}

    def merged_mappings(self, node: Node) -> Iterator[MappingNode]:
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(part, MappingNode):
                yield part
            else:
                problem = Problem(self.at(part), "<<: merges only mappings", "give an alias of one", "broken-yaml")
                self.problems.append(problem)

    def at(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _override_value(text: str) -> Value:
    if not text.strip():
        return text
    yaml = YAML(typ="safe", pure=True)
    node = yaml.compose(io.StringIO(text))
    if node is None:  # a comment, such as `--set system='# hash'`
        return text
    # `--set system=Use C # not D`: YAML reads a comment, but nobody comments a command line
    cut_short = isinstance(node, ScalarNode) and node.style is None and " #" in text[node.end_mark.index :]
    builder = _Builder("--set", yaml)
    value = builder.value(node, (), 0)
    if builder.problems:
        raise ConfigError(*builder.problems)
    return text.strip() if cut_short else value


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
