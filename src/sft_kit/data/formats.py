"""Rows on disk: messages, Alpaca and ShareGPT, as JSON or JSONL.

Owns reading and writing without loss. What a written file means to ms-swift was read in its
`AlpacaPreprocessor` and `MessagesPreprocessor` (4.6.0): Alpaca's `instruction` and `input` are joined by a
newline, `history` holds earlier (question, answer) pairs, `system` is a column of its own; ShareGPT is
`conversations` with `from` human/gpt/system. Does not judge whether a row is good to train on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from sft_kit.data.rows import Message, Role, Row, disorder
from sft_kit.errors import Problem, UsageError
from sft_kit.writes import not_written, put_in_place

Format = Literal["messages", "alpaca", "sharegpt"]

FORMATS: tuple[Format, ...] = get_args(Format)

# How many problems of one file are told: enough to see the pattern, few enough to read.
_MOST_PROBLEMS = 20

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
}
_SHAREGPT_NAMES: dict[Role, str] = {"system": "system", "user": "human", "assistant": "gpt"}


def write_rows(path: Path, rows: Iterable[Row], fmt: Format = "messages") -> None:
    """Write `rows` to `path` in UTF-8 with real characters: one JSON list for `.json`, one row a line otherwise.

    The file appears whole or not at all, and only after what was written has been read back and found equal.
    Raises UsageError when `fmt` cannot hold a row (Alpaca needs question and answer in turn).
    """
    rows = list(rows)
    encode = _ENCODERS[fmt]
    records = [encode(row, f"{path}: row {index}") for index, row in enumerate(rows, 1)]

    def read_back(written: Path) -> None:
        if read_rows(written) != rows:
            raise UsageError(Problem(str(path), f"the rows do not survive the {fmt} format", "use --format messages"))

    write_records(path, records, check=read_back)


def write_records(path: Path, records: Sequence[object], *, check: Callable[[Path], None] | None = None) -> None:
    """Write JSON values to `path` as `write_text` does: a list for `.json`, else one a line."""
    if path.suffix == ".json":
        text = "[\n" + ",\n".join("  " + json.dumps(r, ensure_ascii=False) for r in records) + "\n]\n"
    else:
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    write_text(path, text, check=check)


def write_text(path: Path, text: str, *, check: Callable[[Path], None] | None = None) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all; `check` sees the file before it takes its place.

    Raises UsageError for a lone surrogate, which UTF-8 cannot hold, and for a place that cannot be written to.
    """
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(Problem(str(path), f"a text is not Unicode: {error.reason}", "remove it")) from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(path, content, check)
    except OSError as error:
        raise not_written(path, error, len(content)) from None


def read_rows(path: Path) -> list[Row]:
    """All rows of a messages, Alpaca or ShareGPT file, JSON list or JSONL; the format is seen from the keys.

    Raises UsageError with `path:line: ...` for each row that cannot be read, up to 20 of them.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for line, record in read_records(path):
        try:
            rows.append(_decode(record))
        except ValueError as error:
            problems.append(Problem(f"{path}:{line}", str(error)))
            if len(problems) == _MOST_PROBLEMS:
                break
    if problems:
        raise UsageError(*problems)
    return rows


def read_records(path: Path) -> list[tuple[int, object]]:
    """The JSON values of a JSON list or a JSONL file, each with the line it starts on (counted from 1).

    Raises UsageError naming the line of the first thing that is not JSON, and for a file that is not there.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(Problem(str(path), f"is not UTF-8: {error.reason} at byte {error.start}")) from None
    except OSError as error:
        raise UsageError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    if text.lstrip().startswith("["):
        return _json_list(path, text)
    records: list[tuple[int, object]] = []
    # Only "\n" ends a line of JSONL: splitlines() would cut at U+2028 inside a text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            records.append((number, _json(path, line, number)))
    return records


def _json(path: Path, text: str, first_line: int) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{first_line + error.lineno - 1}:{error.colno}"
        raise UsageError(Problem(place, f"is not JSON: {error.msg}")) from None
    except (ValueError, RecursionError) as error:
        why = "is nested too deeply" if isinstance(error, RecursionError) else "has a number of too many digits"
        raise UsageError(Problem(f"{path}:{first_line}", f"{why} to be read")) from None


def _json_list(path: Path, text: str) -> list[tuple[int, object]]:
    """Elements of a JSON list with their lines, by decoding one element at a time."""
    values = cast("list[object]", _json(path, text, 1))
    decoder = json.JSONDecoder()
    spaces = " \t\r\n,"
    lines: list[int] = []
    position, line, counted = text.index("[") + 1, 1, 0
    for _ in values:
        while text[position] in spaces:
            position += 1
        line += text.count("\n", counted, position)
        counted = position
        lines.append(line)
        _, position = decoder.raw_decode(text, position)
    return list(zip(lines, values, strict=True))


def _decode(record: object) -> Row:
    """A row from one record of any known format; ValueError says what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError(f"is a {type(record).__name__}, not an object with messages or instruction/output")
    for key in ("messages", "conversations", "conversation"):
        if key in record:
            messages = _decode_messages(record[key], key, record.get("system"))
            break
    else:
        if "instruction" in record or "output" in record:
            messages = _decode_alpaca(record)
        else:
            keys = ", ".join(sorted(map(str, record))) or "no keys"
            raise ValueError(f"has {keys}; expected messages, conversations or instruction/output")
    wrong = disorder(messages)
    if wrong:
        raise ValueError(wrong)
    return Row(messages)


def _decode_messages(value: object, key: str, system: object) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    messages: list[Message] = []
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise ValueError(f"{key}[{index}] is not an object")
        role = _ROLES.get(str(item.get("role", item.get("from"))))
        if role is None:
            raise ValueError(f"{key}[{index}] has the role {item.get('role', item.get('from'))!r}")
        content = item.get("content", item.get("value"))
        if not isinstance(content, str):
            raise ValueError(f"{key}[{index}] has no text in its content")
        messages.append(Message(role, content))
    if system is not None and not (messages and messages[0].role == "system"):
        messages.insert(0, Message("system", _text(system, "system")))
    return tuple(messages)


def _decode_alpaca(record: dict[str, object]) -> tuple[Message, ...]:
    messages: list[Message] = []
    if record.get("system") is not None:
        messages.append(Message("system", _text(record["system"], "system")))
    history = record.get("history") or []
    if not isinstance(history, list):
        raise ValueError("history is not a list")
    for index, pair in enumerate(history):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise ValueError(f"history[{index}] is not a pair of question and answer")
        messages.append(Message("user", _text(pair[0], f"history[{index}]")))
        messages.append(Message("assistant", _text(pair[1], f"history[{index}]")))
    instruction = _text(record.get("instruction") or "", "instruction")
    extra = _text(record.get("input") or "", "input")
    messages.append(Message("user", f"{instruction}\n{extra}" if instruction and extra else instruction or extra))
    if "output" not in record:
        raise ValueError("has an instruction but no output")
    messages.append(Message("assistant", _text(record["output"], "output")))
    return tuple(messages)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text")
    return value


def _encode_messages(row: Row, place: str) -> dict[str, object]:
    _refuse_disorder(row, place)
    return {"messages": [{"role": m.role, "content": m.content} for m in row.messages]}


def _encode_sharegpt(row: Row, place: str) -> dict[str, object]:
    _refuse_disorder(row, place)
    return {"conversations": [{"from": _SHAREGPT_NAMES[m.role], "value": m.content} for m in row.messages]}


def _encode_alpaca(row: Row, place: str) -> dict[str, object]:
    _refuse_disorder(row, place)
    *history, (question, answer) = row.exchanges
    record: dict[str, object] = {"instruction": question, "input": "", "output": answer}
    if row.system is not None:
        record["system"] = row.system
    if history:
        record["history"] = [list(pair) for pair in history]
    return record


def _refuse_disorder(row: Row, place: str) -> None:
    wrong = disorder(row.messages)
    if wrong:
        raise UsageError(Problem(place, wrong))


_ENCODERS: dict[Format, Callable[[Row, str], dict[str, object]]] = {
    "messages": _encode_messages,
    "alpaca": _encode_alpaca,
    "sharegpt": _encode_sharegpt,
}
