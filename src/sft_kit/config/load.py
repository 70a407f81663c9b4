"""A config file and its overrides become one checked `RunConfig`, or one error that lists everything wrong.

Owns the order (file, `--set`, spelling, types, ms-swift's own keys) and the wording of what pydantic finds. Asks
`KeyRules` about keys that only ms-swift knows, so that this package need not know ms-swift.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError
from ruamel.yaml import YAML

from sft_kit.config.schema import OwnKeys, RunConfig
from sft_kit.config.source import Source, Value, apply_overrides, read_source
from sft_kit.errors import ConfigError, Problem


class KeyRules(Protocol):
    """What the installed ms-swift says about a flat key. Implemented by `msswift.keys`."""

    def canonical(self, key: str) -> str:
        """The 4.x spelling of `key`; `key` itself when it has only one."""

    def problem(self, key: str, value: Any) -> Problem | None:
        """Why `swift sft` would not take `key` with `value` (place left empty), or None."""


@dataclass(frozen=True)
class LoadedConfig:
    """A checked config, and the file it came from so that later findings can still name a line."""

    config: RunConfig
    source: Source

    def place(self, key: str) -> str:
        """`config.yaml:14:3` of a dotted key."""
        return self.source.place(key)


def load_config(path: Path, overrides: Sequence[str] = (), rules: KeyRules | None = None) -> LoadedConfig:
    """Load `path`, apply `overrides` (`KEY=VALUE`), check every key. Raises ConfigError with all problems at once.

    Without `rules` (no ms-swift at hand) keys outside the schema are refused.
    """
    source = apply_overrides(read_source(path), overrides)
    return check_source(source, rules)


def check_source(source: Source, rules: KeyRules | None = None) -> LoadedConfig:
    """The checks of `load_config` on values that are already read."""
    problems = list(source.problems)
    spelled = _canonical_keys(source, rules, problems)
    values: dict[str, Value] = {key: source.values[written] for key, written in spelled.items()}
    config: RunConfig | None = None
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        problems += [_schema_problem(source, spelled, detail) for detail in error.errors(include_url=False)]
    wrong = {problem.place for problem in problems}
    for key, written in spelled.items():
        value = values[key] if config is None else getattr(config, key, values[key])
        if key in OwnKeys or value is None or value == "auto":
            continue
        place = source.place((written,))
        found = rules.problem(key, value) if rules else _unknown_without_rules(key)
        if found and place not in wrong:
            problems.append(Problem(place, f"{written}: {found.message}", found.fix))
    if problems or config is None:
        raise ConfigError(*sorted(problems, key=_line_order))
    return LoadedConfig(config, source)


def resolved_yaml(config: RunConfig) -> str:
    """`config` as YAML text: what was given and nothing else, so that training on it repeats the run."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(config.model_dump(mode="json", exclude_unset=True, exclude_none=True), text)
    return text.getvalue()


def _canonical_keys(source: Source, rules: KeyRules | None, problems: list[Problem]) -> dict[str, str]:
    """{4.x key: the key as it was written}; two spellings of one argument are a problem."""
    spelled: dict[str, str] = {}
    for written in source.values:
        key = rules.canonical(written) if rules else written
        if key in spelled:
            message = f"{written}: the same argument as {spelled[key]}"
            problems.append(Problem(source.place((written,)), message, "keep one of them"))
        else:
            spelled[key] = written
    return spelled


def _unknown_without_rules(key: str) -> Problem | None:
    if key in RunConfig.model_fields:
        return None
    return Problem("", "not a key of sft-kit, and without ms-swift no other can be checked", "install ms-swift")


def _schema_problem(source: Source, spelled: Mapping[str, str], detail: Any) -> Problem:
    """One pydantic error in the words of a config: place, key, what is wrong, what to write."""
    location = [part for part in detail["loc"] if not _is_union_branch(part)]
    if location:
        location[0] = spelled.get(str(location[0]), location[0])
    place = source.place(tuple(location))
    key = ".".join(str(part) for part in location)
    given = detail["input"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _section_keys(location), n=1)
        fix = f"did you mean {close[0]}?" if close else f"known: {', '.join(_section_keys(location))}"
        return Problem(place, f"{key}: no such key", fix)
    if kind == "missing":
        return Problem(place, f"{key}: missing", "add it")
    if kind == "literal_error":
        expected = str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        close = difflib.get_close_matches(str(given), expected, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else ""
        return Problem(place, f"{key}: {given!r} is not one of {', '.join(expected)}", hint)
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    return Problem(place, f"{key}: {message}{shown}" if key else message)


def _section_keys(location: Sequence[Any]) -> list[str]:
    """The keys that may stand where `location` does: those of the section that holds it."""
    model: Any = RunConfig
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((option for option in options if hasattr(option, "model_fields")), model)
    return list(model.model_fields)


def _is_union_branch(part: Any) -> bool:
    """pydantic names the tried branch of a union in the location (`str`, `PerLanguage`, `literal['auto']`)."""
    return isinstance(part, str) and (
        part in {"str", "int", "float", "PerLanguage"} or part[:8] in ("literal[", "constrai", "function", "dict[str")
    )


def _line_order(problem: Problem) -> tuple[int, int]:
    _, *numbers = problem.place.rsplit(":", 2)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(n.isdigit() for n in numbers) else (0, 0)
