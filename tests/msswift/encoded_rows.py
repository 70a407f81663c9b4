"""The rows of `rows_to_encode`, encoded once: by preview's child process and by ms-swift's training pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sft_kit.msswift.encode import ENCODE_WORKER, EncodedModel, encode
from tests.msswift.chat_tokenizers import build
from tests.msswift.rows_to_encode import RUNS, rows

CHILD = Path(__file__).with_name("real_encoding.py")
# What a training needs and a preview does not; the order of the rows is kept, so that they can be compared.
FOR_TRAINING = {
    "torch_dtype": "float32", "dataset_shuffle": "false", "split_dataset_ratio": "0", "check_model": "false",
    "add_version": "false", "report_to": "none", "dataset_num_proc": "1", "load_from_cache_file": "false",
}  # fmt: skip
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


_FOLDER = TemporaryDirectory(prefix="sft-kit-encoded-")  # gone with the tests' process


def folder() -> Path:
    return Path(_FOLDER.name)


@lru_cache(maxsize=1)
def models() -> dict[str, Path]:
    """A directory without weights for each shape of tokenizer."""
    texts = [message["content"] for row in rows() for message in row]
    return {shape: build(folder() / shape, shape, texts) for shape in ("qwen2", "qwen3", "llama3", "internlm2")}


def argv(run: str) -> list[str]:
    shape, model_type, options = RUNS[run]
    values = {"model": str(models()[shape]), "model_type": model_type, **options}
    return [word for key, value in values.items() for word in (f"--{key}", value)]


@lru_cache(maxsize=1)
def previewed_and_real() -> tuple[dict[str, EncodedModel], dict[str, Any]]:
    """(run -> preview's encoding, what real_encoding.py answers); the two child processes run side by side."""
    with ThreadPoolExecutor() as pool:
        real = pool.submit(_real)
        return _previewed(), real.result()


def _previewed() -> dict[str, EncodedModel]:
    log = folder() / "preview.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, *ENCODE_WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=OFFLINE
        )
    answers = list(encode(process, [argv(run) for run in RUNS], rows(), [0], log=log))
    assert process.wait(timeout=30) == 0
    return {run: answer for run, answer in zip(RUNS, answers, strict=True) if isinstance(answer, EncodedModel)}


def _real() -> dict[str, Any]:
    data = folder() / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows()), encoding="utf-8")
    values = {"dataset": str(data), "output_dir": str(folder() / "output"), **FOR_TRAINING}
    more = [word for key, value in values.items() for word in (f"--{key}", value)]
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input=json.dumps({"runs": [argv(run) + more for run in RUNS]}),
        capture_output=True,
        text=True,
        env=OFFLINE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    answer["runs"] = dict(zip(RUNS, answer["runs"], strict=True))
    return answer
