"""What lies in a directory that ms-swift or transformers wrote: an adapter, a full model, a run, or nothing known.

Two questions are asked of a checkpoint. Are its weights whole (`why_incomplete`): enough to talk to it, to evaluate and
to export it. Can training go on from it as if it had never stopped (`why_not_resumable`): that takes the states of
optimizer, learning rate and random numbers too, and where one is missing transformers goes on without it and says
nothing, or one line in the log (trainer.py, `_load_optimizer_and_scheduler` and `_load_rng_state`, 4.57 and 5.19).

Reads file names, JSON files, and the headers and tables of contents of weight files: never weights, never pickles. So
what a crash of the machine leaves of the right length but with zeros inside is not seen here (`contents` does).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft_kit.models.directory import (
    LARGEST_INDEX,
    MOST_SHARDS,
    WeightFile,
    kind_of_file,
    read_directory,
    read_regular,
    weight_file,
)

Kind = Literal["adapter", "model", "run", "unknown"]
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
_WEIGHTS = (".safetensors", ".bin")
_STATE = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoint-N`; `complete` means that its weights are whole and its save came to its end."""

    path: Path
    step: int
    complete: bool


@dataclass(frozen=True)
class TrainerState:
    """How far a checkpoint is: `step` of `max_steps` optimizer steps. `best` is the name of the best one until then.

    `weights_only`: `save_only_model` left out what training needs to go on as it was; transformers would start the
    optimizer and the learning rate anew.
    """

    step: int
    max_steps: int
    best: str | None
    weights_only: bool


def kind_of(directory: Path) -> Kind:
    """Look at `directory` and say what it is."""
    if (directory / "adapter_config.json").is_file():
        return "adapter"
    if (directory / "config.json").is_file():
        return "model"
    if checkpoints(directory) or (directory / "sft-kit" / "manifest.json").is_file():
        return "run"
    return "unknown"


def checkpoints(run: Path) -> list[Checkpoint]:
    """The checkpoints of a run directory, by step."""
    return [Checkpoint(path, _step(path), is_complete(path)) for path in checkpoint_folders(run)]


def checkpoint_folders(run: Path) -> list[Path]:
    """The folders of a run directory that are named as checkpoints, by step, whatever is in them."""
    if not run.is_dir():
        return []
    return sorted((path for path in run.iterdir() if _CHECKPOINT.fullmatch(path.name) and path.is_dir()), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def is_complete(checkpoint: Path) -> bool:
    """Whether the weights are there in full and the save came to its end: what inference needs."""
    return not why_incomplete(checkpoint)


def why_incomplete(checkpoint: Path) -> str:
    """What of the weights is missing or cut, for people; empty when nothing is.

    trainer_state.json is written after weights, optimizer and random numbers (transformers, trainer.py,
    `_save_checkpoint`), so it marks the end of a save. args.json does not: ms-swift writes it with the weights.
    """
    return _json_damage(checkpoint / _STATE) or next(_weight_damages(checkpoint), "")


def why_not_resumable(checkpoint: Path) -> str:
    """What is missing or cut of all that training needs to go on from `checkpoint` as it was; empty when nothing is.

    Where `save_only_model` left the states out on purpose they are not missed: see `TrainerState.weights_only`.
    """
    if damage := why_incomplete(checkpoint):
        return damage
    name, step = _CHECKPOINT.fullmatch(checkpoint.name), read_json(checkpoint / _STATE).get("global_step")
    if name and step != int(name[1]):
        return f"{_STATE} is of step {step}"
    return next(_state_damages(checkpoint), "")


def trainer_state(checkpoint: Path) -> TrainerState | None:
    """How far `checkpoint` is; None when its trainer_state.json cannot be read."""
    values = read_json(checkpoint / _STATE)
    step, max_steps = values.get("global_step"), values.get("max_steps")
    if not isinstance(step, int) or not isinstance(max_steps, int):
        return None
    best = values.get("best_model_checkpoint")
    weights_only = read_json(checkpoint / "args.json").get("save_only_model") is True
    return TrainerState(step, max_steps, Path(best).name if isinstance(best, str) else None, weights_only)


def _weight_damages(checkpoint: Path) -> Iterator[str]:
    adapter = checkpoint / "adapter_config.json"
    if adapter.is_file():
        yield from filter(None, [_json_damage(adapter)])
        names = [name for suffix in _WEIGHTS if (checkpoint / (name := f"adapter_model{suffix}")).is_file()]
        files = [weight_file(checkpoint, name) for name in names[:1]]
        missing = "adapter_model.safetensors is missing"
    else:
        model = read_directory(checkpoint)
        yield from (f"{name} {why}" for name, why in model.broken.items())
        if not model.config:
            yield "adapter_config.json or config.json is missing"
        yield from (f"the weight file of {tensor} lacks it" for tensor in model.not_in_files[:1])
        files = list(model.weights)
        missing = "model.safetensors is missing"
    if not files:
        yield missing
    yield from (damage for file in files if (damage := _weight_damage(checkpoint, file)))


def _weight_damage(checkpoint: Path, file: WeightFile) -> str:
    if file.state == "whole":
        # torch writes zip files; a pickle in the format before torch 1.6 has no length to compare with
        cut = file.is_pickle and _starts_as_zip(checkpoint / file.name) and _zip_damage(checkpoint / file.name)
        return cut or ""
    return file.damage or f"{file.name} is {'a Git LFS pointer' if file.state == 'pointer' else file.state}"


def _state_damages(checkpoint: Path) -> Iterator[str]:
    """What is wrong with the states of optimizer, learning rate, loss scale and random numbers.

    Names of files: transformers' trainer.py and, for FSDP, accelerate's utils/fsdp_utils.py; DeepSpeed's engine.py
    writes a folder, and its name to `latest` when it is whole.
    """
    arguments = read_json(checkpoint / "args.json")
    if arguments.get("save_only_model") is True:
        return
    sharded = (checkpoint / "latest").is_file()
    wanted = [] if sharded else ["scheduler.pt"]  # DeepSpeed can hold the scheduler too
    if not (sharded or any(checkpoint.glob("optimizer*/.metadata")) or (checkpoint / "optimizer.bin").is_file()):
        wanted.insert(0, "optimizer.pt")
    ranks = arguments.get("local_world_size")  # another machine keeps those of its own
    if isinstance(ranks, int) and ranks > 1:
        there = len(list(checkpoint.glob("rng_state_*.pth")))
        wanted += ["rng_state_*.pth of every process"] if there < ranks else []
    elif not any(checkpoint.glob("rng_state_*.pth")):  # one process on each of several machines
        wanted.append("rng_state.pth")
    yield from (f"{name} is missing" for name in wanted if not (checkpoint / name).is_file())
    if sharded:
        folder = (checkpoint / "latest").read_text(encoding="utf-8", errors="replace").strip()
        if not any(file.parent.name == folder for file in checkpoint.glob("*/*optim_states.pt")):
            yield f"the optimizer's state is missing (latest names {folder!r})"
    states = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth"), *checkpoint.glob("*/*.pt")]
    yield from (damage for file in sorted(states) if (damage := _zip_damage(file)))


def _zip_damage(file: Path) -> str:
    """What is wrong with a file of torch.save; its table of contents stands at the end, so a cut file has none."""
    try:
        if what := kind_of_file(file):
            return f"{file.name} is {what}, not a file"
        with zipfile.ZipFile(file):
            return ""
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror or error}"
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return f"{file.name} is {'cut off' if file.stat().st_size else 'empty'}"


def _starts_as_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"


def _json_damage(file: Path) -> str:
    raw, why = read_regular(file, LARGEST_INDEX)
    if why:
        return f"{file.name} {why}"
    try:
        return "" if isinstance(json.loads(raw.decode("utf-8")), dict) else f"{file.name} is not a JSON object"
    except (ValueError, RecursionError):
        return f"{file.name} is {'cut off or not JSON' if raw else 'empty'}"


def missing_weights(model: Path) -> list[str]:
    """Names of the weight files that `model` should have and has not; `*.safetensors` when it has none at all."""
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        table = read_json(model / index)
        if isinstance(table.get("weight_map"), dict):
            names = sorted({str(name) for name in table["weight_map"].values()})[:MOST_SHARDS]
            return [name for name in names if not (model / name).is_file()]
    has_any = model.is_dir() and any(entry.suffix in _WEIGHTS for entry in model.iterdir())
    return [] if has_any else ["*.safetensors"]


def plugins(checkpoint: Path) -> list[str]:
    """The Python files that ms-swift would import when it loads `checkpoint`, as its args.json names them."""
    arguments = read_json(checkpoint / "args.json")
    named: list[str] = []
    for key in ("external_plugins", "custom_register_path"):
        value = arguments.get(key) or []
        named += map(str, value if isinstance(value, list) else [value])
    return named


def architecture(model: Path) -> str | None:
    """`architectures[0]` of the model's config.json; None when there is none."""
    named = read_json(model / "config.json").get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when it is missing, unreadable, too large or something else."""
    try:
        value = json.loads(read_regular(path, LARGEST_INDEX)[0].decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
