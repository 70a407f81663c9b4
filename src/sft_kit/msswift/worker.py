"""The child process in which ms-swift's own Python API answers chats: `python -m sft_kit.msswift.worker ARGV`.

Owns: loading by ms-swift's `SwiftInfer(ARGV)`, so that arguments, args.json, model type, template and system
prompt are exactly those of `swift infer ARGV`, and answering requests over JSON lines. Does not own the argv
(`msswift.command`), how this process is started (`run.process`) or the launcher's end of the pipe
(`msswift.chat`). A YAML file as the first argument is unpacked only by the `swift` parent, not here.

Standard output carries nothing but replies: whatever ms-swift, its libraries and their children print goes to
standard error. All lines are ASCII JSON, so no locale can spoil them.

    <- {"ready": true, "seconds", "model", "model_type", "template", "system", "adapters"}
    -> {"id", "messages": [{"role", "content"}], "stream"?: bool, "base"?: bool, OPTIONS}
    <- {"id", "delta": str}*                     only with "stream"
    <- {"id", "done": true, "response", "prompt_tokens", "completion_tokens", "seconds", "finish_reason"}
    -> {"id", "batch": [messages, ...], "max_batch_size"?: int, "base"?: bool, OPTIONS}
    <- {"id", "answers": [{"index", "response", ...}]}*    each as its chunk ends, in any order
    <- {"id", "done": true, "seconds"}
    -> {"id", "likelihood": [text, ...], "base"?: bool}
    <- {"id", "likelihoods": [{"index", "nats", "tokens"}]}*     each as it is measured
    <- {"id", "done": true, "seconds"}
    <- {"id", "error": str}                      this request failed; the next one is served
    -> {"cancel": id}                            ends that request early: its done says "cancelled"

OPTIONS are max_new_tokens, temperature (0 is greedy), top_p, top_k and repetition_penalty; what is left out is
as in ARGV. "base" answers with the adapter switched off, from the same loaded weights. End of input ends the
process with 0 at the next token.

An empty system message is no system prompt at all, in both generations: "" keeps the template from putting in its
default, and its parts that hold a system prompt are then left out.

"likelihood" measures plain texts, without a chat template: `nats` is the sum of the negative log-likelihoods of
`tokens` tokens. A text is tokenized as the tokenizer does by itself (with a BOS where it adds one) and read in windows
of at most 1,024 tokens that know nothing of each other; the first token of each has nothing before it and is not
scored.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

Json = dict[str, Any]
Conversation = list[dict[str, str]]

DEFAULT_BATCH_SIZE = 16
"""48 short prompts, greedy, 48 new tokens, a 135M model on one CPU thread: one by one 74 s, by 4 54 s, by 8 39 s, by 16
26 s, by 48 22 s, with the same answers to the letter; beyond 16 little is won and memory grows."""
OPTIONS = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
}
"""Our request keys, which are ms-swift's argument names, and the names of the same in its RequestConfig."""
KEYS = frozenset({"id", "messages", "stream", "batch", "max_batch_size", "likelihood", "base", *OPTIONS})
LIKELIHOOD_WINDOW = 1024  # tokens
_SCORED_AT_ONCE = 128  # positions: a vocabulary of 150,000 in float32 is 77 MB of them


def take_over_stdio() -> tuple[TextIO, TextIO]:
    """Keep the real stdin and stdout for the protocol and give everyone else /dev/null and stderr.

    It is done on the file descriptors, before ms-swift is imported, so that C libraries and child processes
    cannot write into the replies or eat a request either.
    """
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, replies


class Inbox:
    """Requests as they arrive, read by a thread so that a cancel is seen while the model is busy."""

    def __init__(self, lines: TextIO) -> None:
        self._requests: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._cancelled: set[object] = set()
        self._closed = False
        self.loading = True
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: TextIO) -> None:
        for line in lines:
            try:
                request = dict(json.loads(line))
            except (ValueError, TypeError):
                request = {"id": None, "not JSON": line}  # refused by `serve`; a dead reader would be a hang
            if "cancel" in request:
                self._cancelled.add(request["cancel"])
            else:
                self._requests.put(request)
        self._closed = True
        self._requests.put(None)
        if self.loading:  # nobody is left to chat with, and nothing is written that a clean end would save
            os._exit(0)

    def __iter__(self) -> Iterator[Json]:
        while (request := self._requests.get()) is not None and not self._closed:
            yield request

    def is_cancelled(self, request_id: object) -> bool:
        return self._closed or request_id in self._cancelled


class Replies:
    """The private end of stdout; one JSON object a line, each flushed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def send(self, **reply: object) -> None:
        try:
            self._out.write(json.dumps(reply) + "\n")
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)  # the launcher is gone: the same as end of input


class Deltas:
    """A transformers streamer that sends text as the tokens of one answer come.

    ms-swift's own streaming runs `generate` in a thread whose failure leaves the reader waiting for ever; as a
    streamer inside the ordinary call, errors stay errors. Text is held back while its end is an incomplete
    UTF-8 character (decoded as U+FFFD); what is still held at the end comes with `finish`.
    """

    def __init__(self, decode: Callable[[list[int]], str], send: Callable[[str], None]) -> None:
        self._decode = decode
        self._send = send
        self._tokens: list[int] = []
        self._sent = ""
        self._prompt_seen = False

    def put(self, tokens: Any) -> None:
        if not self._prompt_seen:  # transformers passes the prompt first
            self._prompt_seen = True
            return
        self._tokens += tokens.flatten().tolist()
        text = self._decode(self._tokens)
        if not text.endswith("\ufffd"):
            self._send_up_to(text)

    def end(self) -> None:
        """Part of the streamer's interface; the rest is sent by `finish`, which knows ms-swift's final text."""

    def finish(self, response: str) -> None:
        self._send_up_to(response)

    def _send_up_to(self, text: str) -> None:
        if len(text) > len(self._sent) and text.startswith(self._sent):
            self._send(text[len(self._sent) :])
            self._sent = text


class Model:
    """What `swift infer ARGV` would chat with, loaded once."""

    def __init__(self, argv: Sequence[str]) -> None:
        # 4.x has swift.pipelines and no swift.llm; 3.x the other way round.
        if importlib.util.find_spec("swift.pipelines"):
            from swift.infer_engine import InferRequest
            from swift.pipelines.infer.infer import SwiftInfer
        else:
            from swift.llm import InferRequest
            from swift.llm.infer.infer import SwiftInfer

        swift_infer = SwiftInfer(list(argv))
        self.args = swift_infer.args
        self.template = swift_infer.template
        self._engine = swift_infer.infer_engine
        self._infer_kwargs = swift_infer.infer_kwargs
        self._infer_request = InferRequest
        # "pt" is 3.x's name. The other backends (vllm, ...) batch by themselves and never call template.generate.
        self._in_process = self.args.infer_backend in {"transformers", "pt"}
        self._streamer: Deltas | None = None
        self._is_cancelled: Callable[[], bool] = lambda: False
        if self._in_process:
            self._watch_generation()

    def _watch_generation(self) -> None:
        """Wrap `template.generate`, which both generations call with generate's arguments, to add ours."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        model = self

        class Cancelled(StoppingCriteria):  # type: ignore[misc]  # transformers is not typed here
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                return torch.full(input_ids.shape[:1], model._is_cancelled(), device=input_ids.device)

        generate = self.template.generate

        def watched(*args: Any, **kwargs: Any) -> Any:
            criteria = StoppingCriteriaList(kwargs.pop("stopping_criteria", None) or [])
            criteria.append(Cancelled())
            if self._streamer is not None and kwargs["generation_config"].num_beams == 1:
                kwargs["streamer"] = self._streamer
            return generate(*args, stopping_criteria=criteria, **kwargs)

        self.template.generate = watched

    def description(self) -> Json:
        return {
            "model": self.args.model,
            "model_type": self._engine.model_meta.model_type,
            "template": self.template.template_meta.template_type,
            "system": self.template.template_meta.default_system,
            "adapters": list(self.args.adapters),
        }

    def prompt_tokens(self, messages: Conversation) -> int:
        """Length of the rendered prompt in tokens; ValueError for one that leaves no room for an answer."""
        if not messages or messages[-1]["role"] == "assistant":
            raise ValueError("a conversation must end with what the model is to answer")
        tokens = len(self.template.encode(self._infer_request(messages=messages))["input_ids"])
        limit = self._engine.max_model_len
        if limit is not None and tokens >= limit:
            raise ValueError(f"the prompt has {tokens} tokens; the model takes {limit} with its answer")
        return tokens

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: Mapping[str, Any],
        *,
        base: bool,
        is_cancelled: Callable[[], bool],
        send_delta: Callable[[str], None] | None = None,
    ) -> list[Json]:
        """Answer all conversations as one batch; deltas are only for a single one."""
        config = self.args.get_request_config()
        if config is None:
            raise ValueError(f"task_type {self.args.task_type} does not chat")
        for key, value in options.items():
            setattr(config, OPTIONS[key], value)
        config.stream = send_delta is not None and not self._in_process
        requests = [self._infer_request(messages=messages) for messages in conversations]
        kwargs = dict(self._infer_kwargs)
        self._is_cancelled = is_cancelled
        if not self._in_process:
            if base:
                kwargs.pop("adapter_request")
            results = self._engine.infer(requests, config, use_tqdm=False, **kwargs)
            return [self._collect(results[0], is_cancelled, send_delta)] if send_delta else [_plain(r) for r in results]
        self._engine.max_batch_size = len(requests)
        self._streamer = Deltas(self._decode, send_delta) if send_delta else None
        try:
            with self._switch(base):
                answers = [_plain(r) for r in self._engine.infer(requests, config, use_tqdm=False, **kwargs)]
            if self._streamer is not None:
                self._streamer.finish(answers[0]["response"])
        finally:
            self._streamer = None
        if is_cancelled():
            answers = [{**answer, "finish_reason": "cancelled"} for answer in answers]
        return answers

    def likelihood(self, text: str, *, base: bool, is_cancelled: Callable[[], bool]) -> tuple[float, int]:
        """(negative log-likelihood in nats, tokens scored) of a plain text; log-softmax in float32."""
        import torch

        if not self._in_process:
            raise ValueError(f"infer_backend {self.args.infer_backend} gives no likelihoods")
        model = self._engine.model
        tokens = self.template.tokenizer(text)["input_ids"]
        window = min(LIKELIHOOD_WINDOW, self._engine.max_model_len or LIKELIHOOD_WINDOW)
        nats, scored = 0.0, 0
        with torch.inference_mode(), self._switch(base):
            for start in range(0, len(tokens), window):
                ids = torch.tensor([tokens[start : start + window]], device=model.device)
                if ids.shape[1] < 2 or is_cancelled():
                    break
                logits, targets = model(input_ids=ids, use_cache=False).logits[0, :-1], ids[0, 1:]
                for part, wanted in zip(logits.split(_SCORED_AT_ONCE), targets.split(_SCORED_AT_ONCE), strict=True):
                    losses = torch.nn.functional.cross_entropy(part.float(), wanted.to(part.device), reduction="none")
                    nats += losses.double().sum().item()
                scored += len(targets)
        return nats, scored

    def _switch(self, base: bool) -> contextlib.AbstractContextManager[None]:
        """The adapter switched off while the block runs, if `base`."""
        switched: contextlib.AbstractContextManager[None] = (
            self._engine.model.disable_adapter() if base else contextlib.nullcontext()
        )
        return switched

    def check_base(self) -> None:
        """Raise ValueError where there is no adapter to switch off."""
        has_switch = hasattr(self._engine.model, "disable_adapter") if self._in_process else bool(self._infer_kwargs)
        if not self.args.adapters or not has_switch:
            raise ValueError("no adapter is loaded that could be switched off to ask the base model")

    def _decode(self, tokens: list[int]) -> str:
        decode = getattr(self.template, "decode_generate_ids", None) or self.template.decode  # 4.x, 3.x
        return str(decode(tokens, is_finished=False))

    @staticmethod
    def _collect(chunks: Iterator[Any], is_cancelled: Callable[[], bool], send: Callable[[str], None]) -> Json:
        """Join the chunks of an engine that streams by itself."""
        text, finish_reason, completion_tokens = "", None, 0
        for chunk in chunks:
            if is_cancelled():
                finish_reason = "cancelled"
                break
            choice = chunk.choices[0]
            finish_reason = choice.finish_reason
            completion_tokens = chunk.usage.completion_tokens
            if choice.delta.content:
                text += choice.delta.content
                send(choice.delta.content)
        return {"response": text, "completion_tokens": completion_tokens, "finish_reason": finish_reason}


def _plain(response: Any) -> Json:
    if isinstance(response, Exception):
        raise response
    choice = response.choices[0]
    return {
        "response": choice.message.content,
        "completion_tokens": response.usage.completion_tokens,
        "finish_reason": choice.finish_reason,
    }


def serve(model: Model, request: Json, inbox: Inbox, replies: Replies) -> None:
    """Answer one request; whatever is wrong with it raises."""
    if unknown := request.keys() - KEYS:
        raise ValueError(f"unknown keys in the request: {', '.join(sorted(unknown))}")
    request_id = request["id"]
    options = {key: request[key] for key in OPTIONS if request.get(key) is not None}
    base = bool(request.get("base"))
    if base:
        model.check_base()
    started = time.monotonic()

    def cancelled() -> bool:
        return inbox.is_cancelled(request_id)

    if "messages" in request:
        messages: Conversation = request["messages"]
        prompt_tokens = model.prompt_tokens(messages)
        send_delta = (lambda text: replies.send(id=request_id, delta=text)) if request.get("stream") else None
        (answer,) = model.answer([messages], options, base=base, is_cancelled=cancelled, send_delta=send_delta)
        seconds = time.monotonic() - started
        replies.send(id=request_id, done=True, **answer, prompt_tokens=prompt_tokens, seconds=seconds)
        return

    if "likelihood" in request:
        for index, text in enumerate(request["likelihood"]):
            nats, tokens = model.likelihood(text, base=base, is_cancelled=cancelled)
            if cancelled():
                break
            replies.send(id=request_id, likelihoods=[{"index": index, "nats": nats, "tokens": tokens}])
        _end_of_many(replies, request_id, started, cancelled())
        return

    batch: list[Conversation] = request["batch"]
    lengths = [model.prompt_tokens(messages) for messages in batch]
    # Neighbours of equal length need the least padding; the longest first, so that too little memory shows at once.
    order = sorted(range(len(batch)), key=lambda index: -lengths[index])
    size = request.get("max_batch_size") or DEFAULT_BATCH_SIZE
    for start in range(0, len(order), size):
        if cancelled():
            break
        chunk = order[start : start + size]
        chunk_started = time.monotonic()
        answers = model.answer([batch[index] for index in chunk], options, base=base, is_cancelled=cancelled)
        seconds = (time.monotonic() - chunk_started) / len(chunk)
        replies.send(
            id=request_id,
            answers=[
                {"index": index, **answer, "prompt_tokens": lengths[index], "seconds": seconds}
                for index, answer in zip(chunk, answers, strict=True)
            ],
        )
    _end_of_many(replies, request_id, started, cancelled())


def _end_of_many(replies: Replies, request_id: object, started: float, cancelled: bool) -> None:
    finish_reason = "cancelled" if cancelled else "stop"
    replies.send(id=request_id, done=True, seconds=time.monotonic() - started, finish_reason=finish_reason)


def main(argv: Sequence[str]) -> int:
    started = time.monotonic()
    requests, out = take_over_stdio()
    # Ctrl-C in a terminal reaches the whole group; what it means is the launcher's decision, which sends a cancel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, replies = Inbox(requests), Replies(out)
    model = Model(argv)
    inbox.loading = False
    replies.send(ready=True, seconds=time.monotonic() - started, **model.description())
    for request in inbox:
        try:
            serve(model, request, inbox, replies)
        except Exception as error:  # one bad request must not cost the loaded model; the launcher raises it
            traceback.print_exc()
            replies.send(id=request.get("id"), error=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
