"""Crashes, power failures, full disks, users and second launchers on a run directory: what still goes wrong?

    .venv/bin/python scripts/bench/fuzz.py [--minutes 10] [--seed 1]

Uses the state machine of tests/fuzz. For the first half of the time each single write of a training is met by each
fault, in random order, and of each resumption that follows on one; then hypothesis makes sequences of operations. A
minute gives some 100 operations on two busy cores: each is a real process that runs the product's own functions.

Adds to results/fuzz.json: what was run, the writes at which a process died, and every failure found in one line. FIXED
is kept by hand: what these runs found, and what was done about it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "scripts/bench/results/fuzz.json"
sys.path.insert(0, str(REPOSITORY))

from hypothesis import HealthCheck, Phase, seed, settings  # noqa: E402
from hypothesis.stateful import run_state_machine_as_test  # noqa: E402
from tests.fuzz.faults import Fault, Kind  # noqa: E402
from tests.fuzz.machine import WRITES, RunDirectories, seen, stand_ins  # noqa: E402

KINDS: tuple[Kind, ...] = ("crash", "power", "full", "blip")
FIXED = (
    "a crash between writing a file and giving it its name left a temporary file for good: now removed at the next "
    "start of the run (those of a writer that lives are locked, and stay)",
    "the rows were not flushed before the manifest told their SHA-256: after a power failure a resume was refused as "
    "'changed since it began'; now flushed",
    "'succeeded' was on the disk before the trainer's last checkpoint was: after a power failure a run was shown as "
    "succeeded without a model; checkpoints and log are now flushed first",
    "killed after 'succeeded' and before the plot, a run never got its plot: now the status is written last",
    "with add_version: false, killed before the first manifest, a run could neither be begun again ('already holds a "
    "run') nor resumed ('is not a run'): now it can be begun",
    "a change of the identity was accepted and that start killed between the new config and the new rows: the next "
    "resume trained on the old rows; they are now struck out of the manifest first",
    "an error of the machine itself: it took a run whose manifest a user had removed for one that was never begun",
    "a manifest whose value is of another kind (data: [1]) gave a traceback in --resume: now 'is damaged: data'",
    "killed between its last status and the end, a run kept its 64 KiB of reserved room for good: now given back first",
    "errors of the machine itself: half a file written beside a killed trainer, and three orders of operations in "
    "which a refusal was right",
)


def main() -> None:
    """Run until the time is up and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    began = time.monotonic()
    failures: dict[str, int] = {}
    with stand_ins():
        tried = _each_write(began + arguments.minutes * 30, arguments.seed, failures)
        _sequences(began + arguments.minutes * 60, arguments.seed, failures)
    _write(arguments, time.monotonic() - began, tried, failures)


def _each_write(until: float, number: int, failures: dict[str, int]) -> int:
    """One fault at each write of a training, or of the resumption of one that was killed; how many were tried."""
    starts = [Fault(kind, at) for kind in KINDS for at in range(WRITES)]
    resumptions = [(Fault("crash", start), Fault(kind, at)) for start in (30, 75, 110, 155) for kind in KINDS[:3]
                   for at in range(0, WRITES, 3)]  # fmt: skip
    cases = [*((fault,) for fault in starts), *resumptions]
    random.Random(number).shuffle(cases)  # noqa: S311
    for tried, case in enumerate(cases):
        if time.monotonic() > until:
            return tried
        machine = RunDirectories()
        machine.output_dir(versioned=tried % 2 == 0, prove=True)
        try:
            machine.train(fault=case[0])
            machine.looks_right()
            if len(case) > 1 and machine._runs():
                machine.resume(which=0, fault=case[-1], change="name" if tried % 3 == 0 else "")
                machine.looks_right()
            machine.teardown()
        except Exception as error:
            _note(failures, error, str(case))
    return len(cases)


def _sequences(until: float, number: int, failures: dict[str, int]) -> None:
    few = settings(
        max_examples=10, stateful_step_count=8, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    while time.monotonic() < until:
        number += 1
        try:
            run_state_machine_as_test(seed(number)(type("Machine", (RunDirectories,), {})), settings=few)
        except Exception as error:
            _note(failures, error, f"seed {number}")


def _note(failures: dict[str, int], error: Exception, where: str) -> None:
    told = re.sub(r"v\d+-\d+-\d+|/\S*/", "", (str(error).strip() or repr(error)).splitlines()[-1])[:200]
    if told not in failures:
        print(f"{where}: {told}", flush=True)
        print("\n".join(getattr(error, "__notes__", ())), flush=True)
    failures[told] = failures.get(told, 0) + 1


def _write(arguments: argparse.Namespace, seconds: float, tried: int, failures: dict[str, int]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    results = {
        "command": f"scripts/bench/fuzz.py --minutes {arguments.minutes:g} --seed {arguments.seed}",
        "commit": commit.stdout.strip(),
        "seconds": round(seconds),
        "examples": seen.examples,
        "single_faults": tried,
        "operations": seen.operations,
        "faults": dict(seen.faults.most_common()),
        "crashes": sum(seen.crashed_at.values()),
        "different_writes_crashed_at": len(seen.crashed_at),
        "crashed_at": dict(seen.crashed_at.most_common()),
        "refusals": dict(seen.refusals.most_common(20)),
        "failures_left": failures,
    }
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    kept = {"failures_found_and_fixed": FIXED, "runs": [*before, results]}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in results.items() if key not in ("crashed_at",)}, indent=1))


if __name__ == "__main__":
    main()
