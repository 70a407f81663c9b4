"""Rows as ms-swift will train them: the launcher's end of `msswift.encode_worker`.

Owns the values that come back and what is said when ms-swift fails. Does not own the process, which its starter passes
in and ends, or which rows and arguments are asked about.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft_kit.errors import MsSwiftError, Problem
from sft_kit.msswift.child import Transport, death, words_to_start

ENCODE_WORKER = words_to_start("sft_kit.msswift.encode_worker")
"""What goes after the Python of the ms-swift installation; it takes no arguments."""

Fate = Literal["kept", "dropped", "truncated", "split"]
"""What becomes of a row at max_length: only a longer one is not kept."""

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Piece:
    """A stretch of a row's text: trained on or not, with one loss weight. A special token is a piece of its own."""

    text: str
    trained: bool
    special: bool
    tokens: int
    weight: float


@dataclass(frozen=True)
class EncodedRow:
    """One row. `length` is in tokens before max_length had its say; `labels` are -100 where nothing is trained.

    `pieces` and `without_system` (the length with an empty system prompt; None where the template has no place for one)
    are there for the rows that were to be shown. `error` says why ms-swift cannot encode the row and will leave it out;
    everything else is empty then.
    """

    fate: Fate = "kept"
    length: int = 0
    input_ids: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    loss_scale: tuple[float, ...] | None = None
    pieces: tuple[Piece, ...] = ()
    without_system: int | None = None
    error: str = ""

    @property
    def trained(self) -> int:
        """Tokens that count in the loss."""
        return sum(label != -100 for label in self.labels)


@dataclass(frozen=True)
class EncodedModel:
    """What one model's template makes of the rows.

    `system` is the system prompt of rows that bring none, `template_default` the template's own; `empty_thought` what a
    hybrid thinking template puts before answers that do not think.
    """

    model: str
    model_type: str | None
    template: str
    template_default: str | None
    system: str | None
    takes_system: bool
    empty_thought: str
    max_length: int | None
    truncation_strategy: str
    loss_scale: str
    rows: tuple[EncodedRow, ...]


def encode(
    transport: Transport, models: Sequence[Sequence[str]], rows: Sequence[Messages], show: Sequence[int], *, log: Path
) -> Iterator[EncodedModel | MsSwiftError]:
    """Each model's encoding of `rows`, in the order of `models` (the arguments of `swift sft`), as it comes.

    A model that ms-swift cannot make a template for is an error in its place, and the next one follows; rows whose
    index is in `show` come with their pieces. Raises MsSwiftError when the process dies.
    """
    if transport.stdin is None or transport.stdout is None:
        raise ValueError("the worker must be started with pipes")
    request = json.dumps({"models": list(models), "rows": [list(row) for row in rows], "show": list(show)}) + "\n"
    try:
        text = isinstance(transport.stdin, io.TextIOBase)
        transport.stdin.write(request if text else request.encode("ascii"))
        transport.stdin.flush()
    except BrokenPipeError:
        raise death(transport, log, "starting") from None
    for number, _ in enumerate(models, 1):
        line = transport.stdout.readline()
        if not line.endswith(b"\n" if isinstance(line, bytes) else "\n"):
            raise death(transport, log, f"encoding rows for model {number} of {len(models)}")
        reply = json.loads(line)
        if "error" in reply:
            yield MsSwiftError(Problem("", f"ms-swift: {reply['error']}", f"its whole output: {log}"), returncode=1)
        else:
            yield EncodedModel(**reply["model"], rows=tuple(map(_row, reply["rows"])))


def _row(reply: Mapping[str, Any]) -> EncodedRow:
    if "error" in reply:
        return EncodedRow(error=reply["error"])
    return EncodedRow(
        fate=reply["fate"],
        length=reply["length"],
        input_ids=tuple(reply["input_ids"]),
        labels=tuple(reply["labels"]),
        loss_scale=None if reply["loss_scale"] is None else tuple(reply["loss_scale"]),
        pieces=tuple(Piece(**piece) for piece in reply.get("pieces", ())),
        without_system=reply.get("without_system"),
    )
