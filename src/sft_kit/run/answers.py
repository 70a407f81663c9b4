"""Asks models: starts the chat worker under supervision, and builds what needs a model's own answers.

Owns the before/after answers of an evaluation and the replay rows (general prompts answered by the base model, which
keep what it knew): which answers are fit to train on, and why the others are not. The answers themselves are kept in
`replay_cache`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.console import AnswerView, working
from sft_kit.data.rows import Message, Row
from sft_kit.data.text import has_cjk, is_cjk
from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.evaluate.probes import Probe
from sft_kit.evaluate.score import visible
from sft_kit.identity.claims import claimed_identity
from sft_kit.msswift.chat import WORKER, Answer, Chat, Conversation
from sft_kit.msswift.command import Command, swift_argv
from sft_kit.msswift.install import Installation
from sft_kit.resources import shipped
from sft_kit.run.process import start
from sft_kit.run.replay_cache import Given, answers_file, append_answers, read_answers

REPLAY_TOKENS = 64
REPLAY_SETTINGS: Mapping[str, float] = {"max_new_tokens": REPLAY_TOKENS, "temperature": 0.0, "repetition_penalty": 1.0}
_ASKED_AT_ONCE = 16  # the worker's own batch: what is answered is kept after each

_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’)）]?(?=\s|$)|[。！？]|\n")
_NAMES_A_LANGUAGE = re.compile(r"[英日韩法德俄]语|英文|日文|译|\b(?:translat|chinese|japanese|korean)", re.IGNORECASE)
_REPEATED = re.compile(r"(.{4,}?)\1{2,}", re.DOTALL)


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


def chat_command(installation: Installation, values: Mapping[str, Any], env: Mapping[str, str]) -> Command:
    """The worker process that loads what `swift infer` with `values` (4.x names) would load."""
    argv = swift_argv(installation, "infer", values)
    return Command((installation.python, *WORKER, *argv), dict(env))


@contextmanager
def open_chat(
    installation: Installation, values: Mapping[str, Any], *, log: Path, env: Mapping[str, str]
) -> Iterator[Chat]:
    """A loaded model to talk to; its process is gone when the block ends, however it ends.

    Raises MsSwiftError with the log's own last error line when the model cannot be loaded.
    """
    # unused here, but left to itself ms-swift 3.x makes result folders in the checkpoint or the current directory
    command = chat_command(installation, {**values, "result_path": str(log.with_suffix(".jsonl"))}, env)
    name = Path(str(values.get("model") or (values.get("adapters") or [""])[0])).name
    with start(command.argv, log=log, env=command.environment(), pipes=True) as process:
        chat = Chat(process, log=log)
        with working(f"loading {name}"):
            chat.wait_until_ready()
        yield chat


def before_and_after(
    installation: Installation,
    tuned: Mapping[str, Any],
    base: Mapping[str, Any] | None,
    probes: Sequence[Probe],
    names: Sequence[str],
    *,
    max_new_tokens: int,
    log: Path,
    env: Mapping[str, str],
) -> Evaluation:
    """Ask `probes` of both models, greedily, and score the answers.

    One load serves both sides when `tuned` is an adapter (it is switched off for the base); a full fine-tune gives
    its base model's values as `base` and costs a second load.
    """
    questions = [probe.messages() for probe in probes]

    def ask(chat: Chat, side: str, *, base: bool = False) -> list[str]:
        with AnswerView(f"answers of the {side} model", len(questions)) as view:
            answers = ask_greedily(chat, questions, max_new_tokens, base=base, on_progress=view.done)
        return [answer.text for answer in answers]

    with open_chat(installation, tuned, log=log, env=env) as chat:
        after = ask(chat, "tuned")
        before = ask(chat, "base", base=True) if base is None else None
    if before is None:
        with open_chat(installation, base or {}, log=log, env=env) as chat:
            before = ask(chat, "base")
    return compare(probes, before, after, names)


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
    path = answers_file(model, REPLAY_SETTINGS, installation.version)
    known = read_answers(path)
    cached = sum(prompt in known for prompt in prompts)
    if cached < len(prompts):
        # the longest first: those of a batch are alike, and too little memory shows at once
        new = sorted((prompt for prompt in prompts if prompt not in known), key=len, reverse=True)
        with open_chat(installation, model, log=log, env=env) as chat, AnswerView("replay answers", len(new)) as view:
            for first in range(0, len(new), _ASKED_AT_ONCE):
                answers = _replay_answers(chat, new[first : first + _ASKED_AT_ONCE])
                append_answers(path, answers)
                known.update(answers)
                view.done(first + len(answers), len(new))
    return _replay(prompts, known, cached, model)


def _replay_answers(chat: Chat, prompts: Sequence[str]) -> dict[str, Given]:
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    answers = ask_greedily(chat, conversations, REPLAY_TOKENS)
    return {p: Given(a.text, a.finish_reason != "length") for p, a in zip(prompts, answers, strict=True)}


def _replay(prompts: Sequence[str], answers: Mapping[str, Given], cached: int, model: Mapping[str, Any]) -> Replay:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    shortened = 0
    for prompt in prompts:
        given = answers[prompt]
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


def repeats_itself(answer: str) -> bool:
    """Whether something of four characters or more is said three times on end, and fills 24 letters (or 12 Chinese
    characters) in that way; lines of a table are let through."""
    return any(re.search(r"\w", found[1]) and len(found[0].encode()) >= 24 for found in _REPEATED.finditer(answer))


def other_language(prompt: str, answer: str) -> bool:
    """Whether a Chinese prompt is answered in Latin words alone, or one in Latin letters mostly in Chinese.

    Prompts that name a language, short answers and code are let through.
    """
    if _NAMES_A_LANGUAGE.search(prompt):
        return False
    words = len(re.findall(r"[^\W\d_]{2,}", re.sub(r"[\u3040-\u9fff\uac00-\ud7af]", " ", answer)))
    if has_cjk(prompt):
        return words >= 8 and not has_cjk(answer) and "```" not in answer
    return sum(map(is_cjk, answer)) > max(12, words)


def ask_greedily(
    chat: Chat,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    *,
    base: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """The likeliest token always, whatever the model's generation_config.json says."""
    return chat.ask_batch(
        conversations,
        base=base,
        on_progress=on_progress,
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        repetition_penalty=1.0,
    )


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
