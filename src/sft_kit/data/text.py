"""What can be said about a text whatever it is for: how near two are, CJK, special tokens, hidden characters.

Owns these rules for identity templates, names and the checks of data alike. Does not own what follows from them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

NEAR = 0.8  # Jaccard similarity of character 3-grams from which two questions count as the same

# The shapes of special tokens: <|im_end|>, </s>, <think>, <start_of_turn>, <｜Assistant｜>, [INST], [/INST], <<SYS>>,
# [gMASK]. A tag with a space in it ("<3 cats>") is no token, so it passes.
SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>]*[|｜]>|<\|?/?[A-Za-z_][\w.:\-]*\|?>|<</?\w+>>|\[/?(?:INST|SYS|gMASK|sMASK|MASK|CLS|SEP|PAD|UNK|BOS|EOS)\]"
    r"|<\||\|>",
    re.IGNORECASE,
)
# Bidirectional controls reorder what a reader sees; zero-width joiners are part of many emoji and are let through.
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
INVISIBLE = frozenset("\u200b\u2060\ufeff\u00ad\u180e\u3164\u115f\u1160")


def fold(text: str) -> str:
    """The text as near-duplicates compare it: NFKC, case folded, without punctuation, symbols and spaces."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in normal if c.isalnum() or unicodedata.category(c) in ("Mn", "Mc", "So"))


def near(one: str, other: str) -> bool:
    """Whether two questions count as the same: character 3-gram Jaccard similarity >= 0.8 (equal folded texts: 1)."""
    return Nearness([grams(fold(one))]).near(grams(fold(other)))


class Nearness:
    """A set of questions that others may not come near.

    A near one has at least NEAR of a question's 3-grams, so it has one of any few of them: only those that share one
    of its rarest are compared.
    """

    def __init__(self, texts: Iterable[frozenset[str]]) -> None:
        self._with_gram: dict[str, list[frozenset[str]]] = {}
        for grams in texts:
            for gram in grams:
                self._with_gram.setdefault(gram, []).append(grams)

    def near(self, grams: frozenset[str]) -> bool:
        size = len(grams)
        sharing = sorted((self._with_gram.get(gram, []) for gram in grams), key=len)
        for others in sharing[: size - math.ceil(NEAR * size) + 1]:
            for other in others:
                common = len(grams & other)
                if common >= NEAR * (size + len(other) - common):
                    return True
        return False


def grams(folded: str) -> frozenset[str]:
    return frozenset(folded[i : i + 3] for i in range(max(1, len(folded) - 2)))


def has_cjk(text: str) -> bool:
    """Whether `text` has a Chinese character (or kana, hangul)."""
    return any(is_cjk(c) for c in text)


def is_cjk(character: str) -> bool:
    """A letter that is written without spaces around it: ideographs, kana, hangul; not full-width punctuation."""
    code = ord(character)
    return (
        0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7AF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
        or code == 0x3005
        or code == 0x3007
    )
