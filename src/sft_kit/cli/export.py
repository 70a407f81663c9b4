"""`sft-kit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    adapter: Annotated[
        str, typer.Option(help="Adapter directory, run directory, run name (v3) or `latest`.", metavar="PATH|RUN")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="New directory for the merged model. [default: CHECKPOINT-merged]")
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="Where runs are looked up.")] = Path("output"),
) -> None:
    """Merge an adapter into its base model, as one directory that any tool loads."""
    from sft_kit.console import result
    from sft_kit.run.merge import merge

    result(str(merge(adapter, out, output_dir)))
