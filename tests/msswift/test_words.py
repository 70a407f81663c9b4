"""The words read from ms-swift's source against its imported tables, and which words are let pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.msswift.install import find_installation
from sft_kit.msswift.words import _read, _unknown_loss_scale, unknown_word, words

WRITTEN_IN_CODE = {"deepspeed", "fsdp", "rope_scaling", "device_map", "init_weights"}


@pytest.mark.real
def test_every_word_is_of_the_real_tables(real_ms_swift: dict[str, Any]) -> None:
    real = {key: set(found) for key, found in real_ms_swift["words"].items() if found}
    ours = {key: set(found) for key, found in words(find_installation()).items() if key not in WRITTEN_IN_CODE}
    spare = ours["template"] - real["template"]  # named by a constant, and registered for no model
    assert len(spare) < 12
    assert {**ours, "template": ours["template"] - spare} == real


def test_the_presets_are_the_files_that_ms_swift_ships() -> None:
    known = words(find_installation())
    assert known["deepspeed"] == ("zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")
    assert known["fsdp"] == ("fsdp2",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tuner_type", "lora"),
        ("attn_impl", "kernels-community/flash-attn"),
        ("init_weights", "pissa_niter_16"),
        ("init_weights", "True"),
        ("loss_scale", "hermes+ignore_empty_think"),
        ("loss_scale", "last_round"),
        ("deepspeed", '{"zero_optimization": {"stage": 2}}'),
        ("device_map", "cuda:0"),
        ("device_map", "0"),
        ("rope_scaling", '{"rope_type": "longrope"}'),
        ("output_dir", "anything"),
    ],
)
def test_what_ms_swift_takes_is_let_pass(key: str, value: str) -> None:
    assert unknown_word(find_installation(), key, value) is None


def test_the_wrong_part_of_a_loss_scale_is_named() -> None:
    unknown = unknown_word(find_installation(), "loss_scale", "default+reakt")
    assert unknown is not None
    assert unknown[0] == "reakt" and {"default", "react"} <= set(unknown[1])


def test_3_x_takes_one_loss_scale_behind_a_base() -> None:
    known = words(find_installation())
    assert _unknown_loss_scale(3, known, "last_round+react") is None
    chained = _unknown_loss_scale(3, known, "default+react+ignore_empty_think")
    assert chained is not None and chained[0] == "react+ignore_empty_think"


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("{}", encoding="utf-8")
    assert unknown_word(find_installation(), "deepspeed", str(tmp_path / "mine")) is None


def test_a_source_without_its_tables_gives_no_words(tmp_path: Path) -> None:
    (tmp_path / "swift").mkdir()
    (tmp_path / "transformers").mkdir()
    empty = replace(
        find_installation(), package=tmp_path / "swift", transformers_package=tmp_path / "transformers"
    )  # fmt: skip
    found, read = _read(empty)
    assert isinstance(found, dict) and list(read) == []
    assert {key for key, known in found.items() if known} == {"rope_scaling", "device_map"}
