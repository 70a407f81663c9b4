"""Splits the effective batch into micro-batches. The loss does not depend on the split (labels are counted over the
whole accumulation window, measured in ms-swift 4.6.0), so only memory and speed do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_kit.errors import Problem

Size = int | Literal["auto"] | None


@dataclass(frozen=True)
class BatchPlan:
    """Rows of one optimizer step = micro_batch x accumulation x processes. None leaves the choice to ms-swift."""

    micro_batch: int | None
    accumulation: int | None


def plan_batch(
    micro_batch: Size, accumulation: Size, effective: int | None, *, processes: int = 1
) -> BatchPlan | list[Problem]:
    """Fill in what is `auto` (or left out beside `effective`) so that the product is `effective`.

    `auto` takes the micro-batch 1, which fits wherever the run fits at all; the keys in the problems are the
    config's own.
    """
    if effective is None:
        autos = [
            key
            for key, value in (
                ("per_device_train_batch_size", micro_batch),
                ("gradient_accumulation_steps", accumulation),
            )
            if value == "auto"
        ]
        if autos:
            fix = "add effective_batch_size: 16"
            return [Problem(key, "auto needs effective_batch_size to aim at", fix) for key in autos]
        return BatchPlan(_given(micro_batch), _given(accumulation))
    given_micro, given_accumulation = _given(micro_batch), _given(accumulation)
    if given_micro and given_accumulation:
        product = given_micro * given_accumulation * processes
        if product == effective:
            return BatchPlan(given_micro, given_accumulation)
        parts = f"{given_micro} x {given_accumulation} x {processes} process(es) = {product}"
        fix = "set gradient_accumulation_steps: auto"
        return [Problem("effective_batch_size", f"{effective}, but {parts}", fix)]
    known = given_micro or given_accumulation or 1
    if effective % (known * processes):
        key = "gradient_accumulation_steps" if given_accumulation else "per_device_train_batch_size"
        factors = [f"{key} {known}"] if known > 1 else []
        factors += [f"{processes} processes"] if processes > 1 else []
        message = f"{effective} is not a multiple of {' x '.join(factors)}"
        return [Problem("effective_batch_size", message, f"choose a multiple of {known * processes}")]
    rest = effective // (known * processes)
    return BatchPlan(rest, given_accumulation) if given_accumulation else BatchPlan(known, rest)


def _given(value: Size) -> int | None:
    return value if isinstance(value, int) else None
