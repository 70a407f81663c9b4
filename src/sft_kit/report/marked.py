"""Answers as stretches of text, each with what it is: the new identity, another one, a character that cannot be seen.

Owns what is highlighted in an answer. Does not own where names stand (`evaluate.score.spans`), nor how a stretch looks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from sft_kit.data.text import STEERING, without_floods
from sft_kit.evaluate.score import spans

Mark = Literal["", "own", "old", "seen", "odd"]
Stretch = tuple[str, Mark]


def stretches(
    text: str, own: Collection[str] = (), claimed: Collection[str] = (), seen: Collection[str] = ()
) -> list[Stretch]:
    """`text` in pieces. "own" are the run's names; "old" other identities that are claimed, "seen" those only named
    ("I am not Qwen"); "odd" is the code point (`U+202E`) of a control, bidirectional or invisible character."""
    return pieces(text, marks(text, own, claimed, seen))


def marks(text: str, own: Collection[str], claimed: Collection[str], seen: Collection[str]) -> list[Mark]:
    """What each character of `text` belongs to."""
    found: list[Mark] = [""] * len(text)
    kinds: tuple[tuple[Mark, Collection[str]], ...] = (("seen", seen), ("old", claimed), ("own", own))
    for mark, names in kinds:
        for start, end in spans(text, names) if names else ():
            found[start:end] = [mark] * (end - start)
    return found


def pieces(text: str, marks: Sequence[Mark]) -> list[Stretch]:
    """`text` in stretches, given the mark of each of its characters."""
    return [piece for start, end in _runs(marks) for piece in _shown(text[start:end], marks[start])]


def readable(text: str) -> str:
    """`text` on which nothing is highlighted, with the code points of what cannot be seen."""
    return STEERING.sub(lambda found: "".join(f"[{code_point(c)}]" for c in found[0]), without_floods(text))


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def name_of(code: str) -> str:
    """What a code point such as `U+202E` is called: "right-to-left override"."""
    return unicodedata.name(chr(int(code[2:], 16)), "control character").lower()


def _runs(kinds: Sequence[Mark]) -> Iterator[tuple[int, int]]:
    """(start, end) of neighbours of one kind."""
    start = 0
    for end in range(1, len(kinds) + 1):
        if end == len(kinds) or kinds[end] != kinds[start]:
            yield start, end
            start = end


def _shown(text: str, mark: Mark) -> Iterator[Stretch]:
    place = 0
    text = without_floods(text)
    for found in STEERING.finditer(text):
        if found.start() > place:
            yield text[place : found.start()], mark
        yield from ((code_point(character), "odd") for character in found[0])
        place = found.end()
    if place < len(text):
        yield text[place:], mark
