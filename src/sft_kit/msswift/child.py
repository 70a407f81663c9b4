"""What the launcher's ends of our ms-swift child processes have in common: how one is started and how it died.

Owns the Python words that start a worker module, what we need of its process, and the error for one that is gone. Does
not own the process (`run.process`) or what is said over its pipes (`chat`, `encode`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Any, Protocol

from sft_kit.errors import MsSwiftError
from sft_kit.msswift.failure import diagnose, ms_swift_error

EXIT_TIMEOUT_S = 10.0


def words_to_start(module: str) -> tuple[str, str]:
    """What goes between the Python of the ms-swift installation and the arguments of a worker module's `main`.

    Not `-m`, which would put the current directory, and a user's own `utils.py` in it, before every other module.
    """
    return "-c", f"import sys; del sys.path[0]; from {module} import main; sys.exit(main(sys.argv[1:]))"


class Ended(Protocol):
    """How a process ended, as `run.process.Exit` says it."""

    @property
    def returncode(self) -> int | None: ...

    @property
    def signal(self) -> int | None: ...

    def describe(self) -> str: ...


class Transport(Protocol):
    """The worker's process: a `subprocess.Popen` with text or binary pipes will do."""

    @property
    def stdin(self) -> IO[Any] | None: ...

    @property
    def stdout(self) -> IO[Any] | None: ...

    def poll(self) -> int | Ended | None:
        """None while it runs, else how it ended."""


def wait_for_end(transport: Transport) -> int | Ended | None:
    """How the worker ended, after waiting up to 10 s for it; None if it still runs."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while transport.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return transport.poll()


def death(transport: Transport, log: Path, doing: str) -> MsSwiftError:
    """The error for a worker that went while `doing` something: its exit, and what its log says of the cause."""
    ended = wait_for_end(transport)
    if isinstance(ended, int):  # of a plain subprocess.Popen
        how, code = (f"killed by signal {-ended}" if ended < 0 else f"exit code {ended}"), ended
        found = diagnose(log, returncode=max(ended, 0), signal=-ended if ended < 0 else None)
    else:
        how, code = ended.describe() if ended else "it hangs", (ended.returncode if ended else None) or 1
        found = diagnose(log, returncode=code, signal=ended.signal if ended else None)
    return ms_swift_error(f"ms-swift failed while {doing} ({how})", found, log, returncode=code)
