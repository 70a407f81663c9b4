"""Whether the launcher stays as it was over many runs: memory, open files, threads, children, files left behind.

    .venv/bin/python scripts/bench/soak.py [--minutes 60] [--out scripts/bench/results/soak.json]

One process calls the commands of sft-kit one after the other, as `sft-kit` itself does, on the tiny model and with real
ms-swift: checks, trainings (good ones, one with broken rows, one whose trainer is killed at some moment, every tenth
with an evaluation), a dry run, an answer, the list of runs. After each command it samples itself:

    uss_mib, pss_mib, rss_mib   its memory: its own pages, with its share of the shared ones, all resident ones
    files, threads              open descriptors and threads
    processes                   living processes that a command left (ms-swift, a guard, a worker)
    temporary                   files and folders left in TMPDIR
    cache_mib                   sft-kit's own cache

All of it lies in a temporary directory that is removed; the last 10 runs are kept there, since a list of runs grows by
nature. `slope` is the least-squares growth per 100 commands after the first quarter, in which imports, the tables of
ms-swift's arguments and the caches are made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from itertools import count
from pathlib import Path
from unittest.mock import patch

import psutil

from sft_kit import __version__
from sft_kit.cli import main as sft_kit

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE = str(REPOSITORY / "configs" / "smoke-cpu.yaml")
BAD_ROWS = '{"messages": [{"role": "user", "content": "ping"}]}\nnot JSON\n'
KEPT_RUNS = 10
EVALUATED = 10  # every so many rounds
MARK = "SFT_KIT_SOAK"  # in the environment of everything that is started here
WATCHED = ("uss_mib", "pss_mib", "rss_mib", "files", "threads", "processes", "temporary", "cache_mib")

Step = tuple[str, list[str], int]  # its name, the arguments, the exit code it has to end in


def steps_of(number: int) -> list[Step]:
    """The commands of one round. Each round has other values, so that nothing is only found in a cache."""
    one_step = ["--yes", "--set", "max_steps=1", "--set", "save_steps=1", "--set", f"seed={number}"]
    small = ["train", SMOKE, "--no-eval", *one_step]
    rate = [f"learning_rate={number % 9 + 1}e-4", f"lora_rank={2 ** (number % 4)}", "gradient_accumulation_steps=2"]
    changed = [word for value in rate for word in ("--set", value)]
    whole = ["train", SMOKE, *one_step, "--set", f"identity.seed={number}"]
    plan: list[Step] = [
        ("check", ["check", SMOKE], 0),
        ("train", [*small, *changed], 0),
        ("check --json", ["check", SMOKE, "--json", "--set", f"max_length={256 + number % 256}"], 0),
        ("train, bad rows", [*small, "--set", "dataset=bad.jsonl"], 2),
        ("runs", ["runs"], 0),
        ("train, killed", [*small, "--set", "max_steps=100000"], 4),
        ("train, wrong key", [*small, "--set", "lora_rnak=4"], 2),
        ("dry run", [*small, "--dry-run"], 0),
        ("runs show", ["runs", "show", "latest", "--json"], 0),
        ("train, full", [*small, "--set", "tuner_type=full", "--set", f"identity.rows={40 + number % 40}"], 0),
        ("infer", ["infer", "--adapter", "latest", "--prompt", f"ping {number}", "--max-new-tokens", "4"], 0),
    ]
    return [*plan, ("train and evaluate", whole, 0)] if number % EVALUATED == 1 else plan


def call(arguments: Sequence[str], log: Path) -> int:
    """One command in this process, its output appended to `log`; its exit code."""
    shown = log.open("a", encoding="utf-8")
    with shown, redirect_stdout(shown), redirect_stderr(shown), patch.object(sys, "argv", ["sft-kit", *arguments]):
        try:
            sft_kit()
        except SystemExit as ended:
            return int(ended.code or 0)
    raise AssertionError("a command ends in an exit code")


@contextmanager
def killed_after(seconds: float, output: Path) -> Iterator[None]:
    """Kill the trainer of the run that this block starts, `seconds` after its process is there."""
    before, over = set(output.glob("*")), threading.Event()

    def kill() -> None:
        while not over.wait(0.1):
            for manifest in (run / "sft-kit" / "manifest.json" for run in set(output.glob("*")) - before):
                with suppress(OSError, ValueError):
                    pid = json.loads(manifest.read_text(encoding="utf-8"))["pid"]
                    if pid:
                        over.wait(seconds)
                        os.kill(pid, signal.SIGKILL)
                        return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sample(temporary: Path) -> dict[str, float]:
    """This process now, in the units of WATCHED."""
    own = psutil.Process()
    memory = own.memory_full_info()
    cache = sum(path.stat().st_size for path in (temporary / "cache").rglob("*") if path.is_file())
    return {
        "uss_mib": round(memory.uss / 2**20, 2),
        "pss_mib": round(memory.pss / 2**20, 2),
        "rss_mib": round(memory.rss / 2**20, 2),
        "files": own.num_fds(),
        "threads": own.num_threads(),
        "processes": sum(1 for process in psutil.process_iter() if process.pid != own.pid and _is_of_soak(process)),
        "temporary": len(list((temporary / "tmp").iterdir())),
        "cache_mib": round(cache / 2**20, 3),
    }


def _is_of_soak(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.environ().get(MARK) == os.environ[MARK] or psutil.Process() in process.parents()
    return False


def slope(values: Sequence[float]) -> float:
    """Least-squares growth per 100 samples after the first quarter."""
    late = values[len(values) // 4 :]
    middle, mean = (len(late) - 1) / 2, sum(late) / len(late)
    spread = sum((x - middle) ** 2 for x in range(len(late)))
    return round(100 * sum((x - middle) * (y - mean) for x, y in enumerate(late)) / spread, 3) if spread else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/soak.json")
    options = parser.parse_args()
    out = options.out.absolute()
    back = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work = Path(folder)
        prepare(work)
        try:
            samples = soak(work, options.minutes * 60)
        finally:
            os.chdir(back)
    columns = {name: [one[name] for one in samples] for name in WATCHED}
    runs: dict[str, int] = {}
    for one in samples:
        runs[str(one["command"])] = runs.get(str(one["command"]), 0) + 1
    content = {
        "command": f"scripts/bench/soak.py --minutes {options.minutes:g}",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "sft-kit": __version__},
        "minutes": round(float(samples[-1]["seconds"]) / 60, 1),
        "commands": len(samples) - 1,
        "of_each": {name: number for name, number in runs.items() if name != "start"},
        "start": {name: values[0] for name, values in columns.items()},
        "warm": {name: values[len(values) // 4] for name, values in columns.items()},
        "end": {name: values[-1] for name, values in columns.items()},
        "slope": {name: slope(values) for name, values in columns.items()},
        "samples": [list(one.values()) for one in samples],
        "sample": list(samples[0]),
    }
    text = json.dumps(content, indent=1)
    text = text[: text.index('"samples"')] + '"samples": [\n'  # a line each
    text += ",\n".join("  " + json.dumps(row) for row in content["samples"])  # type: ignore[attr-defined]
    out.write_text(f'{text}\n ],\n "sample": {json.dumps(content["sample"])}\n}}\n', encoding="utf-8")
    for name in ("start", "warm", "end", "slope"):
        print(f"{name:<6}", json.dumps(content[name]))


def prepare(work: Path) -> None:
    """Everything that is written goes below `work`, from this process and from those that it starts."""
    for name in ("tmp", "cache"):
        (work / name).mkdir()
    os.environ |= {MARK: str(os.getpid()), "TMPDIR": str(work / "tmp"), "SFT_KIT_CACHE": str(work / "cache")}
    os.environ |= {"HF_HOME": str(work / "hf"), "MODELSCOPE_CACHE": str(work / "modelscope")}
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    tempfile.tempdir = None
    os.chdir(work)
    (work / "bad.jsonl").write_text(BAD_ROWS, encoding="utf-8")


def soak(work: Path, seconds: float) -> list[dict[str, float | str]]:
    """Round after round until `seconds` have passed; a sample before and after each command."""
    began = time.monotonic()
    samples: list[dict[str, float | str]] = [{"command": "start", "seconds": 0.0, **sample(work)}]
    for number in count(1):
        for name, arguments, expected in steps_of(number):
            if time.monotonic() - began > seconds:
                return samples
            samples.append({"command": name, **run_step(name, arguments, expected, number, work, began)})
            print(json.dumps(samples[-1]), flush=True)
        for run in sorted((work / "output").iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_RUNS]:
            shutil.rmtree(run)
    raise AssertionError


def run_step(
    name: str, arguments: Sequence[str], expected: int, number: int, work: Path, began: float
) -> dict[str, float]:
    """One command, then the sample; ends the soak where the exit code is another than `expected`."""
    log = work / "shown.log"
    log.unlink(missing_ok=True)
    with killed_after(number * 1.7 % 7, work / "output") if name == "train, killed" else nullcontext():
        code = call(arguments, log)
    if code != expected:
        raise SystemExit(f"{name}: exit {code} instead of {expected}\n{log.read_text(encoding='utf-8')}")
    return {"seconds": round(time.monotonic() - began, 1), **sample(work)}


if __name__ == "__main__":
    main()
