"""Python source read as text: which module defines a name, and a disk cache for what was learnt from it.

Owns `ast` over an installation's files and the cache's validity. Does not know what is looked for: `arguments` and
`model_types` do.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from sft_kit import __version__
from sft_kit.msswift.install import Installation
from sft_kit.resources import cache_dir, keep_in_cache, kept_in_cache

T = TypeVar("T")


@dataclass(frozen=True)
class Module:
    """One parsed file: its classes, what its names were imported from, and where it lies."""

    name: str
    path: Path
    tree: ast.Module
    classes: dict[str, ast.ClassDef]
    imports: dict[str, tuple[str, str]]  # local name -> (module, name there)


class Sources:
    """The source files of one installation, each read at most once. `read` holds every file looked at."""

    def __init__(self, installation: Installation) -> None:
        self._roots = {"swift": installation.package, "transformers": installation.transformers_package}
        self._site = installation.package.parent
        self._modules: dict[str, Module | None] = {}
        self.read: list[Path] = []

    def module(self, name: str) -> Module | None:
        """The module of that dotted name, or None if its source is not there."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def find_class(self, module: Module, name: str) -> tuple[Module, ast.ClassDef] | None:
        """The class that `name` means inside `module`, followed through `from ... import ... [as ...]`."""
        seen: set[tuple[str, str]] = set()
        while (module.name, name) not in seen:
            seen.add((module.name, name))
            if name in module.classes:
                return module, module.classes[name]
            if name not in module.imports:
                return None
            home, name = module.imports[name]
            # transformers' own __init__ is lazy and long; the few classes we meet live in modules named after them.
            target = self.module(_TRANSFORMERS_HOMES.get(name, home) if home == "transformers" else home)
            if target is None:
                return None
            module = target
        return None

    def _parse(self, name: str) -> Module | None:
        top, *rest = name.split(".")
        base = self._roots.get(top, self._site / top).joinpath(*rest)
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                self.read.append(path)
                tree = ast.parse(path.read_bytes())
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                statements = list(_top_level(tree.body))
                classes = {s.name: s for s in statements if isinstance(s, ast.ClassDef)}
                imports = {
                    alias.asname or alias.name: (_absolute(s, package), alias.name)
                    for s in statements
                    if isinstance(s, ast.ImportFrom)
                    for alias in s.names
                }
                return Module(name, path, tree, classes, imports)
        return None


_TRANSFORMERS_HOMES = {
    "TrainingArguments": "transformers.training_args",
    "Seq2SeqTrainingArguments": "transformers.training_args_seq2seq",
}


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those in `if` and `try` included: lazy packages name their exports in TYPE_CHECKING."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _top_level(statement.body)
            yield from _top_level(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from _top_level(statement.body)
        else:
            yield statement


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    base = parents[: len(parents) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def cached(
    kind: str,
    installation: Installation,
    build: Callable[[], tuple[object, Iterable[Path]]],
    decode: Callable[[object], T],
    reader: str,
) -> T:
    """What `build` learns from an installation, from `cache_dir()/<kind>/` when its files have not changed since.

    `build` returns a JSON value and the files and folders it depends on; `decode` turns the JSON value into the
    result, and what it cannot decode is built anew. `reader` is the `__file__` of the module that builds: a cache
    written by another state of it is not used. A cache that is corrupt or cannot be written is no error.
    """
    where = (__version__, installation.package, installation.transformers_package, sys.version_info[:2])
    key = sha256(repr(where).encode()).hexdigest()[:16]
    file = cache_dir() / kind / f"{installation.version}-{key}.json"
    readers = [_state(Path(path)) for path in (reader, __file__)]
    try:
        stored: Any = kept_in_cache(file)
        if stored["readers"] == readers and all(
            _state(Path(path)) == state for path, state in stored["sources"].items()
        ):
            return decode(stored["value"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    value, sources = build()
    states = {str(path): _state(path) for path in sources}
    keep_in_cache(file, {"readers": readers, "sources": states, "value": value})
    return decode(value)


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_mtime_ns, 0 if path.suffix != ".py" else stat.st_size]
