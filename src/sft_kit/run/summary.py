"""What `train` and `eval` say at the end, on stdout: the proof in tables, the numbers, and the commands that come next.

Owns the order. The rows come from `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sft_kit.console import duration, print_table, result
from sft_kit.report.against import COLUMNS as AGAINST_COLUMNS
from sft_kit.report.page import Report
from sft_kit.report.tables import (
    ANSWER_COLUMNS,
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

Line = tuple[str, str]


def show_outcome(outcome: Outcome) -> None:
    """What a training run came to."""
    manifest, run = outcome.manifest, outcome.run
    if outcome.report:
        show_report(outcome.report)
    seconds = " + ".join(f"{step} {duration(value)}" for step, value in manifest.seconds.items())
    loss = f", last loss {manifest.final_loss:.4g}" if manifest.final_loss is not None else ""
    lines = [("trained", f"{manifest.steps} step(s){loss} ({seconds})")]
    checkpoint = manifest.best_checkpoint or manifest.last_checkpoint
    if checkpoint:
        lines.append(("checkpoint", str(run.path / checkpoint)))
    if outcome.report:
        lines.append(("report", f"{run.report()}.html (and .md, .json)"))
    lines.append(("loss plot", str(run.kit / "loss.svg")))
    if checkpoint:
        lines.append(("talk to it", f"sft-kit infer --adapter {run.path}"))
        if manifest.tuner_type != "full":
            lines.append(("merge it", f"sft-kit export --adapter {run.path}"))
    _show_lines(lines)


def show_evaluation(found: Evaluated) -> None:
    """What `sft-kit eval` found, and the comparison with another run."""
    show_report(found.report)
    if found.comparison:
        names = {"ours": found.report.title, "theirs": found.other}
        columns = [names.get(column, column) for column in AGAINST_COLUMNS]
        cells = [difference.cells() for difference in found.comparison.differences]
        print_table(f"{names['ours']} against {names['theirs']}: {found.comparison.note}", columns, cells, whole=1)
    _show_lines([("report", f"{found.stem}.html (and .md, .json)")])


def show_report(report: Report) -> None:
    """Scores, some answers, what falls short and what to do about it."""
    _show_scores("scores", overall(report.evaluation))
    for grouping, scores in identity_scores(report.evaluation).items():
        _show_scores(f"new identity by {grouping}", scores)
    rows = answer_rows(report.evaluation)
    if rows:
        more = len(report.evaluation.pairs) - len(rows)
        print_table("answers" + (f" ({more} more are in the report)" if more else ""), ANSWER_COLUMNS, rows)
    lines: list[Line] = [*headline(report), ("Is the gate met?", gate(report)[1])]
    for short in report.shortfalls:
        missed = "missed" if short.enforced else "told only"
        lines.append((missed, f"{MEASURES.get(short.measure, short.measure)}: {short.got}, wanted {short.wanted}"))
    lines += [("what to change", f"{advice.do} ({advice.why})") for advice in report.advice]
    _show_lines(lines)


def _show_scores(title: str, scores: Sequence[Score]) -> None:
    if scores:
        print_table(title, SCORE_COLUMNS, [score.cells() for score in scores], whole=1, numbers=(1, 2, 3, 4))


def _show_lines(lines: Sequence[Line]) -> None:
    width = max((len(what) for what, _ in lines), default=0)
    for what, value in lines:
        result(f"{what:<{width}}  {value}")
