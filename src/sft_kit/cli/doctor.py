"""`sft-kit doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    measure: Annotated[
        bool,
        typer.Option("--calibrate", help="First measure this machine for the choice of batch sizes (up to a minute)."),
    ] = False,
) -> None:
    """Say what of this machine a run would use, and what is missing for one."""
    from sft_kit.run.doctor import examine, show

    if measure:
        from sft_kit.run.calibrate import calibrate

        calibrate()
    show(examine(), as_json=as_json)
