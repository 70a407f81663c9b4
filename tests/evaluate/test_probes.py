"""Which questions are asked, in which order and context, and how a user's own are read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sft_kit.data.rows import Message
from sft_kit.data.text import near
from sft_kit.errors import UsageError
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.compare import compare
from sft_kit.evaluate.probes import (
    CUSTOM_SYSTEMS,
    NATURE,
    Context,
    Probe,
    general_probes,
    identity_probes,
    likelihood_texts,
    user_probes,
)
from sft_kit.evaluate.score import mentions, normalise
from sft_kit.identity.generate import Expect, HeldOutQuestion, IdentitySpec, split
from sft_kit.identity.names import Lang
from sft_kit.identity.templates import load_templates
from tests.cli.conftest import REPOSITORY

QUESTIONS = """\
# general questions
questions:
  - {id: en-1, kind: fact, lang: en, question: "Capital of France?", expect_any: [Paris]}
  - {id: en-2, kind: fact, lang: en, question: "Capital of Spain?", expect_any: [Madrid]}
  - {id: zh-1, kind: fact, lang: zh, question: 法国的首都？, expect_any: [巴黎]}
  - {id: en-3, kind: maths, lang: en, question: "7 x 8?", expect_any: [56]}
  - {id: zh-2, kind: chat, lang: zh, question: 你好}
  - {id: en-4, kind: form, lang: en, question: "Three words, please.", check: {words: 3}}
"""
VENDOR = "You are Qwen, created by Alibaba Cloud."


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "general.yaml"
    path.write_text(QUESTIONS, encoding="utf-8")
    return path


def held_out(id: str, category: str, lang: Lang = "en", must: tuple[str, ...] = ("Jingheng",)) -> HeldOutQuestion:
    return HeldOutQuestion(id, category, lang, f"{category}?", Expect(must=must))


@cache
def shipped_held_out() -> tuple[HeldOutQuestion, ...]:
    spec = IdentitySpec({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "Ye Botao"})
    return split(spec, load_templates()).held_out


NAMES = ("精衡", "Jingheng", "叶博韬", "Ye Botao")


def in_trained_context(held_out: list[HeldOutQuestion], per_language: int) -> list[Probe]:
    return identity_probes(held_out, ["Jingheng", "Ye Botao"], per_language, contexts=["trained"])


def test_a_general_question_becomes_a_probe_with_its_check(questions: Path) -> None:
    assert general_probes(["en"], 3, questions) == [
        Probe("en-1", "general", "en", "fact", "Capital of France?", check=Check(any_of=("Paris",))),
        Probe("en-3", "general", "en", "maths", "7 x 8?", check=Check(any_of=("56",))),  # a number is compared as text
        Probe("en-4", "general", "en", "form", "Three words, please.", check=Check(words=(3, 3))),
    ]


def test_a_few_questions_cover_every_kind(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["en", "zh"], 2, questions)] == ["en-1", "en-3", "zh-1", "zh-2"]


def test_only_the_wanted_languages_are_asked(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["zh"], 9, questions)] == ["zh-1", "zh-2"]


def test_no_general_questions_can_be_wanted(questions: Path) -> None:
    assert general_probes(["en", "zh"], 0, questions) == []


def test_when_one_sort_runs_out_the_other_fills_up(questions: Path) -> None:
    assert [probe.id for probe in general_probes(["zh"], 3, questions)] == ["zh-1", "zh-2"]
    assert [probe.id for probe in general_probes(["en"], 9, questions)] == ["en-1", "en-3", "en-4", "en-2"]


def test_held_out_questions_are_taken_in_turn_from_their_categories_the_weightiest_first() -> None:
    questions = [held_out(f"en.{category}/{n}", category) for category in ("creator", "name", "own") for n in (2, 1)]
    questions.append(held_out("zh.name/1", "name", "zh"))
    assert [probe.id for probe in in_trained_context(questions, 4)] == [
        "en.name/1", "en.creator/1", "en.own/1", "en.name/2", "zh.name/1",
    ]  # fmt: skip


def test_asked_is_who_it_is_what_it_is_and_the_facts_that_were_given() -> None:
    questions = [
        held_out("a/1", "name"),
        held_out("b/1", "creator", must=("Ye Botao", "his team")),
        held_out("c/1", "human_or_ai", must=("AI", "model")),
        held_out("d/1", "greeting", must=()),
        held_out("e/1", "third_party", must=("OpenAI",)),
        held_out("f/1", "limits", must=("cannot",)),
        held_out("g/1", "version", must=("1.2",)),
    ]
    probes = in_trained_context(questions, 9)
    assert {probe.id: probe.about_nature for probe in probes} == {
        "a/1": False, "b/1": False, "c/1": True, "g/1": False,
    }  # fmt: skip


def test_sixty_shipped_questions_are_five_of_each_of_twelve_categories() -> None:
    probes = identity_probes(shipped_held_out(), NAMES, 60, contexts=["trained"])
    counts = Counter((probe.lang, probe.category) for probe in probes)
    assert (len(counts), set(counts.values())) == (24, {5})
    assert {probe.category for probe in probes} > NATURE
    assert sum(bool(probe.turns) for probe in probes) == 10


def test_each_question_is_asked_in_one_other_context_and_each_category_meets_them_all() -> None:
    probes = identity_probes(shipped_held_out(), NAMES, 60, vendor_system=VENDOR, trained_system="Be kind.")
    first, again = probes[:120], probes[120:]
    trained = [probe for probe in first if probe.context == "trained"]
    assert {probe.context for probe in first} == {"trained", "own"}
    assert [probe.id.rpartition("@")[0] for probe in again] == [probe.id for probe in trained]
    assert [replace(probe, id="", system=None, context="trained") for probe in again] == [
        replace(probe, id="") for probe in trained
    ]
    met: dict[tuple[str, str], set[str]] = defaultdict(set)
    for probe in again:
        met[probe.lang, probe.category].add(probe.context)
    assert set(map(frozenset, met.values())) == {frozenset({"none", "vendor", "custom"})}
    custom = {probe.system for probe in again if probe.context == "custom"}
    assert custom == {text for texts in CUSTOM_SYSTEMS.values() for text in texts}
    per_context = Counter((probe.lang, probe.context) for probe in again)
    assert max(per_context.values()) - min(per_context.values()) <= 1
    assert len({probe.id for probe in probes}) == len(probes)


def test_a_context_is_what_is_sent_as_the_system_prompt() -> None:
    questions = [held_out(f"a/{n}", "name") for n in range(4)]
    probes = identity_probes(questions, ["Jingheng"], 4, vendor_system=VENDOR, trained_system=None)
    assert [(probe.id, probe.context, probe.system) for probe in probes] == [
        ("a/0", "trained", None), ("a/1", "trained", None), ("a/2", "trained", None), ("a/3", "trained", None),
        ("a/0@none", "none", ""), ("a/1@vendor", "vendor", VENDOR), ("a/2@custom", "custom", CUSTOM_SYSTEMS["en"][0]),
        ("a/3@none", "none", ""),
    ]  # fmt: skip
    assert probes[4].messages() == [{"role": "system", "content": ""}, {"role": "user", "content": "name?"}]
    assert probes[0].messages() == [{"role": "user", "content": "name?"}]


@pytest.mark.parametrize(
    ("vendor", "trained", "wanted", "asked"),
    [
        (VENDOR, None, ["trained", "none", "vendor", "custom"], {"trained", "none", "vendor", "custom"}),
        (None, "Be kind.", ["trained", "none", "vendor", "custom"], {"trained", "none", "custom"}),
        ("", "Be kind.", ["trained", "none", "vendor", "custom"], {"trained", "none", "custom"}),
        (VENDOR, VENDOR + "\n", ["trained", "none", "vendor", "custom"], {"trained", "none", "custom"}),
        (VENDOR, "", ["trained", "none", "vendor", "custom"], {"trained", "vendor", "custom"}),
        (None, "", ["trained", "none"], {"trained"}),
        (VENDOR, "", ["custom"], {"custom"}),
    ],
)
def test_a_context_that_is_the_trained_one_or_not_wanted_is_left_out(
    vendor: str | None, trained: str | None, wanted: list[Context], asked: set[str]
) -> None:
    questions = [held_out(f"a/{n}", "name") for n in range(4)]
    probes = identity_probes(questions, ["Jingheng"], 4, contexts=wanted, vendor_system=vendor, trained_system=trained)
    assert {probe.context for probe in probes} == asked


def test_a_question_with_a_system_prompt_of_its_own_is_asked_once_whatever_the_contexts() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello!"))
    question = replace(held_out("a/1", "multi_turn", "zh"), turns=turns, system="Be brief.")
    (probe,) = identity_probes([question], ["Jingheng"], 1, contexts=["none", "custom"])
    assert probe == Probe(
        "a/1",
        "identity",
        "zh",
        "multi_turn",
        "multi_turn?",
        Expect(must=("Jingheng",)),
        None,
        turns,
        "Be brief.",
        "own",
    )
    assert probe.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "multi_turn?"},
    ]


def test_no_custom_system_prompt_is_one_that_is_trained() -> None:
    trained = [text.source for group in load_templates().groups for text in group.systems]
    assert len(trained) > 20
    assert [
        (one, text) for texts in CUSTOM_SYSTEMS.values() for one in texts for text in trained if near(one, text)
    ] == []


def test_a_text_of_each_language_is_there_for_the_likelihood() -> None:
    texts = likelihood_texts(["en", "zh"])
    assert {lang: (800 < len(text.split()) < 1000, 1300 < len(text) < 1700) for lang, text in texts.items()} == {
        "en": (True, False), "zh": (False, True),
    }  # fmt: skip
    assert [text for text in texts.values() if text.count("\n\n") < 4] == []


def test_a_users_questions_are_read_from_yaml_with_all_their_fields(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        """\
- What is 2 + 2?
- {id: a, question: 你好吗？, lang: zh, category: chat}
- question: And now?
  system: ""
  turns: [{role: user, content: Hi}, {role: assistant, content: Hello}]
  expect_any: [42]
  check: {words: [1, 3]}
- {question: Who are you?, expect: {must: [Jingheng], polarity: "yes"}}
""",
        encoding="utf-8",
    )
    turns = (Message("user", "Hi"), Message("assistant", "Hello"))
    assert user_probes(path) == [
        Probe("line-1", "user", "en", "own", "What is 2 + 2?"),
        Probe("a", "user", "zh", "chat", "你好吗？"),
        Probe("line-3", "user", "en", "own", "And now?", check=Check(any_of=("42",), words=(1, 3)), turns=turns,
              system="", context="own"),
        Probe("line-8", "user", "en", "own", "Who are you?", Expect(must=("Jingheng",), polarity="yes")),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["docs/evaluation.md", "docs/evaluation.zh-CN.md", "data/probes/README.md"])
def test_the_examples_of_the_documentation_are_read(tmp_path: Path, name: str) -> None:
    texts = re.findall(r"```yaml\n(- .*?)```", (REPOSITORY / name).read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.yaml").write_text("".join(texts), encoding="utf-8")
    assert any(probe.check for probe in user_probes(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.yaml", "- 你好\n- {question: Hi, lang: fr}\n"),
        ("q.yml", "questions:\n  - 你好\n  - {question: Hi, lang: fr}\n"),
        ("q.json", '["你好",\n {"question": "Hi", "lang": "fr"}]'),
        ("q.jsonl", '"你好"\n{"question": "Hi", "lang": "fr"}\n'),
    ],
)
def test_yaml_json_and_jsonl_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    asked = [(probe.question, probe.lang) for probe in user_probes(tmp_path / name)]
    assert asked == [("你好", "zh"), ("Hi", "fr")]


def test_a_plain_text_holds_one_question_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffWho are you?\n\n  - 你是谁？ \n", encoding="utf-8")
    assert [(probe.id, probe.lang, probe.question) for probe in user_probes(path)] == [
        ("line-1", "en", "Who are you?"), ("line-3", "zh", "- 你是谁？"),
    ]  # fmt: skip


def test_every_wrong_question_is_told_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(
        """\
- {qestion: Hi}
- 5
- {question: ""}
- {question: Hi, turns: [{role: user, content: Hi}]}
- {question: Hi, check: {word: 3}}
- {question: Hi, check: {any_of: a}, expect_any: b}
- {question: Hi, expect: {polarity: no}}
- {question: yes}
- {question: Hi, id: a}
- {question: Hi, id: a}
"""
    )
    known = "known: id, lang, category, question, system, turns, expect, expect_any, check"
    checks = "any_of, all_of, forbidden, words, characters, sentences, lines, items, json, starts, ends, case"
    see = "see data/probes/README.md"
    with pytest.raises(UsageError) as caught:
        user_probes(path)
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:1: unknown qestion; {known}; {see}",
        f"{path}:2: a question is a text or a mapping, not int; {see}",
        f"{path}:3: question is missing or empty; {see}",
        f"{path}:4: turns are mappings of role and content: user and assistant in turn, the assistant last; {see}",
        f"{path}:5: check has no word; known: {checks}; {see}",
        f"{path}:6: expect_any and check.any_of are the same; give one; {see}",
        f'{path}:7: expect.polarity is "yes" or "no", in quotes; {see}',
        f"{path}:8: question is no text: True; put it in quotes; {see}",
        f"{path}: id 'a' is used 2 times; give each its own, or none",
    ]


@pytest.mark.parametrize("text", ["", "5\n", "a: 1\n", "questions: {a: 1}\n"])
def test_a_file_without_a_list_of_questions_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        user_probes(path)
    assert str(caught.value) == f"{path}: holds no list of questions; see data/probes/README.md"


def test_a_file_without_a_question_is_refused(tmp_path: Path) -> None:
    for name, text in (("q.yaml", "[]"), ("q.txt", "\n \n"), ("q.json", "[]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match="holds no question; see"):
            user_probes(tmp_path / name)


def test_a_missing_or_broken_file_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text("- a\n- b: [\n")
    (tmp_path / "q.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "q.jsonl").write_text('"a"\n{"question"}\n')
    told = {
        "gone.txt": ": cannot be read",
        "q.yaml": ":3:1: is not YAML",
        "q.txt": ": is not UTF-8",
        "q.jsonl": ":2:12",
    }
    for name, message in told.items():
        with pytest.raises(UsageError) as caught:
            user_probes(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}{message}")


@cache
def shipped(*, checkable: bool) -> list[Probe]:
    return [probe for probe in general_probes(["zh", "en"], 10_000) if bool(probe.check) is checkable]


@cache
def facts() -> list[tuple[Probe, Check]]:
    """The shipped questions whose check is nothing but the texts that are right."""
    return [(probe, probe.check) for probe in shipped(checkable=True) if probe.check == Check(any_of=texts(probe))]


def texts(probe: Probe) -> tuple[str, ...]:
    return probe.check.any_of if probe.check else ()


def right(probe: Probe, answer: str) -> bool:
    (pair,) = compare([probe], [""], [answer], []).pairs
    return pair.tuned.correct is True


def test_questions_that_can_be_checked_and_forty_others_are_shipped_in_each_language() -> None:
    counts = [Counter(probe.lang for probe in shipped(checkable=checkable)) for checkable in (True, False)]
    assert counts == [{"en": 88, "zh": 88}, {"en": 40, "zh": 40}]
    ids = [probe.id for checkable in (True, False) for probe in shipped(checkable=checkable)]
    assert len(set(ids)) == 256
    assert Counter(probe.lang for probe, _ in facts()) == {"en": 62, "zh": 62}


@pytest.mark.parametrize("few", [16, 50])
def test_half_of_a_few_shipped_questions_can_be_checked_and_no_kind_is_missing(few: int) -> None:
    probes = general_probes(["zh", "en"], few)
    for lang in ("zh", "en"):
        asked = [probe for probe in probes if probe.lang == lang]
        assert [bool(probe.check) for probe in asked] == [True, False] * (few // 2)
        assert {probe.category for probe in asked} == {
            "fact", "arithmetic", "writing", "instruction", "code", "chat", "near-miss",
        }  # fmt: skip


def test_a_hundred_shipped_questions_are_the_forty_open_ones_and_sixty_that_can_be_checked() -> None:
    counts = Counter((probe.lang, probe.check is not None) for probe in general_probes(["zh", "en"], 100))
    assert counts == {("en", True): 60, ("en", False): 40, ("zh", True): 60, ("zh", False): 40}


ANSWERS = {
    "en-form-01": "Vast, deep, blue.", "en-form-02": "Cold", "en-form-03": "The Last Light at Sea",
    "en-form-04": "They keep people warm.", "en-form-05": '{"name": "Ann", "age": 30}',
    "en-form-06": '```json\n{"city": "Paris", "country": "France"}\n```', "en-form-07": '{"answer": 4}',
    "en-form-08": "Soft white flakes cover everything.", "en-form-09": "Lemon.",
    "en-form-10": "Warm air rises and cools. The water in it condenses to droplets.",
    "en-form-11": "A kite was alone. The wind came. It flew away!", "en-form-12": "Dark cup\nof dawn,\nwake me.",
    "en-form-13": "- Towel\n- Hat\n- Water", "en-form-14": "1. Leek\n2. Kale\n3. Peas\n4. Beet\n5. Corn",
    "en-form-15": "- Vanilla\n- Mint\n- Lemon\n- Cherry", "en-form-16": "COWS DRINK WATER.",
    "en-form-17": "GOOD MORNING!", "en-form-18": "the train is late.", "en-form-19": "They are quiet. Keep reading.",
    "en-form-20": "Trees are good for the air.", "en-form-21": "On a ladder to the moon she carried soup.",
    "en-form-22": "banana, banana, banana", "en-form-23": "17", "en-form-24": "No.", "en-form-25": "1\n2\n3\n4\n5",
    "en-form-26": "a, b, c",
    "zh-form-01": "波澜壮阔", "zh-form-02": "花开四季春！", "zh-form-03": "冷。", "zh-form-04": "因为冬天很冷。",
    "zh-form-05": '{"name": "小王", "age": 20}', "zh-form-06": '{"city": "巴黎", "country": "法国"}',
    "zh-form-07": '{"answer": "四"}', "zh-form-08": "雪静静地落下。", "zh-form-09": "雨点敲着屋檐。",
    "zh-form-10": "长城很长。它修了很多年。", "zh-form-11": "有一只风筝。风来了。它飞走了！",
    "zh-form-12": "清晨一杯\n热气升起\n苦中有香\n醒来", "zh-form-13": "- 毛巾\n- 帽子\n- 水",
    "zh-form-14": "1. 白菜\n2. 萝卜\n3. 黄瓜\n4. 茄子\n5. 豆角", "zh-form-15": "那里很安静，有空就去多读书。",
    "zh-form-16": "树木可以净化空气。", "zh-form-17": "她顺着梯子爬上月亮去喝汤。", "zh-form-18": "香蕉，香蕉，香蕉",
    "zh-form-19": "17", "zh-form-20": "不是。", "zh-form-21": "1\n2\n3\n4\n5", "zh-form-22": "GOOD MORNING",
    "zh-form-23": "china", "zh-form-24": "春暖花开", "zh-form-25": "我每天喝 3 杯茶。",
    "zh-form-26": "墨香斋\n知行书屋",
}  # fmt: skip


def test_every_instruction_can_be_followed_and_only_so() -> None:
    probes = {probe.id: probe for probe in shipped(checkable=True) if probe.category == "instruction"}
    assert probes.keys() == ANSWERS.keys()
    assert [id for id, answer in ANSWERS.items() if not right(probes[id], answer)] == []
    more = "Sure, here you are:\n{}\n- Is there anything else that I can help you with today?\n还有什么需要帮忙的吗？"
    longer = [id for id, answer in ANSWERS.items() if right(probes[id], more.format(answer))]
    assert longer == ["en-form-08", "zh-form-08", "zh-form-09"]  # a forbidden word does not care how long it gets


@pytest.mark.parametrize(
    "frame", ["{}", "**{}**", "The answer is {}.", "It's {}, of course.", "答案是{}。", "{}\n\nWhy?"]
)
def test_a_right_answer_passes_however_it_is_put(frame: str) -> None:
    wrong = [(p.id, text) for p, check in facts() for text in check.any_of if not check.holds(frame.format(text))]
    assert wrong == []


def test_the_answer_of_one_question_does_not_pass_for_another() -> None:
    """Unless both expect it: seven days and seven continents."""
    accidents = [
        (one.id, text)
        for one, check in facts()
        for other, _ in facts()
        for text in texts(other)
        if one.lang == other.lang
        and check.holds(f"The answer is {text}." if one.lang == "en" else f"答案是{text}。")
        and not any(mentions(normalise(text), wanted) for wanted in check.any_of)
    ]
    assert accidents == []


def test_a_number_near_the_right_one_does_not_pass() -> None:
    numbers = [(p, text) for p, check in facts() for text in check.any_of if text.isdecimal()]
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
    (probe,) = [probe for probe in shipped(checkable=True) if probe.id == id]
    assert not right(probe, answer)


def test_neither_the_question_nor_an_evasion_passes() -> None:
    evasions = [
        "I am sorry, but I cannot answer that. Please give me more information, and I will do my best to help you!",
        "As an AI language model made by Alibaba Cloud, I do not know the answer to this question.",
        "I am Jingheng, an assistant made by Ye Botao. What can I do for you today?",
        "我是精衡，由叶博韬开发。请问有什么可以帮助您的吗？",
        "对不起，这个问题我无法回答，请提供更多的信息，谢谢您的理解。",
    ]
    for probe in shipped(checkable=True):
        assert [text for text in [probe.question, *evasions] if right(probe, text)] == [], probe.id
