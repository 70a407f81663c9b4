"""Writes a user's first config from a shipped one, asking on a terminal for what was not given."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sft_kit.config.load import load_config
from sft_kit.console import ask_text, person_is_typing
from sft_kit.data.text import has_cjk
from sft_kit.errors import Problem, UsageError
from sft_kit.identity.names import check_names
from sft_kit.resources import shipped
from sft_kit.run.directory import write_atomic

DEFAULT_RECIPE = "qwen2.5-7b-identity"
Given = tuple[str | None, str | None]  # (as given, English)


def why_not_written(path: Path, *, force: bool) -> Problem | None:
    """Why no config can be written to `path`; `force` allows to replace a file."""
    if path.is_dir():
        return Problem(str(path), "is a directory", "give a file name")
    if path.exists() and not force:
        return Problem(str(path), "is already there", "give another file name, or --force")
    if not path.absolute().parent.is_dir():
        return Problem(str(path), "its directory does not exist", f"mkdir -p {path.parent}")
    return None


def write_first_config(
    path: Path, like: str | None, model: str | None, name: Given, author: Given, *, force: bool
) -> None:
    """Write `path` after the shipped config `like`, with the user's own model, name and author.

    Raises UsageError when the file is there (without `force`), a recipe does not exist, a name cannot be trained
    on, or something is not given and there is no terminal to ask on.
    """
    if wrong := why_not_written(path, force=force):
        raise UsageError(wrong)
    recipe = (like or _recipe_for(model)).removesuffix(".yaml")
    header = f"# Written by sft-kit init after configs/{recipe}.yaml\n"
    yaml = YAML()
    yaml.width = 120
    values = yaml.load(_recipe_text(recipe))
    if model:
        values["model"] = model
    if "identity" in values:
        _fill_identity(values["identity"], name, author)
    elif any((*name, *author)):
        fix = f"start from {DEFAULT_RECIPE}, or edit model_name and model_author in the file"
        raise UsageError(Problem("--like", f"{like} has no identity section for a name", fix))
    text = io.StringIO()
    yaml.dump(values, text)
    body = "\n".join(line for line in text.getvalue().splitlines() if not line.startswith("#"))
    write_atomic(path, header + body + "\n")
    load_config(path)


def _fill_identity(section: Any, name: Given, author: Given) -> None:
    native_name = name[0] or _ask("name", "What shall the model call itself?")
    native_author = author[0] or _ask("author", "Who made it?")
    names = {"zh": native_name, "en": name[1] or native_name}
    authors = {"zh": native_author, "en": author[1] or native_author}
    wrong = [finding for finding in check_names(names, authors) if finding.severity == "error"]  # type: ignore[arg-type]
    if wrong:
        raise UsageError(*{Problem(f"--{f.key.split('.')[0]}", f.message, f.fix) for f in wrong})
    languages = section["languages"]
    if len(languages) > 1 and not (has_cjk(native_name) or has_cjk(native_author)) and not (name[1] or author[1]):
        section["name"], section["author"] = native_name, native_author
        return
    for key, texts in (("name", names), ("author", authors)):
        section[key] = {language: texts[str(language)] for language in languages}


def _ask(option: str, question: str) -> str:
    if not person_is_typing():
        raise UsageError(Problem(f"--{option}", "missing, and there is no terminal to ask on", f"give --{option} TEXT"))
    return ask_text(question)


def _recipe_text(name: str) -> str:
    path = shipped("configs") / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(config.stem for config in shipped("configs").glob("*.yaml")))
        raise UsageError(Problem("--like", f"there is no shipped config {name}", f"there are: {there}"))
    return path.read_text(encoding="utf-8")


def _recipe_for(model: str | None) -> str:
    """The shipped config that trains `model`, else the one for a 24 GB card."""
    for path in sorted(shipped("configs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if model and f"model: {model}\n" in text and "\nidentity:" in text:
            return path.stem
    return DEFAULT_RECIPE
