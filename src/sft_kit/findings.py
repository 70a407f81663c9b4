"""One thing that a check found: a stable code, how bad it is, where, what, and what to do about it.

Owns the value and its order. Codes are words with hyphens (`empty-answer`), never renamed and never reused: configs
name them in `# sft-kit: ignore CODE`, and scripts read them from `--json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sft_kit.errors import Problem

Severity = Literal["error", "warning", "note"]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """An error means that training would fail or train on something wrong; a warning that it may; a note informs.

    `place` is a file (`data/mine.jsonl`, with `:line` where one line is meant) or a place in the config; `rows` is how
    many rows are concerned (0: not about rows) and `lines` the first few of their line numbers, counted from 1.
    """

    code: str
    severity: Severity
    place: str
    message: str
    fix: str = ""
    rows: int = 0
    lines: tuple[int, ...] = ()

    def problem(self) -> Problem:
        """The finding as an error or a warning shows it; the code comes last, for `# sft-kit: ignore`."""
        return Problem(self.place, f"{self.message} [{self.code}]", self.fix)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; each as they were found."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
