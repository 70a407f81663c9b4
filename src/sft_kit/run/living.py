"""Which process is which: one told from a later one with the same pid, and all that one start has left.

Owns what is read from /proc about other processes, and the mark by which they are found again. A mark is a random word
in the environment of a command, and so of all that it starts, wherever they move; a stranger that got the pid of one of
them has no mark, so it is never taken for one. Does not own why a process is to end. Linux only.

What cannot be found by its mark: a program that wrote its title over its environment (setproctitle), and one that runs
as another user.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from sft_kit.run import guard as protocol

MARK = "SFT_KIT_GUARD"  # the variable; it holds one mark or more, joined by dots
_END_WITHIN_S = 5.0
_PF_EXITING = 0x4  # include/linux/sched.h


def new_mark() -> str:
    """A mark that no other process has."""
    return os.urandom(8).hex()


def process_started(pid: int) -> str | None:
    """When `pid` started, for `is_alive`: this boot's id and clock ticks since then; None if there is no such process.

    Unlike a time of day it stays exact when the clock is set, and is never the same again after a restart.
    """
    try:
        fields = protocol.stat_fields(pid)
    except OSError:
        return None
    return None if _is_dead(fields) else f"{boot()}:{int(fields[protocol.STARTED])}"


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that had `pid` when `process_started` said `started` still runs (a zombie does not)."""
    return bool(started) and process_started(pid) == started


def boot() -> str:
    """The id of this start of the machine; empty where a sandbox hides it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def namespace() -> str:
    """Which pids are meant: those of one container are no pids of another."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def marked(mark: str, *, session: int | None = None) -> list[int]:
    """The living processes that carry `mark`, and those of `session`."""
    return [
        pid
        for pid, fields in protocol.process_table().items()
        if not _is_dead(fields) and (int(fields[protocol.SESSION]) == session or _carries(pid, mark))
    ]


def end_marked(mark: str, *, session: int | None = None) -> list[int]:
    """SIGKILL for all of `marked`, until there are none. Those that would not go within five seconds."""
    give_up_at = time.monotonic() + _END_WITHIN_S
    while left := marked(mark, session=session):
        if time.monotonic() > give_up_at:
            return left
        for pid in left:
            protocol.send(pid, signal.SIGKILL)
        time.sleep(0.02)
    # The kernel takes a process's memory, and with it the mark, before its files, and with them the GPU.
    while _dying() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return []


def wake_marked(mark: str) -> None:
    """SIGCONT for all that carry `mark`: a suspended guard cannot see that its launcher is gone."""
    for pid in marked(mark):
        protocol.send(pid, signal.SIGCONT)


def _carries(pid: int, mark: str) -> bool:
    with suppress(OSError):  # gone, or not ours
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, marks = entry.partition(b"=")
            if name == MARK.encode():
                return mark.encode() in marks.split(b".")
    return False


def _dying() -> list[int]:
    """Processes of this user, whoever started them, that the kernel is taking apart; mostly there are none."""
    found = []
    for pid, fields in protocol.process_table().items():
        if int(fields[protocol.FLAGS]) & _PF_EXITING and not _is_dead(fields):
            with suppress(OSError):
                if os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                    found.append(pid)
    return found


def _is_dead(fields: list[bytes]) -> bool:
    """Whether it is a zombie; one whose other threads still run is none yet."""
    return fields[protocol.STATE] in (b"Z", b"X") and int(fields[protocol.THREADS]) <= 1
