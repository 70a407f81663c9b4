"""What scripts/setup installs: every file has a hash, and a file that is another one ends the set-up."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "constraints").glob("ms-swift-*.txt"))
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==[\w.!]+((?: --hash=sha256:[0-9a-f]{64})+)")
HASHED = (sys.version_info[:2], platform.system(), platform.machine()) in [
    ((3, 11), "Linux", "x86_64"),
    ((3, 11), "Linux", "aarch64"),
]


def test_there_are_constraints_for_both_generations() -> None:
    assert [file.name for file in FILES] == ["ms-swift-3.txt", "ms-swift-4.txt"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_package_but_torch_is_pinned_once_with_the_hash_of_its_file(file: Path) -> None:
    pins = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    matched = [PIN.fullmatch(line) for line in pins]
    assert [pin for pin, match in zip(pins, matched, strict=True) if not match] == []
    names = [match[1] for match in matched if match]
    assert names == sorted(set(names))
    assert {"ms-swift", "transformers", "setuptools", "hatchling"} <= set(names)
    assert "torch" not in names


def test_a_file_that_is_not_the_pinned_one_ends_the_setup(tmp_path: Path) -> None:
    for part in ("scripts/setup", "pyproject.toml", "src/sft_kit/__init__.py"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / part, tmp_path / part)
    (tmp_path / "constraints").mkdir()
    pinned = f"setuptools==84.2.1 --hash=sha256:{64 * '0'}\n"
    (tmp_path / "constraints" / "ms-swift-4.txt").write_text(pinned, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "setuptools-84.2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("setuptools-84.2.1.dist-info/METADATA", "Name: setuptools\nVersion: 84.2.1\n")
    python = tmp_path / ".venv" / "bin" / "python"  # this one, so that none is made; PIP_DRY_RUN: nothing is installed
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    settings = {"PIP_DRY_RUN": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    result = subprocess.run(
        ["bash", tmp_path / "scripts" / "setup"],
        env={**os.environ, **settings, "PIP_CONFIG_FILE": os.devnull, "SFT_KIT_GENERATION": "4"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    said = "THESE PACKAGES DO NOT MATCH THE HASHES" if HASHED else "No matching distribution found for torch"
    assert said in result.stderr
    assert not (tmp_path / ".venv" / ".sft-kit-setup").exists()
