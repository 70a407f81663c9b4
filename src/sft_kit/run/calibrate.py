"""Measures what a device really does with the micro-steps of a LoRA training, for the time model of `plan.speed`.

Owns the measuring, in a child process: torch is imported there only. What is kept, and where, is `plan.device`'s. Takes
half a minute on two cores, and less on a GPU.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sft_kit.asking import answer, start
from sft_kit.console import working
from sft_kit.errors import MissingError, Problem
from sft_kit.msswift.child import words_to_start
from sft_kit.msswift.install import find_installation
from sft_kit.plan.device import CALIBRATED, Device, cpu_device, store
from sft_kit.plan.memory import Micro, Tuning
from sft_kit.plan.shape import ModelShape, shape_of
from sft_kit.plan.speed import work_of

LONGEST_S = 120.0
_MEASURED = "sft-kit measured: "
SHORT, LONG = Micro(1, 32, 32), Micro(16, 64, 1024)
NARROW = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 9,
           "num_key_value_heads": 3, "vocab_size": 8192}  # fmt: skip
"""SmolLM2-135M with fewer layers and words."""
WIDE = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 4, "num_attention_heads": 28,
         "num_key_value_heads": 4, "vocab_size": 8192}  # fmt: skip
"""Qwen2.5-7B with fewer layers and words: as wide as what a GPU is used for."""
_REST = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}


def calibrate() -> Device:
    """Measure the device that a run would use (the first GPU, else the CPU) and keep the result.

    Raises MissingError when torch, transformers or peft do not work here, or take longer than 120 s.
    """
    python = find_installation().python
    with working("measuring this machine"):
        said = answer(start([python, *words_to_start(__name__)], errors=True), time.monotonic() + LONGEST_S)
    if said.returncode is None:
        fix = "try again when nothing else runs"
        raise MissingError(Problem("calibrate", f"took longer than {LONGEST_S:.0f} s", fix))
    lines = [line.strip() for line in said.text.splitlines() if line.strip()]
    measured = [line.removeprefix(_MEASURED) for line in lines if line.startswith(_MEASURED)]
    if said.returncode or not measured:
        why = (lines or ["no output"])[-1]
        raise MissingError(Problem("calibrate", why[:300], "sft-kit doctor says what is missing"))
    device = device_from(json.loads(measured[0]))
    store(device)
    return device


def device_from(measured: Mapping[str, Any]) -> Device:
    """The constants with which the time model gives back what was `measured`: seconds of a short and of a long
    micro-step, GB/s, the name of the device ("" for the CPU) and its GiB."""
    gpu, bandwidth = bool(measured["name"]), float(measured["bandwidth_gb_s"])
    shape = shape_like(WIDE if gpu else NARROW)
    tuning = tuning_on(gpu=gpu)
    long, short = work_of(shape, tuning, LONG), work_of(shape_like(NARROW), tuning, SHORT)
    long_s, short_s = float(measured["long_s"]), float(measured["short_s"])
    if gpu:
        tflops, overhead = long.flops / long_s / 1e12, short_s / short.started
    else:
        tflops = (long.flops - short.flops) / max(long_s - short_s, 1e-6) / 1e12
        rest = short_s - short.flops / (tflops * 1e12) - short.weight_bytes / (bandwidth * 1e9)
        overhead = max(rest, 0.1 * short_s) / short.started
    name = str(measured["name"]) if gpu else cpu_device().name
    return Device(name, float(measured["memory_gib"]), bandwidth, tflops, overhead, asynchronous=gpu, source=CALIBRATED)


def shape_like(config: Mapping[str, Any]) -> ModelShape:
    """The Llama of those sizes."""
    shape = shape_of({**_REST, **config})
    assert shape is not None  # noqa: S101 (a Llama)
    return shape


def tuning_on(*, gpu: bool) -> Tuning:
    """What the measured model is trained with."""
    return Tuning(kind="lora", rank=8, base_bits=16 if gpu else 32, checkpointing=False)


def main(_: Sequence[str]) -> int:
    """The child: prints what it measured as one line of JSON."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    dtype = (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16) if gpu else torch.float32
    measured = {
        "name": torch.cuda.get_device_name(0) if gpu else "",
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if gpu else 0,
        "bandwidth_gb_s": _bandwidth(device),
        "short_s": _micro_step(NARROW, SHORT, device, dtype),
        "long_s": _micro_step(WIDE if gpu else NARROW, LONG, device, dtype),
    }
    sys.stdout.write(f"\n{_MEASURED}{json.dumps(measured)}\n")
    return 0


def _bandwidth(device: Any) -> float:
    """GB/s that a copy of 256 MiB reads and writes."""
    import torch

    source = torch.ones(64 << 20, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copied = float(2 * source.nbytes)
    return copied / _median_s(lambda: target.copy_(source), device) / 1e9


def _micro_step(config: Mapping[str, Any], micro: Micro, device: Any, dtype: Any) -> float:
    """Seconds of forward and backward of a LoRA model of random weights, as ms-swift builds it: fp32 adapters in every
    linear layer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(device):
        base = LlamaForCausalLM(LlamaConfig(**{**_REST, **config})).to(dtype)
    model = get_peft_model(base, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    ids = torch.randint(0, config["vocab_size"], (micro.rows, micro.padded), device=device)
    model.train()

    def step() -> None:
        model.zero_grad()
        with torch.autocast(device.type, dtype, enabled=device.type == "cuda"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()

    return _median_s(step, device)


def _median_s(work: Callable[[], object], device: Any, *, most_s: float = 4.0, times: int = 10) -> float:
    """The median of up to `times` runs of `work` in `most_s` seconds, after two that do not count."""
    import torch

    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < times + 2 and (len(seconds) < 4 or time.perf_counter() - began < most_s):
        at = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - at)
    return statistics.median(seconds[2:])
