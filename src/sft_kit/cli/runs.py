"""`sft-kit runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_kit.cli.options import OutputDir


def runs(
    action: Annotated[str | None, typer.Argument(help="`show` tells all about one run.", metavar="[show]")] = None,
    run: Annotated[str | None, typer.Argument(help="Run name (v3), path or `latest`.", metavar="[RUN]")] = None,
    output_dir: OutputDir = Path("output"),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List runs, newest first, with their true status; `runs show RUN` tells what one did."""
    from sft_kit.errors import Problem, UsageError
    from sft_kit.run.listing import show_run, show_runs
    from sft_kit.run.runs import find_run, list_runs

    if action == "show":
        show_run(find_run(run or "latest", output_dir), as_json=as_json)
    elif action is None:
        show_runs(list_runs(output_dir), output_dir, as_json=as_json)
    else:
        raise UsageError(Problem(action, "no such action", "use `sft-kit runs` or `sft-kit runs show RUN`"))
