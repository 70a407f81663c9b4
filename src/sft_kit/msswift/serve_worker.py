"""The child process that serves a model over HTTP: ms-swift's own `swift deploy ARGV`, with a lock on its door.

Owns what `swift deploy` leaves open: the port (it silently takes the next free one when its own is taken), the key
(ms-swift takes it only as an argument, which every user of the machine can read, and prints it into its log), the
moment at which an adapter is read (at its first request, when the server has long been called ready), and the queue:
in ms-swift 3.x one request that fails, such as one over max_length, leaves all later ones waiting for ever, and of two
that come at once the second is answered by the first one's model. Does not own the argv (`run.serve`), the models'
names, which requests are refused (`serve_requests`), or how one is answered: that is ms-swift's.

    python -c ... HOST PORT ARGV...      the key is in the variable SFT_KIT_API_KEY; empty: no key

The port is taken before ms-swift is imported and listens from then on, so a request that comes while the model loads
waits for it. Nothing is written to files: requests are not kept.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sft_kit.msswift.serve_requests import refuse_bad_requests

KEY_VARIABLE = "SFT_KIT_API_KEY"
_OPEN_PATHS = frozenset({"/health", "/ping"})
_UNAUTHORIZED = {
    "error": {
        "message": "missing or wrong API key: send Authorization: Bearer KEY",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on exactly `host` and `port`; 0 takes a free one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    door = socket.socket(family, kind, protocol)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart waits for old connections
        door.bind(address)
        door.listen()
    except OSError:
        door.close()
        raise
    return door


def main(argv: Sequence[str]) -> int:
    host, port, *arguments = argv
    key = os.environ.pop(KEY_VARIABLE, "") or None
    with listen(host, int(port)) as door:
        _serve(arguments, door, key)
    return 0


class ClientGone(Exception):
    """Whoever asked for the stream that is being made has closed the connection."""


class Queue:
    """Requests one after the other, in the order in which they came; a failure is the failure of one request.

    A stream that nobody reads any more is not made to its end, as the next request would wait for it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._gone = threading.Event()  # that of the request which is being answered

    def check_client(self) -> None:
        """Raise ClientGone if the stream that is being made has lost its reader."""
        if self._gone.is_set():
            raise ClientGone

    async def answer(self, engine: Any, request: Any, config: Any, **options: Any) -> Any:
        """ms-swift's response; with `config.stream` an async iterator of its pieces. Raises what the engine raises."""
        loop = asyncio.get_running_loop()

        def infer() -> Any:
            return engine._infer([request], config, **options)

        if not config.stream:
            return (await loop.run_in_executor(self._thread, infer))[0]
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        gone = threading.Event()

        def stream() -> None:
            end: Exception | None = None
            self._gone = gone
            try:
                self.check_client()
                for batch in infer():
                    if batch[0] is not None:
                        loop.call_soon_threadsafe(pieces.put_nowait, batch[0])
            except Exception as error:
                end = error
            self._gone = threading.Event()
            loop.call_soon_threadsafe(pieces.put_nowait, end)

        loop.run_in_executor(self._thread, stream)
        try:
            first = await pieces.get()  # a request that is refused gets a status of its own and not a broken stream
        except asyncio.CancelledError:
            gone.set()
            raise
        if isinstance(first, Exception):
            raise first
        return _rest(first, pieces, gone)


async def _rest(piece: Any, pieces: asyncio.Queue[Any], gone: threading.Event) -> AsyncIterator[Any]:
    try:
        while piece is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            piece = await pieces.get()
    finally:
        gone.set()


def ending_streams(generate: Callable[..., Any], check_client: Callable[[], None]) -> Callable[..., Any]:
    """`generate` that calls `check_client` before each token of a stream, and ends its streamer when it fails: whoever
    reads that, in another thread, would wait for ever. ClientGone is the end of an answer and no failure."""

    def ending(*arguments: Any, **options: Any) -> Any:
        streamer = options.get("streamer")
        if streamer is None:
            return generate(*arguments, **options)
        put = streamer.put

        def checked(tokens: Any) -> None:
            check_client()
            put(tokens)

        streamer.put = checked
        try:
            return generate(*arguments, **options)
        except ClientGone:
            streamer.end()
        except BaseException:
            streamer.end()
            raise

    return ending


def _serve(arguments: Sequence[str], door: socket.socket, key: str | None) -> None:
    import uvicorn

    # 4.x has swift.pipelines and no swift.llm; 3.x the other way round.
    if importlib.util.find_spec("swift.pipelines"):
        from swift.infer_engine import AdapterRequest
        from swift.pipelines.infer.deploy import SwiftDeploy
    else:
        from swift.llm import AdapterRequest
        from swift.llm.infer.deploy import SwiftDeploy

    queue = Queue()

    class Server(SwiftDeploy):  # type: ignore[misc]  # ms-swift is not typed here
        async def infer_async(self, request: Any, config: Any, **options: Any) -> Any:
            return await queue.answer(self.infer_engine, request, config, **options)

        def run(self) -> None:
            self.jsonl_writer = None
            self.template.generate = ending_streams(self.template.generate, queue.check_client)
            for name, path in self.args.adapter_mapping.items():
                self.infer_engine._get_adapter_names(AdapterRequest(name, path))  # a broken one fails now
            refuse_bad_requests(self.app)
            if key is not None:  # added last, it is asked first
                self.app.middleware("http")(_locked(key))
            config = uvicorn.Config(self.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
            uvicorn.Server(config).run(sockets=[door])

    Server(list(arguments)).main()


def _locked(key: str) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """Middleware that answers 401, as OpenAI words it, to every request without `key`, but for the health checks."""
    from fastapi.responses import JSONResponse

    expected = f"Bearer {key}".encode()

    async def check(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if request.url.path in _OPEN_PATHS or secrets.compare_digest(given, expected):
            return await call_next(request)
        return JSONResponse(_UNAUTHORIZED, 401)

    return check


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
