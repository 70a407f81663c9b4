"""The command line: one small file per command, registered here, and one place that turns errors into exit codes."""

from __future__ import annotations

import io
import sys
import traceback
from pathlib import Path

import typer

from sft_kit.cli.check import check
from sft_kit.cli.doctor import doctor
from sft_kit.cli.eval import evaluate
from sft_kit.cli.export import export
from sft_kit.cli.gen_identity import gen_identity
from sft_kit.cli.infer import infer
from sft_kit.cli.init import init
from sft_kit.cli.preview import preview
from sft_kit.cli.runs import runs
from sft_kit.cli.schema import schema
from sft_kit.cli.serve import serve
from sft_kit.cli.train import ResumeMayStandAlone, train
from sft_kit.errors import ExitCode, InterruptedRun, MissingError, Problem, SftKitError, UsageError
from sft_kit.secrets import hide

app = typer.Typer(
    name="sft-kit",
    help="Fine-tune a chat model with ms-swift: checked before, watched during, proven after.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=ResumeMayStandAlone)(train)
app.command()(infer)
app.command("gen-identity")(gen_identity)
app.command()(check)
app.command()(preview)
app.command("eval")(evaluate)
app.command()(export)
app.command()(serve)
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
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character gets a ? instead of a crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
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
    except OSError as error:
        from sft_kit.console import show_error

        shown = _file_error(error)
        show_error(shown)
        code = shown.exit_code
    except Exception as error:
        code = _usage_error(error)
    sys.exit(code)


def _file_error(error: OSError) -> SftKitError:
    """A file or folder that cannot be read or written, wherever that was noticed; a fault of the disk is exit 5."""
    from sft_kit.writes import FULL, cause_in_words, is_of_disk, not_written

    place = str(error.filename or "")
    if error.errno in FULL:
        return not_written(Path(place or "."), error)
    if is_of_disk(error):
        return MissingError(Problem(place, cause_in_words(error.errno or 0)))
    return UsageError(Problem(place, error.strerror or str(error)))


def _usage_error(error: Exception) -> int:
    """click's own usage errors end in 2; anything else is a bug of sft-kit and ends in 1 with its traceback."""
    show = getattr(error, "show", None)
    if callable(show):
        show()
        return int(getattr(error, "exit_code", ExitCode.USAGE))
    print(hide(traceback.format_exc()), end="", file=sys.stderr)  # noqa: T201
    print("this is a bug in sft-kit: please report the lines above", file=sys.stderr)  # noqa: T201
    return ExitCode.BUG
