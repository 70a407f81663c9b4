"""One launcher at a time holds a run, for as long as anything of it lives, with real launchers and real kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.living import process_started
from tests.run.watching import CHILDREN, PATIENCE_S, Marked, wait_until

WILLING = ["sleep", "60"]
RANKS = {"agent", "rank0", "rank0-worker", "rank1", "rank1-worker"}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.kit.mkdir(parents=True)
    return run


@contextlib.contextmanager
def holder(
    run: RunDirectory, marked: Marked, argv: Sequence[str] = (), *, grace_s: float = 0.5, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *before, str(CHILDREN / "holder.py"), str(run.path), str(grace_s), *argv]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=marked.env, stdout=pipe, stderr=pipe, text=True) as launcher:
        try:
            yield launcher
        finally:
            launcher.kill()


def line(launcher: subprocess.Popen[str]) -> str:
    assert launcher.stdout
    return launcher.stdout.readline().strip()


def pids(launcher: subprocess.Popen[str]) -> tuple[int, int]:
    assert line(launcher) == "held"
    pid, guard_pid = line(launcher).split()
    return int(pid), int(guard_pid)


def refused(launcher: subprocess.Popen[str]) -> str:
    """What a launcher that is kept out says."""
    output, errors = launcher.communicate(timeout=PATIENCE_S)
    assert (launcher.returncode, output) == (2, "")
    return re.sub(r"since \S+ \S+\)", "since then)", errors)


def ranks(ready: Path) -> list[str]:
    ready.mkdir()
    return [sys.executable, "-I", "-S", str(CHILDREN / "ranks.py"), str(ready)]


def all_ready(ready: Path) -> bool:
    return {path.name for path in ready.iterdir()} == RANKS


# As long as anything of it lives


def test_the_lock_outlives_a_killed_launcher_until_its_command_is_gone(
    run: RunDirectory, tmp_path: Path, marked: Marked, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(run, marked, ranks(tmp_path / "ready"), grace_s=1.0) as first:
        pids(first)
        wait_until(lambda: all_ready(tmp_path / "ready"))
        first.kill()
        first.wait()
        assert (run.locked(), run.read().status) == (True, "running")
        with run.lock():
            assert marked.living() == []
        assert f"the launcher of this run (pid {first.pid} since" in capsys.readouterr().err
    assert (run.locked(), run.read().status) == (False, "interrupted")


def test_a_command_does_not_keep_the_lock_itself(run: RunDirectory, tmp_path: Path, marked: Marked) -> None:
    listed = ["sh", "-c", f"ls -l /proc/self/fd > '{tmp_path}/open'"]
    with holder(run, marked, listed) as launcher:
        launcher.communicate(timeout=PATIENCE_S)
    assert "/dev/null" in (tmp_path / "open").read_text()
    assert "sft-kit/lock" not in (tmp_path / "open").read_text()


def test_a_guard_that_was_suspended_still_ends_its_command_in_the_gentle_way(
    run: RunDirectory, tmp_path: Path, marked: Marked
) -> None:
    gentle = ["sh", "-c", f"trap ': > {tmp_path}/asked; exit' TERM; : > {tmp_path}/ready; while :; do sleep 0.05; done"]
    with holder(run, marked, gentle, grace_s=PATIENCE_S) as first:
        pid, guard_pid = pids(first)
        wait_until((tmp_path / "ready").exists)
        os.kill(guard_pid, signal.SIGSTOP)
        first.kill()
        first.wait()
        assert (run.locked(), run.read().status, Path(f"/proc/{pid}").exists()) == (True, "running", True)
        with run.lock():
            assert marked.living() == []
    assert (tmp_path / "asked").exists()


def test_a_fork_of_the_launcher_does_not_keep_the_lock(run: RunDirectory, marked: Marked) -> None:
    script = (
        "import multiprocessing, sys, time; from pathlib import Path; from sft_kit.run.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock():\n"
        "    multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)).start()\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    with subprocess.Popen(command, env=marked.env, stdout=subprocess.PIPE, text=True) as launcher:
        assert line(launcher) == "held"
        launcher.kill()
        launcher.wait()
        assert len(marked.living()) == 1
        assert not run.locked()
        for left in marked.living():
            os.kill(left, signal.SIGKILL)


# What is left behind


@pytest.mark.parametrize(
    ("killed", "left"),
    [
        (["agent"], set()),
        (["guard"], set()),
        (["launcher"], set()),
        (["guard", "launcher"], {"rank0", "rank0-worker", "rank1", "rank1-worker"}),
        (["launcher", "guard", "agent"], {"rank0", "rank0-worker", "rank1", "rank1-worker"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "nothing",
)
def test_whatever_is_killed_the_next_holder_finds_nothing_of_it_alive(
    run: RunDirectory,
    tmp_path: Path,
    marked: Marked,
    killed: list[str],
    left: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with holder(run, marked, ranks(tmp_path / "ready"), grace_s=0.2) as first:
        pid, guard_pid = pids(first)
        wait_until(lambda: all_ready(tmp_path / "ready"))
        for name in killed:
            os.kill({"agent": pid, "guard": guard_pid, "launcher": first.pid}[name], signal.SIGKILL)
        first.wait(PATIENCE_S)
        wait_until(lambda: len(marked.living()) == len(left))
        wait_until(lambda: not run.locked())
        with run.lock():
            assert marked.living() == []
        said = "ending what an earlier start of this run left behind: pid "
        assert (said in capsys.readouterr().err) == bool(left)


def test_a_stranger_with_the_pid_of_a_holder_before_the_restart_is_left_alone(
    run: RunDirectory, marked: Marked
) -> None:
    with run.lock():
        record = json.loads((run.kit / "lock").read_text())
    run.write(Manifest(status="running", created="2026-01-01T00:00:00+00:00", config="c.yaml", pid=os.getppid()))
    with subprocess.Popen(WILLING, env=marked.env) as stranger:
        boot = "00000000-0000-0000-0000-000000000000"
        record |= {"pid": stranger.pid, "started": f"{boot}:{process_started(stranger.pid).split(':')[1]}"}  # type: ignore[union-attr]
        (run.kit / "lock").write_text(json.dumps(record) + "\n")
        assert (run.locked(), run.read().status, run.read().pid) == (False, "interrupted", None)
        with run.lock():
            assert stranger.poll() is None
        stranger.kill()


def test_the_copy_of_a_run_whose_launcher_was_killed_ends_nothing_of_the_original(
    run: RunDirectory, tmp_path: Path, marked: Marked
) -> None:
    with holder(run, marked, ranks(tmp_path / "ready"), grace_s=PATIENCE_S) as first:
        pids(first)
        wait_until(lambda: all_ready(tmp_path / "ready"))
        first.kill()
        first.wait()
        before = marked.living()
        shutil.copytree(run.path, tmp_path / "copy")
        with RunDirectory(tmp_path / "copy").lock():
            assert marked.living() == before
        assert len(before) == 6


@pytest.mark.parametrize("record", ["", "\n", "{", "[]", "{}", '{"pid": "x"}', "\0" * 5000, "[" * 4000])
def test_a_lock_file_that_says_nothing_sensible_is_taken_all_the_same(run: RunDirectory, record: str) -> None:
    (run.kit / "lock").write_text(record)
    with run.lock():
        assert json.loads((run.kit / "lock").read_text())["pid"] == os.getpid()


# Two at once


def test_of_launchers_that_resume_a_run_at_once_one_has_it_and_the_others_name_it(
    run: RunDirectory, marked: Marked
) -> None:
    with contextlib.ExitStack() as stack:
        launchers = [stack.enter_context(holder(run, marked)) for _ in range(3)]
        wait_until(lambda: sum(launcher.poll() == 2 for launcher in launchers) == 2)
        (winner,) = [launcher for launcher in launchers if launcher.poll() is None]
        assert line(winner) == "held"
        said = {refused(launcher) for launcher in launchers if launcher is not winner}
        assert said == {
            f"{run.path}: another sft-kit is using this run directory (pid {winner.pid} since then); "
            "wait for it, or stop it; a new run needs another output_dir\n"
        }


def test_a_run_passes_from_hand_to_hand_without_ever_being_in_two(run: RunDirectory) -> None:
    script = (
        "import os, sys, time; from pathlib import Path\n"
        "from sft_kit.errors import UsageError; from sft_kit.run.directory import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1])); got = 0; until = time.monotonic() + 1\n"
        "while time.monotonic() < until:\n"
        "    try:\n"
        "        with run.lock():\n"
        "            os.close(os.open(run.path / 'inside', os.O_CREAT | os.O_EXCL)); os.unlink(run.path / 'inside')\n"
        "            got += 1\n"
        "    except UsageError: pass\n"
        "print(got)"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    rivals = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = [int(rival.communicate(timeout=30)[0]) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0, 0]
    assert sum(counts) >= 3


# File systems without locks

WITHOUT_LOCKS = """
import ctypes, os, runpy, sys

class Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]

class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]

# the kernel itself answers every flock(2) with ENOLCK: load the call's number, compare, return the error or allow
flock = {"x86_64": 73, "aarch64": 32}[os.uname().machine]
steps = (Filter * 4)((0x20, 0, 0, 0), (0x15, 0, 1, flock), (0x06, 0, 0, 0x50000 | 37), (0x06, 0, 0, 0x7FFF0000))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(4, steps)), 0, 0) == 0
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


LOCKLESS = ["-c", WITHOUT_LOCKS]


def test_where_the_file_system_has_no_locks_what_the_file_says_keeps_a_second_launcher_out(
    run: RunDirectory, marked: Marked
) -> None:
    with holder(run, marked, WILLING, before=LOCKLESS) as first:
        pids(first)
        assert not run.locked()  # this process could have a lock; that one has none
        with holder(run, marked, WILLING, before=LOCKLESS) as second:
            assert refused(second) == (
                f"{run.path}: another sft-kit is using this run directory (pid {first.pid} since then); "
                "wait for it, or stop it; a new run needs another output_dir\n"
            )
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=PATIENCE_S)
        assert first.returncode == 130
    assert (run.kit / "lock").read_text() == ""


def test_where_the_file_system_has_no_locks_a_killed_launcher_still_holds_until_its_command_is_gone(
    run: RunDirectory, tmp_path: Path, marked: Marked
) -> None:
    with holder(run, marked, ranks(tmp_path / "ready"), grace_s=1.0, before=LOCKLESS) as first:
        pids(first)
        wait_until(lambda: all_ready(tmp_path / "ready"))
        first.kill()
        first.wait()
        with holder(run, marked, WILLING, before=LOCKLESS) as second:
            pid, guard_pid = pids(second)
            assert sorted(marked.living()) == sorted([second.pid, guard_pid, pid])
