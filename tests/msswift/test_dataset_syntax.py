"""Entries of `dataset` are taken apart as ms-swift takes them apart (compared with 3.12.6 and 4.6.0 by hand)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_kit.msswift.dataset_syntax import DatasetEntry, parse_entry, with_home


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("a.jsonl", DatasetEntry("a.jsonl")),
        (" a.jsonl ", DatasetEntry("a.jsonl")),
        ("with space.jsonl#30", DatasetEntry("with space.jsonl", sample=30)),
        ("HF::a.jsonl#10", DatasetEntry("a.jsonl", hugging_face=True, sample=10)),
        ("ms::owner/name:one/two#5", DatasetEntry("owner/name", hugging_face=False, sample=5)),
        ("owner/name", DatasetEntry("owner/name")),
        ("odd#5", DatasetEntry("odd#5")),
        ("odd#5#3", DatasetEntry("odd#5", sample=3)),
        ("colon:b.jsonl#4", DatasetEntry("colon:b.jsonl", sample=4)),
        ("a.jsonl:default#4", DatasetEntry("a.jsonl", sample=4)),
        ("a.jsonl#0", DatasetEntry("a.jsonl", wrong_sample="0")),
        ("a.jsonl#-3", DatasetEntry("a.jsonl", wrong_sample="-3")),
        ("owner/name#", DatasetEntry("owner/name", wrong_sample="")),
        ("x" * 300 + "#5", DatasetEntry("x" * 300, sample=5)),
    ],
)
def test_an_entry_is_taken_apart(
    text: str, entry: DatasetEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "with space.jsonl", "odd#5", "colon:b.jsonl"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert parse_entry(text) == entry


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert with_home("~/a.jsonl#5") == "/home/ada/a.jsonl#5"
    assert with_home("HF::~/a.jsonl") == "HF::/home/ada/a.jsonl"
    assert with_home("owner/name#5") == "owner/name#5"
