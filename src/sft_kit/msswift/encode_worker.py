"""The child process in which ms-swift's own templates encode rows as training will, for several models at once.

Owns: what `swift sft ARGV` would make of ARGV, as far as the template and the tokenizer go, and the encoding of rows by
it. No weights are loaded, looked for or downloaded, and nothing is written: `SftArguments` itself makes the output
directory and asks for a GPU, so its parser reads ARGV and its base class `BaseArguments`, which holds everything that a
template is made from, is filled with the result. Does not own how this process is started (`run.process`) or the
launcher's end of the pipes (`msswift.encode`).

    -> {"models": [ARGV, ...], "rows": [[{"role", "content"}, ...], ...], "show": [index of a row, ...]}
    <- {"model": {"model", "model_type", "template", ...}, "rows": [{"input_ids", "labels", ...}, ...]}
    <- {"error": str}                                       in place of it, for a model that cannot be had

One line in, one line out for each model in their order; standard output carries nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from sft_kit.msswift.worker import Json, Replies, take_over_stdio


class Encoder:
    """The template that `swift sft ARGV` would train with."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.args = _arguments(argv)
        _, processor = self.args.get_model_processor(load_model=False)
        self.template = self.args.get_template(processor)
        self.template.set_mode("train")

    def description(self) -> Json:
        meta = self.template.template_meta
        adds_think = self.args.add_non_thinking_prefix and self.args.use_chat_template
        return {
            "model": self.args.model,
            "model_type": self.args.model_type,
            "template": self.args.template,
            "template_default": _registered(self.args.template).default_system,
            "system": meta.default_system,
            "takes_system": meta.support_system,
            "empty_thought": meta.non_thinking_prefix if adds_think else "",
            "max_length": self.template.max_length,
            "truncation_strategy": self.args.truncation_strategy,
            "loss_scale": self.args.loss_scale,
        }

    def encode(self, messages: list[dict[str, str]], *, show: bool) -> Json:
        """A row as it will be trained, with `fate` dropped, truncated or split when it is over max_length.

        `length` is that of the whole row; of a dropped or split row the ids and labels are those of the whole. With
        `show` also its text in pieces, and its length without a system prompt.
        """
        fate = "kept"
        try:
            encoded = self._encode(messages)
        except ValueError as error:
            if type(error).__name__ != "MaxLengthError":
                raise
            fate, encoded = "dropped", self._encode(messages, whole=True)
        if isinstance(encoded, list):  # only without a chat template
            fate, encoded = "split", self._encode(messages, whole=True)
        length = len(encoded["input_ids"])
        if fate == "kept" and length == self.template.max_length:  # perhaps cut to this length
            length = len(self._encode(messages, whole=True)["input_ids"])
            fate = "truncated" if length > self.template.max_length else fate
        row = {"fate": fate, "length": length, "input_ids": encoded["input_ids"], "labels": encoded["labels"]}
        row["loss_scale"] = encoded.get("loss_scale")
        if show:
            row |= {"pieces": self._pieces(row), "without_system": self._without_system(messages)}
        return row

    def _encode(self, messages: list[dict[str, str]], *, whole: bool = False) -> Any:
        """The row by ms-swift, a list if it splits it; `whole` is without any limit."""
        limit = self.template.max_length
        self.template.max_length = None if whole else limit
        try:
            return self.template.encode({"messages": messages}, return_length=True)
        finally:
            self.template.max_length = limit

    def _pieces(self, row: Json) -> list[Json]:
        """The row's text cut where training or not, the loss weight, or a special token begins or ends.

        Each text is what it adds to the one before it: a SentencePiece tokenizer drops the space before a text that is
        decoded on its own.
        """
        tokenizer, ids = self.template.tokenizer, row["input_ids"]
        special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
        weights = row["loss_scale"] or [float(label != -100) for label in row["labels"]]

        def kind(index: int) -> tuple[bool, float, int]:
            own = index if ids[index] in special else -1
            return row["labels"][index] != -100, weights[index], own

        def text_of(members: list[int]) -> str:
            return str(tokenizer.decode(members, skip_special_tokens=False, clean_up_tokenization_spaces=False))

        pieces: list[Json] = []
        before: list[int] = []
        for (trained, weight, own), indices in groupby(range(len(ids)), kind):
            members = [ids[index] for index in indices]
            alone, both = text_of(before), text_of(before + members)
            text = both[len(alone) :] if both.startswith(alone) else text_of(members)
            piece = {"text": text, "trained": trained, "special": own >= 0, "tokens": len(members), "weight": weight}
            pieces.append(piece)
            before = members
        return pieces

    def _without_system(self, messages: list[dict[str, str]]) -> int | None:
        talk = messages[1:] if messages[0]["role"] == "system" else messages
        if not self.template.template_meta.support_system:
            return None
        return len(self._encode([{"role": "system", "content": ""}, *talk], whole=True)["input_ids"])


def _arguments(argv: Sequence[str]) -> Any:
    """ms-swift's arguments for ARGV. Raises ValueError for words that `swift sft` does not know, as it does."""
    from swift.utils import utils
    from transformers import HfArgumentParser

    # 4.x has swift.arguments and no swift.llm; 3.x the other way round.
    if importlib.util.find_spec("swift.arguments"):
        from swift.arguments import BaseArguments, SftArguments
    else:
        from swift.llm import BaseArguments
        from swift.llm import TrainArguments as SftArguments
    with utils._patch_get_type_hints():  # as swift.utils.parse_args builds its parser
        parser = HfArgumentParser([SftArguments])
    given, rest = parser.parse_known_args(list(argv))
    if rest:
        raise ValueError(f"remaining_argv: {rest}")
    return BaseArguments(**{field.name: getattr(given, field.name) for field in fields(BaseArguments) if field.init})


def _registered(name: str) -> Any:
    if importlib.util.find_spec("swift.template"):
        from swift.template import TEMPLATE_MAPPING
    else:
        from swift.llm import TEMPLATE_MAPPING
    return TEMPLATE_MAPPING[name]


def _answer(argv: Sequence[str], rows: Sequence[list[dict[str, str]]], show: set[int]) -> Json:
    encoder = Encoder(argv)
    encoded: list[Json] = []
    for index, messages in enumerate(rows):
        try:
            encoded.append(encoder.encode(messages, show=index in show))
        except Exception as error:  # ms-swift drops such a row and goes on
            traceback.print_exc()
            encoded.append({"error": f"{type(error).__name__}: {error}"})
    return {"model": encoder.description(), "rows": encoded}


def main(argv: Sequence[str]) -> int:
    requests, out = take_over_stdio()
    request, replies = json.loads(requests.readline()), Replies(out)
    for model_argv in request["models"]:
        try:
            reply = _answer(model_argv, request["rows"], set(request["show"]))
        except Exception as error:  # the other models can still be shown
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.send(**reply)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
