"""`doctor` on a made-up machine: a real nvidia-smi, the real packages of these tests."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.checks.environment import Torch
from sft_kit.errors import MissingError
from sft_kit.plan.device import cpu_device, store
from sft_kit.plan.gpus import list_gpus
from sft_kit.run.doctor import Finding, _gpu, _judged, _speed, _together, _visible, show
from tests.checks.machine_facts import card, machine
from tests.plan.fake_nvidia_smi import RTX4090, T4, App, install


def test_versions_that_go_together_are_one_line() -> None:
    assert list(_together(machine(versions={"torch": "2.8.0"}))) == [Finding("versions", "ok", "go together")]


def test_versions_that_do_not_are_a_line_each_with_its_fix() -> None:
    seen = machine(
        versions={"ms-swift": "3.12.6", "trl": "1.2", "transformers": "5.2.0", "peft": "0.17.1"},
        requires={"ms-swift": {"trl": "<0.25,>=0.15"}},
    )
    assert list(_together(seen)) == [
        Finding("trl", "note", "1.2 is outside what ms-swift 3.12.6 is made for (<0.25,>=0.15)",
                'pip install "trl<0.25,>=0.15"'),
        Finding("peft", "missing", "0.17.1 cannot be imported with transformers 5.2.0 (cannot import name "
                "'HybridCache')", 'pip install "peft>=0.18"'),
    ]  # fmt: skip


def test_a_card_is_shown_with_what_it_can_and_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = install(tmp_path, [RTX4090, T4], [App(0, 4242, "/usr/bin/python3", 2048)])
    monkeypatch.setenv("PATH", f"{entry}{os.pathsep}{os.environ['PATH']}")
    assert list(map(_gpu, list_gpus())) == [
        Finding("gpu 0", "ok", "NVIDIA GeForce RTX 4090, 21.6 of 24.0 GiB free, compute capability 8.9, "
                "driver 570.133.20, used by python3 (pid 4242)"),
        Finding("gpu 1", "note", "Tesla T4, 14.7 of 15.0 GiB free, compute capability 7.5, driver 570.133.20",
                "no bf16 units: set torch_dtype: float16"),
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "state", "shows"), [("1", "ok", "gpu 1"), ("", "note", "no GPU")])
def test_what_cuda_visible_devices_leaves(value: str, state: str, shows: str) -> None:
    seen = machine(card(0), card(1), environ={"CUDA_VISIBLE_DEVICES": value})
    assert list(_visible(seen)) == [Finding("CUDA_VISIBLE_DEVICES", state, f"{value!r} shows {shows}")]  # type: ignore[arg-type]


SEES_NOTHING = {"version": "2.13.0", "cuda": False, "built": None, "bf16": False, "devices": 0}
SEES_ONE = {"version": "2.8.0+cu128", "cuda": True, "built": "12.8", "bf16": True, "devices": 1}


def test_a_torch_that_does_not_fit_the_card_says_why() -> None:
    lines = _judged(SEES_NOTHING, machine(card(), torch=Torch("2.13.0+cpu", None, None)))
    assert [(line.name, line.state) for line in lines] == [("torch", "ok"), ("torch", "missing")]
    assert lines[1].value == "2.13.0+cpu is built without CUDA, so it does not see GPU 0 (NVIDIA GeForce RTX 4090)"


def test_a_torch_that_sees_its_card() -> None:
    assert _judged(SEES_ONE, machine(card())) == [
        Finding("torch", "ok", "2.8.0+cu128"),
        Finding("cuda", "ok", "12.8, 1 device(s), bf16"),
    ]


def test_a_machine_without_a_card_is_no_fault_of_torch() -> None:
    assert _judged(SEES_NOTHING, machine()) == [
        Finding("torch", "ok", "2.13.0"),
        Finding("cuda", "note", "no GPU: runs use the CPU (torch_dtype: float32, small models)"),
    ]


def test_what_is_missing_ends_in_exit_5_after_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [Finding("python", "ok", "3.11"), Finding("peft", "missing", "not installed", "pip install peft")]
    with pytest.raises(MissingError) as caught:
        show(lines, as_json=True)
    assert str(caught.value) == "peft: not installed; pip install peft"
    assert json.loads(capsys.readouterr().out) == [
        {"name": "python", "state": "ok", "value": "3.11", "fix": ""},
        {"name": "peft", "state": "missing", "value": "not installed", "fix": "pip install peft"},
    ]


def test_the_speed_is_told_with_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    assert _speed(machine()).value.endswith("(a table; sft-kit doctor --calibrate measures it)")
    store(cpu_device())
    assert _speed(machine()).value.endswith("(measured here by sft-kit doctor --calibrate)")
    assert _speed(machine(replace(card(), name="A card of next year"))).state == "note"
