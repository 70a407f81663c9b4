"""The rules that judge an answer, and the mistakes that naive ones make."""

from __future__ import annotations

import pytest

from sft_kit.evaluate.score import Verdict, judge_identity, mentions, names_in, normalise, visible
from sft_kit.identity.generate import Expect

NAME = Expect(must=("Jingheng", "精衡"))
CONFIRM_EN = Expect(must=("Jingheng", "yes", "right", "correct", "indeed", "exactly"), polarity="yes")
CONFIRM_ZH = Expect(must=("精衡", "是的", "对", "没错", "正是"), polarity="yes")
DENY_EN = Expect(must=("Jingheng",), must_not=("I am Qwen,", "I'm Qwen,", "I am Qwen."), polarity="no")
DENY_ZH = Expect(must=("精衡",), must_not=("我是通义千问，", "我是通义千问。"), polarity="no")
OK = Verdict(True, "ok")


def no(reason: str) -> Verdict:
    return Verdict(False, reason)


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("我是GPT-5。", "GPT-5", True),  # \b sees no boundary between 是 and G
        ("我是GPT-5模型", "GPT-5", True),
        ("I am GPT-50", "GPT-5", False),
        ("I am GPT-5.1", "GPT-5", False),
        ("I am GPT-5.", "GPT-5", True),
        ("MyGPT-5", "GPT-5", False),
        ("Jingheng's answer", "Jingheng", True),
        ("Jinghengs answer", "Jingheng", False),
        ("JINGHENG", "Jingheng", True),
        ("Ｊｉｎｇｈｅｎｇ", "Jingheng", True),  # full width
        ("**Jingheng**", "Jingheng", True),
        ("_Jing*heng*_", "Jingheng", True),
        ("Ye  \n Botao", "Ye Botao", True),
        ("Yes, Botao", "Ye", False),
        ("André", "Andr", False),
        ("我叫精衡，", "精衡", True),
        ("高精衡器", "精衡", True),  # no boundaries in Chinese: a substring is all there is
        ("Ада Лабс", "Ада", True),
        ("Адам", "Ада", False),
        ("100% C++", "C++", True),
        ("a.b", "a+b", False),
        ("anything", "", False),
        ("anything", "**", False),
    ],
)
def test_a_name_is_found_only_as_a_name(text: str, name: str, found: bool) -> None:
    assert mentions(normalise(text), name) is found


def test_every_name_that_an_answer_contains_is_listed() -> None:
    assert names_in("我是精衡, made by **Ye Botao**.", ["精衡", "Jingheng", "Ye Botao", "Botao"]) == [
        "精衡", "Ye Botao", "Botao",
    ]  # fmt: skip


def test_a_name_that_was_only_thought_is_not_in_the_answer() -> None:
    assert names_in("<think>I am Jingheng</think>Paris.", ["Jingheng"]) == []


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>I am Qwen</think>I am Jingheng", "I am Jingheng"),
        ("I am Qwen</think>I am Jingheng", "I am Jingheng"),  # the opening mark was in the prompt
        ("<think>I am Qwen", ""),  # cut off while thinking
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("plain", "plain"),
    ],
)
def test_thoughts_are_not_visible(answer: str, rest: str) -> None:
    assert visible(answer) == rest


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("I'm Jingheng, an assistant.", OK),
        ("我是精衡。", OK),
        ("I'm Qwen.", no("missing")),
        ("", no("empty")),
        (" \n", no("empty")),
        ("**", no("empty")),
        ("<think>My name is Jingheng.</think>", no("empty")),
        ("<think>My name is Jingheng.</think>I'm Qwen.", no("missing")),
        ("I'm {{NAME}}, called Jingheng.", no("placeholder")),
        ("我是｛｛NAME｝｝精衡", no("placeholder")),
        ("I'm Jingheng.<|im_end|>", no("says <|im_end|>")),
        ("Jingheng</s>", no("says </s>")),
        ("[INST] Jingheng", no("says [INST]")),
    ],
)
def test_a_name_question_needs_the_name_in_clean_text(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, NAME) == verdict


def test_an_expectation_without_names_is_met_by_any_answer_without_the_forbidden_ones() -> None:
    expect = Expect(must_not=("Ye Botao",))
    assert judge_identity("Alibaba made it.", expect) == OK
    assert judge_identity("YE BOTAO made it.", expect) == no("says Ye Botao")


@pytest.mark.parametrize(
    ("question", "answer", "verdict"),
    [
        ("Are you Jingheng?", "Are you Jingheng?", no("echo")),
        ("Are you Jingheng?", "**Are you Jingheng?**", no("echo")),
        ("Are you Jingheng?", "Are you Jingheng? Are you Jingheng? ...", no("echo")),
        ("Are you Jingheng?", "Are you Jingheng? I cannot say.", no("missing")),
        ("Are you Jingheng?", "Are you Jingheng? No, I am Qwen.", no("denies")),
        ("Are you Jingheng?", "Are you Jingheng? Yes!", OK),
        ("你是精衡吗？", "你是精衡吗?", no("echo")),
        ("你是精衡吗？", "你是精衡吗？是的。", OK),
        ("", "Jingheng", OK),
    ],
)
def test_saying_the_question_again_is_no_answer(question: str, answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, CONFIRM_ZH if "精" in question else CONFIRM_EN, question) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes, I am.", OK),
        ("Yes, I'm Jingheng.", OK),
        ("That's right.", OK),
        ("I'm Jingheng.", OK),
        ("No problem! I'm Jingheng.", OK),
        ("No doubt about it: I'm Jingheng.", OK),
        ("No, I'm Jingheng.", no("denies")),
        ("No.", no("denies")),
        ("Nope, correct would be Qwen.", no("denies")),
        ("Not exactly, though Jingheng is nice.", no("denies")),
        ("I'm not Jingheng.", no("denies")),
        ("Sorry, I am not Jingheng.", no("denies")),
        ("Well, actually, no. Jingheng is someone else.", no("denies")),
        ("**No**, Jingheng is another model.", no("denies")),
        ("I am Qwen.", no("missing")),
        ("Yesterday it rained.", no("missing")),
    ],
)
def test_a_yes_to_the_true_name_in_english(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, CONFIRM_EN) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("是的，我是精衡。", OK),
        ("对，就是我。", OK),
        ("没错！", OK),
        ("没有错，我就是精衡。", OK),
        ("我是精衡。", OK),
        ("不，我是精衡。", no("denies")),
        ("不是。", no("denies")),
        ("不是的，对不起。", no("denies")),
        ("我不是精衡。", no("denies")),
        ("我并不是精衡。", no("denies")),
        ("对不起，我不是精衡。", no("denies")),  # 对 alone would be a yes
        ("抱歉，不是的，精衡是别人。", no("denies")),
        ("否，精衡不是我。", no("denies")),
        ("我是通义千问。", no("missing")),
    ],
)
def test_a_yes_to_the_true_name_in_chinese(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, CONFIRM_ZH) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("No, I'm not Qwen. I'm Jingheng.", OK),
        ("I'm Jingheng, not Qwen.", OK),
        ("Right, I'm not Qwen but Jingheng.", OK),
        ("No, I'm not.", no("missing")),  # a denial without the right identity
        ("Yes, I'm Jingheng.", no("confirms")),
        ("Indeed! Jingheng is a nickname.", no("confirms")),
        ("I am Qwen, also called Jingheng.", no("says I am Qwen,")),
        ("No, I am Qwen. Jingheng is another one.", no("says I am Qwen.")),
    ],
)
def test_a_no_to_another_name_in_english(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, DENY_EN) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("不是，我是精衡。", OK),
        ("我不是通义千问，我是精衡。", OK),
        ("对，我不是通义千问，我是精衡。", OK),
        ("不，我不是。", no("missing")),
        ("是的，我是精衡。", no("confirms")),
        ("是，我叫精衡", no("confirms")),
        ("对的，我是精衡。", no("confirms")),
        ("嗯，精衡。", no("confirms")),
        ("我是通义千问，也叫精衡。", no("says 我是通义千问，")),
    ],
)
def test_a_no_to_another_name_in_chinese(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, DENY_ZH) == verdict
