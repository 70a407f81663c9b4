"""`preview`: the exact prompts that ms-swift will train on, for one model or several, and which of their tokens train.

Owns which rows are looked at, what each model is asked with, and how a row is drawn. What is true of a row comes from
ms-swift itself (`msswift.encode`), in one child process for all models and rows, from tokenizer files alone: a model
directory needs no weights here, and of a hub model only the small files are downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from statistics import median
from typing import Any, get_args

from sft_kit.checks.base_model import BaseModel, locate_model
from sft_kit.checks.trust import allow, refuse_traps
from sft_kit.config.load import load_config
from sft_kit.config.schema import RunConfig
from sft_kit.console import Mark, print_marked, print_table, result, result_json, say, warn, working
from sft_kit.data.text import BIDI, INVISIBLE
from sft_kit.errors import MsSwiftError, Problem, UsageError
from sft_kit.models.catalog import is_own_model, resolve_own_model
from sft_kit.models.trust import own_code_of, without_own_code
from sft_kit.msswift.checkpoints import architecture, kind_of
from sft_kit.msswift.command import swift_argv
from sft_kit.msswift.dataset_syntax import parse_entry
from sft_kit.msswift.datasets import Conversation, files_of, reading_of
from sft_kit.msswift.dialect import translate_model_type
from sft_kit.msswift.encode import ENCODE_WORKER, EncodedModel, EncodedRow, Fate, Piece, encode
from sft_kit.msswift.hub import uses_hugging_face
from sft_kit.msswift.install import Generation, Installation, find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.resources import user_path
from sft_kit.run.found import Found
from sft_kit.run.prepare import SECRET_VARIABLES, identity_data
from sft_kit.run.process import start
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import temporary_log
from sft_kit.run.targets import Trust
from sft_kit.run.training_data import check_sources, renamed_columns

SCHEMA_VERSION = 1
MEASURED = 100
"""Rows of each source whose tokens are counted; the rows that are shown are the first of them, or spread over them."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_LONGEST_SHOWN = 800  # characters of one piece; the middle of a longer one is left out
# Arguments that have no say in the prompt, and would need weights, a GPU, or files that are not there yet.
_NOT_ABOUT_PROMPTS = frozenset({
    "dataset", "val_dataset", "cached_dataset", "cached_val_dataset", "output_dir", "hub_token", "deepspeed", "fsdp",
    "quant_method", "quant_bits", "device_map", "max_memory", "attn_impl", "torch_dtype", "tuner_backend", "report_to",
    "per_device_train_batch_size", "gradient_accumulation_steps", "resume_from_checkpoint", "adapters",
})  # fmt: skip
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
LEGEND = "⟦trained on⟧  the rest is only read  ⏎ end of a line  ␣ space at an edge  ⇥ tab"


@dataclass(frozen=True)
class Sample:
    """A row of the training data: where it is from, and its messages. `shown` rows are drawn, all are counted."""

    source: str
    place: str
    messages: tuple[tuple[str, str], ...]
    shown: bool

    @property
    def system(self) -> str | None:
        """The row's own system prompt."""
        return self.messages[0][1] if self.messages and self.messages[0][0] == "system" else None


@dataclass(frozen=True)
class Summary:
    """Of all rows counted: tokens (least, median, most), the share that trains, what max_length does to how many."""

    tokens: tuple[int, int, int]
    trained: float
    fates: Mapping[Fate, int]
    failed: int


def preview(
    path: Path, overrides: Sequence[str], models: Sequence[str], rows: int, *, as_json: bool, trust: bool = False
) -> None:
    """Show `rows` rows of each source of the config at `path`, as each of `models` (default: its own) would train them.

    `trust` lets the models run their own code; a config that ignores `remote-code` does it too.
    Raises UsageError for a config, a model or data that cannot be previewed, MissingError for a model that no hub has,
    and MsSwiftError, after the other models were shown, when ms-swift cannot make a template for one.
    """
    installation = find_installation()
    loaded = load_config(path, overrides, SwiftKeys(installation))
    config = loaded.config
    names = list(dict.fromkeys(models)) or ([config.model] if config.model else [])
    if not names:
        raise UsageError(Problem("", "there is no model to preview", "add model: to the config, or give --model"))
    environ = {**os.environ, **config.launch.env}
    hugging_face = uses_hugging_face(config.use_hf, environ)
    found = Found(loaded)
    check_sources(found, environ, hugging_face=hugging_face, ask_hub=False)
    columns: dict[str, str] = {}
    with found.at("columns", "wrong-value"):
        columns = renamed_columns(config)
    found.raise_if_any()
    samples = _samples(config, rows, installation.generation, columns)
    trusting = Trust(trust or "remote-code" in loaded.source.ignored)
    located = [_locate(name, environ, trusting, hugging_face=hugging_face) for name in names]
    argvs = [_argv(installation, config, model) for model in located]
    if config.hub_token:
        environ[SECRET_VARIABLES[hugging_face]] = config.hub_token
    if all(model.local for model in located):  # with a token ms-swift logs in first, which fails without a network
        environ = {name: value for name, value in environ.items() if name not in SECRET_VARIABLES.values()}
    # no GPU is needed, and one that is training must not lose memory to a look at the data
    environ |= {} if trusting.given else without_own_code()
    environ |= {"CUDA_VISIBLE_DEVICES": "", **({"USE_HF": "1"} if config.use_hf else {})}
    messages = [[{"role": role, "content": content} for role, content in sample.messages] for sample in samples]
    show = [index for index, sample in enumerate(samples) if sample.shown]
    with signals_as_interrupts(), temporary_log("preview") as log:
        argv = (installation.python, *ENCODE_WORKER)
        with start(argv, log=log, env=environ, pipes=True) as process, working("asking ms-swift for the prompts"):
            answers = list(encode(process, argvs, messages, show, log=log))
        encoded = [(name, answer) for name, answer in zip(names, answers, strict=True)]
        _show(config, samples, [(name, a) for name, a in encoded if isinstance(a, EncodedModel)], as_json=as_json)
        failed = [
            Problem(name, problem.message, problem.fix)
            for name, answer in encoded
            if isinstance(answer, MsSwiftError)
            for problem in answer.problems
        ]
        if failed:
            raise MsSwiftError(*failed, returncode=1)


def _samples(config: RunConfig, rows: int, generation: Generation, columns: Mapping[str, str]) -> list[Sample]:
    """Rows of every source that can be read here, in the order of training. Raises UsageError when there are none."""
    samples = list(_identity_samples(config, rows))
    for entry in config.dataset or []:
        path = user_path(parse_entry(entry).name)
        if not path.exists():
            warn(f"{entry}: not on this machine, so its rows are not shown; ms-swift downloads it when it trains")
            continue
        trained = _trained_rows(files_of(path) if path.is_dir() else [path], generation, columns)
        for index, (place, talk) in enumerate(islice(trained, max(rows, MEASURED))):
            samples.append(Sample(entry, place, talk, index < rows))
    if config.replay:
        say("replay rows are left out: the base model answers them when training starts")
    if not samples:
        fix = "add identity:, or a local file with rows under dataset:"
        raise UsageError(Problem("", "there are no rows to preview", fix))
    return samples


def _trained_rows(
    files: Sequence[Path], generation: Generation, columns: Mapping[str, str]
) -> Iterator[tuple[str, Conversation]]:
    """The rows that ms-swift trains of `files`, each with its line; what it drops is `check`'s to tell."""
    for file in files:
        reading = reading_of(file, generation, columns)
        for finding in reading.fatal:
            warn(finding.problem())
        for row in () if reading.fatal else reading.rows():
            if row.messages is not None:
                yield f"{file.name}:{row.line}" if len(files) > 1 else f"line {row.line}", row.messages


def _identity_samples(config: RunConfig, rows: int) -> Iterator[Sample]:
    section = config.identity
    if section is None:
        return
    made = identity_data(section).rows
    shown = set(_spread(len(made), rows))
    for index in sorted(shown.union(_spread(len(made), MEASURED))):
        talk = tuple((m.role, m.content) for m in made[index].row.messages)
        yield Sample("identity", f"row {index + 1} of {len(made)}", talk, index in shown)


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices spread evenly over `count`, the first one included."""
    return [index * count // min(wanted, count) for index in range(min(wanted, count))]


def _locate(name: str, environ: Mapping[str, str], trust: Trust, *, hugging_face: bool) -> BaseModel:
    """As `locate_model`, but a directory needs its tokenizer and config only. One of our own models is made first."""
    folder = user_path(name)
    if is_own_model(name):
        resolve_own_model(name, say)
    if is_own_model(name) or not folder.is_dir():
        model = locate_model(name, hugging_face=hugging_face, environ=environ)
        if not model.local:
            trust.vet_of_hub(name, environ, hugging_face=hugging_face)
        return model
    refuse_traps(folder)
    if kind_of(folder) != "model":
        if kind_of(folder) == "adapter":
            raise UsageError(Problem(name, "is an adapter, not a full model", "give its base model"))
        raise UsageError(Problem(name, "has no config.json", "give the folder of a model"))
    has_tiktoken = any(file.suffix in (".tiktoken", ".model") for file in folder.iterdir())
    if not has_tiktoken and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise UsageError(Problem(name, "has no tokenizer files", "copy tokenizer.json and tokenizer_config.json there"))
    allow(own_code_of(folder), trusted=trust.given, say=trust.say)
    return BaseModel(name, str(folder), True, architecture=architecture(folder))


def _argv(installation: Installation, config: RunConfig, model: BaseModel) -> list[str]:
    """The run's own arguments of `swift sft` for `model`; the config's model_type and template are for its own."""
    values: dict[str, Any] = {k: v for k, v in config.swift_values().items() if k not in _NOT_ABOUT_PROMPTS}
    own = model.name == config.model
    given = translate_model_type(
        config.model_type if own else None,
        config.template if own else None,
        installation.generation,
        architecture=model.architecture,
    )
    values["model"] = model.source
    values["model_type"] = given.model_type or model.model_type
    values["template"] = given.template or model.template
    return swift_argv(installation, "sft", values)


def _show(
    config: RunConfig, samples: Sequence[Sample], models: Sequence[tuple[str, EncodedModel]], *, as_json: bool
) -> None:
    if as_json:
        values = [_values(name, model, samples, notes_of(model, config)) for name, model in models]
        result_json({"schema": SCHEMA_VERSION, "models": values})
        return
    if models:
        print_marked([[(LEGEND, "faint")]])
    for name, model in models:
        print_marked(drawn(name, model, samples, config))
    if len(models) > 1:
        result("")
        print_table("", TABLE, [table_row(name, model, samples, config) for name, model in models], whole=1)
        print_marked([[(TABLE_LEGEND, "faint")]])


def summary_of(rows: Sequence[EncodedRow]) -> Summary:
    """What all rows of one model come to; rows that ms-swift cannot encode count as failed only."""
    encoded = [row for row in rows if not row.error]
    lengths = [row.length for row in encoded] or [0]
    tokens = sum(len(row.input_ids) for row in encoded if row.fate != "dropped")
    trained = sum(row.trained for row in encoded if row.fate != "dropped")
    fates: dict[Fate, int] = {fate: sum(row.fate == fate for row in encoded) for fate in get_args(Fate)}
    spread = (min(lengths), round(median(lengths)), max(lengths))
    return Summary(spread, trained / tokens if tokens else 0.0, fates, len(rows) - len(encoded))


def notes_of(model: EncodedModel, config: RunConfig) -> list[str]:
    """What a person should know of a model's prompts before training on them."""
    notes = []
    if model.empty_thought:
        learned = "not trained" if "ignore_empty_think" in model.loss_scale else "trained"
        thought = _visible(model.empty_thought)
        notes.append(f"puts {thought} before answers without a thought ({learned})")
    if config.system is not None and not model.takes_system:
        notes.append("its template has no place for a system prompt")
    if config.identity and model.template_default and model.system == model.template_default:
        notes.append("trains under the template's own system prompt; set system: for yours")
    errors = dict.fromkeys(row.error for row in model.rows if row.error)
    if errors:
        count = sum(bool(row.error) for row in model.rows)
        notes.append(f"{_rows(count)} cannot be encoded and will be left out: {next(iter(errors))[:200]}")
    return notes


TABLE = ("model", "template", "system", "tokens", "trained", "too long")
TABLE_LEGEND = "system: prompt of rows without one, its tokens; tokens: least/median/most"


def table_row(name: str, model: EncodedModel, samples: Sequence[Sample], config: RunConfig) -> tuple[str, ...]:
    """One model's line of the comparison."""
    summary = summary_of(model.rows)
    costs = [
        row.length - row.without_system
        for sample, row in zip(samples, model.rows, strict=True)
        if sample.system is None and row.without_system is not None
    ]
    whose = "none" if not model.system else "own" if config.system is None else "config"
    system = f"{whose} +{costs[0]}" if model.system and costs else whose
    too_long = _too_long(summary) or "none"
    return name, model.template, system, _spread_text(summary), f"{summary.trained:.0%}", too_long


def _spread_text(summary: Summary) -> str:
    return "/".join(f"{count:,}" for count in summary.tokens)


def _rows(count: int) -> str:
    return f"{count:,} row" + ("" if count == 1 else "s")


def _too_long(summary: Summary) -> str:
    """`2 dropped`; empty when every row fits."""
    return ", ".join(f"{summary.fates[f]:,} {f}" for f in get_args(Fate) if f != "kept" and summary.fates[f])


Line = list[tuple[str, Mark]]
_INDENT: tuple[str, Mark] = ("  ", "plain")


def drawn(name: str, model: EncodedModel, samples: Sequence[Sample], config: RunConfig) -> list[Line]:
    """One model's shown rows, what all of its rows come to, and what else to know, line by line."""
    lines: list[Line] = [[], [(name, "heading"), (f"  template {model.template}", "plain")]]
    for sample, row in zip(samples, model.rows, strict=True):
        if not sample.shown:
            continue
        lines += [[], [(f"{sample.source}, {sample.place}: ", "heading"), (_counted(row, model), "plain")]]
        if not row.error:
            lines.append([(_system_line(sample, row, model, config.system), "faint")])
            lines += ([_INDENT, *line] for line in marked_lines(_as_trained(row)))
    summary = summary_of(model.rows)
    limit = f"max_length {model.max_length:,}" if model.max_length else "any max_length"
    counted = f"{_rows(len(model.rows))} counted: {_spread_text(summary)} tokens (least/median/most)"
    lines += [[], [(f"{counted}, {summary.trained:.0%} trained", "plain")]]
    lines.append([(f"over {limit}: {_too_long(summary) or 'none'}", "plain")])
    lines += ([(f"note: {note}", "plain")] for note in notes_of(model, config))
    return lines


def _as_trained(row: EncodedRow) -> Sequence[Piece]:
    """The row's pieces; of a dropped row nothing is trained, whatever its labels."""
    if row.fate != "dropped":
        return row.pieces
    return [replace(piece, trained=False, weight=0.0) for piece in row.pieces]


def _counted(row: EncodedRow, model: EncodedModel) -> str:
    if row.error:
        return f"ms-swift cannot encode it and will leave it out: {row.error}"
    limit = f"{model.max_length:,}" if model.max_length else ""
    what = {
        "kept": "",
        "dropped": f", over max_length {limit}: DROPPED, nothing of it is trained",
        "truncated": f", over max_length {limit}: cut, {len(row.input_ids):,} tokens stay",
        "split": f", over max_length {limit}: split into parts",
    }[row.fate]
    trained = "" if row.fate == "dropped" else f", {row.trained:,} trained"
    return f"{row.length:,} tokens{trained}{what}"


def _system_line(sample: Sample, row: EncodedRow, model: EncodedModel, config_system: str | None) -> str:
    """`system prompt: the template's own, 41 tokens: You are ...`"""
    if sample.system is not None:
        whose, text = "the row's own", sample.system
    elif config_system is not None:
        whose, text = "the config's", model.system or ""
    else:
        whose, text = "the template's own", model.system or ""
    if not text:
        said = "none" if model.takes_system else "none: the template has no place for one"
        return f"system prompt: {said}" + ("" if whose == "the template's own" else f" ({whose} is empty)")
    cost = "" if row.without_system is None else f", {row.length - row.without_system} tokens"
    without = "" if row.without_system is None else f"; without it the row has {row.without_system:,}"
    return f"system prompt: {whose}{cost}{without}"


def marked_lines(pieces: Sequence[Piece]) -> list[Line]:
    """A row as lines that can be read without colour: what is trained stands in ⟦ ⟧, on each line anew.

    A weight other than 1 stands behind the bracket (`⟦×2 `); line ends, tabs, and spaces at an edge are made visible.
    """
    lines: list[Line] = []
    for cells in _cells(pieces):
        line: Line = []
        for (trained, weight), group in groupby(cells, lambda piece: (piece.trained, piece.weight)):
            members = [(piece.text, piece.special) for piece in group]
            members[-1] = (_SPACES_AT_END.sub(_spaces, members[-1][0]), members[-1][1])
            if trained:
                members[0] = (_SPACES_AT_START.sub(_spaces, members[0][0]), members[0][1])
                line.append(("⟦" if weight == 1 else f"⟦×{weight:g} ", "bracket"))
            for text, special in members:
                line.append((_visible(text), "special" if special else "trained" if trained else "plain"))
            if trained:
                line.append(("⟧", "bracket"))
        lines.append(line)
    return lines


_SPACES_AT_START = re.compile(r"^ +")
_SPACES_AT_END = re.compile(r" +(?=\n?$)")


def _spaces(found: re.Match[str]) -> str:
    return "␣" * len(found[0])


def _cells(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The pieces line by line: each line keeps its line end."""
    line: list[Piece] = []
    for piece in pieces:
        for part in _LINE.findall(_shortened(piece.text)):
            line.append(Piece(part, piece.trained, piece.special, piece.tokens, piece.weight))
            if part.endswith("\n"):
                yield line
                line = []
    if line:
        yield line


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return text
    half = _LONGEST_SHOWN // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍"} | {c: f"⟨U+{ord(c):04X}⟩" for c in BIDI | INVISIBLE})


def _visible(text: str) -> str:
    return text.translate(_VISIBLE)


def _values(name: str, model: EncodedModel, samples: Sequence[Sample], notes: Sequence[str]) -> dict[str, Any]:
    """One model for `--json`: everything that is shown, with the ids and labels of the shown rows."""
    values = {key: value for key, value in asdict(model).items() if key not in ("rows", "model")}
    rows = [
        {"source": sample.source, "place": sample.place, "messages": [list(message) for message in sample.messages]}
        | asdict(row)
        | {"trained": row.trained}
        for sample, row in zip(samples, model.rows, strict=True)
        if sample.shown
    ]
    return {
        "model": name,
        **values,
        "counted_rows": len(model.rows),
        **asdict(summary_of(model.rows)),
        "notes": list(notes),
        "rows": rows,
    }
