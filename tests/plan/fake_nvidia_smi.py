"""A real executable called nvidia-smi that answers the questions sft-kit asks, for tests of machines with GPUs.

entry = install(tmp_path, [Card("NVIDIA GeForce RTX 4090", 24564)], [App(0, 4242, "python", 20000)])
monkeypatch.setenv("PATH", f"{entry}{os.pathsep}{os.environ['PATH']}")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Card:
    """One card; `free_mib` None: all of it but what the driver keeps, 350 MiB, and what `App`s on it use."""

    name: str = "NVIDIA GeForce RTX 4090"
    total_mib: int | str = 24564
    capability: str = "8.9"
    free_mib: int | str | None = None
    driver: str = "570.133.20"


@dataclass(frozen=True)
class App:
    """A process that has `mib` of card number `gpu`."""

    gpu: int
    pid: int
    name: str = "/usr/bin/python3"
    mib: int | str = 1000


RTX4090 = Card()
RTX5090 = Card("NVIDIA GeForce RTX 5090", 32607, "12.0")
A10 = Card("NVIDIA A10", 23028, "8.6")
A100 = Card("NVIDIA A100-SXM4-80GB", 81920, "8.0")
T4 = Card("Tesla T4", 15360, "7.5")
V100 = Card("Tesla V100-SXM2-32GB", 32768, "7.0")
P100 = Card("Tesla P100-PCIE-16GB", 16384, "6.0")


def uuid(index: int) -> str:
    """The UUID that the fake gives card `index`."""
    return f"GPU-{index:08x}-1111-2222-3333-444444444444"


def install(folder: Path, cards: Sequence[Card], apps: Sequence[App] = ()) -> str:
    """Write the executable into `folder` (made if need be) and return what to put first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, card in enumerate(cards):
        used = sum(app.mib for app in apps if app.gpu == index and isinstance(app.mib, int))
        free = card.free_mib
        if free is None:
            free = card.total_mib - 350 - used if isinstance(card.total_mib, int) else card.total_mib
        few = [str(index), card.name, str(free), str(card.total_mib)]
        lines.append((", ".join(few), ", ".join([*few, uuid(index), card.capability, card.driver])))
    running = [f"{uuid(app.gpu)}, {app.pid}, {app.name}, {app.mib}" for app in apps]
    script = folder / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"--query-gpu=index,name,memory.free,memory.total)\n{_print(few for few, _ in lines)};;\n"
        f"--query-gpu=index,name,memory.free,memory.total,uuid,compute_cap,driver_version)\n"
        f"{_print(many for _, many in lines)};;\n"
        f"--query-compute-apps=gpu_uuid,pid,name,used_memory)\n{_print(running)};;\n"
        '*) echo "Field is not a valid field to query." ; exit 2;;\n'
        "esac\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return str(folder)


def _print(lines: Iterable[str]) -> str:
    return "cat <<'END'\n" + "".join(f"{line}\n" for line in lines) + "END\n"
