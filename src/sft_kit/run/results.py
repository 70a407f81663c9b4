"""What a training has left behind so far: checkpoints, steps and the last loss, read from its files.

For a run that ended as it should, for one that goes on, and for one whose launcher was killed before it could write
that down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_kit.data.text import shell_word
from sft_kit.msswift.checkpoints import trainer_state
from sft_kit.msswift.logs import StepLog, read_steps, read_summary
from sft_kit.run.aside import good_now, sort_out
from sft_kit.run.directory import Manifest, RunDirectory


def results_of(run: RunDirectory, steps: Sequence[StepLog], signs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`last_checkpoint`, `best_checkpoint`, `steps` and `final_loss` of a manifest; `steps` are those of the log,
    `signs` what was seen wrong in them."""
    good, _ = sort_out(run, steps, signs)
    summary = read_summary(run.logging_jsonl)
    state = trainer_state(good[-1].path) if good else None  # where no summary came: it was stopped
    best = Path(str(summary.get("best_model_checkpoint") or (state and state.best) or "")).name
    losses = [record.loss for record in steps if record.loss is not None]
    return {
        "last_checkpoint": good[-1].path.name if good else None,
        "best_checkpoint": best if best in {checkpoint.path.name for checkpoint in good} else None,
        "steps": summary.get("global_step") or (steps[-1].step if steps else None),
        "final_loss": losses[-1] if losses else None,
    }


def way_on(run: RunDirectory) -> str:
    """What goes on with a run that stopped, and from where, in words; empty where no checkpoint is good."""
    good = good_now(run)
    return f"`sft-kit train --resume {shell_word(str(run.path))}` goes on from {good[-1].path.name}" if good else ""


def resumed_line(entry: Mapping[str, Any]) -> str:
    """An entry of the manifest's `resumed`, for people: from where, and what was no longer as it had been."""
    changed = ", ".join(map(str, entry.get("changed") or ()))
    return f"from {entry.get('checkpoint') or 'the beginning'}" + (f" (changed: {changed})" if changed else "")


def read_with_results(run: RunDirectory) -> Manifest:
    """The manifest with its true status; of a run that goes on, or whose launcher was killed, with what it has left
    behind so far. Raises as `RunDirectory.read`."""
    manifest = run.read()
    if manifest.status not in ("running", "interrupted") or manifest.ended is not None:
        return manifest
    return replace(manifest, **results_of(run, read_steps(run.logging_jsonl), manifest.signs))
