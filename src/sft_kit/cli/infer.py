"""`sft-kit infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def infer(
    adapter: Annotated[
        str | None,
        typer.Option(help="Adapter directory, run directory, run name (v3) or `latest`.", metavar="PATH|RUN"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Full checkpoint, merged model, base model directory or hub id.", metavar="ID|DIR"),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="Ask this and stop; repeatable, each on its own.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt. [default: the one it was trained with]")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 2048,
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 0.0,
    output_dir: Annotated[Path, typer.Option(help="Where runs are looked up.")] = Path("output"),
) -> None:
    """Chat with an adapter, a full checkpoint, a merged model or a base model."""
    from sft_kit.run.talk import talk

    talk(
        adapter,
        model,
        prompts=prompt or [],
        system=system,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        output_dir=output_dir,
    )
