"""Looks at the machine a run would use: Python, ms-swift, torch, CUDA, optional parts, hubs, disk.

torch is asked in a child process, so that a broken torch is a line of the report and not the end of it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from sft_kit import __version__
from sft_kit.console import print_table, result
from sft_kit.errors import MissingError, Problem
from sft_kit.msswift.hub import hub_problem, uses_hugging_face
from sft_kit.msswift.install import find_installation
from sft_kit.plan.gpus import list_gpus
from sft_kit.resources import cache_dir

State = Literal["ok", "note", "missing"]
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
found = {"version": torch.__version__, "cuda": cuda, "built": torch.version.cuda}
found["bf16"] = cuda and torch.cuda.is_bf16_supported()
found["devices"] = torch.cuda.device_count() if cuda else 0
print(json.dumps(found))
"""
_OPTIONAL = {
    "flash_attn": "attn_impl: flash_attn, packing, padding_free",
    "vllm": "fast answers on a GPU",
    "deepspeed": "deepspeed: zero2, zero3",
    "bitsandbytes": "quant_method: bnb",
    "liger_kernel": "use_liger_kernel",
    "gradio": "swift web-ui, swift app",
}
_HUB_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `missing` means that no run can start."""

    name: str
    state: State
    value: str
    fix: str = ""


def examine() -> list[Finding]:
    """All findings; the slow ones (torch, the hub) run at the same time. About 3 s with torch, never over 60 s."""
    with ThreadPoolExecutor() as pool:
        torch, hub = pool.submit(_torch), pool.submit(_hub)
        findings = [_python(), Finding("sft-kit", "ok", __version__), _ms_swift(), *_libraries()]
        findings += [*torch.result(), *_gpus(), *_optional(), hub.result(), _disk()]
    return findings


def show(findings: list[Finding], *, as_json: bool) -> None:
    """Print the report; raise MissingError (exit 5) when something that every run needs is missing."""
    if as_json:
        result(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        rows = [(f.name, f.state, f.value + (f" - {f.fix}" if f.fix else "")) for f in findings]
        print_table("", ("what", "state", "found"), rows)
    missing = [Problem(f.name, f.value, f.fix) for f in findings if f.state == "missing"]
    if missing:
        raise MissingError(*missing)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _ms_swift() -> Finding:
    try:
        found = find_installation()
    except MissingError as error:
        problem = error.problems[0]
        return Finding("ms-swift", "missing", problem.message, problem.fix)
    dialect = "tuner_type, template" if found.generation == 4 else "train_type, model_type"
    return Finding("ms-swift", "ok", f"{found.version} (generation {found.generation}: {dialect})")


def _libraries() -> list[Finding]:
    findings = []
    for name in ("transformers", "peft", "datasets", "modelscope"):
        try:
            findings.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", "not installed", f"pip install {name}"))
    return findings


def _torch() -> list[Finding]:
    try:
        child = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return [Finding("torch", "missing", "did not import within 60 s", "reinstall it")]
    if child.returncode:
        why = (child.stderr.strip().splitlines() or ["import failed"])[-1]
        return [Finding("torch", "missing", why[:200], "pip install torch")]
    found = json.loads(child.stdout.strip().splitlines()[-1])
    torch = Finding("torch", "ok", f"{found['version']}")
    if found["cuda"]:
        bf16 = "bf16" if found["bf16"] else "no bf16: set torch_dtype: float16"
        return [torch, Finding("cuda", "ok", f"{found['built']}, {found['devices']} device(s), {bf16}")]
    if found["built"] and list_gpus():
        fix = "the driver is older than this torch: update it, or install a torch for its CUDA"
        return [torch, Finding("cuda", "missing", f"torch is built for CUDA {found['built']} but sees no GPU", fix)]
    return [torch, Finding("cuda", "note", "no GPU: runs use the CPU (torch_dtype: float32, small models)")]


def _gpus() -> list[Finding]:
    return [
        Finding(
            f"gpu {gpu.index}", "ok", f"{gpu.name}, {gpu.free_mib / 1024:.1f} of {gpu.total_mib / 1024:.1f} GiB free"
        )
        for gpu in list_gpus()
    ]


def _optional() -> list[Finding]:
    findings = []
    for module, purpose in _OPTIONAL.items():
        there = find_spec(module) is not None
        findings.append(Finding(module, "ok" if there else "note", "there" if there else f"not installed ({purpose})"))
    return findings


def _hub() -> Finding:
    hugging_face = uses_hugging_face(None, os.environ)
    name = "Hugging Face" if hugging_face else "ModelScope"
    problem = hub_problem(_HUB_MODEL, "models", hugging_face=hugging_face)
    if problem:
        return Finding(name, "note", problem.message, problem.fix)
    return Finding(name, "ok", "answers")


def _disk() -> Finding:
    folder = next(path for path in (cache_dir(), *cache_dir().absolute().parents) if path.exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", "ok" if free_gib > 20 else "note", f"{free_gib:.0f} GiB free at {folder}")
