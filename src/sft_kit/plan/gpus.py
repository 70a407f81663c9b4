"""The NVIDIA GPUs of this machine and the choice among them, by asking `nvidia-smi`; never imports torch."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sft_kit.asking import answer, start
from sft_kit.errors import MissingError, Problem

_FIELDS = "index,name,memory.free,memory.total"
_MORE_FIELDS = "uuid,compute_cap,driver_version"
_FORMAT = "--format=csv,noheader,nounits"
_SHARED = ("[N/A]", "[Not Supported]")  # GB10, Jetson: the card works in the machine's own memory
_MOST_MIB = 1 << 30  # of a card; a number beyond it is none


@dataclass(frozen=True)
class Holder:
    """A process that has memory of a card: `mib` is None where the driver does not say how much (WSL, some MIG)."""

    pid: int
    name: str
    mib: int | None


@dataclass(frozen=True)
class Gpu:
    """One card as nvidia-smi lists it (PCI bus order). Memory in MiB; "" or None where an old driver does not say."""

    index: int
    name: str
    free_mib: int
    total_mib: int
    uuid: str = ""
    capability: tuple[int, int] | None = None
    driver: str = ""
    holders: tuple[Holder, ...] = ()

    @property
    def label(self) -> str:
        """`GPU 0 (NVIDIA A10)`."""
        return f"GPU {self.index} ({self.name})"


def list_gpus(timeout_s: float = 10) -> list[Gpu]:
    """The NVIDIA cards of this machine; empty when there is no driver, or it does not answer within `timeout_s`.

    Two questions at the same time (cards, processes); a third only for drivers before 510, which refuse a question
    about the compute capability.
    """
    if not shutil.which("nvidia-smi"):
        return []
    deadline = time.monotonic() + timeout_s
    asked = (f"--query-gpu={_FIELDS},{_MORE_FIELDS}", "--query-compute-apps=gpu_uuid,pid,name,used_memory")
    cards, apps = (start(("nvidia-smi", query, _FORMAT)) for query in asked)
    found, running = answer(cards, deadline), answer(apps, deadline)
    if found.returncode == 2:
        found = answer(start(("nvidia-smi", f"--query-gpu={_FIELDS}", _FORMAT)), deadline)
    holders = _holders(running.text.split("\n") if running.returncode == 0 else ())
    gpus = map(_card, found.text.split("\n") if found.returncode == 0 else ())
    return [replace(gpu, holders=tuple(holders.get(gpu.uuid, ()))) for gpu in gpus if gpu]


def gpu_environment(
    wanted: int, environ: Mapping[str, str] = os.environ, gpus: Sequence[Gpu] | None = None
) -> dict[str, str]:
    """The variables that give a run `wanted` GPUs: the ones with most free memory, or none for 0.

    A CUDA_VISIBLE_DEVICES that the user has set is left as it is (but for 0, which hides all). On a machine without
    GPUs nothing is set for `wanted` 1 (the run uses the CPU); more than there are raise MissingError. `gpus`: what
    `list_gpus` said, where it was asked already.
    """
    if wanted == 0:
        return {"CUDA_VISIBLE_DEVICES": ""}
    if "CUDA_VISIBLE_DEVICES" in environ:
        visible = [device for device in environ["CUDA_VISIBLE_DEVICES"].split(",") if device.strip()]
        if 1 < wanted > len(visible):
            message = f"{wanted} GPUs asked for, CUDA_VISIBLE_DEVICES shows {len(visible)}"
            raise MissingError(Problem("launch.gpus", message, "show more, or set launch.gpus lower"))
        return {}
    gpus = list_gpus() if gpus is None else gpus
    if len(gpus) < wanted:
        if wanted == 1:
            return {}
        fix = f"set launch.gpus to at most {len(gpus)}"
        raise MissingError(Problem("launch.gpus", f"{wanted} GPUs asked for, {len(gpus)} found", fix))
    if len(gpus) == wanted == 1:
        return {}
    chosen = sorted(freest(gpus, wanted), key=lambda gpu: gpu.index)
    devices = ",".join(str(gpu.index) for gpu in chosen)
    # nvidia-smi counts in PCI bus order; CUDA's own default order is fastest first
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": devices}


def freest(gpus: Sequence[Gpu], wanted: int) -> list[Gpu]:
    """The `wanted` cards with most free memory, the freest first."""
    return sorted(gpus, key=lambda gpu: -gpu.free_mib)[:wanted]


def visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, in its order; all of them where it is None.

    As CUDA reads it (torch.cuda._parse_visible_devices): the first word that names no card hides what follows, a card
    named twice hides all. A part of a card (`MIG-...`) is no card of the list.
    """
    if visible is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for word in visible.split(","):
        gpu = gpu_named(gpus, word)
        if gpu is None:
            break
        if gpu in chosen:
            return []
        chosen.append(gpu)
    return chosen


def gpu_named(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    """The card that one word of CUDA_VISIBLE_DEVICES names: a number, or the unique beginning of a UUID."""
    word = word.strip()
    if re.fullmatch(r"\+?[0-9]{1,9}", word):
        return next((gpu for gpu in gpus if gpu.index == int(word)), None)
    named = [gpu for gpu in gpus if word.startswith("GPU-") and gpu.uuid.startswith(word)]
    return named[0] if len(named) == 1 else None


def _card(line: str) -> Gpu | None:
    """Asks for four fields or seven; the name may hold commas."""
    try:
        index, rest = line.split(",", 1)
        more: list[str] = []
        if re.search(r",\s*[\d.]+\s*$", rest) and re.search(r"GPU-[0-9a-f-]+", rest):
            rest, *more = (part.strip() for part in rest.rsplit(",", 3))
        name, free, total = (part.strip() for part in rest.rsplit(",", 2))
        if free in _SHARED and total in _SHARED:
            free_mib, total_mib = _machine_memory_mib()
        else:
            free_mib, total_mib = int(free), int(total)
            if max(free_mib, total_mib) > _MOST_MIB:
                return None
        uuid, capability, driver = more or ("", "", "")
        return Gpu(int(index), name, free_mib, total_mib, uuid, _capability(capability), driver)
    except ValueError:  # a card that does not answer: "[Unknown Error]"
        return None


def _capability(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _machine_memory_mib() -> tuple[int, int]:
    """Free and total memory of the machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    return tuple(os.sysconf(name) * page >> 20 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))  # type: ignore[return-value]


def _holders(lines: Iterable[str]) -> dict[str, list[Holder]]:
    """{UUID of a card: its processes}."""
    found: dict[str, list[Holder]] = {}
    for line in lines:
        try:
            uuid, pid, rest = line.split(",", 2)
            name, used = (part.strip() for part in rest.rsplit(",", 1))
            holder = Holder(int(pid), name.rsplit("/", 1)[-1], int(used) if used.isdigit() else None)
        except ValueError:
            continue
        found.setdefault(uuid.strip(), []).append(holder)
    return found
