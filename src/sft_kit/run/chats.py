"""Opens models to talk to: the chat worker of `msswift` under supervision, for as long as a block lasts.

Does not own what is asked (`replay`, `evaluation`, `talk`) or the protocol (`msswift.chat`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_kit.console import working
from sft_kit.msswift.chat import WORKER, Answer, Chat, Conversation
from sft_kit.msswift.command import Command, swift_argv
from sft_kit.msswift.install import Installation
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
