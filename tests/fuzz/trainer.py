"""Stands for the ms-swift process: writes what `swift sft` writes, in its order, and as little of it as will do.

Its model is one hash: after each step that of the step before, the step's number and the bytes of all data files. So a
run that goes on from another state than it had, or on other rows, ends with another adapter than one nobody touched.

The order of a checkpoint's files is that of transformers (trainer.py, `_save_checkpoint`; the weights and args.json
first, trainer_state.json last), and old ones are removed after that (`_rotate_checkpoints`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sft_kit.run.process import Exit

STEPS, SAVE_STEPS, KEPT = 6, 2, 2


class Killed(Exception):
    """The trainer alone is killed."""


class StandIn:
    """`process.start` and its process, in the launcher's own: it dies with it, as the real one does."""

    killed_at_step: int | None = None

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.pid = os.getpid()
        self._options = options_of(argv)
        self._log = log
        with log.open("ab", buffering=0) as file:
            file.write(b"run sh: swift sft\n")

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tick: Callable[[], None]) -> Exit:
        """Train to the end; a disk that is full ends it as it ends the real one."""
        try:
            _train(self._options, tick, self.killed_at_step)
        except Killed:
            return Exit(None, signal.SIGKILL)
        except OSError as error:
            try:
                with self._log.open("ab", buffering=0) as file:
                    file.write(f"OSError: {error}\n".encode())
            except OSError:
                pass
            return Exit(1)
        return Exit(0)


def supervise(process: StandIn, *, tick: Callable[[], None]) -> Exit:
    """As `process.supervise`."""
    ended = process.run(tick)
    tick()
    return ended


def options_of(argv: Sequence[str]) -> dict[str, list[str]]:
    """The values of each `--key` of a command line."""
    options: dict[str, list[str]] = {}
    key = ""
    for word in argv:
        if word.startswith("--"):
            key = word[2:]
            options[key] = []
        elif key:
            options[key].append(word)
    return options


def state_after(steps: int, data: Sequence[Path]) -> str:
    """What the model of a run that nobody touched is after so many steps."""
    rows = _digest(data)
    state = rows
    for step in range(1, steps + 1):
        state = _next(state, step, rows)
    return state


def state_in(checkpoint: Path) -> str:
    """The model in a checkpoint."""
    return (checkpoint / "adapter_model.safetensors").read_bytes()[-32:].hex()


def _digest(data: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in data)).hexdigest()


def _next(state: str, step: int, rows: str) -> str:
    return hashlib.sha256(f"{state} {step} {rows}".encode()).hexdigest()


def _train(options: Mapping[str, list[str]], tick: Callable[[], None], killed_at_step: int | None) -> None:
    out = Path(options["output_dir"][0])
    save_steps = int(options["save_steps"][0])
    rows = _digest([Path(entry.split("#")[0]) for entry in options["dataset"]])
    first, state = 0, rows
    if resumed := options.get("resume_from_checkpoint"):
        first = json.loads((Path(resumed[0]) / "trainer_state.json").read_text())["global_step"]
        with zipfile.ZipFile(Path(resumed[0]) / "optimizer.pt") as archive:
            state = archive.read("data.pkl").decode()
    _write(out / "args.json", json.dumps({"output_dir": str(out), "save_total_limit": KEPT}))
    for step in range(first + 1, STEPS + 1):
        if step == killed_at_step:
            raise Killed
        state = _next(state, step, rows)
        row = {"loss": 1 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "token_acc": step / 10}
        _append(out / "logging.jsonl", {**row, "epoch": step / 10, "global_step/max_steps": f"{step}/{STEPS}"})
        tick()
        if step % save_steps == 0 or step == STEPS:
            _save(out, step, state)
    _append(out / "logging.jsonl", {"train_runtime": 1.0, "global_step/max_steps": f"{STEPS}/{STEPS}"})
    last = str(out / f"checkpoint-{STEPS}")
    _append(out / "logging.jsonl", {"last_model_checkpoint": last, "best_model_checkpoint": last, "global_step": STEPS})


def _save(out: Path, step: int, state: str) -> None:
    folder = out / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    header = json.dumps({"t": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}).encode()
    _write(folder / "adapter_model.safetensors", len(header).to_bytes(8, "little") + header + bytes.fromhex(state))
    _write(folder / "adapter_config.json", "{}")
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    _write(folder / "args.json", json.dumps({"model": "sft-kit/tiny-qwen2", **batch}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with open(folder / name, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data.pkl", state)
    _write(folder / "trainer_state.json", json.dumps({"global_step": step, "max_steps": STEPS, "train_batch_size": 2}))
    there = sorted(int(name[11:]) for name in os.listdir(out) if re.fullmatch(r"checkpoint-\d+", name))
    for old in there[:-KEPT]:
        shutil.rmtree(out / f"checkpoint-{old}")


def _write(path: Path, content: str | bytes) -> None:
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def _append(path: Path, row: Mapping[str, object]) -> None:
    with open(path, "ab") as file:
        file.write(json.dumps(row).encode() + b"\n")
