"""Secrets written where others read them, and Python files that a config makes ms-swift run.

No value is ever part of a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import given, texts
from sft_kit.data.personal import personal_data
from sft_kit.findings import Finding
from sft_kit.msswift.command import VARIABLES
from sft_kit.msswift.install import Generation
from sft_kit.msswift.words import OWN_CODE
from sft_kit.resources import user_path
from sft_kit.secrets import is_secret

_URL_PASSWORD = re.compile(r"\b\w+://[^/@\s:]+:[^/@\s]+@")


def secret_findings(facts: Facts) -> Iterator[Finding]:
    """A config is copied, committed and saved with every run; the environment is not."""
    for key, value in _texts(facts.config.swift_values()):
        top = key.split(".")[0]
        if is_secret(top):
            variable = VARIABLES.get(top)
            if top == "hub_token":
                variable = "HF_TOKEN" if facts.hugging_face else "MODELSCOPE_API_TOKEN"
            message = "a secret in a config, or behind --set, is read by whoever sees the file or the processes"
            yield _secret(key, message, f"remove it and set {variable or 'it'} in the shell's environment")
        elif _looks_secret(value):
            yield _secret(key, "its value looks like a key, a token or a password", "keep it out of the config")
    for name, value in facts.config.launch.env.items():
        if (is_secret(name) and value.strip()) or _looks_secret(value):
            message = "a secret in a config is read by whoever sees the file"
            yield _secret(f"launch.env.{name}", message, f"remove it and set {name} in the shell's environment")


def _secret(place: str, message: str, fix: str) -> Finding:
    return Finding("secret-in-config", "warning", place, message, fix)


def _looks_secret(value: str) -> bool:
    return bool(_URL_PASSWORD.search(value)) or any(code == "secret" for code, _ in personal_data(value))


def _texts(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text that was given, those in lists with their number."""
    for key, value in given.items():
        if isinstance(value, str) and value.strip():
            yield key, value
        elif isinstance(value, list):
            yield from ((f"{key}.{index}", each) for index, each in enumerate(value) if isinstance(each, str))


def plugins(facts: Facts) -> Iterator[Finding]:
    """Imported with all rights of the user before anything else is done (base_args._import_external_plugins). A rule of
    the config, as a file that is not there is the config's mistake."""
    for key in OWN_CODE:
        listed = isinstance(given(facts, key), (list, tuple))
        for index, name in enumerate(texts(facts, key)):
            place = f"{key}.{index}" if listed else key
            if _there(user_path(name), facts.installation.generation):
                yield Finding("runs-python", "note", place, f"ms-swift runs {name} as Python", "read it first")
            else:
                yield Finding("no-such-path", "error", place, f"{name}: no such file", "give the path of a .py file")


def _there(path: Path, generation: Generation) -> bool:
    """3.x imports the module of that name, so that `.py` may be left out; 4.x the file (utils.import_external_file)."""
    module = path.parent / path.name.partition(".")[0]
    return os.path.isfile(path) or (generation == 3 and (os.path.isfile(f"{module}.py") or os.path.isdir(module)))
