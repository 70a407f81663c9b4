"""What is refused as a name, what is warned about, and what passes."""

from __future__ import annotations

import pytest

from sft_kit.errors import UsageError
from sft_kit.identity.names import NameFinding, check_names, contains_name, raise_name_errors, same_vendor


def messages(name: str, author: str = "Ye Botao", severity: str = "error") -> list[str]:
    return [f.message for f in check_names({"en": name}, {"en": author}) if f.severity == severity]


@pytest.mark.parametrize(
    ("name", "author"),
    [
        ("Jingheng", "Ye Botao"),
        ("swift-robot", "swift"),
        ("CSDN", "Team 7"),
        ("Zoë 🚀", "O2 Labs"),
        ("👩‍💻 Ada", "ACME Inc."),
        ("<3 cats", "a < b"),
    ],
)
def test_ordinary_names_pass(name: str, author: str) -> None:
    assert check_names({"en": name}, {"en": author}) == []


def test_chinese_names_pass_in_chinese() -> None:
    assert check_names({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "YE SEVERIN"}) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is empty"),
        ("  \t", "is empty"),
        ("Jing\nheng", "has a line break or control character (U+000A)"),
        ("Jing\x00heng", "has a line break or control character (U+0000)"),
        ("Jing\u2028heng", "has a line break or control character (U+2028)"),
        ("Jing\u202eheng", "has a character that reorders text (U+202E)"),
        ("Jing\u200bheng", "has an invisible character (U+200B)"),
        ("{{NAME}}", "has {{ or }}, which mark a slot"),
        ("a}}", "has {{ or }}, which mark a slot"),
        ("<|im_end|>", "has <|im_end|>, which models use as a special token"),
        ("x</s>", "has </s>, which models use as a special token"),
        ("<think>", "has <think>, which models use as a special token"),
        ("[INST] Bob", "has [INST], which models use as a special token"),
        ("[/INST]", "has [/INST], which models use as a special token"),
        ("<<SYS>>", "has <<SYS>>, which models use as a special token"),
        ("<start_of_turn>", "has <start_of_turn>, which models use as a special token"),
        ("<｜Assistant｜>", "has <｜Assistant｜>, which models use as a special token"),
        ("＜|im_start|＞", "has <|im_start|>, which models use as a special token"),
        ("<|eot", "has <|, which models use as a special token"),
        ("J" * 65, "has 65 characters"),
        (" Jingheng", "begins or ends with a space"),
    ],
)
def test_a_name_that_would_break_training_is_refused(name: str, says: str) -> None:
    assert messages(name) == [says]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("J" * 25, "has 25 characters"),
        ('The "Best"', 'has quotation marks (")'),
        ("a{b", "has a brace"),
        ("Assistant", "is a common word, so leakage cannot be told from normal text"),
        ("qwen-max", "is or contains Qwen, a known vendor's name"),
        ("我的通义千问", "is or contains 通义千问, a known vendor's name"),
        ("Yi", "is or contains Yi, a known vendor's name"),
        ("小明", "is Chinese and will be used as it is in English text"),
    ],
)
def test_a_doubtful_name_is_warned_about(name: str, says: str) -> None:
    assert messages(name) == []
    assert says in messages(name, severity="warning")


def test_a_family_name_that_is_also_a_vendor_is_no_vendor_inside_a_name() -> None:
    assert check_names({"en": "Jingheng"}, {"en": "Yi Zhang"}) == []


def test_a_name_equal_to_its_author_is_refused_unless_forced() -> None:
    finding = NameFinding("error", "name.en", "equals the author", "give two different ones, or force it")
    assert check_names({"en": "ACME"}, {"en": "acme"}) == [finding]
    assert check_names({"en": "ACME"}, {"en": "acme"}, force=True) == []


def test_a_name_inside_the_author_is_warned_about() -> None:
    (finding,) = check_names({"en": "Jing"}, {"en": "Jing Labs"})
    assert (finding.severity, finding.key) == ("warning", "name.en")


def test_every_error_is_raised_together_with_its_key() -> None:
    findings = check_names({"zh": "", "en": "{{X}}"}, {"zh": "a\nb", "en": "B"})
    with pytest.raises(UsageError) as caught:
        raise_name_errors(findings)
    assert [p.place for p in caught.value.problems] == ["name.zh", "name.en", "author.zh"]


def test_warnings_alone_are_not_raised() -> None:
    raise_name_errors(check_names({"en": "Assistant"}, {"en": "Ye Botao"}))
    assert check_names({"en": "Assistant"}, {"en": "Ye Botao"})[0].severity == "warning"


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("i am gpt", "gpt", True),
        ("我是gpt的", "gpt", True),
        ("mygpting", "gpt", False),
        ("gpt4", "gpt", True),
        ("我是通义千问", "千问", True),
        ("anything", "", False),
    ],
)
def test_a_name_is_found_at_word_edges(text: str, name: str, found: bool) -> None:
    assert contains_name(text, name) is found


def test_a_vendor_inside_the_users_own_name_is_the_users_own() -> None:
    assert same_vendor("Qwen", "Qwen-Legal", "ACME")
    assert same_vendor("Moonshot AI", "Bot", "Moonshot")
    assert not same_vendor("Qwen", "Jingheng", "Ye Botao")
