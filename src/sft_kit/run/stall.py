"""Whether the trainer still moves: told by what it writes, and by its processes when it has long been silent.

Owns what counts as life and how long a silence may be. Stops nothing: a slow disk and a deadlock look alike from
outside, so that a person decides. Costs two `stat` calls a look; /proc is read only in a silence.

Life is a new record, more output (ms-swift's bars move with every step, validation batch, row and download) or a
megabyte read or written (loading a model, saving one). CPU time is none: a deadlock of several GPUs burns it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sft_kit.console import duration
from sft_kit.run.guard import PARENT, STATE, process_table
from sft_kit.run.watch import Sign

_USER_TIME, _SYSTEM_TIME = 11, 12  # of /proc/PID/stat after the name, in ticks of 1/100 s
_TICKS = 100
_MOVED_BYTES = 1 << 20
_WORDS = {
    "R": "computing", "S": "waiting", "D": "waiting for a disk or a driver", "T": "suspended (kill -CONT wakes it)",
    "t": "held by a debugger", "Z": "ended",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Silences that are reported (s): before the first step, and after it `times` the usual pause between two signs of
    life, but at least `least_s` and three times the longest pause so far."""

    before_s: float = 600.0
    least_s: float = 120.0
    times: float = 20.0
    look_every_s: float = 5.0  # between two looks at /proc


@dataclass(frozen=True)
class _Use:
    """What a process and its descendants have used: states, CPU seconds, bytes read and written."""

    states: str
    cpu_s: float
    moved: int


class Stall:
    """Watches the process `pid` with the output `log`. `look` is to be called about twice a second."""

    def __init__(self, pid: int, log: Path, *, limits: Limits | None = None) -> None:
        self._pid = pid
        self._log = log
        self._limits = limits or Limits()
        self._size = _size(log)
        self._now: float | None = None
        self._silent_s = self._looked_s = 0.0
        self._usual_s = self._longest_s = 0.0
        self._at_start: _Use | None = None  # of this silence
        self._told = False
        self._step = 0

    def look(self, now: float, *, step: int | None) -> list[Sign]:
        """The sign of a silence that has become too long, once, and that of its end. `now` is a monotonic time (s),
        `step` the last one logged if it is new."""
        # A launcher that was suspended itself (Ctrl-Z) has seen nothing meanwhile.
        self._silent_s += 0.0 if self._now is None else min(now - self._now, self._limits.look_every_s)
        self._now = now
        size = _size(self._log)
        if step is not None or size != self._size:
            self._size = size
            return list(self._alive(step))
        if self._silent_s < self._limit() / 2 or self._silent_s - self._looked_s < self._limits.look_every_s:
            return []
        self._looked_s = self._silent_s
        use = use_of(self._pid)
        if self._at_start is None:
            self._at_start = use
        if use.moved - self._at_start.moved > _MOVED_BYTES:
            return list(self._alive(None))
        if self._told or self._silent_s < self._limit():
            return []
        self._told = True
        return [self._hangs(use, self._at_start)]

    def _limit(self) -> float:
        limits = self._limits
        if not self._step:
            return limits.before_s
        return max(limits.least_s, limits.times * self._usual_s, 3 * self._longest_s)

    def _alive(self, step: int | None) -> Iterator[Sign]:
        if self._told:
            message = f"the trainer goes on after {duration(self._silent_s)} of silence"
            yield Sign("trainer-goes-on", "note", step or self._step, message)
        elif self._step:
            self._usual_s += 0.2 * (self._silent_s - self._usual_s)
            self._longest_s = max(self._longest_s, self._silent_s)
        self._step = step or self._step
        self._silent_s = self._looked_s = 0.0
        self._at_start, self._told = None, False

    def _hangs(self, use: _Use, before: _Use) -> Sign:
        usual = f" (usually {self._usual_s:.1f} s)" if self._step else ""
        words = ", ".join(_WORDS.get(state, state) for state in dict.fromkeys(use.states)) or "gone"
        spent = f"{max(0.0, use.cpu_s - before.cpu_s):.0f} s of CPU time in the last {duration(self._silent_s / 2)}"
        message = (
            f"nothing from the trainer for {duration(self._silent_s)}{usual}; it is {words}, with {spent}; "
            f"its last line: {_last_line(self._log)!r}"
        )
        fix = f"wait, or Ctrl-C and later sft-kit train --resume; py-spy dump --pid {self._pid} shows where it is"
        return Sign("trainer-hangs", "warning", self._step, message, fix)


def use_of(pid: int) -> _Use:
    """What `pid` and all its living descendants have used so far; empty where there is no /proc."""
    table = process_table()
    children: dict[int, list[int]] = {}
    for child, fields in table.items():
        children.setdefault(int(fields[PARENT]), []).append(child)
    family = [pid] if pid in table else []
    for member in family:
        family += children.get(member, [])
    ticks = sum(int(table[member][_USER_TIME]) + int(table[member][_SYSTEM_TIME]) for member in family)
    states = "".join(table[member][STATE].decode("ascii", "replace") for member in family)
    return _Use(states, ticks / _TICKS, sum(map(_moved, family)))


def _moved(pid: int) -> int:
    """Bytes that a process has read and written, those of mapped files included."""
    with suppress(OSError, ValueError):
        lines = Path(f"/proc/{pid}/io").read_text("ascii").splitlines()
        values = dict(line.split(": ") for line in lines)
        return sum(int(values[name]) for name in ("rchar", "wchar", "read_bytes"))
    return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _last_line(log: Path) -> str:
    """The last line of a log that says something; a bar that is drawn over itself counts as its latest state."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return next((line.strip()[-160:] for line in reversed(text.replace("\r", "\n").split("\n")) if line.strip()), "")
