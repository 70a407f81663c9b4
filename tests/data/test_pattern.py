"""A pattern that is put off finds what `re` finds."""

from __future__ import annotations

import re

from sft_kit.data.pattern import Pattern


def test_a_pattern_finds_what_re_finds() -> None:
    text, at_once = "Ab ab, AB", re.compile("(a)b", re.IGNORECASE)
    later = Pattern("(a)b", re.IGNORECASE)
    assert [m.span() for m in later.finditer(text)] == [m.span() for m in at_once.finditer(text)]
    assert [bool(find(text)) for find in (later.search, later.match, later.fullmatch)] == [True, True, False]
    assert (later.findall(text), later.split(text)) == (at_once.findall(text), at_once.split(text))
    assert later.sub(lambda m: m[1] + "-", text) == "A- a-, A-"


def test_a_pattern_is_compiled_at_its_first_use() -> None:
    broken = Pattern("(")
    try:
        broken.search("")
    except re.error:
        return
    raise AssertionError("never compiled")
