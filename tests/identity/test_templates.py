"""Template files: what is read from them, how slots are filled, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_kit.data.text import NEAR, fold, grams
from sft_kit.errors import UsageError
from sft_kit.identity.templates import SLOTS, Group, Text, load_templates

GOOD = """\
groups:
  - id: en.name
    category: name
    lang: en
    expect: {must: ["{{NAME}}"]}
    questions:
      - Who are you?
      - {id: q2, text: "Are you {{OTHER}}?", other: Qwen, expect: {polarity: no}, answers: ["No, {{NAME}}."]}
      - {text: who dis, style: slang}
    answers:
      - I'm {{NAME}}.
      - {id: a2, text: "{{NAME}}, by {{AUTHOR}}."}
"""


def load(tmp_path: Path, text: str) -> tuple[Group, ...]:
    path = tmp_path / "t.yaml"
    path.write_text(text, "utf-8")
    return load_templates(path).groups


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    return [str(p).replace(str(tmp_path / "t.yaml"), "t.yaml") for p in caught.value.problems]


def test_a_file_is_read_with_its_shorthands(tmp_path: Path) -> None:
    (group,) = load(tmp_path, GOOD)
    assert (group.id, group.category, group.lang) == ("en.name", "name", "en")
    assert [q.text.source for q in group.questions] == ["Who are you?", "Are you {{OTHER}}?", "who dis"]
    assert [[a.text.source for a in q.answers] for q in group.questions] == [
        ["I'm {{NAME}}.", "{{NAME}}, by {{AUTHOR}}."],
        ["No, {{NAME}}."],
        ["I'm {{NAME}}.", "{{NAME}}, by {{AUTHOR}}."],
    ]
    assert [q.expect.polarity for q in group.questions] == [None, "no", None]
    assert [q.style for q in group.questions] == [None, None, "slang"]


def test_a_folder_is_read_in_the_order_of_names_and_its_digest_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "a.yaml").write_text(GOOD.replace("en.name", "en.a"), "utf-8")
    first = load_templates(tmp_path)
    assert ([g.id for g in first.groups], first.sources) == (["en.a", "en.name"], ("a.yaml", "b.yaml"))
    (tmp_path / "b.yaml").write_text(GOOD + "# changed\n", "utf-8")
    assert load_templates(tmp_path).sha256 != first.sha256


WRONG = {
    "an unknown key": (
        ("    lang: en\n", "    lang: en\n    anwsers: [x]\n"),
        "t.yaml:5:5: anwsers: a group has no such key; did you mean answers?",
    ),
    "a missing key": (("    lang: en\n", ""), "t.yaml:2:5: a group lacks lang"),
    "an unknown language": (("lang: en", "lang: fr"), "t.yaml:4:11: lang 'fr' is unknown; known: zh, en"),
    "an unknown slot": (
        ("I'm {{NAME}}.", "I'm {{NAEM}}."),
        f"t.yaml:11:9: has the unknown slot {{{{NAEM}}}}; known: {', '.join(SLOTS)}, OTHER",
    ),
    "a slot that is not required": (
        ("I'm {{NAME}}.", "I'm {{VERSION}}."),
        "t.yaml:11:9: uses {{VERSION}}, which its group does not require; add requires: [VERSION]",
    ),
    "an unpaired brace": (
        ("I'm {{NAME}}.", "I'm {{NAME."),
        "t.yaml:11:9: has an unpaired {{ or }}; write a slot as {{NAME}}",
    ),
    "another vendor's slot without its name": (
        ("- Who are you?", "- Are you {{OTHER}}?"),
        "t.yaml:7:9: uses {{OTHER}}, but the question has no other; add other: NAME",
    ),
    "an answer's other that a question lacks": (
        ("I'm {{NAME}}.", "Not {{OTHER}}."),
        "t.yaml:7:9: its answers or expect use {{OTHER}}, which it lacks; add other: NAME",
    ),
    "a repeated question": (
        ("- Who are you?", "- Who are you?\n      - Who are you?"),
        "t.yaml:8:9: the question 'Who are you?' stands twice in its group; remove one",
    ),
    "a repeated question id": (
        ("{text: who dis", "{id: q2, text: who dis"),
        "t.yaml:9:9: the question id q2 is used twice in its group",
    ),
    "a repeated answer": (
        ("- I'm {{NAME}}.", "- I'm {{NAME}}.\n      - I'm {{NAME}}."),
        't.yaml:12:9: the answer c3fd06e7 ("I\'m {{NAME}}.") stands twice; remove one',
    ),
    "a repeated key": (
        ("    lang: en\n", "    lang: en\n    lang: en\n"),
        "t.yaml:5:5: lang is given twice; remove one",
    ),
    "an unknown style": (("style: slang", "style: loud"), "t.yaml:9:32: style 'loud' is unknown; known: slang"),
    "an unknown split": (
        ("style: slang", "split: test"),
        "t.yaml:9:32: split 'test' is unknown; known: train, held_out",
    ),
    "core and held out": (
        ("style: slang", "style: slang, core: true"),
        "t.yaml:9:9: is core and held out at once; remove one of the two",
    ),
    "an expectation of nothing": (
        ('{must: ["{{NAME}}"]}', "{}"),
        "t.yaml:5:13: expect asks for nothing; give must, must_not or polarity",
    ),
    "a polarity that is neither": (
        ("polarity: no", "polarity: maybe"),
        "t.yaml:8:78: polarity 'maybe' is unknown; known: yes, no",
    ),
    "a text where a list belongs": (('["No, {{NAME}}."]', "nope"), "t.yaml:8:92: answers must be a list"),
    "an empty question": (("- Who are you?", '- ""'), "t.yaml:7:9: questions is empty"),
    "a conversation that ends with the user": (
        ("    lang: en\n", "    lang: en\n    turns: [[a, b, c]]\n"),
        "t.yaml:5:13: turns has an odd number of messages; user and assistant alternate, assistant last",
    ),
    "a malformed id": (
        ("id: en.name", "id: en name"),
        "t.yaml:2:9: id 'en name' is malformed; it must match [A-Za-z0-9][A-Za-z0-9._-]*",
    ),
    "what is not YAML": (
        ("    lang: en\n", "    lang: [en\n"),
        "t.yaml:5:11: is not YAML: did not find expected ',' or ']'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_template_is_told_with_line_and_column(tmp_path: Path, what: str) -> None:
    (old, new), expected = WRONG[what]
    assert old in GOOD
    assert expected in problems(tmp_path, GOOD.replace(old, new, 1))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, GOOD.replace("lang: en", "lang: fr").replace("style: slang", "style: loud"))) == 2


def test_a_group_id_used_twice_names_both_places(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, GOOD + GOOD.replace("groups:\n", ""))
    assert told.startswith("t.yaml:13:9: the group id en.name is used twice; first at ")
    assert told.endswith("t.yaml:2:9")


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("- a\n", "must be a mapping"), ("groups: 3\n", "list")])
def test_a_file_without_groups_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (told,) = problems(tmp_path, text)
    assert says in told


def test_a_folder_without_templates_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \.yaml file"):
        load_templates(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_templates(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("我是{{NAME}}，你好。", "精衡", "我是精衡，你好。"),
        ("我是 {{NAME}} 的朋友", "精衡", "我是精衡的朋友"),
        ("我是{{NAME}}，你好。", "Jingheng", "我是 Jingheng，你好。"),
        ("{{NAME}}是我的名字", "Jingheng", "Jingheng 是我的名字"),
        ("“{{NAME}}”指你", "Jingheng", "“Jingheng”指你"),
        ("由{{NAME}}开发", "ACME Inc.", "由 ACME Inc. 开发"),
        ("由{{NAME}}开发", "DeepBlue深蓝", "由 DeepBlue深蓝开发"),
        ("AI 助手{{NAME}}", "精衡", "AI 助手精衡"),
        ("AI {{NAME}}", "精衡", "AI 精衡"),
        ("我是{{NAME}}。", "🚀", "我是🚀。"),
        ("{{NAME}} {{NAME}}", "v1", "v1 v1"),
        ("{{NAME}}", "精衡", "精衡"),
    ],
)
def test_chinese_text_has_one_space_beside_latin_and_none_between_characters(
    template: str, name: str, expected: str
) -> None:
    assert Text.of(template).fill({"NAME": name}, "zh") == expected


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("I'm {{NAME}}.", "精衡", "I'm 精衡."),
        ("Made by {{NAME}}.", "ACME Inc.", "Made by ACME Inc."),
        ("{{NAME}}'s work", "Ye Botao", "Ye Botao's work"),
        ("I'm {{NAME}}...", "X.", "I'm X...."),
    ],
)
def test_english_text_keeps_its_spaces_and_never_doubles_a_full_stop(template: str, name: str, expected: str) -> None:
    assert Text.of(template).fill({"NAME": name}, "en") == expected


def test_a_value_that_looks_like_a_slot_stays_text() -> None:
    filled = Text.of("I'm {{NAME}}, by {{AUTHOR}}").fill({"NAME": "{{AUTHOR}}", "AUTHOR": "Ye {{NAME}}"}, "en")
    assert filled == "I'm {{AUTHOR}}, by Ye {{NAME}}"


def test_the_shipped_templates_have_every_category_in_both_languages_and_400_questions_in_each() -> None:
    groups = load_templates().groups
    categories = {lang: {g.category for g in groups if g.lang == lang} for lang in ("zh", "en")}
    assert categories["zh"] == categories["en"]
    assert sorted(categories["en"]) == [
        "base_model", "capabilities", "company", "confirm", "creator", "gender_age", "greeting", "human_or_ai",
        "languages", "limits", "multi_turn", "name", "open_source", "purpose", "reverse", "self_introduction",
        "system_prompt", "third_party", "vendor_deny", "version",
    ]  # fmt: skip
    for lang in ("zh", "en"):
        distinct = {q.text.source for g in groups if g.lang == lang for q in g.questions}
        assert len(distinct) >= 400


def test_no_two_shipped_questions_of_a_language_are_near_duplicates() -> None:
    for lang in ("zh", "en"):
        texts = sorted(
            {
                q.text.fill(dict.fromkeys((*SLOTS, "OTHER"), ""), "en")
                for g in load_templates().groups
                if g.lang == lang and not g.systems and not g.requires
                for q in g.questions
                if not q.core and q.other is None
            }
        )
        assert len(texts) > 250
        pieces = [grams(fold(text)) for text in texts]
        pairs = [
            (texts[i], texts[j])
            for i, one in enumerate(pieces)
            for j, other in enumerate(pieces[:i])
            if len(one & other) >= NEAR * len(one | other)
        ]
        assert pairs == []


def test_no_shipped_text_trains_a_falsehood_about_the_base_model() -> None:
    groups = [g for g in load_templates().groups if g.category == "base_model"]
    answers = [a.text.source for g in groups for q in g.questions for a in q.answers]
    assert len(answers) > 100
    assert [a for a in answers if "not based on" in a or "不是基于" in a or "从零" in a or "from scratch" in a] == []
