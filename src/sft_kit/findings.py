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
CODES = frozenset({
    # A file that ms-swift cannot read, or reads in another way than it is written (msswift.datasets).
    "all-dates", "broken-csv", "broken-json", "column-twice", "different-columns", "empty-file", "ignored-columns",
    "late-types", "mixed-types", "no-files", "not-an-object", "not-checked", "not-text", "not-utf8",
    "number-too-big", "unknown-columns", "unknown-extension", "unreadable-file",
    # A row that ms-swift drops or changes (msswift.preprocess).
    "bad-history", "broken-tool-call", "empty-conversation", "first-of-list", "joined-turns", "no-answer",
    "no-content", "no-question", "not-a-conversation", "nothing-trained", "over-max-length", "rejected-answer",
    "unanswered-end", "unknown-role", "wrong-order",
    # A row that is not fit to train on (data.codes), or a file whose answers are too much alike (data.answers).
    "answer-repeats-question", "broken-think", "card-number", "contradictory-answers", "control-character",
    "cut-answers", "doubtful-placeholder", "duplicate-rows", "empty-answer", "empty-question", "empty-think",
    "few-distinct-answers", "few-rows", "html-entity", "id-number", "invisible-character", "mail-address",
    "many-denials", "many-refusals", "mojibake", "near-duplicates", "other-identity", "other-language-answer",
    "phone-number", "prompt-in-text", "replacement-character", "secret", "special-token", "think-in-answer",
    "unfilled-placeholder", "uniform-openings",
    # The mix, and the config's own ignore comments (run.mix, run.prepare).
    "config-doubt", "config-note", "held-out-in-data", "left-out-files", "many-repeats", "plain-text", "repeated-rows",
    "share-exceeded", "small-identity-share", "unknown-check",
})  # fmt: skip
"""Every code that a finding can have."""
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
