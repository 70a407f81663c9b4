"""The time model against the figures it is made from: a roofline on four cards, and measured steps on a CPU."""

from __future__ import annotations

import pytest

from sft_kit.plan.device import cpu_device, device_named
from sft_kit.plan.memory import Micro, Tuning
from sft_kit.plan.shape import ModelShape, shape_of
from sft_kit.plan.speed import draw, expected_step_seconds, step_seconds

QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
IDENTITY = tuple(range(30, 121))
"""Tokens of identity rows with Qwen's template, one of each: 30 to 120."""


def shape(config: dict[str, object]) -> ModelShape:
    found = shape_of(config)
    assert found is not None
    return found


def seconds(card: str, micro: int, *, checkpointing: bool) -> float:
    device = device_named(card)
    assert device is not None
    tuning = Tuning("lora", checkpointing=checkpointing)
    return expected_step_seconds(shape(QWEN_7B), tuning, draw(IDENTITY, micro), 16 // micro, device)


@pytest.mark.parametrize(
    ("card", "micro", "on", "off"),
    [
        ("NVIDIA GeForce RTX 4090", 1, 1.60, 1.12),
        ("NVIDIA GeForce RTX 4090", 4, 0.67, 0.45),
        ("NVIDIA GeForce RTX 4090", 16, 0.75, 0.51),
        ("NVIDIA GeForce RTX 3090", 1, 1.62, 1.13),
        ("NVIDIA GeForce RTX 3090", 2, 1.38, 0.94),
        ("NVIDIA H100 80GB HBM3", 1, 1.60, 1.12),
        ("NVIDIA H100 80GB HBM3", 16, 0.13, 0.09),
    ],
)
def test_sixteen_identity_rows_take_what_the_roofline_says(card: str, micro: int, on: float, off: float) -> None:
    got = seconds(card, micro, checkpointing=True), seconds(card, micro, checkpointing=False)
    assert got == pytest.approx((on, off), rel=0.06)


# Seconds of 4 steps of 16 rows, two cores, SmolLM2-135M, LoRA r8, fp32, the better of two runs of
# scripts/bench/throughput.py; rows of 21 to 103 tokens
MEASURED = {
    (1, True): 32.5,
    (2, True): 29.2,
    (4, True): 23.6,
    (8, True): 27.6,
    (16, True): 28.7,
    (1, False): 25.8,
    (2, False): 22.7,
    (4, False): 20.0,
    (8, False): 17.2,
    (16, False): 22.9,
}
ROWS = tuple(range(21, 65)) + tuple(range(31, 56)) * 3 + (70, 80, 90, 103)
"""As long as the rows of that measurement: mean 43, most 103."""


def on_two_cores(micro: int, *, checkpointing: bool) -> float:
    tuning = Tuning("lora", base_bits=32, checkpointing=checkpointing)
    return expected_step_seconds(shape(SMOLLM2), tuning, draw(ROWS, micro), 16 // micro, cpu_device(2))


@pytest.mark.parametrize(("micro", "checkpointing"), MEASURED)
def test_a_step_on_a_cpu_takes_what_was_measured(micro: int, checkpointing: bool) -> None:
    assert 4 * on_two_cores(micro, checkpointing=checkpointing) == pytest.approx(
        MEASURED[micro, checkpointing], rel=0.2
    )


def test_what_the_model_finds_fastest_on_a_cpu_is_within_a_sixth_of_the_fastest_measured() -> None:
    plans = sorted(MEASURED, key=lambda plan: on_two_cores(plan[0], checkpointing=plan[1]))
    assert MEASURED[plans[0]] <= 1.17 * min(MEASURED.values())
    assert MEASURED[plans[0]] * 1.4 < MEASURED[1, True]


def test_padding_is_counted() -> None:
    assert draw((10,) * 8, 4) == (Micro(4, 10, 40),) * 128
    padded = sum(micro.tokens for micro in draw((10, 100), 8)) / sum(micro.rows for micro in draw((10, 100), 8))
    assert 95 < padded <= 100  # nearly every micro-batch of eight has a long row


def test_rows_grouped_by_length_are_hardly_padded() -> None:
    grouped = draw((10, 100), 8, grouped=True)
    assert {micro.padded for micro in grouped} == {10, 100}


def test_rows_laid_end_to_end_are_not_padded_at_all() -> None:
    assert draw((10,), 8, flat=True)[0] == Micro(1, 80, 80)


def test_the_same_rows_are_drawn_the_same_way() -> None:
    draw.cache_clear()
    first = draw(IDENTITY, 4)
    draw.cache_clear()
    assert draw(IDENTITY, 4) == first


def test_a_full_fine_tune_takes_longer_than_an_adapter() -> None:
    device = device_named("Tesla T4")
    assert device is not None
    micros = [Micro(4, 512, 2048)]
    lora, full = (step_seconds(shape(QWEN_7B), Tuning(kind), micros, device) for kind in ("lora", "full"))
    assert full > lora * 1.3
