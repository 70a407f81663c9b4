"""The shape of the code: dependencies point downwards, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest

import sft_kit

ROOT = Path(sft_kit.__file__).parent

# A package may import those of the lines below its own. Beside each: what it may import of its own line.
ORDER: tuple[dict[str, set[str]], ...] = (
    {"__main__": set()},
    {"cli": set()},
    {"run": set()},
    {"checks": set()},
    {"console": set()},
    {"report": {"evaluate", "msswift"}, "msswift": set(), "plan": set(), "evaluate": set()},
    {"identity": {"data"}, "config": set(), "data": set(), "models": set()},
    {
        "findings": {"errors", "secrets"},
        "errors": {"secrets"},
        "writes": {"errors"},
        "asking": set(),
        "resources": set(),
        "secrets": set(),
    },
    {"__init__": set()},
)
ONLY_BY = {"console": {"cli", "run"}, "models": {"run", "checks", "msswift"}}  # narrower than the order
HEAVY = {"torch", "transformers", "datasets", "peft", "swift", "modelscope"}


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """{"sft_kit.config.load": its file}; a package stands for its `__init__`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "_shipped" not in parts:
            found[".".join(("sft_kit", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            below = f"{node.module}.{alias.name}"
            yield below if below in modules() else str(node.module)


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: none of a function, none of `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import(node)


@lru_cache(maxsize=1)
def edges() -> frozenset[tuple[str, str, bool]]:
    """(importing module, imported module, whether at import) of every import in src."""
    found = set()
    for module, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        first = {id(node) for node in at_import(tree)}
        for node in ast.walk(tree):
            found |= {(module, name, id(node) in first) for name in imported(node)}
    return frozenset(found)


def own_edges() -> list[tuple[str, str]]:
    """Imports of sft_kit by sft_kit across packages, inside functions too."""
    pairs = {(a, b) for a, b, _ in edges() if b in modules() and package(a) != package(b)}
    return sorted(pairs)


def allowed(importer: str, target: str) -> bool:
    level = {name: depth for depth, line in enumerate(ORDER) for name in line}
    if importer not in ONLY_BY.get(target, {importer}):
        return False
    return level[importer] < level[target] or target in ORDER[level[importer]].get(importer, set())


def test_every_module_was_found() -> None:
    assert {"sft_kit", "sft_kit.cli.train", "sft_kit.run.train", "sft_kit.errors"} <= modules().keys()
    assert len(modules()) > 50


def test_every_package_has_its_place_in_the_order() -> None:
    assert {package(module) for module in modules()} == {name for line in ORDER for name in line}


def test_dependencies_point_downwards() -> None:
    assert own_edges()
    assert [f"{a} -> {b}" for a, b in own_edges() if not allowed(package(a), package(b))] == []


def test_no_module_imports_itself_in_a_circle() -> None:
    below: dict[str, set[str]] = {module: set() for module in modules()}
    for a, b, first in edges():
        if first and b in below and a != b:
            below[a].add(b)
    done: set[str] = set()
    circles: list[str] = []

    def walk(module: str, above: tuple[str, ...]) -> None:
        if module in above:
            circles.append(" -> ".join((*above[above.index(module) :], module)))
        elif module not in done:
            for target in sorted(below[module]):
                walk(target, (*above, module))
            done.add(module)

    for module in sorted(below):
        walk(module, ())
    assert circles == []


def test_nothing_heavy_is_imported_with_a_module() -> None:
    assert [f"{a} -> {b}" for a, b, first in sorted(edges()) if first and b.split(".")[0] in HEAVY] == []


def test_only_the_console_knows_rich() -> None:
    assert {a for a, b, _ in edges() if b.split(".")[0] == "rich"} == {"sft_kit.console"}


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert [b for a, b, _ in edges() if a == "sft_kit" and b != "__future__"] == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse(modules()[module].read_text(encoding="utf-8")))


def test_the_order_has_each_package_once() -> None:
    names = [name for line in ORDER for name in line]
    assert all(a != b for a, b in pairwise(sorted(names)))
