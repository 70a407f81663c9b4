"""A disk of a few KiB for one call: a tmpfs in a mount namespace of a forked child, so that nothing stays mounted.

Root and users who may make namespaces get the tmpfs. Elsewhere (some containers) the child gets a limit on the size of
its files instead, so that a write fails all the same, with EFBIG for ENOSPC: `real` tells which it is.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _REMOUNT, _REC, _PRIVATE = 1, 32, 16384, 1 << 18
_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class SmallDisk:
    """`path` is its root; `real` whether it is a file system of its own."""

    path: Path
    real: bool

    def fill(self, leave_bytes: int = 0) -> None:
        """Leave (about) that much room, and with nothing left not an inode more than there was."""
        if not self.real:
            _limit(leave_bytes)
            return
        with (self.path / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while (room := self.free_bytes() - leave_bytes) > 0:
                file.write(b"x" * min(room, 1 << 20))

    def use_up_files(self) -> None:
        """Leave no inode."""
        with suppress(OSError):
            for number in range(100_000):
                (self.path / f"file-{number}").touch()

    def make_room(self) -> None:
        """Take back what `fill` took."""
        _limit(resource.RLIM_INFINITY)
        (self.path / "filler").unlink(missing_ok=True)

    def become_read_only(self) -> None:
        """As a file system does that found errors."""
        _mount(None, self.path, None, _REMOUNT | _RDONLY, None)

    def free_bytes(self) -> int:
        seen = os.statvfs(self.path)
        return seen.f_bavail * seen.f_frsize


def on_small_disk(folder: Path, call: Callable[[SmallDisk], _T], *, kib: int = 512, files: int | None = None) -> _T:
    """What `call` returns in a child for which `folder` is a disk of `kib` KiB and `files` inodes.

    An exception of `call` is an AssertionError here, with its traceback.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer: tuple[bool, Any] = (False, "the child ended early")
        try:
            answer = (True, call(SmallDisk(folder, _mounted(folder, kib, files))))
        except BaseException:
            answer = (False, traceback.format_exc())
        finally:
            _limit(resource.RLIM_INFINITY)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        ok, value = pickle.load(pipe)  # noqa: S301 (our own child's)
    os.waitpid(child, 0)
    assert ok, value
    return value  # type: ignore[no-any-return]


def _mounted(folder: Path, kib: int, files: int | None) -> bool:
    user, group = os.geteuid(), os.getegid()
    try:
        if user:
            _check(_libc.unshare(_NEWUSER | _NEWNS))
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        else:
            _check(_libc.unshare(_NEWNS))
        _mount(None, Path("/"), None, _REC | _PRIVATE, None)
        options = f"size={kib}k" + (f",nr_inodes={files}" if files else "")
        _mount(b"tmpfs", folder, b"tmpfs", 0, options.encode())
    except OSError:
        return False
    return True


def _mount(source: bytes | None, target: Path, kind: bytes | None, flags: int, options: bytes | None) -> None:
    _check(_libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), options))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
