"""The child process in which ms-swift gives the answers that an exported model must give too: `main(ARGV)`.

Owns: asking the model of `msswift.worker`, that is what `swift infer ARGV` chats with, for the token ids of its prompts
and of its greedy answers. Does not own loading and template, which are the worker's, nor the comparison (`run.parity`).

    -> {"conversations": [messages, ...], "max_new_tokens": int}
    <- {"done": conversations}*                          as each batch ends
    <- {"system": str | null, "answers": [{"prompt": [id], "answer": [id], "text"}, ...]}
    <- {"error": str}
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from sft_kit.msswift.worker import DEFAULT_BATCH_SIZE, Json, Model, Replies, take_over_stdio

_GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0}


class Reference:
    """The chat worker's model, with its token ids at hand."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.model = Model(argv)
        self._made: Any = None
        take = self.model.template.get_generate_ids

        def keep(*args: Any, **kwargs: Any) -> Any:
            self._made = take(*args, **kwargs)
            return self._made

        self.model.template.get_generate_ids = keep  # both generations call it with what they generated

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        ids = self.model.template.encode(self.model._infer_request(messages=messages))["input_ids"]
        return [int(token) for token in ids]

    def answer(self, batch: Sequence[list[dict[str, str]]], max_new_tokens: int) -> list[Json]:
        options = {"max_new_tokens": max_new_tokens, **_GREEDY}
        answers = self.model.answer(batch, options, base=False, is_cancelled=lambda: False)
        ends = self._ends()
        return [
            {"answer": _until(row, ends), "text": answer["response"]}
            for row, answer in zip(self._made.tolist(), answers, strict=True)
        ]

    def _ends(self) -> set[int]:
        tokenizer = self.model.template.tokenizer
        configured = self.model._engine.generation_config.eos_token_id
        several = configured if isinstance(configured, list) else [configured]
        return {token for token in (*several, tokenizer.eos_token_id, tokenizer.pad_token_id) if token is not None}


def _until(ids: Sequence[int], ends: set[int]) -> list[int]:
    stop = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


def work(argv: Sequence[str], request: Json, replies: Replies) -> Json:
    """Load the model and answer all conversations of a request, the longest prompts first."""
    reference = Reference(argv)
    conversations = request["conversations"]
    answers: list[Json] = [{"prompt": reference.prompt(messages)} for messages in conversations]
    order = sorted(range(len(conversations)), key=lambda index: -len(answers[index]["prompt"]))
    for start in range(0, len(order), DEFAULT_BATCH_SIZE):
        batch = order[start : start + DEFAULT_BATCH_SIZE]
        made = reference.answer([conversations[index] for index in batch], request["max_new_tokens"])
        for index, answer in zip(batch, made, strict=True):
            answers[index] |= answer
        replies.send(done=start + len(batch))
    return {"system": reference.model.description()["system"], "answers": answers}


def main(argv: Sequence[str]) -> int:
    requests, out = take_over_stdio()
    request, replies = json.loads(requests.readline()), Replies(out)
    try:
        replies.send(**work(argv, request, replies))
    except Exception as error:  # told to the launcher, which knows what to do about it
        traceback.print_exc()
        replies.send(error=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
