"""`sft-kit init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def refuse_beside_command(options: list[str]) -> None:
    """The other options start from a shipped config, --from-command from what was pasted."""
    from sft_kit.errors import Problem, UsageError

    if options:
        fix = "leave them out, and edit the config that is written"
        raise UsageError(Problem("--from-command", f"cannot be used with {', '.join(options)}", fix))


def init(
    config: Annotated[Path, typer.Argument(help="The file to write.")] = Path("config.yaml"),
    like: Annotated[str | None, typer.Option(help="Shipped config to start from, such as qwen2.5-7b-mixed.")] = None,
    model: Annotated[str | None, typer.Option(help="Model instead of the one in that config.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    author: Annotated[str | None, typer.Option(help="Who made it.")] = None,
    name_en: Annotated[str | None, typer.Option(help="English name, when --name is Chinese.")] = None,
    author_en: Annotated[str | None, typer.Option(help="English author, when --author is Chinese.")] = None,
    from_command: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE|-", help="A pasted `swift sft ...` line or shell script, of any ms-swift."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a config: from a pasted command, or asking on a terminal for what no option gives."""
    from sft_kit.console import say

    if from_command is not None:
        from sft_kit.run.pasted_config import write_pasted_configs

        given = {"--like": like, "--model": model, "--name": name, "--author": author, "--name-en": name_en}
        refuse_beside_command([option for option, value in {**given, "--author-en": author_en}.items() if value])
        for path in write_pasted_configs(config, from_command, force=force):
            say(f"check it with `sft-kit train {path} --dry-run`, then `sft-kit train {path}`")
        return
    from sft_kit.run.first_config import write_first_config

    write_first_config(config, like, model, (name, name_en), (author, author_en), force=force)
    say(f"wrote {config}; check it with `sft-kit train {config} --dry-run`, then `sft-kit train {config}`")
