"""Findings: their order, how they read, and that no code is used which `# sft-kit: ignore` would not know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

import sft_kit
from sft_kit.errors import Problem
from sft_kit.findings import CODES, Finding, in_order

ROOT = Path(sft_kit.__file__).parent
BROKEN = Path(__file__).parent / "data" / "broken"
MAKERS = {"Finding", "Dropped", "Verdict"}
PROBLEM_CODE = 3  # the position of `code` in a Problem


def test_errors_come_first_and_the_rest_keeps_its_order() -> None:
    found = [Finding(code, severity, "f", "m") for code, severity in (("a", "note"), ("b", "error"), ("c", "warning"))]  # type: ignore[arg-type]
    assert [finding.code for finding in in_order([*found, Finding("d", "error", "f", "m")])] == ["b", "d", "c", "a"]


def test_a_finding_reads_as_a_problem_with_its_code() -> None:
    finding = Finding("empty-answer", "error", "mine.jsonl:3", "2 rows with an empty answer", "write it", 2, (3, 9))
    assert finding.problem() == Problem("mine.jsonl:3", "2 rows with an empty answer [empty-answer]", "write it")


def written_codes() -> Iterator[str]:
    """Codes written out in the source, wherever a finding or the reason for a dropped row is made."""
    for path in (path for path in ROOT.rglob("*.py") if path.name != "doctor.py"):  # its findings are of a machine
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                for value in (*node.args[PROBLEM_CODE:], *named):
                    if isinstance(value, ast.Constant) and value.value:
                        yield str(value.value)
            if isinstance(node, ast.Dict):
                kinds = (getattr(getattr(value, "func", None), "id", "") == "Kind" for value in node.values)
                yield from (
                    str(k.value)
                    for k, kind in zip(node.keys, kinds, strict=True)
                    if kind and isinstance(k, ast.Constant)
                )


def corpus_codes() -> Iterator[str]:
    for index in BROKEN.glob("*/expected.yaml"):
        for entry in yaml.safe_load(index.read_text(encoding="utf-8")).values():
            for each in (entry, entry.get(3, {}), entry.get(4, {})):
                yield from (code for code in [each.get("code")] if code)


def test_every_code_is_registered() -> None:
    written, tried = set(written_codes()), set(corpus_codes())
    assert len(written) > 50 and len(tried) > 40
    assert (written | tried) - CODES == set()


def test_every_registered_code_is_used() -> None:
    source = "\n".join(p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py") if p.name != "findings.py")
    assert {code for code in CODES if f'"{code}"' not in source} == set()


def test_every_code_is_explained_once_in_the_docs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "checks.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)) == sorted(CODES)
