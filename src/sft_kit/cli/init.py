"""`sft-kit init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    config: Annotated[Path, typer.Argument(help="The file to write.")] = Path("config.yaml"),
    like: Annotated[str | None, typer.Option(help="Shipped config to start from, such as qwen2.5-7b-mixed.")] = None,
    model: Annotated[str | None, typer.Option(help="Model instead of the one in that config.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    author: Annotated[str | None, typer.Option(help="Who made it.")] = None,
    name_en: Annotated[str | None, typer.Option(help="English name, when --name is Chinese.")] = None,
    author_en: Annotated[str | None, typer.Option(help="English author, when --author is Chinese.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a config: asks on a terminal for what no option gives."""
    from sft_kit.console import say
    from sft_kit.run.first_config import write_first_config

    write_first_config(config, like, model, (name, name_en), (author, author_en), force=force)
    say(f"wrote {config}; check it with `sft-kit train {config} --dry-run`, then `sft-kit train {config}`")
