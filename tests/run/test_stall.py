"""A trainer that goes silent: told once with what its process does, and again when it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_kit.run.stall import Limits, Stall, use_of
from sft_kit.run.watch import Sign

LIMITS = Limits(before_s=600, least_s=60, times=20, look_every_s=5)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text("Train:   1%|\rTrain:   2%|#  | 2/99\n", encoding="utf-8")
    return path


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def looked(stall: Stall, until_s: float, *, since_s: float = 0.0, every_s: float = 2.5) -> list[Sign]:
    """The signs of looks without anything new, from `since_s` to `until_s`."""
    signs = []
    for n in range(1, int((until_s - since_s) / every_s) + 1):
        signs += stall.look(since_s + n * every_s, step=None)
    return signs


def after_a_step(pid: int, log: Path) -> Stall:
    stall = Stall(pid, log, limits=LIMITS)
    stall.look(0.0, step=7)
    return stall


def test_a_silence_is_told_once_with_what_the_process_does(sleeper: int, log: Path) -> None:
    (sign,) = looked(after_a_step(sleeper, log), 120)
    assert sign == Sign(
        "trainer-hangs",
        "warning",
        7,
        "nothing from the trainer for 1:00 (usually 0.0 s); it is waiting, with 0 s of CPU time in the last 0:30; its "
        "last line: 'Train:   2%|#  | 2/99'",
        f"wait, or Ctrl-C and later sft-kit train --resume; py-spy dump --pid {sleeper} shows where it is",
    )


def test_the_end_of_a_silence_is_told_too(sleeper: int, log: Path) -> None:
    stall = after_a_step(sleeper, log)
    looked(stall, 70)
    assert [sign.message for sign in stall.look(70.5, step=8)] == ["the trainer goes on after 1:10 of silence"]
    assert [sign.code for sign in looked(stall, 300, since_s=70.5)] == ["trainer-hangs"]


def test_before_the_first_step_there_is_more_time(sleeper: int, log: Path) -> None:
    stall = Stall(sleeper, log, limits=LIMITS)
    assert looked(stall, 597.5) == []
    assert [sign.step for sign in looked(stall, 610, since_s=597.5)] == [0]


def test_a_slow_run_has_more_time(sleeper: int, log: Path) -> None:
    stall, now = Stall(sleeper, log, limits=LIMITS), 0.0
    for step in range(1, 30):  # a step every 40 s
        assert looked(stall, now + 40, since_s=now) == []
        now += 40
        assert stall.look(now, step=step) == []
    assert looked(stall, now + 700, since_s=now) == []
    assert len(looked(stall, now + 900, since_s=now + 700)) == 1


def test_a_long_validation_that_was_seen_before_is_no_sign(sleeper: int, log: Path) -> None:
    stall = after_a_step(sleeper, log)
    looked(stall, 50)
    assert stall.look(50, step=8) == []
    assert looked(stall, 50 + 140, since_s=50) == []


def test_output_without_a_step_is_life(sleeper: int, log: Path) -> None:
    stall = after_a_step(sleeper, log)
    for n in range(10):  # a validation: only its bar moves
        with log.open("a") as file:
            file.write(f"Val: {n}%\r")
        assert looked(stall, 40 * n + 40, since_s=40 * n) == []


def test_writing_a_checkpoint_is_life(tmp_path: Path, log: Path) -> None:
    writes = "import time\nf = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.seek(0); time.sleep(0.02)"
    with subprocess.Popen([sys.executable, "-c", writes], cwd=tmp_path) as writer:
        try:
            stall = after_a_step(writer.pid, log)
            signs = []
            for n in range(40):  # 10 s each for us, 0.05 s for the writer
                time.sleep(0.05)
                signs += stall.look(n * 10.0, step=None)
            assert signs == []
        finally:
            writer.kill()


def test_the_time_in_which_the_launcher_was_suspended_does_not_count(sleeper: int, log: Path) -> None:
    stall = after_a_step(sleeper, log)
    assert looked(stall, 20) == []
    assert stall.look(90_000.0, step=None) == []
    assert looked(stall, 90_010, since_s=90_000) == []


@pytest.mark.parametrize(
    ("program", "number", "words"),
    [
        ("import time; print(flush=True); time.sleep(600)", signal.SIGSTOP, "suspended (kill -CONT wakes it)"),
        ("print(flush=True)\nwhile True: pass", signal.SIGCONT, "computing"),
    ],
)
def test_the_state_of_the_process_is_named(program: str, number: signal.Signals, words: str, log: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(process.pid, number)
            if number == signal.SIGSTOP:
                wait_until(lambda: use_of(process.pid).states == "T")
            (sign,) = looked(after_a_step(process.pid, log), 61)
            assert f"it is {words}, with" in sign.message
        finally:
            process.kill()


def test_the_processes_that_it_started_count_too() -> None:
    program = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            wait_until(lambda: use_of(process.pid).states == "SS")
        finally:
            for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            process.kill()


def test_a_process_that_is_gone_and_a_log_that_is_none_raise_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    stall = Stall(process.pid, tmp_path / "none", limits=LIMITS)
    stall.look(0.0, step=1)
    (sign,) = looked(stall, 61)
    assert "it is gone" in sign.message and "its last line: ''" in sign.message


def wait_until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)
