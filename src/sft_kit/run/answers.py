"""Asks models: starts the chat worker under supervision, and builds what needs a model's own answers.

Owns the before/after answers of an evaluation and the replay rows (general prompts answered by the base model, which
keep what it knew). The answers of replay are cached by model, prompts and settings: a second run asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sft_kit.console import AnswerView, working
from sft_kit.data.rows import Message, Row
from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.evaluate.probes import Probe
from sft_kit.msswift.chat import WORKER, Answer, Chat, Conversation
from sft_kit.msswift.command import Command, swift_argv
from sft_kit.msswift.install import Installation
from sft_kit.resources import cache_dir, shipped
from sft_kit.run.directory import write_atomic
from sft_kit.run.process import start

REPLAY_TOKENS = 64
_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’)）]?(?=\s|$)|[。！？]|\n")


@dataclass(frozen=True)
class Replay:
    """Rows answered by the base model. `shortened` answers were cut back to their last full sentence; `skipped`
    were empty or had none."""

    rows: tuple[Row, ...]
    shortened: int
    skipped: int
    cached: bool


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
        what = f"answers of the {side} model"
        return [answer.text for answer in _ask_greedily(chat, what, questions, max_new_tokens, base=base)]

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
    """`count` bundled general prompts, each with the base model's own greedy answer (at most 64 tokens)."""
    prompts = replay_prompts(count, languages)
    path = cache_dir() / "replay" / f"{_replay_key(model, prompts, installation)}.json"
    answers = _cached_answers(path, len(prompts))
    cached = answers is not None
    if answers is None:
        conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
        with open_chat(installation, model, log=log, env=env) as chat:
            found = _ask_greedily(chat, "replay answers", conversations, REPLAY_TOKENS)
        answers = [(answer.text, _ended(answer)) for answer in found]
        with suppress(OSError):  # only a cache
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(answers, ensure_ascii=False))
    rows: list[Row] = []
    shortened = 0
    for prompt, (text, ended) in zip(prompts, answers, strict=True):
        kept = text.strip() if ended else full_sentences(text)
        if kept:
            shortened += not ended
            rows.append(Row((Message("user", prompt), Message("assistant", kept))))
    return Replay(tuple(rows), shortened, len(prompts) - len(rows), cached)


def _ask_greedily(
    chat: Chat, what: str, conversations: Sequence[Conversation], max_new_tokens: int, *, base: bool = False
) -> list[Answer]:
    """The likeliest token always, whatever the model's generation_config.json says."""
    with AnswerView(what, len(conversations)) as view:
        return chat.ask_batch(
            conversations,
            base=base,
            on_progress=view.done,
            max_new_tokens=max_new_tokens,
            temperature=0.0,
            repetition_penalty=1.0,
        )


def replay_prompts(count: int, languages: Sequence[str]) -> list[str]:
    """The first `count` bundled prompts of `languages`, the languages in turn, in an order that mixes the kinds."""
    text = (shipped("data") / "replay" / "prompts.yaml").read_text(encoding="utf-8")
    by_language = YAML(typ="safe").load(text)["prompts"]
    queues = []
    for language in languages:
        texts = [str(prompt) for kind in by_language[language].values() for prompt in kind]
        queues.append(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()))
    longest = max(map(len, queues), default=0)
    mixed = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    return mixed[:count]


def full_sentences(text: str) -> str:
    """`text` up to the end of its last full sentence; empty when less than a third of it is left."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    kept = text[: ends[-1]].strip() if ends else ""
    return kept if 3 * len(kept) >= len(text.strip()) else ""


def _ended(answer: Answer) -> bool:
    return answer.finish_reason != "length"


def _cached_answers(path: Path, count: int) -> list[tuple[str, bool]] | None:
    try:
        found = [(str(text), bool(ended)) for text, ended in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return None
    return found if len(found) == count else None


def _replay_key(model: Mapping[str, Any], prompts: Sequence[str], installation: Installation) -> str:
    folder = Path(str(model.get("model") or ""))
    files = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []
    state = [(file.name, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    parts = [
        sorted(model.items(), key=lambda item: item[0]),
        state,
        list(prompts),
        REPLAY_TOKENS,
        installation.version,
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, default=str).encode()).hexdigest()[:24]
