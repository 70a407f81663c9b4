"""Finds, in what ms-swift printed, the line that says why it failed."""

from __future__ import annotations

import re
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
    (re.compile(r"Your setup doesn't support bf16"), "no GPU with bf16 here: set torch_dtype: float32 on a CPU"),
    (re.compile(r"No space left on device"), "the disk is full: lower save_total_limit or give another output_dir"),
    (
        re.compile(r"Multiple possible types found|explicitly pass the `model_type`"),
        "several model types fit: set model_type",
    ),
    (re.compile(r"remaining_argv"), "an argument that this ms-swift does not know"),
)


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
