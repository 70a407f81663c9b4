"""What loading a directory would run, and what in it is not what its name says.

Reads the directory's own listing and small files; nothing is imported, unpickled or waited for. Judges nothing
(`checks.trust`). Owns, too, the environment in which transformers cannot run a model's own code, whoever asks it to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sft_kit.models.directory import (
    CONFIGS,
    LARGEST_CONFIG,
    LARGEST_INDEX,
    ModelDirectory,
    kind_of_file,
    read_directory,
)
from sft_kit.resources import cache_dir

_CONFIGS = (*CONFIGS, "adapter_config.json", "args.json")
_MOST_FILES = 100
_DEEPEST = 3  # folders below the model's own
_BLOCK = 1 << 20
_BLOCKED = "own-code-of-models-needs--trust-remote-code"
_NOWHERE = Path(os.devnull, _BLOCKED)  # a folder that nobody can make


@dataclass(frozen=True)
class CodeFile:
    """A Python file of a model: its path, bytes, lines and sha256."""

    path: Path
    size: int
    lines: int
    sha256: str


@dataclass(frozen=True)
class OwnCode:
    """Python that a model brings. `classes` are what `auto_map` names in its files; `elsewhere` are those that are
    fetched from another repository of a hub, as `owner/name--module.Class`. `files` are in the directory itself."""

    path: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    elsewhere: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.files or self.classes or self.elsewhere)

    def described(self) -> Iterator[CodeFile]:
        """The files, and those of the folders below, which they can import."""
        for file in islice(_python_files(self.path, _DEEPEST), _MOST_FILES):
            digest, size, lines = hashlib.sha256(), 0, 0
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    size, lines = size + len(block), lines + block.count(b"\n")
            yield CodeFile(file, size, lines, digest.hexdigest())


def own_code(directory: ModelDirectory) -> OwnCode:
    """The Python of `directory`; false where it brings none."""
    elsewhere = tuple(name for name in directory.remote if "--" in name)
    classes = tuple(name for name in directory.remote if "--" not in name)
    return OwnCode(directory.path, directory.code, classes, elsewhere)


def own_code_of(folder: Path) -> OwnCode:
    """As `own_code`, of a folder that was not looked into yet."""
    return own_code(read_directory(folder))


def odd_entries(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, what is odd) of entries that nobody should open: to read a named pipe is to wait for ever, and JSON of
    gigabytes is read into memory as a whole."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        try:
            what, size = kind_of_file(folder / name), (folder / name).stat().st_size
        except OSError:  # a link to nothing
            continue
        if what and what != "a folder":
            yield name, f"is {what}, not a file"
        elif not what and size > _largest(name):
            yield name, f"has {size:,} bytes, more than such a file can have"


def _largest(name: str) -> float:
    if name in _CONFIGS:
        return LARGEST_CONFIG
    return LARGEST_INDEX if name.endswith((".json", ".jinja")) else float("inf")


def without_own_code() -> dict[str, str]:
    """Variables for a process that loads models: transformers cannot import a model's own code in it.

    ms-swift 3.x and 4.x pass `trust_remote_code=True` always. transformers copies such code to
    `$HF_MODULES_CACHE/transformers_modules` and imports it from there (dynamic_module_utils.py, 4.57 and 5.19): here
    that folder is a file. datasets and modelscope keep theirs beside it, which they make without need.
    """
    place = cache_dir() / _BLOCKED
    block = place / "transformers_modules"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(block):
            with block.open("x", encoding="utf-8") as file:
                file.write("Code that models bring is not run: see docs/security.md of sft-kit.\n")
    except FileExistsError:  # another sft-kit was faster
        pass
    except OSError:
        place = _NOWHERE
    return {"HF_MODULES_CACHE": str(_NOWHERE if block.is_dir() else place)}


def _python_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith(".py") and entry.is_file():
            yield Path(entry.path)
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _python_files(Path(entry.path), depth - 1)
