"""Writes constraints/ms-swift-N.txt: the versions in an environment that passed its tests.

    .venv/bin/python scripts/dev/pin.py 4        .venv-3/bin/python scripts/dev/pin.py 3

sft-kit itself and pip are left out; of torch the build (`+cpu`) is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"(?:sft-kit|pip|setuptools|wheel)==", re.IGNORECASE)


def main() -> None:
    path = ROOT / "constraints" / f"ms-swift-{sys.argv[1]}.txt"
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    named = [line for line in frozen if re.match(r"[\w.-]+==", line) and not LEFT_OUT.match(line)]
    pins = [line.partition("+")[0].replace("_", "-") for line in named]  # scripts/setup looks for ms-swift
    path.write_text("\n".join([*header, *pins]) + "\n", encoding="utf-8")
    print(f"{len(pins)} packages")


if __name__ == "__main__":
    main()
