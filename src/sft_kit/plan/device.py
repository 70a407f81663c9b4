"""What a card or a CPU can do: memory, bandwidth, arithmetic, and what the host spends on every operation it starts.

Owns the shipped table and its sources, and the file in which `sft-kit doctor --calibrate` keeps what it measured, which
beats the table. Does not own how seconds follow from it (`speed`), nor the measuring (`run.calibrate`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sft_kit.resources import cache_dir, read_bounded
from sft_kit.writes import put_in_place

GPU_EFFICIENCY = 0.6
"""Share of a card's peak that the matrix products of training reach. Where the 4090's anchors lie: torchtune's 3,083
tokens/s of Llama-3.1-8B LoRA are 0.56 of its peak without checkpointing and 0.84 with it (docs/speed.md)."""
GPU_OVERHEAD_S = 9.7e-6
"""Host seconds an operation: 7,200 of them are the 70 ms a micro-step of a 28 layer model (docs/speed.md)."""


@dataclass(frozen=True)
class Device:
    """One card, or the CPU.

    `memory_gib` is 0 where the machine has to be asked. `tflops` are those that dense matrix products reach in the
    type that training computes in (bf16 or fp16 with fp32 sums on a GPU, fp32 on a CPU). `overhead_s` are host
    seconds for one operation; they pass beside the arithmetic on a GPU (`asynchronous`) and add to it on a CPU.
    """

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    tflops: float
    overhead_s: float
    asynchronous: bool
    source: str

    @property
    def calibrated(self) -> bool:
        """Whether these figures were measured on this machine."""
        return self.source == CALIBRATED


CALIBRATED = "measured here by sft-kit doctor --calibrate"
_LARGEST_CALIBRATION = 1 << 20  # bytes: a machine has a few devices
_AMPERE = "NVIDIA GA102 whitepaper V2.1, tables 2 and 9"
_ADA = "NVIDIA Ada whitepaper V2.1, appendix A"
_SHEET = "NVIDIA data sheet"

# Words of the name that nvidia-smi tells: GiB, GB/s, peak TFLOPS of bf16 (fp16 before Ampere) with fp32 sums, source.
# Without sparsity: data sheets that only print the figure with it are halved.
_TABLE: Mapping[str, tuple[float, float, float, str]] = {
    "RTX 3080": (10, 760, 59.5, _AMPERE),
    "RTX 3090": (24, 936, 71, _AMPERE),
    "RTX A6000": (48, 768, 154.8, _AMPERE),
    "RTX 4080": (16, 717, 97.5, _ADA),
    "RTX 4090": (24, 1008, 165.2, _ADA),
    "RTX 5090": (32, 1792, 209.5, "NVIDIA RTX Blackwell whitepaper V1.1, appendix A"),
    "A10": (24, 600, 125, f"{_SHEET}: A10"),
    "A100": (40, 1555, 312, f"{_SHEET}: A100 40GB"),
    "A100 80GB": (80, 1935, 312, f"{_SHEET}: A100 80GB PCIe"),
    "H100": (80, 3350, 989.4, f"{_SHEET}: H100 SXM"),
    "H100 PCIe": (80, 2000, 756, f"{_SHEET}: H100 PCIe"),
    "H20": (96, 4000, 148, f"{_SHEET}: H20"),
    "L4": (24, 300, 121, f"{_SHEET}: L4"),
    "L40S": (48, 864, 362, f"{_SHEET}: L40S"),
    "T4": (16, 320, 65, f"{_SHEET}: T4 (fp16: it has no bf16)"),
    "V100": (16, 900, 125, f"{_SHEET}: V100 SXM2 (fp16: it has no bf16)"),
}
_MAKERS = frozenset({"NVIDIA", "GeForce", "Tesla"})
_FORMS = frozenset({"SXM", "SXM2", "SXM3", "SXM4", "SXM5", "PCIE", "PCIe", "HBM3", "16GB", "24GB", "32GB", "40GB",
                    "80GB", "96GB", "10GB"})  # fmt: skip

CPU_TFLOPS_A_CORE = 0.06
CPU_BANDWIDTH_GB_S = 12.0
CPU_OVERHEAD_S = 14e-6
_CPU_SOURCE = "measured on two cores of a cloud machine with SmolLM2-135M (docs/speed.md)"


def device_named(name: str) -> Device | None:
    """The card that nvidia-smi calls `name`: as measured on this machine, else from the table, else None.

    A Ti, a SUPER, a laptop's or a MIG part of a card is another card than the one of the table.
    """
    return calibrated(name) or _shipped(name)


def cpu_device(cores: int | None = None) -> Device:
    """The CPU, as measured here, else two measured cores scaled to `cores` (None: those this process may use).

    Arithmetic grows with the cores, the memory's bandwidth and the host's time for an operation do not.
    """
    number = len(os.sched_getaffinity(0)) if cores is None else cores
    name = f"CPU ({number} cores)"
    tflops = CPU_TFLOPS_A_CORE * number
    return calibrated(name) or Device(
        name, 0, CPU_BANDWIDTH_GB_S, tflops, CPU_OVERHEAD_S, asynchronous=False, source=_CPU_SOURCE
    )


def shipped_devices() -> dict[str, Device]:
    """The table: {name: its card}."""
    return {name: found for name in _TABLE if (found := _shipped(name))}


def calibration_file() -> Path:
    """Where measured devices are kept: JSON, {name: figures}."""
    return cache_dir() / "calibration.json"


def calibrated(name: str) -> Device | None:
    """What `store` kept of the device `name`; None where there is nothing, or nothing that can be used."""
    values = _stored().get(name)
    try:
        figures = {field.name: values[field.name] for field in fields(Device)}  # type: ignore[index]
        numbers = [figures[key] for key in ("bandwidth_gb_s", "tflops", "overhead_s")]
        if not all(_is_figure(number) and number for number in numbers) or not _is_figure(figures["memory_gib"]):
            return None
        if not isinstance(figures["asynchronous"], bool):
            return None
        return Device(**{**figures, "name": name, "source": CALIBRATED})
    except (KeyError, TypeError):
        return None


def _is_figure(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 1e9


def store(device: Device) -> Path:
    """Keep `device` as measured on this machine; the others that are kept stay. Raises OSError."""
    path = calibration_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    put_in_place(path, (json.dumps({**_stored(), device.name: asdict(device)}, indent=2) + "\n").encode())
    return path


def _stored() -> dict[str, object]:
    try:
        values = json.loads(read_bounded(calibration_file(), _LARGEST_CALIBRATION))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _shipped(name: str) -> Device | None:
    words = [word for word in name.replace("-", " ").split() if word not in _MAKERS]
    for key in sorted(_TABLE, key=len, reverse=True):  # "A100 80GB" before "A100"
        parts = key.split()
        rest = [word for word in words if word not in parts]
        if set(parts) <= set(words) and _FORMS.issuperset(rest):
            memory_gib, bandwidth, peak, source = _TABLE[key]
            tflops = peak * GPU_EFFICIENCY
            return Device(key, memory_gib, bandwidth, tflops, GPU_OVERHEAD_S, asynchronous=True, source=source)
    return None
