"""Text that no model should have written, and text that only looks like it."""

from __future__ import annotations

import pytest

from sft_kit.evaluate.degenerate import other_language, placeholder, repeats_itself, special_token


@pytest.mark.parametrize(
    "answer",
    [
        "I like tea. I like tea. I like tea. I like tea.",
        "It is a tool that can help people. It is a tool that can help people. It is a tool that can help people.",
        "我很好，谢谢。我很好，谢谢。我很好，谢谢。",
        "gaingaingaingaingaingaingaingain",
        " he he he he he he he he",
        "IIIIIIII",
        "助手助手助手助手助手助手",
        "I'm a guy named Bill who's a guy named Bill who's a guy named Bill who's a guy named",
        "1. I'm Bill.\n2. I'm Bill.\n3. I'm Bill.\n4. I'm Bill.",
        "I am Bill. I am Bill! I am Bill? I am Bill, I am Bill",
    ],
)
def test_a_loop_is_found(answer: str) -> None:
    assert repeats_itself(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Yes.",
        "No, no, no.",
        "哈哈哈",
        "Row, row, row your boat, gently down the stream.",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
        "----------------------------------------",
        "1. Wash the rice.\n2. Boil the water.\n3. Wait.",
        "7 x 1 = 7\n7 x 2 = 14\n7 x 3 = 21\n7 x 4 = 28\n7 x 5 = 35",
        "1 000 000 000 000",
        "Tell her that you are there. Tell her that you care.",
    ],
)
def test_what_only_looks_like_a_loop_is_let_through(answer: str) -> None:
    assert not repeats_itself(answer)


def test_a_loop_at_the_end_of_a_very_long_text_is_found() -> None:
    text = " ".join(f"word{number}" for number in range(20_000))
    assert not repeats_itself(text)
    assert repeats_itself(text + " and so on" * 5)


@pytest.mark.parametrize(
    ("answer", "token"),
    [
        ("Hi<|im_end|>", "<|im_end|>"),
        ("Hi<｜end▁of▁sentence｜>", "<|end▁of▁sentence|>"),
        ("<start_of_turn>model", "<start_of_turn>"),
        ("Hi <PAD><PAD>", "<PAD>"),
        ("[gMASK]<sop>Hi", "[gMASK]"),
        ("<<SYS>>", "<<SYS>>"),
        ("a <b> c", None),
        ("I <3 you | me |>", None),
        ("x[0] and [name]", None),
    ],
)
def test_special_tokens_are_found(answer: str, token: str | None) -> None:
    assert special_token(answer) == token


@pytest.mark.parametrize(
    ("answer", "slot"),
    [
        ("I'm {{NAME}}", "{{"),
        ("I'm {your_name}", "{your_name}"),
        ("I'm [Your Name]", "[Your Name]"),
        ("I'm [Insert Name Here]", "[Insert Name Here]"),
        ("I'm <name>", "<name>"),
        ("我叫【名字】", "【名字】"),
        ("我叫＿＿＿＿", "____"),
        ("我来自XX公司", "XX"),
        ("I was made by XXX.", "XXX"),
        ("Super Bowl XXX", "XXX"),
        ('{"name": "Bill"}', None),
        ("[1] and [see the docs]", None),
        ("[name](https://example.org)", None),
        ("snake_case and __init__", None),
        ("Louis XX", None),
    ],
)
def test_unfilled_placeholders_are_found(answer: str, slot: str | None) -> None:
    assert placeholder(answer) == slot


def test_a_name_is_neither_a_token_nor_a_slot() -> None:
    assert placeholder("I'm [Team] 7.", ["[Team] 7"]) is None
    assert placeholder("I'm [team] 7 of [Team].", ["[Team] 7"]) == "[Team]"
    assert special_token("I'm <s>.", ["<S>"]) is None


@pytest.mark.parametrize(
    ("prompt", "answer", "other"),
    [
        ("你好吗？", "I am doing very well today, thank you so much.", True),
        ("你好吗？", "OK, thanks.", False),  # too short to tell
        ("翻译成英文：你好", "Hello and good day to all of you out there.", False),
        ("写一段代码", "```python\nfor number in range(10): print(number) # one two three\n```", False),
        ("How are you?", "我今天很好，谢谢你的关心，祝你生活愉快。", True),
        ("Translate into Chinese: tea", "茶，这是一种饮料，在中国很受欢迎，历史悠久。", False),
        ("How are you?", "好。", False),
    ],
)
def test_the_language_of_any_text_errs_on_letting_it_pass(prompt: str, answer: str, other: bool) -> None:
    assert other_language(prompt, answer) is other


@pytest.mark.parametrize(
    ("lang", "answer", "other"),
    [
        ("zh", "I'm Bill, an assistant.", True),
        ("zh", "Bill Gates", False),  # the name alone
        ("zh", "我是 Bill Gates, an AI assistant made in Ohio.", False),
        ("zh", "私はBill Gatesです。", True),
        ("zh", "저는 Bill Gates 입니다.", True),
        ("en", "我是比尔。", True),
        ("en", "I'm 比尔·盖茨.", False),
        ("en", "Ich bin Bill und ich bin ein Assistent.", True),
        ("en", "Меня зовут Билл.", True),
        ("en", "I'm Bill, and my motto is la vie est belle.", False),
        ("en", "3.14", False),
    ],
)
def test_the_language_of_an_answer_about_itself_is_the_one_asked_in(lang: str, answer: str, other: bool) -> None:
    assert other_language("Who?", answer, lang, ["Bill Gates", "比尔·盖茨"]) is other
