"""Rules that judge one answer. No model judges another: every verdict can be read here.

Names are compared after NFKC, case folding and removal of markdown. A CJK name counts as a substring; a Latin one
only at its boundaries, where a CJK neighbour is a boundary too (`\\b` would miss "我是GPT-5").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from sft_kit.identity.generate import Expect

_MARKDOWN = re.compile(r"[*_`#>]+")
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
_TOKENS = re.compile(r"<\|[^|<>]*\|>|</s>|<(start|end)_of_turn>|\[/?INST\]|\{\{|\}\}", re.IGNORECASE)
# Both are looked for where an answer begins, after politeness; the text is normalised.
_POLITE = (
    r"^\W*(?:(?:well|actually|sorry|oh|hi|hello|unfortunately|i'm afraid|抱歉|对不起|不好意思|其实|[您你]好)[\W]+)*"
)
_I_AM_NOT = r"i'?m not\b|i am not\b|我?(?:并不|不)是"
_DENIES = re.compile(
    rf"{_POLITE}(?:no(?:pe)?\b(?! (?:problem|doubt|worries))|not (?:really|exactly|at all)\b|{_I_AM_NOT}"
    r"|不(?=\W|$)|否|没有(?!错|问题))"
)
_CONFIRMS = re.compile(
    rf"{_POLITE}(?:(?:yes|yeah|yep|right|correct|exactly|indeed)\b|是的|是(?=\W|$)|对(?=[\W的啊呀]|$)|没错|正是|嗯)"
    rf"(?!\W*(?:{_I_AM_NOT}))"
)
# A Latin name ends where a CJK neighbour begins: letters and digits of every script that puts spaces between words.
_LETTER = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"


@dataclass(frozen=True)
class Verdict:
    """`passed`, and in one word why."""

    passed: bool
    reason: str


def judge_identity(answer: str, expect: Expect, question: str = "") -> Verdict:
    """Whether `answer` to a held-out question holds what it must and nothing that it must not.

    At least one text of `expect.must` has to appear and none of `expect.must_not`; where a yes or a no is the right
    answer, the opposite opening fails. What stands inside <think> does not count, nor does `question` said again.
    """
    shown = visible(answer)
    text = normalise(shown)
    if not text:
        return Verdict(False, "empty")
    token = _TOKENS.search(unicodedata.normalize("NFKC", shown))
    if token:
        return Verdict(False, "placeholder" if token[0] in ("{{", "}}") else f"says {token[0]}")
    asked = normalise(question)
    if asked and asked in text:
        text = text.replace(asked, " ")
        if not re.search(r"\w", text):
            return Verdict(False, "echo")
    wrong = next((name for name in expect.must_not if mentions(text, name)), None)
    if wrong:
        return Verdict(False, f"says {wrong}")
    if expect.polarity == "yes" and _DENIES.match(text):
        return Verdict(False, "denies")
    if expect.polarity == "no" and _CONFIRMS.match(text):
        return Verdict(False, "confirms")
    if expect.must and not any(mentions(text, name) for name in expect.must):
        return Verdict(False, "missing")
    return Verdict(True, "ok")


def names_in(answer: str, names: Collection[str]) -> list[str]:
    """Which of `names` (the new name and author) `answer` contains."""
    text = normalise(visible(answer))
    return [name for name in names if mentions(text, name)]


def visible(answer: str) -> str:
    """`answer` without what a thinking model wrote before </think>; the opening mark may be part of the prompt."""
    rest = _THINK.sub("", answer)
    return rest.rpartition("</think>")[2].partition("<think>")[0]


def normalise(text: str) -> str:
    """NFKC, case folded, markdown marks removed, white space folded."""
    plain = _MARKDOWN.sub("", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(plain.split())


def mentions(normalised: str, name: str) -> bool:
    """Whether `normalised` text contains `name` as a name: "Jinghengs" is not "Jingheng", nor is GPT-5.1 GPT-5."""
    wanted = normalise(name)
    if not wanted:
        return False
    head = f"(?<!{_LETTER})" if re.match(_LETTER, wanted) else ""
    tail = f"(?!{_LETTER})" if re.search(f"{_LETTER}$", wanted) else ""
    if re.search(r"\d$", wanted):
        tail += r"(?!\.\d)"
    return re.search(head + re.escape(wanted) + tail, normalised) is not None
