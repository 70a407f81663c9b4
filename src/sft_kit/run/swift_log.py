"""What ms-swift printed: where it goes for a short call, and how it becomes an error when ms-swift fails."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sft_kit.errors import MsSwiftError
from sft_kit.msswift.failure import MEMORY, diagnose, ending, ms_swift_error, of_memory
from sft_kit.run.process import Exit


@contextmanager
def temporary_log(verb: str) -> Iterator[Path]:
    """A log for one call of `verb`; it stays only when ms-swift fails, since the error names it."""
    folder = Path(tempfile.mkdtemp(prefix=f"sft-kit-{verb}-"))
    try:
        yield folder / f"{verb}.log"
    except MsSwiftError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Shortage:
    """ms-swift ran out of memory: what says so, and whether in a training step (elsewhere no batch is at fault)."""

    message: str
    training: bool


def shortage_of(exit_: Exit, log: Path, *, since: int = 0, kills_before: int | None = None) -> Shortage | None:
    """Whether ms-swift ended because there was no memory left, told by `log` from byte `since` on, or by the kernel.

    `kills_before` is what `oom_kills()` said before the start: a process that was killed while that number rose was
    killed for its memory; where the kernel does not tell (None), it probably was.
    """
    if exit_.ok:
        return None
    end = ending(log, since)
    if end.no_memory:
        return Shortage(end.no_memory, end.training)
    if exit_.signal != signal.SIGKILL and not end.killed:
        return None
    kills_after = oom_kills()
    if kills_before is None or kills_after is None:
        return Shortage("killed by the system, probably because memory was full", end.training)
    return Shortage("killed by the kernel: memory was full", end.training) if kills_after > kills_before else None


def oom_kills() -> int | None:
    """Processes that this machine's kernel has killed for want of memory since its start (`oom_kill` of /proc/vmstat,
    those of containers included); None where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def swift_failed(exit_: Exit, log: Path, shortage: Shortage | None = None, *, since: int = 0) -> MsSwiftError:
    """The error for an ms-swift that did not end well: cause, fix and the lines that say so, of `log` from byte `since`
    on. Its return code is a signal's negative where one ended it."""
    found = diagnose(log, returncode=exit_.returncode, signal=exit_.signal, since=since)
    if shortage and found.code not in MEMORY:
        found = of_memory(shortage.message)
    code = exit_.returncode if exit_.signal is None else -exit_.signal
    return ms_swift_error(f"ms-swift {exit_.describe()}", found, log, returncode=code or 0)
