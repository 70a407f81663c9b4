"""What can be said about a text whatever it is for: how near two are, CJK, special tokens, hidden characters.

Owns these rules for identity templates, names and the checks of data alike. Does not own what follows from them.
"""

from __future__ import annotations

import math
import re
import shlex
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

# What text must not do where it is shown: steer a terminal (C0, C1), reorder what stands around it (bidi), end a line
# in secret (U+2028), or hide words (zero width, fillers, tag characters, which only the flags of countries may have).
# A match is one character, or a run of tags. Tabs, line ends, joiners (ZWJ of emoji, ZWNJ of Persian) and a variation
# selector are text.
STEERING = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u2061-\u2064\ufff9-\ufffb\uffa0"
    f"{''.join(sorted(BIDI | INVISIBLE))}]|\r(?!\n)|"
    "(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0000-\U000e007f]+"
)
_FLOOD = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{8})"
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+)"
    "|([\ufe00-\ufe0f\U000e0100-\U000e01ef])([\ufe00-\ufe0f\U000e0100-\U000e01ef]+)"
)


def without_floods(text: str) -> str:
    """`text` in which no letter carries more than eight marks, which would be drawn over the lines around it, and none
    more than one variation selector, of which many together hide words."""
    if text.isascii():
        return text
    return _FLOOD.sub(lambda found: f"{found[1] or found[3]}<+{len(found[2] or found[4])} marks>", text)


def safe(text: str) -> str:
    """`text` as it may be shown: what would steer a terminal, reorder or hide what it shows (`STEERING`) is written
    out, as `\\x1b` or `<U+202E>`."""
    return STEERING.sub(_written_out, without_floods(text))


def _written_out(found: re.Match[str]) -> str:
    return "".join(f"\\x{ord(c):02x}" if c < "\xa0" else f"<U+{ord(c):04X}>" for c in found[0])


def shell_command(words: Iterable[str]) -> str:
    """The command as bash reads it back word for word; what may not be shown as it is stands in it as `$'\\x1b'`."""
    return " ".join(map(shell_word, words))


def shell_word(text: str) -> str:
    """One word of `shell_command`."""
    if not STEERING.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{STEERING.sub(_bytes_written_out, plain)}'"


def _bytes_written_out(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


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
