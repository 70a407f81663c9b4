"""The child process in which plain transformers answers, as for a user without ms-swift: `main([DIRECTORY, DTYPE])`.

Owns: `AutoModelForCausalLM`, the directory's own chat template and generation settings, greedy answers, and by how much
an answer was missed. Nothing of ms-swift is imported. Does not own how this process is started, nor the answers that
it is to meet (`run.parity`).

    -> {"conversations": [messages, ...], "max_new_tokens": int, "expected": [{"prompt": [id], "answer": [id]}, ...]}
    <- {"done": conversations}*                  as each batch ends
    <- {"dtype": str, "redated": int, "answers": [{"prompt": [id], "answer": [id], "text", "differs"?: DIFFERENCE}...]}
    <- {"error": str}

DIFFERENCE is there where an answer is not the expected one: {"at": index of its first other token, "gap": by how much
that token's logit is above the expected one's (None at a different end or prompt), "prompts": [ours, theirs] as text
where the prompts differ}. "expected" may be left out: then nothing is compared. "redated" counts the prompts that were
the expected ones but for the date in them, and were asked with the expected date.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

Json = dict[str, Any]
BATCH_SIZE = 16
_DATE = re.compile(r"\b\d{1,2} [A-Z][a-z]{2} \d{4}\b")


class Model:
    """The merged model as `from_pretrained(directory)` gives it."""

    def __init__(self, directory: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # The base's own code was run by ms-swift already, when it merged.
        own_code = "auto_map" in json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
        place: Json = {"device_map": "auto"} if torch.cuda.is_available() else {}
        wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
        # both generations take `torch_dtype`; 4.56 on call it `dtype`
        self.model = AutoModelForCausalLM.from_pretrained(
            directory, torch_dtype=wanted, trust_remote_code=own_code, **place
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=own_code)
        ends = self.model.generation_config.eos_token_id  # not the tokenizer's: `generate` does not look at that one
        self._ends = {*(ends if isinstance(ends, list) else [ends])} - {None}
        self._pad = next(i for i in (self.tokenizer.pad_token_id, *self._ends, 0) if i is not None)

    def prompt(self, messages: Sequence[Json]) -> list[int]:
        """Its tokens, by the directory's chat template alone."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def answer(self, prompts: Sequence[list[int]], max_new_tokens: int) -> list[list[int]]:
        """The greedy answers to one batch, each up to where the model's own settings end it."""
        import torch

        longest = max(map(len, prompts))
        device = self.model.get_input_embeddings().weight.device
        ids = torch.tensor([[self._pad] * (longest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._pad,
            )
        return [until(row, self._ends) for row in made[:, longest:].tolist()]

    def gap(self, prompt: Sequence[int], same: Sequence[int], own: int, expected: int) -> float:
        """How far the logit of `own` is above that of `expected`, after the prompt and the answer so far."""
        import torch

        ids = torch.tensor([[*prompt, *same]], device=self.model.get_input_embeddings().weight.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0, -1].float()
        return float(logits[own] - logits[expected])

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))


def until(ids: Sequence[int], ends: set[int]) -> list[int]:
    """`ids` before the first one that ends an answer."""
    stop = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])


def with_its_date(prompt: list[int], expected: list[int], text: Callable[[Sequence[int]], str]) -> list[int]:
    """`expected` where `prompt` differs from it in a date alone, else `prompt`: the template of Llama 3.1 says that
    today is 26 Jul 2024 and ms-swift's says today, and no answers could be compared."""
    if prompt == expected:
        return prompt
    ours, theirs = (_DATE.sub("DATE", text(ids)) for ids in (prompt, expected))
    return expected if ours == theirs else prompt


def difference(model: Model, prompt: list[int], answer: list[int], expected: Json) -> Json | None:
    """What differs between an answer and the expected one; None when nothing does."""
    wanted: list[int] = expected["answer"]
    at = next((i for i, (a, b) in enumerate(zip(answer, wanted, strict=False)) if a != b), None)
    if prompt != expected["prompt"]:
        return {"at": at, "gap": None, "prompts": [model.text(prompt), model.text(expected["prompt"])]}
    if at is not None:
        return {"at": at, "gap": model.gap(prompt, answer[:at], answer[at], wanted[at])}
    return {"at": min(len(answer), len(wanted)), "gap": None} if len(answer) != len(wanted) else None


def work(model: Model, request: Json, say: Callable[..., None]) -> Json:
    """Answer all conversations of a request."""
    own = [model.prompt(messages) for messages in request["conversations"]]
    wanted = [one["prompt"] for one in request["expected"]] if "expected" in request else own
    prompts = [with_its_date(*both, model.text) for both in zip(own, wanted, strict=True)]
    answers: list[Json] = [{} for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))  # neighbours need the least padding
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        made = model.answer([prompts[index] for index in batch], request["max_new_tokens"])
        for index, ids in zip(batch, made, strict=True):
            answers[index] = {"prompt": prompts[index], "answer": ids, "text": model.text(ids)}
            if "expected" in request:
                found = difference(model, prompts[index], ids, request["expected"][index])
                answers[index] |= {"differs": found} if found else {}
        say(done=start + len(batch))
    redated = sum(prompt != asked for prompt, asked in zip(own, prompts, strict=True))
    return {"dtype": str(model.model.dtype).removeprefix("torch."), "redated": redated, "answers": answers}


def main(argv: Sequence[str]) -> int:
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever the libraries print is no reply
    sys.stdout = sys.stderr

    def say(**reply: object) -> None:
        _write(out, reply)

    request = json.loads(sys.stdin.readline())
    try:
        say(**work(Model(argv[0], argv[1]), request, say))
    except Exception as error:  # told to the launcher, which knows what to do about it
        traceback.print_exc()
        say(error=f"{type(error).__name__}: {error}")
    return 0


def _write(out: TextIO, reply: object) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
