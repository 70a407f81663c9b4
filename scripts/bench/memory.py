"""The memory plan against the truth: exact live bytes of the real modules, or a GPU.

.venv/bin/python scripts/bench/memory.py
    traces the cases of tests/plan/test_memory.py and its full-depth ones under fake tensors (no GPU, minutes) and
    writes results/memory.json and results/memory.md: predicted, exact, error, mean and worst
.venv/bin/python scripts/bench/memory.py --fits
    prints docs/memory.md's table: which common models fit on 24 GiB
.venv/bin/python scripts/bench/memory.py --cuda [--model ID | --model-config config.json] [--rows 1] [--length 2048]
        [--kept 2048] [--rank 8] [--full] [--no-checkpointing] [--steps 3] [--cap-gib 24]
    builds that model with random weights on the GPU, trains real steps, and prints what torch allocated and
    reserved and what nvidia-smi shows, beside `allocated`, `needed` and `expected`. --cap-gib makes a larger card
    one of that size (as PYTORCH_CUDA_ALLOC_CONF=per_process_memory_fraction:F does in torch 2.13, which also
    works for a whole ms-swift run): it shows that a run fits there, never how fast it is
    --device cpu --tiny goes the same way without a GPU, and reports the process's peak (VmHWM) instead
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "scripts/bench/results"
sys.path.insert(0, str(REPOSITORY))  # tests/plan holds the cases and the tracer

from sft_kit.plan.memory import MemoryPlan, Micro, Tuning, memory_plan  # noqa: E402
from sft_kit.plan.shape import known_shape, shape_of  # noqa: E402
from sft_kit.resources import shipped  # noqa: E402

GIB = 2**30
TINY = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
}
COMMON = (
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen2.5-3B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-4B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "internlm/internlm3-8b-instruct",
    "THUDM/GLM-4-9B-0414",
    "01-ai/Yi-1.5-9B-Chat",
    "google/gemma-2-9b-it",
    "microsoft/Phi-4-mini-instruct",
    "microsoft/phi-4",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct",
)
WAYS = {
    "LoRA": Tuning("lora"),
    "LoRA, 4-bit base": Tuning("lora", base_bits=4),
    "full": Tuning("full"),
}


def trace_cases() -> None:
    """Predicted against exact, for every case."""
    from tests.plan.test_memory import CASES, FULL_DEPTH, errors

    rows = [
        {"case": case.name, "predicted": said, "exact": exact, "error": said / exact - 1, "moment": case.plan.moment}
        for case, said, exact in errors([*FULL_DEPTH, *CASES])
    ]
    sizes = [abs(row["error"]) for row in rows]
    summary = {"cases": len(rows), "mean": sum(sizes) / len(sizes), "worst": max(sizes)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps({**summary, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# The memory plan against exact live bytes",
        "",
        "Written by `scripts/bench/memory.py`: the real modules of transformers and peft under fake tensors, forward,",
        "backward and update. Where nothing else is said: LoRA of rank 8 on all linears, dropout 0.05, checkpointing.",
        f"{summary['cases']} cases: mean error {summary['mean']:.2%}, worst {summary['worst']:.2%}.",
        "",
        "| case | highest at | predicted, GiB | exact, GiB | error |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {row['case']} | {row['moment']} | {row['predicted'] / GIB:.3f} | {row['exact'] / GIB:.3f} "
            f"| {row['error']:+.2%} |"
            for row in rows
        ),
    ]
    (RESULTS / "memory.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[4])


def print_fits(card_gib: float = 23.5) -> None:
    """`needed` of common models, one row of 2048 tokens all of which are trained, against what a 24 GiB card has."""
    print("| model | " + " | ".join(WAYS) + " |\n|---|" + "---:|" * len(WAYS))
    for model in COMMON:
        shape = known_shape(model)
        assert shape is not None
        needs = [memory_plan(shape, tuning, Micro(1, 2048, 2048)).needed_gib for tuning in WAYS.values()]
        cells = [f"**{need:.1f}** fits" if need <= card_gib else f"{need:.1f}" for need in needs]
        print(f"| {model.split('/')[1]} | " + " | ".join(cells) + " |")


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    """The config.json to build from."""
    if options.tiny:
        return TINY
    if options.model_config:
        return dict(json.loads(options.model_config.read_text(encoding="utf-8")))
    entries = json.loads((shipped("data") / "models" / "shapes.json").read_text(encoding="utf-8"))["models"]
    return next(entry["config"] for entry in entries if options.model in entry["ids"])


def train(options: argparse.Namespace) -> None:
    """Real steps on a device; needs nothing of ms-swift."""
    import torch
    from accelerate.utils.operations import convert_outputs_to_fp32
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = config_of(options)
    shape = shape_of(config)
    if shape is None:
        raise SystemExit(f"{config.get('model_type')}: an architecture that plan/shape.py does not know")
    device = torch.device(options.device)
    cpu = device.type == "cpu"
    if options.cap_gib and not cpu:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.cap_gib * GIB / total), device)
    tuning = Tuning(
        "full" if options.full else "lora",
        rank=options.rank,
        base_bits=32 if cpu else 16,
        checkpointing=not options.no_checkpointing,
        cpu=cpu,
    )
    micro = Micro(options.rows, options.length, options.rows * options.kept)
    wanted = AutoConfig.for_model(**config)
    wanted.use_cache = False
    base = process_gib(cpu)
    with device:
        model: Any = AutoModelForCausalLM.from_config(wanted, dtype=torch.float32 if cpu else torch.bfloat16)
        if not options.full:
            adapter = LoraConfig(
                task_type="CAUSAL_LM", r=options.rank, lora_dropout=tuning.dropout, target_modules="all-linear"
            )
            model = get_peft_model(model, adapter)
    model.train()
    if tuning.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        model.enable_input_require_grads()
    if not cpu:
        model.forward = convert_outputs_to_fp32(torch.autocast("cuda", dtype=torch.bfloat16)(model.forward))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    for _ in range(options.steps):
        for _ in range(2):  # the second micro-batch finds the gradients of the first
            tokens = torch.randint(0, shape.vocab, (micro.rows, micro.padded), device=device)
            mask = torch.ones_like(tokens)
            mask[1:, -1] = 0  # rows of a batch differ in length
            labels = tokens[:, -options.kept :]
            loss = model(input_ids=tokens, attention_mask=mask, labels=labels, logits_to_keep=options.kept).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    plan = memory_plan(shape, tuning, micro)
    report = {"loss": round(loss.item(), 3), **said(plan, cpu), **measured(torch, device, base)}
    print(json.dumps({"config": config, "tuning": asdict(tuning), "micro": asdict(micro), "gib": report}, indent=1))


def said(plan: MemoryPlan, cpu: bool) -> dict[str, float]:
    """The plan's figures, GiB."""
    figures = {"said allocated": plan.allocated / GIB, "needed": plan.needed_gib, "expected": plan.expected_gib}
    return {name: round(value, 3) for name, value in figures.items() if not cpu or name == "said allocated"}


def measured(torch: Any, device: Any, base: float) -> dict[str, float]:
    """What the device, or the process, says. GiB."""
    if device.type == "cpu":
        return {"process before the model": round(base, 3), "process at its peak": round(process_gib(True), 3)}
    return {
        "allocated": round(torch.cuda.max_memory_allocated(device) / GIB, 3),
        "reserved": round(torch.cuda.max_memory_reserved(device) / GIB, 3),
        "nvidia-smi": round(process_gib(False), 3),
    }


def process_gib(cpu: bool) -> float:
    """VmHWM of this process, or its memory on the GPU; 0 where nvidia-smi does not tell (in some containers)."""
    if cpu:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    rows = [line.split(",") for line in answer.splitlines() if line.count(",") == 1]
    return sum(int(used) for pid, used in rows if pid.strip() == str(os.getpid()) and used.strip().isdigit()) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", default="Qwen/Qwen2.5-7B-Instruct")
    parser.add_argument("--model-config", type=Path)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--kept", type=int, default=2048, help="logit rows of each row")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cap-gib", type=float)
    options = parser.parse_args()
    if options.fits:
        print_fits()
    elif options.cuda or options.device == "cpu":
        train(options)
    else:
        trace_cases()


if __name__ == "__main__":
    main()
