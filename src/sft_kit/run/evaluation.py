"""The evaluation of a model: which questions are asked of base and tuned, in how many loads, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_kit.console import AnswerView
from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.evaluate.probes import Probe
from sft_kit.msswift.chat import Chat
from sft_kit.msswift.install import Installation
from sft_kit.run.chats import ask_greedily, open_chat


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
