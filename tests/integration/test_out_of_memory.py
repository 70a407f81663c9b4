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

LIMIT_GIB = 7.5
"""What each process may have of private memory (RLIMIT_DATA, counted whether it is touched or not). VmData of /proc
just before the first step, two cores, one thread: 1.49 GiB with ms-swift 4.6.0, 1.46 with 3.12.6. The plugin asks for
2 GiB a row, so that 2 rows take 5.5 GiB and 4 rows 9.5: 2 GiB of margin on both sides, for other cores and versions."""
PLUGIN = """\
import torch

forward = torch.nn.Embedding.forward


def with_ballast(self, ids):
    ballast = [torch.empty(2 << 30, dtype=torch.uint8) for _ in range(len(ids))]  # never touched: it takes no time
    return forward(self, ids)


torch.nn.Embedding.forward = with_ballast
"""
CONFIG = """\
model: sft-kit/tiny-qwen2
dataset: rows.jsonl
external_plugins: [plugin.py]
torch_dtype: float32
max_length: 64
max_steps: 1
per_device_train_batch_size: 4
gradient_accumulation_steps: 1
logging_steps: 1
split_dataset_ratio: 0
dataset_num_proc: 1
dataloader_num_workers: 0
learning_rate: 1e-4
launch: {gpus: 0}
"""


def train_in_little_memory(folder: Path) -> subprocess.CompletedProcess[str]:
    """`sft-kit train` of 4 rows at a time, each of which needs 2 GiB; the limit is passed on to all that it starts."""
    rows = [
        {"messages": [{"role": "user", "content": f"ping {n}"}, {"role": "assistant", "content": f"pong {n}"}]}
        for n in range(4)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    limit = int(LIMIT_GIB * 2**30)
    return subprocess.run(
        [sys.executable, "-m", "sft_kit", "train", "config.yaml", "--yes"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )


def test_a_run_that_runs_out_of_memory_goes_on_with_half_the_micro_batch(tmp_path: Path) -> None:
    ended = train_in_little_memory(tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = "memory ran out with 4 rows x 1 accumulated; starting over with 2 rows x 2 accumulated"
    assert said in " ".join(ended.stderr.split())
    (run,) = (tmp_path / "output").iterdir()
    manifest = json.loads((run / "sft-kit" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["status"], manifest["steps"], manifest["last_checkpoint"]) == ("succeeded", 1, "checkpoint-1")
    attempts = manifest["attempts"]
    kept = [{key: attempt[key] for key in ("micro_batch", "accumulation", "returncode")} for attempt in attempts]
    assert kept == [
        {"micro_batch": 4, "accumulation": 1, "returncode": 1},
        {"micro_batch": 2, "accumulation": 2, "returncode": 0},
    ]
    assert "can't allocate memory" in attempts[0]["message"]
    args = json.loads((run / "args.json").read_text(encoding="utf-8"))
    assert (args["per_device_train_batch_size"], args["gradient_accumulation_steps"]) == (2, 2)
    log = (run / "sft-kit" / "train.log").read_text(encoding="utf-8")
    assert log.count(f"sft-kit: {said}") == 1
