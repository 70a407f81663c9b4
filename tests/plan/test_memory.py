"""The memory plan against the exact live bytes of transformers' and peft's real modules, and its own rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sft_kit.plan.memory import MemoryPlan, Micro, Tuning, memory_plan
from sft_kit.plan.shape import ModelShape, known_shape, shape_of
from sft_kit.resources import shipped

CHILD = Path(__file__).with_name("live_bytes.py")
WORST = 0.03
"""The largest error we allow, of allocated bytes."""


@dataclass(frozen=True)
class Case:
    """One traced step. Few layers keep it fast, and make it harder: less of the peak is weights."""

    model: str
    micro: Micro
    tuning: Tuning = field(default_factory=lambda: Tuning("lora"))
    layers: int | None = 2

    @property
    def config(self) -> dict[str, Any]:
        """config.json, from the shipped list."""
        for entry in json.loads((shipped("data") / "models" / "shapes.json").read_text(encoding="utf-8"))["models"]:
            if self.model in entry["ids"]:
                return {**entry["config"], **({"num_hidden_layers": self.layers} if self.layers else {})}
        raise KeyError(self.model)

    @property
    def plan(self) -> MemoryPlan:
        shape = shape_of(self.config)
        assert shape is not None
        return memory_plan(shape, self.tuning, self.micro)

    @property
    def name(self) -> str:
        default = asdict(Tuning("lora"))
        changed = [f"{key} {value}" for key, value in asdict(self.tuning).items() if value != default[key]]
        micro = f"{self.micro.rows} x {self.micro.padded}, {self.micro.kept} kept"
        return " · ".join([self.model.split("/")[1], f"{self.layers or 'all'} layers", micro, *changed])


def _tuning(**changed: Any) -> Tuning:
    return Tuning(**{"kind": "lora", **changed})


QWEN25_7B, QWEN25_3B, QWEN25_05B = (f"Qwen/Qwen2.5-{size}-Instruct" for size in ("7B", "3B", "0.5B"))
QWEN3_8B, QWEN3_4B = "Qwen/Qwen3-8B", "Qwen/Qwen3-4B"
LLAMA, MISTRAL, GEMMA2 = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "google/gemma-2-2b-it",
)
PHI, PHI4_MINI, GLM4 = "microsoft/Phi-3.5-mini-instruct", "microsoft/Phi-4-mini-instruct", "THUDM/GLM-4-9B-0414"
SMOLLM, GEMMA3 = "HuggingFaceTB/SmolLM2-135M-Instruct", "google/gemma-3-1b-it"

CASES = [
    Case(SMOLLM, Micro(4, 64, 160), _tuning(base_bits=32, cpu=True), layers=None),
    # LoRA: rows, lengths, logits, ranks, targets
    Case(QWEN25_7B, Micro(1, 2048, 24)),
    Case(QWEN25_7B, Micro(16, 64, 640), _tuning(checkpointing=False)),
    Case(QWEN25_7B, Micro(1, 512, 64), _tuning(rank=64, dropout=0.0)),
    Case(QWEN25_3B, Micro(1, 4096, 200)),
    Case(QWEN25_3B, Micro(4, 512, 1200), _tuning(checkpointing=False)),
    Case(QWEN25_05B, Micro(1, 64, 20), _tuning(rank=64)),
    Case(QWEN3_8B, Micro(1, 2048, 2048)),
    Case(QWEN3_8B, Micro(2, 1024, 300), _tuning(dropout=0.0)),
    Case(QWEN3_4B, Micro(8, 128, 400), _tuning(checkpointing=False)),
    Case(QWEN3_4B, Micro(1, 1024, 16), _tuning(targets=("q_proj", "v_proj"))),
    Case(LLAMA, Micro(1, 1024, 1024), _tuning(checkpointing=False)),
    Case(LLAMA, Micro(1, 1024, 16), _tuning(targets=("q_proj", "v_proj"), checkpointing=False)),
    Case(MISTRAL, Micro(4, 256, 400)),
    Case(MISTRAL, Micro(1, 1024, 32), _tuning(rank=64, checkpointing=False, dropout=0.0)),
    Case(GEMMA2, Micro(1, 1024, 1024)),
    Case(GEMMA2, Micro(1, 1024, 16), _tuning(checkpointing=False)),
    Case(GEMMA3, Micro(1, 1024, 16), _tuning(checkpointing=False)),
    Case(PHI, Micro(1, 1024, 100)),
    Case(PHI, Micro(4, 256, 400), _tuning(checkpointing=False)),
    Case(PHI4_MINI, Micro(1, 1024, 50)),
    Case(GLM4, Micro(1, 1024, 30)),
    Case(GLM4, Micro(1, 1024, 1024), _tuning(checkpointing=False)),
    Case(SMOLLM, Micro(16, 128, 1000)),
    Case(PHI, Micro(8, 256, 1500), _tuning(targets=("gate_up_proj", "down_proj"), checkpointing=False)),
    # DoRA, eager attention, modules_to_save, float32
    Case(LLAMA, Micro(1, 512, 16), _tuning(dora=True, dropout=0.0)),
    Case(LLAMA, Micro(1, 512, 16), _tuning(dora=True, checkpointing=False)),
    Case(QWEN25_05B, Micro(1, 1024, 16), _tuning(attention="eager", checkpointing=False)),
    Case(LLAMA, Micro(1, 1024, 16), _tuning(attention="eager")),
    Case(GEMMA2, Micro(2, 512, 64), _tuning(attention="eager")),
    Case(QWEN25_7B, Micro(1, 512, 16), _tuning(modules_to_save=("embed_tokens", "lm_head"))),
    Case(QWEN25_05B, Micro(4, 256, 300), _tuning(base_bits=32, cpu=True, checkpointing=False)),
    Case(QWEN3_4B, Micro(1, 512, 16), _tuning(base_bits=32, dropout=0.0)),
    # every weight trained
    Case(QWEN25_7B, Micro(1, 1024, 1024), _tuning(kind="full")),
    Case(QWEN3_4B, Micro(1, 2048, 2048), _tuning(kind="full")),
    Case(QWEN25_05B, Micro(4, 512, 1500), _tuning(kind="full", checkpointing=False)),
    Case(LLAMA, Micro(1, 2048, 16), _tuning(kind="full", optimizer="adamw_torch")),
    Case(GEMMA2, Micro(1, 1024, 1024), _tuning(kind="full", checkpointing=False)),
    Case(PHI, Micro(1, 2048, 16), _tuning(kind="full")),
    Case(SMOLLM, Micro(4, 128, 400), _tuning(kind="full", base_bits=32, checkpointing=False)),
]

FULL_DEPTH = [
    Case(QWEN25_7B, Micro(1, 2048, 2048), layers=None),
    Case(QWEN25_7B, Micro(1, 2048, 2048), _tuning(checkpointing=False), layers=None),
    Case(QWEN25_7B, Micro(16, 64, 640), layers=None),
    Case(QWEN25_7B, Micro(16, 64, 640), _tuning(checkpointing=False), layers=None),
    Case(QWEN25_05B, Micro(16, 64, 640), layers=None),
    Case(LLAMA, Micro(1, 2048, 2048), layers=None),
    Case(QWEN3_8B, Micro(1, 2048, 2048), layers=None),
    Case(QWEN3_4B, Micro(1, 2048, 2048), _tuning(kind="full"), layers=None),
]
"""Traced by scripts/bench/memory.py only: seconds each."""


def traced(cases: list[dict[str, Any]]) -> list[Any]:
    """The child's answers, one process for all."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(CHILD)]
    ended = subprocess.run(command, input=json.dumps(cases), env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads(line) for line in ended.stdout.splitlines()]


def errors(cases: list[Case]) -> list[tuple[Case, int, int]]:
    """Each case with the bytes we say and the bytes there are."""
    asked = [{"config": case.config, "tuning": asdict(case.tuning), "micro": asdict(case.micro)} for case in cases]
    return [(case, case.plan.allocated, exact) for case, exact in zip(cases, traced(asked), strict=True)]


def test_the_plan_is_what_the_real_modules_hold_at_their_peak() -> None:
    answers = errors(CASES)
    assert len(answers) >= 30
    wrong = {case.name: f"{said / exact - 1:+.1%}" for case, said, exact in answers if abs(said / exact - 1) > WORST}
    assert wrong == {}


@pytest.fixture
def qwen() -> ModelShape:
    shape = known_shape(QWEN25_7B)
    assert shape is not None
    return shape


def test_the_tutorials_run_is_the_sum_of_its_terms(qwen: ModelShape) -> None:
    plan = memory_plan(qwen, Tuning("lora", dropout=0.0), Micro(1, 2048, 2048))
    assert plan.moment == "loss"
    assert plan.terms == {
        "weights": 15_231_233_024,
        "adapter": 80_740_352,
        "gradients": 80_740_352,
        "optimizer": 161_480_704,
        "checkpoints": 28 * 2 * 3584 * 2048,
        "norm": 4 * 3584 * 2048,
        "logits": 12 * 152064 * 2048,
    }
    assert plan.allocated == sum(plan.terms.values())
    assert round(plan.needed_gib, 2) == 19.8
    assert round(plan.expected_gib, 2) == 21.63


def test_a_quantised_base_holds_its_linears_in_fewer_bytes(qwen: ModelShape) -> None:
    by_bits = {
        bits: memory_plan(qwen, Tuning("lora", base_bits=bits), Micro(1, 512, 64)).terms["weights"] / 2**30
        for bits in (32, 16, 8, 4)
    }
    assert {bits: round(gib, 2) for bits, gib in by_bits.items()} == {32: 28.37, 16: 14.19, 8: 8.11, 4: 5.17}


@pytest.mark.parametrize(
    ("optimizer", "times"),
    [("adamw_torch_fused", 4.0), ("lion_32bit", 2.0), ("adamw_8bit", 2.03), ("sgd", 0.0), ("adafactor", 0.0)],
)
def test_an_optimizer_keeps_its_own_bytes_a_parameter(qwen: ModelShape, optimizer: str, times: float) -> None:
    plan = memory_plan(qwen, Tuning("full", optimizer=optimizer), Micro(1, 512, 64))
    assert plan.terms["optimizer"] == round(times * qwen.parameters)


def test_liger_needs_no_room_for_the_logits(qwen: ModelShape) -> None:
    micro = Micro(1, 2048, 2048)
    plain, liger = (memory_plan(qwen, Tuning("lora", liger=liger), micro) for liger in (False, True))
    assert plain.moment == "loss"
    assert liger.moment == "layer"
    assert plain.allocated - liger.allocated > 2 * 2**30


def test_rank_stabilised_lora_costs_what_lora_costs(qwen: ModelShape) -> None:
    micro = Micro(2, 512, 300)
    assert memory_plan(qwen, Tuning("lora", rslora=True), micro) == memory_plan(qwen, Tuning("lora"), micro)


@pytest.mark.parametrize("dora", [False, True])
def test_targets_that_the_model_lacks_adapt_nothing(qwen: ModelShape, dora: bool) -> None:
    plan = memory_plan(qwen, Tuning("lora", targets=("query_key_value",), dora=dora), Micro(1, 512, 64))
    assert plan.terms["adapter"] == 0


def test_on_a_cpu_the_process_counts_and_no_cuda_context() -> None:
    plan = MemoryPlan({"weights": 2**30})
    assert (plan.needed_gib, plan.expected_gib) == (1.05 + 0.5, 1.15 + 0.5)
    assert MemoryPlan({"weights": 2**30}, cpu=True).needed_gib == 1.05 + 0.6
