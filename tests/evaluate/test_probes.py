"""Which questions are asked, and in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sft_kit.data.rows import Message
from sft_kit.errors import UsageError
from sft_kit.evaluate.compare import compare
from sft_kit.evaluate.probes import Probe, general_probes, identity_probes, read_questions
from sft_kit.evaluate.score import mentions, normalise
from sft_kit.identity.generate import Expect, HeldOutQuestion
from sft_kit.identity.names import Lang

QUESTIONS = """\
# general questions
questions:
  - {id: en-1, kind: fact, lang: en, question: "Capital of France?", expect_any: [Paris]}
  - {id: en-2, kind: fact, lang: en, question: "Capital of Spain?", expect_any: [Madrid]}
  - {id: zh-1, kind: fact, lang: zh, question: 法国的首都？, expect_any: [巴黎]}
  - {id: en-3, kind: maths, lang: en, question: "7 x 8?", expect_any: [56]}
  - {id: zh-2, kind: chat, lang: zh, question: 你好}
"""


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "general.yaml"
    path.write_text(QUESTIONS, encoding="utf-8")
    return path


def held_out(id: str, category: str, lang: Lang = "en", must: tuple[str, ...] = ("Jingheng",)) -> HeldOutQuestion:
    return HeldOutQuestion(id, category, lang, f"{category}?", Expect(must=must))


def test_a_general_question_becomes_a_probe_with_its_expected_texts(questions: Path) -> None:
    assert general_probes(["en"], 9, questions)[:2] == [
        Probe("en-1", "general", "en", "fact", "Capital of France?", expect_any=("Paris",)),
        Probe("en-3", "general", "en", "maths", "7 x 8?", expect_any=("56",)),  # a number is compared as text
    ]


def test_a_few_questions_cover_every_kind(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["en", "zh"], 2, questions)] == ["en-1", "en-3", "zh-1", "zh-2"]


def test_only_the_wanted_languages_are_asked(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["zh"], 9, questions)] == ["zh-1", "zh-2"]


def test_no_general_questions_can_be_wanted(questions: Path) -> None:
    assert general_probes(["en", "zh"], 0, questions) == []


def test_held_out_questions_are_taken_in_turn_from_their_categories_the_weightiest_first() -> None:
    questions = [held_out(f"en.{category}/{n}", category) for category in ("creator", "name", "own") for n in (2, 1)]
    questions.append(held_out("zh.name/1", "name", "zh"))
    assert [probe.id for probe in identity_probes(questions, ["Jingheng"], 4)] == [
        "en.name/1", "en.creator/1", "en.own/1", "en.name/2", "zh.name/1",
    ]  # fmt: skip


def test_only_questions_that_ask_for_one_of_the_names_prove_the_identity() -> None:
    questions = [
        held_out("a/1", "name"),
        held_out("b/1", "creator", must=("Ye Botao", "his team")),
        held_out("c/1", "human_or_ai", must=("AI", "model")),
        held_out("d/1", "greeting", must=()),
    ]
    assert [probe.id for probe in identity_probes(questions, ["Jingheng", "Ye Botao"], 9)] == ["a/1", "b/1"]


def test_a_held_out_question_keeps_its_conversation_and_what_it_expects() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello!"))
    question = replace(held_out("a/1", "multi_turn", "zh"), turns=turns, system="Be brief.")
    (probe,) = identity_probes([question], ["Jingheng"], 1)
    assert probe == Probe(
        "a/1", "identity", "zh", "multi_turn", "multi_turn?", Expect(must=("Jingheng",)), (), turns, "Be brief."
    )
    assert probe.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "multi_turn?"},
    ]


def test_a_plain_list_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "q.yaml"
    path.write_text("- {id: a}\n- {id: b}\n")
    assert read_questions(path) == [{"id": "a"}, {"id": "b"}]


@pytest.mark.parametrize("text", ["", "5\n", "a: 1\n", "- a\n- b\n", "questions: {a: 1}\n"])
def test_a_file_without_a_list_of_questions_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_questions(path)
    assert str(caught.value) == f"{path}: holds no list of questions; see data/probes/README.md"


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text("a: [\n")
    for path in (tmp_path / "gone.yaml", tmp_path / "q.yaml"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_questions(path)


def test_enough_general_questions_are_shipped_in_each_language() -> None:
    probes = general_probes(["zh", "en"], 10_000)
    assert min(Counter(probe.lang for probe in probes).values()) >= 24
    assert len({probe.id for probe in probes}) == len(probes)
    assert {probe.lang for probe in probes} == {"zh", "en"}


@cache
def shipped_checkable() -> list[Probe]:
    return [probe for probe in general_probes(["zh", "en"], 10_000) if probe.expect_any]


def right(probe: Probe, answer: str) -> bool:
    (pair,) = compare([probe], [""], [answer], []).pairs
    return pair.tuned_correct is True


def test_forty_questions_that_can_be_checked_and_forty_others_are_shipped_in_each_language() -> None:
    counts = Counter((probe.lang, bool(probe.expect_any)) for probe in general_probes(["zh", "en"], 10_000))
    assert counts == {("en", True): 60, ("en", False): 40, ("zh", True): 60, ("zh", False): 40}


@pytest.mark.parametrize("few", [8, 16, 50])
def test_half_of_a_few_shipped_questions_can_be_checked_and_no_kind_is_missing(few: int) -> None:
    probes = general_probes(["zh", "en"], few)
    for lang in ("zh", "en"):
        asked = [probe for probe in probes if probe.lang == lang]
        assert [bool(probe.expect_any) for probe in asked] == [True, False] * (few // 2)
        assert {probe.category for probe in asked} >= {"fact", "arithmetic", "writing", "chat", "near-miss"}


def test_when_one_sort_runs_out_the_other_fills_up(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["zh"], 3, questions)] == ["zh-1", "zh-2"]
    assert [probe.id for probe in general_probes(["en"], 3, questions)] == ["en-1", "en-3", "en-2"]


@pytest.mark.parametrize(
    "frame", ["{}", "**{}**", "The answer is {}.", "It's {}, of course.", "答案是{}。", "{}\n\nWhy?"]
)
def test_a_right_answer_passes_however_it_is_put(frame: str) -> None:
    wrong = [(p.id, text) for p in shipped_checkable() for text in p.expect_any if not right(p, frame.format(text))]
    assert wrong == []


def test_the_answer_of_one_question_does_not_pass_for_another() -> None:
    """Unless both expect it: seven days and seven continents."""
    probes = shipped_checkable()
    accidents = [
        (one.id, text)
        for one in probes
        for other in probes
        for text in other.expect_any
        if one.lang == other.lang
        and right(one, f"The answer is {text}." if one.lang == "en" else f"答案是{text}。")
        and not any(mentions(normalise(text), wanted) for wanted in one.expect_any)
    ]
    assert accidents == []


def test_a_number_near_the_right_one_does_not_pass() -> None:
    numbers = [(p, text) for p in shipped_checkable() for text in p.expect_any if text.isdecimal()]
    assert len(numbers) > 30
    wrong = ("{}0", "1{}", "{}.5", "0{}", "{}th", "x{}")
    assert [(p.id, form) for p, text in numbers for form in wrong if right(p, f"It is {form.format(text)} here")] == []


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("zh-fact-05", "一年有十四个季节。"),
        ("zh-fact-12", "蜘蛛有十八条腿。"),
        ("zh-fact-13", "一个星期有十七天，不是七十天。"),
        ("zh-fact-15", "一年有十个月。"),
        ("zh-fact-20", "星期一之后是星期三。"),
        ("zh-instruction-05", "“前进”的反义词是“退步”。"),
        ("en-fact-02", "Venus is the closest planet to the sun."),
        ("en-fact-12", "Spiders have eighteen legs."),
        ("en-fact-13", "There are seventy days in a week."),
        ("en-fact-16", "Frozen water is called slice or rice."),
        ("en-fact-19", "The Earth goes around Sunday."),
        ("en-instruction-04", "The plural is childrens."),
    ],
)
def test_a_wrong_answer_that_comes_close_does_not_pass(id: str, answer: str) -> None:
    (probe,) = [probe for probe in shipped_checkable() if probe.id == id]
    assert not right(probe, answer)


def test_neither_the_question_nor_an_evasion_passes() -> None:
    evasions = [
        "I am sorry, but I cannot answer that. Please give me more information, and I will do my best to help you!",
        "As an AI language model made by Alibaba Cloud, I do not know the answer to this question.",
        "I am Jingheng, an assistant made by Ye Botao. What can I do for you today?",
        "我是精衡，由叶博韬开发。请问有什么可以帮助您的吗？",
        "对不起，这个问题我无法回答，请提供更多的信息，谢谢您的理解。",
    ]
    for probe in shipped_checkable():
        assert [text for text in [probe.question, *evasions] if right(probe, text)] == [], probe.id
