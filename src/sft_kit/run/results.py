"""What a training has left behind so far: checkpoints, steps and the last loss, read from its files.

For a run that ended as it should, and for one whose launcher was killed before it could write that down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_kit.msswift.checkpoints import checkpoints, trainer_state
from sft_kit.msswift.logs import StepLog, read_steps, read_summary
from sft_kit.run.directory import Manifest, RunDirectory


def results_of(run: RunDirectory, steps: Sequence[StepLog]) -> dict[str, Any]:
    """`last_checkpoint`, `best_checkpoint`, `steps` and `final_loss` of a manifest; `steps` are those of the log."""
    complete = [checkpoint for checkpoint in checkpoints(run.path) if checkpoint.complete]
    summary = read_summary(run.logging_jsonl)
    state = trainer_state(complete[-1].path) if complete else None  # where no summary came: it was stopped
    best = Path(str(summary.get("best_model_checkpoint") or (state and state.best) or "")).name
    losses = [record.loss for record in steps if record.loss is not None]
    return {
        "last_checkpoint": complete[-1].path.name if complete else None,
        "best_checkpoint": best if best in {checkpoint.path.name for checkpoint in complete} else None,
        "steps": summary.get("global_step") or (steps[-1].step if steps else None),
        "final_loss": losses[-1] if losses else None,
    }


def read_with_results(run: RunDirectory) -> Manifest:
    """The manifest with its true status; where the launcher was killed, with what the run left behind. Raises as
    `RunDirectory.read`."""
    manifest = run.read()
    if manifest.status != "interrupted" or manifest.ended is not None:
        return manifest
    return replace(manifest, **results_of(run, read_steps(run.logging_jsonl)))
