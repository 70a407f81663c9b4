"""Ends a process, or fills its disk, at any one of its writes below a folder.

Counted are: a file opened for writing, a piece of bytes written, a flush to the disk, a rename, a file removed, a
folder made or removed, a file cut. What only reads is not counted. All of it is real: real files, and a real end of a
real process (`os._exit`, as SIGKILL: nothing is cleaned up, no buffer is flushed).

A power failure is a crash after which every file keeps only what was flushed to the disk (fsync), or a part of the
rest, though its name is there: what XFS and ext4 may leave. File systems with a journal keep the order of names, so a
name that was not flushed is the crash of an earlier moment.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sft_kit.errors import SftKitError

Kind = Literal["none", "crash", "power", "full", "blip", "trainer"]
CRASHED = 137
_TEMPORARY = re.compile(r"(\.unfinished-.*)-[a-z0-9_]{8}(?=$|\.)")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th write (from 0): `full` is the disk from then on, `blip` is it once only."""

    kind: Kind = "none"
    at: int = 0


@dataclass(frozen=True)
class Ended:
    """How a child ended. `crashed` is the write at which it did; `value` what its call returned."""

    value: Any = None
    refused: SftKitError | None = None
    broke: str = ""
    writes: int = 0
    crashed: str = ""


@dataclass
class _Disk:
    """The hook of one child. `unflushed` is the length that each file written to had when it was last flushed."""

    root: str
    fault: Fault
    tell: Callable[[Ended], None]
    count: int = 0
    is_full: bool = False
    room: int = 0
    unflushed: dict[str, int] = field(default_factory=dict)
    inside: bool = False

    def event(self, what: str, path: str, needs: int = 0) -> None:
        """Count one write; None comes back from it where the process lives on and the disk has room."""
        number, self.count = self.count, self.count + 1
        if number == self.fault.at and self.fault.kind in ("crash", "power"):
            self.crash(f"{what} {_plain(os.path.relpath(path, self.root))}")
        if number == self.fault.at and self.fault.kind in ("full", "blip"):
            self.is_full = self.fault.kind == "full"
            if needs:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.is_full and needs:
            if needs > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            self.room -= needs

    def crash(self, where: str) -> None:
        if self.fault.kind == "power":
            for path, flushed in self.unflushed.items():
                if os.path.isfile(path):
                    size = os.stat(path).st_size
                    lost = zlib.crc32(f"{path} {self.fault.at}".encode()) % 3
                    os.truncate(path, (flushed, (flushed + size) // 2, max(flushed, size - 1))[lost])
        self.tell(Ended(writes=self.count, crashed=where))
        os._exit(CRASHED)

    def below(self, path: object) -> str:
        """`path` as a full one where it lies below the root; else empty."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return ""
        if not isinstance(path, str | bytes | os.PathLike):
            return ""
        full = os.path.abspath(os.fsdecode(path))
        return full if full.startswith(self.root + "/") else ""

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.inside or name not in _AUDITED:
            return
        path = self.below(arguments[0])
        if not path:
            return
        self.inside = True
        try:
            if name == "open":
                if isinstance(arguments[0], int) or not arguments[2] & _WRITING:
                    return
                if arguments[2] & os.O_TRUNC:
                    self.unflushed[path] = 0
                self.event("open", path, needs=0 if os.path.exists(path) else 1)
            elif name == "os.rename":
                target = self.below(arguments[1])
                self.event("rename to", target)
                if path in self.unflushed:
                    self.unflushed[target] = self.unflushed.pop(path)
                else:
                    self.unflushed.pop(target, None)
            elif name == "os.remove":
                self.event("remove", path)
                self.unflushed.pop(path, None)
                self.room += os.stat(path).st_size if self.is_full and os.path.isfile(path) else 0
            elif name == "os.mkdir":
                self.event("mkdir", path, needs=1)
            else:
                self.event(name.removeprefix("os."), path)
        finally:
            self.inside = False

    def wrote(self, path: str, content: Any, write: Callable[[Any], int]) -> int:
        """Write `content`; at a fault only its first half."""
        view = memoryview(content).cast("B")
        self.unflushed.setdefault(path, os.stat(path).st_size)
        at = self.count
        if at == self.fault.at and self.fault.kind in ("crash", "power", "full", "blip"):
            write(view[: len(view) // 2])
        self.event("write", path, needs=len(view))
        return write(view)


_AUDITED = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"})


def in_child(call: Callable[[], Any], root: Path, fault: Fault = Fault()) -> Ended:
    """How `call` ends in a forked process to which `fault` happens below `root`. Its result has to be picklable."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        disk = _Disk(str(root), fault, lambda ended: _send(writing, ended))
        try:
            _redirect()
            _hook(disk)
            ended = Ended(call())
        except SftKitError as error:
            ended = Ended(refused=error)
        except BaseException:
            ended = Ended(broke=traceback.format_exc())
        disk.inside = True
        try:
            _send(writing, Ended(ended.value, ended.refused, ended.broke, disk.count))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert content, f"the child said nothing (wait status {status})"
    kind, value = pickle.loads(content)  # noqa: S301 (our own child's)
    if kind == "refused":
        exit_code, texts, writes = value
        return Ended(refused=_Refusal(exit_code, texts), writes=writes)
    return value  # type: ignore[no-any-return]


class _Refusal(SftKitError):
    """An error of sft-kit as it came out of a child: its exit code and its lines."""

    def __init__(self, exit_code: int, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.exit_code = exit_code  # type: ignore[assignment]
        self.lines = lines


_write, _real_open = os.write, io.open


def _send(pipe: int, ended: Ended) -> None:
    if ended.refused is not None:
        lines = [str(problem) for problem in ended.refused.problems]
        content = pickle.dumps(("refused", (int(ended.refused.exit_code), lines, ended.writes)))
    else:
        content = pickle.dumps(("ended", ended))
    while content:
        content = content[_write(pipe, content) :]


def _redirect() -> None:
    """What the child says is not what the test says."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stdout = sys.stderr = _real_open(null, "w", closefd=False)


def _hook(disk: _Disk) -> None:
    class Raw(io.FileIO):
        def write(self, content: Any) -> int:
            path = disk.below(self.fileno())
            return disk.wrote(path, content, super().write) if path else super().write(content)

        def truncate(self, size: int | None = None) -> int:
            if path := disk.below(self.fileno()):
                disk.event("truncate", path)
            return super().truncate(size)

    def hooked_open(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None,
        closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        if not set(mode) & set("wax+") or not disk.below(file):
            return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        buffer = raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)  # type: ignore[type-var]
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline)  # type: ignore[type-var]

    def write(descriptor: int, content: bytes) -> int:
        path = disk.below(descriptor)
        return disk.wrote(path, content, lambda part: _write(descriptor, part)) if path else _write(descriptor, content)

    real_pwrite, real_fsync, real_ftruncate = os.pwrite, os.fsync, os.ftruncate

    def pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if path := disk.below(descriptor):
            return disk.wrote(path, content, lambda part: real_pwrite(descriptor, part, offset))
        return real_pwrite(descriptor, content, offset)

    def fsync(descriptor: int) -> None:
        if path := disk.below(descriptor):
            disk.event("fsync", path)
            disk.unflushed.pop(path, None)
        real_fsync(descriptor)

    def ftruncate(descriptor: int, size: int) -> None:
        if path := disk.below(descriptor):
            disk.event("truncate", path)
        real_ftruncate(descriptor, size)

    import builtins

    builtins.open = io.open = hooked_open  # type: ignore[assignment]
    os.write, os.pwrite, os.fsync, os.ftruncate = write, pwrite, fsync, ftruncate  # type: ignore[assignment]
    sys.addaudithook(disk.audit)


def _plain(path: str) -> str:
    """`path` without what differs from run to run: `v<N>/sft-kit/.manifest.json.*`."""
    return _TEMPORARY.sub(r"\1-*", re.sub(r"^v\d+-[^/]*", "v<N>", path))
