"""What launching through sft-kit costs against calling `swift sft` by hand.

    .venv/bin/python scripts/bench/launch_cost.py [--runs 5] [--out scripts/bench/results/launch_cost.json]

Trains the tiny model for two steps, in turn: `sft-kit train --no-eval`, `swift sft` with the same arguments, and
`swift sft --check_model false`. Reports median seconds and the peak memory of the process that only waits (the
launcher, or the `swift` parent; VmHWM while the trainer runs). Also start-up: `sft-kit --help` and `train --dry-run`
as multiples of `python -c pass`. Without a network `swift sft` spends most of its time asking the hub about a local
directory (check_model), so the first ratio is smaller here than with one. Run nothing else meanwhile.
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

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE = REPOSITORY / "configs" / "smoke-cpu.yaml"
BIN = Path(sys.executable).parent
ENV = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def timed(argv: list[str], cwd: Path) -> dict[str, float]:
    """Seconds of `argv`, and the peak resident MiB of its own process (not of its children)."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, peak_of(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"exit {process.returncode}: {shlex.join(argv)}")
    return {"seconds": seconds, "peak_mib": peak_kib / 1024}


def peak_of(pid: int) -> int:
    """VmHWM in KiB; 0 when the process has just gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/launch_cost.json")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"sft-kit": [], "swift": [], "swift no check": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        train = [str(BIN / "sft-kit"), "train", str(SMOKE), "--no-eval"]
        timed(train, work)  # warm: builds the model, fills the caches of both sides
        rows = next(work.glob("output/*/sft-kit/data/identity.jsonl"))
        manifest = json.loads(next(work.glob("output/*/sft-kit/manifest.json")).read_text(encoding="utf-8"))
        arguments = [str(word) for word in manifest["argv"][2:]]
        cut = arguments.index("--check_model")
        arguments = arguments[:cut] + arguments[cut + 2 :]
        arguments[arguments.index("--dataset") + 1] = str(rows)
        for run in range(options.runs):
            for name in found:
                own = list(arguments)
                own[own.index("--output_dir") + 1] = str(work / f"{name}-{run}".replace(" ", "-"))
                by_hand = [str(BIN / "swift"), "sft", *own, *(["--check_model", "false"] if "no check" in name else [])]
                found[name].append(timed(train if name == "sft-kit" else by_hand, work))
                print(f"{name:<15} {found[name][-1]['seconds']:6.2f} s  {found[name][-1]['peak_mib']:6.1f} MiB")
        startup: dict[str, list[float]] = {"python -c pass": [], "sft-kit --help": [], "sft-kit train --dry-run": []}
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "sft-kit --help": [str(BIN / "sft-kit"), "--help"],
            "sft-kit train --dry-run": [str(BIN / "sft-kit"), "train", str(SMOKE), "--dry-run"],
        }
        for _ in range(11):
            for name, argv in commands.items():
                startup[name].append(timed(argv, work)["seconds"])
    medians = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    peaks = {name: statistics.median(run["peak_mib"] for run in runs) for name, runs in found.items()}
    start = {name: statistics.median(seconds) for name, seconds in startup.items()}
    result = {
        "command": "scripts/bench/launch_cost.py",
        "runs": options.runs,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "ms_swift": manifest["versions"]["ms-swift"],
        "median_s": medians,
        "peak_mib_of_the_waiting_process": peaks,
        "ratio_to_swift": medians["sft-kit"] / medians["swift"],
        "ratio_to_swift_no_check": medians["sft-kit"] / medians["swift no check"],
        "ratio_peak_memory": peaks["sft-kit"] / peaks["swift no check"],
        "startup_s": start,
        "startup_multiple_of_python": {name: s / start["python -c pass"] for name, s in start.items()},
        "all": found,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for key in ("median_s", "peak_mib_of_the_waiting_process", "startup_s", "startup_multiple_of_python"):
        print(key, {name: round(value, 3) for name, value in result[key].items()})
    for key in ("ratio_to_swift", "ratio_to_swift_no_check", "ratio_peak_memory"):
        print(f"{key}: {result[key]:.2f}")


if __name__ == "__main__":
    main()
