"""The one tree of errors that sft-kit raises on purpose, each with its exit code.

Owns: what an error says (what, where, what to do) and which exit code it ends in. Does not own how it is
shown: `cli` prints it. Anything else that escapes a command is a bug in sft-kit and ends in 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from sft_kit.secrets import hide


class ExitCode(IntEnum):
    """The exit codes of every command. They are a contract with scripts: never renumber."""

    OK = 0
    BUG = 1
    USAGE = 2
    GATE = 3
    MS_SWIFT = 4
    MISSING = 5
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (`config.yaml:14:3`, a path, or ""), what, and what to do about it.

    `code` is that of a finding (`findings.CODES`) where it has one; two problems that read alike are equal. Secrets are
    hidden in it from the start, as it is shown, logged, and kept in a manifest.
    """

    place: str
    message: str
    fix: str = ""
    code: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("place", "message", "fix"):
            object.__setattr__(self, name, hide(getattr(self, name)))

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}; {self.fix}" if self.fix else text


class SftKitError(Exception):
    """Base of all expected failures. `problems` holds every one found, so that none needs a second run."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: tuple[Problem, ...] = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class UsageError(SftKitError):
    """The command line, the config or the data the user gave cannot be used as it is."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """One or more keys of a config are wrong; each problem carries file, line and column."""

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        return cls(*problems)


class GateError(SftKitError):
    """The run worked, but what it was asked to reach was not reached."""

    exit_code = ExitCode.GATE


class MsSwiftError(SftKitError):
    """ms-swift itself failed; `returncode` is its own exit code, a signal's number as its negative.

    `failure` is why, for the manifest: code, cause, fix, lines of the log, and the number of the first; {} where nobody
    looked. Its problem's fix goes on with those lines, below each other; `str` leaves them out.
    """

    exit_code = ExitCode.MS_SWIFT

    def __init__(self, *problems: Problem | str, returncode: int, failure: Mapping[str, object] | None = None) -> None:
        super().__init__(*problems)
        self.returncode = returncode
        self.failure = dict(failure or {})

    def __str__(self) -> str:
        return "\n".join(str(replace(problem, fix=_ends(problem.fix))) for problem in self.problems)


def _ends(text: str) -> str:
    """The first and the last of the lines of `text`, in one."""
    lines = text.splitlines()
    return "; ".join(line.strip() for line in (lines[:1] + lines[1:][-1:]))


class MissingError(SftKitError):
    """Something the command needs is not installed or not there: ms-swift, CUDA, a hub, disk space."""

    exit_code = ExitCode.MISSING


class InterruptedRun(SftKitError):
    """The user, or the system by SIGTERM or SIGHUP, stopped the command."""

    exit_code = ExitCode.INTERRUPTED
