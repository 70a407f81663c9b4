"""Rows that say the same again: equal rows, one question with several answers, questions that hardly differ.

Owns how they are found within bounded memory; not what a finding says (`lint`). Three keys of 64 bits are kept a row,
with its line: 32 bytes, so 1 million rows take 32 MiB. Rows whose questions fold to the same key fall into the same of
256 buckets, so each bucket is judged alone and the judging needs next to no memory. Two texts with one 64-bit hash are
as good as impossible (1 million rows: 3 in 100 million). Similar questions that do not fold to the same key are looked
for only in files of up to `MOST_COMPARED` rows, among questions of up to `LONGEST_COMPARED` characters.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import defaultdict
from dataclasses import dataclass, field

from sft_kit.data.text import NEAR, fold, grams

MOST_COMPARED = 3000
LONGEST_COMPARED = 300
_BUCKETS = 256
_NUMBERS = re.compile(r"\d+")
_FULL_WIDTH = str.maketrans("", "", "，。？！、：；“”‘’（）《》…—·「」『』【】\u3000")
_LOWER = bytes(range(256)).lower()
_MARKS = bytes(byte for byte in range(128) if not chr(byte).isalnum())


@dataclass
class Duplicates:
    """The lines that repeat an earlier one, in the order of the file; a line is in the first list that fits. `equal`:
    the whole row again; `contradictory`: the same question, another answer; `near`: nearly the same question (case,
    spaces and punctuation apart, or by 3-grams)."""

    equal: list[int] = field(default_factory=list)
    contradictory: list[int] = field(default_factory=list)
    near: list[int] = field(default_factory=list)


class DuplicateSearch:
    """Rows go in one by one; `found` judges them all. Hashes are Python's own, good within one process only."""

    def __init__(self) -> None:
        self._rows = 0
        self._buckets = [array("q") for _ in range(_BUCKETS)]
        self._questions: list[tuple[int, str, str]] | None = []

    def add(self, line: int, text: str, question: str, system: str) -> None:
        """`text` is the whole row; `question` is all of it before the last answer, without `system`."""
        self._rows += 1
        context = question + "\0" + system if system else question
        key = hash(quick_fold(context))
        self._buckets[key & (_BUCKETS - 1)].extend((key, hash(context), hash(text), line))
        if self._questions is not None:
            if self._rows > MOST_COMPARED:
                self._questions = None
            elif len(question) <= LONGEST_COMPARED:
                self._questions.append((line, question, system))

    def found(self) -> Duplicates:
        found = Duplicates()
        for bucket in self._buckets:
            _judge(bucket, found)
        if self._questions:
            known = {*found.equal, *found.contradictory, *found.near}
            found.near += _similar([question for question in self._questions if question[0] not in known])
        for lines in (found.equal, found.contradictory, found.near):
            lines.sort()
        return found


def quick_fold(text: str) -> bytes:
    """`text` without case, spaces and the common marks: what `text.fold` does for Chinese and English, 30 "
    "times faster."""
    if not text.isascii():
        text = _strip_full_width(text)
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _MARKS) or text.encode("utf-8", "surrogatepass")


def _strip_full_width(text: str) -> str:
    # str.translate goes character by character; replacing the marks that occur is faster for the short texts that
    # questions are, and the rare ones are left to it.
    text = text.replace("，", "").replace("。", "").replace("？", "").replace("！", "").replace("、", "")
    text = text.replace("：", "").replace("；", "").replace("“", "").replace("”", "")
    return text.translate(_FULL_WIDTH) if "（" in text or "《" in text or "「" in text or "…" in text else text


def _judge(bucket: array[int], found: Duplicates) -> None:
    keys = bucket[0::4]
    if len(set(keys)) == len(keys):
        return
    seen: set[int] = set()
    repeated = {key for key in keys if key in seen or seen.add(key)}  # type: ignore[func-returns-value]
    contexts: set[int] = set()
    rows: set[int] = set()
    first: set[int] = set()
    for at, key in enumerate(keys):
        if key not in repeated:
            continue
        context, row, line = bucket[4 * at + 1 : 4 * at + 4]
        if row in rows:
            found.equal.append(line)
        elif context in contexts:
            found.contradictory.append(line)
        elif key in first:
            found.near.append(line)
        first.add(key)
        contexts.add(context)
        rows.add(row)


def _similar(questions: list[tuple[int, str, str]]) -> list[int]:
    """Lines of the questions that come near an earlier one under the same system prompt.

    Questions that differ in a number are different questions. Two sets with a Jaccard similarity of 0.8 share at least
    one of the rarest fifth of each (prefix filtering), so that only few pairs are compared at all.
    """
    prepared = [(line, grams(fold(q)), (system, tuple(_NUMBERS.findall(q)))) for line, q, system in questions]
    frequency: dict[str, int] = defaultdict(int)
    for _, own, _ in prepared:
        for gram in own:
            frequency[gram] += 1
    index: dict[str, list[int]] = defaultdict(list)
    lines = []
    for at, (line, own, apart) in enumerate(prepared):
        rarest = sorted(own, key=lambda gram: (frequency[gram], gram))[: len(own) - math.ceil(NEAR * len(own)) + 1]
        candidates = {other for gram in rarest for other in index[gram]}
        if any(_near(own, prepared[other][1]) and prepared[other][2] == apart for other in candidates):
            lines.append(line)
        for gram in rarest:
            index[gram].append(at)
    return lines


def _near(one: frozenset[str], other: frozenset[str]) -> bool:
    if not NEAR * len(one) <= len(other) <= len(one) / NEAR:
        return False
    common = len(one & other)
    return common >= NEAR * (len(one) + len(other) - common)
