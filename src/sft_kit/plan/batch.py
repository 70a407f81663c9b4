"""Splits the effective batch into micro-batches. The loss does not depend on the split (labels are counted over the
whole accumulation window, measured in ms-swift 4.6.0), so only memory and speed do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sft_kit.errors import Problem
from sft_kit.plan.memory import MemoryPlan

NEAR_TIE = 0.05
"""Plans whose predicted time is within this of the fastest count as equally fast; the one in least memory is taken."""
LARGEST_MICRO_BATCH = 64
Size = int | Literal["auto"] | None


@dataclass(frozen=True)
class BatchPlan:
    """Rows of one optimizer step = micro_batch x accumulation x processes. None leaves the choice to ms-swift.

    `checkpointing` is gradient checkpointing where sft-kit chooses it; None where the config or ms-swift does.
    """

    micro_batch: int | None
    accumulation: int | None
    checkpointing: bool | None = None

    def describe(self) -> str:
        """`4 rows x 4 accumulated, gradient checkpointing off`."""
        kept = {None: "", True: ", gradient checkpointing on", False: ", gradient checkpointing off"}
        micro, accumulated = self.micro_batch, self.accumulation
        if micro is None or accumulated is None:
            return f"ms-swift's own split of the batch{kept[self.checkpointing]}"
        return f"{micro} {'row' if micro == 1 else 'rows'} x {accumulated} accumulated{kept[self.checkpointing]}"


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


@dataclass(frozen=True)
class Candidate:
    """One way to split the effective batch: what it needs and how long it is expected to take (seconds a step)."""

    batch: BatchPlan
    memory: MemoryPlan
    seconds: float


def splits(effective: int, processes: int, checkpointing: Sequence[bool | None]) -> list[BatchPlan]:
    """Every micro-batch (64 at most) x accumulation x processes that is exactly `effective`; none where none is."""
    each, rest = divmod(effective, processes)
    sizes = [] if rest else [micro for micro in range(1, min(each, LARGEST_MICRO_BATCH) + 1) if each % micro == 0]
    return [BatchPlan(micro, each // micro, kept) for kept in checkpointing for micro in sizes]


def search(
    plans: Iterable[BatchPlan],
    memory: Callable[[BatchPlan], MemoryPlan],
    seconds: Callable[[BatchPlan], float],
    budget_gib: float | None,
) -> list[Candidate]:
    """Those of `plans` that fit `budget_gib` (None: no bound), the best first.

    The fastest, but of those within `NEAR_TIE` of it the one in least memory; the others by time, memory second.
    """
    tried = (Candidate(plan, memory(plan), seconds(plan)) for plan in plans)
    fitting = [each for each in tried if budget_gib is None or each.memory.needed_gib <= budget_gib]
    if not fitting:
        return []
    fastest = min(each.seconds for each in fitting)
    tied = [each for each in fitting if each.seconds <= fastest * (1 + NEAR_TIE)]
    best = min(tied, key=lambda each: (each.memory.needed_gib, each.seconds))
    rest = [each for each in fitting if each is not best]
    return [best, *sorted(rest, key=lambda each: (each.seconds, each.memory.needed_gib))]


def smaller(batch: BatchPlan) -> list[BatchPlan]:
    """What to fall back on when `batch` does not fit, the next one first: half the micro-batch and twice the
    accumulation (their product stays), down to one row, then checkpointing on where it was off."""
    if batch.micro_batch is None or batch.accumulation is None:
        return []
    product, plans = batch.micro_batch * batch.accumulation, [batch]
    while (micro := plans[-1].micro_batch or 1) > 1:
        half = next(size for size in range(micro // 2, 0, -1) if product % size == 0)
        plans.append(BatchPlan(half, product // half, batch.checkpointing))
    if batch.checkpointing is False:
        plans.append(replace(plans[-1], checkpointing=True))
    return plans[1:]


def _given(value: Size) -> int | None:
    return value if isinstance(value, int) else None
