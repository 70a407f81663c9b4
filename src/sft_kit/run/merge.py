"""Merges an adapter into its base model with `swift export`, and looks at what came out.

ms-swift skips the merge in silence, exit 0, when the output directory exists; here that is an error before anything
starts, and a result without its weights, config or tokenizer is an error afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from sft_kit.console import say
from sft_kit.errors import MsSwiftError, Problem, UsageError
from sft_kit.msswift.checkpoints import missing_weights
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.install import find_installation
from sft_kit.plan.gpus import gpu_environment
from sft_kit.run.process import start, supervise
from sft_kit.run.swift_log import swift_failed, temporary_log
from sft_kit.run.targets import resolve_adapter


def merge(adapter: str, out: Path | None, output_dir: Path) -> Path:
    """The directory of the merged model, which did not exist before and is complete.

    Raises UsageError when `out` exists or `adapter` is none, MsSwiftError when the merge fails; a failed or
    interrupted merge leaves nothing at `out`.
    """
    target = resolve_adapter(adapter, output_dir)
    if target.kind != "adapter":
        raise UsageError(Problem(target.path, "is a full model already", "it needs no merge; use it as it is"))
    if target.note:
        say(f"merging {target.note}")
    merged = (out or Path(f"{target.path}-merged")).expanduser().absolute()
    if merged.exists():
        raise UsageError(Problem(str(merged), "is already there", "give another --out, or remove it"))
    try:
        merged.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=merged.parent, prefix=f".{merged.name}."))
    except OSError as error:
        raise UsageError(
            Problem(str(merged.parent), f"cannot be written: {error.strerror}", "give another --out")
        ) from error
    try:
        _export(target.values, work)
        os.replace(work / "merged", merged)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return merged


def _export(values: dict[str, object], work: Path) -> None:
    installation = find_installation()
    arguments = {**values, "merge_lora": True, "output_dir": str(work / "merged")}
    command = swift_command(installation, "export", arguments, env=gpu_environment(1))
    with temporary_log("export") as log:
        with start(command.argv, log=log, env=command.environment()) as process:
            exit_ = supervise(process, tick=lambda: None)
        if not exit_.ok:
            raise swift_failed(exit_, log)
        lost = [*missing_weights(work / "merged")]
        lost += [name for name in ("config.json", "tokenizer_config.json") if not (work / "merged" / name).is_file()]
        if lost:
            problem = Problem("", f"ms-swift ended well but wrote no {', '.join(lost)}", f"its whole output: {log}")
            raise MsSwiftError(problem, returncode=0)
