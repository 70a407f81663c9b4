"""`sft-kit eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import Adapter, OutputDir, TrustRemoteCode


def evaluate(
    adapter: Adapter = None,
    model: Annotated[
        str | None, typer.Option(help="Full checkpoint or merged model, directory or hub id.", metavar="ID|DIR")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="What --model was trained from. [default: as its args.json says]", metavar="ID|DIR"),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Questions of your own: YAML, JSON, JSONL, or a text with one a line.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Another run to compare with.", metavar="RUN")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="eval.KEY=VALUE", help="Override a key of eval; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name. [default: the run's]")] = None,
    author: Annotated[str | None, typer.Option(help="Who made it. [default: the run's]")] = None,
    name_en: Annotated[str | None, typer.Option(help="The name in English text. [default: --name]")] = None,
    author_en: Annotated[str | None, typer.Option(help="The author in English text. [default: --author]")] = None,
    lang: Annotated[
        str | None, typer.Option(help="Languages, separated by commas: zh, en. [default: the run's, else both]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the report. [default: the run's sft-kit/, else eval-NAME]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="report.json on stdout, with the same exit code.")] = False,
    trust_remote_code: TrustRemoteCode = False,
    output_dir: OutputDir = Path("output"),
) -> None:
    """Ask a model and its base the same questions, score both, and check the thresholds."""
    from sft_kit.console import result_json
    from sft_kit.msswift.install import find_installation
    from sft_kit.run.eval_command import Asked, evaluate_command
    from sft_kit.run.reporting import raise_if_missed
    from sft_kit.run.summary import show_evaluation

    what = (adapter, model, base, questions, against, tuple(overrides or ()))
    asked = Asked(*what, name, author, name_en, author_en, lang, out, output_dir, trust_remote_code)
    found = evaluate_command(asked, find_installation())
    if as_json:
        result_json(found.values())
    else:
        show_evaluation(found)
    raise_if_missed(found.report)
