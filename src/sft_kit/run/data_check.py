"""What the user's local data would train: each file read as ms-swift reads it, counted, measured and judged.

Owns the order of reading and what the results of the readers add up to. Does not own the rules: `msswift.datasets`
knows what ms-swift drops, `data.lint` what is not fit to train on, `msswift.lengths` how many tokens a row has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sft_kit.console import RowView, working
from sft_kit.data.answers import GOOD_ROWS
from sft_kit.data.lint import FileCounts, Lint
from sft_kit.data.text import fold
from sft_kit.findings import Finding, Severity
from sft_kit.identity.claims import claimed_identity
from sft_kit.identity.generate import IdentityData
from sft_kit.msswift.datasets import Conversation, Reading, files_below, files_of, folder_findings, reading_of
from sft_kit.msswift.install import Installation
from sft_kit.run.token_counts import LINES_SHOWN, Measure, Meter, TokenCounts, at_line

_LONGEST_QUESTION = 80  # characters; no held-out question is longer
_DATA_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".txt", ".tsv", ".parquet", ".xlsx"})
_NOT_ROWS = frozenset({"config.json", "dataset_info.json", "dataset_infos.json"})
_LARGE = 20_000_000  # bytes, a second or two of reading


@dataclass(frozen=True)
class DataFile:
    """One local file as the run will use it. `read` rows are in it, `kept` are those that ms-swift trains on."""

    entry: str  # as the config writes it
    key: str  # dataset or val_dataset
    index: int
    path: Path
    form: str
    read: int
    kept: int
    counts: FileCounts
    tokens: TokenCounts | None
    findings: tuple[Finding, ...]
    lost: frozenset[str]  # codes of the findings that cost rows


@dataclass(frozen=True)
class Judge:
    """What a file is judged by, the same for all files of a run."""

    installation: Installation
    measure: Measure
    own_names: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    held_out: frozenset[str] = frozenset()  # folded questions that no row may ask


def check_entry(judge: Judge, entry: str, key: str, index: int, path: Path) -> list[DataFile]:
    """The files that `entry` (a file or a folder at `path`) stands for, each read to its end."""
    generation, columns = judge.installation.generation, judge.columns

    def first_pass(file: Path) -> Reading:
        is_large = file.is_file() and file.stat().st_size > _LARGE
        with working(f"reading {file}") if is_large else nullcontext():
            return reading_of(_shown(file), generation, columns, of_folder=path.is_dir())

    if not path.is_dir():
        before = _state(path)
        file = _check_file(judge, entry, key, index, first_pass(path))
        if _state(path) != before:
            fix = "let the program that writes it end first"
            changed = Finding("unreadable-file", "error", str(_shown(path)), "changed while it was read", fix)
            file = replace(file, findings=(changed, *file.findings))
        return [file]
    readings = [first_pass(file) for file in files_of(path)]
    files = [_check_file(judge, entry, key, index, reading) for reading in readings]
    if sum(file.counts.rows for file in files) >= GOOD_ROWS:  # the parts of one data set may be small
        enough = [tuple(finding for finding in file.findings if finding.code != "few-rows") for file in files]
        files = [replace(file, findings=findings) for file, findings in zip(files, enough, strict=True)]
    of_folder = (*folder_findings(_shown(path), readings), *_left_out(_shown(path), [r.path for r in readings]))
    if not files:
        return [DataFile(entry, key, index, path, "folder", 0, 0, FileCounts(), None, of_folder, frozenset())]
    return [replace(files[0], findings=(*of_folder, *files[0].findings)), *files[1:]]


def _left_out(folder: Path, read: Sequence[Path]) -> Iterator[Finding]:
    """Data files of a folder that ms-swift passes over: another kind than the most frequent, or another split."""
    there = (path for path in files_below(folder) if path.suffix.lower() in _DATA_SUFFIXES)
    if left := sorted(str(path.relative_to(folder)) for path in set(there) - set(read) if path.name not in _NOT_ROWS):
        shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        message = f"ms-swift reads the files of one kind and of the split train; it leaves out {shown}"
        yield Finding("left-out-files", "warning", str(folder), message, "name them one by one in dataset")


def check_identity(judge: Judge, identity: IdentityData, *, own_templates: bool) -> DataFile:
    """The generated rows, as if they lay in a file; those of a user's own templates are judged too, of the shipped ones
    only the languages are counted (tests hold them to every rule)."""
    claims = partial(claimed_identity, own=judge.own_names) if own_templates else None
    lint = Lint("identity", own_names=judge.own_names, other_identity=claims)
    meter = Meter(judge.measure)
    for number, each in enumerate(identity.rows, 1):
        messages = tuple((message.role, message.content) for message in each.row.messages)
        lint.add(number, messages)
        meter.add(number, messages)
    rows = len(identity.rows)
    findings = [*(_placed(lint.findings()) if own_templates else ()), *meter.findings("identity")]
    kept = rows - (meter.over if meter.deletes else 0)
    return DataFile("identity", "identity", 0, Path("identity"), "generated", rows, kept, lint.counts, meter.counts(),
                    tuple(findings), frozenset({"over-max-length"} if kept < rows else ()))  # fmt: skip


def _placed(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each at the first of its lines."""
    return [replace(f, place=at_line(f.place, f.lines)) if f.lines else f for f in findings]


def _check_file(judge: Judge, entry: str, key: str, index: int, reading: Reading) -> DataFile:
    path, place = reading.path, str(reading.path)
    lint = Lint(place, own_names=judge.own_names, other_identity=partial(claimed_identity, own=judge.own_names))
    meter = Meter(judge.measure)
    dropped: dict[str, _Rows] = {}
    changed: dict[str, _Rows] = {}
    asked = _Rows()
    with RowView(place, reading.records) as view:
        for number, row in enumerate(() if reading.fatal else reading.rows()):
            view.done(number)
            if row.messages is None:
                dropped.setdefault(row.dropped, _Rows(row.reason)).add(row.line)
                continue
            if row.note:
                changed.setdefault(row.note, _Rows(row.reason)).add(row.line)
            lint.add(row.line, row.messages)
            meter.add(row.line, row.messages)
            if judge.held_out and _asks(row.messages, judge.held_out):
                asked.add(row.line)
    findings = [*reading.fatal, *_dropped_findings(place, dropped, reading.records, strict=judge.strict)]
    judged = _placed(lint.findings()) if lint.counts.rows else []
    judged = [_graver(finding, lint.counts.rows) for finding in judged if finding.code not in _OF_TALK[reading.kind]]
    known = {finding.code for finding in judged}
    findings += [finding for finding in _changed_findings(place, changed) if finding.code not in known]
    findings += [*judged, *meter.findings(place), *reading.notes]
    if asked.rows:
        message = f"{asked.rows} rows ask what the evaluation asks; the identity is then not proven on unseen questions"
        fix = "remove them, or prove it with questions of your own"
        findings.append(asked.finding("held-out-in-data", "warning", place, message, fix))
    deleted = meter.over if meter.deletes else 0
    kept = 0 if reading.fatal else lint.counts.rows - deleted
    return DataFile(
        entry, key, index, path, reading.kind, reading.records, kept, lint.counts, meter.counts(),
        tuple(findings), frozenset(dropped) | ({"over-max-length"} if deleted else set()),
    )  # fmt: skip


_OF_TALK: Mapping[str, frozenset[str]] = defaultdict(
    frozenset, {"text": frozenset({"no-question", "contradictory-answers"})}
)
"""By kind of file, what is said of conversations only: the lines of a .txt have no questions."""


def _asks(messages: Conversation, held_out: frozenset[str]) -> bool:
    questions = (content for role, content in messages if role == "user" and len(content) <= _LONGEST_QUESTION)
    return any(fold(question) in held_out for question in questions)


def _graver(finding: Finding, rows: int) -> Finding:
    """A row without an answer is a slip; a file of nothing else is the wrong file, or the wrong column."""
    if finding.code == "nothing-trained" and finding.rows == rows:
        fix = "is the column of the answers named output, response or answer?"
        return replace(finding, severity="error", fix=fix)
    return finding


@dataclass
class _Rows:
    """Rows of one fate: why, how many, and the lines of the first few."""

    reason: str = ""
    rows: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.rows += 1
        if len(self.lines) < LINES_SHOWN:
            self.lines.append(line)

    def finding(self, code: str, severity: Severity, place: str, message: str, fix: str) -> Finding:
        return Finding(code, severity, at_line(place, self.lines), message, fix, self.rows, tuple(self.lines))


def _dropped_findings(place: str, dropped: Mapping[str, _Rows], read: int, *, strict: bool) -> Iterator[Finding]:
    lost = sum(each.rows for each in dropped.values())
    for code, each in dropped.items():
        doing = "ms-swift stops at the first one (strict: true)" if strict else "ms-swift leaves them out"
        message = f"{each.rows} of {read} rows: {each.reason}; {doing}"
        severity: Severity = "error" if strict or lost == read else "warning"
        fix = "correct the rows, or remove them"
        yield each.finding(code, severity, place, message, fix)


def _changed_findings(place: str, changed: Mapping[str, _Rows]) -> Iterator[Finding]:
    for code, each in changed.items():
        severity: Severity = "error" if code == "nothing-trained" else "warning"
        fix = "write the rows as they are meant"
        yield each.finding(code, severity, place, f"{each.rows} rows: {each.reason}", fix)


def _shown(path: Path) -> Path:
    """`path` as short as it can be given from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns
