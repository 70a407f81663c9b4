"""The shipped templates as they were read the last time: to read YAML takes 80 ms, this 8.

Owns the file in sft-kit's cache and when it holds. Does not own the reading (`templates`), which has found nothing
wrong with what is kept here.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from sft_kit import __version__
from sft_kit.identity.templates import Answer, ExpectTemplate, Group, Question, Text
from sft_kit.resources import cache_dir, keep_in_cache, kept_in_cache


def kept_groups(digest: str, reader: Path, read: Callable[[], tuple[Group, ...]]) -> tuple[Group, ...]:
    """What `read` makes of the files whose SHA-256 is `digest`, from the cache where it was kept.

    `reader` is the file of the code that reads; what another state of it has read is not used. A cache that is corrupt
    or cannot be written is no error.
    """
    code = [(file.stat().st_mtime_ns, file.stat().st_size) for file in (reader, Path(__file__))]
    key = sha256(repr((__version__, digest, code)).encode()).hexdigest()[:16]
    file = cache_dir() / "identity_templates" / f"{key}.json"
    try:
        return _decoded(kept_in_cache(file))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        groups = read()
        keep_in_cache(file, _encoded(groups))
        return groups


def _encoded(groups: tuple[Group, ...]) -> dict[str, Any]:
    """As JSON. Questions of a group mostly have its answers and its `expect`, so each of these is written once."""
    answers: dict[tuple[Answer, ...], int] = {}
    expects: dict[ExpectTemplate, int] = {}
    written = [
        {
            "id": group.id,
            "category": group.category,
            "lang": group.lang,
            "questions": [
                [q.id, q.text.parts, expects.setdefault(q.expect, len(expects)),
                 answers.setdefault(q.answers, len(answers)), q.other, q.split, q.style, q.core]
                for q in group.questions
            ],
            "requires": sorted(group.requires),
            "unless": sorted(group.unless),
            "turns": [[text.parts for text in turn] for turn in group.turns],
            "systems": [text.parts for text in group.systems],
        }
        for group in groups
    ]  # fmt: skip
    return {
        "answers": [[(each.id, each.text.parts) for each in some] for some in answers],
        "expects": [
            ([text.parts for text in one.must], [text.parts for text in one.must_not], one.polarity) for one in expects
        ],
        "groups": written,
    }


def _decoded(stored: Any) -> tuple[Group, ...]:
    answers = [tuple(Answer(name, _text(parts)) for name, parts in some) for some in stored["answers"]]
    expects = [
        ExpectTemplate(_texts(must), _texts(must_not), polarity) for must, must_not, polarity in stored["expects"]
    ]
    return tuple(
        Group(
            group["id"],
            group["category"],
            group["lang"],
            tuple(
                Question(name, _text(parts), expects[expect], answers[given], *rest)
                for name, parts, expect, given, *rest in group["questions"]
            ),
            frozenset(group["requires"]),
            frozenset(group["unless"]),
            tuple(map(_texts, group["turns"])),
            _texts(group["systems"]),
        )
        for group in stored["groups"]
    )


def _text(parts: list[str]) -> Text:
    return Text(tuple(parts))


def _texts(written: list[list[str]]) -> tuple[Text, ...]:
    return tuple(map(_text, written))
