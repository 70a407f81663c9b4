"""`sft-kit export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import OutputDir, TrustRemoteCode


class Quant(str, Enum):
    """How to quantise."""

    awq = "awq"
    gptq = "gptq"
    bnb = "bnb"
    fp8 = "fp8"


def export(
    adapter: Annotated[
        str, typer.Option(help="Adapter directory, run directory, run name (v3) or `latest`.", metavar="PATH|RUN")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="New directory for the model. [default: CHECKPOINT-merged]")
    ] = None,
    default_system: Annotated[
        str | None,
        typer.Option(
            help="What the chat template says where a conversation brings no system message: what it was `trained` "
            "with, what is there (`keep`), or a text. [default: ask; off a terminal, keep]",
            metavar="trained|keep|TEXT",
        ),
    ] = None,
    quant: Annotated[Quant | None, typer.Option(help="Quantise the merged model, to 4 bits (fp8: 8).")] = None,
    ollama: Annotated[bool, typer.Option("--ollama", help="Write a Modelfile for Ollama.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Compare weights and greedy answers with the trained model's (exit 3 if they differ).")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: the trained system prompt is put in.")] = False,
    trust_remote_code: TrustRemoteCode = False,
    output_dir: OutputDir = Path("output"),
) -> None:
    """Merge an adapter into one directory that any tool loads, and prove that it answers like the adapter."""
    from sft_kit.console import confirm, result
    from sft_kit.run.export import Wishes, export

    method = quant.value if quant else None
    wishes = Wishes(out, default_system, method, ollama, verify, yes, trust_remote_code)  # type: ignore[arg-type]
    result(str(export(adapter, wishes, output_dir, lambda question: confirm(question, default=True))))
