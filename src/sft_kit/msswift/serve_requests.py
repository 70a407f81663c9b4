"""What a request to the server must be, told in words that name the field; ms-swift sees only what passes.

Owns the limits of a request, the values that ms-swift 3.12 and 4.6 answer with status 500 (`content: null`, numbers
that are none; swift/.../protocol.py reads the fields where an error is no answer) or would work on for minutes, and the
layer of ASGI that refuses them. Does not own whether a request makes sense to a model: that is ms-swift's, and what it
raises is the request's fault, as it says itself of all that it catches.
"""

from __future__ import annotations

import json
import math
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 << 20  # bytes, with the pictures in it
LONGEST_TEXT = 2_000_000  # characters: some 500,000 tokens
DEEPEST = 100
MOST_VALUES = 100_000
MOST_ANSWERS = 128  # OpenAI's own limit of `n`
ROLES = ("system", "user", "assistant", "tool", "tool_call", "tool_response")
_LEAST = {"max_tokens": 1, "n": 1, "num_beams": 1, "temperature": 0, "top_p": 0, "repetition_penalty": 0}
_MOST = {"n": MOST_ANSWERS, "num_beams": MOST_ANSWERS, "best_of": MOST_ANSWERS, "top_p": 1}
_LONGEST_SHOWN = 300
_MEDIA = re.compile(r"(?:^|[.])(?:images?|videos?|audios?|url|(?:image|video|audio)_url)(?:\[\d+\])?$")
"""Places of pictures and sounds, which are no text."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered; `field` is a place in its body (`messages[1].content`), empty for all of it."""

    message: str
    field: str = ""
    status: int = 400

    def body(self) -> bytes:
        """As OpenAI words an error."""
        text = f"{self.field}: {self.message}" if self.field else self.message
        error = {"message": text, "type": "invalid_request_error", "param": self.field or None, "code": None}
        return json.dumps({"error": error}).encode("ascii")


def refusal(body: bytes, path: str) -> Refusal | None:
    """Why the JSON `body` of a POST to `path` cannot be answered; None where ms-swift is to say."""
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Refusal(f"the body is not UTF-8: {error.reason} at byte {error.start}")
    except json.JSONDecodeError as error:
        return Refusal(f"the body is not JSON: {error.msg} at character {error.pos}")
    except RecursionError:
        return Refusal(f"the body is nested deeper than {DEEPEST} levels")
    except ValueError:
        return Refusal("the body has a number of more digits than can be read")
    if not isinstance(value, dict):
        return Refusal("the body is no JSON object")
    found = _of_anything(value) or next(_of_numbers(value), None)
    if found or not path.rstrip("/").endswith("/chat/completions"):
        return found
    return next(_of_messages(value.get("messages")), None)


def _of_anything(body: dict[str, Any]) -> Refusal | None:
    """What no field may hold: too much, too deep, a number that is none, half a character."""
    characters, values = 0, 1
    waiting: list[tuple[Any, str, int]] = [(body, "", 0)]
    while waiting:
        value, place, depth = waiting.pop()
        top = place.partition(".")[0].partition("[")[0]
        values += len(value) if isinstance(value, dict | list) else 0
        if values > MOST_VALUES:
            return Refusal(f"has more than {MOST_VALUES:,} values, with what stands before it", top, 413)
        if depth > DEEPEST:
            return Refusal(f"is nested deeper than {DEEPEST} levels", top)
        if isinstance(value, dict):
            named = ((each, f"{place}.{name}" if place else str(name)[:40]) for name, each in value.items())
            waiting += ((each, below, depth + 1) for each, below in named)
        elif isinstance(value, list):
            waiting += ((each, f"{place}[{index}]", depth + 1) for index, each in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            return Refusal("must be a finite number", place)
        elif isinstance(value, str):
            if _is_half(value):
                return Refusal("has half of a surrogate pair, which is no character", place)
            characters += 0 if _MEDIA.search(place) else len(value)
            if characters > LONGEST_TEXT:
                return Refusal(f"has more than {LONGEST_TEXT:,} characters, with what stands before it", place, 413)
    return None


def _is_half(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _of_numbers(body: dict[str, Any]) -> Iterator[Refusal]:
    for name in {**_LEAST, **_MOST}:
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < _LEAST.get(name, value):
                yield Refusal(f"must be at least {_LEAST[name]}", name)
            if value > _MOST.get(name, value):
                yield Refusal(f"must be at most {_MOST[name]}", name)


def _of_messages(messages: Any) -> Iterator[Refusal]:
    if not isinstance(messages, list) or not messages:
        yield Refusal("must be a list of at least one message", "messages")
        return
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, dict):
            yield Refusal('must be an object such as {"role": "user", "content": "Hello"}', place)
        elif message.get("role") not in ROLES:
            yield Refusal(f"must be one of {', '.join(ROLES)}", f"{place}.role")
        else:
            yield from _of_content(message.get("content"), f"{place}.content")


def _of_content(content: Any, place: str) -> Iterator[Refusal]:
    if content is None:
        yield Refusal('is missing: send "" where there is no text, as in a message that calls a tool', place)
    elif not isinstance(content, str | list):
        yield Refusal("must be a text or a list of parts", place)
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield Refusal('must be an object such as {"type": "text", "text": "Hello"}', f"{place}[{index}]")
        elif not part.get(part["type"]) and part.get(part["type"]) != "":
            yield Refusal(f"has no {part['type'][:40]}", f"{place}[{index}]")
        elif part["type"] == "text" and not isinstance(part["text"], str):
            yield Refusal("must be a text", f"{place}[{index}].text")


class Refusing:
    """An ASGI app before which POSTed JSON is looked at. What `app` raises before its answer has begun is an answer of
    status 400: the server stays, and says what was raised."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] == "/ping":
            await self._app(scope, receive, send)
            return
        body = await _body_of(scope, receive)
        if body is None:  # whoever asked has gone
            return
        if isinstance(body, Refusal):
            await _send(body, send)
            return
        if refused := refusal(body, scope["path"]):
            await _send(refused, send)
            return
        begun = False

        async def sends(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, _again(body, receive), sends)
        except Exception as error:
            if begun:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]  # not the error's words: they may be the request's
            sys.stderr.write(f"a request failed: {type(error).__name__} at {where.filename}:{where.lineno}\n")
            words = f"{type(error).__name__}: {error}"[:_LONGEST_SHOWN]
            await _send(Refusal(f"the request cannot be answered ({words})"), send)


async def _body_of(scope: MutableMapping[str, Any], receive: Receive) -> bytes | Refusal | None:
    too_large = Refusal(f"the body has more than {LARGEST_BODY >> 20} MiB", status=413)
    told = dict(scope["headers"]).get(b"content-length", b"")
    if told.isdigit() and (len(told) > 12 or int(told) > LARGEST_BODY):
        return too_large
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return too_large
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read already; what comes after it comes as it does."""
    waiting = [body]

    async def received() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return received


async def _send(refused: Refusal, send: Send) -> None:
    body = refused.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refuse_bad_requests(app: Any) -> None:
    """Have a FastAPI `app` refuse what cannot be answered. Its own errors of validation repeat the request, which may
    be long or no JSON at all: they become refusals too."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import Response

    async def invalid(_: Any, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        refused = Refusal(str(first["msg"])[:_LONGEST_SHOWN], field[:_LONGEST_SHOWN])
        return Response(refused.body(), refused.status, media_type="application/json")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_middleware(Refusing)
