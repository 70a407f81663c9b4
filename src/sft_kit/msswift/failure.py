"""Finds, in what ms-swift printed, the line that says why it failed, and whether that was for want of memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 200_000
_EXCEPTION = re.compile(
    r"^(?:\[rank\d+\]:\s*)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)(?::.*)?)$"
)
_ARGPARSE = re.compile(r"^(?:\S+\.py|\S*python\S* -m \S+): error: (.*)$")
# what torchrun and the warnings module print after or beside the cause
_NO_CAUSE = re.compile(r"\w*Warning\b|(?:[\w.]+\.)?ChildFailedError\b")
_HINTS = (
    (
        re.compile(r"CUDA out of memory|OutOfMemoryError"),
        "the GPU is full: lower max_length or per_device_train_batch_size, or set gradient_checkpointing: true",
    ),
    (
        re.compile(r"DefaultCPUAllocator|MemoryError|Errno 12"),
        "memory is full: lower max_length or per_device_train_batch_size, or set gradient_checkpointing: true",
    ),
    (re.compile(r"Your setup doesn't support bf16"), "no GPU with bf16 here: set torch_dtype: float32 on a CPU"),
    (re.compile(r"No space left on device"), "the disk is full: lower save_total_limit or give another output_dir"),
    (
        re.compile(r"Multiple possible types found|explicitly pass the `model_type`"),
        "several model types fit: set model_type",
    ),
    (re.compile(r"remaining_argv"), "an argument that this ms-swift does not know"),
)
# One line each, from its beginning: a row of the data that ms-swift prints may hold the same words.
# torch: c10/cuda/CUDACachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp; numpy, pyarrow and Python end in MemoryError.
_NO_MEMORY = re.compile(
    r"^(?:\[rank\d+\]:\s*)?((?:torch\.)?(?:cuda\.)?OutOfMemoryError\b.*"
    r"|RuntimeError: .*(?:out of memory|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator: (?:can't|not enough)).*"
    r"|(?:[a-z_]\w*\.)*\w*MemoryError\b.*|OSError: \[Errno 12\].*"
    r"|terminate called after throwing an instance of 'std::bad_alloc')$",
    re.MULTILINE,
)
_KILLED_RANK = re.compile(r"Signal 9 \(SIGKILL\) received by PID")  # torchrun, of one of its processes
# ms-swift's progress bar, or the frames of transformers' Trainer: the model was loaded, the steps had begun
_TRAINING = re.compile(r"^Train: |\bin (?:_inner_training_loop|training_step)$", re.MULTILINE)
# ... and the validation between them or a checkpoint's writing was at work, by the frames or the last progress bar
_BETWEEN_STEPS = re.compile(r"\bin _maybe_log_save_evaluate$", re.MULTILINE)
_BAR = re.compile(r"^(Train|Val):\s+(\d+)%", re.MULTILINE)


@dataclass(frozen=True)
class Ending:
    """What the end of a log tells about memory.

    `no_memory` is the line that says that there was none left ("" if none does), `killed` whether torchrun says that
    the system killed one of its processes, `training` whether a training step was at work: while the model is loaded,
    in validation and in saving a smaller batch is no help.
    """

    no_memory: str
    killed: bool
    training: bool


def ending(log: Path, since: int = 0) -> Ending:
    """What `log` says from byte `since` on; of a long one the first and the last 200 kB are read."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            text = file.read(_TAIL_BYTES)
            here = file.tell()
            file.seek(0, 2)
            file.seek(max(here, file.tell() - _TAIL_BYTES))
            text += file.read()
    except OSError:
        return Ending("", killed=False, training=False)
    lines = text.decode("utf-8", "replace").replace("\r", "\n")
    found = _NO_MEMORY.search(lines)
    return Ending(found[1][:500] if found else "", bool(_KILLED_RANK.search(lines)), training=_in_a_step(lines))


def _in_a_step(lines: str) -> bool:
    if not _TRAINING.search(lines) or _BETWEEN_STEPS.search(lines):
        return False
    bars = _BAR.findall(lines)
    return not bars or bars[-1][0] == "Train" or bars[-1][1] == "100"


def last_error(log: Path) -> str:
    """The last exception or argument error in `log`, with a hint where the cause is a common one; "" if none.

    Reads the last 200 kB only. Unreadable bytes are replaced, a missing log is empty.
    """
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for index in range(len(lines) - 1, -1, -1):
        match = _EXCEPTION.match(lines[index].strip()) or _ARGPARSE.match(lines[index].strip())
        if match and not _NO_CAUSE.match(match[1]):
            message = " ".join(lines[index : index + 10])  # some messages go on in the next lines
            hint = next((text for pattern, text in _HINTS if pattern.search(message)), "")
            return f"{match[1][:500]} ({hint})" if hint else match[1][:500]
    return ""
