"""A launcher as sft-kit is one: starts argv[3:] and supervises it.

launcher.py LOG GRACE_S ARGV...: prints `PID GUARD_PID`; later `ended ...` (exit 0) or the InterruptedRun (exit 130).
"""

import os
import sys
from pathlib import Path

from sft_kit.errors import InterruptedRun
from sft_kit.run.process import start, supervise

log, grace_s, *argv = sys.argv[1:]
with start(argv, log=Path(log), env=os.environ, grace_s=float(grace_s)) as process:
    print(process.pid, process.guard_pid, flush=True)
    try:
        ended = supervise(process, tick=lambda: None)
    except InterruptedRun as error:
        print(error, flush=True)
        sys.exit(error.exit_code)
print("ended", ended.describe(), flush=True)
