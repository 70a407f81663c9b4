"""However a launcher is stopped: its own exit code, a true manifest, nothing left. Suspended, it goes on later."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sft_kit.run import guard
from sft_kit.run.directory import RunDirectory
from tests.run.watching import CHILDREN, PATIENCE_S, Marked, wait_until

SLEEP = ["sleep", "60"]
STUBBORN = ["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 0.1; done"]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def a_terminals_signals() -> None:
    """A test run that was started with nohup, or behind `&`, ignores these, and so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def on_its_own_terminal() -> None:
    a_terminals_signals()
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def command(run: RunDirectory, *argv: str) -> list[str]:
    return [sys.executable, str(CHILDREN / "holder.py"), str(run.path), "0.3", *argv]


@contextlib.contextmanager
def launched(run: RunDirectory, marked: Marked, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(run, *argv),
        env=marked.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=a_terminals_signals,
    ) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


@contextlib.contextmanager
def on_a_terminal(argv: list[str], marked: Marked) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process with a terminal of its own, and what a person at that terminal holds."""
    person, line = os.openpty()
    with subprocess.Popen(
        argv, env=marked.env, stdin=line, stdout=line, stderr=line, preexec_fn=on_its_own_terminal
    ) as shown:
        os.close(line)
        try:
            yield shown, person
        finally:
            shown.kill()
            with contextlib.suppress(OSError):
                os.close(person)


def read_until(person: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += os.read(person, 1000)
    return seen


def line(launcher: subprocess.Popen[str]) -> str:
    assert launcher.stdout
    return launcher.stdout.readline().strip()


def state_of(pid: int) -> str:
    return guard.stat_fields(pid)[guard.STATE].decode()


# Stopping


@pytest.mark.parametrize(
    ("gaps_s", "argv"), [((0.0,), SLEEP), ((0.03,), SLEEP), ((0.03, 0.1, 0.3), SLEEP), ((0.03,), STUBBORN)]
)
def test_ctrl_c_again_and_again_ends_like_one(
    run: RunDirectory, marked: Marked, gaps_s: Sequence[float], argv: list[str]
) -> None:
    with launched(run, marked, argv) as launcher:
        assert line(launcher) == "held"
        assert line(launcher) != ""
        launcher.send_signal(signal.SIGINT)
        for gap_s in gaps_s:
            time.sleep(gap_s)
            launcher.send_signal(signal.SIGINT)
        _, errors = launcher.communicate(timeout=PATIENCE_S)
    assert (launcher.returncode, errors.strip(".\n")) == (130, "stopped by SIGINT")
    assert (run.read().status, run.read().message, run.locked()) == ("interrupted", "stopped by SIGINT", False)
    assert marked.living() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_stopped_while_it_starts_its_command_leaves_nothing(
    tmp_path: Path, marked: Marked, number: signal.Signals
) -> None:
    runs = [RunDirectory(tmp_path / str(n)) for n in range(4)]
    with contextlib.ExitStack() as stack:
        launchers = [stack.enter_context(launched(run, marked, SLEEP)) for run in runs]
        for n, launcher in enumerate(launchers):
            assert line(launcher) == "held"
            time.sleep(n * 0.01)
            launcher.send_signal(number)
        assert [launcher.communicate(timeout=PATIENCE_S)[1].strip(".\n") for launcher in launchers] == [
            f"stopped by {number.name}"
        ] * 4
    assert [launcher.returncode for launcher in launchers] == [130] * 4
    assert [run.read().status for run in runs] == ["interrupted"] * 4
    wait_until(lambda: marked.living() == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_right_after_the_first_does_not_break_off_what_is_written_down(
    marked: Marked, number: signal.Signals
) -> None:
    script = (
        "import os, signal, sys; from sft_kit.errors import InterruptedRun\n"
        "from sft_kit.run.signals import signals_as_interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "with signals_as_interrupts():\n"
        "    try: os.kill(os.getpid(), int(sys.argv[1]))\n"
        "    except (KeyboardInterrupt, InterruptedRun) as error:\n"
        "        os.kill(os.getpid(), int(sys.argv[1])); print('written down:', repr(error))"
    )
    command = [sys.executable, "-c", script, str(number.value)]
    ended = subprocess.run(command, env=marked.env, capture_output=True, text=True)
    error = "KeyboardInterrupt()" if number == signal.SIGINT else f"InterruptedRun('stopped by {number.name}')"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"written down: {error}\n", "")


def test_after_an_interrupt_a_late_signal_does_not_change_the_exit_code(marked: Marked) -> None:
    script = (
        "import os, signal, sys; from sft_kit.errors import InterruptedRun\n"
        "from sft_kit.run.signals import signals_as_interrupts\n"
        "try:\n"
        "    with signals_as_interrupts(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "except InterruptedRun as error: print(error)\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): os.kill(os.getpid(), number)\n"
        "sys.exit(130)"
    )
    ended = subprocess.run([sys.executable, "-c", script], env=marked.env, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "stopped by SIGTERM\n", "")


def test_a_block_that_was_not_interrupted_leaves_the_signals_as_they_were(marked: Marked) -> None:
    script = (
        "import signal; from sft_kit.run.signals import STOP_SIGNALS, signals_as_interrupts\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "before = [signal.getsignal(number) for number in STOP_SIGNALS]\n"
        "try:\n"
        "    with signals_as_interrupts():\n"
        "        print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)\n"
        "        raise ValueError\n"
        "except ValueError: print([signal.getsignal(number) for number in STOP_SIGNALS] == before)"
    )
    ended = subprocess.run([sys.executable, "-c", script], env=marked.env, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("True\nTrue\n", "")


# Suspending


@pytest.mark.parametrize("suspended", ["launcher", "command", "guard", "all"])
def test_what_was_suspended_and_continued_goes_on_to_its_end(
    run: RunDirectory, tmp_path: Path, marked: Marked, suspended: str
) -> None:
    os.mkfifo(tmp_path / "go")
    with launched(run, marked, ["sh", "-c", f"read word < '{tmp_path}/go'; exit 7"]) as launcher:
        assert line(launcher) == "held"
        pid, guard_pid = map(int, line(launcher).split())
        chosen = {"launcher": [launcher.pid], "command": [pid], "guard": [guard_pid]}.get(
            suspended, [launcher.pid, pid, guard_pid]
        )
        for each in chosen:
            os.kill(each, signal.SIGSTOP)
        wait_until(lambda: {state_of(each) for each in chosen} == {"T"})
        assert (run.locked(), run.read().status) == (True, "running")
        for each in chosen:
            os.kill(each, signal.SIGCONT)
        (tmp_path / "go").write_text("on\n")
        launcher.communicate(timeout=PATIENCE_S)
    assert (launcher.returncode, run.read().status, run.read().message) == (0, "failed", "exit code 7")
    assert marked.living() == []


def test_ctrl_z_suspends_the_launcher_while_its_command_goes_on_and_fg_brings_it_back(
    run: RunDirectory, marked: Marked
) -> None:
    with on_a_terminal(["bash", "--norc", "--noprofile", "-i"], marked) as (shell, person):
        os.write(person, (" ".join(command(run, *SLEEP)) + "\n").encode())
        said = read_until(person, b".....")
        pid, guard_pid = map(int, said.split(b"held\r\n")[1].split(b"\r\n")[0].split())
        (launcher,) = set(marked.living()) - {shell.pid, pid, guard_pid}
        os.write(person, b"\x1a")
        wait_until(lambda: state_of(launcher) == "T")
        assert (state_of(pid), run.read().status) == ("S", "running")
        read_until(person, b"Stopped")
        os.write(person, b"fg\n")
        wait_until(lambda: state_of(launcher) == "S")
        read_until(person, b".....")
        os.write(person, b"\x03")
        read_until(person, b"stopped by SIGINT")
        wait_until(lambda: not run.locked())
        os.write(person, b"echo code=$?\n")
        read_until(person, b"code=130")
        assert marked.living() == [shell.pid]
    assert run.read().status == "interrupted"


# The terminal goes away


def test_a_terminal_that_is_closed_stops_the_launcher(run: RunDirectory, marked: Marked) -> None:
    with on_a_terminal(command(run, *SLEEP), marked) as (launcher, person):
        read_until(person, b".....")
        os.close(person)
        assert launcher.wait(PATIENCE_S) == 130
    assert (run.read().status, run.read().message) == ("interrupted", "stopped by SIGHUP")
    assert marked.living() == []


def test_a_disowned_launcher_goes_on_after_its_terminal_was_closed(run: RunDirectory, marked: Marked) -> None:
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(run, "sleep", "0.7")]
    with on_a_terminal(ignoring, marked) as (launcher, person):
        read_until(person, b".....")
        os.close(person)
        assert launcher.wait(PATIENCE_S) == 0
    assert (run.read().status, run.read().message) == ("succeeded", "exit code 0")


def test_a_launcher_goes_on_when_nobody_reads_its_progress_any_more(run: RunDirectory, marked: Marked) -> None:
    with launched(run, marked, ["sleep", "0.7"]) as launcher:
        assert line(launcher) == "held"
        assert launcher.stderr
        launcher.stderr.close()  # `2>&1 | tee log`, whose tee was killed
        assert launcher.wait(PATIENCE_S) == 0
    assert run.read().status == "succeeded"


def test_results_that_nobody_reads_still_end_a_command(marked: Marked) -> None:
    script = (
        "from sft_kit.run.signals import signals_as_interrupts\n"
        "with signals_as_interrupts():\n"
        "    while True: print('a result')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], env=marked.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert line(writer) == "a result"
        assert writer.stdout
        assert writer.stderr
        writer.stdout.close()
        assert "BrokenPipeError" in writer.stderr.read()
