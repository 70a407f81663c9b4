"""Hubs and variables, without a network."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.hubs import hub_findings, variable_findings
from sft_kit.findings import Finding
from tests.checks.machine_facts import HUB_MODEL, facts, machine, short

LLAMA_HF = BaseModel("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct", False)
LLAMA_MS = BaseModel("LLM-Research/Meta-Llama-3.1-8B-Instruct", "LLM-Research/Meta-Llama-3.1-8B-Instruct", False)


def hub(model: BaseModel, *, hugging_face: bool, keys: dict[str, Any] | None = None, **environ: str) -> list[Finding]:
    seen = machine(environ={"HOME": "/nobody", **environ}, versions={"huggingface-hub": "1.3.0"})
    return list(hub_findings(facts(seen, keys or {}, model=model, directory=None, hugging_face=hugging_face)))


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_and_not_cached(variable: str) -> None:
    assert hub(HUB_MODEL, hugging_face=True, **{variable: "1"}) == [
        Finding(
            "offline", "error", "model", f"Qwen/Qwen2.5-7B-Instruct is not cached and {variable} is set",
            "unset it, or give a local directory",
        )
    ]  # fmt: skip
    assert hub(HUB_MODEL, hugging_face=False, **{variable: "1"}) == []


def test_a_model_that_is_here_needs_no_hub() -> None:
    seen = machine(environ={"HF_HUB_OFFLINE": "1", "ALL_PROXY": "socks5://localhost:1"})
    assert list(hub_findings(facts(seen, hugging_face=True))) == []


def test_a_name_of_the_other_hub() -> None:
    there = [(each.code, each.severity, each.fix) for each in hub(LLAMA_HF, hugging_face=False)]
    assert there == [("other-hubs-name", "warning", f"write {LLAMA_MS.name}, or change use_hf")]
    here = [(each.code, each.severity, each.fix) for each in hub(LLAMA_MS, hugging_face=True)]
    assert [code for code, *_ in here] == ["other-hubs-name"] and here[0][2].startswith("write meta-llama/")
    assert hub(LLAMA_MS, hugging_face=False) == hub(HUB_MODEL, hugging_face=True) == []


def test_a_gated_model_needs_a_token() -> None:
    assert short(hub(LLAMA_HF, hugging_face=True)) == [("gated-model", "warning", "model")]
    assert hub(LLAMA_HF, hugging_face=True, **{"HF_TOKEN": "x"}) == []
    assert hub(LLAMA_HF, hugging_face=True, keys={"hub_token": "x"}) == []


@pytest.mark.parametrize(("hugging_face", "package"), [(True, "httpx[socks]"), (False, "PySocks")])
def test_a_socks_proxy_without_its_package(hugging_face: bool, package: str) -> None:
    found = hub(HUB_MODEL, hugging_face=hugging_face, ALL_PROXY="socks5h://user:secret@localhost:1080")
    assert [(each.code, each.severity) for each in found] == [("socks-proxy", "warning")]
    assert package in found[0].message and "secret" not in str(found[0])


def test_a_faster_download_without_its_package() -> None:
    environ = {"HOME": "/nobody", "HF_HUB_ENABLE_HF_TRANSFER": "1"}
    for version, codes in (("0.36.2", [("missing-package", "error", "")]), ("1.3.0", [])):
        seen = machine(environ=environ, versions={"huggingface-hub": version})
        assert short(hub_findings(facts(seen, directory=None, hugging_face=True))) == codes


def test_use_hf_false_beside_the_variable() -> None:
    assert short(hub(HUB_MODEL, hugging_face=True, keys={"use_hf": False}, USE_HF="1")) == [
        ("use-hf-contradicted", "warning", "use_hf")
    ]


@pytest.mark.parametrize(
    ("environ", "fix"),
    [
        ({"CUDA_VISIBLE_DEVICE": "0"}, "set CUDA_VISIBLE_DEVICES"),
        ({"PYTORCH_CUDA_ALLOC_CONFIG": "x"}, "set PYTORCH_CUDA_ALLOC_CONF"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segment:True"}, "write expandable_segments:"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128,expandable_segments:True"}, None),
        ({"CUDA_VISIBLE_DEVICE": "0", "CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_HOME": "/usr/local/cuda", "HF_HUB_CACHE": "/x", "USE_TF": "0", "PYTORCH_HIP_ALLOC_CONF": "x",
          "NCCL_DEBUG": "INFO", "MODELSCOPE_SDK_DEBUG": "1", "HF_HUB_ENABLE_HF_TRANSFER": "1"}, None),
    ],
)  # fmt: skip
def test_misspelt_variables(environ: dict[str, str], fix: str | None) -> None:
    found = [(each.code, each.severity, each.fix) for each in variable_findings(facts(machine(environ=environ)))]
    assert found == ([("misspelt-variable", "warning", fix)] if fix else [])


def test_variables_that_are_not_read() -> None:
    old = machine(environ={"TRANSFORMERS_CACHE": "/x"}, versions={"transformers": "4.57.6"})
    new = machine(environ={"TRANSFORMERS_CACHE": "/x"}, versions={"transformers": "5.19.0"})
    mirror = machine(environ={"HF_ENDPOINT": "https://mirror.example"})
    assert short(variable_findings(facts(old))) == []
    assert short(variable_findings(facts(new))) == [("unused-variable", "warning", "")]
    assert short(variable_findings(facts(mirror))) == [("unused-variable", "note", "")]
    assert short(variable_findings(facts(mirror, hugging_face=True))) == []


def test_a_port_that_another_run_has() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        taken = machine(environ={"MASTER_PORT": port})
        expected = [("port-taken", "error", "launch.gpus")]
        assert short(variable_findings(facts(taken, {"launch": {"gpus": 2}}))) == expected
        assert short(variable_findings(facts(taken))) == []  # one process has no rendezvous
        second = machine(environ={"MASTER_PORT": port, "NODE_RANK": "1"})
        assert short(variable_findings(facts(second, {"launch": {"gpus": 2}}))) == []
    assert short(variable_findings(facts(taken, {"launch": {"gpus": 2}}))) == []
