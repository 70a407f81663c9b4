"""`sft-kit check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    config: Annotated[Path, typer.Argument(help="YAML config, as for `train`.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable, dots for sections."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with the same exit code.")] = False,
) -> None:
    """Check a config and its data as ms-swift would read them, before anything is loaded."""
    from sft_kit.run.check import check_run, raise_if_not_met, show_check

    report = check_run(config, overrides or [])
    show_check(report, as_json=as_json)
    raise_if_not_met(report)
