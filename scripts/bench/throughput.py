"""Samples a second of plain ms-swift for every split of the same effective batch, and which split `auto` chooses.

    .venv/bin/python scripts/bench/throughput.py [--rounds 3] [--steps 4] [--out scripts/bench/results/throughput.json]
    .venv/bin/python scripts/bench/throughput.py --quick  # only 1 x 16 with checkpointing and the split of `auto`
    .venv/bin/python scripts/bench/throughput.py --cuda   # a 7B-shaped random model, planned for 24 GiB

Micro-batch x gradient checkpointing, 16 rows a step, dropout 0, the tutorials' identity rows; every split once a
round, so that what else the machine does meets all of them. Reports medians, the ratio to 1 x 16 as the tutorials have
it (checkpointing on), and the worst relative difference of loss and grad_norm of any logged step to that of 1 x 16.
What was measured is kept after every run: started again, it goes on. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sft_kit.models.catalog import own_model_path
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.install import find_installation
from sft_kit.run.prepare import examine

REPOSITORY = Path(__file__).resolve().parents[2]
EFFECTIVE = 16
MODEL = "sft-kit/smollm2-135m"
WIDE = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 1000000.0,
}  # fmt: skip
"""Qwen2.5-7B; its vocabulary is that of the tokenizer it is given, padded to Qwen's size."""
VOCABULARY = 152064


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--micro", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--quick", action="store_true", help="the tutorials' 1 x 16 and the split of auto only")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "sft-kit-throughput")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "throughput-cuda.json" if options.cuda else "throughput.json"
    out: Path = options.out or REPOSITORY / "scripts/bench/results" / name
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    data = rows(work)
    model = wide_model(work) if options.cuda else own_model_path(MODEL)
    done = json.loads(out.read_text(encoding="utf-8"))["runs"] if out.exists() else []
    done = [run for run in done if run["steps"] == options.steps]  # the learning rate's schedule depends on it
    splits = [(micro, checkpointing) for micro in options.micro for checkpointing in (True, False)]
    if options.quick:
        auto = chosen(work, model, data, cuda=options.cuda)
        splits = [(1, True), (auto["micro_batch"], auto["checkpointing"] is not False)]
    for number in range(options.rounds):
        for micro, checkpointing in splits:
            key = {"micro_batch": micro, "checkpointing": checkpointing, "round": number, "steps": options.steps}
            if any(key.items() <= run.items() for run in done):
                continue
            done.append(key | one_run(work, model, data, micro, checkpointing, options.steps, cuda=options.cuda))
            print(json.dumps({k: v for k, v in done[-1].items() if k not in ("loss", "grad_norm")}), flush=True)
            write(out, done, work, model, data, cuda=options.cuda)
    write(out, done, work, model, data, cuda=options.cuda)
    show(json.loads(out.read_text(encoding="utf-8")))


def rows(work: Path) -> Path:
    """160 English identity rows."""
    path = work / "identity.jsonl"
    if not path.exists():
        kit = [
            sys.executable,
            "-m",
            "sft_kit",
            "gen-identity",
            "--name",
            "Nova",
            "--author",
            "Ye Botao",
            "--lang",
            "en",
        ]
        subprocess.run([*kit, "--rows", "160", "--out", str(path)], check=True)
    return path


def wide_model(work: Path) -> Path:
    """A model of Qwen2.5-7B's shape with random weights and SmolLM2's tokenizer; made on the GPU, once."""
    path = work / "wide-model"
    if (path / "config.json").exists():
        return path
    make = (
        "import sys, json, torch\n"
        "from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM\n"
        "config = Qwen2Config(**json.loads(sys.argv[3]))\n"
        "torch.set_default_dtype(torch.bfloat16)\n"
        "with torch.device('cuda'):\n"
        "    model = Qwen2ForCausalLM(config)\n"
        "model.save_pretrained(sys.argv[2])\n"
        "AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])\n"
    )
    config = json.dumps(WIDE | {"vocab_size": VOCABULARY, "dtype": "bfloat16"})
    subprocess.run([sys.executable, "-c", make, str(own_model_path(MODEL)), str(path), config], check=True)
    return path


def one_run(
    work: Path, model: Path, data: Path, micro: int, checkpointing: bool, steps: int, *, cuda: bool
) -> dict[str, Any]:
    """One plain ms-swift run: its own seconds of training, and what it logged. `failed` says why it could not."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        values: dict[str, Any] = {
            "model": str(model), "model_type": "qwen2" if cuda else "llama", "template": "chatml", "check_model": False,
            "dataset": [str(data)], "torch_dtype": "bfloat16" if cuda else "float32", "tuner_type": "lora",
            "lora_rank": 8, "lora_alpha": 32, "lora_dropout": 0, "target_modules": ["all-linear"],
            "learning_rate": 1e-4, "max_steps": steps, "logging_steps": 1, "save_strategy": "no",
            "per_device_train_batch_size": micro, "gradient_accumulation_steps": EFFECTIVE // micro,
            "gradient_checkpointing": checkpointing, "max_length": 512, "output_dir": str(Path(folder) / "out"),
            "add_version": False, "dataloader_num_workers": 0, "dataset_num_proc": 1, "split_dataset_ratio": 0,
        }  # fmt: skip
        env = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} if cuda else {"CUDA_VISIBLE_DEVICES": ""}
        command = swift_command(find_installation(), "sft", values, env=env)
        log = Path(folder) / "log"
        with log.open("w", encoding="utf-8") as output:
            code = subprocess.run(command.argv, env=command.environment(), stdout=output, stderr=output).returncode
        if code:
            return {"failed": log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1][:300]}
        logged = [json.loads(line) for line in (Path(folder) / "out/logging.jsonl").read_text("utf-8").splitlines()]
    seconds = next(float(line["train_runtime"]) for line in logged if "train_runtime" in line)
    steps_logged = [line for line in logged if "loss" in line and "grad_norm" in line]
    memory = [float(str(line["memory(GiB)"])) for line in steps_logged if "memory(GiB)" in line]
    return {
        "seconds": seconds,
        "samples_per_s": EFFECTIVE * steps / seconds,
        "loss": [line["loss"] for line in steps_logged],
        "grad_norm": [line["grad_norm"] for line in steps_logged],
        "reserved_gib": max(memory, default=None),
    }


def chosen(work: Path, model: Path, data: Path, *, cuda: bool) -> dict[str, Any]:
    """What `per_device_train_batch_size: auto` takes for the same run on this machine."""
    config = work / "auto.yaml"
    lines = {
        "model": str(model), "model_type": "qwen2" if cuda else "llama", "template": "chatml", "dataset": str(data),
        "torch_dtype": "bfloat16" if cuda else "float32", "lora_dropout": 0, "max_length": 512,
        "effective_batch_size": EFFECTIVE, "per_device_train_batch_size": "auto", "output_dir": str(work / "output"),
        "launch": {"memory_gib": 24} if cuda else {"gpus": 0},
    }  # fmt: skip
    config.write_text(json.dumps(lines), encoding="utf-8")  # JSON is YAML
    plan = examine(config, ask_hub=False).plan
    return {
        "micro_batch": plan.batch.micro_batch,
        "checkpointing": plan.batch.checkpointing,
        "needed_gib": plan.memory.needed_gib if plan.memory else None,
        "lines": list(plan.lines),
    }


def write(out: Path, runs: Sequence[dict[str, Any]], work: Path, model: Path, data: Path, *, cuda: bool) -> None:
    """Everything so far and its summary, whole or not at all."""
    auto = chosen(work, model, data, cuda=cuda)
    table = list(summary(runs))
    single = speed_of(table, 1, True)
    taken = speed_of(table, auto["micro_batch"], auto["checkpointing"])
    result = {
        "command": "scripts/bench/throughput.py" + (" --cuda" if cuda else ""),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "ms_swift": find_installation().version,
        "effective_batch": EFFECTIVE,
        "auto": auto,
        "auto_to_1x16": taken / single if taken and single else None,
        "fastest_to_1x16": max(row["samples_per_s"] for row in table) / single if single else None,
        "table": table,
        "runs": runs,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out)


def summary(runs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For every split: the median of its rounds, and how far its losses are from those of 1 x 16."""
    good = [run for run in runs if "seconds" in run]
    base = next((run for run in good if run["micro_batch"] == 1 and run["checkpointing"]), None)
    for micro, checkpointing in sorted({(run["micro_batch"], run["checkpointing"]) for run in good}):
        own = [run for run in good if (run["micro_batch"], run["checkpointing"]) == (micro, checkpointing)]
        yield {
            "micro_batch": micro,
            "checkpointing": checkpointing,
            "rounds": len(own),
            "samples_per_s": statistics.median(run["samples_per_s"] for run in own),
            "reserved_gib": own[0]["reserved_gib"],
            "worst_loss_difference": max(worst(base, run, "loss") for run in own) if base else None,
            "worst_grad_norm_difference": max(worst(base, run, "grad_norm") for run in own) if base else None,
        }


def worst(base: dict[str, Any], run: dict[str, Any], key: str) -> float:
    """The largest relative difference of a logged step."""
    pairs = zip(base[key], run[key], strict=False)
    return max((abs(float(a) - float(b)) / max(abs(float(a)), 1e-12) for a, b in pairs), default=0.0)


def speed_of(table: Sequence[dict[str, Any]], micro: int | None, checkpointing: bool | None) -> float | None:
    """Samples a second of one split; None where it was not run."""
    kept = checkpointing is not False
    return next(
        (row["samples_per_s"] for row in table if (row["micro_batch"], row["checkpointing"]) == (micro, kept)), None
    )


def show(result: dict[str, Any]) -> None:
    """The table, and what `auto` chose."""
    single = speed_of(result["table"], 1, True) or float("nan")
    print(f"{'split':>8} {'checkpointing':>14} {'samples/s':>10} {'ratio':>6} {'worst loss':>11} {'worst grad':>11}")
    for row in result["table"]:
        split = f"{row['micro_batch']} x {EFFECTIVE // row['micro_batch']}"
        loss, grad = row["worst_loss_difference"] or 0.0, row["worst_grad_norm_difference"] or 0.0
        kept = "on" if row["checkpointing"] else "off"
        speed = row["samples_per_s"]
        print(f"{split:>8} {kept:>14} {speed:>10.2f} {speed / single:>6.2f} {loss:>11.1e} {grad:>11.1e}")
    print("\n".join(result["auto"]["lines"]))
    print(f"auto to 1 x 16: {result['auto_to_1x16']}, the fastest: {result['fastest_to_1x16']}")


if __name__ == "__main__":
    main()
