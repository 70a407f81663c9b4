"""The one line of a log that says why ms-swift failed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sft_kit.msswift.failure import last_error

TRACEBACK = """\
[INFO:swift] Loading the model using model_dir: /models/x
Train:  50%|█████     | 1/2 [00:03<00:03,  3.02s/it]\rTrain: 100%|██████████| 2/2 [00:06<00:00,  3.01s/it]
Traceback (most recent call last):
  File "/env/lib/python3.11/site-packages/swift/cli/sft.py", line 20, in <module>
    sft_main()
  File "/env/lib/python3.11/site-packages/swift/pipelines/train/sft.py", line 9, in __init__
    raise ValueError(f'remaining_argv: {remaining_argv}')
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


def said(log: Path, text: str) -> str:
    log.write_text(text, encoding="utf-8")
    return last_error(log)


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        (
            "ValueError: remaining_argv: ['--lora_rankk', '8']\n",
            "ValueError: remaining_argv: ['--lora_rankk', '8'] (an argument that this ms-swift does not know)",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. (the GPU is full: "
            "lower max_length or per_device_train_batch_size, or set gradient_checkpointing: true)",
        ),
        (
            "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu to train on CPU.\n",
            "ValueError: Your setup doesn't support bf16/gpu. You need to assign use_cpu to train on CPU."
            " (no GPU with bf16 here: set torch_dtype: float32 on a CPU)",
        ),
        (
            "OSError: [Errno 28] No space left on device: 'output/v0'\n",
            "OSError: [Errno 28] No space left on device: 'output/v0' "
            "(the disk is full: lower save_total_limit or give another output_dir)",
        ),
        # 4.x puts it on one line, 3.12 tells what fits further down
        (
            "ValueError: Please explicitly pass the `model_type`. Multiple possible types found: ['a', 'b'].\n",
            "ValueError: Please explicitly pass the `model_type`. Multiple possible types found: ['a', 'b']."
            " (several model types fit: set model_type)",
        ),
        (
            "ValueError: Failed to automatically match the type.\nMultiple possible types found: ['a', 'b'].\n",
            "ValueError: Failed to automatically match the type. (several model types fit: set model_type)",
        ),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("[rank1]: RuntimeError: NCCL error\n", "RuntimeError: NCCL error"),
        (
            "huggingface_hub.errors.RepositoryNotFoundError: 404\n",
            "huggingface_hub.errors.RepositoryNotFoundError: 404",
        ),
        ("KeyError: 'messages'\n[INFO:swift] last_model_checkpoint: None\n", "KeyError: 'messages'"),
        ("KeyError: 'a'\nUserWarning: resource_tracker: leaked\n", "KeyError: 'a'"),
        (f"ValueError: {'x' * 900}\n", f"ValueError: {'x' * 488}"),
    ],
)
def test_the_last_exception_is_found_with_a_hint_for_common_ones(log: Path, tail: str, error: str) -> None:
    assert said(log, TRACEBACK + tail) == error


@pytest.mark.parametrize("program", ["sft.py", "/env/swift/cli/sft.py", "python3 -m swift.cli.sft"])
def test_a_refused_argument_is_found(log: Path, program: str) -> None:
    usage = f"usage: {program} [-h] [--model MODEL]\n" + "         [--x X]\n" * 300
    message = "argument --torch_dtype: invalid choice: 'bf16' (choose from 'bfloat16', 'float16')"
    assert said(log, f"{usage}{program}: error: {message}\n") == message


def test_what_torchrun_says_afterwards_does_not_hide_the_cause(log: Path) -> None:
    text = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "/env/swift/cli/sft.py", line 20, in <module>
[rank0]: ValueError: the cause
E0101 00:00:00.000000 1 torch/distributed/elastic/multiprocessing/api.py:882] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/env/torch/distributed/run.py", line 5, in main
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
/env/swift/cli/sft.py FAILED
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
"""
    assert said(log, text) == "ValueError: the cause"


def test_of_two_exceptions_the_later_is_the_one(log: Path) -> None:
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    assert said(log, f"{TRACEBACK}KeyError: 1\n{during}{TRACEBACK}RuntimeError: 2\n") == "RuntimeError: 2"


@pytest.mark.parametrize(
    "text",
    ["", "[INFO:swift] all is well\n", "/env/a.py:3: UserWarning: old\n", "FutureWarning: soon\n", "Error rate: 5\n"],
)
def test_a_log_without_an_error_says_nothing(log: Path, text: str) -> None:
    assert said(log, text) == ""


def test_a_missing_log_says_nothing(tmp_path: Path) -> None:
    assert last_error(tmp_path / "gone.log") == last_error(tmp_path) == ""


def test_only_the_end_of_a_huge_log_is_read(log: Path) -> None:
    log.write_bytes(b"ValueError: early\n" + b"Train: 1%\r" * 5_000_000 + b"\nValueError: late\n")
    began = time.monotonic()
    assert last_error(log) == "ValueError: late"
    assert time.monotonic() - began < 1
    log.write_bytes(b"ValueError: early\n" + b"x" * 300_000)
    assert last_error(log) == ""


def test_unreadable_bytes_around_the_error_do_no_harm(log: Path) -> None:
    log.write_bytes(bytes(range(256)) * 20 + "\nValueError: 模型\n".encode() + b"\xff\xfe\x00\n")
    assert last_error(log) == "ValueError: 模型"
