"""The command line: one small file per command, registered here, and one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from sft_kit.cli.doctor import doctor
from sft_kit.cli.export import export
from sft_kit.cli.gen_identity import gen_identity
from sft_kit.cli.infer import infer
from sft_kit.cli.init import init
from sft_kit.cli.runs import runs
from sft_kit.cli.schema import schema
from sft_kit.cli.train import train
from sft_kit.errors import ExitCode, InterruptedRun, SftKitError

app = typer.Typer(
    name="sft-kit",
    help="Fine-tune a chat model with ms-swift: checked before, watched during, proven after.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(infer)
app.command("gen-identity")(gen_identity)
app.command()(export)
app.command()(runs)
app.command()(init)
app.command()(schema)
app.command()(doctor)


def _version(show: bool) -> None:
    if show:
        from sft_kit import __version__

        typer.echo(f"sft-kit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Fine-tune a chat model with ms-swift: checked before, watched during, proven after."""


def main() -> None:
    """The entry point. Every expected failure is shown with its fix and ends in its exit code; nothing else does."""
    try:
        code = app(standalone_mode=False)
    except SftKitError as error:
        from sft_kit.console import show_error

        show_error(error)
        code = error.exit_code
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        code = InterruptedRun.exit_code
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    except Exception as error:
        code = _usage_error(error)
    sys.exit(code)


def _usage_error(error: Exception) -> int:
    """click's own usage errors end in 2; anything else is a bug of sft-kit and ends in 1 with its traceback."""
    show = getattr(error, "show", None)
    if callable(show):
        show()
        return int(getattr(error, "exit_code", ExitCode.USAGE))
    traceback.print_exc()
    print("this is a bug in sft-kit: please report the lines above", file=sys.stderr)  # noqa: T201
    return ExitCode.BUG
