"""A command that will not go: it and a grandchild in a session of its own ignore every signal that can be ignored.

stubborn.py READY_DIR: touches READY_DIR/child and READY_DIR/grandchild when each one is ready, then sleeps.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready = Path(sys.argv[1])
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, "-I", "-S", __file__, str(ready), "grandchild"], start_new_session=True)
    (ready / "child").touch()
else:
    (ready / "grandchild").touch()
time.sleep(60)
