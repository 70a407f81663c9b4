"""Two files of weights, compared in a way that can be read when they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def differences(first: Path, second: Path) -> dict[str, float]:
    """The largest difference of each tensor that does not have the same bytes in both; NaN where shapes differ.

    Tensors that only one of the files has count as different.
    """
    left, right = load_file(first), load_file(second)
    found = {name: float("nan") for name in left.keys() ^ right.keys()}
    for name in left.keys() & right.keys():
        a, b = left[name], right[name]
        if a.shape != b.shape:
            found[name] = float("nan")
        elif a.tobytes() != b.tobytes():
            found[name] = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))))
    return found
