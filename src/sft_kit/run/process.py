"""A long-running command that never outlives sft-kit.

Owns: starting a command behind a guard process (guard.py), waiting for it without using CPU, and stopping it with all
it started. Does not own what the command is or what its exit means; nothing here knows ms-swift. Linux only.

The command's output goes straight into its log file, so following a run costs the run nothing. However the launcher
ends, `kill -9` included, the command and all its descendants are gone `grace_s` and a moment later, and a lock of a run
that the launcher held (lock.py) is held until then. The launcher should start and supervise from its main thread: only
that one is told of signals.
"""

from __future__ import annotations

import errno
import io
import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TextIO

from sft_kit.errors import InterruptedRun, MissingError, Problem, SftKitError, UsageError
from sft_kit.run import guard as protocol
from sft_kit.run.living import MARK, end_marked, new_mark, process_started
from sft_kit.run.lock import held
from sft_kit.run.signals import signal_name, signals_to
from sft_kit.secrets import blot, known_values

GRACE_S = 3.0


@dataclass(frozen=True)
class Exit:
    """How a command ended: by its own `returncode` (0..255), or by a `signal`; the other one is None."""

    returncode: int | None
    signal: int | None = None

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def describe(self) -> str:
        """`exit code 7`, or `killed by SIGKILL`."""
        return f"exit code {self.returncode}" if self.signal is None else f"killed by {signal_name(self.signal)}"


class Process:
    """One running command. Made by `start`; leaving its `with` block, or dropping it, stops the command."""

    def __init__(
        self, guard: subprocess.Popen[bytes], channel: socket.socket, pid: int, mark: str, at_end: Callable[[], object]
    ) -> None:
        self.pid = pid
        """The command's process id."""
        self.guard_pid = guard.pid
        self.started = process_started(pid) or ""
        """For `is_alive`; empty if the command had ended and gone before it could be read."""
        self.stdin: TextIO | None = None
        self.stdout: TextIO | None = None
        """With `pipes`, the command's own standard streams as UTF-8 text; every line written is flushed."""
        if guard.stdin and guard.stdout:
            self.stdin = io.TextIOWrapper(guard.stdin, "utf-8", newline="\n", line_buffering=True)
            # A bare carriage return (a progress bar) must not end a line of what the two sides say.
            self.stdout = io.TextIOWrapper(guard.stdout, "utf-8", newline="\n")
        self._guard = guard
        self._channel = channel
        self._mark = mark
        self._at_end = at_end
        self._report = b""
        self._exit: Exit | None = None

    def poll(self) -> Exit | None:
        """How the command ended, or None while it or anything that it started still runs."""
        return self.wait(0.0)

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        """Wait for the end of the command and of all it started; None when `timeout_s` ran out before."""
        if self._exit is None and _readable(self._channel, timeout_s):
            self._exit = self._ended()
        return self._exit

    def terminate(self) -> None:
        """Ask for the stop and return at once: SIGTERM, and SIGKILL `grace_s` later. Safe in a signal handler."""
        self._ask(protocol.TERMINATE)

    def kill(self) -> None:
        """SIGKILL for the command and all it started, now; returns at once. Safe in a signal handler."""
        self._ask(protocol.KILL)

    def stop(self) -> Exit:
        """Terminate, wait, and return how it ended; the same again when it had ended before.

        An exception while waiting (a second Ctrl-C) kills at once and propagates.
        """
        self.terminate()
        try:
            return self._wait_for_end()
        except BaseException:
            self.kill()
            self._wait_for_end()
            raise

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        for stream in (self.stdin, self.stdout):
            if stream is not None:
                with suppress(OSError):  # unsent input of a command that is gone
                    stream.close()

    def _wait_for_end(self) -> Exit:
        ended = self.wait()
        assert ended is not None  # noqa: S101 (wait without a timeout)
        return ended

    def _ask(self, word: bytes) -> None:
        if self._exit is None:
            with suppress(OSError):  # the guard has just ended
                self._channel.send(word, socket.MSG_NOSIGNAL)
            self._guard.send_signal(signal.SIGCONT)  # in case somebody suspended the guard

    def _ended(self) -> Exit:
        """Read the guard's last report. Can be interrupted (Ctrl-C) anywhere and done again."""
        with suppress(ConnectionError):
            while piece := self._channel.recv(64):
                self._report += piece
        self._guard.wait()
        if self._report.startswith(b"ended "):
            code = int(self._report.split()[1])
            ended = Exit(code) if code >= 0 else Exit(None, -code)
        else:
            # The guard was killed, and the kernel killed the command with it; what the command started may live on.
            end_marked(self._mark, session=self.guard_pid)
            ended = Exit(None, signal.SIGKILL)
        self._at_end()
        self._channel.close()
        return ended


def start(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    grace_s: float = GRACE_S,
    pipes: bool = False,
) -> Process:
    """Start `argv` in a session of its own, its output appended to `log`, its whole environment `env`.

    argv[0] is looked up in `env`'s PATH. The command reads nothing from the terminal: its stdin is empty. With
    `pipes` its stdin and stdout are the process's `stdin` and `stdout`, and only stderr goes to `log`. `grace_s` is
    what lies between SIGTERM and SIGKILL when the command is stopped. When it has ended, secrets of `env` that it
    printed are blotted out of `log`.

    Raises UsageError (log or cwd cannot be used) and MissingError (no such program); nothing is left then.
    """
    own_mark, locks = new_mark(), held()
    mark = {MARK: ".".join([*locks.values(), own_mark])}
    order = _order(argv, {**env, **mark}, cwd, grace_s)
    channel, guards_end = socket.socketpair()
    with ExitStack() as undo:
        undo.callback(channel.close)
        with guards_end, _open_log(log) as output:
            kept = [guards_end.fileno(), *locks]
            guard = undo.enter_context(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", protocol.__file__, *map(str, (kept[0], os.getpid(), *kept[1:]))],
                    stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipes else output,
                    stderr=output,
                    env={**os.environ, **mark},
                    pass_fds=kept,
                    start_new_session=True,
                )
            )
        undo.callback(channel.close)  # again, as this makes the guard leave, which Popen then waits for
        pid = _hand_over(order, channel, argv[0], log, cwd)
        process = Process(guard, channel, pid, own_mark, partial(blot, log, known_values(env)))
        undo.pop_all()
    return process


def supervise(process: Process, *, tick: Callable[[], None], every_s: float = 0.5) -> Exit:
    """Wait for the end, calling `tick` every `every_s` and once more after the end, so that it sees everything.

    Meanwhile SIGINT, SIGTERM and SIGHUP to the launcher stop the process, and InterruptedRun, naming the signal, is
    raised after its end; a second Ctrl-C kills it at once. Signals that the launcher ignores (nohup) stay ignored. An
    exception from `tick` stops the process and propagates. Main thread only.
    """
    caught: list[int] = []

    def on_signal(number: int) -> None:
        caught.append(number)
        if caught.count(signal.SIGINT) > 1:
            process.kill()
        else:
            process.terminate()

    with signals_to(on_signal):
        try:
            while (ended := process.wait(every_s)) is None:
                tick()
            tick()
        except BaseException:
            process.stop()
            raise
    if caught:
        raise InterruptedRun(f"stopped by {signal_name(caught[0])}")
    return ended


def _order(argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, grace_s: float) -> bytes:
    for place, text in (*((f"argument {word!r}", word) for word in argv), *env.items(), ("cwd", str(cwd))):
        if "\0" in text:
            raise UsageError(Problem(place, "holds a NUL character, which no process can be given", "remove it"))
    return protocol.pack(
        [os.fsencode(word) for word in argv],
        {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
        b"" if cwd is None else os.fsencode(cwd),
        grace_s,
    )


def _open_log(log: Path) -> IO[bytes]:
    try:
        return log.open("ab", buffering=0)
    except FileNotFoundError as error:
        raise UsageError(Problem(str(log), "cannot be written: its folder does not exist", "create it")) from error
    except OSError as error:
        fix = "make it writable, or choose another place"
        raise UsageError(Problem(str(log), f"cannot be written: {error.strerror}", fix)) from error


def _hand_over(order: bytes, channel: socket.socket, program: str, log: Path, cwd: Path | None) -> int:
    """Give the guard its order; the pid of the command that it started."""
    with suppress(ConnectionError):  # a guard that died says nothing below
        channel.sendall(order, socket.MSG_NOSIGNAL)
    answer = _read_line(channel).split()
    if answer[:1] == [b"started"]:
        return int(answer[1])
    if not answer:
        raise SftKitError(Problem(str(log), "the process that guards a command ended early", "see the end of this log"))
    step, number = answer[1], int(answer[2])
    if step == b"cwd":
        raise UsageError(Problem(str(cwd), f"cannot be worked in: {os.strerror(number)}", "name another folder"))
    if number == errno.E2BIG:
        raise UsageError(Problem(program, "cannot be started: too many arguments", "move the longest into a file"))
    fix = "install it, or give its full path" if number == errno.ENOENT else "check that this is a program you may run"
    raise MissingError(Problem(program, f"cannot be started: {os.strerror(number)}", fix))


def _read_line(channel: socket.socket) -> bytes:
    """Byte by byte, so that a second report stays for the next reader. What came until then, if the guard is gone."""
    line = b""
    with suppress(ConnectionError):
        while not line.endswith(b"\n") and (byte := channel.recv(1)):
            line += byte
    return line


def _readable(channel: socket.socket, timeout_s: float | None) -> bool:
    poll = select.poll()  # select.select fails where a descriptor is above 1023
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000)))
