"""What is seen of a machine: real folders on sys.path, a real nvidia-smi, this machine's own disk and memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sft_kit.checks.environment import Torch, look, look_at_disk, release, run_gpus
from sft_kit.config.schema import RunConfig
from tests.checks.machine_facts import card, machine
from tests.plan.fake_nvidia_smi import A10, RTX4090, install


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks into first."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def dist(site: Path, name: str, version: str, *requires: str) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    (info / "METADATA").write_text("\n".join([*lines, "", "Requires-Dist: described==1"]))


def test_versions_are_those_of_the_folder_that_python_meets_first(site: Path) -> None:
    dist(site, "Flash_Attn", "2.8.3")
    dist(site, "peft", "0.1")
    versions = look().versions
    assert (versions["flash-attn"], versions["peft"]) == ("2.8.3", "0.1")
    assert versions["transformers"] != "" and len(versions) > 50


def test_requirements_are_read_without_extras_and_markers(site: Path) -> None:
    dist(
        site, "transformers", "9.1", "tokenizers<0.24.0,>=0.23.1", "numpy (>=1.17)", "torch>=2.5; extra == 'torch'",
        "accelerate>=1.1.0; extra == 'deepspeed'", "regex", "tomli>=2; python_version < '3.11'",
    )  # fmt: skip
    assert look().requires["transformers"] == {"tokenizers": "<0.24.0,>=0.23.1", "numpy": ">=1.17", "torch": ">=2.5"}


@pytest.mark.parametrize(
    ("text", "torch"),
    [
        ("__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n",
         Torch("2.8.0+cu128", "12.8", None)),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n",
         Torch("2.13.0+cpu", None, None)),
        ("__version__ = '2.3.1+rocm6.0'\ncuda = None\nhip = '6.0.32830'\n", Torch("2.3.1+rocm6.0", None, "6.0.32830")),
    ],
    ids=["cuda", "cpu", "rocm"],
)  # fmt: skip
def test_what_torch_was_built_for_is_read_and_not_asked(
    site: Path, monkeypatch: pytest.MonkeyPatch, text: str, torch: Torch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "torch" / "version.py").write_text(text)
    seen = look()
    assert (seen.torch, seen.other_accelerator) == (torch, torch.hip is not None)


def test_a_folder_that_is_no_package_is_not_one(site: Path) -> None:
    (site / "wandb" / "latest-run").mkdir(parents=True)
    (site / "some_tracker").mkdir()
    (site / "some_tracker" / "__init__.py").touch()
    assert (look().has("wandb"), look().has("some_tracker"), look().has("not_there")) == (False, True, False)


def test_cards_and_those_that_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = install(tmp_path, [RTX4090, A10])
    monkeypatch.setenv("PATH", f"{entry}{os.pathsep}{os.environ['PATH']}")
    seen = look({"CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.name for gpu in seen.gpus] == ["NVIDIA GeForce RTX 4090", "NVIDIA A10"]
    assert [gpu.capability for gpu in seen.visible] == [(8, 6)]


def test_the_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    disk = look_at_disk(tmp_path / "runs" / "today")
    assert disk is not None
    assert disk.folder == tmp_path
    assert disk.free_bytes == pytest.approx(os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize, rel=0.2)


def test_memory_is_what_is_available_here() -> None:
    memory = look().memory
    assert memory is not None
    assert (
        2**28 < memory.available_bytes <= memory.total_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


@pytest.mark.parametrize(
    ("keys", "environ", "indices"),
    [
        ({}, {}, [1]),
        ({"launch": {"gpus": 2}}, {}, [0, 1]),
        ({}, {"CUDA_VISIBLE_DEVICES": "0"}, [0]),
        ({"use_cpu": True}, {}, []),
        ({"launch": {"gpus": 0}}, {}, []),
        ({}, {"CUDA_VISIBLE_DEVICES": "MIG-8f3c"}, []),
    ],
    ids=["freest", "two", "visible", "cpu", "none", "part"],
)
def test_the_cards_of_a_run(keys: dict[str, object], environ: dict[str, str], indices: list[int]) -> None:
    config = RunConfig(**keys)  # type: ignore[arg-type]
    seen = machine(card(0, free=9000), card(1), environ=environ)
    assert [gpu.index for gpu in run_gpus(seen, config, max(1, config.launch.gpus))] == indices


def test_the_numbers_of_a_version() -> None:
    assert [release(each) for each in ("4.57.6", "2.8.0+cu128", "5.0.0.dev0", "1!2", "new")] == [
        (4, 57, 6), (2, 8, 0), (5, 0, 0), (1,), (),
    ]  # fmt: skip
