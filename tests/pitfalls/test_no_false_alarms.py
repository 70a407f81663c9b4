"""Configs that are right: what people write who know ms-swift, and what we ship. `check` finds no error in them.

The header of each says what else it needs and which warnings it gives:

    # expected: CODE, CODE     warnings, exactly these (none where nothing follows)
    # gpu: rtx4090             a machine of `corpus.GPUS`
    # packages: flash-attn 2.8.3, deepspeed 0.18.2
    # environ: HF_TOKEN=hf_x
    # model: tiny-qwen2        built as ./model
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pitfalls.corpus import CORPUS, Check, Model, Pitfall

VALID = sorted((CORPUS / "valid").glob("*.yaml"))
SHIPPED = sorted((CORPUS.parents[1] / "configs").glob("*.yaml"))


def test_there_are_configs_to_check() -> None:
    assert len(VALID) >= 36
    assert len(SHIPPED) >= 8


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_config_gives_no_error_and_only_the_warnings_it_names(path: Path, check: Check) -> None:
    valid = _valid(path)
    assert check(valid) == (0, list(valid.expected))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_gives_no_error(path: Path, check: Check) -> None:
    gpu = "none" if "use_cpu" in path.read_text("utf-8") or "gpus: 0" in path.read_text("utf-8") else "a100"
    code, _ = check(_pitfall(str(path), gpu=gpu))
    assert code == 0


def _valid(path: Path) -> Pitfall:
    head = dict(re.findall(r"^# (\w+): ?(.*)$", path.read_text("utf-8"), re.MULTILINE))
    return _pitfall(
        path.name,
        expected=tuple(sorted(_words(head["expected"]))),
        gpu=head.get("gpu", "none"),
        packages=dict(each.split(" ") for each in _words(head.get("packages", ""))),
        environ=dict(each.split("=") for each in _words(head.get("environ", ""))),
        model=Model(head["model"]) if "model" in head else None,
    )


def _pitfall(argument: str, **more: Any) -> Pitfall:
    nothing = {"title_en": "", "title_zh": "", "source": "sft-kit", "instead": "", "swift": False, "exit": 0}
    return Pitfall(slug="valid", group="config", argument=argument, **{"expected": ()} | nothing | more)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
