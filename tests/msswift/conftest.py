"""One child process with the real ms-swift for all the comparisons of this folder: its import takes 8 s."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).with_name("real_parser.py")


def ask_child(child: Path, question: object) -> Any:
    """What a script of this folder, run beside the real ms-swift, answers to `question`: JSON both."""
    done = subprocess.run(
        [sys.executable, str(child)],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def ask_real_ms_swift(command_lines: list[tuple[str, list[str]]]) -> dict[str, Any]:
    answer: dict[str, Any] = ask_child(CHILD, command_lines)
    return answer


@pytest.fixture(scope="session")
def real_ms_swift() -> dict[str, Any]:
    """The real argument tables, the real model types, and the answers to `pairs.command_lines()`."""
    from tests.msswift.pairs import command_lines

    return ask_real_ms_swift(command_lines())


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty sft-kit cache, and none in memory."""
    from sft_kit.msswift import arguments, model_types

    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    arguments._tables.cache_clear()
    model_types.model_types.cache_clear()
    return tmp_path / "cache"
