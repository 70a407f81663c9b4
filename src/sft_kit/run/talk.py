"""`infer`: a chat with one model, in a terminal, from a pipe, or one-shot.

Answers go to stdout as they are made; everything else (what was loaded, the prompt sign) goes to stderr. A
conversation keeps its turns until /clear; the prompts of a one-shot call know nothing of each other.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_kit.console import person_is_typing, result_piece, say, write_out
from sft_kit.errors import InterruptedRun, Problem, UsageError
from sft_kit.msswift.chat import Chat, RefusedQuestion
from sft_kit.msswift.install import find_installation
from sft_kit.plan.gpus import gpu_environment
from sft_kit.run.chats import open_chat
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import temporary_log
from sft_kit.run.targets import Trust, resolve_one

_HELP = "/clear forgets the conversation, /system TEXT sets the system prompt, /exit or Ctrl-D leaves"
_LEAVE = {"/exit", "/quit", "exit", "quit"}


@dataclass(frozen=True)
class Options:
    """How answers are made: longest in tokens; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float


def talk(
    adapter: str | None,
    model: str | None,
    *,
    prompts: list[str],
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    output_dir: Path,
    trust: bool = False,
) -> None:
    """Load what `adapter` or `model` means (exactly one is given) and answer.

    With `prompts` each is answered on its own; else lines are read from stdin until it ends. `trust` lets the model run
    its own code. Raises UsageError for an empty prompt and when stdin is closed, and MsSwiftError when the model cannot
    be loaded.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise UsageError(Problem("--prompt", "is empty", "give the question"))
    installation = find_installation()
    target = resolve_one(adapter, model, output_dir, Trust(trust))
    if not prompts and (sys.stdin is None or sys.stdin.closed):
        raise UsageError(Problem("", "stdin is closed, so there is nobody to talk to", "ask with --prompt TEXT"))
    if target.note:
        say(f"{target.note}" + (f", trained on {target.base}" if target.base else ""))
    with (
        signals_as_interrupts(),
        temporary_log("infer") as log,
        open_chat(installation, target.values, log=log, env={**gpu_environment(1), **target.env}) as chat,
    ):
        options = Options(max_new_tokens, temperature)
        if prompts:
            _one_shot(chat, prompts, system, options)
        else:
            _converse(chat, system, options)


def _one_shot(chat: Chat, prompts: list[str], system: str | None, options: Options) -> None:
    for prompt in prompts:
        if len(prompts) > 1:
            say(f"> {prompt}")
        _answer(chat, _messages(system, [("user", prompt)]), options)


def _converse(chat: Chat, system: str | None, options: Options) -> None:
    turns: list[tuple[str, str]] = []
    interactive = person_is_typing()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (line editing and history for input())
        say(_HELP)
    for line in _lines(interactive):
        text = line.strip()
        if text in _LEAVE:
            return
        if text == "/clear":
            turns = []
            say("forgotten")
        elif text.split(maxsplit=1)[:1] == ["/system"]:
            system = text.removeprefix("/system").strip() or None
            turns = []
            say(f"system prompt: {system}" if system else "system prompt: the one it was trained with")
        elif text.startswith("/") and " " not in text and len(text) > 1:
            say(_HELP)
        elif text:
            try:
                reply = _answer(chat, _messages(system, [*turns, ("user", text)]), options)
            except RefusedQuestion as error:
                if not interactive:
                    raise
                say(f"{error}; shorten it, or /clear the conversation")
                continue
            except KeyboardInterrupt:
                if not interactive:
                    raise
                say("\nstopped; that turn is forgotten")
                continue
            turns += [("user", text), ("assistant", reply)]


def _answer(chat: Chat, messages: list[dict[str, str]], options: Options) -> str:
    """Stream one answer to stdout and return it."""
    pieces = []
    for piece in chat.stream(messages, max_new_tokens=options.max_new_tokens, temperature=options.temperature):
        pieces.append(piece)
        result_piece(piece)
    write_out("\n")
    return "".join(pieces)


def _lines(interactive: bool) -> Iterator[str]:
    """The user's lines until end of file; Ctrl-C at the prompt ends the command."""
    if not interactive:
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        yield from sys.stdin
        return
    while True:
        try:
            sys.stderr.flush()
            yield input("you> ")
        except EOFError:
            write_out("\n")
            return
        except KeyboardInterrupt:
            raise InterruptedRun("left by Ctrl-C") from None


def _messages(system: str | None, turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, *({"role": role, "content": content} for role, content in turns)]
