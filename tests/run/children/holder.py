"""A launcher that holds a run while a command works, and ends as sft-kit's own commands do.

holder.py RUN GRACE_S [ARGV...]: prints `held`, then `PID GUARD_PID` if there is a command; without one it sleeps.
Twenty times a second a dot goes to stderr, as progress does.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from sft_kit.errors import InterruptedRun, SftKitError
from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.process import start, supervise
from sft_kit.run.signals import signals_as_interrupts

path, grace_s, *argv = sys.argv[1:]
run = RunDirectory(Path(path))


def work(manifest: Manifest) -> Manifest:
    print("held", flush=True)
    if not argv:
        time.sleep(60)
        return manifest
    with start(argv, log=run.kit / "train.log", env=os.environ, grace_s=float(grace_s)) as process:
        print(process.pid, process.guard_pid, flush=True)
        ended = supervise(process, tick=lambda: print(".", end="", file=sys.stderr, flush=True), every_s=0.05)
    return replace(manifest, status="succeeded" if ended.ok else "failed", message=ended.describe())


def hold() -> None:
    manifest = Manifest(status="running", created="2026-01-01T00:00:00+00:00", config="c.yaml", pid=os.getpid())
    with signals_as_interrupts(), run.lock():
        run.write(manifest)
        try:
            run.write(work(manifest))
        except (KeyboardInterrupt, InterruptedRun) as error:
            message = str(error) or "stopped by SIGINT"
            run.write(replace(manifest, status="interrupted", message=message))
            raise InterruptedRun(message) from None


try:
    hold()
except SftKitError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
