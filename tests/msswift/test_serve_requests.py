"""What the server refuses before ms-swift sees it, and what becomes of an app that fails. No ms-swift is started."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_kit.msswift.serve_requests import LARGEST_BODY, Refusing, refusal

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hi"}


def refused(body: bytes | dict[str, Any], path: str = CHAT) -> tuple[int, str] | None:
    found = refusal(body if isinstance(body, bytes) else json.dumps(body).encode(), path)
    return (found.status, json.loads(found.body())["error"]["message"]) if found else None


def asked(*messages: Any, **options: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [USER], **options}


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}


@pytest.mark.parametrize(
    "body",
    [
        asked(),
        asked(USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "[]"}),
        asked({"role": "system", "content": "Be kind."}, USER, temperature=0, top_p=1, n=1, max_tokens=1, seed=-1),
        asked({"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]}),
        asked({"role": "user", "content": [{"type": "image", "image": "A" * 3_000_000}]}, images=["A" * 3_000_000]),
        asked(max_tokens=None, temperature=None, stop=["x"], stream=True, unknown={"a": [1]}),
    ],
    ids=["plain", "tools", "numbers", "picture", "pictures of ms-swift", "null options"],
)
def test_what_openais_clients_send_is_left_to_ms_swift(body: dict[str, Any]) -> None:
    assert refused(body) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (asked(USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}),
         'messages[1].content: is missing: send "" where there is no text, as in a message that calls a tool'),
        (asked({"role": "user"}),
         'messages[0].content: is missing: send "" where there is no text, as in a message that calls a tool'),
        (asked({"role": "user", "content": 3}), "messages[0].content: must be a text or a list of parts"),
        (asked({"role": "user", "content": ["Hi"]}),
         'messages[0].content[0]: must be an object such as {"type": "text", "text": "Hello"}'),
        (asked({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0]: has no text"),
        (asked({"role": "user", "content": [{"type": "text", "text": 3}]}),
         "messages[0].content[0].text: must be a text"),
        (asked(USER, {"role": "wizard", "content": "Hi"}),
         "messages[1].role: must be one of system, user, assistant, tool, tool_call, tool_response"),
        (asked("Hi"), 'messages[0]: must be an object such as {"role": "user", "content": "Hello"}'),
        ({"model": "m", "messages": []}, "messages: must be a list of at least one message"),
        ({"model": "m"}, "messages: must be a list of at least one message"),
        (asked(max_tokens=-1), "max_tokens: must be at least 1"),
        (asked(temperature=float("nan")), "temperature: must be a finite number"),
        (asked(temperature=-0.1), "temperature: must be at least 0"),
        (asked(top_p=1.5), "top_p: must be at most 1"),
        (asked(n=10**6), "n: must be at most 128"),
        (asked(logit_bias={"1": float("inf")}), "logit_bias.1: must be a finite number"),
        (asked({"role": "user", "content": "\ud800"}),
         "messages[0].content: has half of a surrogate pair, which is no character"),
        (b"\xff\xfe{}", "the body is not UTF-8: invalid start byte at byte 0"),
        (b"{", "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"[]", "the body is no JSON object"),
        (b"", "the body is not JSON: Expecting value at character 0"),
        (b'{"a":' * 100_000, "the body is nested deeper than 100 levels"),
        (b'{"tools":' + b"[" * 200 + b"]" * 200 + b"}", "tools: is nested deeper than 100 levels"),
        (b'{"n":' + b"9" * 10_000 + b"}", "the body has a number of more digits than can be read"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_answered_is_a_400_that_names_the_field(body: Any, message: str) -> None:
    assert refused(body) == (400, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (json.dumps(asked({"role": "user", "content": "word " * 2_000_000})).encode(),
         "messages[0].content: has more than 2,000,000 characters, with what stands before it"),
        (json.dumps({"input": "word " * 2_000_000}).encode(),
         "input: has more than 2,000,000 characters, with what stands before it"),
        (b'{"tools":[' + b"0," * 5_000_000 + b"0]}", "tools: has more than 100,000 values, with what stands before it"),
    ],
    ids=["a text", "an input", "values"],
)  # fmt: skip
def test_ten_megabytes_are_refused_at_once(body: bytes, message: str) -> None:
    began = time.process_time()
    assert refused(body, "/v1/chat/completions" if b"messages" in body else "/v1/embeddings") == (413, message)
    assert time.process_time() - began < 2


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), ANY | st.sampled_from(["user", "tool"]))
REQUEST = st.fixed_dictionaries({}, optional={
    "model": ANY, "messages": ANY | st.lists(MESSAGE | ANY, max_size=3), "max_tokens": ANY, "temperature": ANY,
    "n": ANY, "seed": ANY, "stop": ANY, "tools": ANY,
})  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(REQUEST.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_any_body_is_refused_in_words_or_let_through(body: bytes) -> None:
    found = refusal(body, CHAT)
    if found:
        assert found.status == 400
        assert json.loads(found.body())["error"]["message"]
    else:
        assert all(isinstance(each["content"], str | list) for each in json.loads(body)["messages"])


# --- the layer before the app -------------------------------------------------------------------------------------


def sent(body: bytes, app: Any, *, told: int | None = None, piece: int = 7) -> list[dict[str, Any]]:
    """What `Refusing(app)` sends for a POST whose body comes in pieces."""
    pieces: Iterator[bytes] = iter([body[at : at + piece] for at in range(0, len(body), piece)] or [b""])
    came: list[dict[str, Any]] = []
    left = max(1, -(-len(body) // piece))

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": next(pieces), "more_body": left > 0}

    async def send(message: Any) -> None:
        came.append(dict(message))

    headers = [(b"content-length", str(len(body) if told is None else told).encode())]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    asyncio.run(Refusing(app)(scope, receive, send))
    return came


def status_of(came: list[dict[str, Any]]) -> tuple[int, str]:
    return came[0]["status"], json.loads(came[1]["body"])["error"]["message"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    first, second = await receive(), await receive()
    assert second == {"type": "http.disconnect"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": first["body"]})


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("a refused request has reached the app")


def test_a_good_request_reaches_the_app_whole() -> None:
    body = json.dumps(asked()).encode()
    assert sent(body, echo)[1] == {"type": "http.response.body", "body": body}


def test_a_bad_one_does_not() -> None:
    assert status_of(sent(b'{"messages": []}', never)) == (400, "messages: must be a list of at least one message")
    assert status_of(sent(b"{}", never, told=LARGEST_BODY + 1)) == (413, "the body has more than 64 MiB")
    assert status_of(sent(b"{}", never, told=10**30)) == (413, "the body has more than 64 MiB")
    too_long = b" " * (LARGEST_BODY + 1)  # whatever its headers say
    assert status_of(sent(too_long, never, told=0, piece=1 << 20)) == (413, "the body has more than 64 MiB")


def test_what_the_app_raises_is_the_answer_and_not_the_servers_end(capfd: pytest.CaptureFixture[str]) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("private words")

    assert status_of(sent(json.dumps(asked()).encode(), fails)) == (
        400, "the request cannot be answered (KeyError: 'private words')",
    )  # fmt: skip
    log = capfd.readouterr().err
    assert log.startswith(f"a request failed: KeyError at {__file__}:")
    assert "private" not in log


def test_an_answer_that_breaks_off_is_not_answered_twice() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("x")

    with pytest.raises(KeyError):
        sent(json.dumps(asked()).encode(), breaks)
