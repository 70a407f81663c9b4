"""The answers that base models gave to replay prompts, kept from run to run.

Owns what makes two models the same one, and the files `<cache>/replay/<key>.jsonl`: one for each model with its
settings, one line for each prompt it was asked. So a larger `replay` asks only the new prompts, and what was answered
before a run was stopped is not asked again. Lines are only ever appended, each write beginning a line of its own: two
runs at once can both write, and a line that was cut off or damaged costs only itself. Does not own what becomes of an
answer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.resources import cache_dir

_SAMPLE_BYTES = 256
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own limit
_READ_WHOLE = (".json", ".jinja", ".model", ".txt", ".py")  # config, tokenizer, chat template, index of the weights


@dataclass(frozen=True)
class Given:
    """What a model said; `ended` is False where it was cut off after the most tokens it was allowed."""

    text: str
    ended: bool


def answers_file(model: Mapping[str, Any], settings: Mapping[str, Any], version: str) -> Path:
    """Where the answers of a model are kept: `model` is what `swift infer` of ms-swift `version` is given to load it,
    `settings` how it is asked. A local model counts by what is in its folder, one of a hub by its id and revision."""
    folder = Path(str(model.get("model") or ""))
    named = {**model, "model": model_digest(folder)} if folder.is_dir() else dict(model)
    parts = json.dumps([named, settings, version], sort_keys=True, ensure_ascii=False, default=str)
    return cache_dir() / "replay" / f"{hashlib.sha256(parts.encode()).hexdigest()[:24]}.jsonl"


def model_digest(folder: Path) -> str:
    """SHA-256 that tells models apart without reading gigabytes: their small files whole, and of safetensors files the
    header with some bytes from the middle of every tensor, all of which any training changes. Milliseconds.

    The folder's place and the files' times do not count, save for weights in other formats.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
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


def read_answers(path: Path) -> dict[str, Given]:
    """The answers in a cache file by prompt; what is no line of it is passed over."""
    found: dict[str, Given] = {}
    with suppress(OSError):
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                record = json.loads(line)
                prompt, text, ended = record["prompt"], record["text"], record["ended"]
                if isinstance(prompt, str) and isinstance(text, str) and isinstance(ended, bool):
                    found.setdefault(prompt, Given(text, ended))
    return found


def append_answers(path: Path, answers: Mapping[str, Given]) -> None:
    """Add answers by prompt. A cache that cannot be written is done without."""
    lines = [{"prompt": prompt, "text": given.text, "ended": given.ended} for prompt, given in answers.items()]
    content = "".join("\n" + json.dumps(line) for line in lines).encode("ascii")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
