"""`check`: what a run would train on and everything that is wrong with it, as a table or as JSON.

Owns what is shown. Does not own what is looked for: `prepare` checks the config, `data_check` the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_kit.console import print_table, result, result_json, show_finding
from sft_kit.errors import GateError, Problem
from sft_kit.findings import Finding, in_order
from sft_kit.report.plot import sparkline
from sft_kit.run.data_check import DataFile
from sft_kit.run.mix import MIX_COLUMNS, mix_rows, mix_values
from sft_kit.run.prepare import Job, prepare
from sft_kit.run.token_counts import TokenCounts

SCHEMA_VERSION = 1
MEASURED_ROWS = 2_000
"""Rows of a file whose tokens are counted for its histogram; longer files are judged by their first rows."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `findings` are in order of severity; `ignored` are those the config says to ignore."""

    job: Job
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """How many findings have `severity`."""
        return sum(finding.severity == severity for finding in self.findings)


def check_run(path: Path, overrides: Sequence[str] = ()) -> CheckReport:
    """Check the config at `path`, and all of its data. Raises ConfigError or MissingError as `train` would."""
    job = prepare(path, overrides, ask_hub=False, measure=MEASURED_ROWS, refuse_data=False)
    of_config = [
        *(Finding("config-doubt", "warning", each.place, each.message, each.fix) for each in job.doubts),
        *(Finding("config-note", "note", each.place, each.message, each.fix) for each in job.notes),
    ]
    shown = [finding for finding in of_config if finding.code not in job.loaded.source.ignored]
    ignored = [finding for finding in of_config if finding.code in job.loaded.source.ignored]
    return CheckReport(job, tuple(in_order([*shown, *job.findings])), tuple(in_order([*ignored, *job.ignored])))


def show_check(report: CheckReport, *, as_json: bool) -> None:
    """The report on stdout."""
    if as_json:
        result_json(_values(report))
        return
    job = report.job
    print_table("what one epoch trains on", MIX_COLUMNS, mix_rows(job.mix()), numbers=range(1, 6))
    if job.data:
        print_table("local data", _FILE_COLUMNS, [_file_row(file) for file in job.data], numbers=(2, 3))
        result(_TOKENS + (_ESTIMATED if any(file.tokens and not file.tokens.exact for file in job.data) else ""))
    for finding in report.findings:
        show_finding(finding)
    counts = ", ".join(counted(report.count(severity), severity) for severity in ("error", "warning", "note"))
    ignored = f", {len(report.ignored)} ignored by the config" if report.ignored else ""
    result(counts + ignored)


def raise_if_not_met(report: CheckReport) -> None:
    """Raise GateError (exit 3) when there is an error among the findings."""
    errors = report.count("error")
    if errors:
        name = report.job.loaded.source.name
        fix = "correct them; `# sft-kit: ignore CODE` in the config lets one pass"
        raise GateError(Problem(name, f"{counted(errors, 'check')} not met", fix))


def counted(number: int, what: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


_FILE_COLUMNS = ("file", "format", "rows", "dropped", "languages", "tokens*", "spread")
_TOKENS = f"* least / median / most of the first {MEASURED_ROWS:,} rows of a file"
_ESTIMATED = "; ~ estimated: the tokenizer is not on this machine, or the template has rules of its own"


def _file_row(file: DataFile) -> tuple[str, ...]:
    tokens = file.tokens
    return (
        file.entry if file.path.is_file() and file.entry.endswith(file.path.name) else str(file.path),
        file.form,
        f"{file.read:,}",
        f"{file.read - file.kept:,}",
        _languages(file),
        _token_text(tokens),
        _spread(tokens),
    )


def _languages(file: DataFile) -> str:
    counts = file.counts.languages
    return ", ".join(f"{name} {rows / sum(counts.values()):.0%}" for name, rows in counts.items())


def _token_text(tokens: TokenCounts | None) -> str:
    if tokens is None:
        return "not counted"
    return f"{'' if tokens.exact else '~'}{tokens.least:,} / {tokens.median:,} / {tokens.most:,}"


def _spread(tokens: TokenCounts | None) -> str:
    """The histogram as blocks, with its first and last bound: `≤32 ▁▇█▂ ≤256`."""
    if tokens is None:
        return ""
    bounds = list(tokens.histogram)
    if len(bounds) == 1:
        return f"≤{bounds[0]}"
    return f"≤{bounds[0]} {sparkline(list(tokens.histogram.values()), len(bounds))} ≤{bounds[-1]}"


def _values(report: CheckReport) -> dict[str, Any]:
    job = report.job
    return {
        "schema": SCHEMA_VERSION,
        "config": job.loaded.source.name,
        "ms_swift": job.installation.version,
        "model": job.model.name,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": [asdict(finding) for finding in report.findings],
        "ignored": [asdict(finding) for finding in report.ignored],
        "mix": mix_values(job.mix()),
        "files": [_file_values(file) for file in job.data],
    }


def _file_values(file: DataFile) -> dict[str, Any]:
    return {
        "entry": file.entry,
        "key": file.key,
        "path": str(file.path),
        "format": file.form,
        "rows": file.read,
        "kept": file.kept,
        "languages": file.counts.languages,
        "tokens": asdict(file.tokens) if file.tokens else None,
    }
