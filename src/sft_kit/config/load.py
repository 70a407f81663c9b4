"""A config file and its overrides become one checked `RunConfig`, or one error that lists everything wrong.

Owns the order (file, `--set`, spelling, types, ms-swift's own keys) and the wording of what pydantic finds. Asks
`KeyRules` about keys that only ms-swift knows, so that this package need not know ms-swift.
"""

from __future__ import annotations

import difflib
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError
from ruamel.yaml import YAML

from sft_kit.config.schema import OwnKeys, RunConfig
from sft_kit.config.source import MAX_PROBLEMS, Source, Value, apply_overrides, read_source
from sft_kit.errors import ConfigError, Problem
from sft_kit.secrets import remember


class KeyRules(Protocol):
    """What the installed ms-swift says about a flat key. Implemented by `msswift.keys`."""

    def canonical(self, key: str) -> str:
        """The 4.x spelling of `key`; `key` itself when it has only one."""

    def value(self, key: str, value: Any) -> Any:
        """Today's word for an old one (`bfloat16` for `torch_dtype: bf16`); any other value as it is."""

    def problem(self, key: str, value: Any) -> Problem | None:
        """Why `swift sft` would not take `key` with `value` (place left empty), or None."""


@dataclass(frozen=True)
class LoadedConfig:
    """A config and the file it came from, so that later findings can still name a line.

    `problems` are what is wrong with single keys; `wrong` are those of them (4.x names) that `config` is without, so
    that the rest can be checked in the same go.
    """

    config: RunConfig
    source: Source
    problems: tuple[Problem, ...] = ()
    wrong: frozenset[str] = frozenset()

    def place(self, key: str) -> str:
        """`config.yaml:14:3` of a dotted key."""
        return self.source.place(key)


def load_config(path: Path, overrides: Sequence[str] = (), rules: KeyRules | None = None) -> LoadedConfig:
    """Load `path`, apply `overrides` (`KEY=VALUE`), check every key. Raises ConfigError with all problems at once.

    Without `rules` (no ms-swift at hand) keys outside the schema are refused.
    """
    return _without_problems(read_config(path, overrides, rules))


def check_source(source: Source, rules: KeyRules | None = None) -> LoadedConfig:
    """The checks of `load_config` on values that are already read."""
    return _without_problems(_checked(source, rules))


def read_config(path: Path, overrides: Sequence[str] = (), rules: KeyRules | None = None) -> LoadedConfig:
    """As `load_config`, but what is wrong with single keys is in `problems`: the rest can still be looked at.

    Raises ConfigError for a file that cannot be read as a config at all.
    """
    return _checked(apply_overrides(read_source(path), overrides), rules)


def _without_problems(loaded: LoadedConfig) -> LoadedConfig:
    if loaded.problems:
        raise ConfigError(*loaded.problems)
    return loaded


def _checked(source: Source, rules: KeyRules | None) -> LoadedConfig:
    remember(source.values)
    problems = list(source.problems)
    spelled = _canonical_keys(source, rules, problems)
    values: dict[str, Value] = {key: source.values[written] for key, written in spelled.items()}
    if rules:
        values = {key: rules.value(key, value) for key, value in values.items()}
    given = {key: value for key, value in values.items() if not _left_empty(key, value)}
    wrong: set[str] = set()
    try:
        config = RunConfig.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        wrong = {str(detail["loc"][0]) for detail in details}
        problems += _schema_problems(source, spelled, values, details)
        config = RunConfig.model_validate({key: value for key, value in given.items() if key not in wrong})
    for key, written in spelled.items():
        if key in OwnKeys or key in wrong or (key in RunConfig.model_fields and values[key] in (None, "auto")):
            continue
        if len(problems) >= MAX_PROBLEMS:  # to look for what a key may mean takes milliseconds
            wrong.add(key)
            continue
        value = getattr(config, key) if key in RunConfig.model_fields else values[key]
        found = rules.problem(key, value) if rules else _unknown_without_rules(key)
        if found:
            own = difflib.get_close_matches(written, OwnKeys, n=1, cutoff=0.8)
            fix = f"did you mean {own[0]}?" if own else found.fix
            place, message = source.place((written,)), f"{written}: {found.message}"
            problems.append(Problem(place, message, fix, found.code))
            wrong.add(key)
    return LoadedConfig(config, _marked(source, spelled), tuple(sorted(problems, key=line_order)), frozenset(wrong))


def resolved_yaml(config: RunConfig, ignored: Iterable[str] = ()) -> str:
    """`config` as YAML text: what was given and nothing else, so that training on it repeats the run; `ignored` are the
    codes of findings that it accepts."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    text = io.StringIO()
    if codes := ", ".join(ignored):
        text.write(f"# sft-kit: ignore {codes}\n")
    yaml.dump(config.model_dump(mode="json", exclude_unset=True, exclude_none=True), text)
    return text.getvalue()


def _canonical_keys(source: Source, rules: KeyRules | None, problems: list[Problem]) -> dict[str, str]:
    """{4.x key: the key as it was written}. Two spellings of one argument are a problem, unless one is `--set`'s."""
    spelled: dict[str, str] = {}
    for written in source.values:
        key = rules.canonical(written) if rules else written
        first = spelled.get(key)
        if first is None or (source.overridden(written) and not source.overridden(first)):
            spelled[key] = written
        elif source.overridden(written) == source.overridden(first):
            message = f"{written}: the same argument as {first}"
            problems.append(Problem(source.place((written,)), message, "keep one of them", "same-argument-twice"))
    return spelled


def _marked(source: Source, spelled: Mapping[str, str]) -> Source:
    """`source` with the places of 3.x keys under their 4.x names too."""
    names = {written: key for key, written in spelled.items() if key != written}
    also = {(names[str(place[0])], *place[1:]): mark for place, mark in source.marks.items() if place[0] in names}
    return replace(source, marks={**source.marks, **also})


def _left_empty(key: str, value: Value) -> bool:
    """Whether `key:` stands there without a value (all of its lines commented out, say): as good as not there."""
    return value is None and key in RunConfig.model_fields


def _unknown_without_rules(key: str) -> Problem | None:
    if key in RunConfig.model_fields:
        return None
    message = "not a key of sft-kit, and without ms-swift no other can be checked"
    return Problem("", message, "install ms-swift", "unknown-key")


_NUMBER = re.compile(r"([+-]?[0-9][0-9.]*(?:e[+-]?[0-9]+)?)\s*(?:gib|gb|g|%)?")

# What pydantic finds, in the words of a config; {} are the limits it gives.
_WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than_equal": "at least {ge:,g}",
    "less_than_equal": "at most {le:,g}",
    "greater_than": "more than {gt:g}",
    "less_than": "less than {lt:g}",
    "too_short": "a list with at least {min_length} entry",
}


def _schema_problems(
    source: Source, spelled: Mapping[str, str], values: Mapping[str, Value], details: Sequence[Any]
) -> list[Problem]:
    """pydantic's errors as problems: the branches it tried of a union (whole number or auto) are one."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for detail in details:
        found.setdefault(_written_location(values, detail), []).append(detail)
    # a union of text and mapping, given a mapping: what is wrong inside it says more than "must be text"
    places = [place for place in found if not any(other[: len(place)] == place and other != place for other in found)]
    return [_schema_problem(source, spelled, place, found[place]) for place in places]


def _schema_problem(
    source: Source, spelled: Mapping[str, str], location: tuple[Any, ...], details: Sequence[Any]
) -> Problem:
    """The errors of one value: place, key, what is wrong, what to write."""
    if location:
        location = (spelled.get(str(location[0]), location[0]), *location[1:])
    place = source.place(location)
    key = ".".join(str(part) for part in location)
    kind, given = details[0]["type"], details[0]["input"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _section_keys(location), n=1)
        fix = f"did you mean {close[0]}?" if close else f"known: {', '.join(_section_keys(location))}"
        return Problem(place, f"{key}: no such key", fix, "unknown-key")
    if kind == "missing":
        return Problem(place, f"{key}: missing", "add it", "wrong-value")
    if kind == "literal_error" and len(details) == 1:
        expected = _choices(details[0])
        close = difflib.get_close_matches(str(given), expected, n=1, cutoff=0.4)
        fix = f"did you mean {close[0]}?" if close else ""
        return Problem(place, f"{key}: {_shown(given)} is not one of {', '.join(expected)}", fix, "wrong-value")
    if kind == "string_pattern_mismatch":
        fix = "known: VERSION, DATE, CAPABILITIES, LIMITS, LICENSE, each also with .zh or .en"
        return Problem(place, f"{key}: no such slot", fix, "unknown-key")
    wanted = [
        " or ".join(_choices(detail))
        if detail["type"] == "literal_error"
        else _WORDS[detail["type"]].format(**detail.get("ctx", {}))
        for detail in details
        if detail["type"] in _WORDS or detail["type"] == "literal_error"
    ]
    if not wanted:
        return Problem(place, f"{key}: {str(details[0]['msg']).removeprefix('Value error, ')}", code="wrong-value")
    is_text = "text" in wanted and not isinstance(given, str)
    fix = "put it in quotes" if is_text and isinstance(given, int | float | dict) else _meant(given, wanted)
    return Problem(
        place, f"{key}: must be {' or '.join(dict.fromkeys(wanted))}, not {_shown(given)}", fix, "wrong-value"
    )


def _meant(given: Any, wanted: Sequence[str]) -> str:
    """What a text that should be a number or a switch probably means: `3，` of a Chinese keyboard, `24GB`, `ture`."""
    if not isinstance(given, str):
        return ""
    plain = unicodedata.normalize("NFKC", given).strip(" ,;.、。").lower()
    if "true or false" in wanted:
        close = difflib.get_close_matches(plain, ["true", "false"], n=1)
        return f"did you mean {close[0]}?" if close else ""
    number = _NUMBER.fullmatch(plain)
    return f"did you mean {number[1]}?" if number and any("number" in each for each in wanted) else ""


def _written_location(values: Any, detail: Any) -> tuple[Any, ...]:
    """Where an error stands in what was written: pydantic also names the branch of a union, or `[key]`."""
    location: list[Any] = []
    at = values
    for part in detail["loc"]:
        if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int)):
            location.append(part)
            at = at[part]
    if detail["type"] == "missing":
        location.append(detail["loc"][-1])
    return tuple(location)


def _choices(detail: Any) -> list[str]:
    return str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")


def _shown(value: Any) -> str:
    """A value as its writer would know it again."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return ("a" if value else "an empty") + (" mapping" if isinstance(value, dict) else " list")
    return repr(value) if len(str(value)) <= 60 else f"{str(value)[:60]!r}..."


def _section_keys(location: Sequence[Any]) -> list[str]:
    """The keys that may stand where `location` does: those of the section that holds it."""
    model: Any = RunConfig
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((option for option in options if hasattr(option, "model_fields")), model)
    return list(model.model_fields)


def line_order(problem: Problem) -> tuple[int, int]:
    """(line, column) of a problem, to sort by; (0, 0) where it has none."""
    _, *numbers = problem.place.rsplit(":", 2)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(n.isdigit() for n in numbers) else (0, 0)
