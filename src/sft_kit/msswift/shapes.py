"""What `datasets` infers of the values of a file, which decides what ms-swift gets to see of them.

Owns the rules of its JSON and CSV builders that were measured with datasets 3.6 and 4.8 (pyarrow 26, pandas 2.3 and
3.1): objects of one place are one struct with the union of their keys; texts and numbers in one place fail the whole
file in 3.6, and are re-read as JSON in 4.8; texts that are all dates become dates; what appears after the first 10 MB
does not fit any more. Does not know which columns ms-swift uses (`datasets`).
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator

from sft_kit.msswift.install import Generation

NULL, TEXT, NUMBER, FLAG, LIST, OBJECT = 1, 2, 4, 8, 16, 32
_KIND: dict[type, int] = {
    type(None): NULL,
    str: TEXT,
    int: NUMBER,
    float: NUMBER,
    bool: FLAG,
    list: LIST,
    dict: OBJECT,
}
_WORDS = {TEXT: "text", NUMBER: "a number", FLAG: "true or false", LIST: "a list", OBJECT: "an object"}

# What pyarrow takes for a date or a time (timestamp[s]): no fraction of a second, no time zone.
_DATE = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[ T](?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d)?)?)?"
).fullmatch
_MANY_DIGITS = 2**63


class Shape:
    """The values seen in one place of the records: a column, a key of its objects, the items of its lists."""

    __slots__ = (
        *("dates", "fields", "first", "frozen", "item", "kinds", "late", "parent", "path", "seen", "too_big"),
        "uniform",
    )

    def __init__(self, path: str = "", parent: Shape | None = None) -> None:
        self.path = path
        self.parent = parent
        self.kinds = 0
        self.first: dict[int, int] = {}  # kind -> the first line that has it
        self.fields: dict[str, Shape] = {}  # the keys of its objects
        self.item: Shape | None = None  # the items of its lists
        self.frozen: bool | None = None  # `mixed` at the end of the first 10 MB, which then is decided
        self.seen = False  # an object
        self.uniform = True  # whether all objects have the same keys
        self.dates = True  # whether every text is a date
        self.late: list[tuple[Shape, int]] = parent.late if parent is not None else []
        self.too_big = False

    @property
    def mixed(self) -> bool:
        """Whether 4.x keeps this place as JSON: values of several kinds, or objects with different keys."""
        return self.frozen if self.frozen is not None else self.conflicting or not self.uniform

    @property
    def conflicting(self) -> bool:
        kinds = self.kinds & ~NULL
        return bool(kinds & (kinds - 1))

    @property
    def is_dates(self) -> bool:
        return bool(self.kinds & TEXT) and self.dates

    def words(self) -> str:
        """`text on line 1, a number on line 7`: the kinds of a place and where each is first."""
        kinds = sorted((line, kind) for kind, line in self.first.items() if kind != NULL)
        return ", ".join(f"{_WORDS[kind]} on line {line}" for line, kind in kinds)

    def lines(self) -> tuple[int, ...]:
        return tuple(sorted(line for kind, line in self.first.items() if kind != NULL))

    def below(self) -> Iterator[Shape]:
        """The places in it, from the outside to the inside."""
        for child in (*self.fields.values(), *([self.item] if self.item else [])):
            yield child
            yield from child.below()


class Shapes:
    """The shape of a whole file, record by record. `freeze` marks the end of the first 10 MB."""

    def __init__(self) -> None:
        self.root = Shape()
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True
        for shape in self.root.below():
            shape.frozen = shape.mixed

    def late(self, generation: Generation) -> list[tuple[Shape, int]]:
        """The places that get a kind of value, or appear at all, only after the first 10 MB, with the line."""
        return [(shape, line) for shape, line in self.root.late if generation == 3 or not _within_json(shape)]

    def see(self, shape: Shape, value: dict[str, object], line: int) -> None:
        """Take in one object. The hot loop of the first pass: about 1 microsecond for a short conversation."""
        fields = shape.fields
        for key, item in value.items():
            child = fields.get(key)
            if child is None:
                child = self._new(shape, key, line)
            kind = _KIND[type(item)]
            if not kind & child.kinds:
                self._add(child, kind, line)
            if kind == TEXT:
                if child.dates and _DATE(item) is None:  # type: ignore[call-overload]
                    child.dates = False
            elif kind == OBJECT:
                self.see(child, item, line)  # type: ignore[arg-type]
            elif kind == LIST:
                self._see_list(child, item, line)  # type: ignore[arg-type]
            elif type(item) is int and not -_MANY_DIGITS <= item < _MANY_DIGITS * 2:
                child.too_big = True
        if len(value) != len(fields) or not value:
            shape.uniform = False
        shape.seen = True

    def _see_list(self, shape: Shape, value: list[object], line: int) -> None:
        child = shape.item
        if child is None:
            child = shape.item = Shape(f"{shape.path}[]", shape)
        for item in value:
            kind = _KIND[type(item)]
            if not kind & child.kinds:
                self._add(child, kind, line)
            if kind == OBJECT:
                self.see(child, item, line)  # type: ignore[arg-type]
            elif kind == LIST:
                self._see_list(child, item, line)  # type: ignore[arg-type]
            elif kind == TEXT and child.dates and _DATE(item) is None:  # type: ignore[call-overload]
                child.dates = False

    def _new(self, shape: Shape, key: str, line: int) -> Shape:
        child = shape.fields[key] = Shape(f"{shape.path}.{key}" if shape.path else key, shape)
        if shape.seen:
            shape.uniform = False
        if self._frozen:
            shape.late.append((child, line))
        return child

    def _add(self, shape: Shape, kind: int, line: int) -> None:
        if self._frozen and kind != NULL and (not shape.late or shape.late[-1][0] is not shape):
            shape.late.append((shape, line))
        shape.kinds |= kind
        shape.first.setdefault(kind, line)


def _within_json(shape: Shape) -> bool:
    """Whether 4.x keeps this place, or one around it, as JSON, which takes anything."""
    above: Shape | None = shape
    while above is not None:
        if above.frozen:
            return True
        above = above.parent
    return False


def is_plain(shape: Shape, generation: Generation, *, as_list: bool) -> bool:
    """Whether ms-swift gets the values of a place as they are in the file."""
    return not any(
        (each.is_dates and _has_dates(generation, as_list)) or (each.mixed if generation == 4 else not each.uniform)
        for each in (shape, *shape.below())
    )


def _has_dates(generation: Generation, as_list: bool) -> bool:
    return generation == 4 or not as_list  # pandas, which reads a list in 3.x, leaves them texts


def as_loaded(value: object, shape: Shape | None, generation: Generation, *, as_list: bool) -> object:
    """A value as `datasets` hands it to ms-swift."""
    if shape is None or value is None:
        return value
    if generation == 4 and shape.mixed:
        return _as_json(value)
    if isinstance(value, str):
        return _date(value) if shape.is_dates and _has_dates(generation, as_list) else value
    if isinstance(value, list):
        return [as_loaded(each, shape.item, generation, as_list=as_list) for each in value]
    if isinstance(value, dict):
        fields = shape.fields.items()
        return {key: as_loaded(value.get(key), child, generation, as_list=as_list) for key, child in fields}
    return value


def _as_json(value: object) -> object:
    """A place kept as JSON: a text that is JSON itself comes back as what it stands for."""
    if isinstance(value, float) and value != value:
        return None
    if not isinstance(value, str):
        return value
    try:
        read: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(read, int) and abs(read) >= _MANY_DIGITS * 2 else read


def _date(text: str) -> object:
    try:
        return datetime.datetime.fromisoformat(text if len(text) != 13 else f"{text}:00")
    except ValueError:
        return text


class Cells:
    """What pandas makes of the columns of a CSV: a column of nothing but numbers, or of true and false, is no text.

    `missing`: whether empty cells and words like NA count as missing, as they do where ms-swift reads a folder.
    """

    _NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*|[+-]?inf(?:inity)?", re.IGNORECASE).fullmatch
    _FLAG = re.compile(r"true|True|TRUE|false|False|FALSE").fullmatch
    _MISSING = frozenset(
        {
            *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
            *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
        }
    )
    _ROWS = 10_000  # decide the kind of a column

    def __init__(self, *, missing: bool = False) -> None:
        self._missing = self._MISSING if missing else frozenset[str]()
        self._kinds: dict[str, int] = {}
        self._rows = 0

    def see(self, row: dict[str, str]) -> None:
        self._rows += 1
        if self._rows > self._ROWS:
            return
        for name, cell in row.items():
            kind = self._kinds.get(name)
            if kind != TEXT and cell not in self._missing:
                found = NUMBER if self._NUMBER(cell) else FLAG if self._FLAG(cell) else TEXT
                self._kinds[name] = found if kind in (None, found) else TEXT

    def kinds(self) -> dict[str, int]:
        """The columns that are not texts."""
        return {name: kind for name, kind in self._kinds.items() if kind != TEXT}

    def loaded(self, column: str, cell: object) -> object:
        """A cell as `datasets` hands it to ms-swift."""
        if cell is None or cell in self._missing:
            return None
        kind = self._kinds.get(column)
        return float(str(cell)) if kind == NUMBER else str(cell).lower() == "true" if kind == FLAG else cell
