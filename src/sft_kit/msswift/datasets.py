"""What one local data file means to the installed ms-swift: which rows it trains, as what, and which it drops.

Owns the rules of `swift/dataset` (4.x) and `swift/llm/dataset` (3.x): which files of a folder are read,
the aliases of columns, one preprocessor for a file by its columns, what fails a whole file. They were read in 3.12.6
and 4.6.0 and are compared with the real ones, row for row, in tests/msswift/test_datasets.py. Does not own the reading
(`data.scan`), what `datasets` makes of values (`shapes`), what a preprocessor makes of a record (`preprocess`), or
whether a trained row is a good one (`data.lint`). A folder that has the name of a registered data set, and a README.md
that configures one, are not known.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from sft_kit.data.pattern import Pattern
from sft_kit.data.scan import Broken, is_list, scan
from sft_kit.errors import Problem, UsageError
from sft_kit.findings import Finding
from sft_kit.msswift.install import Generation
from sft_kit.msswift.preprocess import Conversation as Conversation
from sft_kit.msswift.preprocess import (
    Dropped,
    Verdict,
    alpaca,
    check_rejected_messages,
    check_rejected_response,
    checked_roles,
    conversation_of,
    encoded,
    exchange,
    kind_of,
    order,
)
from sft_kit.msswift.shapes import FLAG, LIST, NULL, NUMBER, OBJECT, TEXT, Cells, Shape, Shapes, as_loaded, is_plain

Kind = Literal["messages", "sharegpt", "alpaca", "query-response", "text", "unknown", "other"]

_EXTENSIONS = ("json", "jsonl", "csv", "txt")
_OTHER_EXTENSIONS = ("parquet", "arrow", "xml")  # ms-swift reads them; sft-kit does not look inside
_FIRST_CHUNK = 10 << 20  # `datasets` decides the columns of a JSON Lines file by its first 10 MB
_MOST_LINES = 20
_MOST_BROKEN = 10_000
MOST_FILES = 100_000

_QUERY = ("query", "prompt", "input", "instruction", "question", "problem")
_RESPONSE = (
    *("response", "answer", "output", "targets", "target", "answer_key", "answers", "solution"),
    *("text", "completion", "content"),
)
_CONVERSATION = ("conversation", "conversations", "messages")
_SYSTEM = {"system": "system", "system_prompt": "system"}
_MEDIA = {
    **{"images": "images", "image": "images", "audios": "audios", "audio": "audios"},
    **{"videos": "videos", "video": "videos"},
}
_MESSAGES_ALIASES = {**_MEDIA, **dict.fromkeys(_CONVERSATION, "messages"), **_SYSTEM}
_RESPONSE_ALIASES = {**_MEDIA, **_SYSTEM, **dict.fromkeys(_QUERY, "query"), **dict.fromkeys(_RESPONSE, "response")}

_COLUMNS = (*_CONVERSATION, *_QUERY, *_RESPONSE, *_SYSTEM, "history")

# Columns that ms-swift keeps beside the conversation.
_KEPT = {
    *("images", "videos", "audios", "tools", "objects", "label", "channel", "margin"),
    *("rejected_response", "rejected_messages", "positive_messages", "negative_messages", "chat_template_kwargs"),
}


class SwiftRow(NamedTuple):
    """One record: what ms-swift trains of it (`messages`), or why it does not (`dropped`, a finding code; `reason`).

    `note` is a finding code where a row is trained in another way than it is written: `nothing-trained` (no answer in
    it), `unanswered-end`, `joined-turns`, `no-question`, `first-of-list`; `reason` then says that in words.
    """

    line: int
    messages: Conversation | None
    dropped: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Reading:
    """A file as ms-swift reads it. `columns` are those of the file, `records` how many it has.

    `fatal` is what makes ms-swift fail on the whole file, so that none of its rows is trained; `rows()` then still
    judges each row by itself. `notes` are warnings and notes about the file (columns that are not used, ...).
    """

    path: Path
    kind: Kind
    columns: tuple[str, ...]
    generation: Generation
    records: int = 0
    fatal: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    _plan: _Plan | None = field(default=None, repr=False, compare=False)

    def rows(self) -> Iterator[SwiftRow]:
        """Every record in the order of the file, judged; reads the file anew. None for a file that is not read."""
        if self._plan is not None:
            yield from _rows(self.path, self._plan)


# --- Files and folders ------------------------------------------------------------------------------------------------

_MODULES = {**dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"), ".csv": "csv", ".tsv": "csv", ".txt": "text"}
_OTHER_MODULES = {".parquet": "parquet", ".arrow": "arrow", ".xml": "xml"}
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_NAMES = {  # of files and folders: a word between separators, as `datasets`' patterns ask for it
    split: Pattern(rf"(?s:(?:.*[-._ 0-9])?(?:{'|'.join(words)})(?:[-._ 0-9].*)?)\Z")
    for split, words in _SPLIT_WORDS.items()
}
_NOT_DATA = {"README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip"}


def files_of(folder: Path) -> list[Path]:
    """The files that ms-swift reads of a local folder, in its order: those of the split `train`, of one kind only.

    `datasets` takes a name with train, test, dev, eval, ... in it (`data_val.jsonl`, `test/a.jsonl`) for a split, and
    then leaves out every file without such a name; the most frequent extension wins; an empty file
    does no harm unless it is the first. No files when it would find none.
    """
    below = ((path.relative_to(folder), path) for path in files_below(folder) if path.name not in _NOT_DATA)
    found = sorted((each for each in below if not _is_hidden(each[0])), key=lambda each: str(each[0]))
    train = _train_split([inside for inside, _ in found])
    names = [path for inside, path in found if inside in train]
    module = _module(names)
    suffixes = {suffix for suffix, each in _all_modules().items() if each == module}
    files = [path for path in names if path.suffix in suffixes]
    return [path for path in files if path is files[0] or path.stat().st_size]


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, without hidden folders; links to folders are not followed.

    Raises UsageError where there are more than 100,000 files and folders, as in `/`: whoever has so many names the
    data among them.
    """
    files, seen = [], 0
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        seen += len(names) + len(folders)
        if seen > MOST_FILES:
            message = f"holds more than {MOST_FILES:,} files and folders, all of which ms-swift would look through"
            raise UsageError(Problem(str(folder), message, "name the data files in it", "unreadable-file"))
        files += [path for name in names if (path := Path(root, name)).is_file()]
    return files


def _all_modules() -> dict[str, str]:
    return {**_MODULES, **_OTHER_MODULES}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _train_split(paths: Sequence[Path]) -> set[Path]:
    named = [(path.parts[:-1], path) for path in paths], [(path.parts[-1:], path) for path in paths]
    for names_of_paths in named:  # what the folders say counts before the file names
        splits = {
            split: {path for names, path in names_of_paths if any(map(pattern.match, names))}
            for split, pattern in _SPLIT_NAMES.items()
        }
        if any(splits.values()):
            return splits["train"]
    return set(paths)


def _module(paths: Sequence[Path]) -> str | None:
    suffixes = Counter(f".{part.lower()}" for path in paths for part in path.name.split(".")[1:])
    favourites = (".parquet", ".jsonl", ".json", ".csv")

    def rank(item: tuple[str, int]) -> tuple[object, ...]:
        suffix, count = item
        return (count, *(suffix == favourite for favourite in favourites), suffix)

    for suffix, _ in sorted(suffixes.items(), key=rank, reverse=True):
        if suffix in _all_modules():
            return _all_modules()[suffix]
    return None


def folder_findings(folder: Path, readings: Sequence[Reading]) -> tuple[Finding, ...]:
    """What makes ms-swift fail on a folder as a whole, given the readings of its `files_of` in order.

    The first file decides the columns of all: one that only a later file has fails them all, and so does a column that
    is text in one and a number in another.
    """
    if not readings:
        message = "ms-swift finds no file in it that it would train on (it takes only the split `train`)"
        fix = "name a file instead of the folder; names with test, eval, dev or val in them are other splits"
        return (Finding("no-files", "error", str(folder), message, fix),)
    filled = [reading for reading in readings if reading.records]
    findings = []
    for reading in filled[1:]:
        extra = [column for column in reading.columns if column not in filled[0].columns]
        if extra:
            message = (
                f"has the columns {', '.join(extra)}, which {filled[0].path.name} lacks; ms-swift reads none of it"
            )
            fix = "name the files one by one in `dataset`, or give them the same columns"
            findings.append(Finding("different-columns", "error", str(reading.path), message, fix))
    return tuple(findings)


# --- The first pass: columns, types, what fails the whole file --------------------------------------------------------


def reading_of(
    path: Path, generation: Generation, columns: Mapping[str, str] | None = None, *, of_folder: bool = False
) -> Reading:
    """How ms-swift reads the file; `columns` is the run's own renaming ({"from": "to"}). Reads it once, streaming.

    `of_folder`: the file is read as one of a folder, which takes a CSV's empty and `NA` cells for missing ones.
    """
    extension = path.suffix[1:]
    place = str(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        message = "is a pipe or a device, not a file; ms-swift looks for a data set of that name on a hub"
        fatal = Finding("unreadable-file", "error", place, message, "write the rows to a file")
        return Reading(path, "unknown", (), generation, fatal=(fatal,))
    if extension in _OTHER_EXTENSIONS:
        note = Finding(
            "not-checked", "note", place, f"a .{extension} file: ms-swift reads it, sft-kit does not check it"
        )
        return Reading(path, "other", (), generation, notes=(note,))
    if extension not in _EXTENSIONS:
        message = f"ms-swift does not read a file with the ending {path.suffix or '(none)'}"
        fatal = Finding("unknown-extension", "error", place, message, _extension_fix(path))
        return Reading(path, "unknown", (), generation, fatal=(fatal,))
    return _first_pass(path, generation, dict(columns or {}), of_folder)


def _looks_like_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def _extension_fix(path: Path) -> str:
    if path.suffix.lower() in (".xlsx", ".xls"):
        return "in Excel save it as CSV UTF-8"
    if path.suffix.lower() == ".tsv":
        return "separate the cells by commas and save it as .csv"
    return f"name it {path.stem}.jsonl, .json or .csv, as what it is"


def _first_pass(path: Path, generation: Generation, columns: Mapping[str, str], of_folder: bool) -> Reading:
    form = _form(path)
    shapes, cells, pass_ = Shapes(), Cells(missing=of_folder) if form == "csv" else None, _Pass()
    last = _first_chunk_line(path) if form == "lines" else None
    see, root = shapes.see, shapes.root
    for line, value in scan(path):
        if type(value) is dict:
            if last is not None and line > last:
                shapes.freeze()
                last = None
            pass_.objects += 1
            see(root, value, line)
            if cells is not None:
                cells.see(value)
        else:
            pass_.take(line, value)
            if len(pass_.broken) == _MOST_BROKEN:
                break  # one is enough for ms-swift to read none of the file
    if cells is not None:
        for name, kind in cells.kinds().items():
            root.fields[name].kinds = kind
    if form == "list" and pass_.is_all_texts():
        shapes.see(root, {"text": "a text"}, 1)
        root.fields["text"].dates = False
    plan = _plan(root, generation, form, columns, cells)
    fatal = (*_broken(path, pass_, generation, form), *_wrong_types(path, shapes, plan), *_wrong_columns(path, plan))
    if not (pass_.objects or pass_.broken or pass_.others):
        empty = Finding(
            "empty-file", "error", str(path), "has no rows; ms-swift fails on it", "fill it or leave it out"
        )
        fatal = (empty,)
    return Reading(
        path,
        plan.kind,
        tuple(root.fields),
        generation,
        pass_.records,
        fatal,
        _notes(path, plan) if not fatal else (),
        plan,
    )


Form = Literal["lines", "list", "csv", "text"]


def _form(path: Path) -> Form:
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".txt":
        return "text"
    try:
        return "list" if is_list(path) else "lines"
    except OSError:
        return "lines"


def _first_chunk_line(path: Path) -> int | None:
    """The last line of the part of a file by which its columns are decided; None if that is all of it."""
    try:
        with path.open("rb") as file:
            chunk = file.read(_FIRST_CHUNK)
            return None if len(chunk) < _FIRST_CHUNK else chunk.count(b"\n") + 1
    except OSError:
        return None


class _Pass:
    """What the first pass saw besides objects."""

    def __init__(self) -> None:
        self.objects = 0
        self.nulls: list[int] = []
        self.broken: list[tuple[int, str]] = []
        self.others: list[tuple[int, object]] = []  # the first few
        self.texts = 0
        self.other_count = 0

    def take(self, line: int, value: object) -> None:
        if isinstance(value, Broken):
            self.broken.append((line, value.message))
        elif value is None:
            self.nulls.append(line)
        else:
            self.other_count += 1
            self.texts += isinstance(value, str)
            if len(self.others) < _MOST_LINES:
                self.others.append((line, value))

    @property
    def records(self) -> int:
        return self.objects + len(self.nulls) + len(self.broken) + self.other_count

    def is_all_texts(self) -> bool:
        return self.texts > 0 and self.texts == self.records


def _broken(path: Path, seen: _Pass, generation: Generation, form: Form) -> Iterator[Finding]:
    place = str(path)
    if seen.broken:
        line, message = seen.broken[0]
        code = "broken-csv" if form == "csv" else "not-utf8" if form == "text" else "broken-json"
        if message.startswith("cannot be read"):
            code = "unreadable-file"
        lines = tuple(number for number, _ in seen.broken[:_MOST_LINES])
        message = f"{message}; ms-swift then reads none of the file"
        yield Finding(code, "error", f"{place}:{line}", message, "correct or remove it", len(seen.broken), lines)
    if form == "list" and (start := _before_list(path)) and (generation == 4 or start == "a byte order mark"):
        message = f"begins with {start}; ms-swift takes a file for a JSON list only if [ is its first character"
        yield Finding("broken-json", "error", place, message, "remove what stands before the [")
    wrong = list(seen.others) if not (form == "list" and seen.is_all_texts()) else []
    nulls = [(line, None) for line in seen.nulls] if form == "list" and generation == 3 else []
    if wrong or nulls:
        lines = tuple(sorted(line for line, _ in [*wrong, *nulls])[:_MOST_LINES])
        rows = (seen.other_count if wrong else 0) + len(nulls)
        message = (
            f"{kind_of((wrong or nulls)[0][1])} stands where an object belongs; ms-swift then reads none of the file"
        )
        fix = 'write each row as {"messages": [...]}'
        yield Finding("not-an-object", "error", f"{place}:{lines[0]}", message, fix, rows, lines)


def _before_list(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(3)
    except OSError:
        return ""
    return "" if start[:1] == b"[" else "a byte order mark" if start == b"\xef\xbb\xbf" else "blanks"


def _wrong_types(path: Path, shapes: Shapes, plan: _Plan) -> Iterator[Finding]:
    place, root = str(path), shapes.root
    same = "give every row of the file the same kind of value there"
    if plan.generation == 3:
        for shape in root.below():
            if shape.conflicting:
                message = f"{shape.path} is {shape.words()}; ms-swift 3 then reads none of the file"
                yield Finding("mixed-types", "error", place, message, same, lines=shape.lines())
    known = set()
    for shape, line in shapes.late(plan.generation) if plan.form == "lines" else ():
        if shape.path not in known and not (plan.generation == 3 and shape.conflicting):
            known.add(shape.path)
            message = f"{shape.path} has a value for the first time, or another kind of value, after the first 10 MB"
            message += "; ms-swift decides the columns before that, and fails or trains it in quotation marks"
            fix = "put such a row first in the file"
            yield Finding("late-types", "error", f"{place}:{line}", message, fix, lines=(line,))
    for shape in root.below() if plan.form == "list" else ():
        if shape.too_big:
            message = f"{shape.path} has a number of more than 64 bits; ms-swift then reads none of the file"
            yield Finding("number-too-big", "error", place, message, "write it as a text, in quotation marks")
    if plan.generation == 3 and len(kinds := plan.text_kinds()) > 1:
        odd = ", ".join(f"{name} is {what}" for name, what in kinds if what != "text")
        message = f"{odd} in every row, not text; ms-swift 3 then reads none of the file"
        yield Finding("not-text", "error", place, message, "write it as a text, in quotation marks")


def _wrong_columns(path: Path, plan: _Plan) -> Iterator[Finding]:
    place = str(path)
    if plan.twice:
        message = f"has two columns that are both `{plan.twice}` to ms-swift, and then fails"
        yield Finding("column-twice", "error", place, message, "remove or rename one of them")
    elif plan.kind == "unknown" and plan.root.fields:
        names = ", ".join(list(plan.root.fields)[:10])
        message = f"has the columns {names}; ms-swift knows none of them and drops every row"
        yield Finding("unknown-columns", "error", place, message, _column_fix(plan.root))


def _column_fix(root: Shape) -> str:
    for name, shape in root.fields.items():
        if name.lower() in _CONVERSATION:
            return f"keep one of {', '.join(_CONVERSATION)}, written in lower case"
        if shape.kinds == LIST and len(root.fields) == 1:
            return f"write the list in `{name}` itself as the file, or one row a line"
        if ";" in name or "\t" in name:
            return "separate the cells by commas"
    return "name them messages, or query and response, or rename them with `columns: {yours: query, ...}`"


def _notes(path: Path, plan: _Plan) -> tuple[Finding, ...]:
    place, notes = str(path), []
    if plan.kind == "text":
        message = "is read as plain text: each line is an answer without a question"
        fix = "rename it to .jsonl" if _looks_like_json(path) else "write JSONL or CSV with query and response"
        notes.append(Finding("plain-text", "warning", place, message, fix))
    if unused := plan.unused():
        alike = [name for name in unused if name.lower() in plan.aliases]
        message = f"ms-swift does not use the columns {', '.join(unused)}"
        meant = {name: close[0] for name in unused if (close := difflib.get_close_matches(name, _COLUMNS, 1, 0.8))}
        if meant and not alike:
            fix = ", ".join(f"did you mean {right} for {wrong}?" for wrong, right in meant.items())
            notes.append(Finding("ignored-columns", "warning", place, message, fix))
            return tuple(notes)
        if alike:
            message = f"ms-swift takes other columns and ignores {', '.join(alike)}"
            notes.append(Finding("ignored-columns", "warning", place, message, "remove or rename what is not meant"))
        else:
            notes.append(Finding("ignored-columns", "note", place, message))
    if plan.generation == 4:
        for name in plan.used():
            for shape in (plan.root.fields[name], *plan.root.fields[name].below()):
                if shape.conflicting:
                    message = f"{shape.path} is {shape.words()}; ms-swift then reads texts like 5 or true as no text"
                    notes.append(Finding("mixed-types", "warning", place, message, "write all of them as texts"))
                elif shape.is_dates and plan.form != "csv":
                    message = f"every text of {shape.path} is a date, which ms-swift reads as dates and not as text"
                    notes.append(Finding("all-dates", "warning", place, message, "write at least one in other words"))
    return tuple(notes)


# --- The plan: which columns become what ------------------------------------------------------------------------------


class _Plan:
    """How the rows of one file become messages."""

    def __init__(
        self,
        root: Shape,
        generation: Generation,
        form: Form,
        kind: Kind,
        names: Mapping[str, str],
        aliases: Mapping[str, str],
        cells: Cells | None,
        twice: str = "",
    ) -> None:
        self.root = root
        self.generation = generation
        self.form = form
        self.kind = kind
        self.names = names  # what ms-swift calls a column -> what the file calls it
        self.aliases = aliases
        self.cells = cells
        self.twice = twice
        self.is_conversation = kind in ("messages", "sharegpt")
        self.loaded = {
            name: root.fields[name]
            for name in self.used()
            if form in ("lines", "list") and not is_plain(root.fields[name], generation, as_list=form == "list")
        }

    def used(self) -> list[str]:
        """The file's names of the columns that become messages."""
        wanted: tuple[str, ...] = ("messages", "system", "rejected_messages", "rejected_response")
        if not self.is_conversation:
            wanted = ("query", "response", "history", "system", "rejected_response")
        if self.kind == "alpaca":
            wanted = ("instruction", "input", "output", "response", "history", "system", "rejected_response")
            if "output" in self.names:
                wanted = tuple(name for name in wanted if name != "response")
        return [self.names[name] for name in wanted if name in self.names]

    def unused(self) -> list[str]:
        used = set(self.used()) | {old for new, old in self.names.items() if new in _KEPT}
        return [name for name in self.root.fields if name not in used]

    def record(self, value: dict[str, object]) -> dict[str, object]:
        """A record under ms-swift's names, with the values that `datasets` hands over."""
        row = {new: value.get(old) for new, old in self.names.items()}
        as_list = self.form == "list"
        for new, old in self.names.items():
            shape = self.loaded.get(old)
            if shape is not None:
                row[new] = as_loaded(row[new], shape, self.generation, as_list=as_list)
            elif self.cells is not None:
                row[new] = self.cells.loaded(old, row[new])
        return row

    def text_kinds(self) -> list[tuple[str, str]]:
        """(column, kind) of all that becomes the content of messages, if they are of several kinds."""
        found: dict[str, str] = {}
        for old in self.used():
            shape = self.root.fields[old]
            name = old
            if self.names.get("messages") == old and shape.item is not None:
                shape = shape.item.fields.get("content") or shape.item.fields.get("value") or shape
                name = shape.path
            kinds = shape.kinds & ~NULL
            if self.kind == "alpaca" and old in ("instruction", "input"):
                kinds = TEXT  # what is no text is dropped, or joined to one
            if kinds in (NUMBER, FLAG):
                found[name] = {NUMBER: "a number", FLAG: "true or false"}[kinds]
            elif kinds == OBJECT and self.names.get("messages") != old:
                found[name] = "an object"
            elif kinds == TEXT and shape.is_dates and self.form == "lines":
                found[name] = "a date"
            elif kinds == TEXT:
                found[name] = "text"
        return list(found.items()) if len(set(found.values())) > 1 else []


def _plan(root: Shape, generation: Generation, form: Form, columns: Mapping[str, str], cells: Cells | None) -> _Plan:
    names: dict[str, str] = {name: name for name in root.fields}
    aliases: Mapping[str, str] = _RESPONSE_ALIASES
    kind: Kind = "query-response"
    try:
        names = _renamed(names, columns)
        if any(name in names for name in _CONVERSATION):
            aliases, kind = _MESSAGES_ALIASES, "messages"
        elif "instruction" in names and "input" in names:
            kind = "alpaca"
        names = _renamed(names, aliases)
    except _ColumnTwice as error:
        return _Plan(root, generation, form, "unknown", names, aliases, cells, str(error))
    if kind == "messages":
        kind = _kind_of_messages(root, names)
    elif kind == "query-response":
        if not names.keys() & {"query", "response", "history"}:
            kind = "unknown"
        elif list(root.fields) == ["text"]:
            kind = "text"
    return _Plan(root, generation, form, kind, names, aliases, cells)


def _kind_of_messages(root: Shape, names: Mapping[str, str]) -> Kind:
    if "messages" not in names:
        return "unknown"
    item = root.fields[names["messages"]].item
    keys = item.fields.keys() if item else set()
    return "sharegpt" if keys and not keys & {"role", "content"} else "messages"


class _ColumnTwice(Exception):
    pass


def _renamed(names: Mapping[str, str], aliases: Mapping[str, str]) -> dict[str, str]:
    """ms-swift's `safe_rename_columns`: aliases in any case; two columns for one name cancel each other."""
    lower = {name.lower(): name for name in names}
    matched = {lower[alias.lower()]: new for alias, new in aliases.items() if alias.lower() in lower}
    counts = Counter(matched.values())
    renamed: dict[str, str] = {}
    for name, old in names.items():
        new = matched.get(name, name)
        new = name if counts[new] > 1 else new
        if new in renamed:
            raise _ColumnTwice(new)
        renamed[new] = old
    return renamed


# --- The second pass: row by row --------------------------------------------------------------------------------------


def _rows(path: Path, plan: _Plan) -> Iterator[SwiftRow]:
    """Every row judged. What nearly all files are, messages of two keys each and nothing else, takes a shortcut."""
    judge = _Judge(plan)
    column, role, content = judge.shortcut or ("", "", "")
    known = judge.known.get
    for line, value in scan(path):
        if column and type(value) is dict:
            messages: list[dict[str, str]] | None = value.get(column)
            if messages:
                try:
                    verdict = known(tuple([message[role] for message in messages]))
                    texts = [message[content] for message in messages]
                except (KeyError, TypeError):  # the file is not what it was at the first reading
                    verdict = None
                if verdict is not None:
                    roles, reason, note = verdict
                    yield SwiftRow(line, (*zip(roles, texts, strict=True),), "", reason, note)
                    continue
        yield judge.row(line, value)


class _Judge:
    """The rows of one file; it remembers the orders of roles that it saw, of which a file has few."""

    _MOST_ORDERS = 10_000

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._orders: dict[tuple[str, ...], Verdict] = {}
        self.shortcut = _two_keys(plan)
        # The roles as the file writes them -> as ms-swift does, and what to say of it; of rows that are not dropped.
        self.known: dict[tuple[str, ...], tuple[tuple[str, ...], str, str]] = {}

    def row(self, line: int, value: object) -> SwiftRow:
        plan = self._plan
        if isinstance(value, Broken):
            return SwiftRow(line, None, "broken-csv" if plan.form == "csv" else "broken-json", value.message)
        if isinstance(value, str) and plan.kind == "text":
            value = {"text": value}
        if not isinstance(value, dict):
            return SwiftRow(line, None, "not-an-object", f"{kind_of(value)} stands where an object belongs")
        try:
            return self._row(line, plan.record(value))
        except Dropped as drop:
            return SwiftRow(line, None, drop.code, drop.reason)

    def _row(self, line: int, row: dict[str, object]) -> SwiftRow:
        plan = self._plan
        if plan.kind == "unknown":
            raise Dropped("unknown-columns", "none of the columns is one that ms-swift knows")
        if plan.is_conversation:
            messages = conversation_of(row.get("messages"), row.get("system"), plan.generation)
            check_rejected_messages(row, plan.generation)
        else:
            messages = exchange(alpaca(row) if plan.kind == "alpaca" else row)
        check_rejected_response(row, messages)
        roles = checked_roles(messages)
        conversation = encoded(roles, messages)
        verdict = self._orders.get(roles) or order(roles, plan.generation)
        if verdict.dropped:
            raise Dropped(verdict.dropped, verdict.reason)
        if len(self._orders) < self._MOST_ORDERS:
            self._orders[roles] = verdict
            if self.shortcut is not None and "tool_call" not in roles:
                self.known[tuple(str(role) for role, _ in messages)] = (roles, verdict.reason, verdict.note)
        if not plan.is_conversation and isinstance(row.get("response"), list):
            return SwiftRow(
                line, conversation, "", "the answer is a list: ms-swift takes its first item", "first-of-list"
            )
        return SwiftRow(line, conversation, "", verdict.reason, verdict.note)


def _two_keys(plan: _Plan) -> tuple[str, str, str] | None:
    """The column of the messages and their two keys, where all messages of the file are of this one shape."""
    if not plan.is_conversation or plan.loaded or plan.cells is not None or len(plan.used()) > 1:
        return None
    column = plan.names["messages"]
    shape = plan.root.fields[column]
    item = shape.item
    if shape.kinds & ~NULL != LIST or item is None or item.kinds != OBJECT or not item.uniform:
        return None
    for role, content in (("role", "content"), ("from", "value")):
        if item.fields.keys() == {role, content} and item.fields[role].kinds == item.fields[content].kinds == TEXT:
            return column, role, content
    return None
