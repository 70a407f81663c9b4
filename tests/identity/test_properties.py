"""What holds for any name, slot and question that Unicode can write: nothing is lost, changed or filled twice."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from sft_kit.data.formats import FORMATS, Format, read_rows
from sft_kit.data.rows import Message
from sft_kit.data.text import BIDI, INVISIBLE, NEAR, Nearness, fold, grams, is_cjk
from sft_kit.errors import UsageError
from sft_kit.identity.generate import (
    Expect,
    HeldOutQuestion,
    IdentityData,
    IdentitySpec,
    generate,
    parse_slots,
    read_held_out,
    write_identity,
)
from sft_kit.identity.names import LANGUAGES, Lang, check_names
from sft_kit.identity.templates import OPTIONAL_SLOTS, TemplateSet, Text, load_templates

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
ANYTHING = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters=BIDI | INVISIBLE)
# Half of them plain, so that both sides of a slot meet letters, dots, brackets and Chinese often.
NAME = st.text(ANYTHING | st.sampled_from("Aa9 .-(《，。精衡🚀{}&"), min_size=1, max_size=64)
LANG = st.sampled_from(LANGUAGES)
PIECES = ["{{NAME}}", "{{AUTHOR}}", " ", "我是", "by", "，", ".", "...", "“", "", "AI "]
SOURCE = st.lists(st.sampled_from(PIECES), max_size=9)
MINI = """\
groups:
  - {id: a, category: name, lang: LL, expect: {must: ["{{NAME}}"]}, questions: ["Who?", "你是谁？", "{{NAME}}?"],
     answers: ["{{NAME}}", "我是{{NAME}}，由{{AUTHOR}}开发。", "I'm {{NAME}}, by {{AUTHOR}}. {{NAME}}!"]}
  - {id: b, category: multi_turn, lang: LL, expect: {must: ["{{AUTHOR}}"]}, questions: ["And?", "Then {{AUTHOR}}?"],
     answers: ["{{AUTHOR}}."], turns: [["Hi, {{NAME}}", "{{AUTHOR}}"]], systems: ["You are not {{NAME}}."]}
"""


@cache
def templates() -> TemplateSet:
    return load_templates()


def fit(name: str, author: str) -> bool:
    return not any(f.severity == "error" for f in check_names({"en": name}, {"en": author}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAME, author=NAME, lang=LANG, fmt=st.sampled_from(FORMATS), suffix=st.sampled_from([".json", ".jsonl"]))
def test_any_name_that_is_let_pass_comes_back_from_a_file_as_it_was_given(
    tmp_path: Path, name: str, author: str, lang: Lang, fmt: Format, suffix: str
) -> None:
    assume(fit(name, author))
    (tmp_path / "t.yaml").write_text(MINI.replace("LL", lang), "utf-8")
    spec = IdentitySpec({lang: name}, {lang: author}, (lang,), rows=50)
    data = generate(spec, load_templates(tmp_path / "t.yaml"))
    out, questions = tmp_path / f"rows{suffix}", tmp_path / "held_out.jsonl"
    write_identity(data, out, fmt, questions)
    assert read_rows(out) == [r.row for r in data.rows]
    assert read_held_out(questions) == list(data.held_out)
    answers = {row.messages[-1].content for row in read_rows(out)}
    assert name in answers
    assert [a for a in answers if name not in a and author not in a] == []


@settings(max_examples=300, deadline=None)
@given(pieces=SOURCE, name=NAME, author=NAME, lang=LANG)
def test_a_slot_is_filled_once_and_only_spaces_and_a_doubled_full_stop_change_around_it(
    pieces: Sequence[str], name: str, author: str, lang: Lang
) -> None:
    assume(name == name.strip() and author == author.strip() and name and author)
    source = "".join(pieces)
    filled = Text.of(source).fill({"NAME": name, "AUTHOR": author}, lang)
    # Each piece on its own: a value that holds "{{AUTHOR}}" or the other's name cannot be mistaken for a slot.
    parts = [{"{{NAME}}": name, "{{AUTHOR}}": author}.get(piece, piece) for piece in merged(pieces)]
    for index, piece in enumerate(merged(pieces)[1:], 1):
        dot = piece.startswith(".") and not piece.startswith("..")
        if dot and merged(pieces)[index - 1].startswith("{{") and parts[index - 1].endswith("."):
            parts[index] = piece[1:]
    assert filled.replace(" ", "") == "".join(parts).replace(" ", "")
    if lang == "en":
        assert filled == "".join(parts)


def merged(pieces: Sequence[str]) -> list[str]:
    """The pieces with literal neighbours joined, as a template holds them."""
    joined: list[str] = []
    for piece in pieces:
        if joined and not piece.startswith("{{") and not joined[-1].startswith("{{"):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


@settings(max_examples=200, deadline=None)
@given(name=NAME, spaces=st.sampled_from(["", " "]))
def test_in_chinese_a_latin_name_has_one_space_on_each_side_and_a_chinese_one_none(name: str, spaces: str) -> None:
    assume(name == name.strip() and name)
    filled = Text.of(f"我是{spaces}{{{{NAME}}}}{spaces}开发的").fill({"NAME": name}, "zh")
    assert filled.startswith("我是") and filled.endswith("开发的")
    before, after = filled[2 : filled.index(name, 2)], filled[2 + filled[2:].index(name) + len(name) : -3]
    for side, gap in ((name[0], before), (name[-1], after)):
        if side.isascii() and side.isalnum():
            assert gap == " "
        elif is_cjk(side) or unicodedata.east_asian_width(side) in "WF":
            assert gap == ""
        else:
            assert gap in ("", " ")


@settings(max_examples=100, deadline=None)
@given(before=TEXT, after=TEXT, slot=st.sampled_from(["{{AUTHOR}}", "{{NAME}}", "{{", "}}"]), lang=LANG)
def test_a_name_that_holds_a_slot_is_refused_and_would_stay_text(
    before: str, after: str, slot: str, lang: Lang
) -> None:
    name = before + slot + after
    assert not fit(name, "Ye Botao")
    assert not fit("Jingheng", name)
    filled = Text.of("x{{NAME}}y").fill({"NAME": name, "AUTHOR": "Ye Botao"}, "en")
    assert filled == f"x{name}y"
    assert slot in Text.of("我{{NAME}}你").fill({"NAME": name, "AUTHOR": "叶博韬"}, lang)


@settings(max_examples=12, deadline=None)
@given(name=NAME, author=NAME, rows=st.integers(48, 400), seed=st.integers(0, 2**32))
def test_the_shipped_templates_fit_any_name(name: str, author: str, rows: int, seed: int) -> None:
    assume(fit(name, author))
    data = generate(IdentitySpec({"en": name}, {"en": author}, rows=rows, seed=seed), templates())
    assert (len(data.rows), len(data.held_out) >= 200) == (rows, True)
    texts = [m.content for r in data.rows for m in r.row.messages] + [h.question for h in data.held_out]
    assert [t for t in texts if "{{" in t or "}}" in t] == []
    asked = {(r.lang, fold(r.row.messages[-2].content)) for r in data.rows}
    assert asked & {(h.lang, fold(h.question)) for h in data.held_out} == set()
    core = [r.row.messages[-1].content for r in data.rows if r.category in ("name", "self_introduction")]
    assert sum(name in answer for answer in core) >= 0.9 * len(core)


KEY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="="), max_size=12)


LONG_LATIN = st.text("abcdefghij XYZ", min_size=40, max_size=64).map(str.strip)
LONG_CHINESE = st.text("精衡叶博韬智慧之光科技研究院你是谁", min_size=40, max_size=64)


@settings(max_examples=8, deadline=None)
@given(zh=LONG_CHINESE, en=LONG_LATIN, author=LONG_LATIN | LONG_CHINESE)
@example(
    zh="你是谁你叫什么名字" * 7, en="what is your name and who made you, and are you a human", author="who are you " * 5
)
def test_the_longest_names_still_leave_questions_to_ask_and_no_near_pair(zh: str, en: str, author: str) -> None:
    names: dict[Lang, str] = {"zh": zh, "en": en}
    authors: dict[Lang, str] = {"zh": author.strip(), "en": author.strip()}
    assume(not any(finding.severity == "error" for finding in check_names(names, authors)))
    data = generate(IdentitySpec(names, authors, rows=5000), templates())
    held = Counter((h.category, h.lang) for h in data.held_out)
    assert {(row.category, row.lang) for row in data.rows} == held.keys()
    assert min(held.values()) >= 1  # a name of 50 characters makes questions about it nearly equal: few stay apart
    tested = {lang: Nearness(grams(fold(h.question)) for h in data.held_out if h.lang == lang) for lang in LANGUAGES}
    asked = {(row.lang, row.row.messages[-2].content) for row in data.rows}
    assert [text for lang, text in asked if tested[lang].near(grams(fold(text)))] == []


FEW_LETTERS = st.text(st.sampled_from("abc"), min_size=1, max_size=20)


@given(texts=st.lists(FEW_LETTERS, max_size=20), other=FEW_LETTERS)
@example(texts=["aaabbbcccabcacb"], other="aaabbbcccabcac")
def test_near_is_a_similarity_of_at_least_four_fifths(texts: list[str], other: str) -> None:
    pairs = [(grams(text), grams(other)) for text in texts]
    by_definition = any(len(one & two) >= NEAR * len(one | two) for one, two in pairs)
    assert Nearness(map(grams, texts)).near(grams(other)) is by_definition


@given(slots=st.dictionaries(KEY, TEXT.filter(lambda text: bool(text.strip()))))
def test_slots_are_what_the_pairs_say(slots: dict[str, str]) -> None:
    pairs = [f"{key}={value}" for key, value in slots.items()]
    assert parse_slots(pairs) == slots
    for again in pairs[:1]:
        with pytest.raises(UsageError):
            parse_slots([*pairs, again])


@given(text=KEY, blank=st.sampled_from(["", "=", "= ", "=\u3000"]))
def test_a_slot_without_a_value_is_refused(text: str, blank: str) -> None:
    with pytest.raises(UsageError):
        parse_slots([text + blank])


@settings(max_examples=40, deadline=None)
@given(value=NAME, slot=st.sampled_from(OPTIONAL_SLOTS))
@example(value="a {b} 精衡 v1.", slot="LIMITS")
def test_a_slots_value_is_said_as_it_was_given(value: str, slot: str) -> None:
    value = value.strip()
    assume(value and fit(value, "somebody else"))
    spec = IdentitySpec({"en": "Jingheng"}, {"en": "Ye Botao"}, ("en",), rows=2000, slots={slot: value})
    groups = [group for group in templates().groups if slot in group.requires]
    data = generate(spec, replace(templates(), groups=tuple(groups)))
    assert len(data.rows) > 10
    assert [r for r in data.rows if value.rstrip(".") not in r.row.messages[-1].content] == []


@st.composite
def held_out_questions(draw: st.DrawFn) -> HeldOutQuestion:
    exchanges = draw(st.lists(st.tuples(TEXT, TEXT), max_size=2))
    turns = [Message(role, text) for pair in exchanges for role, text in zip(("user", "assistant"), pair, strict=True)]
    texts = st.lists(TEXT, max_size=3).map(tuple)
    polarity = draw(st.sampled_from([None, "yes", "no"]))
    return HeldOutQuestion(
        draw(TEXT),
        draw(TEXT),
        draw(LANG),
        draw(TEXT.filter(lambda text: bool(text.strip()))),
        Expect(draw(texts), draw(texts), polarity),
        tuple(turns),
        draw(st.none() | TEXT),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions=st.lists(held_out_questions(), max_size=4))
def test_any_held_out_question_is_read_back_as_it_was_written(tmp_path: Path, questions: list[HeldOutQuestion]) -> None:
    spec = IdentitySpec(cast("dict[Lang, str]", {"en": "J"}), {"en": "Y"})
    out, held_out = tmp_path / "rows.jsonl", tmp_path / "held_out.jsonl"
    write_identity(IdentityData((), tuple(questions), spec, "0"), out, "messages", held_out)
    assert read_held_out(held_out) == questions
