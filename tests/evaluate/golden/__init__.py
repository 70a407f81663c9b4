"""The hand-labelled answers, read and judged; fields and labels: README.md."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from sft_kit.evaluate.score import Label, Verdict, judge_identity
from sft_kit.identity.generate import Expect

Part = Literal["development", "held-back"]


@dataclass(frozen=True)
class Answer:
    """An answer to a question about identity, with the label that a reader gave it."""

    id: str
    lang: str
    question: str
    own: tuple[str, ...]
    expect: Expect
    label: Label
    answer: str
    claims: str | None = None

    @property
    def part(self) -> Part:
        return part(self.id)

    def judged(self) -> Verdict:
        return judge_identity(self.answer, self.expect, self.question, lang=self.lang, own=self.own)


@dataclass(frozen=True)
class GeneralAnswer:
    """An answer to a general question, with the identity strings that leaked into it."""

    id: str
    question: str
    own: tuple[str, ...]
    leaks: tuple[str, ...]
    answer: str

    @property
    def part(self) -> Part:
        return part(self.id)


def part(identifier: str) -> Part:
    """Where an answer belongs; stable, so that a new answer moves no other."""
    return "held-back" if hashlib.sha256(identifier.encode()).digest()[0] % 2 else "development"


@cache
def answers() -> tuple[Answer, ...]:
    return tuple(
        Answer(
            given["id"],
            asked["lang"],
            asked["question"],
            tuple(asked["own"]),
            Expect(
                tuple(asked["expect"]["must"]),
                tuple(asked["expect"].get("must_not", ())),
                asked["expect"].get("polarity"),
            ),
            given["label"],
            given["answer"],
            given.get("claims"),
        )
        for asked in _file()["identity"]
        for given in asked["answers"]
    )


@cache
def general_answers() -> tuple[GeneralAnswer, ...]:
    return tuple(
        GeneralAnswer(given["id"], asked["question"], tuple(asked["own"]), tuple(given["leaks"]), given["answer"])
        for asked in _file()["general"]
        for given in asked["answers"]
    )


@cache
def confusion(wanted_part: Part) -> Counter[tuple[Label, Label]]:
    """(label of the reader, label of the scorer) -> answers of a part."""
    return Counter((one.label, one.judged().label) for one in answers() if one.part == wanted_part)


def precision_and_recall(pairs: Counter[tuple[Label, Label]], label: Label) -> tuple[float, float]:
    """Of one label; 1.0 where nothing was to be found."""
    right = pairs[label, label]
    said = sum(count for (_, scored), count in pairs.items() if scored == label)
    there = sum(count for (read, _), count in pairs.items() if read == label)
    return (right / said if said else 1.0, right / there if there else 1.0)


@cache
def _file() -> dict[str, list[dict]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (Path(__file__).parent / "answers.yaml").read_text(encoding="utf-8")
    return loader(text).get_single_data()
