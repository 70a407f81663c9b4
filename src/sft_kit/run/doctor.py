"""Looks at the machine a run would use: Python, ms-swift, torch, CUDA, GPUs, optional parts, hubs, memory, disk.

Sees what `check` sees (`checks.environment`, `checks.versions`) and two things more that take seconds: torch itself,
asked in a child process, so that a broken torch is a line of the report and not the end of it, and a hub.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sft_kit import __version__
from sft_kit import findings as checks
from sft_kit.asking import answer, start
from sft_kit.checks.environment import Environment, look, look_at_disk
from sft_kit.checks.versions import card_findings, installed_findings
from sft_kit.console import print_table, result_json
from sft_kit.errors import MissingError, Problem
from sft_kit.msswift.hub import hub_problem, uses_hugging_face
from sft_kit.msswift.install import find_installation
from sft_kit.plan.device import CALIBRATED, cpu_device, device_named
from sft_kit.plan.gpus import Gpu
from sft_kit.resources import cache_dir

State = Literal["ok", "note", "missing"]
_TORCH_SAYS = "sft-kit asked torch: "
_ASK_TORCH = f"""
import sys
del sys.path[0]  # the current directory: whose torch.py may lie there?
import json, torch
cuda = torch.cuda.is_available()
found = dict(version=torch.__version__, cuda=cuda, built=torch.version.cuda)
found["bf16"] = cuda and torch.cuda.is_bf16_supported()
found["devices"] = torch.cuda.device_count() if cuda else 0
print("\\n{_TORCH_SAYS}" + json.dumps(found))
"""
_TORCH_TIMEOUT_S = 60.0
_LONGEST_SHOWN = 400  # characters of a line of the report
_LIBRARIES = ("transformers", "peft", "datasets", "modelscope", "accelerate", "trl")
_OPTIONAL = {
    "flash_attn": "attn_impl: flash_attn, packing, padding_free",
    "vllm": "fast answers on a GPU",
    "deepspeed": "deepspeed: zero2, zero3",
    "bitsandbytes": "quant_method: bnb",
    "liger_kernel": "use_liger_kernel",
    "gradio": "swift web-ui, swift app",
}
_HUB_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
_AMPERE = (8, 0)
_LITTLE_GIB = {"disk": 20, "memory": 8}
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report. `missing` means that no run can start."""

    name: str
    state: State
    value: str
    fix: str = ""


def examine() -> list[Finding]:
    """All findings; the slow ones (torch, the hub) run at the same time. About 3 s with torch, never over 60 s."""
    seen = look()
    with ThreadPoolExecutor() as pool:
        torch, hub = pool.submit(_torch, seen), pool.submit(_hub)
        findings = [_python(), Finding("sft-kit", "ok", __version__), _ms_swift(), *_libraries(seen), *_together(seen)]
        findings += [*torch.result(), *map(_gpu, seen.gpus), *_visible(seen), *_optional(seen), hub.result()]
    return [*findings, *_memory(seen), *_disk(), _speed(seen)]


def show(findings: list[Finding], *, as_json: bool) -> None:
    """Print the report; raise MissingError (exit 5) when something that every run needs is missing."""
    if as_json:
        result_json([asdict(finding) for finding in findings])
    else:
        rows = [(_cell(f.name), f.state, _cell(f.value + (f" - {f.fix}" if f.fix else ""))) for f in findings]
        print_table("", ("what", "state", "found"), rows)
    missing = [Problem(f.name, f.value, f.fix) for f in findings if f.state == "missing"]
    if missing:
        raise MissingError(*missing)


def _cell(text: str) -> str:
    """On one line, so that no name of a package or a card looks like a line of ours."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."


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


def _libraries(seen: Environment) -> Iterator[Finding]:
    for name in _LIBRARIES:
        if name in seen.versions or seen.has(name):
            yield Finding(name, "ok", seen.versions.get(name, "there"))
        else:
            yield Finding(name, "missing", "not installed", f"pip install {name}")


def _together(seen: Environment) -> Iterator[Finding]:
    """Whether the versions go together."""
    found = [_line(finding) for finding in installed_findings(seen)]
    yield from found or [Finding("versions", "ok", "go together")]


def _line(finding: checks.Finding) -> Finding:
    state: State = "missing" if finding.severity == "error" else "note"
    return Finding(finding.place, state, finding.message, finding.fix)


def _torch(seen: Environment) -> list[Finding]:
    child = start([sys.executable, "-c", _ASK_TORCH], errors=True)
    said = answer(child, time.monotonic() + _TORCH_TIMEOUT_S)
    if said.returncode is None:
        return [Finding("torch", "missing", f"did not import within {_TORCH_TIMEOUT_S:.0f} s", "reinstall it")]
    lines = [line.strip() for line in said.text.splitlines() if line.strip()]
    for line in lines:
        if said.returncode == 0 and line.startswith(_TORCH_SAYS):
            return _judged(json.loads(line.removeprefix(_TORCH_SAYS)), seen)
    why = (lines or [f"its import ended with exit code {said.returncode}"])[-1]
    return [Finding("torch", "missing", why[:200], "pip install torch")]


def _judged(found: Mapping[str, Any], seen: Environment) -> list[Finding]:
    """What torch says of itself, and why it does not see a card that is there."""
    torch = Finding("torch", "ok", f"{found['version']}")
    unfit = [_line(each) for each in card_findings(seen, seen.torch, seen.visible, "error")] if seen.torch else []
    if found["cuda"]:
        bf16 = "bf16" if found["bf16"] else "no bf16: set torch_dtype: float16"
        return [torch, *unfit, Finding("cuda", "ok", f"{found['built']}, {found['devices']} device(s), {bf16}")]
    if unfit:
        return [torch, *unfit]
    if found["built"] and seen.visible:
        fix = "the driver is older than this torch: update it, or install a torch for its CUDA"
        return [torch, Finding("cuda", "missing", f"torch is built for CUDA {found['built']} but sees no GPU", fix)]
    return [torch, Finding("cuda", "note", "no GPU: runs use the CPU (torch_dtype: float32, small models)")]


def _gpu(gpu: Gpu) -> Finding:
    facts = [f"{gpu.name}, {gpu.free_mib / 1024:.1f} of {gpu.total_mib / 1024:.1f} GiB free"]
    if gpu.capability:
        facts.append(f"compute capability {gpu.capability[0]}.{gpu.capability[1]}")
    if gpu.driver:
        facts.append(f"driver {gpu.driver}")
    if gpu.holders:
        facts.append("used by " + ", ".join(f"{each.name} (pid {each.pid})" for each in gpu.holders))
    if gpu.capability and gpu.capability < _AMPERE:
        return Finding(f"gpu {gpu.index}", "note", ", ".join(facts), "no bf16 units: set torch_dtype: float16")
    return Finding(f"gpu {gpu.index}", "ok", ", ".join(facts))


def _visible(seen: Environment) -> Iterator[Finding]:
    value = seen.environ.get("CUDA_VISIBLE_DEVICES")
    if value is not None and seen.gpus and not seen.parts_of_gpus:
        shown = ", ".join(f"gpu {gpu.index}" for gpu in seen.visible) or "no GPU"
        yield Finding("CUDA_VISIBLE_DEVICES", "ok" if seen.visible else "note", f"{value!r} shows {shown}")


def _optional(seen: Environment) -> Iterator[Finding]:
    for module, purpose in _OPTIONAL.items():
        there = seen.has(module)
        version = seen.versions.get(module.replace("_", "-"), "there")
        yield Finding(module, "ok" if there else "note", version if there else f"not installed ({purpose})")


def _hub() -> Finding:
    hugging_face = uses_hugging_face(None, os.environ)
    name = "Hugging Face" if hugging_face else "ModelScope"
    problem = hub_problem(_HUB_MODEL, "models", hugging_face=hugging_face)
    if problem:
        return Finding(name, "note", problem.message, problem.fix)
    return Finding(name, "ok", "answers")


def _memory(seen: Environment) -> Iterator[Finding]:
    if seen.memory:
        free, total = seen.memory.available_bytes / _GIB, seen.memory.total_bytes / _GIB
        state: State = "ok" if free > _LITTLE_GIB["memory"] else "note"
        yield Finding("memory", state, f"{free:.0f} of {total:.0f} GiB available")


def _speed(seen: Environment) -> Finding:
    """Where the times come from by which batch sizes are chosen."""
    device = device_named(seen.visible[0].name) if seen.visible else cpu_device()
    if device is None:
        fix = "sft-kit doctor --calibrate measures it"
        return Finding("speed", "note", f"of {seen.visible[0].name} is not known, so no batch size is chosen", fix)
    figures = f"{device.tflops:.2g} TFLOPS, {device.bandwidth_gb_s:.3g} GB/s of {device.name}"
    where = CALIBRATED if device.calibrated else "a table; sft-kit doctor --calibrate measures it"
    return Finding("speed", "ok", f"{figures} ({where})")


def _disk() -> Iterator[Finding]:
    disk = look_at_disk(cache_dir())
    if disk:
        free = disk.free_bytes / _GIB
        yield Finding("disk", "ok" if free > _LITTLE_GIB["disk"] else "note", f"{free:.0f} GiB free at {disk.folder}")
