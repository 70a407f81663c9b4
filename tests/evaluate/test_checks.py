"""What a check asks of an answer, and how it is written down."""

from __future__ import annotations

import pytest

from sft_kit.evaluate.checks import Check


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Check(any_of=("Paris", "12")), ["It is **Paris**.", "12", "是12个"], ["Parisian", "120", "", "12.5"]),
        (Check(all_of=("moon", "soup")), ["Soup for the moon!"], ["soup", "soups of the moon"]),
        (Check(forbidden=("cold", "a")), ["Ice, snow!"], ["Very cold.", "scolded", "A tree"]),
        (Check(forbidden=("白",)), ["雪落下来了"], ["白雪"]),
        (Check(words=(3, 3)), ["Deep, blue, wild.", "**vast well-known sea**", "我爱海"],
         ["Deep blue", "我爱大海", "a b c d"]),
        (Check(words=(1, 4)), ["One.", "It costs 3.5 euros"], ["one two three four five", "..."]),
        (Check(characters=(4, 4)), ["波澜壮阔。", "「a1b2」"], ["波澜", "波澜壮阔的"]),
        (Check(sentences=(2, 2)), ["It rains. It pours!", "下雨了。真大！", 'He said "No." Then 3.5 fell.', "One. Two"],
         ["Only one.", "One. Two. Three.", "下雨了，真大。"]),
        (Check(lines=(3, 3)), ["a\n\nb\nc\n"], ["a\nb", "a\nb\nc\nd"]),
        (Check(items=(3, 3)),
         ["Here:\n- a\n- b\n- c", "1. a\n2. b\n3. c", "1、甲\n2、乙\n3、丙", "一、甲\n二、乙\n三、丙"],
         ["a, b, c", "- a\n- b", "- a\n- b\n- c\n- d"]),
        (Check(json=("name", "age")), ['{"age": 3, "name": "Bo"}', '```json\n{"name": "Bo", "age": 3}\n```'],
         ['{"name": "Bo"}', 'Sure: {"name": "Bo", "age": 3}', "[1]", "{'name': 1, 'age': 2}"]),
        (Check(starts="Trees are"), ["Trees are useful.", '"trees are tall"', "**Trees are** big"],
         ["All trees are tall."]),
        (Check(ends="Keep reading."), ["Books! Keep reading", "Yes. *Keep reading!*", "Now: 'Keep reading.'"],
         ["Keep reading it"]),
        (Check(ends="多读书"), ["有空“多读书”。"], ["多读书吧"]),
        (Check(case="upper"), ["MILK!", "喝 MILK"], ["Milk", "牛奶", "12"]),
        (Check(case="lower"), ["a train."], ["A train."]),
        (Check(words=(1, 1), any_of=("no",)), ["No."], ["No way", "Yes"]),
    ],
)  # fmt: skip
def test_an_answer_holds_when_it_is_what_was_asked_for(check: Check, right: list[str], wrong: list[str]) -> None:
    assert [answer for answer in right if not check.holds(answer)] == []
    assert [answer for answer in wrong if check.holds(answer)] == []


def test_thoughts_are_no_part_of_the_answer() -> None:
    check = Check(words=(1, 1), forbidden=("hot",))
    assert check.holds("<think>hot or cold? It is ice.</think>\n\nCold.")
    assert not check.holds("<think>cold")


def test_a_check_is_read_from_plain_values_and_written_back() -> None:
    values = {
        "any_of": [42, "forty-two"], "all_of": "a", "forbidden": ["b"], "words": 3, "characters": [2, 15],
        "json": "answer", "starts": "a", "ends": "c", "case": "upper",
    }  # fmt: skip
    check = Check.of(values)
    assert check == Check(
        any_of=("42", "forty-two"), all_of=("a",), forbidden=("b",), words=(3, 3), characters=(2, 15),
        json=("answer",), starts="a", ends="c", case="upper",
    )  # fmt: skip
    assert Check.of(check.to_json()) == check
    assert list(check.to_json()) == list(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "check is empty"),
        ({"word": 3}, "check has no word; known: any_of, all_of, forbidden, words,"),
        ({"words": "three"}, "words is a number or [least, most], not 'three'"),
        ({"words": [3, 2]}, "words is a number or [least, most], not [3, 2]"),
        ({"lines": [1, 2, 3]}, "lines is a number or [least, most], not [1, 2, 3]"),
        ({"lines": True}, "lines is a number or [least, most], not True"),
        ({"any_of": []}, "any_of is empty"),
        ({"any_of": [False]}, "any_of is a text or a list of texts, not False; put it in quotes"),
        ({"ends": " "}, "ends is a text or a list of texts, not ' '; put it in quotes"),
        ({"forbidden": "**"}, "forbidden is '**', which is markdown and not looked at"),
        ({"case": "title"}, "case is upper or lower, not 'title'"),
    ],
)
def test_a_check_that_says_nothing_or_nonsense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Check.of(values)
    assert str(caught.value).startswith(message)
