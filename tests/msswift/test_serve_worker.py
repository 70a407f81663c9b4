"""The server's queue, with a generator in place of ms-swift's engine. No ms-swift is started."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from sft_kit.msswift.serve_worker import Queue, ending_streams

STREAM = SimpleNamespace(stream=True)
WHOLE = SimpleNamespace(stream=False)


class Engine:
    """Streams tokens as ms-swift does: made by `generate` in a thread of its own, read from its streamer."""

    def __init__(self, queue: Queue, tokens: int) -> None:
        self.made: list[int] = []
        self._tokens = tokens
        self._generate = ending_streams(self._make, queue.check_client)

    def _make(self, *, streamer: Any) -> None:
        for token in range(self._tokens):
            streamer.put(token)
            self.made.append(token)
        streamer.end()

    def _infer(self, requests: list[str], config: Any) -> Any:
        return self._stream() if config.stream else [f"to {requests[0]}"]

    def _stream(self) -> Iterator[list[int]]:
        room, ready, ended = threading.Semaphore(1), threading.Semaphore(0), threading.Event()
        tokens: list[int] = []

        def put(token: int) -> None:  # one token at a time, so that the reader keeps up
            room.acquire()
            tokens.append(token)
            ready.release()

        def end() -> None:
            ended.set()
            ready.release()

        thread = threading.Thread(target=self._generate, kwargs={"streamer": SimpleNamespace(put=put, end=end)})
        thread.start()
        while ready.acquire() and tokens:
            yield [tokens.pop()]
            room.release()
        thread.join()
        assert ended.is_set()


def test_a_stream_is_made_to_its_end_for_one_who_reads_it() -> None:
    async def ask() -> tuple[list[int], list[int]]:
        queue = Queue()
        engine = Engine(queue, 20)
        return [piece async for piece in await queue.answer(engine, "a", STREAM)], engine.made

    assert asyncio.run(ask()) == ([*range(20)], [*range(20)])


def test_a_stream_whose_reader_has_gone_is_given_up_and_the_next_request_is_answered() -> None:
    async def ask() -> tuple[int, str, list[int], int]:
        queue = Queue()
        engine, endless = Engine(queue, 3), Engine(queue, 10**9)
        pieces = await queue.answer(endless, "a", STREAM)
        first = await pieces.__anext__()
        await pieces.aclose()
        answer = await queue.answer(engine, "b", WHOLE)
        return first, answer, [piece async for piece in await queue.answer(engine, "c", STREAM)], len(endless.made)

    first, answer, streamed, made = asyncio.run(asyncio.wait_for(ask(), 20))
    assert (first, answer, streamed) == (0, "to b", [0, 1, 2])
    assert made < 10**9


def test_a_stream_that_is_left_before_its_turn_is_never_begun() -> None:
    async def ask() -> list[int]:
        queue = Queue()
        engine, other = Engine(queue, 3), Engine(queue, 10**9)
        running = await queue.answer(other, "a", STREAM)
        waiting = asyncio.create_task(queue.answer(engine, "b", STREAM))
        await asyncio.sleep(0)
        waiting.cancel()
        await running.__anext__()
        await running.aclose()
        await queue.answer(engine, "c", WHOLE)  # its turn is after both
        return engine.made

    assert asyncio.run(asyncio.wait_for(ask(), 20)) == []
