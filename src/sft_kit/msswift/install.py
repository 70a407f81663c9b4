"""Which ms-swift is installed, found without importing it.

Owns the supported range of versions and the two folders that the other modules read (`swift`, `transformers`).
Does not read what is in them.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sft_kit.errors import MissingError, Problem
from sft_kit.resources import read_bounded

Generation = Literal[3, 4]
Verb = Literal["sft", "infer", "export", "deploy"]
"""The `swift` commands that sft-kit starts."""

SUPPORTED = "ms-swift>=3.12,<5"
_OLDEST = (3, 12)
_BEYOND = (5, 0)
_INSTALL = f'install it with: pip install "{SUPPORTED}"'
_LARGEST_METADATA = 4 << 20
_WORD = r"[\w.+!-]{1,64}"  # a version; it becomes part of file names


@dataclass(frozen=True)
class Installation:
    """One ms-swift: its version, the `swift` and `transformers` folders, and the interpreter that runs it."""

    version: str
    generation: Generation
    package: Path
    transformers_package: Path
    python: str


def find_installation(site_packages: Path | None = None) -> Installation:
    """The ms-swift of this interpreter, or of the environment whose site-packages folder is given.

    Raises MissingError when there is none, when `swift` is another project's package (OpenStack's object store has
    that name too), or when the version is not supported. Takes about 1 ms: the version is read from the metadata
    beside the package, because `importlib.metadata` looks through every folder of `sys.path`.
    """
    package = _package("swift", site_packages)
    if package is None:
        raise MissingError(Problem("", "ms-swift is not installed", _INSTALL))
    version = _version(package)
    if version is None:
        message = f"the Python package `swift` at {package} is not ms-swift (OpenStack Swift has the same name)"
        raise MissingError(Problem("", message, f"in an environment of its own, {_INSTALL}"))
    transformers = _package("transformers", site_packages)
    if transformers is None:
        raise MissingError(Problem("", f"ms-swift {version} is installed without transformers", _INSTALL))
    python = sys.executable if site_packages is None else str(site_packages.parents[2] / "bin" / "python")
    return Installation(version, _generation(version), package, transformers, python)


def _package(name: str, site_packages: Path | None) -> Path | None:
    """The folder of an importable package; find_spec of a top-level name looks, and does not import."""
    if site_packages is not None:
        return site_packages / name if (site_packages / name / "__init__.py").is_file() else None
    spec = find_spec(name)
    # A folder without __init__.py (a data folder called `swift` in the working directory) has no origin.
    return Path(spec.origin).parent if spec and spec.origin and spec.submodule_search_locations else None


def _version(package: Path) -> str | None:
    """ms-swift's version; None if the package is not ms-swift's."""
    infos = list(package.parent.glob("ms_swift-*.dist-info"))
    if len(infos) == 1:
        return _first(rf"^Version:[ \t]*({_WORD})[ \t\r]*$", infos[0] / "METADATA") or "unknown"
    if (package / "cli" / "sft.py").is_file():  # an editable install, or a checkout on the path
        return _first(rf"^__version__[ \t]*=[ \t]*['\"]({_WORD})['\"]", package / "version.py") or "unknown"
    return None


def _first(pattern: str, file: Path) -> str | None:
    try:
        text = read_bounded(file, _LARGEST_METADATA).decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1) if found else None


def _generation(version: str) -> Generation:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    found = (int(numbers.group(1)), int(numbers.group(2))) if numbers else None
    if found is None or not _OLDEST <= found < _BEYOND:
        message = f"ms-swift {version} is not supported (sft-kit knows 3.12 and 4.x)"
        raise MissingError(Problem("", message, f'change it with: pip install "{SUPPORTED}"'))
    return 3 if found[0] == 3 else 4
