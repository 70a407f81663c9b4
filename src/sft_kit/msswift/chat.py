"""The launcher's end of a chat with `msswift.worker`.

Owns the protocol's client: waiting for the model, asking, streaming, batches, cancelling, and what is said when
ms-swift fails. Does not own the process: whoever starts `python -m sft_kit.msswift.worker ARGV` (see `WORKER`) with
pipes and a log for its standard error passes it in, and ends it if it should not end by itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sft_kit.errors import MsSwiftError, Problem
from sft_kit.msswift.child import Transport, death, wait_for_end, words_to_start

WORKER = words_to_start("sft_kit.msswift.worker")
"""What goes between the Python of the ms-swift installation and the arguments of `swift infer`."""

Conversation = Sequence[Mapping[str, str]]
"""Messages with `role` and `content`, the last one the user's. One that begins with no system message is answered
under `Loaded.system`, one that begins with an empty one under no system prompt at all."""


@dataclass(frozen=True)
class Loaded:
    """What the worker loaded. `system` is the system prompt used when a conversation brings none."""

    model: str
    model_type: str
    template: str
    system: str | None
    adapters: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Answer:
    """One answer as ms-swift gives it: a `<think>` part stays in. In a batch, `seconds` is its share of the time.

    `finish_reason` is "stop", "length" (max_new_tokens were used up) or "cancelled".
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    finish_reason: str


class RefusedQuestion(MsSwiftError):
    """One question could not be answered, such as one over max_length; the model is there for the next."""


class Chat:
    """A conversation partner; use it as a context manager, which waits for the model on entry.

    Options of every question: `max_new_tokens`, `temperature` (0 is greedy), `top_p`, `top_k`,
    `repetition_penalty`; what is not given is as in the worker's arguments. `base=True` switches the adapter off.
    Every method raises MsSwiftError when the worker dies or refuses. A question that is left before its end (an
    exception such as KeyboardInterrupt, or a closed iterator) is cancelled, and the next one can be asked.
    """

    def __init__(self, transport: Transport, *, log: Path, ready_timeout_s: float = 1800.0) -> None:
        if transport.stdin is None or transport.stdout is None:
            raise ValueError("the worker must be started with pipes")
        self._transport = transport
        self._requests = transport.stdin
        self._log = log
        self._ready_timeout_s = ready_timeout_s
        self._replies: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._next_id = 0
        self.loaded: Loaded | None = None
        threading.Thread(target=self._read, args=(transport.stdout,), daemon=True).start()

    def __enter__(self) -> Chat:
        self.wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self) -> Loaded:
        """Return what was loaded; the time limit includes a download from a hub."""
        try:
            ready = self._receive(self._ready_timeout_s)
        except queue.Empty:
            problem = f"ms-swift did not finish loading the model in {self._ready_timeout_s:g} s"
            raise MsSwiftError(Problem(str(self._log), problem, "see the log"), returncode=1) from None
        self.loaded = Loaded(
            model=ready["model"],
            model_type=ready["model_type"],
            template=ready["template"],
            system=ready["system"],
            adapters=tuple(ready["adapters"]),
            seconds=ready["seconds"],
        )
        return self.loaded

    def close(self) -> None:
        """Let the worker go and wait up to 10 s for its end."""
        with contextlib.suppress(BrokenPipeError):  # it is gone already
            self._requests.close()
        wait_for_end(self._transport)

    def stream(self, messages: Conversation, *, base: bool = False, **options: float) -> Generator[str, None, Answer]:
        """Yield the answer in pieces as its tokens come; the generator's return value is the whole Answer."""
        for reply in self._request(messages=list(messages), stream=True, base=base, **options):
            if "delta" in reply:
                yield reply["delta"]
        return _answer(reply)

    def ask(self, messages: Conversation, *, base: bool = False, **options: float) -> Answer:
        """Answer one conversation."""
        *_, last = self._request(messages=list(messages), stream=False, base=base, **options)
        return _answer(last)

    def ask_batch(
        self,
        conversations: Sequence[Conversation],
        *,
        base: bool = False,
        max_batch_size: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        **options: float,
    ) -> list[Answer]:
        """Answer many conversations, `max_batch_size` (default: the worker's) at a time, in the order given.

        `on_progress(answered, all)` is called after each chunk. The worker forms chunks of similar prompt length.
        """
        answers: dict[int, Answer] = {}
        batch = [list(messages) for messages in conversations]
        for reply in self._request(batch=batch, base=base, max_batch_size=max_batch_size, **options):
            answers.update({item["index"]: _answer(item) for item in reply.get("answers", ())})
            if on_progress is not None and "answers" in reply:
                on_progress(len(answers), len(batch))
        return [answers[index] for index in range(len(batch))]

    def likelihood(self, texts: Sequence[str], *, base: bool = False) -> list[tuple[float, int]]:
        """(sum of negative log-likelihoods in nats, tokens scored) of each plain text, without a chat template.

        The first token of each window of 1,024 is not scored; a text of one token has none that is.
        """
        found: dict[int, tuple[float, int]] = {}
        for reply in self._request(likelihood=list(texts), base=base):
            found.update({item["index"]: (item["nats"], item["tokens"]) for item in reply.get("likelihoods", ())})
        return [found[index] for index in range(len(texts))]

    def _request(self, **request: object) -> Iterator[Mapping[str, Any]]:
        """Send a request and yield its replies, the last one with `done`."""
        if self.loaded is None:
            self.wait_until_ready()
        self._next_id += 1
        request_id = self._next_id
        self._send({"id": request_id, **request})
        answered = False
        try:
            while not answered:
                reply = self._receive()
                if reply.get("id") != request_id:
                    continue  # the rest of a cancelled one
                answered = "done" in reply or "error" in reply
                if "error" in reply:
                    raise RefusedQuestion(Problem("", f"ms-swift: {reply['error']}"), returncode=1)
                yield reply
        finally:
            if not answered and self._transport.poll() is None:
                self._send({"cancel": request_id})

    def _send(self, request: Mapping[str, object]) -> None:
        line = json.dumps(request) + "\n"
        try:
            self._requests.write(line if isinstance(self._requests, io.TextIOBase) else line.encode("ascii"))
            self._requests.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self, timeout_s: float | None = None) -> Mapping[str, Any]:
        reply = self._replies.get(timeout=timeout_s)
        if reply is None:
            self._replies.put(None)  # it stays dead for the next question too
            raise self._death()
        return reply

    def _read(self, lines: IO[Any]) -> None:
        try:
            for line in lines:
                self._replies.put(json.loads(line))
        except ValueError:
            pass  # a torn line is a dying worker's; a closed pipe means that nobody listens any more
        self._replies.put(None)

    def _death(self) -> MsSwiftError:
        return death(self._transport, self._log, "answering" if self.loaded else "loading the model")


def _answer(reply: Mapping[str, Any]) -> Answer:
    return Answer(
        text=reply["response"],
        prompt_tokens=reply["prompt_tokens"],
        completion_tokens=reply["completion_tokens"],
        seconds=reply["seconds"],
        finish_reason=reply["finish_reason"],
    )
