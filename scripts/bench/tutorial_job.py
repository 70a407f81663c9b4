"""The tutorials' job from nothing to a checkpoint: by sft-kit with `auto`, and by hand with plain `swift sft`.

    .venv/bin/python scripts/bench/tutorial_job.py [--rounds 3] [--rows 160] [--epochs 1]
        [--out scripts/bench/results/tutorial_job.json]

By sft-kit: `sft-kit train` writes the identity rows, chooses micro-batch and checkpointing, and trains. By hand: the
same rows are there already (nothing is counted for writing them), and `swift sft` gets the tutorials' arguments:
micro-batch 1, accumulation 16. Both in turn, each a new process; seconds of the whole command. What was measured is
kept after every run: started again, it goes on. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sft_kit.models.catalog import own_model_path
from sft_kit.msswift.install import find_installation

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODEL = "sft-kit/smollm2-135m"


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    """The tutorials' identity run on the CPU; JSON is YAML."""
    return {
        "model": MODEL,
        "identity": {"name": "Nova", "author": "Ye Botao", "languages": ["en"], "rows": options.rows},
        "torch_dtype": "float32",
        "lora_dropout": 0,
        "max_length": 512,
        "num_train_epochs": options.epochs,
        "learning_rate": 1e-4,
        "effective_batch_size": 16,
        "per_device_train_batch_size": "auto",
        "split_dataset_ratio": 0,
        "dataloader_num_workers": 0,
        "launch": {"gpus": 0},
    }


def timed(argv: list[str], cwd: Path) -> float:
    """Seconds of `argv`; its output is shown only when it fails."""
    began = time.perf_counter()
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {shlex.join(argv)}\n{done.stderr[-3000:]}")
    return time.perf_counter() - began


def by_kit(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`sft-kit train`, with the split that it chose and the loss that it ended with."""
    folder = Path(tempfile.mkdtemp(dir=work))
    (folder / "config.yaml").write_text(json.dumps(config_of(options)), encoding="utf-8")
    seconds = timed([str(BIN / "sft-kit"), "train", "config.yaml", "--yes", "--no-eval"], folder)
    manifest = json.loads(next(folder.glob("output/*/sft-kit/manifest.json")).read_text(encoding="utf-8"))
    argv = manifest["argv"]
    keys = ("--per_device_train_batch_size", "--gradient_accumulation_steps", "--gradient_checkpointing")
    split = {key[2:]: argv[argv.index(key) + 1] for key in keys if key in argv}
    return {"way": "sft-kit", "seconds": seconds, "final_loss": manifest["final_loss"], "split": split}


def by_hand(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`swift sft` with the arguments of the tutorials, on rows that were written before."""
    data = work / "identity.jsonl"
    if not data.exists():
        kit = [str(BIN / "sft-kit"), "gen-identity", "--name", "Nova", "--author", "Ye Botao", "--lang", "en"]
        timed([*kit, "--rows", str(options.rows), "--out", str(data)], work)
    folder = Path(tempfile.mkdtemp(dir=work))
    generation = find_installation().generation
    tuner = "--tuner_type" if generation == 4 else "--train_type"
    arguments = (
        f"--model {own_model_path(MODEL)} --model_type llama --template chatml --dataset {data} --torch_dtype float32 "
        f"{tuner} lora --lora_rank 8 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear --max_length 512 "
        f"--num_train_epochs {options.epochs} --per_device_train_batch_size 1 --gradient_accumulation_steps 16 "
        f"--learning_rate 1e-4 --split_dataset_ratio 0 --dataloader_num_workers 0 --output_dir {folder}"
    )
    seconds = timed([str(BIN / "swift"), "sft", *arguments.split()], folder)
    logged = next(folder.glob("**/logging.jsonl")).read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in logged if "loss" in json.loads(line)]
    return {"way": "swift", "seconds": seconds, "final_loss": losses[-1] if losses else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/tutorial_job.json")
    options = parser.parse_args()
    out: Path = options.out
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"] if out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for way, run in (("sft-kit", by_kit), ("swift", by_hand)):
                key = {"round": number, "rows": options.rows, "epochs": options.epochs}
                if any((key | {"way": way}).items() <= done.items() for done in runs):
                    continue
                runs.append(key | run(Path(folder), options))
                print(runs[-1], flush=True)
                write(out, runs)
    write(out, runs)
    result = json.loads(out.read_text(encoding="utf-8"))
    print(result["median_s"], f"sft-kit / swift: {result['ratio']}")


def write(out: Path, runs: list[dict[str, Any]]) -> None:
    """All runs and their medians."""
    ways = {way: [run["seconds"] for run in runs if run["way"] == way] for way in ("sft-kit", "swift")}
    medians = {way: statistics.median(seconds) for way, seconds in ways.items() if seconds}
    result = {
        "command": "scripts/bench/tutorial_job.py",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "ms_swift": find_installation().version,
        "median_s": medians,
        "ratio": medians["sft-kit"] / medians["swift"] if len(medians) == 2 else None,
        "runs": runs,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
