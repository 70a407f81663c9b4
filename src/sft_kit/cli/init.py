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
    like: Annotated[
        str | None, typer.Option(help="Shipped config to start from. [default: --model's, else qwen2.5-7b-identity]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model instead of the one in that config; hub id or directory.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name. [default: asked for]")] = None,
    author: Annotated[str | None, typer.Option(help="Who made it. [default: asked for]")] = None,
    name_en: Annotated[str | None, typer.Option(help="The name in English text. [default: --name]")] = None,
    author_en: Annotated[str | None, typer.Option(help="The author in English text. [default: --author]")] = None,
    from_command: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE|-", help="A pasted `swift sft ...` line or shell script, of any ms-swift."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a config: from a pasted command, or asking on a terminal for what no option gives."""
    from sft_kit.console import say

    if from_command is not None:
        from sft_kit.run.pasted_config import write_pasted_configs

        given = {"--like": like, "--model": model, "--name": name, "--author": author, "--name-en": name_en}
        refuse_beside_command([option for option, value in {**given, "--author-en": author_en}.items() if value])
        for path in write_pasted_configs(config, from_command, force=force):
            say(_next(path))
        return
    from sft_kit.run.first_config import write_first_config

    write_first_config(config, like, model, (name, name_en), (author, author_en), force=force)
    say(f"wrote {config}; {_next(config)}")


def _next(path: Path) -> str:
    from sft_kit.data.text import shell_word

    shown = shell_word(str(path))
    return f"check it with `sft-kit check {shown}`, then `sft-kit train {shown}`"
