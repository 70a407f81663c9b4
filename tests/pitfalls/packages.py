"""Empty packages that stand first on `sys.path`, for checks of machines where other packages are installed than here.

entry = install(tmp_path, {"torch": "+cu128", "flash-attn": "2.8.3"})
monkeypatch.syspath_prepend(entry)

`check` only looks at names, versions and torch's build; nothing imports these.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

CUDA_TORCH = {"torch": "+cu128"}
"""What a machine with a GPU has: this environment's torch, as the build for CUDA 12.8."""

_MODULES = {"autoawq": "awq"}
"""Modules that are not called like their distribution."""


def install(folder: Path, packages: Mapping[str, str]) -> str:
    """Write `packages` (distribution name -> version) into `folder` and return what to put first on `sys.path`.

    A version `+cu124` or `+cpu` of torch is this environment's version in another build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in packages.items():
        version = _same_release(name) + version if version.startswith("+") else version
        described = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
        module = folder / _MODULES.get(name, name.replace("-", "_"))
        module.mkdir()
        (module / "__init__.py").touch()
        if name == "torch":
            (module / "version.py").write_text(f"__version__ = '{version}'\ncuda = {_cuda(version)!r}\nhip = None\n")
    return str(folder)


def _same_release(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]


def _cuda(version: str) -> str | None:
    """`12.8` of `2.9.0+cu128`."""
    build = version.partition("+cu")[2]
    return f"{build[:-1]}.{build[-1]}" if build else None
