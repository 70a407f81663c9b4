"""`sft-kit train`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sft_kit.cli.options import TrustRemoteCode

if TYPE_CHECKING:
    from sft_kit.run.train import Outcome

_CONFIG = (".yaml", ".yml")


class ResumeMayStandAlone(TyperCommand):
    """`--resume` without a run means the latest one; Typer knows no option whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `latest` behind a `--resume` that is followed by nothing, by an option or by a config."""
        filled = []
        for word, following in itertools.pairwise([*args, "--"]):
            filled.append(word)
            if word == "--resume" and (following.startswith("-") or following.endswith(_CONFIG)):
                filled.append("latest")
        return super().parse_args(ctx, filled)


def train(
    config: Annotated[
        Path | None, typer.Argument(help="YAML config; its flat keys are ms-swift's own argument names.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable, dots for sections."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact command and write nothing.")] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="[RUN]", help="Go on with a run (directory, name, v3; without one the latest)."),
    ] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="With --resume: although config, data or packages have changed.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    no_eval: Annotated[bool, typer.Option("--no-eval", help="Leave out the before/after evaluation.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on in spite of warnings without asking.")] = False,
) -> None:
    """Check a config, build its data, train, and prove the result."""
    from sft_kit.errors import Problem, UsageError

    if resume is not None:
        outcome = _resume(resume, config, overrides or [], dry_run, accept_changes, trust_remote_code, no_eval, yes)
    elif config is None:
        fix = "give one (`sft-kit init` writes it), or --resume to go on with the latest run"
        raise UsageError(Problem("CONFIG", "is missing", fix))
    elif accept_changes:
        raise UsageError(Problem("--accept-changes", "belongs to --resume", "leave it out"))
    else:
        outcome = _train(config, overrides or [], dry_run, trust_remote_code, no_eval, yes)
    if outcome is None:
        return
    from sft_kit.run.reporting import raise_if_missed
    from sft_kit.run.summary import show_outcome

    show_outcome(outcome)
    if outcome.report:
        raise_if_missed(outcome.report)


def _train(config: Path, overrides: list[str], dry_run: bool, trust: bool, no_eval: bool, yes: bool) -> Outcome | None:
    from sft_kit.console import ask_to_go_on
    from sft_kit.run.prepare import prepare

    job = prepare(config, overrides, ask_hub=not dry_run, evaluate=not no_eval, trust=trust)
    if dry_run:
        from sft_kit.run.dry_run import show_dry_run

        show_dry_run(job)
        return None
    ask_to_go_on(job.notes, job.doubts, yes=yes)
    from sft_kit.run.train import train as run_training

    return run_training(job, prove=not no_eval)


def _resume(
    run: str,
    config: Path | None,
    overrides: list[str],
    dry_run: bool,
    accept: bool,
    trust: bool,
    no_eval: bool,
    yes: bool,
) -> Outcome | None:
    from sft_kit.console import ask_to_go_on
    from sft_kit.run.resume import prepare_resumption

    resumption = prepare_resumption(
        run, config, overrides, accept_changes=accept, ask_hub=not dry_run, evaluate=not no_eval, trust=trust
    )
    if dry_run:
        from sft_kit.run.dry_run import show_dry_resumption

        show_dry_resumption(resumption)
        return None
    ask_to_go_on(resumption.job.notes, resumption.job.doubts, yes=yes)
    from sft_kit.run.train import resume

    return resume(resumption, prove=not no_eval)
