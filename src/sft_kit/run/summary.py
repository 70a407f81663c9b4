"""What `train` says at the end: the proof as a table, the numbers, and the commands that come next."""

from __future__ import annotations

from sft_kit.config.schema import EvalSection
from sft_kit.console import duration, print_table, result
from sft_kit.errors import GateError
from sft_kit.evaluate.compare import Evaluation
from sft_kit.report.before_after import COLUMNS, headline, table_rows
from sft_kit.run.train import Outcome

_SHOWN = {"identity": 12, "general": 6}  # rows of the terminal's table; the report has all


def show_outcome(outcome: Outcome) -> None:
    """Results on stdout."""
    manifest, run = outcome.manifest, outcome.run
    if outcome.evaluation:
        _show_evaluation(outcome.evaluation)
    seconds = " + ".join(f"{step} {duration(value)}" for step, value in manifest.seconds.items())
    loss = f", last loss {manifest.final_loss:.4g}" if manifest.final_loss is not None else ""
    lines = [("trained", f"{manifest.steps} step(s){loss} ({seconds})")]
    checkpoint = manifest.best_checkpoint or manifest.last_checkpoint
    if checkpoint:
        lines.append(("checkpoint", str(run.path / checkpoint)))
    if outcome.evaluation:
        lines.append(("report", str(run.kit / "report.md")))
    lines.append(("loss plot", str(run.kit / "loss.svg")))
    if checkpoint:
        lines.append(("talk to it", f"sft-kit infer --adapter {run.path}"))
        if manifest.tuner_type != "full":
            lines.append(("merge it", f"sft-kit export --adapter {run.path}"))
    _show_lines(lines)


def check_gate(outcome: Outcome, section: EvalSection) -> None:
    """Raise GateError (exit 3) when the evaluation misses a threshold of the config."""
    if outcome.evaluation:
        problems = outcome.evaluation.gate(identity=section.identity, leakage=section.leakage)
        if problems:
            raise GateError(*problems)


def _show_evaluation(evaluation: Evaluation) -> None:
    for kind, title in (("identity", "held-out identity questions"), ("general", "general questions")):
        pairs = evaluation.of(kind)
        if pairs:
            shown = pairs[: _SHOWN[kind]]
            more = f" ({len(shown)} of {len(pairs)}; all are in the report)" if len(shown) < len(pairs) else ""
            print_table(f"{title}{more}", COLUMNS, table_rows(shown))
    _show_lines(headline(evaluation))


def _show_lines(lines: list[tuple[str, str]]) -> None:
    width = max(len(what) for what, _ in lines)
    for what, value in lines:
        result(f"{what:<{width}}  {value}")
