"""A command of sft-kit on something hostile, in a forked process with little memory and little time.

A fork is as real as a start of the command but 0.3 s faster: the modules are there already. Only the address space,
the clock and the standard streams differ. `seconds` are the processor's, so that a busy machine fails no test.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `code` is negative for a signal: -24 is the processor's time, -14 the clock (it hung), -9 or
    -11 the memory."""

    code: int
    out: str
    err: str
    seconds: float
    grown_mib: float

    def is_contained(self, *codes: int) -> bool:
        return self.code in codes and "Traceback" not in self.err and "this is a bug" not in self.err


def run(argv: Sequence[str], folder: Path, *, seconds: int = 10, mib: int = 1024) -> Outcome:
    """`sft-kit ARGV` in `folder`, of which the process may take `mib` more memory than it has now."""

    def command() -> None:
        import sft_kit.cli

        sys.argv = ["sft-kit", *argv]
        sft_kit.cli.main()

    return call(command, folder, seconds=seconds, mib=mib)


def call(
    work: Callable[[], object],
    folder: Path,
    *,
    seconds: int = 10,
    mib: int = 1024,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """`work` in a fork of this process."""
    out, err = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err"))
    before = _status("VmRSS")
    started = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _in_the_child(work, folder, out, err, seconds, mib, env or {})
    _, status, usage = os.wait4(child, 0)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        out.read_text("utf-8", "replace"),
        err.read_text("utf-8", "replace"),
        time.monotonic() - started,
        usage.ru_maxrss / 1024 - before,
    )


def _in_the_child(
    work: Callable[[], object], folder: Path, out: Path, err: Path, seconds: int, mib: int, env: Mapping[str, str]
) -> None:
    code = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has its own
        signal.alarm(20 * seconds)  # a hang; other tests run beside this one
        spent = sum(os.times()[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + seconds, int(spent) + seconds + 1))
        most = int(_status("VmSize") + mib) << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for stream, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open until the process ends
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        os.chdir(folder)
        os.environ.update(env)
        work()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _status(name: str) -> float:
    """A line of /proc/self/status, in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(f"{name}:"))
