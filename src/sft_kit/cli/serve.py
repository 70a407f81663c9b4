"""`sft-kit serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import Adapter, AnyModel, OutputDir, TrustRemoteCode


def serve(
    adapter: Adapter = None,
    model: AnyModel = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Key that requests must bring; `none` for none at all. Others on this machine can read it here, not in"
            " the variable. [default: $SFT_KIT_API_KEY, else a random one, shown once]",
            metavar="KEY|none",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Model name of the tuned model in requests. [default: its identity's name, else the run's]"),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, in tokens, of a request that does not say.")
    ] = 2048,
    log: Annotated[
        Path | None,
        typer.Option(help="Where ms-swift's output goes. [default: a temporary file, kept when it fails]"),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    output_dir: OutputDir = Path("output"),
) -> None:
    """Serve a model to OpenAI clients; an adapter and its base model side by side, from one loaded model."""
    from sft_kit.run.serve import serve as run_server

    run_server(
        adapter,
        model,
        host=host,
        port=port,
        api_key=api_key,
        name=name,
        max_new_tokens=max_new_tokens,
        log=log,
        output_dir=output_dir,
        trust=trust_remote_code,
    )
