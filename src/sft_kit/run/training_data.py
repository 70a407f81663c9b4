"""The data a config names: whether it can be had, what the local files of it hold, and what that says about the run.

Owns the way from the entries of `dataset` and `val_dataset` to `DataFile`s and to findings at their places. Does not
own the judging of a file (`data_check`) nor the arithmetic of the mix (`mix`).
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_kit.checks.base_model import BaseModel
from sft_kit.config.schema import RunConfig
from sft_kit.config.source import Source as ConfigSource
from sft_kit.data.text import fold
from sft_kit.errors import Problem, UsageError
from sft_kit.findings import CODES, Finding
from sft_kit.identity.generate import IdentityData
from sft_kit.msswift.dataset_syntax import DatasetEntry, parse_entry
from sft_kit.msswift.hub import (
    hub_problem,
    is_hub_id,
    is_offline,
    looks_like_path,
    only_shares_a_folder,
)
from sft_kit.msswift.install import Installation
from sft_kit.msswift.lengths import Lengths, lengths_of
from sft_kit.plan.mix import Source
from sft_kit.resources import user_path
from sft_kit.run.data_check import DataFile, Judge, check_entry, check_identity
from sft_kit.run.found import Found
from sft_kit.run.mix import mix_findings
from sft_kit.run.token_counts import Measure

_OWN_NAMES = ("custom_dataset_info", "custom_register_path", "external_plugins")


def entries_of(config: RunConfig) -> Iterator[tuple[str, int, str, DatasetEntry]]:
    """(key, index in it, as it is written, taken apart) of every entry of `dataset` and `val_dataset`."""
    for key, entries in (("dataset", config.dataset or []), ("val_dataset", config.val_dataset or [])):
        for index, entry in enumerate(entries):
            yield key, index, entry, parse_entry(entry)


def check_sources(found: Found, environ: Mapping[str, str], *, hugging_face: bool, ask_hub: bool) -> None:
    """Whether there is data at all, and each entry is a file, a folder, or an id that a hub can have."""
    config = found.loaded.config
    extra = config.model_extra or {}
    nothing = not config.dataset and config.identity is None and not extra.get("cached_dataset")
    if nothing and not {"dataset", "identity"} & found.loaded.wrong:
        message = "nothing to train on: no identity and no dataset"
        problem = Problem("", message, "add identity: or dataset:", "nothing-to-train-on")
        found.add(found.problems, "dataset", problem)
    own_names = any(extra.get(key) for key in _OWN_NAMES)
    asked: set[bool] = set()  # one answer tells whether a hub can be reached; ms-swift finds the other ids
    for key, index, written, entry in entries_of(config):
        name, hub = entry.name, hugging_face if entry.hugging_face is None else entry.hugging_face
        if entry.wrong_sample is not None:
            message = f"{written}: {entry.wrong_sample or 'nothing'} behind # is no number of rows"
            problem = Problem("", message, f"write {name}#500, or {name} for all rows", "bad-sample")
            found.add(found.problems, key, problem, index=index)
            continue
        if name and _is_there(name):
            continue
        is_path = looks_like_path(name) and not only_shares_a_folder(name)
        if own_names and not is_path:  # may be a name that the user's own code registers
            continue
        if is_path or not is_hub_id(name, hugging_face=hub):
            fix = _near_file(name) or f"paths are relative to the current directory, {Path.cwd().name}/"
            problem = Problem("", f"{name or repr(written)}: no such file or folder", fix, "no-such-path")
            found.add(found.problems, key, problem, index=index)
        elif ask_hub and hub not in asked and not is_offline(environ, hugging_face=hub):
            asked.add(hub)
            if unreachable := hub_problem(name, "datasets", hugging_face=hub, environ=environ):
                found.add(found.missing, key, unreachable, index=index)


def _near_file(name: str) -> str:
    """`did you mean data/mine.jsonl?`, where a file or folder that is called much like `name` lies in its place."""
    folder = user_path(name or ".").parent
    try:
        there = sorted(os.listdir(folder))
    except OSError:
        return ""
    close = difflib.get_close_matches(Path(name).name, there, n=1, cutoff=0.75)
    return f"did you mean {Path(name).parent / close[0]}?" if close else ""


def _is_there(name: str) -> bool:
    """Whether a file or folder is called `name`; one that cannot even be asked for (a name too long) is not there."""
    try:
        return user_path(name).exists()
    except OSError:
        return False


def lengths_for(
    installation: Installation,
    config: RunConfig,
    model: BaseModel | None,
    folder: Path | None,
) -> Lengths:
    """The token counter of this run; an estimate where the tokenizer is not on this disk (`folder` None)."""
    values = dict(config.swift_values())
    if model is None:
        return lengths_of(installation, config.model or "", None, values)
    values |= {"model_type": model.model_type, "template": model.template}
    return lengths_of(installation, model.source, folder, values)


def renamed_columns(config: RunConfig) -> dict[str, str]:
    """`columns` as a mapping; ms-swift takes JSON text and the name of a JSON file too. Raises UsageError."""
    given: Any = (config.model_extra or {}).get("columns")
    if isinstance(given, str):
        try:
            given = json.loads(Path(given).read_bytes() if os.path.isfile(given) else given)
        except (ValueError, RecursionError):
            given = None if not given.strip() else given
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        raise UsageError(Problem("", f"{given!r} does not say what to call which column", "write {yours: query, ...}"))
    return given


def read_data(
    found: Found, installation: Installation, identity: IdentityData | None, lengths: Lengths, measure: int
) -> list[DataFile]:
    """Every local file of the config, each read to its end, once."""
    config = found.loaded.config
    names = [*identity.spec.name.values(), *identity.spec.author.values()] if identity else []
    columns: dict[str, str] = {}
    with found.at("columns", "wrong-value"):
        columns = renamed_columns(config)
    strategy = config.truncation_strategy or "delete"
    judge = Judge(
        installation,
        Measure(lengths, lengths.max_length, strategy, config.system, measure),
        tuple(names),
        columns,
        config.strict is True,
        frozenset(fold(question.question) for question in identity.held_out) if identity else frozenset(),
    )
    files: list[DataFile] = []
    if identity and config.identity:
        files.append(check_identity(judge, identity, own_templates=config.identity.template is not None))
    read: dict[str, list[DataFile]] = {}
    for key, index, written, entry in entries_of(config):
        path = user_path(entry.name)
        if entry.name and _is_there(entry.name):
            with found.at(key, "unreadable-file", index=index):
                if entry.name not in read:
                    read[entry.name] = check_entry(judge, written, key, index, path)
                files += [replace(file, entry=written, key=key, index=index) for file in read[entry.name]]
    return files


def data_findings(
    found: Found, files: Sequence[DataFile], sources: Sequence[Source], rows_a_step: int
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """(findings, ignored ones) about data and mix; what leaves nothing of a file to train on is never ignored."""
    config, source = found.loaded.config, found.loaded.source
    of_mix = [
        replace(finding, place=source.place(finding.place)) for finding in mix_findings(config, sources, rows_a_step)
    ]
    few = {"few-rows"} if config.identity else set()  # own rows beside identity rows may be few
    of_files = (finding for file in files for finding in file.findings if finding.code not in few)
    every = list(dict.fromkeys([*of_files, *of_mix]))  # a file may serve for training and for validation
    every += _unknown_checks(source)
    fatal = {finding for file in files if not file.kept for finding in file.findings if finding.severity == "error"}
    ignored = tuple(finding for finding in every if finding.code in source.ignored and finding not in fatal)
    return tuple(finding for finding in every if finding not in ignored), ignored


def _unknown_checks(source: ConfigSource) -> Iterator[Finding]:
    """Codes that the config ignores and that no check has."""
    for code, line in source.ignored.items():
        if code not in CODES:
            close = difflib.get_close_matches(code, CODES, n=1)
            fix = f"did you mean {close[0]}?" if close else "`sft-kit check` shows the codes in brackets"
            yield Finding("unknown-check", "warning", f"{source.name}:{line}", f"there is no check {code}", fix)


def check_mix(found: Found, sources: Sequence[Source], written: int) -> None:
    """Whether ms-swift can mix the sources in the shares that the config asks for; `written` files are sft-kit's."""
    config = found.loaded.config
    extra = config.model_extra or {}
    weights = extra.get("interleave_prob")
    if isinstance(weights, list) and len(weights) != (files := written + len(config.dataset or [])) and files > 1:
        own = f", {written} of them written by sft-kit and first in order" if written else ""
        message = f"has {len(weights)} numbers for {files} data sets{own}"
        found.add(
            found.problems, "interleave_prob", Problem("", message, f"give {files} that add up to 1", "mix-conflict")
        )
    if not config.identity or not config.identity.share:
        return
    if weights:
        problem = Problem(
            "", "and interleave_prob both say how much identity there is", "leave one of them out", "mix-conflict"
        )
        found.add(found.problems, "identity.share", problem)
    elif config.streaming:
        fix = "leave streaming out, or write more identity.rows instead"
        found.add(
            found.problems,
            "identity.share",
            Problem("", "with streaming ms-swift repeats no rows", fix, "mix-conflict"),
        )
    elif sources[0].trained is None:
        unknown = [each.name for each in sources[1:] if each.trained is None]
        problem = Problem(
            "",
            f"needs to know how many rows there are of {', '.join(unknown)}",
            f"write {unknown[0]}#500",
            "mix-conflict",
        )
        found.add(found.problems, "identity.share", problem)
