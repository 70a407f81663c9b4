"""`sft-kit schema`."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON Schema of a config, for editors (VS Code: yaml.schemas)."""
    import json

    import typer

    from sft_kit.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), ensure_ascii=False, indent=2))
