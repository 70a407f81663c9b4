"""`swift sft` with the secrets of SwanLab's notifications from the environment instead of the command line.

    python swanlab_entry.py .../swift/cli/sft.py ARGV...     the secrets are JSON in $SFT_KIT_SWANLAB_SECRET

ms-swift has no variable for them. They are lent to its arguments for the one call that uses them
(SwanlabArguments._init_swanlab): no list of processes shows them, and they are not in args.json, training_args.bin and
the log, where it writes all of its arguments.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sys
from collections.abc import Mapping
from typing import Any

ARGUMENTS = ("swanlab_webhook_url", "swanlab_secret")
VARIABLE = "SFT_KIT_SWANLAB_SECRET"


def main() -> None:
    """Run the file of argv[1] as Python would have run it."""
    file = sys.argv[1]
    sys.argv[:] = sys.argv[1:]
    sys.path[0] = os.path.dirname(file)  # it was this module's own folder, whose names must not be found
    given = json.loads(os.environ.pop(VARIABLE))
    if importlib.util.find_spec("swift.arguments"):
        from swift.arguments import SftArguments
    else:  # 3.x
        from swift.llm import TrainArguments as SftArguments
    lend(SftArguments, given)
    runpy.run_path(file, run_name="__main__")


def lend(arguments: Any, given: Mapping[str, str]) -> None:
    """Have `arguments` (ms-swift's class) hold the `given` values while it sets up SwanLab, and at no other time."""
    set_up = arguments._init_swanlab

    def with_secrets(self: Any) -> None:
        vars(self).update(given)
        try:
            set_up(self)
        finally:
            vars(self).update(dict.fromkeys(given))

    arguments._init_swanlab = with_secrets


if __name__ == "__main__":
    main()
