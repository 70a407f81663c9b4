"""The cards of a run against its config: are they there and free, and can they compute what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator

from sft_kit.checks.environment import run_gpus
from sft_kit.checks.facts import Facts
from sft_kit.findings import Finding, Severity
from sft_kit.plan.gpus import Gpu, gpu_named

_FLASH = ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4")
_TAKEN_MIB = 2048
_TAKEN_SHARE = 0.1
"""Less than these is a desktop's, or the driver's own."""


def gpu_findings(facts: Facts) -> Iterator[Finding]:
    """Everything about the cards but torch's own fit (`versions`) and memory (`run_plan`)."""
    if facts.environment.other_accelerator:
        return
    gpus = run_gpus(facts.environment, facts.config, facts.processes)
    yield from _visible_devices(facts)
    yield from _without_gpu(facts)
    yield from _old_cards(facts, gpus)
    yield from _processes(facts)
    yield from _busy(facts, gpus)


def _wants_gpu(facts: Facts) -> bool:
    return not facts.config.use_cpu and facts.config.launch.gpus > 0


def trains_in(facts: Facts) -> str | None:
    """The type of weights and mixed precision: torch_dtype, or the model's own (`model_args._init_torch_dtype`)."""
    if facts.config.torch_dtype:
        return facts.config.torch_dtype
    config = facts.directory.config if facts.directory else {}
    told = config.get("torch_dtype") or config.get("dtype")
    return told if isinstance(told, str) else None


def _visible_devices(facts: Facts) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES, read as CUDA does."""
    environment = facts.environment
    value, gpus = environment.environ.get("CUDA_VISIBLE_DEVICES"), environment.gpus
    if value is None or not gpus or environment.parts_of_gpus or not _wants_gpu(facts):
        return
    words = [word.strip() for word in value.split(",")]
    if words in ([""], ["-1"]):
        message = f"{_count(gpus)} here, hidden by CUDA_VISIBLE_DEVICES={value!r}; training runs on the CPU"
        yield Finding("hidden-gpus", "warning", "", message, "unset it, or set use_cpu: true")
        return
    unknown = [word for word in words if gpu_named(gpus, word) is None]
    severity: Severity = "warning" if len(environment.visible) >= facts.processes else "error"
    if unknown:
        message = f"CUDA_VISIBLE_DEVICES={value} names {unknown[0]!r}, which is not here "
        message += f"(there is {_numbers(gpus)}); CUDA hides it and all that follow"
        yield Finding("bad-visible-devices", severity, "", message, f"set it to some of {_numbers(gpus)}")
    elif len(set(words)) < len(words):
        message = f"CUDA_VISIBLE_DEVICES={value} names a card twice; CUDA then shows none"
        yield Finding("bad-visible-devices", severity, "", message, "name each once")
    elif _order_matters(facts):
        message = f"CUDA_VISIBLE_DEVICES={value} counts the fastest card first, nvidia-smi in bus order; "
        message += "with different cards these are not the same numbers"
        yield Finding("gpu-order", "warning", "", message, "set CUDA_DEVICE_ORDER=PCI_BUS_ID too")


def _order_matters(facts: Facts) -> bool:
    environment = facts.environment
    by_number = all(word.strip().isdigit() for word in environment.environ["CUDA_VISIBLE_DEVICES"].split(","))
    mixed = len({gpu.name for gpu in environment.gpus}) > 1
    ordered = environment.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return by_number and mixed and not ordered and len(environment.visible) < len(environment.gpus)


def _count(gpus: tuple[Gpu, ...]) -> str:
    return f"{len(gpus)} {'GPU is' if len(gpus) == 1 else 'GPUs are'}"


def _numbers(gpus: tuple[Gpu, ...]) -> str:
    return ",".join(str(gpu.index) for gpu in gpus)


def _without_gpu(facts: Facts) -> Iterator[Finding]:
    """bfloat16 where torch sees no GPU: transformers' TrainingArguments raises "Your setup doesn't support bf16/gpu"
    unless use_cpu is set (both generations, tried; float16 and float32 train). An error where the config or the
    environment turn the GPU away; where the machine has none a warning, for the config may be meant for another."""
    environment, config = facts.environment, facts.config
    if (
        config.use_cpu
        or (environment.parts_of_gpus and config.launch.gpus)
        or config.swift_values().get("bf16") is False
    ):
        return
    sees_none = not environment.visible or not config.launch.gpus
    if trains_in(facts) != "bfloat16" or not sees_none:
        return
    turned_away = not config.launch.gpus or bool(environment.gpus)
    said = "torch_dtype" if config.torch_dtype else "model"
    what = "bfloat16" if config.torch_dtype else "the model's own type is bfloat16"
    where = "GPUs are hidden from this run" if turned_away else "no NVIDIA GPU is found here"
    message = f"{what}, but {where}; ms-swift then ends with: Your setup doesn't support bf16/gpu"
    fix = "on a CPU set torch_dtype: float32 (or use_cpu: true)"
    elsewhere = config.launch.memory_gib is not None  # planned for a card that is not here
    severity: Severity = "error" if turned_away else "note" if elsewhere else "warning"
    yield Finding("bf16-without-gpu", severity, said, message, fix)


def _old_cards(facts: Facts, gpus: tuple[Gpu, ...]) -> Iterator[Finding]:
    """Before Ampere (8.0): torch says that bfloat16 works (torch.cuda.is_bf16_supported counts emulation), slowly;
    flash attention has no kernels (modelscope/ms-swift#5002)."""
    old = next((gpu for gpu in gpus if gpu.capability and gpu.capability < (8, 0)), None)
    if old is None or old.capability is None:
        return
    number = f"{old.capability[0]}.{old.capability[1]}"
    if trains_in(facts) == "bfloat16":
        message = f"{old.label} has compute capability {number} and no bfloat16 units (8.0 has); torch emulates it, "
        message += "several times slower, or refuses it"
        yield Finding("bf16-on-old-gpu", "warning", "torch_dtype", message, "set torch_dtype: float16")
    if facts.config.attn_impl in _FLASH:
        message = f"{facts.config.attn_impl} on {old.label}, compute capability {number}: FlashAttention only supports "
        message += "Ampere GPUs or newer (8.0)"
        yield Finding("flash-attention-on-old-gpu", "error", "attn_impl", message, "set attn_impl: sdpa")


def _processes(facts: Facts) -> Iterator[Finding]:
    """Visible cards and processes: swift/utils/env.py is_mp asserts that the one divides by the other, and spreads the
    model over the cards of a process; sft_args and trainers/arguments refuse DeepSpeed, FSDP and liger then."""
    environment, config = facts.environment, facts.config
    visible = len(environment.visible)
    if "CUDA_VISIBLE_DEVICES" not in environment.environ or not visible or not _wants_gpu(facts):
        return
    per_node = environment.environ.get("NPROC_PER_NODE", "")
    local = int(per_node) if per_node.isdigit() else config.launch.gpus
    if environment.environ.get("SWIFT_SINGLE_DEVICE_MODE") == "1" or local < 1:
        return
    if visible > local and visible % local:
        message = f"{visible} visible GPUs cannot be shared out evenly to {local} processes; ms-swift asserts that"
        yield Finding("uneven-gpus", "error", "launch.gpus", message, f"show {local} in CUDA_VISIBLE_DEVICES")
    elif visible > local:
        given = config.swift_values()
        refused = [key for key in ("deepspeed", "fsdp", "use_liger_kernel") if given.get(key)]
        message = f"{visible} visible GPUs for {local} process{'es' if local > 1 else ''}: ms-swift spreads the layers "
        if refused:
            message += f"over them (device_map), which it refuses together with {', '.join(refused)}"
            yield Finding("spread-over-gpus", "error", "launch.gpus", message, f"set launch.gpus: {visible}")
        else:
            message += "over them (device_map), which is no faster than one of them"
            yield Finding("spread-over-gpus", "note", "launch.gpus", message, f"launch.gpus: {visible} trains on all")


def _busy(facts: Facts, gpus: tuple[Gpu, ...]) -> Iterator[Finding]:
    """A card that others use already. How much this run needs is `run_plan`'s."""
    for gpu in gpus:
        taken = gpu.total_mib - gpu.free_mib
        if taken < max(_TAKEN_MIB, _TAKEN_SHARE * gpu.total_mib):
            continue
        holders = sorted(gpu.holders, key=lambda holder: -(holder.mib or 0))
        named = ", ".join(
            f"{each.name} (pid {each.pid}{f', {each.mib:,} MiB' if each.mib is not None else ''})"
            for each in holders[:3]
        )
        more = f" and {len(holders) - 3} more" if len(holders) > 3 else ""
        message = f"{taken / 1024:.1f} of {gpu.total_mib / 1024:.1f} GiB are taken"
        message += f" by {named}{more}" if named else ", by processes that nvidia-smi does not show here"
        freer = [each for each in facts.environment.gpus if each not in gpus and each.free_mib > gpu.free_mib]
        fix = "wait for them or end them"
        if freer:
            best = max(freer, key=lambda each: each.free_mib)
            fix += f", or set CUDA_VISIBLE_DEVICES={best.index} ({best.free_mib / 1024:.1f} GiB free)"
        yield Finding("gpu-busy", "warning", gpu.label, message, fix)
