"""Files that appear whole or not at all, and what a write that failed means: the cause, the room, what to do about it.

Owns the words and the exit code. Does not own what was being written, nor how large a checkpoint is (`checks.room`).

`put_in_place` flushes the content before it gets its name, so that a power failure leaves the old file or the new one.
The folder is not flushed: a journal keeps the order of names (ext4, XFS, btrfs), so what can be lost is the last names,
as in a failure a moment earlier.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sft_kit.errors import ExitCode, Problem, UsageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What making room helps against."""
_GONE = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESHUTDOWN, errno.EUCLEAN)
_NO_ROOM = (*FULL, *_GONE, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.ENOMEM)
# what the system's own words leave open: the cause, and what to do
_CAUSES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room; `quota -s` shows how much is allowed"),
    errno.EROFS: (
        "the file system is read-only",
        "give a place on another one; one that became read-only had errors, which `dmesg` tells",
    ),
    errno.EACCES: ("no permission", "change its owner or mode, or give another place"),
    errno.EPERM: ("no permission", "change its owner or mode, or give another place"),
    errno.EMFILE: ("too many files are open in this process", "raise the limit: ulimit -n 4096"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.ENAMETOOLONG: ("the name is too long (most file systems take 255 bytes)", "give a shorter one"),
    errno.EFBIG: ("a file may not become that large here", "see `ulimit -f`, or give a place on another file system"),
    **dict.fromkeys(_GONE, ("its disk does not answer", "see whether it is still there: `df`, `dmesg`")),
}
_NO_INODES = ("the disk can hold no more files (no inode is free)", "remove files; `df -i` shows where")


UNFINISHED = ".unfinished-"
"""How the name of a file begins that has not got its own yet."""
_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)


def put_in_place(path: Path, content: bytes, check: Callable[[Path], None] | None = None) -> None:
    """Write `content` beside `path`, flush it to the disk, let `check` look at it, then give it its name.

    Raises OSError, and what `check` raises: what was at `path` is there still, and nothing is beside it.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name[:40]}-", suffix=path.suffix)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with suppress(OSError):  # no locks there: then `remove_unfinished` removes nothing either
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files private
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a disk that is gone
            temporary.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed left of `put_in_place` in `folder`; what one is writing now stays."""
    for path in folder.glob(f"{UNFINISHED}*"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        finally:
            os.close(descriptor)


def flush_to_disk(paths: Iterable[Path]) -> None:
    """Have the files `paths`, and those in folders among them, on the disk before this returns. Raises OSError."""
    for path in paths:
        inside = (Path(where, name) for where, _, names in os.walk(path) for name in names)
        for file in (path, *inside):
            if file.is_file() and not file.is_symlink():
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


@dataclass(frozen=True)
class Room:
    """What is free on the file system mounted at `mount`; `free_files` is None where it does not count them."""

    mount: Path
    free_bytes: int
    free_files: int | None
    read_only: bool


class NotWritten(UsageError):
    """A file or folder could not be written. Exit 5 where the disk is at fault, 2 where the place is."""

    def __init__(self, problem: Problem, number: int) -> None:
        super().__init__(problem)
        self.errno = number
        self.exit_code = ExitCode.MISSING if number in _NO_ROOM else ExitCode.USAGE


def not_written(path: Path, error: OSError, needed_bytes: int | None = None) -> NotWritten:
    """The error for `path`, which could not be written; `needed_bytes` is what it would take, where that is known."""
    number = error.errno or 0
    room = room_at(path)
    cause, fix = _CAUSES.get(number, (error.strerror or str(error), ""))
    if number == errno.ENOSPC and room and room.free_files == 0:
        cause, fix = _NO_INODES
    elif number in FULL:
        need = f"it takes {size(needed_bytes)}" if needed_bytes else ""
        # a quota is no property of the disk, which may have much free
        free = f"{room.mount} has {size(room.free_bytes)} free" if room and number == errno.ENOSPC else ""
        numbers = ", and ".join(filter(None, (need, free)))
        cause += f" ({numbers})" if numbers else ""
    return NotWritten(Problem(str(path), f"cannot be written: {cause}", fix), number)


def not_read(path: Path, error: OSError) -> UsageError:
    """The error for `path`, which cannot be read. Exit 5 where the disk is at fault, 2 else."""
    if not is_of_disk(error):
        return UsageError(Problem(str(path), f"cannot be read: {error.strerror or error}"))
    cause, fix = _CAUSES.get(error.errno or 0, (error.strerror or str(error), ""))
    shown = UsageError(Problem(str(path), f"cannot be read: {cause}", fix))
    shown.exit_code = ExitCode.MISSING
    return shown


def cause_in_words(number: int) -> str:
    """What an errno stands for: `the disk is full`."""
    return _CAUSES[number][0] if number in _CAUSES else os.strerror(number)


def is_of_disk(error: OSError) -> bool:
    """Whether the disk is at fault, and not the place or what was to be done there."""
    return error.errno in _NO_ROOM


def room_at(path: Path) -> Room | None:
    """The file system that `path` is or will be on; None where it does not say."""
    path = path.expanduser().absolute()
    for folder in (path, *path.parents):
        try:
            seen = os.statvfs(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
        files = seen.f_favail if seen.f_files else None  # btrfs and network file systems count none
        return Room(_mount(folder), seen.f_bavail * seen.f_frsize, files, bool(seen.f_flag & os.ST_RDONLY))
    return None


def size(count: float) -> str:
    """`count` bytes for people: `0`, `12 KiB`, `340 MiB`, `1.2 GiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            number = count / unit
            return f"{number:.1f} {name}" if number < 10 or name == "GiB" else f"{number:.0f} {name}"
    return f"{count:.0f} bytes" if count else "0"


def _mount(folder: Path) -> Path:
    folder = Path(os.path.realpath(folder))
    return next((each for each in (folder, *folder.parents) if os.path.ismount(each)), folder)
