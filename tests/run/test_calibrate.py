"""What was measured becomes constants with which the time model gives the measurement back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_kit.plan.device import CALIBRATED, calibrated, cpu_device, device_named
from sft_kit.plan.speed import work_of
from sft_kit.run.calibrate import LONG, NARROW, SHORT, WIDE, calibrate, device_from, shape_like, tuning_on


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))


def test_a_measured_cpu_gives_its_measurement_back() -> None:
    device = device_from({"name": "", "memory_gib": 0, "bandwidth_gb_s": 12, "short_s": 0.08, "long_s": 0.9})
    assert (device.name, device.source, device.asynchronous) == (cpu_device().name, CALIBRATED, False)
    shape, tuning = shape_like(NARROW), tuning_on(gpu=False)
    assert work_of(shape, tuning, SHORT).seconds(device) == pytest.approx(0.08, rel=0.02)
    assert work_of(shape, tuning, LONG).seconds(device) == pytest.approx(0.9, rel=0.02)


def test_a_measured_gpu_gives_its_measurement_back() -> None:
    measured = {"name": "NVIDIA X", "memory_gib": 24, "bandwidth_gb_s": 900, "short_s": 0.02, "long_s": 0.12}
    device = device_from(measured)
    assert (device.name, device.memory_gib, device.asynchronous) == ("NVIDIA X", 24, True)
    assert work_of(shape_like(NARROW), tuning_on(gpu=True), SHORT).seconds(device) == pytest.approx(0.02)
    assert work_of(shape_like(WIDE), tuning_on(gpu=True), LONG).seconds(device) == pytest.approx(0.12)


def test_a_cpu_whose_short_step_is_all_reading_still_has_a_cost_for_each_operation() -> None:
    device = device_from({"name": "", "memory_gib": 0, "bandwidth_gb_s": 1, "short_s": 0.05, "long_s": 0.9})
    assert device.overhead_s > 0 and device.tflops > 0


@pytest.mark.real
def test_this_machine_can_be_measured_and_is_known_from_then_on() -> None:
    device = calibrate()
    assert calibrated(device.name) == device
    assert device in (cpu_device(), device_named(device.name))
