"""Watching real processes from outside, without the code under test."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

CHILDREN = Path(__file__).with_name("children")
# What an idle machine does in 10 ms a loaded one may do in seconds; only the promised times are asserted tightly.
PATIENCE_S = 10.0


class Marked:
    """Processes that carry this test's own mark in their environment."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.env = {**os.environ, "TEST_MARK": self.mark, "PYTHONPATH": os.pathsep.join(sys.path)}

    def living(self) -> list[int]:
        pids = []
        for directory in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (
                    directory.name.isdigit()
                    and self.mark.encode() in (directory / "environ").read_bytes()
                    and "State:\tZ" not in (directory / "status").read_text()
                ):
                    pids.append(int(directory.name))
        return pids


def wait_until(reached: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
    """Seconds until `reached`."""
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < within_s, "not reached in time"
        time.sleep(0.01)
    return time.monotonic() - began
