"""The guard: a small process between sft-kit and a command, which outlives sft-kit just long enough to clean up.

Owns: starting one command, waiting for it, and ending it with everything it started. That happens when the launcher
asks, when the launcher is gone for any reason (`kill -9` included), on SIGTERM, SIGINT or SIGHUP to the guard, and
for left-overs once the command has ended. Does not own what the command is, nor what its end means: `process` starts
the guard and reads its reports.

Run as `python -I -S guard.py FD LAUNCHER_PID [LOCK_FD...]` in a session of its own. It stays resident for as long as a
training run, so it imports little, and nothing of sft_kit. It keeps each LOCK_FD open to its end, and from the command,
so that the lock of a run lasts until its trainer is gone. FD is one end of a socket pair whose other end only the
launcher holds:

    launcher -> guard   the order (`pack`), then TERMINATE or KILL; end of file: the launcher is gone
    guard -> launcher   `started PID` or `failed cwd|exec ERRNO`; later `ended CODE`, where -N means signal N

On Linux the guard is a child subreaper, so a descendant whose parent dies becomes its child, whatever session that
descendant moved to: nothing is left exactly when the guard has no child. The command dies with the guard
(PR_SET_PDEATHSIG). Elsewhere only the command itself and its process group are reached.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TERMINATE = b"T"
KILL = b"K"

# Fields of /proc/PID/stat, counted after the name (proc(5) numbers them from 3).
STATE, PARENT, SESSION, FLAGS, THREADS, STARTED = 0, 1, 3, 6, 17, 19

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_AGAIN_S = 0.05
# SIGKILL cannot fail, but it waits for a process that hangs in a driver, and root's processes are out of reach.
_GIVE_UP_S = 10.0


def pack(argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, grace_s: float) -> bytes:
    """The order for the guard: 8 digits of length, then fields that end in NUL, which no argument can contain.

    An empty `cwd` is the launcher's own. `grace_s`: seconds between SIGTERM and SIGKILL.
    """
    fields = [b"%f" % grace_s, cwd, b"%d" % len(argv), *argv, *(name + b"=" + value for name, value in env.items())]
    body = b"".join(field + b"\0" for field in fields)
    return b"%08d" % len(body) + body


def unpack(body: bytes) -> tuple[list[bytes], dict[bytes, bytes], bytes, float]:
    """`(argv, env, cwd, grace_s)` of `pack`, its length taken off."""
    grace_s, cwd, count, *rest = body.split(b"\0")[:-1]
    pairs = (item.partition(b"=") for item in rest[int(count) :])
    return rest[: int(count)], {name: value for name, _, value in pairs}, cwd, float(grace_s)


def stat_fields(pid: int) -> list[bytes]:
    """/proc/PID/stat after the name, which may itself hold spaces and brackets. OSError: no such process."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def process_table() -> dict[int, list[bytes]]:
    """`stat_fields` of every process that can be seen, by pid. Empty where there is no /proc."""
    table = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                table[int(name)] = stat_fields(int(name))
            except OSError:  # it ended meanwhile
                continue
    return table


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone, or not ours to signal."""
    try:  # noqa: SIM105 (contextlib is one more import)
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def main() -> None:
    channel, launcher, *locks = map(int, sys.argv[1:])
    for fd in (channel, *locks):
        os.set_inheritable(fd, False)
    ends = (channel, *_handle(launcher))
    if os.getppid() != launcher:
        return
    length = _receive(channel, 8)
    body = _receive(channel, int(length)) if length else b""
    if not body:
        return
    argv, env, cwd, grace_s = unpack(body)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake = _signals_as_bytes()
    command, failure = _spawn(argv, env, cwd)
    if failure:
        os.waitpid(command, 0)
        _write(channel, b"failed " + failure)
        return
    # The command's standard streams are its own: a pipe that the guard kept open would never show its end.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    _write(channel, b"started %d" % command)
    status = _watch(command, ends, wake, grace_s)
    _write(channel, b"ended %d" % os.waitstatus_to_exitcode(status))


def _watch(command: int, ends: tuple[int, ...], wake: int, grace_s: float) -> int:
    """Wait until the command and all it started are gone; its wait status.

    `ends` are the channel and, if there is one, the launcher's handle: each tells of its end.
    """
    poll = select.poll()
    for fd in (wake, *ends):
        poll.register(fd, select.POLLIN)
    status: int | None = None
    asked = leftovers_told = False
    kill_at = float("inf")
    while True:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == command:
                    status = ended[1]
        except ChildProcessError:  # no child, so no descendant either
            return signal.SIGKILL if status is None else status
        now = time.monotonic()
        if status is not None and not leftovers_told:
            leftovers_told = True
            kill_at = min(kill_at, now + grace_s)
            for pid in _descendants():
                _terminate(pid)
        if now > kill_at + _GIVE_UP_S:
            _write(2, b"sft-kit: could not be killed: %s" % b" ".join(b"%d" % pid for pid in _descendants()))
            return signal.SIGKILL if status is None else status
        if now >= kill_at:
            for pid in {command, *_descendants()} if status is None else _descendants():
                send(pid, signal.SIGKILL)
        wait_s = _KILL_AGAIN_S if now >= kill_at else kill_at - now
        stop = False
        for fd, _ in poll.poll(None if wait_s == float("inf") else wait_s * 1000 + 1):
            if fd == wake:
                stop |= any(number in _STOP_SIGNALS for number in os.read(wake, 512))
                continue
            stop = True
            words = _read_or_end(fd) if fd == ends[0] else b""
            if not words:
                poll.unregister(fd)
            if KILL in words:
                kill_at = min(kill_at, time.monotonic())
        if stop and not asked:
            asked = True
            kill_at = min(kill_at, time.monotonic() + grace_s)
            _terminate(0)  # the whole group; the guard's own copy only wakes it once more


def _spawn(argv: list[bytes], env: dict[bytes, bytes], cwd: bytes) -> tuple[int, bytes]:
    """Start the command with the guard's own standard streams; (pid, b"" or what failed and its errno)."""
    guard = os.getpid()
    error_reader, error_writer = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid:
        os.close(error_writer)
        failure = _receive(error_reader, 64)
        os.close(error_reader)
        return pid, failure
    step = b"cwd"
    try:
        signal.set_wakeup_fd(-1)
        # What Python ignores, and what the launcher may have ignored (nohup): a program expects the defaults.
        for number in (*_STOP_SIGNALS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before prctl could see that
            os._exit(1)
        if cwd:
            os.chdir(cwd)
        step = b"exec"
        os.execvpe(argv[0], argv, env)  # noqa: S606 (no shell is what we want)
    except OSError as error:
        os.write(error_writer, b"%s %d" % (step, error.errno or 0))
    finally:
        os._exit(1)


def _terminate(pid: int) -> None:
    """SIGTERM, and SIGCONT so that a suspended process can act on it. 0 is the guard's group."""
    send(pid, signal.SIGTERM)
    send(pid, signal.SIGCONT)


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, fields in process_table().items():
        children.setdefault(int(fields[PARENT]), []).append(pid)
    found = [os.getpid()]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[1:]


def _signals_as_bytes() -> int:
    """From now on signals only write their number to a pipe, whose read end this returns."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a launcher's mask would be inherited
    return reader


def _handle(launcher: int) -> tuple[int, ...]:
    """A pidfd of the launcher: tells of its death even if a fork of it still holds the channel open."""
    try:
        return (os.pidfd_open(launcher),)
    except (AttributeError, OSError):  # an old kernel or Python: the channel's end of file remains
        return ()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        try:
            import ctypes
        except ImportError:  # a Python built without libffi
            return
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        prctl(option, value, 0, 0, 0)


def _receive(fd: int, length: int) -> bytes:
    """Exactly `length` bytes, or what came before the end of file."""
    received = b""
    while len(received) < length:
        piece = os.read(fd, length - len(received))
        if not piece:
            break
        received += piece
    return received


def _read_or_end(channel: int) -> bytes:
    try:
        return os.read(channel, 64)
    except ConnectionError:  # the launcher died with a report unread
        return b""


def _write(fd: int, line: bytes) -> None:
    try:  # noqa: SIM105 (contextlib is one more import)
        os.write(fd, line + b"\n")
    except OSError:  # the launcher is gone, which _watch sees by itself; or the log's disk is full
        pass


if __name__ == "__main__":
    main()
