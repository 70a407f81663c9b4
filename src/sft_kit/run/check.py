"""`check`: everything about a run that can be known before it starts, and what is wrong with it, as a table or as JSON.

Owns what is shown and the exit code. Does not own what is looked for: `prepare` and the modules that it asks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_kit.console import print_table, result, result_json, result_words, show_finding
from sft_kit.errors import ConfigError, GateError, MissingError, Problem, UsageError
from sft_kit.findings import Finding, Severity, in_order
from sft_kit.report.plot import sparkline
from sft_kit.run.data_check import DataFile
from sft_kit.run.mix import MIX_COLUMNS, mix_rows, mix_values
from sft_kit.run.prepare import Examination, examine
from sft_kit.run.run_plan import RunPlan
from sft_kit.run.token_counts import MEASURED_ROWS, TokenCounts

SCHEMA_VERSION = 1
_SHOWN: tuple[Severity, ...] = ("note", "warning", "error")


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `findings` are in order of severity; `ignored` are those the config says to ignore;
    `examination` is None for a file that cannot be read as a config."""

    name: str
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]
    examination: Examination | None
    wrong: int
    """Errors of the config (exit 2), `missing` those of what is beside it (exit 5); the rest are errors of the data."""
    missing: int
    passable: frozenset[str] = frozenset()
    """Codes of the errors, where the config may ignore them all."""

    def count(self, severity: Severity) -> int:
        """How many findings have `severity`."""
        return sum(finding.severity == severity for finding in self.findings)


def check_run(path: Path, overrides: Sequence[str] = ()) -> CheckReport:
    """Check the config at `path`, and all of its data. Raises MissingError without ms-swift."""
    try:
        examination = examine(path, overrides, ask_hub=False)
    except ConfigError as error:  # not a config at all
        findings = tuple(_findings(error.problems, "error", "not-a-config"))
        return CheckReport(str(path), findings, (), None, len(findings), 0)
    found, skip = examination.found, examination.found.loaded.source.ignored
    wrong = [*_findings(found.problems, "error", "config-error"), *examination.rules]
    missing = [*_findings(found.missing, "error", "config-error"), *examination.machine]
    advice = [
        *_findings(found.doubts, "warning", "config-doubt"),
        *_findings(found.notes, "note", "config-note"),
    ]
    shown = [finding for finding in advice if finding.code not in skip]
    ignored = [finding for finding in advice if finding.code in skip]
    passable = {finding.code for finding in _passable(examination) if finding.severity == "error"}
    held = any(each.severity == "error" and each.code not in passable for each in (*wrong, *missing, *examination.data))
    return CheckReport(
        found.loaded.source.name,
        tuple(in_order([*wrong, *missing, *shown, *examination.data])),
        tuple(in_order([*ignored, *examination.ignored])),
        examination,
        _errors(wrong),
        _errors(missing),
        frozenset() if held else frozenset(passable),
    )


def _passable(examination: Examination) -> Iterator[Finding]:
    """What `# sft-kit: ignore` lets pass: no wrong key or value, and nothing that leaves a file without rows."""
    yield from (*examination.rules, *examination.machine)
    empty = {finding for file in examination.files if not file.kept for finding in file.findings}
    yield from (finding for finding in examination.data if finding not in empty)


def _findings(problems: Iterable[Problem], severity: Severity, code: str) -> Iterator[Finding]:
    for problem in problems:
        yield Finding(problem.code or code, severity, problem.place, problem.message, problem.fix)


def _errors(findings: Iterable[Finding]) -> int:
    return sum(finding.severity == "error" for finding in findings)


def show_check(report: CheckReport, *, as_json: bool) -> None:
    """The report on stdout: as text with the errors last, where a terminal has not scrolled them away."""
    if as_json:
        result_json(_values(report))
        return
    if report.examination:
        _show_run(report.examination)
    for severity in _SHOWN:
        for finding in report.findings:
            if finding.severity == severity:
                show_finding(finding)
    counts = ", ".join(counted(report.count(severity), severity) for severity in reversed(_SHOWN))
    ignored = f", {len(report.ignored)} ignored by the config" if report.ignored else ""
    result(counts + ignored)


def _show_run(examination: Examination) -> None:
    if examination.sources:
        print_table("what one epoch trains on", MIX_COLUMNS, mix_rows(examination.sources), numbers=range(1, 6))
    if examination.files:
        print_table("local data", _FILE_COLUMNS, [_file_row(file) for file in examination.files], numbers=(2, 3))
        estimated = any(file.tokens and not file.tokens.exact for file in examination.files)
        if any(file.tokens for file in examination.files):
            result_words(_TOKENS + (_ESTIMATED if estimated else ""))
    for line in examination.plan.lines:
        result_words(line)


def raise_if_not_met(report: CheckReport) -> None:
    """Raise for errors among the findings: UsageError (exit 2) for those of the config, MissingError (5) when only
    something beside it is missing, GateError (3) for those of the data alone."""
    errors = report.count("error")
    if not errors:
        return
    codes = sorted(report.passable)
    fix = "correct it" if errors == 1 else "correct them"
    if codes:
        fix += f"; `# sft-kit: ignore {', '.join(codes)}` in the config lets {'it' if errors == 1 else 'them'} pass"
    problem = Problem(report.name, f"{counted(errors, 'check')} not met", fix)
    if report.wrong:
        raise UsageError(problem)
    raise MissingError(problem) if report.missing else GateError(problem)


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
    values = {
        "schema": SCHEMA_VERSION,
        "config": report.name,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": [asdict(finding) for finding in report.findings],
        "ignored": [asdict(finding) for finding in report.ignored],
    }
    if report.examination is None:
        return values
    examination = report.examination
    return values | {
        "ms_swift": examination.facts.installation.version,
        "model": examination.facts.config.model,
        "mix": mix_values(examination.sources),
        "files": [_file_values(file) for file in examination.files],
        "plan": _plan_values(examination.plan),
    }


def _plan_values(plan: RunPlan) -> dict[str, Any]:
    memory = plan.memory
    return {
        "batch": asdict(plan.batch),
        "budget_gib": plan.budget_gib,
        "memory": None
        if memory is None
        else {
            "needed_gib": round(memory.needed_gib, 2),
            "expected_gib": round(memory.expected_gib, 2),
            "terms_gib": {name: round(size / 2**30, 3) for name, size in memory.terms.items()},
        },
        "lines": list(plan.lines),
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
        "tokens": _token_values(file.tokens) if file.tokens else None,
    }


def _token_values(tokens: TokenCounts) -> dict[str, Any]:
    return {name: value for name, value in asdict(tokens).items() if name != "lengths"}
