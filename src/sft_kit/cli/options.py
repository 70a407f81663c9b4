"""Options that several commands take with the same meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Adapter = Annotated[
    str | None, typer.Option(help="Adapter directory, run directory, run name (v3) or `latest`.", metavar="PATH|RUN")
]
AnyModel = Annotated[
    str | None, typer.Option(help="Full checkpoint, merged model, base model directory or hub id.", metavar="ID|DIR")
]
OutputDir = Annotated[Path, typer.Option(help="Where runs are looked up.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Let the model run the Python code that it brings; shows it first."),
]
