"""Versions that do not go together, with each other or with the cards."""

from __future__ import annotations

import pytest

from sft_kit.checks.environment import Torch
from sft_kit.checks.versions import allows, version_findings
from sft_kit.findings import Finding
from tests.checks.machine_facts import card, facts, machine, short

CU128 = "install a torch for CUDA 12.8 or later (cu128)"
SWIFT_3 = {"transformers": "<4.58,>=4.33", "peft": "<0.19,>=0.11", "datasets": "<4.0,>=3.0", "modelscope": ">=1.23"}
TRANSFORMERS_4 = {"tokenizers": "<=0.23.0,>=0.22.0", "huggingface-hub": "<1.0,>=0.34.0", "accelerate": ">=0.26.0"}
TRANSFORMERS_5 = {"torch": ">=2.5", "tokenizers": "<0.24.0,>=0.23.1"}


@pytest.mark.parametrize(
    ("specifier", "version", "good"),
    [
        (">=4.33,<5.20.0", "5.19.0", True), (">=4.33,<5.20.0", "5.20.0", False), ("<4.58,>=4.33", "4.57.6", True),
        ("<=0.23.0,>=0.22.0", "0.23.0", True), ("<=0.23.0", "0.23.1", False), ("==2.6.0", "2.6.0+cu124", True),
        ("==2.6.0", "2.6.1", False), ("==2.6.*", "2.6.1", True), ("!=2.6.0", "2.6.0", False),
        ("~=1.4.2", "1.4.9", True),
        ("~=1.4.2", "1.5", False), (">1.0", "1.0.0", False), ("", "1", True), (">=1", "unknown", True),
        (">=5.0.0.dev0", "5.0.0", True),
    ],
)  # fmt: skip
def test_a_specifier_is_read(specifier: str, version: str, good: bool) -> None:
    assert allows(specifier, version) is good


def test_what_ms_swift_was_not_made_for_is_a_warning() -> None:
    versions = {"ms-swift": "3.12.6", "transformers": "5.1.0", "peft": "0.18.1", "datasets": "3.6.0"}
    assert list(version_findings(facts(machine(versions=versions, requires={"ms-swift": SWIFT_3})))) == [
        Finding(
            "untested-version", "warning", "transformers",
            "5.1.0 is outside what ms-swift 3.12.6 is made for (<4.58,>=4.33)",
            'pip install "transformers<4.58,>=4.33"',
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "requires", "place"),
    [
        ({"transformers": "4.57.6", "tokenizers": "0.23.3"}, {"transformers": TRANSFORMERS_4}, "tokenizers"),
        ({"transformers": "4.57.6", "huggingface-hub": "1.3.0"}, {"transformers": TRANSFORMERS_4}, "huggingface-hub"),
        ({"transformers": "5.19.0", "torch": "2.4.1"}, {"transformers": TRANSFORMERS_5}, "torch"),
        ({"transformers": "5.2.0", "peft": "0.17.1"}, {}, "peft"),
        ({"torch": "2.2.2", "numpy": "2.1.0"}, {}, "numpy"),
    ],
)
def test_versions_that_refuse_one_another_are_an_error(
    versions: dict[str, str], requires: dict[str, dict[str, str]], place: str
) -> None:
    found = version_findings(facts(machine(versions=versions, requires=requires)))
    assert short(found) == [("refused-version", "error", place)]


@pytest.mark.parametrize(
    "versions",
    [
        {"transformers": "4.57.6", "peft": "0.17.1", "torch": "2.2.2", "numpy": "1.26.4", "tokenizers": "0.22.2"},
        {"torch": "2.6.0", "numpy": "2.1.0", "peft": "0.18.0", "transformers": "4.57.6"},
        {},
    ],
)
def test_versions_that_go_together_are_silent(versions: dict[str, str]) -> None:
    assert list(version_findings(facts(machine(versions=versions, requires={"transformers": TRANSFORMERS_4})))) == []


def test_torchvision_of_another_torch() -> None:
    versions = {"torch": "2.8.0+cu128", "torchvision": "0.21.0", "torchaudio": "2.8.0"}
    requires = {"torchvision": {"torch": "==2.6.0"}, "torchaudio": {"torch": "==2.8.0"}}
    found = version_findings(facts(machine(versions=versions, requires=requires)))
    assert short(found) == [("torch-mismatch", "error", "torchvision")]


@pytest.mark.parametrize(("dtype", "severity"), [("bfloat16", "error"), ("float32", "warning")])
def test_a_torch_without_cuda_beside_a_card(dtype: str, severity: str) -> None:
    seen = machine(card(), torch=Torch("2.13.0+cpu", None, None))
    assert short(version_findings(facts(seen, {"torch_dtype": dtype}))) == [("torch-without-cuda", severity, "torch")]


@pytest.mark.parametrize(
    ("keys", "torch"),
    [({"use_cpu": True}, Torch("2.13.0+cpu", None, None)), ({}, Torch("2.3.1+rocm6.0", None, "6.0"))],
    ids=["cpu-wanted", "rocm"],
)
def test_a_torch_without_cuda_that_is_meant(keys: dict[str, object], torch: Torch) -> None:
    assert list(version_findings(facts(machine(card(), torch=torch, other_accelerator=bool(torch.hip)), keys))) == []


@pytest.mark.parametrize(
    ("driver", "cuda", "old"),
    [
        ("535.183.01", "13.0", True), ("470.256.02", "12.1", True), ("580.65.06", "13.0", False),
        ("525.147.05", "12.8", False), ("", "13.0", False),
    ],
)  # fmt: skip
def test_a_driver_older_than_the_cuda_of_torch(driver: str, cuda: str, old: bool) -> None:
    seen = machine(card(driver=driver), torch=Torch("2.9.0+cu130", cuda, None))
    codes = [finding.code for finding in version_findings(facts(seen, {"torch_dtype": "bfloat16"}))]
    assert codes == (["driver-too-old"] if old else [])


def test_nvidias_own_compatibility_package_lifts_that() -> None:
    environ = {"LD_LIBRARY_PATH": "/usr/local/cuda/compat:/usr/lib"}
    seen = machine(card(driver="535.183.01"), torch=Torch("2.9.0+cu130", "13.0", None), environ=environ)
    assert list(version_findings(facts(seen))) == []


@pytest.mark.parametrize(
    ("name", "capability", "torch", "fix"),
    [
        ("NVIDIA GeForce RTX 5090", (12, 0), Torch("2.6.0+cu124", "12.4", None), CU128),
        ("NVIDIA H100", (9, 0), Torch("1.13.1+cu117", "11.7", None), "install a torch for CUDA 11.8 or later"),
        ("Tesla P100", (6, 0), Torch("2.8.0+cu128", "12.8", None), "install a torch for CUDA 12.6 (cu126)"),
        ("Tesla V100", (7, 0), Torch("2.9.0+cu130", "13.0", None), "install a torch for CUDA 12.6 (cu126)"),
        ("NVIDIA GeForce RTX 5090", (12, 0), Torch("2.8.0+cu128", "12.8", None), None),
        ("Tesla V100", (7, 0), Torch("2.8.0+cu128", "12.8", None), None),
        ("Tesla T4", (7, 5), Torch("2.9.0+cu130", "13.0", None), None),
        ("NVIDIA GeForce RTX 5090", (12, 0), Torch("2.6.0a0+git1234", "12.4", None), None),
        ("unknown", None, Torch("2.6.0+cu124", "12.4", None), None),
    ],
)  # fmt: skip
def test_a_torch_that_has_no_code_for_the_card(
    name: str, capability: tuple[int, int] | None, torch: Torch, fix: str | None
) -> None:
    found = list(version_findings(facts(machine(card(0, name, capability, driver="580.65.06"), torch=torch))))
    assert [(each.code, each.severity, each.place, each.fix) for each in found] == (
        [("torch-for-other-gpus", "error", f"GPU 0 ({name})", fix)] if fix else []
    )
