"""A short question to another program, such as nvidia-smi: its answer ends in time and in size, whatever it does.

Owns the start, the waiting and the end of such a child. One that is stuck in its driver cannot even be killed, and a
child of its own may keep its pipe open: neither is waited for. Does not own what is asked, nor children that work for
long (`run.process`).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

MOST_BYTES = 1 << 18
_KILLED_WITHIN_S = 1.0


@dataclass(frozen=True)
class Said:
    """`text` is what it printed; `returncode` None where it took too long, said too much or was not there."""

    returncode: int | None
    text: str = ""


def start(argv: Sequence[str], *, errors: bool = False) -> subprocess.Popen[bytes] | None:
    """Ask; with `errors` what it prints to stderr counts too. None where it cannot be started."""
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            start_new_session=True,  # so that its own children end with it
        )
    except OSError:
        return None


def answer(process: subprocess.Popen[bytes] | None, deadline: float, most_bytes: int = MOST_BYTES) -> Said:
    """What `process` says until `deadline` (of `time.monotonic`); it has ended then, as far as it can be ended."""
    if process is None or process.stdout is None:
        return Said(None)
    said, whole = bytearray(), False
    pipe = process.stdout.fileno()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    try:
        while len(said) <= most_bytes and not whole and poll.poll(1000 * _left_s(deadline)):
            piece = os.read(pipe, 1 << 16)
            said += piece
            whole = not piece
        if whole:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_left_s(deadline))
        return Said(process.returncode if whole else None, said.decode("utf-8", "replace"))
    finally:
        process.stdout.close()
        _end(process)


def _left_s(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # nobody has waited for it, so its number is still its own
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED_WITHIN_S)
