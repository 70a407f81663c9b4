"""A command in a real process, fast: none of these tests gets as far as starting ms-swift."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

VALID = """\
model: sft-kit/tiny-qwen2
identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 40}
torch_dtype: float32
"""


@pytest.fixture
def sft_kit(tmp_path: Path) -> Run:
    """`sft_kit("train", "config.yaml")` in an empty directory; env adds to the environment."""

    def run(
        *arguments: str, env: dict[str, str] | None = None, cwd: Path = tmp_path
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sft_kit", *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(env or {})},
        )

    return run
