"""Cards are known by the name nvidia-smi tells; what was measured here beats the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.plan.device import (
    CALIBRATED,
    GPU_EFFICIENCY,
    calibration_file,
    cpu_device,
    device_named,
    shipped_devices,
    store,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX A6000", "RTX A6000"),
    ],
)
def test_a_card_is_found_by_the_name_that_nvidia_smi_tells(told: str, known: str) -> None:
    device = device_named(told)
    assert device is not None and device.name == known


@pytest.mark.parametrize(
    "told",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4080 SUPER",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100X",
        "",
    ],
)
def test_a_card_with_another_name_is_another_card(told: str) -> None:
    assert device_named(told) is None


def test_the_table_holds_peaks_of_which_training_reaches_a_share() -> None:
    card = shipped_devices()["RTX 4090"]
    assert (card.memory_gib, card.bandwidth_gb_s, card.tflops) == (24, 1008, 165.2 * GPU_EFFICIENCY)
    assert len(shipped_devices()) == 16
    assert all(each.source and each.asynchronous for each in shipped_devices().values())


def test_a_cpu_has_more_arithmetic_with_more_cores_and_the_same_memory() -> None:
    two, eight = cpu_device(2), cpu_device(8)
    assert eight.tflops == pytest.approx(4 * two.tflops)
    assert (eight.bandwidth_gb_s, eight.overhead_s) == (two.bandwidth_gb_s, two.overhead_s)


def test_what_was_measured_here_beats_the_table() -> None:
    shipped = shipped_devices()["RTX 4090"]
    measured = replace(shipped, name="NVIDIA GeForce RTX 4090", tflops=88.0, source=CALIBRATED)
    store(measured)
    store(replace(cpu_device(2), tflops=0.5))
    assert device_named("NVIDIA GeForce RTX 4090") == measured
    assert (cpu_device(2).tflops, cpu_device(2).calibrated) == (0.5, True)
    assert not cpu_device(4).calibrated


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"CPU (2 cores)": 3}', '{"CPU (2 cores)": {"tflops": "many"}}', '{"CPU (2 cores)": {}}']
)
def test_a_damaged_file_of_measurements_is_as_good_as_none(text: str) -> None:
    calibration_file().write_text(text, encoding="utf-8")
    assert not cpu_device(2).calibrated


def test_a_measurement_that_cannot_be_is_not_used() -> None:
    store(replace(cpu_device(2), tflops=0.0))
    assert cpu_device(2).tflops > 0
