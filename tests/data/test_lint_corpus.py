"""Every file of the broken corpus has its one finding and no other; every clean file has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sft_kit.data.codes import KINDS
from sft_kit.data.formats import read_rows
from sft_kit.data.lint import Lint
from sft_kit.findings import Finding
from sft_kit.identity.claims import claimed_identity

HERE = Path(__file__).parent
BROKEN = HERE / "broken" / "content"
CLEAN = HERE / "clean"
EXPECTED = yaml.safe_load((BROKEN / "expected.yaml").read_text(encoding="utf-8"))
OWN_NAMES = ("精衡", "Jingheng", "叶博韬", "Ye Botao")


def linted(name: str, rows: list[tuple[int, tuple[tuple[str, str], ...]]]) -> list[Finding]:
    """The findings of severity error and warning."""
    lint = Lint(name, own_names=OWN_NAMES, other_identity=claimed_identity)
    for line, messages in rows:
        lint.add(line, messages)
    return [finding for finding in lint.findings() if finding.severity != "note"]


def broken_rows(path: Path) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [(number, json.loads(line)["messages"]) for number, line in enumerate(lines, 1) if line]
    return [(number, tuple((m["role"], m["content"]) for m in messages)) for number, messages in rows]


def test_the_corpus_is_there() -> None:
    assert {path.name for path in BROKEN.glob("*.jsonl")} == set(EXPECTED)
    assert len(EXPECTED) >= 50
    assert len(list(CLEAN.iterdir())) >= 12


def test_every_code_of_a_row_that_is_more_than_a_note_has_a_file() -> None:
    told = {code for code, kind in KINDS.items() if kind.severity != "note"}
    assert told - {expected["code"] for expected in EXPECTED.values()} == set()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_broken_file_has_exactly_what_is_wrong_with_it(name: str) -> None:
    found = linted(name, broken_rows(BROKEN / name))
    assert [{"code": f.code, "lines": list(f.lines)} for f in found] == [EXPECTED[name]]


@pytest.mark.parametrize("path", sorted(CLEAN.iterdir()), ids=lambda path: path.name)
def test_a_clean_file_has_nothing_wrong(path: Path) -> None:
    rows = [tuple((m.role, m.content) for m in row.messages) for row in read_rows(path)]
    assert len(rows) >= 20
    assert linted(path.name, list(enumerate(rows, 1))) == []
