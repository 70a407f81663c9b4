"""Quantises an exported model with `swift export --quant_method`.

Owns what each method needs (its packages, a GPU, rows to calibrate with), looked for before anything else starts, and
the call. Does not own whether the result answers (`run.export`): a quantised model may answer otherwise.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft_kit.errors import MissingError, MsSwiftError, Problem, UsageError
from sft_kit.msswift.checkpoints import missing_weights, read_json
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.install import Installation
from sft_kit.run.parity import has_gpu
from sft_kit.run.process import start, supervise
from sft_kit.run.swift_log import swift_failed, temporary_log

Method = Literal["awq", "gptq", "bnb", "fp8"]


@dataclass(frozen=True)
class _Needs:
    """`bits` as ms-swift takes it; `modules` are what it and transformers import, `packages` what pip calls them."""

    bits: int | None
    modules: tuple[str, ...]
    packages: str
    gpu: bool
    rows: bool


# swift/pipelines/export/quant.py and transformers/quantizers; bitsandbytes runs on a CPU too
METHODS: Mapping[Method, _Needs] = {
    "awq": _Needs(4, ("awq",), "autoawq", gpu=True, rows=True),
    "gptq": _Needs(4, ("optimum", "gptqmodel"), "optimum gptqmodel", gpu=True, rows=True),
    "bnb": _Needs(4, ("bitsandbytes", "accelerate"), "bitsandbytes accelerate", gpu=False, rows=False),
    "fp8": _Needs(None, ("accelerate",), "accelerate", gpu=True, rows=False),
}


def check_method(method: Method, run: Path | None, env: Mapping[str, str]) -> list[Path]:
    """The rows to calibrate `method` with (none where it needs none).

    Raises MissingError with the pip command when a package or the GPU is not there, UsageError when no rows are.
    """
    needs = METHODS[method]
    missing = [name for name in needs.modules if importlib.util.find_spec(name) is None]
    problems = []
    if missing:
        message = f"{method} needs the Python package{'s' * (len(missing) > 1)} {' and '.join(missing)}"
        problems.append(Problem("--quant", message, f"pip install {needs.packages}"))
    if needs.gpu and not has_gpu(env):
        problems.append(Problem("--quant", f"{method} needs an NVIDIA GPU, and none is seen here", _elsewhere(method)))
    if problems:
        raise MissingError(*problems)
    rows = _training_rows(run) if needs.rows else []
    if needs.rows and not rows:
        fix = "export the run itself, with its rows where they were, or use --quant bnb"
        raise UsageError(Problem("--quant", f"{method} calibrates with the run's training rows, which are gone", fix))
    return rows


def quantise(
    installation: Installation,
    method: Method,
    model: Path,
    out: Path,
    rows: Sequence[Path],
    *,
    env: Mapping[str, str],
) -> None:
    """Write `model`, quantised, into `out`, which must not exist. Raises MsSwiftError when ms-swift fails."""
    values: dict[str, Any] = {"model": str(model), "quant_method": method, "quant_bits": METHODS[method].bits}
    if rows:
        values["dataset"] = [str(path) for path in rows]
    command = swift_command(installation, "export", {**values, "output_dir": str(out)}, env=env)
    with temporary_log("quantise") as log:
        with start(command.argv, log=log, env=command.environment()) as process:
            exit_ = supervise(process, tick=lambda: None)
        if not exit_.ok:
            raise swift_failed(exit_, log)
        if missing_weights(out) or "quantization_config" not in read_json(out / "config.json"):
            problem = Problem("", "ms-swift ended well but wrote no quantised model", f"its whole output: {log}")
            raise MsSwiftError(problem, returncode=0)


def described(method: Method) -> str:
    """`awq, 4 bits`."""
    bits = METHODS[method].bits
    return f"{method}, {bits} bits" if bits else method


def _training_rows(run: Path | None) -> list[Path]:
    """The run's own data files that are still where its manifest has them."""
    manifest = read_json(run / "sft-kit" / "manifest.json") if run else {}
    paths = [Path(str(entry.get("path"))) for entry in manifest.get("data") or () if isinstance(entry, dict)]
    return [path for path in paths if path.is_file() and path.suffix in (".jsonl", ".json", ".csv")]


def _elsewhere(method: Method) -> str:
    return "quantise on a machine with one" + (" of compute capability 8.9 (4090, H100)" if method == "fp8" else "")
