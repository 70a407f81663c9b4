"""`sft-kit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML config; its flat keys are ms-swift's own argument names.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable, dots for sections."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact command and write nothing.")] = False,
    no_eval: Annotated[bool, typer.Option("--no-eval", help="Leave out the before/after evaluation.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on in spite of warnings without asking.")] = False,
) -> None:
    """Check a config, build its data, train, and prove the result."""
    from sft_kit.console import ask_to_go_on
    from sft_kit.run.prepare import prepare

    job = prepare(config, overrides or [], ask_hub=not dry_run, evaluate=not no_eval)
    if dry_run:
        from sft_kit.run.dry_run import show_dry_run

        show_dry_run(job)
        return
    ask_to_go_on(job.notes, job.doubts, yes=yes)
    from sft_kit.run.reporting import raise_if_missed
    from sft_kit.run.summary import show_outcome
    from sft_kit.run.train import train as run_training

    outcome = run_training(job, prove=not no_eval)
    show_outcome(outcome)
    if outcome.report:
        raise_if_missed(outcome.report)
