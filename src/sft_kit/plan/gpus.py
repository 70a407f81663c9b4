"""Chooses the GPUs of a run by asking `nvidia-smi`; never imports torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from sft_kit.errors import MissingError, Problem


@dataclass(frozen=True)
class Gpu:
    """One card as nvidia-smi lists it (PCI bus order). Memory in MiB."""

    index: int
    name: str
    free_mib: int
    total_mib: int


def list_gpus(timeout_s: float = 10) -> list[Gpu]:
    """The NVIDIA cards of this machine; empty when there is no driver, or it does not answer."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=timeout_s, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for gpu in map(_parse, answer.splitlines()) if gpu]


def gpu_environment(wanted: int, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that give a run `wanted` GPUs: the ones with most free memory, or none for 0.

    A CUDA_VISIBLE_DEVICES that the user has set is left as it is (but for 0, which hides all). On a machine without
    GPUs nothing is set for `wanted` 1 (the run uses the CPU); more than there are raise MissingError.
    """
    if wanted == 0:
        return {"CUDA_VISIBLE_DEVICES": ""}
    if "CUDA_VISIBLE_DEVICES" in environ:
        visible = [device for device in environ["CUDA_VISIBLE_DEVICES"].split(",") if device.strip()]
        if 1 < wanted > len(visible):
            message = f"{wanted} GPUs asked for, CUDA_VISIBLE_DEVICES shows {len(visible)}"
            raise MissingError(Problem("launch.gpus", message, "show more, or set launch.gpus lower"))
        return {}
    gpus = list_gpus()
    if len(gpus) < wanted:
        if wanted == 1:
            return {}
        fix = f"set launch.gpus to at most {len(gpus)}"
        raise MissingError(Problem("launch.gpus", f"{wanted} GPUs asked for, {len(gpus)} found", fix))
    if len(gpus) == wanted == 1:
        return {}
    chosen = sorted(sorted(gpus, key=lambda gpu: -gpu.free_mib)[:wanted], key=lambda gpu: gpu.index)
    devices = ",".join(str(gpu.index) for gpu in chosen)
    # nvidia-smi counts in PCI bus order; CUDA's own default order is fastest first
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": devices}


def _parse(line: str) -> Gpu | None:
    try:
        index, rest = line.split(",", 1)
        name, free, total = rest.rsplit(",", 2)
        return Gpu(int(index), name.strip(), int(free), int(total))
    except ValueError:  # "[N/A]" on cards without their own memory
        return None
