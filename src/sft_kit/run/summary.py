"""What `train` and `eval` say at the end, on stdout: the proof in tables, the numbers, and the commands that come next.

Owns the order. The rows come from `report`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sft_kit.console import duration, print_lines, print_table, result
from sft_kit.report.against import COLUMNS as AGAINST_COLUMNS
from sft_kit.report.page import Report
from sft_kit.report.tables import (
    SCORE_COLUMNS,
    Score,
    answer_rows,
    headline,
    identity_scores,
    overall,
)
from sft_kit.report.words import MEASURES, gate
from sft_kit.run.eval_command import Evaluated
from sft_kit.run.train import Outcome
from sft_kit.run.watch import sign_lines

Line = tuple[str, str]


def show_outcome(outcome: Outcome) -> None:
    """What a training run came to."""
    manifest, run = outcome.manifest, outcome.run
    if outcome.report:
        show_report(outcome.report)
        result("")
    seconds = " + ".join(f"{step} {duration(value)}" for step, value in manifest.seconds.items())
    loss = f", last loss {manifest.final_loss:.4g}" if manifest.final_loss is not None else ""
    steps = "1 step" if manifest.steps == 1 else f"{manifest.steps or 0} steps"
    lines = [("trained", f"{steps}{loss} ({seconds})"), *(("sign", line) for line in sign_lines(manifest.signs))]
    checkpoint = manifest.checkpoint
    if checkpoint:
        lines.append(("checkpoint", str(run.path / checkpoint)))
    if outcome.report:
        lines.append(("report", f"{run.report()}.html (and .md, .json)"))
    lines.append(("loss plot", str(run.kit / "loss.svg")))
    if checkpoint:
        lines.append(("talk to it", f"sft-kit infer --adapter {run.path}"))
        if not outcome.report:
            lines.append(("prove it", f"sft-kit eval --adapter {run.path}"))
        lines.append(("export it", f"sft-kit export --adapter {run.path}"))
    _show_lines(lines)


def show_evaluation(found: Evaluated) -> None:
    """What `sft-kit eval` found, and the comparison with another run."""
    show_report(found.report)
    if found.comparison:
        ours, theirs = found.report.title, found.other
        short = {"ours": _short(ours), "theirs": _short(theirs)}
        names = short if short["ours"] != short["theirs"] else {"ours": ours, "theirs": theirs}
        columns = [names.get(column, column) for column in AGAINST_COLUMNS]
        cells = [difference.cells() for difference in found.comparison.differences]
        print_table(f"{ours} against {theirs}: {found.comparison.note}", columns, cells, whole=1)
    _show_lines([("report", f"{found.stem}.html (and .md, .json)")])


def show_report(report: Report) -> None:
    """Scores, some answers, what falls short and what to do about it."""
    _show_scores("scores", overall(report.evaluation))
    for grouping, scores in identity_scores(report.evaluation).items():
        _show_scores(f"new identity by {grouping}", scores)
    _show_answers(report)
    lines: list[Line] = [*headline(report), ("Is the gate met?", gate(report)[1])]
    if not report.evaluation.of("identity"):
        lines.append(("Did it take?", "Not asked: no identity is known here; give --name and --author."))
    for short in report.shortfalls:
        missed = "missed" if short.enforced else "missed, only told"
        lines.append((missed, f"{MEASURES.get(short.measure, short.measure)}: {short.got}, wanted {short.wanted}"))
    lines += [("what to change", f"{advice.do} ({advice.why})") for advice in report.advice]
    print_lines(lines)


def _show_answers(report: Report) -> None:
    """Some questions, each with both answers below it: side by side they are too narrow to be read at 80 columns."""
    rows = answer_rows(report.evaluation)
    if rows:
        more = len(report.evaluation.pairs) - len(rows)
        result("answers" + (f" ({more} more are in the report)" if more else ""))
    for question, before, after, verdict in rows:
        print_lines([("", question)], indent=2)
        nothing = "(nothing)"
        print_lines([("before", before or nothing), ("after", after or nothing), ("", verdict)], indent=4)
    if rows:
        result("")


def _short(title: str) -> str:
    """`v3` of `v3-20260101-120000`: what a run is called on the command line, and narrow enough to head a column."""
    return re.sub(r"^(v\d+)-\d{8}-\d{6}", r"\1", title)


def _show_scores(title: str, scores: Sequence[Score]) -> None:
    if scores:
        print_table(title, SCORE_COLUMNS, [score.cells() for score in scores], whole=1, numbers=(1, 2, 3, 4))


def _show_lines(lines: Sequence[Line]) -> None:
    width = max((len(what) for what, _ in lines), default=0)
    for what, value in lines:
        result(f"{what:<{width}}  {value}")
