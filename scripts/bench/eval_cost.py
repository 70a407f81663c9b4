"""What it costs to ask a base model and its adapter the same questions, in three ways.

    .venv/bin/python scripts/bench/eval_cost.py ADAPTER [--prompts 64] [--max-new-tokens 48] [--runs 3]
                                                [--out scripts/bench/results/eval_cost.json]

    one load     `sft-kit eval`: the adapter is loaded once and switched off for the base; reports are written too
    two infers   `swift infer` with a val_dataset, for the adapter and then for the base
    deploy       `swift deploy` with the adapter: base and adapter as two model names, 16 requests at a time

All of them ask the shipped general questions in English, greedily, on an empty cache of answers; the first two in
batches of up to 16. `swift deploy` answers one request after the other: with a larger max_batch_size ms-swift 4.6.0
refuses requests for an adapter that come together ("Length of `adapter_names` should be the same as the number of
inputs"). Reported are the medians of seconds from the first process's start to the last answer, and of the peak memory:
resident MiB summed over the whole process tree, so that pages which processes share count more than once. The ways take
turns. `equal answers` compares each way with the first one. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sft_kit.evaluate.probes import general_probes
from sft_kit.msswift.arguments import Verb
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.logs import read_results

REPOSITORY = Path(__file__).resolve().parents[2]
SFT_KIT = Path(sys.executable).parent / "sft-kit"
AT_ONCE = 16
BASE_KEYS = ("model", "model_type", "template", "system", "torch_dtype")
Answers = tuple[list[str], list[str]]  # of base and tuned


class Peak:
    """The most memory that this process's children, theirs included, held together while the block ran."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # it has just gone
                    continue
            self.mib = max(self.mib, total / 2**20)


class Bench:
    """One adapter, the questions, and the three ways of asking them."""

    def __init__(self, adapter: Path, questions: Sequence[str], max_new_tokens: int, work: Path) -> None:
        self.adapter, self.questions, self.tokens, self.work = adapter, questions, max_new_tokens, work
        self.installation = find_installation()
        told = read_json(adapter / "args.json")
        self.base = {key: told[key] for key in BASE_KEYS if told.get(key) is not None}
        self.greedy = {"max_new_tokens": max_new_tokens, "temperature": 0.0, "repetition_penalty": 1.0}
        self.env = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")}

    def one_load(self, folder: Path) -> Answers:
        settings = [
            f"eval.general={len(self.questions)}",
            f"eval.max_new_tokens={self.tokens}",
            "eval.likelihood=false",
        ]
        argv = [str(SFT_KIT), "eval", "--adapter", str(self.adapter), "--lang", "en", "--out", str(folder / "report")]
        argv += [word for setting in settings for word in ("--set", setting)]
        self._run(argv, folder, {**self.env, "SFT_KIT_CACHE": str(folder / "cache")})
        pairs = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))["evaluation"]["pairs"]
        by_question = {pair["probe"]["question"]: pair for pair in pairs}
        base, tuned = ([by_question[q][side]["answer"] for q in self.questions] for side in ("base", "tuned"))
        return base, tuned

    def two_infers(self, folder: Path) -> Answers:
        rows = folder / "questions.jsonl"
        lines = [json.dumps({"messages": [{"role": "user", "content": question}]}) for question in self.questions]
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        answers = []
        for side, model in (("base", self.base), ("tuned", {"adapters": [str(self.adapter)]})):
            results = folder / f"{side}.jsonl"
            values = {**model, **self.greedy, "val_dataset": [str(rows)], "result_path": str(results), "stream": False,
                      "max_batch_size": AT_ONCE}  # fmt: skip
            self._run(self._swift("infer", values), folder, self.env)
            answers.append(read_results(results))
        return answers[0], answers[1]

    def deploy(self, folder: Path) -> Answers:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        values = {"adapters": [f"tuned={self.adapter}"], **self.greedy, "host": "127.0.0.1", "port": port,
                  "max_batch_size": 1, "result_path": str(folder / "deploy.jsonl"), "verbose": False}  # fmt: skip
        url = f"http://127.0.0.1:{port}/v1"
        with self._serving(self._swift("deploy", values), folder) as process:
            names = [model["id"] for model in wait_for_models(url, process)]
            base = next(name for name in names if name != "tuned")

            def ask(name: str) -> list[str]:
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    return list(pool.map(lambda question: self._request(url, name, question), self.questions))

            return ask(base), ask("tuned")

    def _request(self, url: str, model: str, question: str) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": self.tokens,
                "temperature": 0, "repetition_penalty": 1.0}  # fmt: skip
        return str(fetch(f"{url}/chat/completions", body)["choices"][0]["message"]["content"])

    def _swift(self, verb: Verb, values: dict[str, Any]) -> list[str]:
        return list(swift_command(self.installation, verb, values, env={}).argv)

    def _run(self, argv: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        log = folder / "log"
        with log.open("ab") as out:
            code = subprocess.run(argv, cwd=folder, env={**os.environ, **env}, stdout=out, stderr=out).returncode
        if code:
            raise SystemExit(f"exit {code}: {shlex.join(argv)}\n{log.read_text(encoding='utf-8')[-2000:]}")

    @contextmanager
    def _serving(self, argv: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
        with (folder / "log").open("ab") as out:
            process = subprocess.Popen(argv, cwd=folder, env={**os.environ, **self.env}, stdout=out, stderr=out)
        try:
            yield process
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()
            process.wait(timeout=30)


def wait_for_models(url: str, process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """The models that a server lists, once it answers."""
    while process.poll() is None:
        try:
            return list(fetch(f"{url}/models")["data"])
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"swift deploy ended with {process.returncode}")


def fetch(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 (our own server)
    try:
        with urllib.request.urlopen(request, timeout=3600) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url}: {error}: {error.read().decode()}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="a LoRA checkpoint that ms-swift wrote")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/eval_cost.json")
    options = parser.parse_args()
    questions = [probe.question for probe in general_probes(["en"], options.prompts)]
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    answers: dict[str, Answers] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        adapter = work / "adapter"  # a copy is no checkpoint of a run, of which more would be asked
        shutil.copytree(options.adapter, adapter)
        bench = Bench(adapter, questions, options.max_new_tokens, work)
        ways: dict[str, Callable[[Path], Answers]] = {
            "one load": bench.one_load, "two infers": bench.two_infers, "deploy": bench.deploy,
        }  # fmt: skip
        for run in range(options.runs):
            for name, way in ways.items():
                place = work / f"{run}-{name.replace(' ', '-')}"
                place.mkdir()
                began = time.perf_counter()
                with Peak() as peak:
                    answers[name] = way(place)
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                peaks.setdefault(name, []).append(peak.mib)
                print(f"{name}: {seconds[name][-1]:.1f} s, {peak.mib:.0f} MiB", flush=True)
    first = answers["one load"]
    result = {
        "command": shlex.join(["scripts/bench/eval_cost.py", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "ms_swift": bench.installation.version,
        "base": str(Path(str(bench.base.get("model"))).name),
        "prompts": len(questions),
        "max_new_tokens": options.max_new_tokens,
        "median_seconds": {name: round(statistics.median(found), 1) for name, found in seconds.items()},
        "median_peak_mib": {name: round(statistics.median(found)) for name, found in peaks.items()},
        "seconds": {name: [round(value, 1) for value in found] for name, found in seconds.items()},
        "equal answers": {
            name: sum(a == b for one, other in zip(first, found, strict=True) for a, b in zip(one, other, strict=True))
            for name, found in answers.items()
        },
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("median_seconds", "median_peak_mib", "equal answers")}, indent=1))


if __name__ == "__main__":
    main()
