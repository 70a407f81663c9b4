"""What models answered to conversations whose answer is always the same (greedy), kept from run to run.

Owns what makes two models the same one, and the files `<cache>/<kind>/<key>.jsonl`: one for each model with its
settings, one line for each conversation it was asked or each text it was measured on. So a larger `replay` or another
evaluation asks only what is new, and what was answered before a run was stopped is not asked again. Lines are only ever
appended, each write beginning a line of its own: two runs at once can both write, and a line that was cut off or
damaged costs only itself. Does not own what becomes of an answer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sft_kit.console import warn
from sft_kit.errors import Problem
from sft_kit.resources import cache_dir, open_regular
from sft_kit.writes import not_written

Kind = Literal["replay", "evaluation", "likelihood"]
Asked = tuple[tuple[str, str], ...]
"""A conversation that ends in a question: (role, content) of each message."""

_SAMPLE_BYTES = 256
_LONGEST_LINE = 16 << 20  # bytes; an answer has thousands
_MOST_TOKENS = 1 << 30
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own limit
# What training leaves beside an adapter or a model, and no answer depends on.
_NOT_THE_MODEL = ("optimizer.", "scheduler.", "rng_state", "scaler.", "trainer_state.", "training_args.", "README")
_READ_WHOLE = (".json", ".jinja", ".model", ".txt", ".py")  # config, tokenizer, chat template, index of the weights


@dataclass(frozen=True)
class Given:
    """What a model said; `ended` is False where it was cut off after the most tokens it was allowed."""

    text: str
    ended: bool


def question(text: str) -> Asked:
    """The conversation that is nothing but one question."""
    return (("user", text),)


def answers_file(model: Mapping[str, Any], settings: Mapping[str, Any], version: str, kind: Kind) -> Path:
    """Where the answers of a model are kept: `model` is what `swift infer` of ms-swift `version` is given to load it,
    `settings` how it is asked. A local model or adapter counts by what is in its folder, one of a hub by its id and
    revision."""
    named = {key: _digested(value) if key in ("model", "adapters") else value for key, value in model.items()}
    parts = json.dumps([named, settings, version], sort_keys=True, ensure_ascii=False, default=str)
    return cache_dir() / kind / f"{hashlib.sha256(parts.encode()).hexdigest()[:24]}.jsonl"


def _digested(value: Any) -> Any:
    if isinstance(value, list):
        return [_digested(item) for item in value]
    folder = Path(str(value or ""))
    return model_digest(folder) if value and folder.is_dir() else value


def model_digest(folder: Path) -> str:
    """SHA-256 that tells models apart without reading gigabytes: their small files whole, and of safetensors files the
    header with some bytes from the middle of every tensor, all of which any training changes. Milliseconds.

    The folder's place and the files' times do not count, save for weights in other formats; nor does the state of a
    training that lies beside an adapter.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", *_NOT_THE_MODEL)) or not path.is_file():
            continue
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        try:
            digest.update(_content(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not to be read, or not safetensors at all
            digest.update(str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    if path.suffix in _READ_WHOLE:
        return path.read_bytes()
    if path.suffix != ".safetensors":
        return str(path.stat().st_mtime_ns).encode()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MOST_HEADER_BYTES:
            raise ValueError("no safetensors")
        header = file.read(length)
        samples = [header]
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                file.seek(8 + length + sum(tensor["data_offsets"]) // 2)
                samples.append(file.read(_SAMPLE_BYTES))
    return b"".join(samples)


def read_answers(path: Path) -> dict[Asked, Given]:
    """The answers in a cache file by conversation; what is no line of it is passed over."""
    found: dict[Asked, Given] = {}
    for record in _records(path):
        with suppress(ValueError, TypeError, KeyError):
            asked = question(record["prompt"]) if "prompt" in record else tuple((r, c) for r, c in record["messages"])
            text, ended = record["text"], record["ended"]
            words = [text, *(word for message in asked for word in message)]
            if all(isinstance(word, str) for word in words) and isinstance(ended, bool):
                found.setdefault(asked, Given(text, ended))
    return found


def append_answers(path: Path, answers: Mapping[Asked, Given]) -> None:
    """Add answers by conversation. A cache that cannot be written is done without."""
    lines: list[dict[str, Any]] = []
    for asked, given in answers.items():
        alone = asked == question(asked[-1][1])
        what: dict[str, Any] = {"prompt": asked[-1][1]} if alone else {"messages": asked}
        lines.append({**what, "text": given.text, "ended": given.ended})
    _append(path, lines)


def read_likelihoods(path: Path) -> dict[str, tuple[float, int]]:
    """{`text_key`: (negative log-likelihood in nats, tokens scored)} of a cache file, as `read_answers`."""
    found: dict[str, tuple[float, int]] = {}
    for record in _records(path):
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            nats, tokens = float(record["nats"]), int(record["tokens"])
            if 0 <= tokens < _MOST_TOKENS:
                found.setdefault(str(record["sha256"]), (nats, tokens))
    return found


def append_likelihoods(path: Path, likelihoods: Mapping[str, tuple[float, int]]) -> None:
    """Add likelihoods by the key of their text (`text_key`), as `append_answers`."""
    _append(path, [{"sha256": key, "nats": nats, "tokens": tokens} for key, (nats, tokens) in likelihoods.items()])


def text_key(text: str) -> str:
    """What a measured text is kept under."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file, line by line; of what is no file none, and none after a line that no answer fills."""
    with suppress(OSError), open_regular(path) as file:
        while 0 < len(line := file.readline(_LONGEST_LINE)) < _LONGEST_LINE:
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    content = "".join("\n" + json.dumps(line) for line in lines).encode("ascii")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            _no_file_of_ours(path)
            return
        # neither through a link out of the cache, nor into a pipe, whose reader may never come
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        _cannot_keep(path.parent, error.errno or 0)


@cache
def _no_file_of_ours(path: Path) -> None:
    warn(Problem(str(path), "is a link or no file, so answers are not kept in it", "remove it"))


@cache
def _cannot_keep(folder: Path, number: int) -> None:
    """Said once: the answers of this run are known all the same."""
    warn(f"answers are not kept for later: {not_written(folder, OSError(number, os.strerror(number)))}")
