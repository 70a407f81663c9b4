"""A file error that no command expects ends in words and an exit code, not in a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sft_kit.cli import _file_error
from sft_kit.errors import ExitCode


@pytest.mark.parametrize(
    ("number", "said", "code"),
    [
        (errno.ENOSPC, "cannot be written: the disk is full (", ExitCode.MISSING),
        (errno.EDQUOT, "cannot be written: the disk quota is used up; make room", ExitCode.MISSING),
        (errno.EIO, "its disk does not answer", ExitCode.MISSING),
        (errno.EACCES, "Permission denied", ExitCode.USAGE),
    ],
)
def test_what_the_system_says_has_a_cause_and_an_exit_code(
    number: int, said: str, code: ExitCode, tmp_path: Path
) -> None:
    shown = _file_error(OSError(number, os.strerror(number), str(tmp_path / "x")))
    assert str(shown).startswith(f"{tmp_path / 'x'}: {said}")
    assert shown.exit_code == code
