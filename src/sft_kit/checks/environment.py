"""The machine a run would use, seen in milliseconds: packages and versions, GPUs, memory, disk. Imports none of them.

Owns the looking. Does not judge (`machine` and what it asks), nor ask torch or a hub
(`doctor`). About 5 ms here without a GPU, of which the folders of `sys.path` take 2; with one, what nvidia-smi takes.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sft_kit.config.schema import RunConfig
from sft_kit.plan.gpus import Gpu, freest, list_gpus, visible_gpus
from sft_kit.resources import read_bounded, user_path
from sft_kit.writes import room_at

_READ = ("ms-swift", "transformers", "torchvision", "torchaudio")
"""Packages whose own requirements are judged."""
_OTHER_ACCELERATORS = ("torch_npu", "torch_musa", "torch_mlu", "torch_xla", "habana_frameworks")
_CGROUP = Path("/sys/fs/cgroup")
_SHARED = "/dev/shm"  # noqa: S108 (looked at, not written to)
_NO_LIMIT = 2**60  # cgroup v1 writes a number near 2**63 for "no limit"
_LARGEST_METADATA = 4 << 20
_LONGEST_LINE = 500  # of METADATA that names a requirement


@dataclass(frozen=True)
class Torch:
    """What torch was built for: CUDA (`12.8`) or ROCm, or neither."""

    version: str
    cuda: str | None
    hip: str | None


@dataclass(frozen=True)
class Disk:
    """`folder` is the nearest that exists above the place meant; `free_files` None where inodes are not counted."""

    folder: Path
    free_bytes: int
    free_files: int | None = None


@dataclass(frozen=True)
class Memory:
    """The machine's, or of its cgroup where that is less. `shared_bytes`: of /dev/shm, None where there is none."""

    total_bytes: int
    available_bytes: int
    shared_bytes: int | None = None


@dataclass(frozen=True)
class Environment:
    """`versions` by normalised distribution name (`flash-attn`); `visible` the GPUs that CUDA_VISIBLE_DEVICES leaves.

    `requires` holds what a few packages say they need: {package: {other package: specifier}}.
    """

    versions: Mapping[str, str]
    gpus: tuple[Gpu, ...]
    visible: tuple[Gpu, ...]
    environ: Mapping[str, str]
    torch: Torch | None = None
    requires: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    disk: Disk | None = None
    memory: Memory | None = None
    other_accelerator: bool = False
    """ROCm, Ascend and the like: nothing is said about CUDA there."""

    @property
    def parts_of_gpus(self) -> bool:
        """Whether CUDA_VISIBLE_DEVICES names parts of cards (MIG), which the list of cards does not know."""
        return "MIG-" in self.environ.get("CUDA_VISIBLE_DEVICES", "")

    def has(self, module: str) -> bool:
        """Whether Python finds a top-level module; nothing is imported."""
        return _found(module)

    def release(self, package: str) -> tuple[int, ...] | None:
        """The numbers of a package's version; None where it is not installed."""
        return release(self.versions[package]) if package in self.versions else None


def look(environ: Mapping[str, str] = os.environ, *, output_dir: Path = Path(".")) -> Environment:
    """What is there, of this interpreter; `environ` is what ms-swift will see."""
    gpus = tuple(list_gpus())
    versions, folders = _distributions(sys.path)
    torch = _torch()
    other = bool(torch and torch.hip) or any(map(_found, _OTHER_ACCELERATORS))
    return Environment(
        versions=versions,
        gpus=gpus,
        visible=tuple(visible_gpus(gpus, environ.get("CUDA_VISIBLE_DEVICES"))),
        environ=environ,
        torch=torch,
        requires={name: _requirements(folders[name]) for name in _READ if name in folders},
        disk=look_at_disk(output_dir),
        memory=_memory(),
        other_accelerator=other,
    )


def run_gpus(environment: Environment, config: RunConfig, processes: int) -> tuple[Gpu, ...]:
    """The cards that this run will work on, as `plan.gpus.gpu_environment` chooses; empty for the CPU, or unknown."""
    if config.use_cpu or not config.launch.gpus or environment.parts_of_gpus:
        return ()
    if "CUDA_VISIBLE_DEVICES" in environment.environ:
        return environment.visible
    return tuple(sorted(freest(environment.gpus, processes), key=lambda gpu: gpu.index))


def look_at_disk(path: Path) -> Disk | None:
    """The file system that `path` is or will be on; None where it does not say."""
    path = user_path(str(path)).absolute()
    folder = next((each for each in (path, *path.parents) if os.path.isdir(each)), None)
    if folder is None:
        return None
    room = room_at(folder)
    return Disk(folder, room.free_bytes, room.free_files) if room else None


def release(version: str) -> tuple[int, ...]:
    """`4.57.6` as numbers; what follows them (`+cu128`, `.dev0`, `rc1`) is left out."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def _found(module: str) -> bool:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return False
    # a folder of that name without __init__.py (wandb's own logs, in the working directory) has no origin
    return spec is not None and spec.origin is not None


def _distributions(path: Sequence[str]) -> tuple[dict[str, str], dict[str, Path]]:
    """Name -> version, and name -> its .dist-info folder, by the folders' names; of two the one Python meets first."""
    versions: dict[str, str] = {}
    folders: dict[str, Path] = {}
    for entry in path:
        with contextlib.suppress(OSError), os.scandir(entry or ".") as listed:
            for each in listed:
                name, dash, version = each.name.removesuffix(".dist-info").partition("-")
                if each.name.endswith(".dist-info") and dash:
                    normal = normalised(name)
                    if normal not in versions:
                        versions[normal] = version
                        folders[normal] = Path(each.path)
    return versions, folders


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(folder: Path) -> dict[str, str]:
    """`{package: specifier}` of METADATA, without extras and markers (but transformers' own `torch` extra)."""
    found: dict[str, str] = {}
    try:
        text = read_bounded(folder / "METADATA", _LARGEST_METADATA).decode("utf-8", "replace")
    except OSError:
        return {}
    for line in text.split("\n"):
        if not line.strip():  # the description begins
            break
        if not line.startswith("Requires-Dist:") or len(line) > _LONGEST_LINE:
            continue
        wanted, _, marker = line[len("Requires-Dist:") :].partition(";")
        # only what a specifier is made of: it stands in a command that is printed to be pasted
        parts = re.match(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?([\w.*+!<>=~,\s-]*)\)?\s*$", wanted)
        if parts and (not marker.strip() or re.fullmatch(r"\s*extra == ['\"]torch['\"]\s*", marker)):
            found.setdefault(normalised(parts[1]), "".join(parts[2].split()))
    return {name: specifier for name, specifier in found.items() if specifier}


def _torch() -> Torch | None:
    """From torch/version.py, which every build writes; torch itself takes seconds to import."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = read_bounded(Path(spec.origin).parent / "version.py", _LARGEST_METADATA).decode("utf-8", "replace")
    except OSError:
        return None
    words = dict(re.findall(r"^(__version__|cuda|hip)\b[^=\n]*=[ \t]*'([\w.+-]{1,64})'", text, re.MULTILINE))
    return Torch(words["__version__"], words.get("cuda"), words.get("hip")) if "__version__" in words else None


def _memory() -> Memory | None:
    """From /proc/meminfo and the cgroup's own limit (a container, a Slurm job)."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        total, available = (int(re.findall(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[0]) * 1024 for key in _MEMINFO)
    except (OSError, IndexError, ValueError):
        return None
    for limit_file, stat_file, used_key in _CGROUP_FILES:
        limit = _number(_CGROUP / limit_file)
        if limit is not None and limit < min(total, _NO_LIMIT):
            total, available = limit, min(available, max(0, limit - _stat(_CGROUP / stat_file, used_key)))
    try:
        shared = os.statvfs(_SHARED)
    except OSError:
        return Memory(total, available)
    return Memory(total, available, shared.f_blocks * shared.f_frsize)


_MEMINFO = ("MemTotal", "MemAvailable")
_CGROUP_FILES = (  # the limit, and what cannot be given back: without the files' cache
    ("memory.max", "memory.stat", "anon"),
    ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss"),
)


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(file: Path, key: str) -> int:
    try:
        found = re.search(rf"^{key} (\d+)$", file.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
