"""What ms-swift makes of one record of a data file: the messages that it trains, or the reason that it drops the row.

Owns the rules of its preprocessors (`MessagesPreprocessor`, `AlpacaPreprocessor`, `ResponsePreprocessor`), of their
check of messages, and of the order of roles that a template accepts. A record comes here under ms-swift's names for
its columns, with the values that `datasets` hands over. Does not own the choice of the preprocessor (`datasets`).
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from sft_kit.msswift.install import Generation

Conversation = tuple[tuple[str, str], ...]
"""((role, content), ...); the roles are system, user, assistant, tool_call and tool_response."""

Message = tuple[object, object]
"""(role, content) as a preprocessor leaves them."""

ROLES = {
    **{"system": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "bot": "assistant"},
    **{"tool_call": "tool_call", "function_call": "tool_call", "function-call": "tool_call"},
    **{"tool_response": "tool_response", "tool": "tool_response"},
    **{"function_response": "tool_response", "function-response": "tool_response"},
    **{"observation": "tool_response", "observations": "tool_response"},
}
"""What a role may be called, and what ms-swift calls it."""


class Dropped(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Verdict(NamedTuple):
    """What the order of the roles of a row leads to."""

    dropped: str = ""
    reason: str = ""
    note: str = ""


def kind_of(value: object) -> str:
    """A value in words: `a list`."""
    names = {
        str: "a text",
        list: "a list",
        bool: "true or false",
        int: "a number",
        float: "a number",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), "a date")


def conversation_of(value: object, system: object, generation: Generation) -> list[Message]:
    """ms-swift's MessagesPreprocessor."""
    if isinstance(value, str):
        value = _repaired(value, generation)
    if not value or isinstance(value, str):
        raise Dropped("empty-conversation", "has no messages")
    if not isinstance(value, (list, tuple)) or not all(isinstance(message, dict) for message in value):
        raise Dropped("not-a-conversation", "its messages are not a list of objects")
    messages: list[dict[str, object]] = [dict(message) for message in value]
    if generation == 4:
        messages = _providers(messages)
    for message in messages:
        _rename(message, "role", ("from",))
        _rename(message, "content", ("value",))
    if "role" not in messages[0] and "content" not in messages[0]:
        return _pairs(messages, system)
    if "role" not in messages[0]:
        raise Dropped("unknown-role", "a message has no role")
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    for message in messages:
        if "role" not in message:
            raise Dropped("unknown-role", "a message has no role")
        if "content" not in message:
            raise Dropped("no-content", "a message has no content")
    return [(message["role"], message["content"]) for message in messages]


def _repaired(text: str, generation: Generation) -> object:
    try:
        if generation == 4:
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(text)
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Dropped("not-a-conversation", "its messages are a text that is no list of messages") from None


def _rename(message: dict[str, object], key: str, others: Sequence[str]) -> None:
    """The last of the names that is there wins, even with null."""
    for other in others:
        if other in message:
            message[key] = message.pop(other)


def _pairs(messages: list[dict[str, object]], system: object) -> list[Message]:
    """Turns like {"human": ..., "assistant": ...}."""
    found: list[Message] = [] if system is None else [("system", system)]
    for message in messages:
        _rename(message, "user", ("human",))
        _rename(message, "assistant", ("gpt", "bot"))
        if "user" not in message or "assistant" not in message:
            raise Dropped("no-content", "a turn lacks its question or its answer")
        found += [("user", message["user"]), ("assistant", message["assistant"])]
    return found


def _providers(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """OpenAI's and Anthropic's tool calls as messages of their own, which ms-swift 4 does."""
    if any(message.get("tool_calls") for message in messages):
        return [each for message in messages for each in _openai(message)]
    blocks = [block for message in messages if isinstance(message.get("content"), list) for block in _blocks(message)]
    if any(not isinstance(block, dict) for block in blocks):
        raise Dropped("not-text", "the content of a message is a list of something else than parts")
    types = {block.get("type") for block in blocks if isinstance(block, dict)}
    images = any(block.get("type") == "image" and "source" in block for block in blocks if isinstance(block, dict))
    if types & {"tool_use", "tool_result"} or images:
        return [each for message in messages for each in _anthropic(message)]
    return messages


def _blocks(message: dict[str, object]) -> list[object]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _openai(message: dict[str, object]) -> Iterator[dict[str, object]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    if not calls:
        yield message
        return
    if message.get("content"):
        yield {"role": "assistant", "content": message["content"]}
    if not isinstance(calls, list):
        raise Dropped("not-a-conversation", "tool_calls is not a list")
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            raise Dropped("not-a-conversation", "a tool call has no function with a name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        yield {"role": "tool_call", "content": {"name": function["name"], "arguments": arguments}}


def _anthropic(message: dict[str, object]) -> Iterator[dict[str, object]]:
    if not isinstance(message.get("content"), list):
        yield message
        return
    texts: list[str] = []
    for block in _blocks(message):
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(block, dict) or kind not in ("text", "image", "tool_use", "tool_result"):
            raise Dropped("not-text", f"a part of the type {kind} is none that ms-swift knows")
        if kind == "text":
            texts.append(str(block.get("text", "")))
        elif kind == "image":
            texts.append("<image>")
        else:
            if texts:
                yield {"role": message.get("role"), "content": "".join(texts)}
                texts = []
            if kind == "tool_use":
                call = {"name": block.get("name"), "arguments": block.get("input", {})}
                yield {"role": "tool_call", "content": call}
            else:
                result = block.get("content", "")
                if isinstance(result, list):
                    result = "".join(str(part.get("text", "")) for part in result if isinstance(part, dict))
                yield {"role": "tool_response", "content": result}
    if texts:
        yield {"role": message.get("role"), "content": "".join(texts)}


def alpaca(row: dict[str, object]) -> dict[str, object]:
    """ms-swift's AlpacaPreprocessor: instruction and input are joined by a line break."""
    instruction, extra = row.get("instruction"), row.get("input")
    query = f"{instruction}\n{extra}" if instruction and extra else instruction or extra
    if not isinstance(query, str):
        raise Dropped("no-question", "has neither instruction nor input" if query is None else "is not a text")
    output = row.get("output")
    return {**row, "query": query, "response": row.get("response") if output is None else output}


def exchange(row: dict[str, object]) -> list[Message]:
    """ms-swift's ResponsePreprocessor: history, then query and response."""
    response, history = row.get("response"), row.get("history") or []
    if isinstance(response, list):
        if not response:
            raise Dropped("no-answer", "its answer is an empty list")
        response = response[0]
    if isinstance(history, str):
        try:
            history = ast.literal_eval(history)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise Dropped("bad-history", "its history is a text that is no list of pairs") from None
    if not isinstance(history, list) or not all(isinstance(turn, (list, tuple)) and len(turn) > 1 for turn in history):
        raise Dropped("bad-history", "its history is not a list of [question, answer]")
    messages: list[Message] = [] if row.get("system") is None else [("system", row["system"])]
    for turn in [*history, (row.get("query"), response)]:
        messages += [(role, text) for role, text in (("user", turn[0]), ("assistant", turn[1])) if text is not None]
    return messages


def check_rejected_messages(row: dict[str, object], generation: Generation) -> None:
    if "rejected_messages" not in row:
        return
    try:
        conversation_of(row["rejected_messages"], None, generation)
    except Dropped as drop:
        if generation == 3 or drop.code != "empty-conversation":
            raise Dropped("rejected-answer", f"rejected_messages: {drop.reason}") from None


def check_rejected_response(row: dict[str, object], messages: list[Message]) -> None:
    rejected = row.get("rejected_response")
    if "rejected_response" not in row:
        return
    if rejected is None:
        raise Dropped("rejected-answer", "has no rejected_response, as other rows of the file do")
    if messages and isinstance(rejected, str) and rejected == messages[-1][1]:
        raise Dropped("rejected-answer", "its rejected_response is the answer itself")


def checked_roles(messages: list[Message]) -> tuple[str, ...]:
    """ms-swift's `_check_messages`: known roles, and content in every message."""
    if not messages:
        raise Dropped("empty-conversation", "has no messages")
    roles = []
    for role, content in messages:
        known = ROLES.get(role) if isinstance(role, str) else None
        if known is None:
            close = difflib.get_close_matches(str(role).lower(), ROLES, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise Dropped("unknown-role", f"the role {role!r} is none that ms-swift knows{meant}")
        if content is None:
            raise Dropped("no-content", f"the {known} message has no content")
        roles.append(known)
    return tuple(roles)


def encoded(roles: tuple[str, ...], messages: list[Message]) -> Conversation:
    """The contents as the template gets them. Parts of texts, images, ... are joined."""
    found = []
    for index, (role, (_, content)) in enumerate(zip(roles, messages, strict=True)):
        if not isinstance(content, str):
            if role in ("tool_call", "tool_response"):
                content = json.dumps(content, ensure_ascii=False, default=str)
            elif role == "system" and index == 0:
                raise Dropped("not-text", f"the system prompt is {kind_of(content)}, not text")
            else:
                content = _joined(content, role)
        if role == "tool_call":
            _check_call(content)
        found.append((role, content))
    return tuple(found)


def _check_call(content: str) -> None:
    """A tool call is an object with a name and arguments, as JSON or as Python writes it."""
    call = _parsed(content)
    arguments = call.get("arguments", call.get("parameters")) if isinstance(call, dict) else None
    if not isinstance(call, dict) or "name" not in call or _parsed(arguments) is None:
        raise Dropped("broken-tool-call", 'a tool call is not {"name": ..., "arguments": ...}')


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, a number of 5,000 digits, 1,000 brackets
        try:
            return ast.literal_eval(value)
        except Exception:  # as ms-swift does
            return None


def _joined(content: object, role: str) -> str:
    if isinstance(content, list) and content and isinstance(content[0], int):
        return str(content)  # token ids
    if content == {}:
        return ""
    if not isinstance(content, list):
        raise Dropped("not-text", f"the {role} message is {kind_of(content)}, not text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str):
            raise Dropped("not-text", f"the {role} message is a list of something else than parts")
        text = part.get("text")
        if kind == "text" and not isinstance(text, str):
            raise Dropped("not-text", f"a part of the {role} message has no text")
        texts.append(text if kind == "text" and isinstance(text, str) else f"<{kind.removesuffix('_url')}>")
    return "".join(texts)


def order(roles: tuple[str, ...], generation: Generation) -> Verdict:
    """What the template does with a conversation of these roles; each rule as in `Template._swift_encode`."""
    talk = list(roles[1:] if roles[0] == "system" else roles)
    if not talk:
        return Verdict("empty-conversation", "has a system prompt and nothing else")
    if "system" in talk:
        return Verdict("wrong-order", "has a system message that is not the first message")
    pairs = list(pairwise(talk))
    turns = _turns(talk, generation)
    if turns is None:
        return Verdict("wrong-order", "a tool answers where no tool was called")
    asked = turns[0] != "assistant"
    if not asked:
        turns.insert(0, "user")
    for index, role in enumerate(turns):
        if (role == "assistant") != (index % 2 == 1):
            return Verdict("wrong-order", f"a message of the role {role} stands where another belongs")
    if "assistant" not in talk and "tool_call" not in talk:
        return Verdict(note="nothing-trained", reason="has no answer: ms-swift trains nothing of it")
    if talk[-1] == "user":
        return Verdict(note="unanswered-end", reason="ends with a question that has no answer")
    if ("user", "user") in pairs or ("assistant", "assistant") in pairs:
        return Verdict(note="joined-turns", reason="two messages of one role follow each other and are joined")
    if not asked:
        return Verdict(note="no-question", reason="begins with an answer: ms-swift puts an empty question before it")
    return Verdict()


def _turns(talk: list[str], generation: Generation) -> list[str] | None:
    """The roles after the template joined what belongs together; None where it refuses a tool's message."""
    turns: list[str] = []
    for role in talk:
        name = "assistant" if role == "tool_call" else "tool" if role == "tool_response" else role
        before = turns[-1] if turns else ""
        if name == "tool" and before not in ("assistant", "tool"):
            if generation == 3 or before != "user":
                return None
            continue  # 4.x writes it into the question
        if name != before:
            turns.append(name)
    return turns
