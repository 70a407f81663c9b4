"""Real processes, real signals: what is started can be followed, and nothing of it outlives its launcher."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sft_kit.errors import InterruptedRun, MissingError, UsageError
from sft_kit.run import guard
from sft_kit.run.directory import RunDirectory
from sft_kit.run.living import is_alive, process_started
from sft_kit.run.process import Exit, Process, start, supervise
from tests.run.watching import CHILDREN, PATIENCE_S, Marked, wait_until

PYTHON = [sys.executable, "-I", "-S"]
SLEEP = ["sleep", "60"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


def stubborn(ready: Path) -> list[str]:
    return [*PYTHON, str(CHILDREN / "stubborn.py"), str(ready)]


def stubborn_is_ready(ready: Path) -> bool:
    return (ready / "child").exists() and (ready / "grandchild").exists()


@contextlib.contextmanager
def launched(
    argv: list[str], log: Path, marked: Marked, *, grace_s: float = 0.3, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A launcher in a process of its own; its first line (`PID GUARD_PID`) is still to be read."""
    command = [*before, sys.executable, str(CHILDREN / "launcher.py"), str(log), str(grace_s), *argv]
    with subprocess.Popen(command, env=marked.env, stdout=subprocess.PIPE, text=True) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


def pids_of(launcher: subprocess.Popen[str]) -> tuple[int, int]:
    assert launcher.stdout
    pid, guard_pid = launcher.stdout.readline().split()
    return int(pid), int(guard_pid)


def state_of(pid: int) -> str:
    return guard.stat_fields(pid)[guard.STATE].decode()


def children_of(pid: int) -> list[int]:
    return [child for child, fields in guard.process_table().items() if int(fields[guard.PARENT]) == pid]


# How a command ends


@pytest.mark.parametrize(("code", "ok"), [(0, True), (7, False), (255, False)])
def test_an_exit_code_is_reported(log: Path, code: int, ok: bool) -> None:
    ended = start(["sh", "-c", f"exit {code}"], log=log, env=os.environ).wait(PATIENCE_S)
    assert ended == Exit(returncode=code, signal=None)
    assert (ended.ok, ended.describe()) == (ok, f"exit code {code}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_a_signal_differs_from_an_exit_code(log: Path, number: signal.Signals) -> None:
    ended = start(["sh", "-c", f"kill -{number.value} $$"], log=log, env=os.environ).wait(PATIENCE_S)
    assert ended == Exit(returncode=None, signal=number)
    assert (ended.ok, ended.describe()) == (False, f"killed by {number.name}")


def test_poll_is_none_while_the_command_runs(log: Path) -> None:
    with start(SLEEP, log=log, env=os.environ) as process:
        assert (process.poll(), process.wait(0.05)) == (None, None)


def test_the_end_is_noticed_at_once_and_not_at_the_next_tick(log: Path) -> None:
    process = start(["sh", "-c", "sleep 0.2; date +%s.%N"], log=log, env=os.environ)
    assert supervise(process, tick=lambda: None, every_s=30.0).ok
    assert time.time() - float(log.read_text()) < 0.3


def test_left_overs_of_a_command_that_ended_are_stopped(log: Path, tmp_path: Path, marked: Marked) -> None:
    script = (
        f"setsid {' '.join(stubborn(tmp_path))} & until [ -e '{tmp_path}/grandchild' ]; do sleep 0.05; done; exit 4"
    )
    assert start(["sh", "-c", script], log=log, env=marked.env, grace_s=0.2).wait(PATIENCE_S) == Exit(4)
    assert stubborn_is_ready(tmp_path)
    assert marked.living() == []


def test_a_left_over_is_asked_to_end_before_it_is_killed(log: Path, tmp_path: Path) -> None:
    script = "(trap ': > asked; exit' TERM; : > here; while :; do :; done) & until [ -e here ]; do sleep 0.05; done"
    process = start(["sh", "-c", script], log=log, env=os.environ, cwd=tmp_path, grace_s=30.0)
    assert process.wait(PATIENCE_S) == Exit(0)
    assert (tmp_path / "asked").exists()


def test_a_left_over_that_is_about_to_end_is_given_its_grace(log: Path, tmp_path: Path) -> None:
    script = "(trap '' TERM; : > here; sleep 0.3; : > done) & until [ -e here ]; do sleep 0.05; done"
    process = start(["sh", "-c", script], log=log, env=os.environ, cwd=tmp_path, grace_s=PATIENCE_S)
    assert process.wait(PATIENCE_S) == Exit(0)
    assert (tmp_path / "done").exists()


# What a command is given


def test_stdout_and_stderr_are_appended_to_the_log(log: Path) -> None:
    log.write_text("before\n")
    start(["sh", "-c", "echo out; echo err >&2"], log=log, env=os.environ).wait(PATIENCE_S)
    assert log.read_text() == "before\nout\nerr\n"


def test_argv_arrives_verbatim(log: Path) -> None:
    words = ["", " ", "two words", "it's", '"quoted"', "line\nbreak", "$HOME", "*", "精衡", "\udcff", "--", "\\"]
    show = "import sys; print(ascii(sys.argv[1:]))"
    assert start([*PYTHON, "-c", show, *words], log=log, env=os.environ).wait(PATIENCE_S) == Exit(0)
    assert log.read_text() == ascii(words) + "\n"


def test_the_environment_is_exactly_the_one_given_and_a_mark(log: Path) -> None:
    env = {"PATH": os.environ["PATH"], "NAME": "精衡 = x\ny", "EMPTY": ""}
    assert start(["env", "-0"], log=log, env=env).wait(PATIENCE_S) == Exit(0)
    got = dict(item.split("=", 1) for item in log.read_text().split("\0")[:-1])
    assert got.pop("SFT_KIT_GUARD")
    assert got == env


def test_the_command_works_in_cwd(log: Path, tmp_path: Path) -> None:
    (tmp_path / "精 衡").mkdir()
    start(["pwd"], log=log, env=os.environ, cwd=tmp_path / "精 衡").wait(PATIENCE_S)
    assert log.read_text() == f"{tmp_path}/精 衡\n"


def test_a_program_is_looked_up_in_the_path_of_the_given_environment(log: Path, tmp_path: Path) -> None:
    (tmp_path / "only-here").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "only-here").chmod(0o755)
    start(["only-here"], log=log, env={"PATH": str(tmp_path)}).wait(PATIENCE_S)
    assert log.read_text() == "found\n"


def test_stdin_is_empty(log: Path) -> None:
    assert start(["sh", "-c", "readlink /proc/self/fd/0; cat"], log=log, env=os.environ).wait(PATIENCE_S) == Exit(0)
    assert log.read_text() == "/dev/null\n"


def test_the_command_inherits_no_other_open_file(log: Path, tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        show = "import os; print(sorted(fd for fd in map(int, os.listdir('/proc/self/fd')) if fd < 3 or open_(fd)))"
        opened = "def open_(fd):\n try: os.fstat(fd); return True\n except OSError: return False"
        start([*PYTHON, "-c", f"import os\n{opened}\n{show}"], log=log, env=os.environ).wait(PATIENCE_S)
    assert log.read_text() == "[0, 1, 2]\n"


def test_the_command_has_the_default_signal_handling(log: Path) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        start(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], log=log, env=os.environ).wait(PATIENCE_S)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, previous)
    assert log.read_text() == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"


def test_the_command_is_out_of_reach_of_the_terminals_ctrl_c(log: Path) -> None:
    with start(SLEEP, log=log, env=os.environ) as process:
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.guard_pid != os.getsid(0)


# What cannot be started


def test_a_missing_program_is_named(log: Path, marked: Marked) -> None:
    with pytest.raises(MissingError) as caught:
        start(["no-such-program"], log=log, env=marked.env)
    assert str(caught.value) == (
        "no-such-program: cannot be started: No such file or directory; install it, or give its full path"
    )
    assert marked.living() == []


def test_a_file_that_is_no_program_is_named(log: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(MissingError, match=r"notes\.txt: cannot be started: Permission denied; check that"):
        start([str(tmp_path / "notes.txt")], log=log, env=os.environ)


def test_a_cwd_that_is_not_there_is_named(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        start(SLEEP, log=log, env=os.environ, cwd=tmp_path / "gone")
    assert str(caught.value) == f"{tmp_path}/gone: cannot be worked in: No such file or directory; name another folder"


def test_a_log_in_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone/train\.log: cannot be written: its folder does not exist; create it"):
        start(SLEEP, log=tmp_path / "gone" / "train.log", env=os.environ)


def test_a_log_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written: Is a directory; make it writable, or choose another"):
        start(SLEEP, log=tmp_path, env=os.environ)


def test_a_nul_in_an_argument_is_a_usage_error(log: Path) -> None:
    with pytest.raises(UsageError, match=r"argument 'a\\x00b': holds a NUL character"):
        start(["echo", "a\0b"], log=log, env=os.environ)


def test_arguments_too_long_for_the_system_are_a_usage_error(log: Path) -> None:
    with pytest.raises(UsageError, match="echo: cannot be started: too many arguments"):
        start(["echo", "x" * 3_000_000], log=log, env=os.environ)


def test_failed_starts_leave_no_open_file_behind(log: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for pipes in (False, True):
        with pytest.raises(MissingError):
            start(["no-such-program"], log=log, env=os.environ, pipes=pipes)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_twenty_commands_later_as_many_files_are_open_as_before(log: Path, tmp_path: Path) -> None:
    (tmp_path / "sft-kit").mkdir()
    before = os.listdir("/proc/self/fd")
    for number in range(20):
        with RunDirectory(tmp_path).lock(), start(["true"], log=log, env=os.environ, pipes=number % 2 == 0) as process:
            process.wait(PATIENCE_S)
    assert os.listdir("/proc/self/fd") == before


# Stopping it


def test_stop_ends_a_willing_command_long_before_the_grace_is_over(log: Path) -> None:
    process = start(SLEEP, log=log, env=os.environ, grace_s=30.0)
    began = time.monotonic()
    assert process.stop() == Exit(None, signal.SIGTERM)
    assert time.monotonic() - began < 2.0


def test_a_command_may_end_in_its_own_way_when_stopped(log: Path) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do :; done"
    process = start(["sh", "-c", script], log=log, env=os.environ, grace_s=PATIENCE_S)
    wait_until(lambda: "ready" in log.read_text())
    assert process.stop() == Exit(3)
    assert log.read_text() == "ready\nbye\n"


def test_stop_can_be_repeated_and_comes_too_late_for_a_command_that_ended(log: Path) -> None:
    process = start(["sh", "-c", "exit 7"], log=log, env=os.environ)
    process.wait(PATIENCE_S)
    assert [process.stop(), process.stop(), process.poll(), process.wait()] == [Exit(7)] * 4


def test_stop_kills_what_ignores_every_signal_and_moved_to_another_session(
    log: Path, tmp_path: Path, marked: Marked
) -> None:
    process = start(stubborn(tmp_path), log=log, env=marked.env, grace_s=0.3)
    wait_until(lambda: stubborn_is_ready(tmp_path))
    assert len(marked.living()) == 2
    assert process.stop() == Exit(None, signal.SIGKILL)
    assert marked.living() == []


def test_a_suspended_command_still_gets_its_graceful_end(log: Path) -> None:
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = start(["sh", "-c", script], log=log, env=os.environ, grace_s=PATIENCE_S)
    wait_until(lambda: "ready" in log.read_text())
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(process.pid) == "T")
    assert process.stop() == Exit(3)


def test_a_suspended_guard_still_stops_its_command(log: Path, marked: Marked) -> None:
    process = start(SLEEP, log=log, env=marked.env)
    os.kill(process.guard_pid, signal.SIGSTOP)
    assert process.stop() == Exit(None, signal.SIGTERM)
    assert marked.living() == []


def test_a_with_block_that_fails_stops_the_command(log: Path, marked: Marked) -> None:
    with pytest.raises(ZeroDivisionError), start(SLEEP, log=log, env=marked.env):
        assert len(marked.living()) == 1
        raise ZeroDivisionError
    assert marked.living() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_stops_the_command(log: Path, number: signal.Signals) -> None:
    process = start(SLEEP, log=log, env=os.environ)
    os.kill(process.guard_pid, number)
    assert process.wait(PATIENCE_S) == Exit(None, signal.SIGTERM)


def test_kill_9_of_the_guard_leaves_nothing(log: Path, tmp_path: Path, marked: Marked) -> None:
    process = start(stubborn(tmp_path), log=log, env=marked.env)
    wait_until(lambda: stubborn_is_ready(tmp_path))
    assert len(marked.living()) == 2
    os.kill(process.guard_pid, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == Exit(None, signal.SIGKILL)
    assert marked.living() == []


def test_a_process_that_nobody_holds_any_more_is_stopped(log: Path, marked: Marked) -> None:
    process = start(SLEEP, log=log, env=marked.env)
    assert len(marked.living()) == 1
    with pytest.warns(ResourceWarning, match="is still running"):
        del process
    wait_until(lambda: marked.living() == [])


# The launcher's own death


@pytest.mark.parametrize("suspended", [False, True])
def test_kill_9_of_the_launcher_leaves_nothing_after_the_grace(
    log: Path, tmp_path: Path, marked: Marked, suspended: bool
) -> None:
    with launched(stubborn(tmp_path), log, marked, grace_s=1.0) as launcher:
        pid, _ = pids_of(launcher)
        wait_until(lambda: stubborn_is_ready(tmp_path))
        if suspended:
            os.kill(pid, signal.SIGSTOP)
        assert len(marked.living()) == 4  # launcher, guard, child, grandchild
        launcher.kill()
        launcher.wait()
        took_s = wait_until(lambda: marked.living() == [], within_s=5.0)
    assert took_s > 0.8


def test_kill_9_of_a_launcher_that_had_forked_is_noticed_too(log: Path, marked: Marked) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from sft_kit.run.process import start\n"
        "process = start(['sleep', '60'], log=Path(sys.argv[1]), env=os.environ, grace_s=0.3)\n"
        "if os.fork() == 0: time.sleep(20); os._exit(0)\n"  # holds a copy of all that the launcher has open
        "print(process.pid, flush=True); time.sleep(20)"
    )
    command = [sys.executable, "-c", script, str(log)]
    with subprocess.Popen(command, env=marked.env, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        pid = int(launcher.stdout.readline())
        started = process_started(pid)
        assert started
        launcher.kill()
        wait_until(lambda: not is_alive(pid, started), within_s=5.0)
        wait_until(lambda: len(marked.living()) == 1)  # only the fork, which is not the command's
        for left in marked.living():
            os.kill(left, signal.SIGKILL)


def test_the_command_dies_with_its_guard_even_while_the_launcher_cannot_act(log: Path, marked: Marked) -> None:
    with launched(SLEEP, log, marked) as launcher:
        pid, guard_pid = pids_of(launcher)
        started = process_started(pid)
        assert started
        launcher.send_signal(signal.SIGSTOP)
        os.kill(guard_pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid, started))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_stops_the_command_and_is_named(
    log: Path, tmp_path: Path, marked: Marked, number: signal.Signals
) -> None:
    with launched(stubborn(tmp_path), log, marked) as launcher:
        pids_of(launcher)
        wait_until(lambda: stubborn_is_ready(tmp_path))
        launcher.send_signal(number)
        output, _ = launcher.communicate(timeout=PATIENCE_S)
    assert (output, launcher.returncode) == (f"stopped by {number.name}\n", 130)
    assert marked.living() == []


def test_a_second_ctrl_c_kills_at_once(log: Path, tmp_path: Path, marked: Marked) -> None:
    with launched(stubborn(tmp_path), log, marked, grace_s=30.0) as launcher:
        pids_of(launcher)
        wait_until(lambda: stubborn_is_ready(tmp_path))
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert len(marked.living()) == 4
        launcher.send_signal(signal.SIGINT)
        output, _ = launcher.communicate(timeout=PATIENCE_S)
    assert (output, launcher.returncode) == ("stopped by SIGINT\n", 130)
    assert marked.living() == []


def test_a_hangup_that_nohup_ignores_does_not_stop_the_command(log: Path, marked: Marked) -> None:
    with launched(["sleep", "0.5"], log, marked, before=["nohup"]) as launcher:
        pids_of(launcher)
        launcher.send_signal(signal.SIGHUP)
        output, _ = launcher.communicate(timeout=PATIENCE_S)
    assert (output, launcher.returncode) == ("ended exit code 0\n", 0)


# Supervising


def test_ticks_come_regularly_and_once_more_after_the_end(log: Path) -> None:
    seen: list[Exit | None] = []
    process = start(["sleep", "0.5"], log=log, env=os.environ)
    supervise(process, tick=lambda: seen.append(process.poll()), every_s=0.1)
    assert seen[-1] == Exit(0)
    assert 2 <= len(seen) <= 7


def test_a_tick_that_fails_stops_the_command(log: Path, marked: Marked) -> None:
    def tick() -> None:
        raise ZeroDivisionError

    process = start(SLEEP, log=log, env=marked.env)
    with pytest.raises(ZeroDivisionError):
        supervise(process, tick=tick, every_s=0.01)
    assert process.poll() == Exit(None, signal.SIGTERM)
    assert marked.living() == []


def test_a_tick_that_hangs_does_not_delay_the_stop(log: Path) -> None:
    process = start(SLEEP, log=log, env=os.environ)

    def tick() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert process.wait(PATIENCE_S) == Exit(None, signal.SIGTERM)

    with pytest.raises(InterruptedRun, match="stopped by SIGTERM"):
        supervise(process, tick=tick, every_s=0.01)


def test_signal_handlers_are_restored(log: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    process = start(SLEEP, log=log, env=os.environ)
    with pytest.raises(InterruptedRun):
        supervise(process, tick=lambda: os.kill(os.getpid(), signal.SIGTERM), every_s=0.01)
    assert [signal.getsignal(number) for number in numbers] == before


def test_waiting_uses_no_cpu_and_no_memory(log: Path) -> None:
    def used() -> float:
        own = resource.getrusage(resource.RUSAGE_SELF)
        return own.ru_utime + own.ru_stime

    process = start(["sleep", "1.5"], log=log, env=os.environ)
    before, peak_kib = used(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    time.sleep(0.1)
    guard_before = guard.stat_fields(process.guard_pid)[11:13]
    supervise(process, tick=lambda: None, every_s=0.1)
    assert used() - before < 0.05
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 1024
    assert [int(ticks) for ticks in guard_before] <= [3, 3]  # hundredths of a second, its whole start included


def test_the_guard_stays_small(log: Path) -> None:
    with start(SLEEP, log=log, env=os.environ) as process:
        status = Path(f"/proc/{process.guard_pid}/status").read_text()
        resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 12 * 1024


def test_the_guard_reaps_orphans_and_the_launcher_keeps_no_zombie(log: Path) -> None:
    process = start(["sh", "-c", "for i in 1 2 3; do (true & ) ; done; echo ready; sleep 60"], log=log, env=os.environ)
    wait_until(lambda: "ready" in log.read_text())
    wait_until(lambda: children_of(process.guard_pid) == [process.pid])
    process.stop()
    assert not [pid for pid in children_of(os.getpid()) if state_of(pid) == "Z"]


# A command that is talked to


def asked(process: Process, line: str) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write(line + "\n")
    return process.stdout.readline()


ECHO = """
import sys
for line in sys.stdin.buffer:
    print(".", file=sys.stderr)
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
"""


@pytest.mark.parametrize("line", ["hello", "", "精衡" * 500_000, "half\rhalf\x1b[0m\u2028"])
def test_pipes_carry_lines_of_any_size_both_ways_and_stderr_goes_to_the_log(log: Path, line: str) -> None:
    with start([*PYTHON, "-c", ECHO], log=log, env=os.environ, pipes=True) as process:
        for _ in range(3):
            answers: list[str] = []
            reader = threading.Thread(target=lambda got=answers: got.append(asked(process, line)), daemon=True)
            reader.start()
            reader.join(PATIENCE_S)
            assert answers == [line + "\n"]
    assert log.read_text() == ".\n" * 3


def test_closing_the_input_ends_a_command_that_is_talked_to(log: Path) -> None:
    process = start(["cat"], log=log, env=os.environ, pipes=True)
    assert process.stdin
    assert process.stdout
    process.stdin.write("last words\n")
    process.stdin.close()
    assert process.stdout.read() == "last words\n"
    assert process.wait(PATIENCE_S) == Exit(0)


def test_a_command_that_is_talked_to_and_will_not_go_is_killed(log: Path, tmp_path: Path, marked: Marked) -> None:
    with start(stubborn(tmp_path), log=log, env=marked.env, pipes=True, grace_s=0.2):
        wait_until(lambda: stubborn_is_ready(tmp_path))
        assert len(marked.living()) == 2
    assert marked.living() == []


def test_a_command_that_is_talked_to_dies_with_its_launcher(log: Path, marked: Marked) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from sft_kit.run.process import start\n"
        "command = ['sh', '-c', 'trap \"\" TERM; echo ready; while :; do sleep 1; done']\n"
        "process = start(command, log=Path(sys.argv[1]), env=os.environ, grace_s=0.3, pipes=True)\n"
        "print(process.stdout.readline().strip(), flush=True); time.sleep(20)"
    )
    command = [sys.executable, "-c", script, str(log)]
    with subprocess.Popen(command, env=marked.env, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        assert launcher.stdout.readline() == "ready\n"
        assert len(marked.living()) >= 3
        launcher.kill()
        launcher.wait()
        wait_until(lambda: marked.living() == [], within_s=5.0)
