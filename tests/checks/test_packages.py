"""Packages that a config needs: none of these is installed where the tests run, unless a test puts it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.packages import package_findings
from sft_kit.findings import Finding
from tests.checks.machine_facts import SMALL, directory, facts, machine, short

NEW = {"transformers": "5.19.0"}
OLD = {"transformers": "4.57.6"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts an importable package on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()

    return put


def fixes(keys: dict[str, Any], versions: dict[str, str] = NEW, config: dict[str, Any] = SMALL) -> list[str]:
    found = list(package_findings(facts(machine(versions=versions), keys, directory=directory(config))))
    assert {(each.code, each.severity) for each in found} <= {("missing-package", "error")}
    return [f"{each.place}: {each.fix}" for each in found]


def test_a_plain_config_needs_nothing_more() -> None:
    assert fixes({"optim": "adamw_torch_fused", "attn_impl": "sdpa", "report_to": ["none"]}) == []


@pytest.mark.parametrize(
    ("keys", "fix"),
    [
        ({"attn_impl": "flash_attn"}, "attn_impl: pip install flash-attn --no-build-isolation"),
        ({"attn_impl": "flash_attention_3"}, "attn_impl: pip install flash-attn-3"),
        ({"deepspeed": "zero2"}, "deepspeed: pip install deepspeed"),
        ({"use_liger_kernel": True}, "use_liger_kernel: pip install liger-kernel"),
        ({"quant_method": "bnb", "quant_bits": 4}, "quant_method: pip install bitsandbytes"),
        ({"quant_method": "hqq"}, "quant_method: pip install hqq"),
        ({"optim": "paged_adamw_8bit"}, "optim: pip install bitsandbytes"),
        ({"optim": "galore_adamw"}, "optim: pip install galore-torch"),
        ({"optim": "schedule_free_adamw"}, "optim: pip install schedulefree"),
        ({"optim": "adamw_apex_fused"}, "optim: pip install apex"),
        ({"report_to": ["wandb"]}, "report_to: pip install wandb"),
        ({"report_to": ["tensorboard", "swanlab"]}, "report_to: pip install swanlab"),
        ({"eval_use_evalscope": True}, "eval_use_evalscope: pip install evalscope"),
        ({"tuner_backend": "unsloth"}, "tuner_backend: pip install unsloth"),
    ],
    ids=lambda each: next(iter(each.values())) if isinstance(each, dict) else "",
)
def test_what_a_key_needs(keys: dict[str, Any], fix: str) -> None:
    assert fixes(keys) == [fix]


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        ("gptq", "gptqmodel optimum", "gptqmodel optimum"),
        ("awq", "autoawq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes", "bitsandbytes"),
    ],
)
def test_what_a_quantised_model_needs(method: str, old: str, new: str) -> None:
    config = {**SMALL, "quantization_config": {"quant_method": method}}
    assert fixes({}, OLD, config) == [f"model: pip install {old}"]
    assert fixes({}, NEW, config) == [f"model: pip install {new}"]


def test_what_a_model_that_reads_pictures_needs() -> None:
    config = {**SMALL, "architectures": ["Qwen2_5_VLForConditionalGeneration"]}
    assert fixes({}, NEW, config) == ["model: pip install qwen-vl-utils"]
    name = "Qwen/Qwen2.5-VL-3B-Instruct"
    still_on_the_hub = facts(machine(), model=BaseModel(name, name, False), directory=None)
    assert short(package_findings(still_on_the_hub)) == [("missing-package", "error", "model")]


def test_what_two_keys_need_is_said_once() -> None:
    assert fixes({"quant_method": "bnb", "optim": "paged_adamw_8bit"}) == ["optim: pip install bitsandbytes"]


@pytest.mark.parametrize("name", ["flash_attn", "kernels"])
def test_a_package_that_is_there_is_not_missed(package: Any, name: str) -> None:
    package(name)
    assert fixes({"attn_impl": "flash_attn"}) == []


def test_a_bitsandbytes_that_transformers_5_takes_for_none(package: Any) -> None:
    package("bitsandbytes")
    keys = {"quant_method": "bnb"}
    assert fixes(keys, {**OLD, "bitsandbytes": "0.45.5"}) == []
    assert fixes(keys, {**NEW, "bitsandbytes": "0.46.1"}) == []
    assert fixes(keys, {**NEW, "bitsandbytes": "0.45.5"}) == ['quant_method: pip install -U "bitsandbytes>=0.46.1"']


def test_a_tracker_without_a_key_cannot_ask_for_one(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {"report_to": ["wandb"]}
    assert list(package_findings(facts(machine(), keys))) == [
        Finding(
            "tracker-login", "warning", "report_to",
            "wandb has no key here (WANDB_API_KEY is not set), and training cannot ask for one",
            "run wandb login, or set WANDB_MODE=offline",
        )
    ]  # fmt: skip
    assert short(package_findings(facts(machine(environ={"WANDB_API_KEY": "x"}), keys))) == []
    assert short(package_findings(facts(machine(environ={"WANDB_MODE": "offline"}), keys))) == []
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password x\n")
    assert short(package_findings(facts(machine(), keys))) == []
