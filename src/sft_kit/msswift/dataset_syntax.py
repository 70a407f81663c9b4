"""How ms-swift reads one entry of `dataset` or `val_dataset`: `MS::owner/name:subset#500`, `data/mine.jsonl#20`.

Owns that syntax (4.x `swift/dataset/dataset_syntax.py`, 3.x `swift/llm/dataset/loader.py`): what is there under a
longer part of the entry is not taken apart, so that a file may have `#5` or a colon in its name. Does not own whether
an entry can be had (`run.training_data`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_HUBS = {"HF::": True, "MS::": False}
_MOST_DIGITS = 19  # of a number of rows; Python refuses to read one of more than 4,300


@dataclass(frozen=True)
class DatasetEntry:
    """An entry taken apart. `name` is a path or `owner/name`; `hugging_face` what `HF::` or `MS::` says of the hub;
    `sample` the N of `#N`. `wrong_sample` is what stands behind `#` where that is no number of rows."""

    name: str
    hugging_face: bool | None = None
    sample: int | None = None
    wrong_sample: str | None = None


def parse_entry(text: str) -> DatasetEntry:
    """`text` as ms-swift takes it apart; a leading `~` counts as the home folder, which ms-swift does not know."""
    name, hub = text, None
    if not _is_there(name) and name[:4].upper() in _HUBS:
        name, hub = name[4:], _HUBS[name[:4].upper()]
    sample = wrong = None
    if not _is_there(name) and "#" in name:
        name, _, count = name.rpartition("#")
        sample = int(count) if count.isdecimal() and len(count) < _MOST_DIGITS and int(count) > 0 else None
        wrong = None if sample else count
    if not _is_there(name):
        name = name.split(":", 1)[0].strip()
    return DatasetEntry(name, hub, sample, wrong)


def with_home(text: str) -> str:
    """`text` for ms-swift: with the home folder in place of a leading `~`."""
    prefix = text[:4] if text[:4].upper() in _HUBS else ""
    return prefix + os.path.expanduser(text.removeprefix(prefix))


def _is_there(name: str) -> bool:
    return os.path.exists(os.path.expanduser(name))
