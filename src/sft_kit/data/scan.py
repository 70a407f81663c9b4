"""The records of a data file one after the other, in bounded memory, each with the line it starts on.

Owns the reading of a JSON list, JSON Lines, CSV and plain text as `datasets` reads them, which is what ms-swift
uses (pyarrow for JSON Lines, ujson for a list, pandas for CSV). A record that cannot be read is a value here, not an
exception: a check goes on and tells all of them. Does not know what a record means (`msswift.datasets`).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sft_kit.data.text import has_cjk

_CHUNK = 1 << 20
_BOM = codecs.BOM_UTF8
_SPACE = " \t\r\n"
_BLANK = frozenset({b"\n", b"\r\n"})
_LONGEST = 16 << 20  # bytes of a record; read and judged it takes some ten times as much memory
_TOO_LONG = "has a row of more than 16 MB, which no model can be trained on"
_ADVICE = "save it as UTF-8"
_ZIP = b"PK\x03\x04"  # .xlsx is a zip archive
_TOO_DEEP = "is nested too deeply to be read"
_HALF_SURROGATE = "has half of a surrogate pair (\\ud800 to \\udfff alone), which is no character"

# pyarrow refuses control characters in a text, ujson takes them.
_LINES = json.JSONDecoder()
_LIST = json.JSONDecoder(strict=False)
# Half a surrogate pair can only come from an escape.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Broken:
    """In place of a record that cannot be read; `message` says why, and follows `path:line: ` well."""

    message: str


Scanned = tuple[int, object]
"""One record: the line it starts on (counted from 1) and its value, or `Broken`."""


def scan(path: Path) -> Iterator[Scanned]:
    """The records of `path`: by its name a CSV (objects of texts, keyed by the header) or a text file (one
    `{"text": ...}` a line); any other is JSON, a list if its first character is `[`, else one value after the other.

    Holds one record (of a CSV, row) in memory, and of a JSON list 1 MB besides. After a `Broken` the reading goes on
    with the next line where there is one to be found: in JSON Lines and, for a row of the wrong width, in CSV.
    Never raises for what is in the file; a file that cannot be opened is one `Broken`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head == _ZIP:
                yield 1, Broken("is an Excel workbook or an archive, whatever its name; in Excel save it as CSV UTF-8")
                return
            if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in head:
                yield 1, Broken(f"is not UTF-8 but UTF-16 or no text at all; {_ADVICE}")
                return
            file.seek(len(_BOM) if head.startswith(_BOM) else 0)
            suffix = path.suffix.lower()
            read = {".csv": _csv, ".txt": _text}.get(suffix) or (_list if _is_list(file) else _values)
            yield from read(file)
    except OSError as error:
        yield 1, Broken(f"cannot be read: {error.strerror}")


def is_list(path: Path) -> bool:
    """Whether `scan` reads the file as a JSON list. Raises OSError."""
    with path.open("rb") as file:
        file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
        return _is_list(file)


def _is_list(file: BinaryIO) -> bool:
    start = file.tell()
    while chunk := file.read(_CHUNK):
        if text := chunk.lstrip():
            file.seek(start)
            return text.startswith(b"[")
    file.seek(start)
    return False


def _values(file: BinaryIO) -> Iterator[Scanned]:
    """JSON Lines; a value may also go over several lines, and a line may hold several values."""
    lines = _Lines(file)
    decode = _LINES.raw_decode
    for number, raw in lines:
        if raw in _BLANK:  # before the parser raises for it: a file may hold millions
            continue
        try:
            text = raw.decode()
            value, end = decode(text)
            if text[end:] in ("\n", "", "\r\n") and "\\ud" not in text and "\\uD" not in text:
                yield number, value
                continue
        except (ValueError, RecursionError):
            pass
        if len(raw) == _LONGEST and not raw.endswith(b"\n"):
            yield number, Broken(_TOO_LONG)
            return  # the next line may be gigabytes away
        if not raw.strip(_SPACE.encode()):
            continue
        yield from _unusual(number, raw, lines)


class _Lines:
    """The numbered lines of a file, of which some may be put back."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = enumerate(iter(partial(file.readline, _LONGEST), b""), 1)
        self._ahead: deque[tuple[int, bytes]] = deque()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            while self._ahead:
                yield self._ahead.popleft()
            for numbered in self._lines:
                yield numbered
                if self._ahead:
                    break
            else:
                return

    def put_back(self, lines: list[tuple[int, bytes]]) -> None:
        self._ahead.extendleft(reversed(lines))


def _unusual(number: int, raw: bytes, lines: _Lines) -> Iterator[Scanned]:
    """What a line holds that is not just one value: nothing, several, the beginning of a longer one, or no JSON."""
    taken: list[tuple[int, bytes]] = []  # lines read ahead, as the rest of this one
    text, position = "", 0
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        yield number, Broken(_not_utf8(error, f" at byte {error.start} of the line"))
        return
    while (position := _after_space(text, position)) < len(text):
        line = number + text.count("\n", 0, position)
        try:
            value, end = _LINES.raw_decode(text, position)
        except json.JSONDecodeError as error:
            # Lines are read ahead in twos, fours, ...: a long value is not parsed once for each of its lines.
            more = [item for _, item in zip(range(len(taken) + 1), lines, strict=False)] if _is_cut(error) else []
            added = _decoded(more)
            if added is not None and more:
                taken += more
                text += added
                continue
            lines.put_back(more)
            lines.put_back([item for item in taken if item[0] > line])
            yield line, Broken(_not_json(error))
            return
        except (ValueError, RecursionError) as error:
            yield line, Broken(_why(error))
            return
        half = _SURROGATE_ESCAPE.search(text, position, end) and _has_half_surrogate(value)
        yield line, Broken(_HALF_SURROGATE) if half else value
        last = number + text.count("\n", 0, end)
        lines.put_back([item for item in taken if item[0] > last])
        taken = [item for item in taken if item[0] <= last]
        newline = text.find("\n", end)
        text, position = (text if newline < 0 else text[: newline + 1]), end


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _is_cut(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip(_SPACE))


def _not_utf8(error: UnicodeDecodeError, where: str) -> str:
    """What the bytes are instead, where that can be told; Chinese Windows programs write GBK and call it ANSI."""
    try:
        is_gbk = has_cjk(bytes(error.object).decode("gbk"))
    except UnicodeDecodeError:  # of another encoding, or cut in the middle of a character
        is_gbk = False
    if is_gbk:
        return f"is not UTF-8 but GBK (Notepad's ANSI){where}; {_ADVICE}, or: iconv -f gbk -t utf-8"
    return f"is not UTF-8: {error.reason}{where}; {_ADVICE}"


def _decoded(lines: list[tuple[int, bytes]]) -> str | None:
    try:
        return b"".join(raw for _, raw in lines).decode()
    except UnicodeDecodeError:
        return None


def _not_json(error: json.JSONDecodeError) -> str:
    if _is_cut(error):
        return "is not JSON: it ends in the middle"
    reason = error.msg.removesuffix(" at")
    return f"is not JSON: {reason} at {_excerpt(error.doc, error.pos)!r}"


def _excerpt(text: str, position: int) -> str:
    """What stands there, to the end of the line at most."""
    return text[position : position + 20].split("\n")[0].rstrip() or text[position]


def _why(error: Exception) -> str:
    return _TOO_DEEP if isinstance(error, RecursionError) else "has a number of more digits than can be read"


def _has_half_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _without_half_surrogates(value: object) -> object:
    """As ujson reads a list: it leaves out what is no character."""
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode()
    if isinstance(value, list):
        return [_without_half_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_half_surrogates(key): _without_half_surrogates(item) for key, item in value.items()}
    return value


def _list(file: BinaryIO) -> Iterator[Scanned]:
    """The elements of a JSON list, one at a time."""
    window = _Window(file)
    window.mark()
    window.position += 1  # the bracket
    comma, first = False, True
    while True:
        mark = window.mark()
        line = window.line()
        if mark == "":
            yield line, Broken(window.broken or "is not JSON: the list is not closed, its ] is missing")
            return
        if mark == "]" and not comma:
            window.position += 1
            if window.mark() or window.broken:
                yield window.line(), Broken(window.broken or "is not JSON: the file goes on after the list")
            return
        if mark == "]":
            yield line, Broken("is not JSON: a comma stands before the closing ]")
            return
        if not first and not comma:
            if mark != ",":
                yield line, Broken(f"is not JSON: a comma is missing before {_excerpt(window.text, window.position)!r}")
                return
            window.position += 1
            comma = True
            continue
        try:
            value = window.value()
        except json.JSONDecodeError as error:
            yield line, Broken(window.broken or _not_json(error))
            return
        except (ValueError, RecursionError) as error:
            yield line, Broken(_why(error))
            return
        yield line, value
        comma, first = False, False


class _Window:
    """The part of a text that is being decoded; it grows only while a value is cut off at its end."""

    _SPACES = re.compile(r"[ \t\r\n]*")
    _LONGEST_TOKEN = 12  # an escaped pair of surrogates: an error this near to the end may be a token cut in two

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size = _CHUNK
        self._line, self._counted = 1, 0  # the line at text[_counted]
        self._ended = False
        self.text = ""
        self.position = 0
        self.broken = ""  # why the text ends before the file does

    def mark(self) -> str:
        """The next character that is no space, where `position` then is; "" at the end."""
        while True:
            self.position = self._SPACES.match(self.text, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.text) or not self._more():
                return self.text[self.position : self.position + 1]

    def value(self) -> object:
        """The JSON value at `position`, which then is behind it. Raises what the decoder raises."""
        while True:
            try:
                value, end = _LIST.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - self._LONGEST_TOKEN
                if cut and self._more():
                    continue
                raise
            if end == len(self.text) and self._more():  # a number may go on
                continue
            if _SURROGATE_ESCAPE.search(self.text, self.position, end):
                value = _without_half_surrogates(value)
            self.position = end
            return value

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    def _more(self) -> bool:
        """Read on, twice as much as the last time if that was not enough for one value; False at the end."""
        if self._ended:
            return False
        self.line()
        self._size = self._size * 2 if self.position == 0 and self.text else _CHUNK
        if len(self.text) - self.position > _LONGEST:
            self.broken, self._ended = _TOO_LONG, True
            return False
        pending = self._decoder.getstate()[0]
        raw = self._file.read(self._size)
        self._ended = not raw
        try:
            added = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            added = (pending + raw)[: error.start].decode()
            at = self._file.tell() - len(pending + raw) + error.start
            line = self._line + self.text.count("\n", self.position) + added.count("\n")
            self.broken = _not_utf8(error, f" at byte {at} of the file, line {line}")
            self._ended = True
        self.text = self.text[self.position :] + added
        self.position = self._counted = 0
        return bool(added)


def _text(file: BinaryIO) -> Iterator[Scanned]:
    for number, raw in enumerate(iter(partial(file.readline, _LONGEST), b""), 1):
        if len(raw) == _LONGEST and not raw.endswith(b"\n"):
            yield number, Broken(_TOO_LONG)
            return
        try:
            yield number, {"text": raw.decode().removesuffix("\n").removesuffix("\r")}
        except UnicodeDecodeError as error:
            yield number, Broken(_not_utf8(error, f" at byte {error.start} of the line"))


def _csv(file: BinaryIO) -> Iterator[Scanned]:
    """Rows as pandas reads them with `na_filter=False`: every cell a text, missing cells at the end empty.

    Where the first row has more cells than the header, the first ones of every row are an index and not data.
    """
    csv.field_size_limit(1 << 30)  # for the whole process: it has no other use for the limit of 131,072 characters
    source = _CsvLines(file)
    rows = csv.reader(source)
    header: list[str] | None = None
    width = 0
    while True:
        source.start()
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield source.first, Broken(f"is not CSV: {error}")
            return
        except _TooLong:
            yield source.first, Broken(_TOO_LONG)
            return
        except UnicodeDecodeError as error:
            yield source.first, Broken(_not_utf8(error, ", on this line or soon after"))
            return
        if cells is None:
            return
        if source.cut:
            yield source.first, Broken("is not CSV: a quotation mark opens and is never closed")
            return
        if not cells:
            continue
        if header is None:
            header = _told_apart(cells)
            continue
        width = width or max(len(header), len(cells))
        if len(cells) > width:
            message = f"has {len(cells)} cells where {width} belong; a text with a comma in it needs quotation marks"
            yield source.first, Broken(message)
            continue
        cells += [""] * (width - len(cells))
        yield source.first, dict(zip(header, cells[width - len(header) :], strict=True))


class _TooLong(Exception):
    pass


class _CsvLines:
    """The lines that the CSV reader takes. `first` is that of the row it is at; `cut` says that the file ends within
    it: the reader asks for another line only where a quotation mark is open, and takes the end for that of the text."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._characters = 0
        self._number = 0
        self.first = 1
        self.cut = False

    def start(self) -> None:
        self._characters = 0
        self.first = self._number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_LONGEST)
        if not line:
            self.cut = self._characters > 0
            raise StopIteration
        self._number += 1
        self._characters += len(line)
        if self._characters >= _LONGEST:
            raise _TooLong
        return line


def _told_apart(header: list[str]) -> list[str]:
    """Column names as pandas tells equal ones apart: name, name.1, name.2."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        count = seen.get(name, 0)
        seen[name] = count + 1
        names.append(f"{name}.{count}" if count else name)
    return names
