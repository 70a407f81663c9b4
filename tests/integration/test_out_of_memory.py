"""Memory that runs out in real training: one more start with a smaller micro-batch, which ends well."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

LIMIT_GIB = 2.45
"""What ms-swift may have of private memory (RLIMIT_DATA). One step of 128 of the rows below takes about 2.8 GiB, of 64 rows
2.1 (VmData of /proc, ms-swift 4.6.0, one thread); what is imported takes 1.5 of both."""
CONFIG = """\
model: sft-kit/tiny-qwen2
dataset: rows.jsonl
torch_dtype: float32
max_length: 1024
max_steps: 1
per_device_train_batch_size: 128
gradient_accumulation_steps: 1
logging_steps: 1
split_dataset_ratio: 0
dataset_num_proc: 1
dataloader_num_workers: 0
learning_rate: 1e-4
launch: {gpus: 0}
"""


def train_in_little_memory(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`sft-kit train` of 128 rows of 350 tokens at a time; the limit is passed on to all that it starts."""
    answer = " ".join(str(number % 97) for number in range(120))
    rows = [
        {"messages": [{"role": "user", "content": f"Count {number}"}, {"role": "assistant", "content": answer}]}
        for number in range(128)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    limit = int(LIMIT_GIB * 2**30)
    return subprocess.run(
        [sys.executable, "-m", "sft_kit", "train", "config.yaml", "--yes", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        # memory that is freed goes back at once, so that the second step needs no more than the first
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )


def only_run(folder: Path) -> tuple[Path, dict[str, object]]:
    (run,) = (folder / "output").iterdir()
    return run, json.loads((run / "sft-kit" / "manifest.json").read_text(encoding="utf-8"))


def test_a_run_that_runs_out_of_memory_goes_on_with_half_the_micro_batch(tmp_path: Path) -> None:
    ended = train_in_little_memory(tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = "memory ran out with 128 rows x 1 accumulated; starting over with 64 rows x 2 accumulated"
    assert said in " ".join(ended.stderr.split())
    run, manifest = only_run(tmp_path)
    assert (manifest["status"], manifest["steps"], manifest["last_checkpoint"]) == ("succeeded", 1, "checkpoint-1")
    attempts = manifest["attempts"]
    assert isinstance(attempts, list)
    kept = [{key: attempt[key] for key in ("micro_batch", "accumulation", "returncode")} for attempt in attempts]
    assert kept == [
        {"micro_batch": 128, "accumulation": 1, "returncode": 1},
        {"micro_batch": 64, "accumulation": 2, "returncode": 0},
    ]
    assert "can't allocate memory" in attempts[0]["message"]
    args = json.loads((run / "args.json").read_text(encoding="utf-8"))
    assert (args["per_device_train_batch_size"], args["gradient_accumulation_steps"]) == (64, 2)
    log = (run / "sft-kit" / "train.log").read_text(encoding="utf-8")
    assert log.count(f"sft-kit: {said}") == 1


def test_the_config_can_have_it_stop_instead(tmp_path: Path) -> None:
    ended = train_in_little_memory(tmp_path, "--set", "launch.on_out_of_memory=stop")
    assert ended.returncode == 4, ended.stderr
    assert "set a shorter max_length" in " ".join(ended.stderr.split())
    _, manifest = only_run(tmp_path)
    assert (manifest["status"], manifest["attempts"]) == ("failed", [])
