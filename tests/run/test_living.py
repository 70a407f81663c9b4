"""Which process is which."""

from __future__ import annotations

import os
import subprocess
import sys

from sft_kit.run import guard
from sft_kit.run.living import MARK, end_marked, is_alive, marked, new_mark, process_started
from tests.run.watching import wait_until


def test_a_process_is_alive_from_its_start_to_its_end() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        started = process_started(child.pid)
        assert started
        assert is_alive(child.pid, started)
        child.kill()
    assert not is_alive(child.pid, started)


def test_a_reused_pid_is_not_the_same_process() -> None:
    started = process_started(os.getpid())
    assert started
    boot, ticks = started.split(":")
    assert is_alive(os.getpid(), started)
    assert not is_alive(os.getpid(), f"{boot}:{int(ticks) - 1}")
    assert not is_alive(os.getpid(), f"another-boot:{ticks}")
    assert not is_alive(os.getpid(), "")


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        started = process_started(child.pid)
        assert started
        assert is_alive(child.pid, started)
        child.kill()
        wait_until(lambda: guard.stat_fields(child.pid)[guard.STATE] == b"Z")
        assert not is_alive(child.pid, started)
        assert process_started(child.pid) is None


def test_only_what_carries_the_mark_is_ended() -> None:
    ours, other = new_mark(), new_mark()
    values = [f"{other}.{ours}", ours, other, f"{ours}0", ""]
    children = [subprocess.Popen(["sleep", "60"], env={MARK: value, "OTHER": f"{MARK}={ours}"}) for value in values]
    try:
        wait_until(lambda: len(marked(ours)) == 2)
        assert marked(ours) == [child.pid for child in children[:2]]
        assert end_marked(ours) == []
        assert [child.poll() for child in children] == [-9, -9, None, None, None]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_process_whose_first_thread_has_ended_still_lives() -> None:
    script = (
        "import ctypes, os, threading, time; threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)"  # exit(2): of one thread
    )
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        started = process_started(child.pid)
        assert started
        wait_until(lambda: guard.stat_fields(child.pid)[guard.STATE] == b"Z")
        assert is_alive(child.pid, started)
        child.kill()
        wait_until(lambda: not is_alive(child.pid, started))
