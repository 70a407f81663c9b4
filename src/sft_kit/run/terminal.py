"""A terminal, or a `| tee`, that goes away while a command works: what is shown is lost, and nothing else.

Owns what becomes of writes that nobody reads any more. A run of hours must not end, nor its manifest tell of an
internal error, because a progress line could not be shown: a terminal that was closed (also that of a job that was
disowned, which gets no SIGHUP) answers every write with EIO, and a `tee` that got the same Ctrl-C is gone before the
last word is said. Results are another matter: a stdout that is a pipe still fails, so `| head` ends a command.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """A descriptor that takes what it cannot write any more for written."""

    def __init__(self, descriptor: int, lost: frozenset[int]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._lost = lost

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._lost:
                raise
            return memoryview(data).nbytes


def outlive_terminal() -> None:
    """From now on stdout and stderr may go away. Where they are no plain streams of the system nothing is changed."""
    for name, lost in (("stdout", {errno.EIO}), ("stderr", {errno.EIO, errno.EPIPE})):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            stream.flush()
            output = _Output(stream.fileno(), frozenset(lost))
            through = stream.write_through  # python -u
            text = io.TextIOWrapper(
                output if through else io.BufferedWriter(output),
                stream.encoding,
                stream.errors,
                line_buffering=stream.line_buffering,
                write_through=through,
            )
            setattr(sys, name, text)
