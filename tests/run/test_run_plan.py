"""The plan of a run on cards and CPUs: what is chosen, what is said of it, and that nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.environment import Environment, Memory
from sft_kit.checks.facts import Facts
from sft_kit.config.schema import LaunchSection
from sft_kit.plan.batch import BatchPlan
from sft_kit.plan.device import cpu_device, shipped_devices, store
from sft_kit.plan.gpus import Gpu
from sft_kit.run.prepare import examine
from sft_kit.run.run_plan import RunPlan, plan_run

RTX_4090 = Gpu(0, "NVIDIA GeForce RTX 4090", 24214, 24564)
H100 = Gpu(0, "NVIDIA H100 80GB HBM3", 81000, 81559)
T4 = Gpu(0, "Tesla T4", 14900, 15360)
IDENTITY = tuple(range(30, 121))
CONFIG = """\
model: Qwen/Qwen2.5-7B-Instruct
dataset: rows.jsonl
torch_dtype: bfloat16
max_length: 2048
lora_dropout: 0
effective_batch_size: 16
per_device_train_batch_size: auto
output_dir: output
"""


@pytest.fixture(autouse=True)
def no_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "no-cache"))
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """Of the config above on a machine with one idle RTX 4090, all of whose rows are short."""
    monkeypatch.chdir(tmp_path)
    row = '{"messages": [{"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong"}]}\n'
    Path("rows.jsonl").write_text(row, encoding="utf-8")
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    looked = examine(Path("config.yaml"), ask_hub=False).facts
    return replace(on(looked, RTX_4090), lengths=IDENTITY)


def on(facts: Facts, *gpus: Gpu, environ: dict[str, str] | None = None) -> Facts:
    """The same run on a machine with those cards (none: on its CPU, with 32 GiB of RAM)."""
    memory = Memory(32 << 30, 30 << 30)
    return replace(facts, environment=Environment({}, gpus, gpus, environ or {}, memory=memory))


def having(facts: Facts, **changes: Any) -> Facts:
    """The same run with other keys in its config; a micro-batch is the config's own then."""
    config = facts.config.model_copy(update=changes)
    sizes = config.per_device_train_batch_size, config.gradient_accumulation_steps
    micro, accumulation = (size if isinstance(size, int) else None for size in sizes)
    return replace(facts, config=config, batch=BatchPlan(micro, accumulation))


def fixed(facts: Facts, micro: int, accumulation: int, **changes: Any) -> Facts:
    return having(
        facts,
        effective_batch_size=None,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        **changes,
    )


def codes(plan: RunPlan) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in plan.findings]


def test_the_fastest_split_that_fits_a_4090_is_taken_and_explained(facts: Facts) -> None:
    plan = plan_run(facts)
    assert plan.batch == BatchPlan(4, 4, False)
    assert [line.split(":")[0] for line in plan.lines] == ["batch", "memory", "time"]
    assert plan.lines[0].startswith("batch: 4 rows x 4 accumulated, gradient checkpointing off; as fast as any of the ")
    assert "expected in nvidia-smi, of 23.6 (NVIDIA GeForce RTX 4090)" in plan.lines[1]
    assert plan.lines[2].endswith("by the figures of RTX 4090, 3.4x as fast as 1 x 16")
    assert plan.smaller[0] == BatchPlan(2, 8, False)
    assert codes(plan) == []


def test_a_larger_card_takes_more_rows_at_a_time(facts: Facts) -> None:
    assert plan_run(on(facts, H100)).batch == BatchPlan(16, 1, False)


def test_what_is_chosen_fits_what_is_free(facts: Facts) -> None:
    for free_mib in range(17_000, 24_000, 500):
        plan = plan_run(on(facts, replace(RTX_4090, free_mib=free_mib)))
        assert plan.memory is not None and plan.memory.needed_gib <= free_mib / 1024, free_mib


def test_the_longest_row_decides_about_memory(facts: Facts) -> None:
    short, long = plan_run(facts), plan_run(replace(facts, lengths=(*IDENTITY, 1500)))
    assert (short.batch.checkpointing, long.batch.checkpointing) == (False, True)


def test_rows_that_were_not_counted_may_be_as_long_as_max_length(facts: Facts) -> None:
    hub = having(facts, dataset=["owner/name#500"])
    assert plan_run(hub).lines[1].startswith("memory: ")
    assert "needed for rows of max_length 2048" in plan_run(hub).lines[1]
    unbounded = plan_run(having(hub, max_length=None))
    assert unbounded.batch == hub.batch
    assert unbounded.lines == (
        "batch: 1 row x 16 accumulated; not all rows were counted, and no max_length bounds them",
    )


def test_checkpointing_that_the_config_sets_stays(facts: Facts) -> None:
    assert plan_run(having(facts, gradient_checkpointing=True)).batch == BatchPlan(4, 4, True)
    assert plan_run(having(facts, gradient_checkpointing=False)).batch == BatchPlan(4, 4, False)


def test_a_micro_batch_that_the_config_sets_stays_and_its_cost_is_told(facts: Facts) -> None:
    plan = plan_run(fixed(facts, 1, 16))
    assert plan.batch == BatchPlan(1, 16)
    assert plan.lines[0] == "batch: 1 row x 16 accumulated"
    assert codes(plan) == [("batch-could-be-larger", "note")]
    assert plan.findings[0].place == "per_device_train_batch_size"
    assert "4 rows x 4 accumulated, gradient checkpointing off would be about 3.4x as fast" in plan.findings[0].message
    assert plan.smaller == ()


def test_each_process_has_its_part_of_the_batch(facts: Facts) -> None:
    two = on(facts, RTX_4090, replace(RTX_4090, index=1))
    assert plan_run(replace(two, processes=2)).batch == BatchPlan(4, 2, False)


def test_nothing_is_guessed_of_a_model_or_rows_or_a_card_that_are_not_known(facts: Facts) -> None:
    model = BaseModel("owner/other", "owner/other", local=False)
    for unknown, why in (
        (replace(facts, model=model), "the model's shape is not known here"),
        (replace(facts, lengths=()), "the rows' lengths are not known here"),
        (having(facts, deepspeed="zero3"), "what deepspeed does to memory is not known here"),
        (having(facts, tuner_type="adalora"), "what tuner_type adalora does to memory is not known here"),
        (
            on(facts, replace(RTX_4090, name="NVIDIA GeForce RTX 4060 Ti")),
            "the speed of NVIDIA GeForce RTX 4060 Ti is not known; sft-kit doctor --calibrate measures it",
        ),
    ):
        plan = plan_run(unknown)
        assert plan.batch == unknown.batch
        assert plan.lines[0] == f"batch: 1 row x 16 accumulated; {why}"
        assert codes(plan) == []


def test_a_model_that_no_plan_fits_is_an_error_that_names_what_would(facts: Facts) -> None:
    full = plan_run(having(facts, tuner_type="full"))
    assert codes(full) == [("does-not-fit", "error")]
    assert "even one row at a time needs at least 58" in full.findings[0].message
    assert "tuner_type: lora (1" in full.findings[0].fix
    small = plan_run(on(facts, T4))
    assert codes(small) == [("does-not-fit", "error")]
    assert "quant_method: bnb with quant_bits: 4 (" in small.findings[0].fix


def test_a_batch_that_does_not_fit_where_a_smaller_one_would_is_a_warning(facts: Facts) -> None:
    plan = plan_run(replace(fixed(facts, 16, 1), lengths=(*IDENTITY, 1990)))
    assert codes(plan) == [("does-not-fit", "warning")]
    assert plan.findings[0].fix.startswith("fits with per_device_train_batch_size: 1 (")
    assert plan.smaller[0] == BatchPlan(8, 2)


def test_a_batch_that_only_just_fits_is_a_warning(facts: Facts) -> None:
    one = fixed(facts, 1, 16)
    memory = plan_run(one).memory
    assert memory is not None
    just = int((memory.needed_gib - 0.2) * 1024)
    assert codes(plan_run(on(one, replace(RTX_4090, free_mib=just)))) == [("tight-fit", "warning")]


def test_a_card_that_others_use_is_no_error(facts: Facts) -> None:
    busy = on(fixed(facts, 1, 16), replace(RTX_4090, free_mib=9000))
    assert codes(plan_run(busy)) == [("does-not-fit", "warning")]


def test_a_plan_for_another_card_is_made_without_it(facts: Facts) -> None:
    planned = having(on(facts), launch=LaunchSection(memory_gib=24))
    plan = plan_run(planned)
    assert plan.budget_gib == 23.5
    assert "of 23.5 (24 GiB, timed as RTX 3090)" in plan.lines[1]
    too_small = plan_run(having(on(facts), launch=LaunchSection(memory_gib=8)))
    assert codes(too_small) == [("does-not-fit", "error")]
    assert too_small.findings[0].place == "launch.memory_gib"


def test_a_config_for_a_gpu_is_not_judged_by_the_memory_of_a_laptop(facts: Facts) -> None:
    laptop = on(facts)
    small = replace(laptop.environment, memory=Memory(8 << 30, 4 << 30))
    plan = plan_run(replace(laptop, environment=small))
    assert (plan.batch.micro_batch, codes(plan)) == (facts.batch.micro_batch, [])


def test_a_cpu_gets_more_rows_at_a_time_too(facts: Facts) -> None:
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    cpu = having(on(facts), torch_dtype="float32", launch=LaunchSection(gpus=0))
    plan = plan_run(replace(cpu, model=BaseModel(name, name, local=False), lengths=tuple(range(21, 66))))
    assert plan.batch == BatchPlan(4, 4, False)
    assert "of 30.0 (RAM)" in plan.lines[1]
    assert plan.env == {}


@pytest.mark.parametrize(
    ("environ", "added"),
    [
        ({}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, {}),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, {}),
    ],
)
def test_the_allocator_grows_its_segments_unless_the_user_says_otherwise(
    environ: dict[str, str], added: dict[str, str], facts: Facts
) -> None:
    assert plan_run(on(facts, RTX_4090, environ=environ)).env == added


def test_cards_that_share_one_model_are_not_judged_as_one(facts: Facts) -> None:
    both = (RTX_4090, replace(RTX_4090, index=1))
    shown = on(having(facts, tuner_type="full"), *both, environ={"CUDA_VISIBLE_DEVICES": "0,1"})
    plan = plan_run(shown)
    assert (plan.batch, codes(plan)) == (shown.batch, [])


def test_what_was_measured_of_an_unknown_card_lets_auto_choose(facts: Facts) -> None:
    unknown = on(facts, replace(RTX_4090, name="NVIDIA GeForce RTX 4090 D"))
    assert plan_run(unknown).batch == facts.batch
    store(replace(shipped_devices()["RTX 4090"], name="NVIDIA GeForce RTX 4090 D"))
    plan = plan_run(unknown)
    assert plan.batch == BatchPlan(4, 4, False)
    assert "by the figures of NVIDIA GeForce RTX 4090 D" in plan.lines[2]


def test_what_was_measured_of_this_cpu_decides_its_batch(facts: Facts) -> None:
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    cpu = having(on(facts), torch_dtype="float32", launch=LaunchSection(gpus=0))
    cpu = replace(cpu, model=BaseModel(name, name, local=False), lengths=tuple(range(21, 66)))
    store(replace(cpu_device(), overhead_s=5e-3))  # a machine on which starting an operation is all that counts
    assert plan_run(cpu).batch == BatchPlan(16, 1, False)


def test_a_resumed_run_keeps_the_micro_batch_of_its_checkpoint(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"global_step": 3, "train_batch_size": 2}', encoding="utf-8")
    resumed = having(facts, resume_from_checkpoint=str(tmp_path))
    plan = plan_run(resumed)
    assert (plan.batch, plan.smaller) == (BatchPlan(2, 8, False), (BatchPlan(2, 8, True),))
    assert plan_run(replace(resumed, lengths=())).batch == BatchPlan(2, 8)


def test_rows_that_ms_swift_leaves_out_need_no_memory(facts: Facts) -> None:
    longer = replace(facts, lengths=(*IDENTITY, 9000))
    assert plan_run(longer).memory == plan_run(facts).memory
    cut = plan_run(having(longer, truncation_strategy="right")).memory
    assert cut is not None and cut != plan_run(facts).memory


def test_nothing_is_said_of_memory_that_is_not_modelled(facts: Facts) -> None:
    for changes in ({"quant_method": "hqq", "quant_bits": 4}, {"tuner_type": "full", "optim": "lomo"}):
        assert codes(plan_run(on(having(facts, **changes), T4))) == []


def test_optimizers_that_may_keep_their_state_elsewhere_are_judged_without_it(facts: Facts) -> None:
    name = "Qwen/Qwen2.5-3B-Instruct"
    full = having(replace(facts, model=BaseModel(name, name, local=False)), tuner_type="full")
    assert codes(plan_run(full)) == [("does-not-fit", "error")]
    assert codes(plan_run(having(full, optim="paged_adamw_32bit"))) == [("does-not-fit", "warning")]


def test_ram_that_is_too_small_is_a_warning_since_the_system_may_swap(facts: Facts) -> None:
    cpu = having(on(facts), torch_dtype="float32", launch=LaunchSection(gpus=0))
    small = replace(cpu, environment=replace(cpu.environment, memory=Memory(8 << 30, 6 << 30)))
    assert codes(plan_run(small)) == [("does-not-fit", "warning")]


def lines_of(plans: Sequence[RunPlan]) -> set[int]:
    return {len(plan.lines) for plan in plans}


def test_a_plan_is_told_in_at_most_three_lines(facts: Facts) -> None:
    assert lines_of([plan_run(facts), plan_run(fixed(facts, 1, 16)), plan_run(on(facts, H100))]) == {3}
