"""`sft-kit infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import Adapter, AnyModel, OutputDir, TrustRemoteCode


def infer(
    adapter: Adapter = None,
    model: AnyModel = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="Ask this and stop; repeatable, each on its own.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt. [default: the one it was trained with]")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 2048,
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 0.0,
    trust_remote_code: TrustRemoteCode = False,
    output_dir: OutputDir = Path("output"),
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
        trust=trust_remote_code,
    )
