"""`sft-kit doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Say what of this machine a run would use, and what is missing for one."""
    from sft_kit.run.doctor import examine, show

    show(examine(), as_json=as_json)
