"""Opens models to talk to: the chat worker of `msswift` under supervision, for as long as a block lasts; and asks them
much at a time, keeping each answer as soon as it is there.

Does not own what is asked (`replay`, `evaluation`, `talk`) or the protocol (`msswift.chat`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_kit.console import working
from sft_kit.msswift.chat import WORKER, Answer, Chat, Conversation
from sft_kit.msswift.command import Command, swift_argv
from sft_kit.msswift.install import Installation
from sft_kit.run.answer_cache import Asked, Given, append_answers
from sft_kit.run.process import start


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


GREEDY: Mapping[str, float] = {"temperature": 0.0, "repetition_penalty": 1.0}
"""The likeliest token always, whatever the model's generation_config.json says."""
_ASKED_AT_ONCE = 16  # the worker's own batch


def ask_greedily(
    chat: Chat, conversations: Sequence[Conversation], max_new_tokens: int, *, base: bool = False
) -> list[Answer]:
    """The likeliest answer to each conversation."""
    options = {"max_new_tokens": max_new_tokens, **GREEDY}
    return chat.ask_batch(conversations, base=base, max_batch_size=_ASKED_AT_ONCE, on_progress=None, **options)


def ask_and_keep(
    chat: Chat,
    new: Collection[Asked],
    cache: Path,
    max_new_tokens: int,
    *,
    base: bool = False,
    on_progress: Callable[[int], None],
) -> dict[Asked, Given]:
    """Ask all that is `new`, greedily; what is answered is in the file `cache` after each batch, so that an interrupt
    costs one batch. `on_progress` is told how many are answered."""
    # the longest first: those of a batch are alike, and too little memory shows at once
    waiting = sorted(new, key=lambda asked: sum(len(content) for _, content in asked), reverse=True)
    answered: dict[Asked, Given] = {}
    for first in range(0, len(waiting), _ASKED_AT_ONCE):
        batch = waiting[first : first + _ASKED_AT_ONCE]
        conversations = [[{"role": role, "content": content} for role, content in asked] for asked in batch]
        answers = ask_greedily(chat, conversations, max_new_tokens, base=base)
        given = {q: Given(a.text, a.finish_reason != "length") for q, a in zip(batch, answers, strict=True)}
        append_answers(cache, given)
        answered |= given
        on_progress(len(answered))
    return answered
