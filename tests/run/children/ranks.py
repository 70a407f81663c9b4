"""A tree as torchrun makes it, which will not go: an agent, two ranks in sessions of their own, a forked worker each.

ranks.py READY_DIR: each process touches READY_DIR/NAME when it is ready, and sleeps.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready, *name = sys.argv[1:]
if not name:
    for rank in ("rank0", "rank1"):
        subprocess.Popen([sys.executable, "-I", "-S", __file__, ready, rank], start_new_session=True)
    name = ["agent"]
elif os.fork() == 0:
    name = [f"{name[0]}-worker"]
Path(ready, name[0]).touch()
time.sleep(60)
