"""`sft-kit preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import TrustRemoteCode


def preview(
    config: Annotated[Path, typer.Argument(help="YAML config, as for `train`.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="ID|DIR", help="Another model to compare; repeatable. [default: the config's]"),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows to show of each source.")] = 2,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable, dots for sections."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with token ids and labels.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Show the exact prompts ms-swift will train on, the trained tokens marked; loads no weights."""
    from sft_kit.run.preview import preview as show_preview

    show_preview(config, overrides or [], model or [], rows, as_json=as_json, trust=trust_remote_code)
