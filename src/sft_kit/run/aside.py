"""Which checkpoints of a run are good, and moving the others to where nobody takes them; nothing is deleted.

Owns the one answer that `runs`, `infer`, `eval`, `export`, `serve` and `train --resume` give: a launcher that was
killed could not move what it should have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from sft_kit.console import warn
from sft_kit.errors import Problem
from sft_kit.msswift.checkpoints import Checkpoint, checkpoints, read_json, why_incomplete
from sft_kit.msswift.logs import StepLog, read_steps
from sft_kit.run.directory import RunDirectory
from sft_kit.run.watch import broken_from

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


def sort_out(
    run: RunDirectory, steps: Sequence[StepLog], signs: Sequence[Mapping[str, Any]]
) -> tuple[list[Checkpoint], list[Unfit]]:
    """The checkpoints of `run` whose weights are whole and do not give NaN, and those that nobody should take, by step.
    `steps` are those of its log, `signs` its manifest's."""
    broken = broken_from(steps, signs)
    good: list[Checkpoint] = []
    unfit: list[Unfit] = []
    for each in checkpoints(run.path):
        if broken is not None and each.step >= broken:
            unfit.append(Unfit(each, "broken", GIVES_NAN))
        elif not each.complete:
            unfit.append(Unfit(each, "incomplete", f"is not complete ({why_incomplete(each.path)})"))
        else:
            good.append(each)
    return good, unfit


def sort_out_now(run: RunDirectory) -> tuple[list[Checkpoint], list[Unfit]]:
    """`sort_out` by what lies in the run's directory; a manifest that says nothing is no hindrance."""
    signs = read_json(run.manifest_path).get("signs")
    kept = [sign for sign in signs if isinstance(sign, Mapping)] if isinstance(signs, list) else []
    return sort_out(run, read_steps(run.logging_jsonl), kept)


def good_now(run: RunDirectory) -> list[Checkpoint]:
    """The good ones of `sort_out_now`; none on a disk that is gone."""
    try:
        return sort_out_now(run)[0]
    except OSError:
        return []


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
