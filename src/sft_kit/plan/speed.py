"""How long one optimizer step takes, from the shapes of the model and of its micro-batches: a roofline and the host.

Owns the time model; its constants are in `device`, where they come from in docs/speed.md. It is made to put plans in
order, on rows of real lengths with their padding, and not to predict a wall clock. Does not own what fits (`memory`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sft_kit.plan.device import Device
from sft_kit.plan.memory import Micro, Tuning
from sft_kit.plan.shape import ModelShape

OPERATIONS_A_LAYER = 7200 / 28
"""What the host starts for one layer in one micro-step, forward and backward, with LoRA on every linear layer:
counted on Qwen2.5-7B (docs/speed.md)."""
RECOMPUTED = 0.43
"""The operations of one more forward pass (checkpointing), as a part of those of forward and backward."""
_SEED, _DRAWN = 42, 512


def step_seconds(shape: ModelShape, tuning: Tuning, micros: Sequence[Micro], device: Device) -> float:
    """Seconds of one optimizer step whose micro-steps are `micros`, on one `device`."""
    steps = Counter((micro.rows, micro.padded, micro.kept) for micro in micros)
    each = sum(number * work_of(shape, tuning, Micro(*micro)).seconds(device) for micro, number in steps.items())
    return each + _optimizer_seconds(shape, tuning, device)


def expected_step_seconds(
    shape: ModelShape, tuning: Tuning, drawn: Sequence[Micro], accumulation: int, device: Device
) -> float:
    """Seconds of a step of `accumulation` micro-steps, each of which is like one of `drawn`."""
    optimizer = _optimizer_seconds(shape, tuning, device)
    return optimizer + (step_seconds(shape, tuning, drawn, device) - optimizer) / len(drawn) * accumulation


@lru_cache(maxsize=64)
def draw(lengths: tuple[int, ...], rows: int, *, grouped: bool = False, flat: bool = False) -> tuple[Micro, ...]:
    """Micro-batches of `rows` rows such as training meets, from a sample of the rows' token counts.

    Rows are drawn as ms-swift shuffles them (by chance, here always the same), or sorted where it groups them by
    length (`grouped`). Each is padded to its longest, or laid end to end (`flat`: packing, padding_free).
    """
    if not lengths:
        return ()
    order = list(lengths) * -(-_DRAWN // len(lengths))
    random.Random(_SEED).shuffle(order)  # noqa: S311 (an estimate that is always the same)
    order = order[: max(_DRAWN, rows)]
    if grouped:
        order.sort()
    batches = [order[at : at + rows] for at in range(0, len(order) - rows + 1, rows)]
    if flat:
        return tuple(Micro(1, sum(batch), sum(batch)) for batch in batches)
    return tuple(Micro(rows, max(batch), rows * max(batch)) for batch in batches)


@dataclass(frozen=True)
class Work:
    """What one micro-step asks of a device: floating-point operations, bytes of weights, operations that the host
    starts."""

    flops: float
    weight_bytes: float
    started: float

    def seconds(self, device: Device) -> float:
        """On `device`. A GPU computes while the host prepares what comes next, so that the slowest of computing,
        reading and starting counts; on a CPU they add up (measured)."""
        parts = (
            self.flops / (device.tflops * 1e12),
            self.weight_bytes / (device.bandwidth_gb_s * 1e9),
            self.started * device.overhead_s,
        )
        return max(parts) if device.asynchronous else sum(parts)


def work_of(shape: ModelShape, tuning: Tuning, micro: Micro) -> Work:
    """One forward and one backward pass, with checkpointing one more forward of the layers."""
    backward = 2 if tuning.kind == "full" else 1  # of the inputs; of the weights only where they are trained
    passes = 1 + backward + tuning.checkpointing
    linear, head = shape.linear_parameters, shape.vocab * shape.hidden
    attention = 2 * micro.padded * shape.q_dim * shape.layers * (3 + tuning.checkpointing)  # causal: half of the square
    flops = micro.tokens * (2 * linear * passes + attention) + 2 * head * micro.kept * (1 + backward)
    read = linear * _bytes_read(tuning) * passes + head * max(tuning.base_bits, 16) / 8 * (1 + backward)
    return Work(flops, read, OPERATIONS_A_LAYER * shape.layers * (1 + RECOMPUTED * tuning.checkpointing))


def _bytes_read(tuning: Tuning) -> float:
    """Bytes a parameter in one pass; a quantised one is read, written as bf16 and read again."""
    return tuning.base_bits / 8 + (4 if tuning.base_bits < 16 else 0)


def _optimizer_seconds(shape: ModelShape, tuning: Tuning, device: Device) -> float:
    """Adam reads weight, gradient and both moments and writes three of them: nothing to speak of for an adapter."""
    if tuning.kind != "full":
        return 0.0
    return 7 * shape.parameters * tuning.base_bits / 8 / (device.bandwidth_gb_s * 1e9)
