"""How much room a run still needs on its disk, where its room went, and whether the disk is why ms-swift failed.

Owns the measuring of what lies there and the words of it. Does not own the estimate before the start (`checks.room`),
nor what a write of our own that failed means (`writes`).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sft_kit.checks.room import WEIGHT_BYTES, checkpoint_size
from sft_kit.errors import MissingError, MsSwiftError, Problem, SftKitError
from sft_kit.msswift.checkpoints import Checkpoint, checkpoints, read_json
from sft_kit.plan.shape import ModelShape, shape_of
from sft_kit.resources import cache_dir
from sft_kit.run.aside import good_now
from sft_kit.run.directory import RunDirectory
from sft_kit.writes import NotWritten, Room, cause_in_words, is_of_disk, not_written, room_at, size

_TAIL_BYTES = 200_000
_FULL_BYTES = 1 << 20
"""With less than this free a run cannot go on, whatever its log says (often nothing: it was on that disk)."""
# What Python, safetensors (Rust) and torch.save print; the last three are torch's own words for a short write
# (caffe2/serialize/inline_container.cc). In the order in which they are looked for.
_SAID = (
    (re.compile(r"Disk quota exceeded|\bos error 122\b"), "the disk quota is used up"),
    (
        re.compile(
            r"No space left on device|\bos error 28\b|PytorchStreamWriter failed writing|"
            r"inline_container\.cc:\d+\] \. unexpected pos|basic_ios::clear: iostream error"
        ),
        "the disk was full",
    ),
    (re.compile(r"Read-only file system|\bos error 30\b"), "the file system became read-only"),
    (re.compile(r"(?:OSError|IoError|I/O error).*File too large"), "a file may not become that large there"),
    (re.compile(r"(?:OSError|IoError|I/O error).*(?:Input/output error|Stale file handle)"), "the disk did not answer"),
)
_MAKE_ROOM = ("the disk was full", "the disk is full", "the disk quota is used up")
_TRIED_BYTES = 4096
_CAUSES = ("disk-full", "disk-error", "read-only", "file-too-large")
_WEIGHTS = (".safetensors", ".bin")
_QUANTISED = {"awq": 0.35, "gptq": 0.35, "bnb": 0.35, "fp8": 0.6}
"""Of 16 bits: 4 or 8 bits with their scales, and an embedding that stays as it is."""


def room_message(run: RunDirectory) -> str:
    """Why the disk is at fault, with the numbers; empty where nothing says that it is."""
    problem = room_problem(run)
    return problem.message if problem else ""


def room_problem(run: RunDirectory, cause: str = "") -> Problem | None:
    """What a run whose trainer failed says about its disk: what is free, what a checkpoint takes, where the room went.

    None where neither its log nor the disk tells of a fault of the disk. With a `cause` that was found already
    (`msswift.failure`: its code) the log, which goes back to earlier starts, is asked only if that is one of the disk.
    """
    said = _said(run.log) if not cause or cause in _CAUSES else ""
    said = said or _tried(run.path)
    low = [room for room in _places(run) if room.free_bytes < _FULL_BYTES or room.free_files == 0]
    if not said and not low:
        return None
    own, need = room_at(run.path), checkpoint_need(run)
    facts = [said or "the disk is full"]
    facts += [f"a checkpoint takes {size(need)}"] if need else []
    facts += [_free(room) for room in ([own] if own else []) + [room for room in low if room != own]]
    gone = said.endswith("not answer")  # what cannot be read is not therefore cut off
    kept, cut = ("", "") if gone else _held(run)
    facts += [kept] if kept else []
    facts += [f"{cut} is cut off and of no use"] if cut else []
    good = [] if gone else [one.path.name for one in good_now(run)]
    from_ = (
        "from its last whole checkpoint"
        if gone
        else f"from {good[-1]}"
        if good
        else "from the beginning, as no checkpoint is whole"
    )
    full = bool(low) or said in _MAKE_ROOM
    fix = "make room" if full else "see `df` and `dmesg`, and have it written to again"
    fix += f"; then `sft-kit train --resume {run.path}` goes on {from_}"
    if full and not read_json(run.path / "args.json").get("save_total_limit"):
        fix += "; save_total_limit: 2 keeps fewer of them"
    return Problem(str(run.path), "; ".join(facts), fix)


def with_room(error: SftKitError, run: RunDirectory) -> SftKitError:
    """`error` of a run with what its disk has to do with it, and how to go on."""
    if isinstance(error, MsSwiftError):
        room = room_problem(run, str(error.failure.get("code") or ""))
        if room is None:
            return error
        # first: what a trainer says last on a full disk is often but the picture that it could not draw
        return MsSwiftError(room, *error.problems, returncode=error.returncode, failure=error.failure)
    if isinstance(error, NotWritten):
        (problem,) = error.problems
        fix = f"{problem.fix}; then `sft-kit train --resume {run.path}` goes on"
        return NotWritten(Problem(problem.place, problem.message, fix), error.errno)
    return error


def as_not_written(error: OSError, run: RunDirectory) -> NotWritten | None:
    """The error for a fault of the disk wherever it was noticed; None for any other OSError."""
    return not_written(Path(str(error.filename or run.path)), error) if is_of_disk(error) else None


def checkpoint_need(run: RunDirectory) -> int | None:
    """Bytes of one checkpoint of `run`: of the largest whole one there, else by ms-swift's args.json and the model."""
    whole = [held_bytes(one.path) for one in _checkpoints(run) if one.complete]
    if whole:
        return max(whole)
    told = read_json(run.path / "args.json")
    shape = _shape(told)
    if shape is None:
        return None
    rank, targets = told.get("lora_rank"), told.get("target_modules")
    optim = told.get("optim")
    return (
        checkpoint_size(
            shape,
            tuner=str(told.get("tuner_type") or told.get("train_type") or "lora"),
            weight_bytes=WEIGHT_BYTES.get(str(told.get("torch_dtype")), 2),
            rank=rank if isinstance(rank, int) else 8,
            targets=targets if isinstance(targets, list) and all(isinstance(t, str) for t in targets) else [],
            dora=bool(told.get("use_dora")),
            states=(optim is None or str(optim).startswith("adamw_torch")) and not told.get("save_only_model"),
        )
        or None
    )


def require_room_for_model(model: Path, base: Path | None, out: Path, quant: str | None = None) -> None:
    """Raise MissingError where the merged model (and the one quantised from it) will not fit beside `out`.

    `model` is the adapter or the full checkpoint, `base` the adapter's base where it is on this disk. Nothing is said
    of a model whose size is not known.
    """
    need = _merged_bytes(model, base)
    room = room_at(out.parent)
    need = round(need * (1 + _QUANTISED.get(quant or "", 0)))
    if room is None or room.free_bytes >= need:
        return
    message = f"the exported model takes {size(need)}, and {_free(room)}"
    raise MissingError(Problem(str(out), message, "make room, or give --out on another disk"))


def held_bytes(folder: Path) -> int:
    """What the files in `folder` and below take; links are not followed."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _merged_bytes(model: Path, base: Path | None) -> int:
    """Of the weights: parameters times what their type takes, where both are known; else those of the base's files."""
    told = read_json(model / "args.json")
    source = base or model
    shape = shape_of(read_json(source / "config.json"))
    each = WEIGHT_BYTES.get(str(told.get("torch_dtype")))
    if base is not None and shape is not None and each:
        return shape.parameters * each
    try:
        return sum(file.stat().st_size for file in source.iterdir() if file.suffix in _WEIGHTS)
    except OSError:
        return 0


def _shape(told: dict[str, object]) -> ModelShape | None:
    folder = told.get("model_dir")
    return shape_of(read_json(Path(folder) / "config.json")) if isinstance(folder, str) else None


def _places(run: RunDirectory) -> Iterator[Room]:
    """The file systems that a run writes to, each once."""
    seen = set()
    for path in (run.path, Path(tempfile.gettempdir()), cache_dir()):
        room = room_at(path)
        if room and room.mount not in seen:
            seen.add(room.mount)
            yield room


def _free(room: Room) -> str:
    if room.free_files == 0:
        return f"{room.mount} can hold no more files (no inode is free)"
    return f"{room.mount} has {size(room.free_bytes)} free"


def _held(run: RunDirectory) -> tuple[str, str]:
    """(what the whole checkpoints take, the last cut-off one and what it takes), for people."""
    found = _checkpoints(run)
    whole = [held_bytes(one.path) for one in found if one.complete]
    cut = [f"{one.path.name} ({size(held_bytes(one.path))})" for one in found if not one.complete]
    many = "its checkpoint holds" if len(whole) == 1 else f"its {len(whole)} checkpoints hold"
    return (f"{many} {size(sum(whole))}" if whole else "", cut[-1] if cut else "")


def _checkpoints(run: RunDirectory) -> list[Checkpoint]:
    try:
        return checkpoints(run.path)
    except OSError:  # a disk that is gone
        return []


def _tried(folder: Path) -> str:
    """What the system says against writing to `folder` now; a trainer whose log is there could not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return cause_in_words(error.errno or 0) if is_of_disk(error) else ""
    return ""


def _said(log: Path) -> str:
    """What the end of `log` says against the disk; empty if nothing, or if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return next((words for pattern, words in _SAID if pattern.search(text)), "")
