"""What SIGINT, SIGTERM and SIGHUP do to a command: it ends in its own way, with its exit code, however often they come.

Owns who hears these signals, and when. Does not own what happens then: `process` stops a command, and elsewhere an
exception lets context managers do it. A signal that is ignored (SIGHUP under nohup, SIGINT behind `&` in a script)
stays ignored, and so does one that is handled outside of Python. Main thread only.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sft_kit.errors import InterruptedRun
from sft_kit.run.terminal import outlive_terminal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# An impatient Ctrl-C Ctrl-C, or the two SIGHUP of a terminal and its shell, are one wish; what the second one would
# interrupt is the writing down of the first.
_ONE_WISH_S = 1.0

_heard_at = -math.inf  # time.monotonic() of the last signal that was acted upon


@contextmanager
def signals_to(hear: Callable[[int], None]) -> Iterator[None]:
    """While this block runs, each of the signals calls `hear` with its number, in the main thread."""

    def handle(number: int, _: FrameType | None) -> None:
        global _heard_at
        _heard_at = time.monotonic()
        hear(number)

    with _handled_by(handle):
        yield


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """While this block runs, SIGTERM and SIGHUP raise InterruptedRun in the main thread, SIGINT KeyboardInterrupt.

    Those within a second of one that was heard are part of it. A block that is left by an interrupt leaves the signals
    ignored: the command only has to say so and to end, and a late Ctrl-C must not change its exit code. SIGHUP mostly
    means that the terminal is gone, so what is said from here on may be lost.
    """
    outlive_terminal()

    def interrupt(number: int, _: FrameType | None) -> None:
        global _heard_at
        if time.monotonic() - _heard_at < _ONE_WISH_S:
            return
        _heard_at = time.monotonic()
        raise KeyboardInterrupt if number == signal.SIGINT else InterruptedRun(f"stopped by {signal_name(number)}")

    with _handled_by(interrupt) as afterwards:
        try:
            yield
        except (KeyboardInterrupt, InterruptedRun):
            afterwards.update(dict.fromkeys(afterwards, signal.SIG_IGN))
            raise


def signal_name(number: int) -> str:
    """`SIGTERM`, or `signal 40` for a real-time one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[dict[signal.Signals, Any]]:
    """`handler` for those that are not ignored; what is set when the block is left, which it may change."""
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    afterwards = {number: old for number, old in previous.items() if old not in (None, signal.SIG_IGN)}
    try:
        for number in afterwards:
            signal.signal(number, handler)
        yield afterwards
    finally:
        for number, old in afterwards.items():
            signal.signal(number, old)
