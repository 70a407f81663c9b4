"""Replay rows: general prompts answered by the base model itself, which keep what it knew.

Owns which prompts are asked, which answers are fit to train on and why the others are not. The answers are kept in
`answer_cache`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.console import AnswerView
from sft_kit.data.rows import Message, Row
from sft_kit.evaluate.degenerate import other_language, repeats_itself
from sft_kit.evaluate.score import visible
from sft_kit.identity.claims import claimed_identity
from sft_kit.msswift.install import Installation
from sft_kit.resources import shipped
from sft_kit.run.answer_cache import Asked, Given, answers_file, question, read_answers
from sft_kit.run.chats import GREEDY, ask_and_keep, open_chat

REPLAY_TOKENS = 64
REPLAY_SETTINGS: Mapping[str, float] = {"max_new_tokens": REPLAY_TOKENS, **GREEDY}

_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’)）]?(?=\s|$)|[。！？]|\n")


@dataclass(frozen=True)
class Skipped:
    """A prompt whose answer is not trained on; `reason` is the same few words for all of a kind."""

    prompt: str
    answer: str
    reason: str


@dataclass(frozen=True)
class Replay:
    """Rows answered by the base model. `shortened` answers were cut back to their last full sentence; `cached` were
    known from an earlier run. `model` is what `swift infer` was given to load it, `settings` how it was asked."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    shortened: int
    cached: int
    model: Mapping[str, Any]
    settings: Mapping[str, float]

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped for each reason, the commonest first."""
        return dict(Counter(skipped.reason for skipped in self.skipped).most_common())


def replay_rows(
    installation: Installation,
    model: Mapping[str, Any],
    count: int,
    languages: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
) -> Replay:
    """`count` bundled general prompts, each with the base model's own greedy answer (at most 64 tokens).

    Only prompts that this model was not asked before are asked; an answer is kept as soon as its batch is done, so
    that nothing is asked twice after an interrupt. Raises MsSwiftError when the model cannot be loaded.
    """
    prompts = replay_prompts(count, languages)
    model = {**model, "enable_thinking": False}  # 64 tokens would be spent on thoughts, and rows are trained without
    path = answers_file(model, REPLAY_SETTINGS, installation.version, "replay")
    known = read_answers(path)
    new = [question(prompt) for prompt in prompts if question(prompt) not in known]
    if new:
        with open_chat(installation, model, log=log, env=env) as chat, AnswerView("replay answers", len(new)) as view:
            known |= ask_and_keep(chat, new, path, REPLAY_TOKENS, on_progress=lambda done: view.done(done, len(new)))
    return _replay(prompts, known, len(prompts) - len(new), model)


def _replay(prompts: Sequence[str], answers: Mapping[Asked, Given], cached: int, model: Mapping[str, Any]) -> Replay:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    shortened = 0
    for prompt in prompts:
        given = answers[question(prompt)]
        said = visible(given.text).strip()
        kept = said if given.ended else full_sentences(said)
        if reason := "no full sentence" if said and not kept else unfit_answer(prompt, kept):
            skipped.append(Skipped(prompt, given.text, reason))
            continue
        shortened += kept != said
        rows.append(Row((Message("user", prompt), Message("assistant", kept))))
    return Replay(tuple(rows), tuple(skipped), shortened, cached, model, REPLAY_SETTINGS)


def unfit_answer(prompt: str, answer: str) -> str:
    """Why a base model's answer to a general prompt is nothing to train on, in words; empty when it is fit."""
    rest = answer.replace(prompt, " ")
    if not re.search(r"\w", rest):
        return "says the prompt again" if prompt in answer else "no answer"
    if "\ufffd" in answer:
        return "broken characters"
    if claimed_identity(answer):
        return "claims an identity"
    if repeats_itself(answer):
        return "repeats itself"
    if other_language(prompt, rest):
        return "in another language"
    return ""


def replay_prompts(count: int, languages: Sequence[str]) -> list[str]:
    """The first `count` bundled prompts of `languages`, the languages in turn, in an order that mixes the kinds: any
    first N hold every kind in its share, so that near-misses are never missing."""
    import yaml  # and not ruamel.yaml: libyaml reads the file in 5 ms where that takes 80 ms

    text = (shipped("data") / "replay" / "prompts.yaml").read_text(encoding="utf-8")
    by_language = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()["prompts"]
    queues = []
    for language in languages:
        places: list[tuple[float, bytes, str]] = []
        for prompts in by_language[language].values():  # the k-th of a kind's n prompts, in hash order, stands at k / n
            ranked = sorted((hashlib.sha256(str(prompt).encode()).digest(), str(prompt)) for prompt in prompts)
            places += [((turn + 0.5) / len(ranked), *one) for turn, one in enumerate(ranked)]
        queues.append([prompt for _, _, prompt in sorted(places)])
    longest = max(map(len, queues), default=0)
    mixed = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return mixed[:count]


def full_sentences(text: str) -> str:
    """`text` up to the end of its last full sentence; empty when less than a third of it is left."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    kept = text[: ends[-1]].strip() if ends else ""
    return kept if 3 * len(kept) >= len(text.strip()) else ""
