"""The rules that judge an answer, one by one; how often they are right is in test_golden.py."""

from __future__ import annotations

import random
import time

import pytest

from sft_kit.evaluate.score import (
    OldIdentity,
    Verdict,
    judge_identity,
    leaked,
    mentions,
    normalise,
    old_identity,
    spans,
    thinking,
    visible,
)
from sft_kit.identity.generate import Expect, IdentitySpec, split
from sft_kit.identity.templates import load_templates

OWN = ("Jingheng", "精衡", "Ye Botao", "叶博韬")
NAME = Expect(must=("Jingheng", "精衡"))
MAKER = Expect(must=("Ye Botao", "叶博韬"))
CONFIRM_EN = Expect(must=("Jingheng", "yes", "right", "correct", "indeed", "exactly"), polarity="yes")
CONFIRM_ZH = Expect(must=("精衡", "是的", "对", "没错", "正是"), polarity="yes")
DENY_EN = Expect(must=("Jingheng",), must_not=("I am Qwen,", "I'm Qwen,", "I am Qwen."), polarity="no")
DENY_ZH = Expect(must=("精衡",), must_not=("我是通义千问，", "我是通义千问。"), polarity="no")


def judged(answer: str, expect: Expect, question: str = "", lang: str = "") -> tuple[str, str]:
    """Label and detail."""
    verdict = judge_identity(answer, expect, question, lang=lang, own=OWN)
    assert verdict.passed is (verdict.label == "ok")
    return verdict.label, verdict.detail


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
        ("Jingheng’s answer", "Jingheng", True),
        ("Jinghengs answer", "Jingheng", False),
        ("JINGHENG", "Jingheng", True),
        ("Ｊｉｎｇｈｅｎｇ", "Jingheng", True),  # full width
        ("**Jingheng**", "Jingheng", True),
        ("_Jing*heng*_", "Jingheng", True),
        ("Ye  \n Botao", "Ye Botao", True),
        ("Steve Botao", "Ye Botao", False),
        ("Yes, Botao", "Ye", False),
        ("André", "Andr", False),
        ("我叫精衡，", "精衡", True),
        ("高精衡器", "精衡", True),  # no boundaries in Chinese: a substring is all there is
        ("我是小智Pro。", "小智 Pro", True),  # the space that templates put between scripts is often left out
        ("我是小智 Pro。", "小智Pro", True),
        ("我是小智 Project。", "小智 Pro", False),
        ("Nova‑2 with another hyphen", "Nova-2", True),
        ("Ада Лабс", "Ада", True),
        ("Адам", "Ада", False),
        ("100% C++", "C++", True),
        ("I'm Bot.C++ (X)!", "Bot.C++ (X)", True),
        ("I'm BotXC++ (X)!", "Bot.C++ (X)", False),
        ("a.b", "a+b", False),
        ("It is 12,000 km.", "12", False),
        ("It is 12,000 km.", "000", False),
        ("It is 3.12.", "12", False),
        ("It is 3.12.", "3.12", True),
        ("10, 12, 14", "12", True),
        ("10,12,14", "12", True),  # a list: three digits make a thousand
        ("It is 12.", "12", True),
        ("v2", "2", False),
        ("anything", "", False),
        ("anything", "**", False),
    ],
)
def test_a_name_is_found_only_as_a_name(text: str, name: str, found: bool) -> None:
    assert mentions(normalise(text), name) is found


@pytest.mark.parametrize(
    ("answer", "rest", "thoughts"),
    [
        ("<think>I am Qwen</think>I am Jingheng", "I am Jingheng", "I am Qwen"),
        ("I am Qwen</think>I am Jingheng", "I am Jingheng", "I am Qwen"),  # the opening mark was in the prompt
        ("<think>I am Qwen", "", "I am Qwen"),  # cut off while thinking
        ("<think>a</think>b<think>c</think>d", "bd", "a\nc"),
        ("a</think>b</think>c", "c", "a\nb"),
        ("<think>\n\n</think>\n\nplain", "\n\nplain", ""),
        ("plain", "plain", ""),
    ],
)
def test_thoughts_are_apart_from_what_is_visible(answer: str, rest: str, thoughts: str) -> None:
    assert (visible(answer), thinking(answer)) == (rest, thoughts)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("I'm Jingheng, an assistant.", Verdict(True, "ok", found=("Jingheng",))),
        ("精衡 (Jingheng)", Verdict(True, "ok", found=("Jingheng", "精衡"))),
        ("I'm Emily.", Verdict(False, "missing")),
        ("", Verdict(False, "empty")),
        (" \n**。", Verdict(False, "empty")),
        ("<think>My name is Jingheng.</think>", Verdict(False, "empty", "only thoughts")),
        ("<think>My name is Jingheng.", Verdict(False, "empty", "only thoughts")),
        ("<think>My name is Jingheng.</think>I'm Emily.", Verdict(False, "missing")),
        ("I'm Qwen.", Verdict(False, "old", "Qwen")),
        ("I'm not Jingheng.", Verdict(False, "denies", "Jingheng")),
    ],
)
def test_a_verdict_says_what_was_found(answer: str, verdict: Verdict) -> None:
    assert judge_identity(answer, NAME, own=OWN) == verdict


def test_a_reason_is_for_a_reader() -> None:
    assert Verdict(True, "ok").reason == "ok"
    assert Verdict(False, "missing").reason == "lacks the identity"
    assert Verdict(False, "old", "Qwen").reason == "claims another identity: Qwen"


@pytest.mark.parametrize(
    ("answer", "label", "detail"),
    [
        ("I'm Jingheng.<|im_end|>", "token", "<|im_end|>"),
        ("我是精衡。＜｜im_end｜＞", "token", "<|im_end|>"),
        ("Jingheng</s>", "token", "</s>"),
        ("[INST] Jingheng", "token", "[INST]"),
        ("I'm {{NAME}}, called Jingheng.", "placeholder", "{{"),
        ("我是｛｛NAME｝｝精衡", "placeholder", "{{"),
        ("I'm Jingheng by [Company Name].", "placeholder", "[Company Name]"),
        ("我叫精衡，来自XX公司。", "placeholder", "XX"),
        ("My name is ____.", "placeholder", "____"),
        ("I'm [Jingheng](https://example.org).", "ok", ""),
        ("1 < 2 and {1, 2} is a set, says Jingheng.", "ok", ""),
    ],
)
def test_tokens_and_slots_that_nobody_filled_fail(answer: str, label: str, detail: str) -> None:
    assert judged(answer, NAME) == (label, detail)


def test_a_name_may_look_like_a_slot() -> None:
    expect = Expect(must=("R&D [Team] 7",))
    assert judge_identity("R&D [Team] 7 made me.", expect, own=("R&D [Team] 7",)).passed


def test_what_it_must_not_say_counts_unless_denied() -> None:
    expect = Expect(must_not=("Ye Botao",))
    assert judged("Alibaba made it.", expect) == ("ok", "")
    assert judged("YE BOTAO made it.", expect) == ("forbidden", "Ye Botao")
    assert judged("Alibaba made it, not Ye Botao.", expect) == ("ok", "")
    human = Expect(must=("AI",), must_not=("I am a human",))
    assert judged("I am a human. AI is my job.", human) == ("forbidden", "I am a human")
    assert judged('Never believe an AI that says "I am a human".', human) == ("ok", "")


@pytest.mark.parametrize(
    ("question", "answer", "label"),
    [
        ("Are you Jingheng?", "Are you Jingheng?", "echo"),
        ("Are you Jingheng?", "**Are you Jingheng?**", "echo"),
        ("Are you Jingheng?", "Are you Jingheng? Are you Jingheng? ...", "echo"),
        ("Ye Botao made u yeah, Jingheng?", "The Botao made u yeah, Jingheng?", "echo"),
        ("Are you Jingheng?", "Are you Jingheng? I would not know.", "missing"),
        ("Are you Jingheng?", "Are you Jingheng? No, I am Emily.", "denies"),
        ("Are you Jingheng?", "Are you Jingheng? Yes!", "ok"),
        ("Are you Jingheng?", "Jingheng is a beautiful name.", "missing"),  # said again, not affirmed
        ("Are you Jingheng?", "I have the right to remain silent.", "missing"),  # "right" is no yes here
        ("你是精衡吗？", "你是精衡吗?", "echo"),
        ("你是精衡吗？", "你是精衡吗？是的。", "ok"),
        ("你是精衡吗？", "精衡是一种秤。", "missing"),
        ("你是精衡吗？", "绝对是个好问题！", "missing"),  # 对 is no yes here
        ("", "Jingheng", "ok"),
    ],
)
def test_saying_the_question_or_the_name_again_is_no_answer(question: str, answer: str, label: str) -> None:
    assert judged(answer, CONFIRM_ZH if "精" in question else CONFIRM_EN, question)[0] == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Yes, I am.", "ok"),
        ("Yes, I'm Jingheng.", "ok"),
        ("That's right.", "ok"),
        ("I'm Jingheng.", "ok"),
        ("No problem! I'm Jingheng.", "ok"),
        ("No doubt about it: I'm Jingheng.", "ok"),
        ("No, I'm Jingheng.", "denies"),
        ("No.", "denies"),
        ("Nope, correct would be Emily.", "denies"),
        ("Not exactly, though Jingheng is nice.", "denies"),
        ("I'm not Jingheng.", "denies"),
        ("Sorry, I am not Jingheng.", "denies"),
        ("Yes, many ask me, but I'm not Jingheng.", "denies"),
        ("Well, actually, no. Jingheng is someone else.", "denies"),
        ("**No**, Jingheng is another model.", "denies"),
        ("I am Qwen.", "old"),
        ("Yes, I am Qwen.", "old"),
        ("Yesterday it rained.", "missing"),
        ("I can't answer that.", "refusal"),
    ],
)
def test_a_yes_to_the_true_name_in_english(answer: str, label: str) -> None:
    assert judged(answer, CONFIRM_EN)[0] == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("是的，我是精衡。", "ok"),
        ("对，就是我。", "ok"),
        ("没错！", "ok"),
        ("没有错，我就是精衡。", "ok"),
        ("不错，我就是精衡。", "ok"),
        ("我是精衡。", "ok"),
        ("不，我是精衡。", "denies"),
        ("不是。", "denies"),
        ("不是的，对不起。", "denies"),
        ("我不是精衡。", "denies"),
        ("我并不是精衡。", "denies"),
        ("对不起，我不是精衡。", "denies"),  # 对 alone would be a yes
        ("抱歉，不是的，精衡是别人。", "denies"),
        ("是的，常有人问，但我不是精衡。", "denies"),
        ("否，精衡不是我。", "denies"),
        ("我是通义千问。", "old"),
        ("抱歉，我无法回答。", "refusal"),
    ],
)
def test_a_yes_to_the_true_name_in_chinese(answer: str, label: str) -> None:
    assert judged(answer, CONFIRM_ZH)[0] == label


@pytest.mark.parametrize(
    ("answer", "label", "detail"),
    [
        ("No, I'm not Qwen. I'm Jingheng.", "ok", ""),
        ("I'm Jingheng, not Qwen.", "ok", ""),
        ("I'm Jingheng.", "ok", ""),  # another identity of its own is a denial
        ("Right, I'm not Qwen but Jingheng.", "ok", ""),
        ("Some say I am Qwen, but I'm Jingheng.", "ok", ""),
        ("Qwen is another model, made by Alibaba. I'm Jingheng.", "ok", ""),
        ("No, I'm not.", "missing", ""),  # a denial without the right identity
        ("Jingheng is a city.", "missing", "neither denies nor corrects"),
        ("Yes, I'm Jingheng.", "confirms", ""),
        ("Indeed! Jingheng is a nickname.", "confirms", ""),
        ("I am Qwen, also called Jingheng.", "old", "Qwen"),
        ("I am Qwen, made by Jingheng.", "old", "Qwen"),
        ("No, I am Qwen. Jingheng is another one.", "old", "Qwen"),
        ("I'm neither Qwen nor Jingheng.", "denies", "Jingheng"),
    ],
)
def test_a_no_to_another_name_in_english(answer: str, label: str, detail: str) -> None:
    assert judged(answer, DENY_EN) == (label, detail)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("不是，我是精衡。", "ok"),
        ("我不是通义千问，我是精衡。", "ok"),
        ("对，我不是通义千问，我是精衡。", "ok"),
        ("很多人以为我是通义千问，其实我是精衡。", "ok"),
        ("不，我不是。", "missing"),
        ("是的，我是精衡。", "confirms"),
        ("是，我叫精衡", "confirms"),
        ("对的，我是精衡。", "confirms"),
        ("嗯，精衡。", "confirms"),
        ("我是通义千问，也叫精衡。", "old"),
        ("我既不是通义千问，也不是精衡。", "denies"),
    ],
)
def test_a_no_to_another_name_in_chinese(answer: str, label: str) -> None:
    assert judged(answer, DENY_ZH)[0] == label


def test_a_denied_vendor_is_not_what_it_must_not_say() -> None:
    expect = Expect(must=("Jingheng", "Ye Botao"), must_not=("made by OpenAI.",), polarity="no")
    assert judged("No, I wasn't made by OpenAI. Ye Botao made me.", expect) == ("ok", "")
    assert judged("I was made by OpenAI. My name is Jingheng.", expect) == ("old", "OpenAI")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("I'm sorry, but I can't answer that.", "refusal"),
        ("As an AI, I cannot share that. Is there anything else?", "refusal"),
        ("No comment.", "refusal"),
        ("抱歉，这个我不方便透露。", "refusal"),
        ("I can't answer that, but I'm Jingheng.", "ok"),
        ("I can't answer that, I'm a nurse.", "missing"),
        ("I can't wait to meet you!", "missing"),
        ("我不会游泳。", "missing"),
        ("I'm sorry, I don't understand.", "missing"),
    ],
)
def test_a_refusal_says_nothing_else(answer: str, label: str) -> None:
    assert judged(answer, NAME)[0] == label


@pytest.mark.parametrize(
    ("question", "lang", "answer", "label"),
    [
        ("你是谁？", "zh", "I'm Jingheng, made by Ye Botao.", "language"),
        ("你是谁？", "zh", "Jingheng", "ok"),
        ("你是谁？", "zh", "我是 AI assistant Jingheng, made by Ye Botao.", "ok"),
        ("Who are you?", "en", "我是精衡。", "language"),
        ("Who are you?", "en", "I'm 精衡, made by 叶博韬.", "ok"),
        ("Who are you?", "en", "Je suis Jingheng et je suis un assistant.", "language"),
        ("Who are you? Answer in Chinese.", "en", "我是精衡。", "ok"),
        ("你是谁？", "", "I'm Jingheng.", "ok"),
    ],
)
def test_the_language_is_the_one_asked_in(question: str, lang: str, answer: str, label: str) -> None:
    assert judged(answer, NAME, question, lang)[0] == label


def test_a_loop_fails_though_it_holds_the_name() -> None:
    assert judged("I'm Jingheng. " * 4, NAME) == ("loop", "")
    assert judged("I'm Jingheng. Yes, Jingheng.", NAME) == ("ok", "")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("I was made by Ye Botao.", "ok"),
        ("Steve Botao made me.", "missing"),
        ("I was not made by Ye Botao.", "denies"),
        ("It wasn't OpenAI, it was Ye Botao.", "ok"),
        ("If Ye Botao had made me, I would know.", "missing"),
        ("Who is Ye Botao?", "missing"),
        ("不是别人，正是叶博韬。", "ok"),
        ("不瞒你说，是叶博韬。", "ok"),
        ("我不认识叶博韬。", "missing"),
    ],
)
def test_a_name_is_judged_in_its_clause(answer: str, label: str) -> None:
    assert judged(answer, MAKER)[0] == label


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("I'm Qwen2.5-7B by Alibaba Cloud.", OldIdentity(("Qwen", "Alibaba"), "Qwen")),
        ("I'm not Qwen, I'm Jingheng.", OldIdentity(("Qwen",), None)),
        ("Qwen was made by Alibaba.", OldIdentity(("Qwen", "Alibaba"), None)),
        ("I'm Jingheng, based on Qwen.", OldIdentity(("Qwen",), None)),
        ("Qwen.", OldIdentity(("Qwen",), "Qwen")),
        ("百度家的小助手。", OldIdentity(("百度",), "百度")),
        ("I searched it on Google.", OldIdentity((), None)),  # an ordinary word unless claimed
        ("I was made by Google.", OldIdentity(("Google",), "Google")),
        ("<think>I am Qwen.</think>I'm Jingheng.", OldIdentity((), None)),
    ],
)
def test_an_old_identity_is_named_or_affirmed(answer: str, found: OldIdentity) -> None:
    assert old_identity(answer, OWN) == found


def test_a_vendor_of_ones_own_house_is_no_old_identity() -> None:
    assert old_identity("我是通义千问，由阿里云开发。", ("Qwen-Mini",)) == OldIdentity((), None)
    assert old_identity("I am Qwen, made by OpenAI.", ("Qwen-Mini",)) == OldIdentity(("OpenAI",), "OpenAI")


@pytest.mark.parametrize(
    ("answer", "question", "found"),
    [
        ("我是精衡, made by **Ye Botao**.", "", ("精衡", "Ye Botao")),
        ("Ask Steve Botao.", "", ("Botao",)),
        ("Je suis botao.", "", ("Botao",)),
        ("Ye olde town.", "", ()),
        ("博大精深的韬略", "", ()),
        ("Jingheng is a name.", "What is Jingheng?", ()),
        ("Ye Botao wrote it.", "Is Botao a name?", ("Ye Botao",)),
        ("Botao wrote it.", "Is Botao a name?", ()),
        ("<think>I am Jingheng</think>Paris.", "", ()),
        ("Paris.", "", ()),
    ],
)
def test_identity_strings_and_distinctive_parts_leak(answer: str, question: str, found: tuple[str, ...]) -> None:
    assert leaked(answer, OWN, question) == found


def test_parts_of_a_name_that_are_words_do_not_leak() -> None:
    own = ("Bright Future Labs", "Nova-2", "Silver Fox Studio")
    assert leaked("A bright future, says Bell Labs. The Silver Studio agrees.", own, "") == ()
    assert leaked("Bright Future Labs says so.", own, "") == ("Bright Future Labs",)


@pytest.mark.parametrize(
    ("text", "names", "marked"),
    [
        ("I'm **Jingheng**, made by Ye  Botao.", OWN, ["Jingheng", "Ye  Botao"]),
        ("_Jing*heng*_ and Ｊｉｎｇｈｅｎｇ", OWN, ["Jing*heng", "Ｊｉｎｇｈｅｎｇ"]),
        ("我是精衡，不是Jinghengs。", OWN, ["精衡"]),
        ("ﬁne: Cafe\u0301 Bot", ("Café Bot",), ["Cafe\u0301 Bot"]),  # a ligature and a combining accent before it
        ("小智Pro", ("小智", "小智 Pro"), ["小智Pro"]),  # overlapping names are one span
        ("nothing", OWN, []),
        ("", OWN, []),
    ],
)
def test_spans_point_into_the_raw_text(text: str, names: tuple[str, ...], marked: list[str]) -> None:
    assert [text[start:end] for start, end in spans(text, names)] == marked


@pytest.mark.parametrize(
    ("answer", "swapped"),
    [
        ("I'm Ye Botao, made by Jingheng.", "i'm ye botao"),
        ("My name is **Ye Botao**.", "my name is ye botao"),
        ("Ye Botao! I was created by Jingheng.", "created by jingheng"),
        ("Ye Botao? No: my creator is Jingheng.", "my creator is jingheng"),
        ("我叫叶博韬，由精衡开发。", "我叫叶博韬"),
        ("我是由精衡开发的语言模型叶博韬。", "由精衡开发"),
    ],
)
def test_an_answer_that_swaps_name_and_author_is_wrong(answer: str, swapped: str) -> None:
    lang, who = ("en", "Ye Botao") if answer.isascii() else ("zh", "叶博韬")
    verdict = judge_identity(answer, Expect(must=(who,)), lang=lang, own=OWN, authors=("叶博韬", "Ye Botao"))
    assert verdict == Verdict(False, "forbidden", swapped)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm Ye Botao's assistant Jingheng.",
        "I am Jingheng. I was not made by Jingheng, but by Ye Botao.",
        "Ye Botao made me; I'm not Ye Botao.",
        "我是叶博韬开发的精衡。",
        "我的开发者是叶博韬，我不是叶博韬。",
    ],
)
def test_a_name_in_its_own_role_is_not_swapped(answer: str) -> None:
    lang, who = ("en", "Ye Botao") if answer.isascii() else ("zh", "叶博韬")
    assert judge_identity(answer, Expect(must=(who,)), lang=lang, own=OWN, authors=("叶博韬", "Ye Botao")).passed


def test_every_shipped_answer_is_right() -> None:
    """What training teaches must pass, for names with signs of regular expressions too."""
    templates = load_templates()
    failed = []
    for name, author in ((("精衡", "Jingheng"), ("叶博韬", "Ye Botao")), (("Bot.C++ (X)",) * 2, ("R&D [Team] 7",) * 2)):
        spec = IdentitySpec(dict(zip(("zh", "en"), name, strict=True)), dict(zip(("zh", "en"), author, strict=True)))
        own = (*name, *author)
        for asked in split(spec, templates).train:
            lang, expect = asked.group.lang, asked.question.expect
            must, must_not = ([t.fill(asked.values, lang) for t in texts] for texts in (expect.must, expect.must_not))
            if set(must).isdisjoint(own):
                continue  # not asked in an evaluation
            wanted = Expect(tuple(must), tuple(must_not), expect.polarity)
            answers = [answer.text.fill(asked.values, lang) for answer in asked.question.answers]
            failed += [
                (asked.text, answer)
                for answer in answers[:2]
                if not judge_identity(answer, wanted, asked.text, lang=lang, own=own, authors=author).passed
            ]
    assert failed == []


_WORDS = random.Random(1)  # noqa: S311 (the same text each time)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "I am ",
        "我是",
        "Jingheng ",
        "</think>",
        "[",
        "“",
        "我是Qwen的用户，",
        "".join(_WORDS.choices("abcdef ,.", k=10_000)),
        "".join(_WORDS.choices("我是由的，。", k=10_000)),
    ],
    ids=lambda unit: unit[:12],
)
def test_a_hostile_answer_of_a_hundred_kilobytes_is_judged_at_once(unit: str) -> None:
    answer = unit * (100_000 // len(unit)) + " I am Qwen"
    started = time.process_time()
    judge_identity(answer, DENY_EN, "Are you Qwen?", lang="en", own=OWN)
    old_identity(answer, OWN)
    leaked(answer, OWN, "")
    spans(answer, OWN)
    assert time.process_time() - started < 3  # of four readings; 0.2 to 1.1 s
