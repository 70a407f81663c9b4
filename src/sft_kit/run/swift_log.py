"""What ms-swift printed: where it goes for a short call, and how it becomes an error when ms-swift fails."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sft_kit.errors import MsSwiftError, Problem
from sft_kit.msswift.failure import last_error
from sft_kit.run.process import Exit


@contextmanager
def temporary_log(verb: str) -> Iterator[Path]:
    """A log for one call of `verb`; it stays only when ms-swift fails, since the error names it."""
    folder = Path(tempfile.mkdtemp(prefix=f"sft-kit-{verb}-"))
    try:
        yield folder / f"{verb}.log"
    except MsSwiftError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def swift_failed(exit_: Exit, log: Path) -> MsSwiftError:
    """The error for an ms-swift that did not end well: its cause quoted from `log`, a signal as its negative."""
    cause = last_error(log) or "it printed no error"
    code = exit_.returncode if exit_.signal is None else -exit_.signal
    problem = Problem("", f"ms-swift {exit_.describe()}: {cause}", f"its whole output: {log}")
    return MsSwiftError(problem, returncode=code or 0)
