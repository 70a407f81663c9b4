"""Writes what `msswift.pasted` read from a pasted command as commented configs, and says what was changed.

Owns the text of the configs (YAML with comments on their lines) and the messages. Whether the config is right is
asked of `config.load`, as for any other; what a user has to edit first is an error, after the file is written.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_kit.config.load import load_config
from sft_kit.config.schema import RunConfig
from sft_kit.config.shell import MAX_CHARACTERS, Note, read_script
from sft_kit.config.source import Value, read_source
from sft_kit.console import person_is_typing, say, warn
from sft_kit.data.text import shell_word
from sft_kit.errors import ConfigError, Problem, UsageError
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.msswift.launchers import LeftOut
from sft_kit.msswift.pasted import Entry, NotTraining, Training, is_local_identity, read_pasted
from sft_kit.resources import user_path
from sft_kit.run.directory import write_atomic
from sft_kit.run.first_config import why_not_written

_WIDTH = 118
_SECTIONS = {  # by the first key of each, in the schema's order
    "model": "model",
    "dataset": "data",
    "tuner_type": "tuner",
    "num_train_epochs": "optimisation",
    "output_dir": "saving, validating, logging",
}
_MOST_CONFIGS = 50
_OTHER = "other arguments of ms-swift"


@dataclass(frozen=True)
class _Pasted:
    """What was pasted: its name in messages, the runs in it, the other commands, and the shell's notes."""

    name: str
    trainings: tuple[Training, ...]
    others: tuple[NotTraining, ...]
    notes: tuple[Note, ...]
    left_out: Mapping[int, tuple[str, ...]]  # of a training's line: nohup, > log, &


def write_pasted_configs(path: Path, given: str, *, force: bool) -> tuple[Path, ...]:
    """Write a config for each training command in `given`: TEXT, `@FILE`, or `-` for stdin.

    The first is `path`, the others `path` with -2, -3, ... before its suffix; returns them. Raises UsageError, and
    writes nothing, when there is no such command, a file is there already (without `force`) or a quote is not closed;
    ConfigError, after writing, with every place that has to be edited before the config can train.
    """
    installation = find_installation()
    name, text = _text_of(given)
    pasted = _read(name, text, installation)
    if not pasted.trainings:
        raise UsageError(*_why_nothing(pasted))
    paths = [path, *(path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, len(pasted.trainings) + 1))]
    if wrong := [problem for target in paths if (problem := why_not_written(target, force=force))]:
        raise UsageError(*wrong)
    runs = list(zip(paths, pasted.trainings, strict=True))
    texts = [render(training, target, pasted.name, installation) for target, training in runs]
    _say_notes(pasted)
    problems: list[Problem] = []
    for (target, training), text in zip(runs, texts, strict=True):
        write_atomic(target, text)
        _say_written(target, training, pasted)
        problems += _to_edit(target, training, installation)
    if problems:
        raise ConfigError(*problems)
    return tuple(paths)


# --- reading ---------------------------------------------------------------------------------------------------------


def _text_of(given: str) -> tuple[str, str]:
    """(what messages call it, its text)."""
    if given == "-":
        if person_is_typing():
            say("paste the command, then press Ctrl-D on a line of its own")
        return "stdin", _decoded("stdin", sys.stdin.buffer.read(4 * MAX_CHARACTERS))
    if given.startswith("@"):
        path = user_path(given[1:])
        if not path.is_file():
            raise UsageError(Problem(given[1:] or "@", "no such file", "give --from-command @FILE, or the text itself"))
        with path.open("rb") as file:
            return str(path), _decoded(str(path), file.read(4 * MAX_CHARACTERS))
    if len(given.split()) == 1 and os.path.isfile(user_path(given)):
        raise UsageError(Problem("--from-command", f"{given} is a file", f"to read it, give @{given}"))
    return "command", _decoded("command", given.encode("utf-8", "surrogateescape"))


def _decoded(name: str, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):  # what PowerShell's > writes
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise UsageError(Problem(f"{name}:{line}", message, "save the file as UTF-8")) from error


# A command behind what is a comment to a shell, but root's prompt to a person.
_ROOT = re.compile(
    r"^[ \t]*#[ \t]*(?=(?:\w+=\S*[ \t]+)*(?:swift|python[\d.]*|torchrun|accelerate|deepspeed)[ \t])", re.M
)


def _read(name: str, text: str, installation: Installation) -> _Pasted:
    pasted = _read_once(name, text, installation)
    if pasted.trainings or not _ROOT.search(text):
        return pasted
    again = _read_once(name, _uncommented(text), installation)
    if not again.trainings:
        return pasted
    note = Note(again.trainings[0].line, "the command behind # is taken: # is read as a prompt")
    return _Pasted(again.name, again.trainings, again.others, (*again.notes, note), again.left_out)


def _uncommented(text: str) -> str:
    """`text` without the # before commands and before the lines that go on with them."""
    lines = text.split("\n")
    going = False
    for index, line in enumerate(lines):
        if _ROOT.match(line) or (going and line.lstrip().startswith("#")):
            lines[index] = line = re.sub(r"^[ \t]*#[ \t]?", "", line)
        going = line.rstrip().endswith("\\")
    return "\n".join(lines)


def _read_once(name: str, text: str, installation: Installation) -> _Pasted:
    script = read_script(text, name)
    read: list[Training | NotTraining] = []
    trainings: list[Training] = []
    for command in script.commands:
        read.append(one := read_pasted(command, installation))
        trainings += [one] if isinstance(one, Training) else []
        if len(trainings) > _MOST_CONFIGS:
            message = f"more than {_MOST_CONFIGS} commands that train"
            raise UsageError(Problem(f"{name}:{command.line}", message, "paste those of which you want configs"))
    others = tuple(one for one in read if isinstance(one, NotTraining))
    around = {c.line: c.left_out for c, one in zip(script.commands, read, strict=True) if isinstance(one, Training)}
    return _Pasted(name, tuple(trainings), others, script.notes, around)


def _why_nothing(pasted: _Pasted) -> Iterator[Problem]:
    said = False
    for other in pasted.others:
        place = f"{pasted.name}:{other.line}"
        if other.kind == "refused":
            said = True
            yield Problem(place, f"`{other.shown}` {other.message}", other.fix)
        elif other.kind == "elsewhere":
            said = True
            yield Problem(place, f"`{other.shown}` is not training", other.message)
    if not said:
        fix = "paste the whole line that begins with `swift sft`, or give --from-command @FILE"
        yield Problem(pasted.name, "no `swift sft` command is in it", fix)


# --- messages --------------------------------------------------------------------------------------------------------


def _say_notes(pasted: _Pasted) -> None:
    by_message: dict[str, list[int]] = {}
    for note in pasted.notes:
        by_message.setdefault(note.message, []).append(note.line)
    for message, lines in by_message.items():
        shown = ", ".join(map(str, sorted(set(lines))[:6])) + (", ..." if len(set(lines)) > 6 else "")
        say(f"{pasted.name}:{shown}: {message}")
    ignored = [other for other in pasted.others if other.kind == "ignored"]
    if ignored:
        shown = "; ".join(f"{other.shown} (line {other.line})" for other in ignored[:5])
        say(f"not done: {shown}{' ...' if len(ignored) > 5 else ''}")
    if any(re.match(r"(cd|pushd) ", other.shown) for other in ignored):
        warn(Problem(pasted.name, "cd is not done", "paths in the config count from where you run sft-kit"))
    for other in pasted.others:
        place = f"{pasted.name}:{other.line}"
        if other.kind == "elsewhere":
            say(f"{place}: `{other.shown}` is not training: {other.message}")
        elif other.kind == "refused":
            warn(Problem(place, f"`{other.shown}` {other.message}; no config is made of it", other.fix))


def _say_written(path: Path, training: Training, pasted: _Pasted) -> None:
    say(f"wrote {path} from line {training.line}, written for ms-swift {training.generation} ({training.why})")
    changed = sum(1 for entry in training.entries if entry.comment)
    if changed:
        say(
            f"  {changed} argument{'s are' if changed > 1 else ' is'} called or written otherwise now: see the comments"
        )
    around = pasted.left_out.get(training.line, ())
    if around:
        say(
            f"  {', '.join(around)}: no part of a config (a run keeps sft-kit/train.log); write it around sft-kit train"
        )
    for left in training.left_out:
        if left.doubt:
            warn(Problem(str(path), f"{left.shown} is not carried over", left.reason))
        else:
            say(f"  {left.shown}: {left.reason}")
    for remark in training.remarks:
        say(f"  {remark}")


def _to_edit(path: Path, training: Training, installation: Installation) -> list[Problem]:
    """The places of the written file that keep it from training."""
    source = read_source(path)
    todo: dict[tuple[str, ...], str] = {
        (entry.key,): f"{entry.key}: {entry.todo}" for entry in training.entries if entry.todo
    }
    for name, reason in training.env_todo.items():
        todo["launch", "env", name] = f"launch.env.{name}: {reason}"
    problems: list[Problem] = []
    try:
        load_config(path, (), SwiftKeys(installation))
    except ConfigError as error:
        problems += error.problems
    said = {problem.place for problem in problems}
    left = {source.place(place): text for place, text in todo.items()}
    return problems + [Problem(place, *text.split("; ", 1)) for place, text in left.items() if place not in said]


# --- the file --------------------------------------------------------------------------------------------------------


def render(training: Training, path: Path, name: str, installation: Installation) -> str:
    """The config of `training` as YAML text; `path` and `name` are where it goes and came from."""
    entries = _in_order(training.entries)
    lines = list(_header(training, path, name, installation))
    section = ""
    for entry in entries:
        title = _section(entry.key)
        if title != section:
            if section == "data":
                lines += _identity(training)
            lines += ["", f"# --- {title} ---"]
            section = title
        lines += _entry(entry, training)
    if section == "data":
        lines += _identity(training)
    lines += _launch(training)
    lines += _not_carried_over(training.left_out)
    return "\n".join(lines) + "\n"


def _header(training: Training, path: Path, name: str, installation: Installation) -> Iterator[str]:
    origin = f"a pasted command (line {training.line})" if name in ("command", "stdin") else f"{name}:{training.line}"
    written = f"Written by sft-kit init from {origin}, for ms-swift {training.generation}: it has {training.why}."
    yield f"# {_one_line(written)}"
    shown = _one_line(shell_word(str(path)))
    commands = {f"check {shown}": "looks at the config and its data", f"train {shown}": "trains",
                "infer --adapter latest": "asks the result"}  # fmt: skip
    for command, what in commands.items():
        yield f"#   sft-kit {command:{max(map(len, commands))}}  {what}"
    yield f"# What is not here gets the defaults of the installed ms-swift ({installation.version})."
    for remark in training.remarks:
        yield from _comment(remark)


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    order = {key: place for place, key in enumerate(RunConfig.model_fields)}
    return sorted(entries, key=lambda entry: order.get(entry.key, len(order)))


def _section(key: str) -> str:
    if key not in RunConfig.model_fields:
        return _OTHER
    keys = list(RunConfig.model_fields)
    starts = [start for start in _SECTIONS if keys.index(start) <= keys.index(key)]
    return _SECTIONS[starts[-1]] if starts else _OTHER


def _entry(entry: Entry, training: Training) -> Iterator[str]:
    comment = entry.comment
    data = [str(item) for other in training.entries if other.key == "dataset" for item in _items(other.value)]
    if entry.key in ("model_name", "model_author") and not any("self-cognition" in item for item in data):
        comment = "; ".join(filter(None, (comment, "without effect: it fills only swift/self-cognition")))
    if entry.todo:
        yield from _comment(f"TODO: {entry.todo}")
    yield from _pair(entry.key, entry.value, comment, entry.written)


def _pair(key: str, value: Value, comment: str, written: str = "", indent: str = "") -> Iterator[str]:
    """`key: value  # comment`, the comment above where the line would be too long."""
    first, *rest = _value_lines(key, value, written)
    line = f"{indent}{scalar(key)}:{' ' if first else ''}{first}"
    if comment and (len(line) + len(comment) + 4 > _WIDTH or "\n" in comment):
        yield from (f"{indent}{above}" for above in _comment(comment))
        comment = ""
    yield f"{line}  # {_one_line(comment)}" if comment else line
    yield from (f"{indent}{below}" for below in rest)


def _value_lines(key: str, value: Value, written: str) -> list[str]:
    """What stands behind `key:`, and the lines below it."""
    if value is None:
        return [""]
    if isinstance(value, list):
        if key not in ("dataset", "val_dataset") and sum(len(str(item)) for item in value) < 80:
            return [_flow(value)]
        return ["", *(f"  - {_flow(item)}" for item in value)]
    if isinstance(value, str) and (block := _block(value)):
        return ["|-", *(f"  {line}" if line else "" for line in block)]
    if key in ("dataset", "val_dataset") and isinstance(value, str):
        return ["", f"  - {scalar(value)}"]
    if isinstance(value, float) and re.fullmatch(r"-?\d+(\.\d+)?([eE]-?\d+)?", written) and float(written) == value:
        return [written]
    return [_flow(value)]


def _block(text: str) -> list[str]:
    """The lines of a text that reads best as a block; none where a block would not give it back to the letter."""
    lines = text.split("\n")
    plain = all(line.isprintable() and line == line.rstrip() and not line.startswith(" ") for line in lines)
    return lines if len(lines) > 1 and plain and lines[0] and lines[-1] else []


def _flow(value: Value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key, flow=True)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return scalar(value, flow=True)


_WORDS = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"])


def scalar(value: str | bool | int | float | None, *, flow: bool = False) -> str:
    """One value in YAML, read back to the letter; text without quotes where no reader could take it for another."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    marks = r"[\[\]{},]" if flow else r"[^\s\S]"
    plain = (
        re.match(r"[^\W\d]|/", value)
        and value.isprintable()
        and value == value.strip()
        and not re.search(r":(\s|$)|\s#|[\"'`|>&*!%@?]", value)
        and not re.search(marks, value)
        and value.lower() not in _WORDS
    )
    return value if plain else quoted(value)


def quoted(text: str) -> str:
    """`text` in YAML's double quotes."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    code = ord(char)
    return known or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(_one_line(text), _WIDTH - 4, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _items(value: Value) -> list[Value]:
    return list(value) if isinstance(value, list) else [value]


def _identity(training: Training) -> Iterator[str]:
    """The section that can take the place of the tutorials' identity data, as a comment."""
    entries = {entry.key: entry for entry in training.entries}
    data = [str(item) for item in _items(entries["dataset"].value)] if "dataset" in entries else []
    registered = [item for item in data if "self-cognition" in item]
    local = is_local_identity(training.entries)
    if not (registered or local):
        return
    names: dict[str, list[str]] = {}
    for key in ("model_name", "model_author"):
        if key in entries:
            names[key] = [str(item) for item in _items(entries[key].value)]
    instead = ", ".join([*(registered or ["that file"]), *names])
    yield "#"
    yield from _comment(
        f"sft-kit can write identity rows itself, with questions kept apart to prove the result. Instead of {instead}:"
    )
    yield "# identity:"
    for key, own, example in (("name", "model_name", "YOUR MODEL"), ("author", "model_author", "YOUR TEAM")):
        texts = names.get(own) or [example]
        if len(texts) == 2 and texts[0] != texts[1]:
            shown = "{" + f"zh: {scalar(texts[0], flow=True)}, en: {scalar(texts[1], flow=True)}" + "}"
        else:
            shown = scalar(texts[0])
        yield f"#   {key}: {shown}"


def _launch(training: Training) -> Iterator[str]:
    if training.gpus == 1 and not training.env:
        return
    yield from ("", "# --- how it is started ---", "launch:")
    if training.gpus != 1:
        yield f"  gpus: {training.gpus}"
    if training.env:
        yield "  env:"
    for name, value in training.env.items():
        if name in training.env_todo:
            yield from (f"    {line}" for line in _comment(f"TODO: {training.env_todo[name]}"))
        yield f"    {scalar(name)}: {quoted(value) if not re.match(r'[A-Za-z/]', value) else scalar(value)}"


def _not_carried_over(left_out: Sequence[LeftOut]) -> Iterator[str]:
    if left_out:
        yield from ("", "# --- not carried over ---")
    for left in left_out:
        first, *rest = _comment(f"{left.shown}: {left.reason}")
        yield from (first, *(line.replace("# ", "#   ", 1) for line in rest))
