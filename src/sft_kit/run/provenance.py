"""What a run was made of: the versions of the packages that decide its numbers, and the digests of its data files.

Owns how both are taken and compared. Where they are kept is `directory`'s manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sft_kit import __version__

_PACKAGES = ("ms-swift", "transformers", "peft", "torch", "datasets")


def versions() -> dict[str, str]:
    """The installed version of sft-kit and of every package that a training's numbers depend on."""
    found = {"sft-kit": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def data_digests(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Path, bytes and SHA-256 of those `paths` that are local files."""
    return [
        {"path": str(path.absolute()), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
        if path.is_file()
    ]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_same_file(recorded: Mapping[str, Any], path: Path) -> bool:
    """Whether `path` has the content of a manifest's `data` entry; its size is asked first."""
    try:
        return path.stat().st_size == recorded.get("bytes") and sha256(path) == recorded.get("sha256")
    except OSError:
        return False


def is_as_recorded(recorded: Mapping[str, Any]) -> bool:
    """Whether the file of a manifest's `data` entry is there with the same content."""
    return is_same_file(recorded, Path(str(recorded.get("path"))))
