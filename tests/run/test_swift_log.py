"""How it is told that ms-swift ended for want of memory: by its own words, or by the kernel's."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sft_kit.run.process import Exit
from sft_kit.run.swift_log import Shortage, oom_kills, shortage_of, swift_failed

BEGUN = "\rTrain:   0%|          | 0/1 [00:00<?, ?it/s]Traceback (most recent call last):\n"
FAILED = Exit(1)
KILLED = Exit(None, signal.SIGKILL)


def told(folder: Path, text: str) -> Path:
    log = folder / "train.log"
    log.write_text(text, encoding="utf-8")
    return log


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:129] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 4194304 bytes. Error code 12 (Cannot allocate memory)",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 2.00 GiB for an array",
        "MemoryError",
        "OSError: [Errno 12] Cannot allocate memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_the_words_for_no_memory_are_known(line: str, tmp_path: Path) -> None:
    message = line.removeprefix("[rank1]: ")
    assert shortage_of(FAILED, told(tmp_path, f"{BEGUN}{line}\n")) == Shortage(message, training=True)


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: bad\n",
        "{'content': 'CUDA out of memory is what torch.OutOfMemoryError: means'}\n",
        "[INFO:swift] MemoryError: is in a row\n",
        "[INFO:swift] [INPUT] <|im_start|>user\ntorch.OutOfMemoryError: CUDA out of memory.\n[INFO:swift] model: x\n",
        "",
    ],
)
def test_other_words_are_not(text: str, tmp_path: Path) -> None:
    assert shortage_of(FAILED, told(tmp_path, BEGUN + text)) is None


def test_memory_that_ran_out_while_loading_is_not_the_batch_s_fault(tmp_path: Path) -> None:
    log = told(tmp_path, "Traceback (most recent call last):\nMemoryError\n")
    assert shortage_of(FAILED, log) == Shortage("MemoryError", training=False)


@pytest.mark.parametrize(
    ("text", "in_a_step"),
    [
        ('  File "trainer.py", line 1, in _maybe_log_save_evaluate\nMemoryError\n', False),  # evaluating or saving
        ("\rTrain:  50%|#| 1/2\rVal:  20%|#| 1/5\nMemoryError\n", False),
        ("\rTrain:  50%|#| 1/2\rVal: 100%|#| 5/5\nMemoryError\n", True),
        ("\rVal: 100%|#| 5/5\rTrain: 100%|#| 2/2\nMemoryError\n", True),
    ],
)
def test_memory_that_ran_out_between_the_steps_is_not_the_batch_s_fault(
    text: str, in_a_step: bool, tmp_path: Path
) -> None:
    assert shortage_of(FAILED, told(tmp_path, BEGUN + text)) == Shortage("MemoryError", training=in_a_step)


def test_what_an_earlier_start_said_is_past(tmp_path: Path) -> None:
    log = told(tmp_path, f"{BEGUN}MemoryError\n")
    since = log.stat().st_size
    with log.open("a", encoding="utf-8") as file:
        file.write("ValueError: bad\n")
    assert shortage_of(FAILED, log, since=since) is None


def test_a_run_that_ended_well_had_memory_enough(tmp_path: Path) -> None:
    assert shortage_of(Exit(0), told(tmp_path, f"{BEGUN}MemoryError\n")) is None


def test_a_killed_process_is_the_kernel_s_doing_only_if_the_kernel_says_so(tmp_path: Path) -> None:
    log, now = told(tmp_path, BEGUN), oom_kills()
    assert now is not None
    assert shortage_of(KILLED, log, kills_before=now) is None
    assert shortage_of(KILLED, log, kills_before=now - 1) == Shortage("killed by the kernel: memory was full", True)
    probably = Shortage("killed by the system, probably because memory was full", True)
    assert shortage_of(KILLED, log, kills_before=None) == probably


def test_a_rank_that_the_kernel_killed_is_told_by_torchrun(tmp_path: Path) -> None:
    log, now = told(tmp_path, f"{BEGUN}  traceback : Signal 9 (SIGKILL) received by PID 77\n"), oom_kills()
    assert now is not None
    assert shortage_of(FAILED, log, kills_before=now - 1) == Shortage("killed by the kernel: memory was full", True)


def test_the_error_says_what_would_need_less(tmp_path: Path) -> None:
    log = told(tmp_path, BEGUN)
    error = swift_failed(KILLED, log, Shortage("killed by the kernel: memory was full", True))
    assert error.failure["code"] == "out-of-memory"
    assert str(error) == (
        f"ms-swift killed by SIGKILL: killed by the kernel: memory was full; {error.failure['fix']}; "
        f"its whole output: {log}"
    )
    assert "lower max_length or per_device_train_batch_size" in str(error.failure["fix"])
    assert error.returncode == -9


def test_the_log_s_own_words_for_no_memory_are_shown(tmp_path: Path) -> None:
    log = told(tmp_path, f"{BEGUN}MemoryError\n")
    error = swift_failed(FAILED, log, shortage_of(FAILED, log))
    assert (error.failure["code"], error.failure["lines"], error.returncode) == ("out-of-memory", ["MemoryError"], 1)


def test_only_what_this_start_said_is_its_failure(tmp_path: Path) -> None:
    log = told(tmp_path, f"{BEGUN}  File \"a.py\", line 1, in f\nKeyError: 'earlier'\n")
    error = swift_failed(FAILED, log, since=log.stat().st_size)
    assert error.failure["cause"] == "it printed no error"
