"""Writes constraints/ms-swift-N.txt: the versions in an environment that passed its tests, each with its SHA-256.

    .venv/bin/python scripts/dev/pin.py 4        .venv-3/bin/python scripts/dev/pin.py 3

A package has one line, with the hash of the file that pip takes with Python 3.11 and glibc 2.28 (torch's own) on Linux
for x86-64, and for aarch64 where that is another: a wheel, or the source where there is none. PyPI says the hashes.

Not in it: torch, whose CPU and CUDA builds have one version and different files (scripts/setup pins the version), what
only a CUDA build brings, pip, and sft-kit. A new dependency: `pip install` it there, then this. A new set: in a new
environment `pip install torch==... ms-swift==... -e '.[dev]'` and `setuptools hatchling editables`, which build what
comes as source; run scripts/test; then this.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging import tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from pip._internal.models.index import PyPI

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*|sft-kit|pip)==")
GLIBC = range(28, 4, -1)  # 2.N
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600
HEADER = """\
# What scripts/setup installs with ms-swift {generation}.x: one set that is known to work together (Python 3.11, Linux),
# with the SHA-256 of each file for x86-64, aarch64. torch is not here. Made by scripts/dev/pin.py, which says why.
"""


def installed() -> list[tuple[str, str]]:
    """(name, version) of what is pinned, by name."""
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    frozen = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    pairs = [line.split("==") for line in frozen if re.match(r"[\w.-]+==", line)]
    named = sorted((canonicalize_name(name), version) for name, version in pairs)
    return [(name, version) for name, version in named if not LEFT_OUT.match(f"{name}==")]


def preferred_tags(architecture: str) -> list[tags.Tag]:
    """The tags of wheels that pip takes, the best first."""
    manylinux = [name for minor in GLIBC for name in (f"manylinux_2_{minor}", OLD_NAMES.get(minor)) if name]
    platforms = [f"{name}_{architecture}" for name in manylinux]
    own = tags.cpython_tags((3, 11), ["cp311"], platforms)
    return [*own, *tags.compatible_tags((3, 11), "cp311", platforms)]


def chosen(names: list[str], version: str, order: list[tags.Tag]) -> str:
    """The file name that pip takes."""
    ranked = []
    for name in names:
        if name.endswith(".whl"):
            fitting = parse_wheel_filename(name)[3].intersection(order)
            ranked += [(order.index(tag), name) for tag in fitting]
    return min(ranked)[1] if ranked else next(n for n in names if n.endswith(f"-{version}.tar.gz"))


def line(pin: tuple[str, str]) -> str:
    name, version = pin
    page = urllib.request.Request(  # noqa: S310  (https, by pip's own word)
        f"{PyPI.simple_url}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(page) as answer:  # noqa: S310
        files = {one["filename"]: one["hashes"]["sha256"] for one in json.load(answer)["files"]}
    names = [file for file in files if re.search(rf"-{re.escape(version)}(-|\.tar\.gz$)", file)]
    both = [chosen(names, version, preferred_tags(architecture)) for architecture in ("x86_64", "aarch64")]
    return " ".join([f"{name}=={version}", *(f"--hash=sha256:{files[file]}" for file in dict.fromkeys(both))])


def main() -> None:
    generation = sys.argv[1]
    with ThreadPoolExecutor(8) as pool:
        lines = list(pool.map(line, installed()))
    path = ROOT / "constraints" / f"ms-swift-{generation}.txt"
    path.write_text(HEADER.format(generation=generation) + "".join(f"{one}\n" for one in lines), encoding="utf-8")
    print(f"{len(lines)} packages")


if __name__ == "__main__":
    main()
