"""The lock of a run: one launcher at a time, for as long as anything of it lives.

Owns the lock file: who holds it, waiting for a holder that is about to end, and ending what a dead one left behind. It
does not own what a run is. The lock itself is flock(2) on that file, which the kernel gives up with the last process
that has it open: the launcher, and the guards that it starts while it holds the lock (`process.start` passes the
descriptor on; guard.py keeps it from the command). So it outlives a launcher that was killed until its trainer is gone
too, and nothing else: not a fork of the launcher, not a machine that restarts.

What the file says (one line of JSON) is only for messages and for the sweep: who held it last, and the mark of all that
holder started. Where launcher and guard were killed together, the trainer's own children may live on with the GPU; the
next holder finds them by that mark. On a file system without flock what the file says is all there is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sft_kit.console import say
from sft_kit.errors import Problem, UsageError
from sft_kit.run.living import boot, end_marked, is_alive, marked, namespace, new_mark, process_started, wake_marked
from sft_kit.writes import not_written

_LOOKED_AT_S = 0.2  # `is_held` of other processes holds the lock for a moment
_ENDING_S = 5.0  # process.GRACE_S, and a moment for the kernel to take a large process apart
_MARK = re.compile(r"[0-9a-f]{16}")
_LONGEST = 4096  # bytes read of a lock file

_held: dict[int, str] = {}  # the mark of each lock that this process holds, by descriptor


@dataclass(frozen=True)
class Holder:
    """Who took the lock: `started` as in `living`, `file` the inode of the lock file: a copy of it is known as one."""

    pid: int
    started: str
    host: str
    namespace: str
    mark: str
    since: str
    file: int

    @property
    def here(self) -> bool:
        """Whether its processes are those that this process can see, or were before the machine restarted."""
        same_boot = self.started.partition(":")[0] == boot()
        return self.namespace == namespace() if same_boot else self.host == _host()

    @property
    def gone(self) -> bool:
        """Whether the launcher itself has certainly ended; what it started may live on."""
        return self.here and not is_alive(self.pid, self.started)

    def describe(self) -> str:
        """`pid 12 since 2026-01-31 12:34:56`, with the machine's name if it is another one."""
        return f"pid {self.pid}{'' if self.here else f' on {self.host}'} since {self.since}"


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. What a dead holder left behind is ended before.

    Waits for the end of what a dead launcher started. Raises UsageError when a living one holds it, or when what a dead
    one left will not go.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise not_written(path, error) from error
    try:
        has_locks = _wait_for(descriptor, path)
        mark = _take(descriptor, path, has_locks=has_locks)
    except BaseException:
        os.close(descriptor)
        raise
    _held[descriptor] = mark
    try:
        yield
    finally:
        if _held.pop(descriptor, None):  # a fork has closed its own already
            if not has_locks:
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def held() -> dict[int, str]:
    """The locks that this process holds: descriptor and mark. What is started now belongs to them."""
    return dict(_held)


def is_held(path: Path) -> bool:
    """Whether a launcher holds the lock file `path` now, or something that it started still runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _holds_by_record(_read(descriptor))
    finally:
        os.close(descriptor)
    return False


def _wait_for(descriptor: int, path: Path) -> bool:
    """Take the lock, waiting as long as it is about to come free; whether this file system has locks at all."""
    began = time.monotonic()
    told = ended = False
    while (has_locks := _try(descriptor)) is None:
        holder = _read(descriptor)
        waited_s = time.monotonic() - began
        if waited_s <= _LOOKED_AT_S:
            pass
        elif holder is None or not holder.gone:
            raise _in_use(path, holder)
        elif not told:
            told = True
            say(f"the launcher of this run ({holder.describe()}) is gone, but what it started still runs: ending it")
            wake_marked(holder.mark)
        elif ended and waited_s > _ENDING_S:
            raise _will_not_go(path, marked(holder.mark))
        elif not ended and waited_s > _ENDING_S - 1:
            ended = True
            end_marked(holder.mark)
        time.sleep(0.02)
    return has_locks


def _try(descriptor: int) -> bool | None:
    """Take the lock: True, or False where there are no locks and the record says that nobody holds it; None: held."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:  # ENOLCK, EOPNOTSUPP, ENOSYS: NFS without its lock service, Lustre without -o flock, some FUSE
        return None if _holds_by_record(_read(descriptor)) else False
    return True


def _take(descriptor: int, path: Path, *, has_locks: bool) -> str:
    """End what the last holder left behind, and write who holds the lock now; the new mark."""
    last = _read(descriptor)
    if last and last.gone:
        if left := marked(last.mark):
            say(f"ending what an earlier start of this run left behind: {_pids(left)}")
        if left := end_marked(last.mark):
            raise _will_not_go(path, left)
    own = Holder(
        os.getpid(),
        process_started(os.getpid()) or "",
        _host(),
        namespace(),
        new_mark(),
        time.strftime("%Y-%m-%d %H:%M:%S"),
        os.fstat(descriptor).st_ino,
    )
    line = json.dumps(asdict(own)).encode() + b"\n"
    try:
        os.pwrite(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))
    except OSError as error:
        raise not_written(path, error, len(line)) from error
    if not has_locks:
        time.sleep(_LOOKED_AT_S)  # of two that write at once the later one has it
        if (now := _read(descriptor)) != own:
            raise _in_use(path, now)
    return own.mark


def _read(descriptor: int) -> Holder | None:
    """Who wrote this very lock file; None where nobody did, or it is a copy: its mark belongs to the original."""
    try:
        values = json.loads(os.pread(descriptor, _LONGEST, 0).split(b"\n")[0])
        holder = Holder(**{name: values[name] for name in Holder.__dataclass_fields__})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = (holder.started, holder.host, holder.namespace, holder.mark, holder.since)
    if not (isinstance(holder.pid, int) and all(isinstance(text, str) for text in texts)):
        return None
    return holder if _MARK.fullmatch(holder.mark) and holder.file == os.fstat(descriptor).st_ino else None


def _holds_by_record(holder: Holder | None) -> bool:
    """Where only the record tells: a holder elsewhere is believed, as nothing can be seen of it from here."""
    return holder is not None and (not holder.gone or bool(marked(holder.mark)))


def _in_use(path: Path, holder: Holder | None) -> UsageError:
    message = "another sft-kit is using this run directory" + (f" ({holder.describe()})" if holder else "")
    fix = "wait for it, or stop it; a new run needs another output_dir"
    if holder and not holder.here:
        fix += f"; if that machine is gone, remove {path}"
    return UsageError(Problem(str(path.parents[1]), message, fix))


def _will_not_go(path: Path, pids: list[int]) -> UsageError:
    message = f"what an earlier start of this run left behind still runs and cannot be ended: {_pids(pids)}"
    return UsageError(Problem(str(path.parents[1]), message, "end it as its owner, or restart the machine"))


def _pids(pids: list[int]) -> str:
    return f"pid {', '.join(map(str, pids))}" if pids else "nothing that can be seen from here"


def _host() -> str:
    return os.uname().nodename


def _leave_to_parent() -> None:
    """A fork that outlives its parent must not keep the lock."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
