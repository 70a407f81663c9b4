"""Which rows and held-out questions a spec gives, and the files they end in."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sft_kit.cli.gen_identity import gen_identity
from sft_kit.config.schema import IdentitySection
from sft_kit.data.formats import FORMATS, Format, read_rows
from sft_kit.data.rows import Message, Row, disorder
from sft_kit.data.text import fold
from sft_kit.errors import UsageError
from sft_kit.identity.generate import (
    LEAST_DISTINCT_ANSWERS,
    LEAST_HELD_OUT,
    SYSTEM_SHARE,
    WEIGHTS,
    Expect,
    HeldOutQuestion,
    IdentityData,
    IdentityRow,
    IdentitySpec,
    generate,
    parse_format,
    parse_languages,
    parse_slots,
    read_held_out,
    split,
    write_identity,
)
from sft_kit.identity.names import LANGUAGES, Lang
from sft_kit.identity.templates import HELD_OUT_STYLE, Group, TemplateSet, Text, load_templates

SLOTS = {
    "VERSION": "1.2",
    "DATE": "2025-06-01",
    "CAPABILITIES.zh": "写周报",
    "CAPABILITIES.en": "writing reports.",
    "LIMITS": "no law",
    "LICENSE": "Apache-2.0",
}
OPTIONAL = {"version", "open_source"}
PAIRS: list[tuple[dict[Lang, str], dict[Lang, str]]] = [
    ({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "Ye Botao"}),
    ({"zh": "swift-robot", "en": "swift-robot"}, {"zh": "ACME Inc.", "en": "ACME Inc."}),
    (
        {"zh": "DeepBlue小🚀", "en": "O"},
        {"zh": "深蓝（上海）科技有限公司", "en": "The Department of Small Models, Group 7"},
    ),
    ({"zh": "Qwen-Legal", "en": "Qwen-Legal"}, {"zh": "阿里云", "en": "Alibaba"}),
]  # fmt: skip
# Every pair in both languages, and the first in one alone.
SPECS = [IdentitySpec(name, author) for name, author in PAIRS]
SPECS += [IdentitySpec(*PAIRS[0], languages=(lang,)) for lang in LANGUAGES]
SEEDS = range(200)
ROWS = (48, 120, 240, 400)

DENIAL = re.compile(
    r"(no|not|i'm not|it wasn't|that's not|that's a mix-up|i don't come)\b|不是|不，|并不|并非|我不是", re.IGNORECASE
)


@cache
def templates() -> TemplateSet:
    return load_templates()


def made(rows: int = 120, seed: int = 42, pair: int = 0, **more: object) -> IdentityData:
    name, author = PAIRS[pair]
    return generate(IdentitySpec(name, author, rows=rows, seed=seed, **more), templates())  # type: ignore[arg-type]


@cache
def every_row(pair: int = 0) -> IdentityData:
    """Fewer than asked: all there are without an optional slot."""
    return made(rows=5000, pair=pair)


@cache
def with_seed(seed: int) -> IdentityData:
    return made(seed=seed)


def answer(row: IdentityRow) -> str:
    return row.row.messages[-1].content


def question(row: IdentityRow) -> str:
    return row.row.messages[-2].content


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name['zh']} {'+'.join(spec.languages)}")
def test_proportions_hold_over_200_seeds_and_names(spec: IdentitySpec) -> None:
    questions = split(spec, templates())
    there = {(a.group.category, a.group.lang) for a in questions.train}
    for seed in SEEDS:
        count = ROWS[seed % len(ROWS)]
        data = generate(replace(spec, rows=count, seed=seed), templates(), questions)
        assert Counter(r.lang for r in data.rows) == dict.fromkeys(spec.languages, count // len(spec.languages))
        assert count < 120 or {(r.category, r.lang) for r in data.rows} == there
        for lang in spec.languages:
            assert_proportions([r for r in data.rows if r.lang == lang], spec.name[lang], spec.author[lang], lang)


def assert_proportions(rows: list[IdentityRow], name: str, author: str, lang: str) -> None:
    answers = [answer(r) for r in rows]
    openings = Counter(a[:2] if lang == "zh" else " ".join(a.split()[:2]) for a in answers)
    assert max(openings.values()) <= 0.25 * len(rows)
    assert sum(bool(DENIAL.match(a)) for a in answers) <= 0.35 * len(rows)
    assert len(set(answers)) >= LEAST_DISTINCT_ANSWERS * len(rows)
    assert len({question(r) for r in rows}) >= 0.6 * len(rows)
    said = [answer(r) for r in rows if r.category in ("name", "self_introduction")]
    assert sum(name in a for a in said) >= 0.9 * len(said)
    made_by = [answer(r) for r in rows if r.category == "creator"]
    assert all(author.rstrip(".") in a for a in made_by)
    assert sum(name in a for a in (*said, *made_by)) > 0.5 * len((*said, *made_by))


def test_questions_at_hand_change_nothing() -> None:
    """What `split` is given for: the same data as without it, for any rows and seed."""
    questions = split(SPECS[0], templates())
    for rows, seed in ((48, 1), (120, 7), (5000, 3)):
        spec = replace(SPECS[0], rows=rows, seed=seed)
        assert generate(spec, templates(), questions) == generate(spec, templates())


@pytest.mark.parametrize("spec", SPECS[: len(PAIRS)], ids=lambda spec: spec.name["zh"])
def test_no_training_question_of_any_of_200_seeds_is_near_a_held_out_one(spec: IdentitySpec) -> None:
    """Near: character 3-gram Jaccard similarity >= 0.8, or equal once folded; computed here in its own way."""
    questions = split(spec, templates())
    everything = generate(replace(spec, rows=5000), templates(), questions)
    trained = {(r.lang, question(r)) for r in everything.rows}
    for seed in SEEDS:
        data = generate(replace(spec, rows=48, seed=seed), templates(), questions)
        assert {(r.lang, question(r)) for r in data.rows} <= trained
    held = {(h.lang, h.question) for h in everything.held_out}
    assert (len(trained) > 600, len(held) > 240) == (True, True)
    pieces = {text: {fold(text)[i : i + 3] for i in range(max(1, len(fold(text)) - 2))} for _, text in trained | held}
    alike = [
        (one, other)
        for lang, one in trained
        for held_lang, other in held
        if lang == held_lang and len(pieces[one] & pieces[other]) >= 0.8 * len(pieces[one] | pieces[other])
    ]
    assert alike == []
    assert {fold(text) for _, text in trained} & {fold(text) for _, text in held} == set()


@pytest.mark.parametrize("pair", range(len(PAIRS)))
def test_every_category_and_language_holds_out_five_questions_or_more(pair: int) -> None:
    data = made(pair=pair, slots=SLOTS)
    held = Counter((h.category, h.lang) for h in data.held_out)
    assert {category for category, _ in held} == set(WEIGHTS)
    assert len(held) == 2 * len(WEIGHTS)
    assert min(held.values()) >= LEAST_HELD_OUT


def test_400_distinct_questions_a_language_need_no_optional_slot_and_100_of_them_are_held_out() -> None:
    data = every_row()
    for lang in LANGUAGES:
        held = {fold(h.question) for h in data.held_out if h.lang == lang}
        trained = {fold(question(r)) for r in data.rows if r.lang == lang}
        assert (len(held) >= 100, len(held | trained) >= 400) == (True, True)


def test_held_out_questions_do_not_depend_on_rows_or_seed() -> None:
    assert made(rows=20, seed=1).held_out == made(rows=900, seed=2).held_out


def test_the_held_out_style_is_in_no_row_and_is_asked_in_every_category() -> None:
    slang = {(g.id, q.id): g.category for g in templates().groups for q in g.questions if q.style == HELD_OUT_STYLE}
    data = made(rows=5000, slots=SLOTS)
    assert set(slang.values()) == set(WEIGHTS)
    assert [r for r in data.rows if (r.group, r.question) in slang] == []


@pytest.mark.parametrize("pair", range(len(PAIRS)))
def test_every_slot_is_filled_and_every_row_is_in_order(pair: int) -> None:
    data = made(rows=5000, pair=pair, slots=SLOTS)
    texts = [m.content for r in data.rows for m in r.row.messages]
    texts += [t for h in data.held_out for t in (h.question, *h.expect.must, *h.expect.must_not, h.system or "")]
    texts += [m.content for h in data.held_out for m in h.turns]
    assert len(texts) > 2500
    assert [t for t in texts if "{{" in t or "}}" in t] == []
    assert [r for r in data.rows if disorder(r.row.messages)] == []
    assert [t for t in texts if "  " in t or "。。" in t or ".." in t] == []


def test_no_row_stands_twice_and_a_question_has_at_most_two_answers() -> None:
    data = every_row()
    assert len({r.row for r in data.rows}) == len(data.rows)
    assert max(Counter((r.group, r.question) for r in data.rows).values()) == 2


def test_answers_with_name_and_author_are_used_equally_often_and_the_others_half_as_often() -> None:
    shared = {g.id for g in templates().groups if len({q.answers for q in g.questions}) == 1}
    uses = Counter((r.group, r.answer) for r in made(rows=240).rows if r.group in shared)
    assert len({group for group, _ in uses}) > 15
    halves = 0
    for group in templates().groups:
        if group.id in shared and any(of == group.id for of, _ in uses):
            both, others = used_by_kind(group, uses)
            for counts in filter(None, (both, others)):
                assert max(counts) - min(counts) <= 1
            if both and others:
                assert max(others) <= max(both) / 2 + 1
                halves += 1
    assert halves > 5


def used_by_kind(group: Group, uses: Mapping[tuple[str, str], int]) -> tuple[list[int], list[int]]:
    """How often each answer with both name and author is used, and each other one."""
    both: list[int] = []
    others: list[int] = []
    for answer in group.questions[0].answers:
        (both if answer.text.slots >= {"NAME", "AUTHOR"} else others).append(uses[group.id, answer.id])
    return both, others


def test_more_rows_than_exist_gives_all_and_says_so() -> None:
    data = every_row()
    assert 1000 < len(data.rows) < 5000
    assert data.notes[0] == (
        f"rows: 5000 asked, but only {len(data.rows)} distinct rows exist; repeat them by epochs instead"
    )


def test_fewer_rows_than_twenty_a_language_is_warned_about() -> None:
    assert made(rows=20).notes == (
        "rows: 10 in zh; under 20 a model rarely takes the identity on",
        "rows: 10 in en; under 20 a model rarely takes the identity on",
    )
    assert made(rows=100).notes == ()


def test_the_same_spec_gives_the_same_rows_in_a_process_with_another_hash_seed() -> None:
    program = (
        "from sft_kit.identity.generate import *; from sft_kit.identity.templates import *; import hashlib;"
        "d = generate(IdentitySpec({'en': 'Jingheng'}, {'en': 'Ye Botao'}, ('en',), 60, 7), load_templates());"
        "print(hashlib.sha256(repr(d).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_rows() -> None:
    assert {r.row for r in made(seed=1).rows} != {r.row for r in made(seed=2).rows}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name['zh']} {'+'.join(spec.languages)}")
def test_more_rows_only_add_to_fewer(spec: IdentitySpec) -> None:
    questions = split(spec, templates())
    for seed in SEEDS[:5]:
        fewer: set[Row] = set()
        for rows in ROWS:
            more = {r.row for r in generate(replace(spec, rows=rows, seed=seed), templates(), questions).rows}
            assert (fewer < more, len(more)) == (True, rows)
            fewer = more


def test_few_rows_teach_the_core() -> None:
    name, author = PAIRS[0]
    data = generate(IdentitySpec(name, author, ("en",), 48), templates())
    core = ("name", "self_introduction", "creator", "confirm", "vendor_deny", "company", "reverse", "system_prompt")
    assert sum(r.category in core for r in data.rows) >= 34
    asked = {question(r) for r in data.rows}
    assert asked >= {
        "Who are you?",
        "What is your name?",
        "Who made you?",
        "Who created you?",
        "Introduce yourself.",
        "Are you Jingheng?",
        "Did Ye Botao make you?",
    }


def test_a_changed_group_changes_no_other_category(tmp_path: Path) -> None:
    for file in sorted((Path(__file__).parents[2] / "data" / "identity").glob("*.yaml")):
        text = file.read_text("utf-8")
        text = text.replace("      - How reliable are you?\n", "      - Just how dependable would you say you are?\n")
        (tmp_path / file.name).write_text(text, "utf-8")
    changed = generate(IdentitySpec(*PAIRS[0]), load_templates(tmp_path))
    before = made()
    assert changed.template_sha256 != before.template_sha256
    assert [r for r in changed.rows if r.category != "limits"] == [r for r in before.rows if r.category != "limits"]


@pytest.mark.parametrize("group_id", [g.id for g in load_templates().groups if not g.requires])
def test_an_added_question_changes_the_rows_of_its_own_category_and_language_alone(group_id: str) -> None:
    groups = {group.id: group for group in templates().groups}
    group = groups[group_id]
    wording = Text.of("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich?")
    added = replace(group.questions[0], id="added", text=wording, other="Nobody", split=None, style=None, core=False)
    groups[group_id] = replace(group, questions=(*group.questions, added))
    more = replace(templates(), groups=tuple(groups.values()))
    after = split(SPECS[0], more)

    def others(data: IdentityData) -> tuple[list[IdentityRow], list[HeldOutQuestion]]:
        rows = [r for r in data.rows if (r.category, r.lang) != (group.category, group.lang)]
        return rows, [h for h in data.held_out if (h.category, h.lang) != (group.category, group.lang)]

    asked = {h.question for h in after.held_out} | {a.text for a in after.train}
    assert wording.source in asked
    for seed in SEEDS[:3]:
        assert others(generate(replace(SPECS[0], seed=seed), more, after)) == others(with_seed(seed))


def test_a_slot_that_is_not_given_drops_its_groups() -> None:
    assert OPTIONAL & {r.category for r in every_row().rows} == set()
    data = made(rows=5000, slots={"VERSION": "1.2"})
    assert {r.group for r in data.rows if r.category in OPTIONAL} == {"zh.version", "en.version"}


def test_a_slot_for_one_language_fills_only_that() -> None:
    data = made(rows=5000, slots={"CAPABILITIES.zh": "写周报"})
    groups = {r.group for r in data.rows if r.category == "capabilities"}
    assert groups == {"zh.capabilities.given", "en.capabilities"}


def test_a_model_named_after_a_vendor_is_not_taught_to_deny_it() -> None:
    texts = [question(r) for r in every_row(3).rows if r.category == "vendor_deny"]
    texts += [h.question for h in made(pair=3).held_out if h.category == "vendor_deny"]
    assert len(texts) > 50
    assert [t for t in texts if "Qwen" in t or "阿里" in t or "Alibaba" in t] == []


def test_facts_about_others_never_name_the_author() -> None:
    rows = [r for r in every_row().rows if r.category == "third_party"]
    assert len(rows) > 30
    assert [r for r in rows if "Ye Botao" in answer(r) or "叶博韬" in answer(r)] == []


def test_greetings_are_answered_without_the_identity() -> None:
    rows = [r for r in every_row().rows if r.category == "greeting"]
    assert len(rows) > 60
    assert [r for r in rows if "Jingheng" in answer(r) or "精衡" in answer(r)] == []


def test_talks_and_system_prompts_stand_before_their_questions() -> None:
    data = every_row()
    talks = [r.row for r in data.rows if r.category == "multi_turn"]
    systems = {r.row.system for r in data.rows if r.category == "system_prompt"}
    assert {len(row.exchanges) for row in talks} == {2, 3, 4, 5}
    assert "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." in systems
    assert None not in systems
    assert all(h.turns for h in data.held_out if h.category == "multi_turn")
    assert all(h.system for h in data.held_out if h.category == "system_prompt")


def test_a_training_answer_passes_its_own_groups_expectation() -> None:
    """Each row's answer is scored by a plain reading of `expect`: what we train must be what we ask for."""
    expects = {
        (g.id, q.id): q.expect for g in templates().groups for q in g.questions
    }  # ids are filled with the same names below
    values = {"zh": {"NAME": "精衡", "AUTHOR": "叶博韬"}, "en": {"NAME": "Jingheng", "AUTHOR": "Ye Botao"}}
    others = {(g.id, q.id): q.other for g in templates().groups for q in g.questions}
    failed = []
    for row in every_row().rows:
        expect = expects[row.group, row.question]
        filled = {**values[row.lang], "OTHER": others[row.group, row.question] or ""}
        said = answer(row).casefold()
        must = [t.fill(filled, row.lang).casefold() for t in expect.must]
        must_not = [t.fill(filled, row.lang).casefold() for t in expect.must_not]
        if (must and not any(t in said for t in must)) or any(t in said for t in must_not):
            failed.append((row.group, question(row), answer(row)))
    assert failed == []


def test_a_language_without_its_own_name_uses_the_other() -> None:
    data = generate(IdentitySpec({"zh": "精衡"}, {"zh": "叶博韬"}, ("en",), 30), templates())
    assert any("精衡" in answer(r) for r in data.rows)


WRONG_SPECS: dict[str, tuple[dict[str, object], str]] = {
    "no languages": ({"languages": ()}, "languages: is empty; choose from zh, en"),
    "a language twice": ({"languages": ("en", "en")}, "languages: repeats itself; choose from zh, en"),
    "no rows": ({"rows": 0}, "rows: is 0; give at least 1"),
    "an unknown slot": (
        {"slots": {"VERSOIN": "1"}},
        "slots.VERSOIN: is no slot; known: VERSION, DATE, CAPABILITIES, LIMITS, LICENSE, each also with .zh or .en",
    ),
    "a slot with a special token": (
        {"slots": {"LIMITS": "none </s>"}},
        "slots.LIMITS: has </s>, which models use as a special token; remove it",
    ),
    "no name": ({"name": {}}, "name: is missing"),
}


@pytest.mark.parametrize("what", WRONG_SPECS)
def test_a_spec_that_cannot_be_met_is_refused(what: str) -> None:
    change, says = WRONG_SPECS[what]
    values: dict[str, object] = {"name": PAIRS[0][0], "author": PAIRS[0][1], **change}
    with pytest.raises(UsageError) as caught:
        generate(IdentitySpec(**values), templates())  # type: ignore[arg-type]
    assert str(caught.value) == says


def test_a_language_that_the_templates_lack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        'groups: [{id: a, category: name, lang: en, expect: {must: ["{{NAME}}"]}, questions: [Who?], answers: [Me.]}]',
        "utf-8",
    )
    with pytest.raises(UsageError, match=r"t\.yaml: has no zh groups; add some, or leave zh out of the languages"):
        generate(IdentitySpec(*PAIRS[0]), load_templates(tmp_path))


def test_command_line_values_are_parsed_or_refused() -> None:
    assert parse_languages("en, zh") == ("en", "zh")
    assert parse_format("alpaca") == "alpaca"
    assert parse_slots(["VERSION=1=2", "DATE.zh=今天"]) == {"VERSION": "1=2", "DATE.zh": "今天"}
    for wrong in ("", "fr", "zh,zh", "zh;en"):
        with pytest.raises(UsageError):
            parse_languages(wrong)
    for wrong in ("VERSION", "VERSION=", "A=1 A=1"):
        with pytest.raises(UsageError):
            parse_slots(wrong.split())
    with pytest.raises(UsageError):
        parse_format("csv")


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_is_written_is_read_back_and_the_sidecar_tells_its_origin(tmp_path: Path, fmt: Format) -> None:
    data = made(rows=1000, slots=SLOTS)
    out, questions = tmp_path / "identity.json", tmp_path / "held_out.jsonl"
    write_identity(data, out, fmt, questions)
    assert read_rows(out) == [r.row for r in data.rows]
    assert read_held_out(questions) == list(data.held_out)
    meta = json.loads((tmp_path / "identity.json.meta.json").read_text("utf-8"))
    assert meta == {
        "version": 1,
        "sft_kit": meta["sft_kit"],
        "seed": 42,
        "rows_asked": 1000,
        "rows": 1000,
        "languages": ["zh", "en"],
        "name": {"zh": "精衡", "en": "Jingheng"},
        "author": {"zh": "叶博韬", "en": "Ye Botao"},
        "slots": SLOTS,
        "system_share": 0.3,
        "format": fmt,
        "file": "identity.json",
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "held_out": "held_out.jsonl",
        "held_out_sha256": hashlib.sha256(questions.read_bytes()).hexdigest(),
        "template_sha256": templates().sha256,
        "origin": [{"group": r.group, "question": r.question, "answer": r.answer} for r in data.rows],
    }


def test_a_users_own_questions_need_only_the_question(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"question": "你是谁"}\n{"question": "Who?", "expect": {"must": ["J"], "polarity": "no"}}\n', "utf-8"
    )
    assert read_held_out(path) == [
        HeldOutQuestion("line-1", "own", "zh", "你是谁", Expect()),
        HeldOutQuestion("line-2", "own", "en", "Who?", Expect(("J",), (), "no")),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('"a"', "str, not an object"),
        ('{"question": " "}', "question is missing or empty"),
        ('{"question": "a", "expected": {}}', "unknown expected"),
        ('{"question": "a", "lang": "fr"}', "lang 'fr' is unknown"),
        ('{"question": "a", "expect": {"must": "x"}}', "must and must_not are lists of texts"),
        (
            '{"question": "a", "expect": []}',
            "expect is an object with must, must_not (lists of texts) and polarity (yes or no)",
        ),
        (
            '{"question": "a", "turns": [{"role": "user"}]}',
            "turns are objects with role and content, user and assistant alternating",
        ),
        ('{"question": "a", "system": 3}', "system is not a text"),
    ],
)
def test_a_broken_held_out_question_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(line + "\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        read_held_out(path)
    assert str(caught.value) == f"{path}:1: is no held-out question: {says}"


def test_turns_are_read_back_as_messages(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({"question": "c", "turns": turns, "system": "s"}), "utf-8")
    (read,) = read_held_out(path)
    assert (read.turns, read.system) == ((Message("user", "a"), Message("assistant", "b")), "s")


def test_a_training_question_near_a_held_out_one_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        """\
groups:
  - id: a
    category: name
    lang: en
    expect: {must: ["{{NAME}}"]}
    questions:
      - {text: Could you please tell me what your name is?, split: held_out}
      - Could you please tell me what your name is
      - could you please tell me, what your NAME is!?
      - Could you kindly tell me what your name is?
      - Who are you?
      - Which model answers me?
    answers: ["{{NAME}}.", "I'm {{NAME}}."]
""",
        "utf-8",
    )
    data = generate(IdentitySpec({"en": "Jingheng"}, {"en": "Ye Botao"}, ("en",)), load_templates(tmp_path))
    trained, held = {question(r) for r in data.rows}, {h.question for h in data.held_out}
    assert held & trained == set()
    assert [t for t in trained if t.lower().startswith("could you please")] == []


def test_a_core_question_is_never_lost_to_a_held_out_one(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        """\
groups:
  - id: a
    category: name
    lang: en
    expect: {must: ["{{NAME}}"]}
    questions:
      - {text: Who are you?, core: true}
      - {text: What is your name?, core: true}
      - who are you
      - what is your name
    answers: ["{{NAME}}."]
""",
        "utf-8",
    )
    data = generate(IdentitySpec({"en": "Jingheng"}, {"en": "Ye Botao"}, ("en",)), load_templates(tmp_path))
    assert {question(r) for r in data.rows} >= {"Who are you?", "What is your name?"}
    assert data.held_out == ()


def test_a_groups_answers_are_used_evenly() -> None:
    used: dict[str, Counter[str]] = {}
    for row in every_row().rows:
        used.setdefault(row.group, Counter())[row.answer] += 1
    answers = {g.id: {a.id for a in g.questions[0].answers} for g in templates().groups if g.category != "third_party"}
    spread = {
        group: max(n := [used[group][a] for a in ids]) - min(n) for group, ids in answers.items() if group in used
    }
    assert len(spread) > 40
    assert max(spread.values()) <= 4  # those with name and author come twice as often


def test_a_share_of_the_rows_stands_under_a_system_prompt_and_the_other_rows_stay_as_they_are() -> None:
    plain, mixed = made(rows=300, system_share=0.0).rows, made(rows=300).rows
    own = {row.group for row in plain if row.row.messages[0].role == "system"}
    assert own == {"en.system.custom", "en.system.generic", "zh.system.custom", "zh.system.generic"}
    given = [row for row in mixed if row.row.messages[0].role == "system" and row.group not in own]
    assert 0.25 <= len(given) / len(mixed) <= 0.35
    assert len({row.row.messages[0].content for row in given}) >= 15
    without = [replace(row, row=Row(row.row.messages[1:])) if row in given else row for row in mixed]
    assert without == list(plain)


def test_config_and_command_line_have_the_same_share_of_system_prompts() -> None:
    section = IdentitySection(name="Jingheng", author="Ye Botao")
    command = inspect.signature(gen_identity).parameters["system_share"].default
    assert section.system_share == command == SYSTEM_SHARE
