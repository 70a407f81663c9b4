"""SIGTERM and SIGHUP as exceptions, so that context managers stop children on the way out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sft_kit.errors import InterruptedRun


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """While this block runs, SIGTERM and SIGHUP raise InterruptedRun in the main thread, as Ctrl-C does already.

    A signal that is ignored (SIGHUP under nohup) stays ignored.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        raise InterruptedRun(f"stopped by {signal.Signals(number).name}")

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
