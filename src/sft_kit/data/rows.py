"""One training row: the messages of one conversation, in the shape that every other module passes around.

Owns the value itself and the rules of a conversation that is fit to train on. Does not own file formats
(`formats`) or what ms-swift drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """What one side said."""

    role: Role
    content: str


@dataclass(frozen=True)
class Row:
    """One conversation: an optional system message, then user and assistant in turn."""

    messages: tuple[Message, ...]

    @property
    def system(self) -> str | None:
        """The system prompt, or None when the row leaves it to `--system` and the template."""
        first = self.messages[0] if self.messages else None
        return first.content if first is not None and first.role == "system" else None

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """The (user, assistant) pairs in order. Raises ValueError where `disorder` finds something."""
        wrong = disorder(self.messages)
        if wrong:
            raise ValueError(wrong)
        talk = [m.content for m in self.messages if m.role != "system"]
        return tuple(zip(talk[::2], talk[1::2], strict=True))


def disorder(messages: tuple[Message, ...]) -> str | None:
    """What is wrong with the order of the roles, in words, or None: [system] (user assistant)+ is right."""
    talk = messages[1:] if messages and messages[0].role == "system" else messages
    if not talk:
        return "has no user message and no answer"
    for index, message in enumerate(talk):
        expected: Role = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            return f"has the role {message.role!r} where {expected!r} belongs"
    if len(talk) % 2:
        return "ends with a user message that has no answer"
    return None
