"""Moves checkpoints that are no good to where nobody takes them for good ones; nothing is deleted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from sft_kit.console import warn
from sft_kit.errors import Problem
from sft_kit.msswift.checkpoints import Checkpoint, checkpoints
from sft_kit.run.directory import RunDirectory

GIVES_NAN = "is of a model that gives NaN"


@dataclass(frozen=True)
class Unfit:
    """A checkpoint that nobody should go on from, the folder in `sft-kit/` where it belongs, and why."""

    checkpoint: Checkpoint
    folder: Literal["incomplete", "broken"]
    why: str

    @property
    def name(self) -> str:
        return self.checkpoint.path.name


def set_aside(run: RunDirectory, unfit: Iterable[Unfit]) -> None:
    """Move each to `sft-kit/<folder>/`, with a number behind its name where that is taken, and say why. One that cannot
    be moved is told and stays."""
    for one in unfit:
        _move(run, one)
    link = run.path / "last-checkpoint"  # made by transformers 5
    with suppress(OSError):
        if link.is_symlink() and not link.exists():
            link.unlink()
            if whole := [each.path.name for each in checkpoints(run.path) if each.complete]:
                link.symlink_to(whole[-1])


def _move(run: RunDirectory, unfit: Unfit) -> None:
    checkpoint, why = unfit.checkpoint.path, unfit.why
    try:
        (run.kit / unfit.folder).mkdir(exist_ok=True)
        target = run.kit / unfit.folder / checkpoint.name
        for number in itertools.count(2):
            if not target.exists():
                break
            target = target.with_name(f"{checkpoint.name}-{number}")
        checkpoint.rename(target)
    except OSError as error:
        warn(Problem(str(checkpoint), f"{why}, and cannot be moved: {error.strerror}", "remove it"))
    else:
        warn(Problem(checkpoint.name, f"{why}; moved to {target.relative_to(run.path)}"))
