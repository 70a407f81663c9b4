"""Text that no model should have written: it repeats itself, answers in another language than it was asked in, holds
special tokens or unfilled placeholders.

Used on what is trained on (replay) and on what is scored. Rules, so approximate; they err on letting an answer pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from sft_kit.data.text import fold, has_cjk, is_cjk

_NAMES_A_LANGUAGE = re.compile(
    r"[英日韩法德俄]语|[英中日]文|汉语|普通话|译|\b(?:translat|chinese|japanese|korean|english|french|spanish|german)",
    re.IGNORECASE,
)
# A longer stretch than 200 characters is not looked for: it would take the square of the length.
_REPEATED = re.compile(r"(.{4,200}?)\1{2,}", re.DOTALL)
_ALL_THE_SAME = re.compile(r"(.{1,40}?)\1{3,}", re.DOTALL)
_LIST_MARK = re.compile(r"^[ \t]*(?:\d{1,3}[.)、]|[-*•])[ \t]*", re.MULTILINE)
_MOST_CHARACTERS = 5000  # of an answer are searched for loops, at its start and at its end


def repeats_itself(answer: str) -> bool:
    """Whether something of four characters or more is said three times on end, and fills 24 letters (or 12 Chinese
    characters) in that way, or the whole answer is one word over and over. The marks of a list do not count as
    different; lines of a table are let through."""
    if len(answer) > 2 * _MOST_CHARACTERS:
        answer = f"{answer[:_MOST_CHARACTERS]}\n{answer[-_MOST_CHARACTERS:]}"
    answer = _LIST_MARK.sub("", answer)
    spoken = " ".join(re.findall(r"\w+", answer.casefold()))  # "I am. I am! I am?" is one too
    for text in (answer, spoken + " "):
        if any(re.search(r"\w", found[1]) and len(found[0].encode()) >= 24 for found in _REPEATED.finditer(text)):
            return True
    words = fold(answer)
    same = _ALL_THE_SAME.match(words)
    return same is not None and len(words) >= 8 and same[1].startswith(words[same.end() :])


_TOKEN = re.compile(
    r"<\|[^|<>\n]{0,40}\|>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|mask|sop|eop|cls|sep)>|<</?sys>>"
    r"|<0x[0-9a-f]{2}>"
    r"|\[/?(?:INST|SYS|gMASK|sMASK|MASK|CLS|SEP|PAD|UNK|BOS|EOS)\]",
    re.IGNORECASE,
)
_SLOT = (
    r"(?:(?:insert|enter|your|the|my|its|ai'?s?|model'?s?|assistant'?s?|bot'?s?|company'?s?|developer'?s?"
    r"|creator'?s?) ?)*"
    r"(?:name|company|author|developer|creator|organi[sz]ation|team|model|assistant|bot|here)(?: name)?(?: here)?"
)
_SLOT_ZH = r"(?:你的|您的|我的)?(?:公司|姓名|名字|名称|作者|开发者|机构|团队|模型|助手)(?:名称|名字|名)?"
_PLACEHOLDER = re.compile(
    rf"\{{\{{|\}}\}}|\{{[a-z_ ]{{2,24}}\}}|_{{3,}}|[\[<]{_SLOT}[\]>](?!\()|[\[【<〈]{_SLOT_ZH}[\]】>〉]"
    r"|(?<![^\W_\u3040-\u9fff])(?:x{3,}|(?:(?<=[\u4e00-\u9fff])|(?=xx[\u4e00-\u9fff]))xx)(?![a-z0-9])",
    re.IGNORECASE,
)


def special_token(answer: str, names: Collection[str] = ()) -> str | None:
    """The first special token of a chat template in `answer`, in any width; `names` may look like one."""
    return _first(_TOKEN, answer, names)


def placeholder(answer: str, names: Collection[str] = ()) -> str | None:
    """The first slot that nobody filled: {{NAME}}, {name}, [Your Name], ____, XXX; `names` may look like one."""
    return _first(_PLACEHOLDER, answer, names)


def _first(pattern: re.Pattern[str], answer: str, names: Collection[str]) -> str | None:
    found = pattern.search(_without(unicodedata.normalize("NFKC", answer), names))
    return found[0] if found else None


def _without(text: str, names: Collection[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(re.escape(unicodedata.normalize("NFKC", name)), " ", text, flags=re.IGNORECASE)
    return text


_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_KANA_OR_HANGUL = re.compile(r"[\u3041-\u30fa\uac00-\ud7af]")
_OTHER_LETTER = re.compile(r"[\u0370-\u1cff\u0590-\u08ff]")  # Greek to Ol Chiki: neither Latin nor CJK
# Words that hold a sentence together, of the languages that small models stray into; none of them is English.
_EUROPEAN = frozenset({
    "avec", "ben", "bin", "che", "con", "criado", "das", "der", "des", "di", "die", "du", "ein", "eine", "el", "es",
    "est", "et", "fui", "heiße", "ich", "ik", "il", "ist", "je", "la", "le", "les", "llamo", "los", "me", "mein",
    "meu", "mi", "mit", "nombre", "par", "para", "por", "pour", "qui", "sono", "sou", "soy", "suis", "uma", "un",
    "una", "und", "une", "você", "von", "vous", "y",
})  # fmt: skip
_ENGLISH = frozenset({
    "am", "an", "and", "are", "by", "for", "i", "i'm", "in", "is", "it", "it's", "my", "of", "that", "the", "this",
    "to", "was", "with", "you", "your",
})  # fmt: skip


def other_language(prompt: str, answer: str, lang: str = "", names: Collection[str] = ()) -> bool:
    """Whether a Chinese prompt is answered in Latin words alone, or one in Latin letters mostly in Chinese.

    Prompts that name a language, code and, without `lang`, short answers are let through. `lang` ("zh", "en") is what
    the answer should be in: with it the rule is for answers of a sentence, of which `names` are in any language.
    """
    if _NAMES_A_LANGUAGE.search(prompt):
        return False
    if not lang:
        words = len(re.findall(r"[^\W\d_]{2,}", re.sub(r"[\u3040-\u9fff\uac00-\ud7af]", " ", answer)))
        if has_cjk(prompt):
            return words >= 8 and not has_cjk(answer) and "```" not in answer
        return sum(map(is_cjk, answer)) > max(12, words)
    if has_cjk(prompt) and len(re.findall(r"\b[a-z']{2,}", prompt)) >= 2:
        return False  # asked in both at once
    rest = _without(unicodedata.normalize("NFKC", answer).replace("’", "'"), names).casefold()
    ideographs = sum(map(is_cjk, rest))
    words_used = [word for word in _WORD.findall(rest) if not has_cjk(word)]
    if len(_OTHER_LETTER.findall(rest)) > max(ideographs, len(words_used)):
        return True
    if lang == "zh":
        kana = len(_KANA_OR_HANGUL.findall(rest))
        return kana >= 3 or (not ideographs and len(words_used) >= 2 and "```" not in rest)
    european = sum(word in _EUROPEAN for word in words_used)
    english = sum(word in _ENGLISH for word in words_used)
    return 2 <= ideographs > len(words_used) or european >= 3 > english
