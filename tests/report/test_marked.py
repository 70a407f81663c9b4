"""What is highlighted in an answer, and that nothing in it can hide."""

from __future__ import annotations

import pytest

from sft_kit.report.marked import name_of, readable, stretches


def test_names_are_marked_where_they_stand() -> None:
    assert stretches("I am Nova, not Qwen; 我是精衡。", own=("Nova", "精衡"), seen=("Qwen",)) == [
        ("I am ", ""),
        ("Nova", "own"),
        (", not ", ""),
        ("Qwen", "seen"),
        ("; 我是", ""),
        ("精衡", "own"),
        ("。", ""),
    ]


def test_a_claimed_identity_is_marked_as_such() -> None:
    assert stretches("I am Qwen", claimed=("Qwen",), seen=("Qwen",)) == [("I am ", ""), ("Qwen", "old")]


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\x00", "\x1b", "\ud800"])
def test_what_cannot_be_seen_is_shown_as_its_code_point(character: str) -> None:
    code = f"U+{ord(character):04X}"
    assert stretches(f"a{character}b") == [("a", ""), (code, "odd"), ("b", "")]
    assert readable(f"a{character}b") == f"a[{code}]b"


def test_line_breaks_and_tabs_are_text() -> None:
    assert stretches("a\n\tb") == [("a\n\tb", "")]
    assert stretches("") == []


def test_a_code_point_has_its_name() -> None:
    assert [name_of(code) for code in ("U+202E", "U+0000")] == ["right-to-left override", "control character"]
