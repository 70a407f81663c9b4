"""Room for a run: disk for its checkpoints and for a model to download, RAM for training without a GPU.

Owns the sizes of what is written. What fits on a GPU is `run_plan`'s.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_kit.checks.environment import look_at_disk, run_gpus
from sft_kit.checks.facts import Facts
from sft_kit.checks.gpus import trains_in
from sft_kit.checks.rules_values import resumed_step
from sft_kit.findings import Finding
from sft_kit.plan.shape import ModelShape
from sft_kit.resources import cache_dir, user_path
from sft_kit.writes import size

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one value, by torch_dtype."""
_ADAPTER_BYTES = 4
_RANK = 8
_STATES = 2
"""AdamW keeps two values of each trained one, in its type (torch.optim.AdamW; DeepSpeed keeps more)."""
_SAVE_STEPS = 500
_SMALL_FILES = 2 * 2**20
"""What a run of the tiny model leaves beside its checkpoints is 0.5 MB; logs grow with the steps."""
_MANY = 10
_DOCKER_SHARED = 64 * 2**20


def room_findings(facts: Facts) -> Iterator[Finding]:
    """Disk, RAM and shared memory. Nothing is said about a model whose size is not known."""
    shape = facts.shape
    yield from _output(facts)
    yield from _other_disks(facts)
    if shape:
        yield from _checkpoints(facts, shape)
        yield from _download(facts, shape)
        yield from _ram(facts, shape)
    yield from _shared_memory(facts)


def checkpoint_bytes(facts: Facts, shape: ModelShape) -> int:
    """Of one checkpoint: the trained weights and, unless save_only_model, the optimizer's state. A lower bound: small
    files, DeepSpeed's copies and modules_to_save are left out."""
    config = facts.config
    plain = config.optim is None or config.optim.startswith("adamw_torch")
    return checkpoint_size(
        shape,
        tuner=config.tuner_type or "lora",
        weight_bytes=WEIGHT_BYTES.get(trains_in(facts) or "", 2),
        rank=config.lora_rank or _RANK,
        targets=config.target_modules or ["all-linear"],
        dora=bool(config.use_dora),
        states=plain and not config.save_only_model,
    )


def checkpoint_size(
    shape: ModelShape, *, tuner: str, weight_bytes: int, rank: int, targets: Sequence[str], dora: bool, states: bool
) -> int:
    """As `checkpoint_bytes`, of the values that decide it; 0 for a `tuner` whose size is not known.

    The tiny model's real ones (ms-swift 4.6.0 and 3.12.6, float32): LoRA 1,019,866 and 1,006,805 bytes where this says
    897,024, full 11,028,495 and 11,015,539 where this says 10,839,552. What it leaves out is 110 KB, and a full one's
    tokenizer.
    """
    if tuner == "full":
        trained, each = shape.parameters, weight_bytes
    elif tuner == "lora":
        named = "all-linear" if "all-linear" in targets else targets
        trained, each = shape.lora_parameters(named, rank, dora=dora), _ADAPTER_BYTES
    else:
        return 0
    return trained * each * (1 + (_STATES if states else 0))


def _output(facts: Facts) -> Iterator[Finding]:
    """Whether the run's own small files fit: config, data, logs, plots, the report."""
    disk = facts.environment.disk
    if disk is None:
        return
    fix = "make room, or give a directory on another disk"
    if disk.free_files == 0:
        message = f"{disk.folder} can hold no more files (no inode is free)"
        yield Finding("disk-full", "error", "output_dir", message, "remove files (`df -i` shows where), or " + fix[11:])
    elif disk.free_bytes < _SMALL_FILES:
        message = f"a run takes {size(_SMALL_FILES)} even without checkpoints, and {disk.folder} has "
        yield Finding("disk-full", "error", "output_dir", f"{message}{size(disk.free_bytes)} free", fix)


def _other_disks(facts: Facts) -> Iterator[Finding]:
    """Where answers are kept and temporary files go, which need not be the disk of the run."""
    environ = facts.environment.environ
    temporary = user_path(environ.get("TMPDIR") or tempfile.gettempdir())
    for folder, what, fix in (
        (temporary, "temporary files go there", "set TMPDIR to a folder on another disk"),
        (cache_dir(), "what models answer is kept there", "set SFT_KIT_CACHE to a folder on another disk"),
    ):
        disk = look_at_disk(folder)
        if disk and (disk.free_bytes < _SMALL_FILES or disk.free_files == 0):
            free = size(disk.free_bytes) if disk.free_files != 0 else "no inode"
            yield Finding("disk-full", "warning", "", f"{folder} has {free} free, and {what}", f"make room, or {fix}")


def _checkpoints(facts: Facts, shape: ModelShape) -> Iterator[Finding]:
    disk, one = facts.environment.disk, checkpoint_bytes(facts, shape)
    if disk is None or not one or disk.free_bytes < _SMALL_FILES:
        return
    # the last state is saved whatever save_strategy says; a new checkpoint is written before an old one is deleted
    saves, limit = _saves(facts), facts.config.save_total_limit
    kept = min(saves, limit + 1) if limit else saves
    fit = int((disk.free_bytes - _SMALL_FILES) // one)
    free = f"{disk.folder} has {size(disk.free_bytes)} free"
    if not fit:
        message = f"a checkpoint takes {size(one)}, and {free}"
        yield Finding("disk-full", "error", "output_dir", message, "make room, or give a directory on another disk")
    elif fit < kept:
        message = f"{kept} checkpoints of {size(one)} are {size(one * kept)}, and {free}"
        yield Finding("disk-full", "warning", "output_dir", message, _fewer(facts, fit))
    elif not limit and _steps(facts) is None and fit < _MANY:
        message = f"every checkpoint of {size(one)} is kept, as save_total_limit is not set, and {free}"
        yield Finding("disk-full", "warning", "output_dir", message, _fewer(facts, fit))


def _fewer(facts: Facts, fit: int) -> str:
    """What to set where `fit` checkpoints fit on the disk; one more than save_total_limit are there for a moment."""
    if fit > 1:
        return f"set save_total_limit: {fit - 1}"
    if resumed_step(facts):  # its states are what it goes on with
        return "make room"
    return "make room, or set save_only_model: true (nothing to go on from then)"


def _saves(facts: Facts) -> int:
    """How often a checkpoint is written from here on; 1 where the number of steps is not known."""
    config, steps, done = facts.config, _steps(facts), resumed_step(facts)
    if not steps or config.save_strategy in ("no", "best"):
        return 1
    if config.save_strategy == "epoch":
        return max(1, math.ceil(config.num_train_epochs or 3)) if not _max_steps(facts) else 1
    every = config.save_steps or _SAVE_STEPS
    every = every * steps if every < 1 else every
    return max(1, math.ceil(steps / every) - math.floor(done / every))


def _max_steps(facts: Facts) -> int:
    return max(0, facts.config.max_steps or 0)


def _steps(facts: Facts) -> int | None:
    if _max_steps(facts):
        return facts.config.max_steps
    if facts.rows is None:
        return None
    return math.ceil(math.ceil(facts.rows / facts.rows_a_step) * (facts.config.num_train_epochs or 3))


def _download(facts: Facts, shape: ModelShape) -> Iterator[Finding]:
    """A model that has to come from a hub: its weights are in 16 bits there, unless the name says otherwise."""
    if facts.directory or not facts.model or facts.model.local:
        return
    if re.search(r"awq|gptq|int[48]|[48]bit|fp8|gguf", facts.model.name, re.IGNORECASE):
        return
    disk, need = look_at_disk(_hub_cache(facts)), 2 * shape.parameters
    if disk and disk.free_bytes < need:
        message = f"downloading {facts.model.name} takes {size(need)}, and {disk.folder} has "
        message += f"{size(disk.free_bytes)} free"
        variable = "HF_HOME" if facts.hugging_face else "MODELSCOPE_CACHE"
        yield Finding("disk-full", "error", "model", message, f"make room, or set {variable} to a larger disk")


def _hub_cache(facts: Facts) -> Path:
    environ = facts.environment.environ
    home = Path(environ.get("HOME", "~")).expanduser()
    if facts.hugging_face:
        cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
        return user_path(environ.get("HF_HUB_CACHE") or environ.get("HF_HOME") or str(cache / "huggingface"))
    return user_path(environ.get("MODELSCOPE_CACHE") or str(home / ".cache/modelscope"))


def _ram(facts: Facts, shape: ModelShape) -> Iterator[Finding]:
    """Training without a GPU has weights, gradients and optimizer in RAM; what activations take comes on top."""
    environment, config = facts.environment, facts.config
    dtype = trains_in(facts)
    on_cpu = not run_gpus(environment, config, facts.processes) and not environment.parts_of_gpus
    if not on_cpu or dtype not in WEIGHT_BYTES or environment.other_accelerator or environment.memory is None:
        return
    if dtype == "bfloat16" and not config.use_cpu:  # it will not train here at all: bf16-without-gpu
        return
    weights = shape.parameters * WEIGHT_BYTES[dtype]
    need = weights * (2 + _STATES) if config.tuner_type == "full" else weights
    if environment.memory.available_bytes < need:
        message = (
            f"training on the CPU takes over {size(need)} of RAM for {facts.model.name if facts.model else 'it'}, "
        )
        message += f"and {size(environment.memory.available_bytes)} are available"
        yield Finding("little-ram", "warning", "model", message, "take a smaller model, or a GPU")


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    """Docker gives 64 MiB of /dev/shm; NCCL between several GPUs, and pictures from data loaders, want more: `Bus
    error` (NCCL troubleshooting guide, "Docker"; pytorch/pytorch#2244)."""
    memory = facts.environment.memory
    if memory is None or memory.shared_bytes is None or memory.shared_bytes > _DOCKER_SHARED:
        return
    pictures = facts.directory is not None and "vision_config" in facts.directory.config
    if (facts.processes > 1 and facts.environment.visible) or (pictures and facts.config.dataloader_num_workers != 0):
        message = f"{memory.shared_bytes // 2**20} MiB of shared memory (Docker's default); NCCL and data loaders that "
        message += "bring pictures need more and die of a bus error"
        yield Finding("little-shared-memory", "warning", "", message, "start the container with --shm-size=16g")
