"""The plan of a run: how its effective batch is split, what memory that needs, and what to fall back on.

Owns how a config and what is known of model, data and machine become the values of `plan.memory`, `plan.speed` and
`plan.batch`, and what is said of the result. Does not own those models, nor the retry (`train`).

Longest rows decide about memory, all rows about time. What is not known is never guessed in the run's favour: without
a shape, lengths or a card's figures the micro-batch stays 1, as without a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sft_kit.checks.environment import run_gpus
from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import given
from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.msswift.checkpoints import read_json
from sft_kit.plan.batch import BatchPlan, Candidate, search, smaller, splits
from sft_kit.plan.device import Device, cpu_device, device_named, shipped_devices
from sft_kit.plan.memory import CONTEXT_GIB, MemoryPlan, Micro, Tuning, memory_plan
from sft_kit.plan.shape import ModelShape
from sft_kit.plan.speed import draw, expected_step_seconds
from sft_kit.resources import user_path
from sft_kit.run.token_counts import MEASURED_ROWS
from sft_kit.run.training_data import entries_of

DRIVER_GIB = 0.5
"""What a card's driver keeps of its memory: an RTX 4090 of 24 GiB leaves 23.5 to its programs."""
RAM = "RAM"
LARGER_BATCH_GAIN = 1.3
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# What these change in a run's memory is not modelled: other processes' shares, part of the weights, other adapters.
_UNKNOWN_KEYS = ("deepspeed", "fsdp", "fsdp_config", "device_map", "freeze_parameters", "freeze_parameters_ratio",
                 "freeze_parameters_regex", "trainable_parameters", "trainable_parameters_regex", "use_galore",
                 "sequence_parallel_size", "max_memory")  # fmt: skip

# Optimizers that surely keep their state on the card; others may keep less (8 bit, 4 bit) or move it to RAM (paged).
_KEEPS_MOMENTS = frozenset({"adamw_torch", "adamw_torch_fused", "adamw_hf"})
_CUTS = ("left", "right", "split")


@dataclass(frozen=True)
class RunPlan:
    """How a run uses the machine.

    `memory` is that of the longest rows in `batch` (None: not known) and `budget_gib` what there is for it. `lines` say
    what was chosen and why. `smaller` are the plans to fall back on when memory runs out, the next one first. `env` are
    variables that cost nothing and that the user has not set.
    """

    batch: BatchPlan
    memory: MemoryPlan | None = None
    budget_gib: float | None = None
    lines: tuple[str, ...] = ()
    smaller: tuple[BatchPlan, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a run is planned for. `budget_gib` is what it may use now and `most_gib` what it could ever (None: not
    known); `device` None where no figures are known; `asked_for` whether the config says that it is this place."""

    name: str
    device: Device | None
    budget_gib: float | None
    most_gib: float | None
    asked_for: bool


@dataclass(frozen=True)
class Sizes:
    """What decides about memory and time: the model, how it is tuned, and the rows' tokens. `longest` is the most that
    a row can have, `seen` the most of those that were counted."""

    shape: ModelShape
    tuning: Tuning
    lengths: tuple[int, ...]
    longest: int
    seen: int
    grouped: bool
    flat: bool

    def memory(self, batch: BatchPlan) -> MemoryPlan:
        """Of a micro-batch in which a row of `longest` tokens and its padding meet, all of them labelled."""
        rows = batch.micro_batch or 1
        micro = (
            Micro(1, rows * self.longest, rows * self.longest)
            if self.flat
            else Micro(rows, self.longest, rows * self.longest)
        )
        return memory_plan(self.shape, self.tuned(batch), micro)

    def least_memory(self, batch: BatchPlan, *, some: bool) -> MemoryPlan:
        """What one row needs for certain, next to nothing of it labelled: the longest that was seen, or the shortest
        where only `some` of the rows are trained."""
        length = min(self.lengths) if some else self.seen
        return memory_plan(self.shape, self._least_tuned(batch), Micro(1, length, 1))

    def usual_memory(self, batch: BatchPlan, rows: int | None) -> MemoryPlan:
        """What the written micro-batch needs as good as always: rows of the median length, one label each. Of one row
        where it is not known that there are as many `rows`."""
        micro = batch.micro_batch or 1
        many = 1 if rows is None or self.flat else min(micro, rows)
        length = sorted(self.lengths)[len(self.lengths) // 2]
        return memory_plan(self.shape, self._least_tuned(batch), Micro(many, length, many))

    def _least_tuned(self, batch: BatchPlan) -> Tuning:
        """Without the state of an optimizer that may keep it elsewhere."""
        tuning = self.tuned(batch)
        return tuning if tuning.optimizer in _KEEPS_MOMENTS else replace(tuning, optimizer="sgd")

    def seconds(self, batch: BatchPlan, device: Device) -> float:
        """Of one optimizer step on `device`."""
        drawn = draw(self.lengths, batch.micro_batch or 1, grouped=self.grouped, flat=self.flat)
        return expected_step_seconds(self.shape, self.tuned(batch), drawn, batch.accumulation or 1, device)

    def tuned(self, batch: BatchPlan) -> Tuning:
        """The tuning with the checkpointing of `batch`."""
        return self.tuning if batch.checkpointing is None else replace(self.tuning, checkpointing=batch.checkpointing)


def plan_run(facts: Facts) -> RunPlan:
    """The plan for `facts`. A split that the config leaves open (`effective_batch_size` and neither of the two numbers)
    is searched; everything that the config says stays."""
    facts = replace(facts, batch=_resumed(facts))
    place = place_of(facts)
    sizes, unknown = sizes_of(facts)
    fixed = _filled(facts)
    env = _environment(facts)
    if sizes is None:
        said = (f"batch: {fixed.describe()}; {unknown}",) if _is_open(facts.config) else ()
        return RunPlan(facts.batch, None, place.budget_gib, said, _may_fall_back(facts, fixed), env)
    ranked = _ranked(facts, sizes, place, facts.config.effective_batch_size or 0) if _is_open(facts.config) else []
    batch = ranked[0].batch if ranked else facts.batch
    filled = batch if ranked else fixed
    memory = sizes.memory(filled)
    lines = tuple(_lines(facts, sizes, place, filled, memory, ranked))
    findings = tuple(_findings(facts, sizes, place, filled, memory))
    return RunPlan(batch, memory, place.budget_gib, lines, _may_fall_back(facts, filled), env, findings)


def place_of(facts: Facts) -> Place:
    """The card or the CPU that the run will work on, or the card of `launch.memory_gib`."""
    config, environment = facts.config, facts.environment
    gpus = run_gpus(environment, config, facts.processes)
    given = config.launch.memory_gib
    if len(gpus) > facts.processes:  # ms-swift lays the model over all of them (device_map auto)
        return Place(f"{len(gpus)} cards that share one model", None, None, None, asked_for=False)
    if gpus:
        names = {gpu.name for gpu in gpus}
        device = device_named(gpus[0].name) if len(names) == 1 else None
        free, total = (min(each) / 1024 for each in zip(*((gpu.free_mib, gpu.total_mib) for gpu in gpus), strict=True))
        if given is not None:
            free = total = given - DRIVER_GIB
        return Place(gpus[0].name if given is None else f"{given:g} GiB", device, free, total, asked_for=True)
    on_cpu = bool(config.use_cpu) or config.launch.gpus == 0
    if given is not None and not on_cpu:
        device = next((each for each in shipped_devices().values() if each.memory_gib == given), None)
        name = f"{given:g} GiB" + (f", timed as {device.name}" if device else "")
        return Place(name, device, given - DRIVER_GIB, given - DRIVER_GIB, asked_for=True)
    if not on_cpu and (environment.other_accelerator or environment.parts_of_gpus or environment.gpus):
        return Place("an accelerator that is not known here", None, None, None, asked_for=False)
    memory = environment.memory
    free = None if memory is None else memory.available_bytes / 2**30
    total = None if memory is None else memory.total_bytes / 2**30
    return Place(RAM, cpu_device(), free, total, asked_for=on_cpu)


def sizes_of(facts: Facts) -> tuple[Sizes | None, str]:
    """What memory and time follow from; or None and why it is not known."""
    config = facts.config
    unknown = [key for key in _UNKNOWN_KEYS if given(facts, key)]
    if unknown:
        return None, f"what {unknown[0]} does to memory is not known here"
    if (config.tuner_type or "lora") not in ("lora", "full"):
        return None, f"what tuner_type {config.tuner_type} does to memory is not known here"
    unknown_way = _unknown_way(facts)
    if unknown_way:
        return None, f"what {unknown_way} does to memory is not known here"
    shape = facts.shape
    if shape is None:
        return None, "the model's shape is not known here"
    if not facts.lengths:
        return None, "the rows' lengths are not known here"
    limit = config.max_length
    lengths = facts.lengths
    if limit and config.truncation_strategy in _CUTS:
        lengths = tuple(min(length, limit) for length in lengths)
    elif limit:  # longer ones are left out
        lengths = tuple(length for length in lengths if length <= limit)
    if not lengths:
        return None, "no row that was counted is within max_length"
    seen = max(lengths)
    if config.packing:
        if not limit:
            return None, "packing without max_length makes rows of unknown length"
        lengths, seen = tuple(limit for _ in lengths), limit
    all_seen = _all_counted(facts)
    if not all_seen and not limit:
        return None, "not all rows were counted, and no max_length bounds them"
    longest = seen if all_seen else limit or seen
    flat = bool(config.packing or config.padding_free)
    return Sizes(shape, tuning_of(facts), lengths, longest, seen, bool(config.group_by_length), flat), ""


def tuning_of(facts: Facts) -> Tuning:
    """The config's way of training, with ms-swift's defaults (4.6.0 and 3.12.6: LoRA of rank 8 in every linear layer,
    checkpointing on, fp32 adapters)."""
    config = facts.config
    return Tuning(
        kind="full" if config.tuner_type == "full" else "lora",
        rank=config.lora_rank or 8,
        rslora=bool(config.use_rslora),
        dora=bool(config.use_dora),
        targets=tuple(config.target_modules) if config.target_modules else "all-linear",
        modules_to_save=tuple(config.modules_to_save or ()),
        dropout=0.05 if config.lora_dropout is None else config.lora_dropout,
        adapter_bytes=2 if config.lora_dtype in ("float16", "bfloat16") else 4,
        base_bits=_base_bits(facts),
        optimizer=config.optim or Tuning.optimizer,
        checkpointing=config.gradient_checkpointing is not False,
        attention=_attention(config.attn_impl),
        liger=bool(config.use_liger_kernel),
        cpu=_on_cpu(facts),
    )


def _unknown_way(facts: Facts) -> str:
    """What else of the config changes memory in a way that is not modelled; "" for nothing."""
    config = facts.config
    if config.quant_method not in (None, "bnb"):
        return f"quant_method {config.quant_method}"
    if facts.directory is not None and facts.directory.quantization:
        return "the quantisation of the model's own files"
    if given(facts, "tuner_backend") == "unsloth":
        return "tuner_backend unsloth"
    if "lomo" in (config.optim or ""):  # frees each gradient at once
        return f"optim {config.optim}"
    if config.tuner_type == "full" and given(facts, "optimizer"):
        return f"optimizer {given(facts, 'optimizer')}"
    return ""


def _base_bits(facts: Facts) -> Literal[32, 16, 8, 4]:
    config = facts.config
    if config.quant_method == "bnb" and config.quant_bits in (4, 8):
        return 4 if config.quant_bits == 4 else 8
    return 32 if config.torch_dtype == "float32" or (config.torch_dtype is None and _on_cpu(facts)) else 16


def _on_cpu(facts: Facts) -> bool:
    return place_of(facts).name == RAM


def _attention(name: str | None) -> Literal["sdpa", "flash_attn", "eager"]:
    if name and name.startswith("flash"):
        return "flash_attn"
    return "eager" if name == "eager" else "sdpa"


def _all_counted(facts: Facts) -> bool:
    """Whether `lengths` holds every row: none of a hub, none beyond the counted ones of a file, none of the replay."""
    there = (user_path(entry.name).exists() for key, _, _, entry in entries_of(facts.config) if key == "dataset")
    return len(facts.lengths) < MEASURED_ROWS and not facts.config.replay and all(there)


def _is_open(config: RunConfig) -> bool:
    given = (config.per_device_train_batch_size, config.gradient_accumulation_steps)
    return config.effective_batch_size is not None and not any(isinstance(number, int) for number in given)


def _filled(facts: Facts) -> BatchPlan:
    """The batch of the config with ms-swift's own numbers where it has none (micro-batch 1, 16 rows in all)."""
    micro = facts.batch.micro_batch or 1
    accumulation = max(1, facts.rows_a_step // (micro * facts.processes))
    return BatchPlan(micro, accumulation, facts.config.gradient_checkpointing)


def _may_fall_back(facts: Facts, filled: BatchPlan) -> tuple[BatchPlan, ...]:
    """What is smaller; a resumed run keeps its micro-batch (`_resumed_rows`)."""
    if not facts.config.resume_from_checkpoint:
        return tuple(smaller(filled))
    return (replace(filled, checkpointing=True),) if filled.checkpointing is False else ()


def _resumed_rows(config: RunConfig) -> int | None:
    """The micro-batch of the checkpoint that is resumed. transformers 4.57 takes it and not the argument (trainer.py:
    `self._train_batch_size = state.train_batch_size`), so that another split would change the effective batch."""
    if not config.resume_from_checkpoint:
        return None
    rows = read_json(user_path(config.resume_from_checkpoint) / "trainer_state.json").get("train_batch_size")
    return rows if isinstance(rows, int) and rows > 0 else None


def _resumed(facts: Facts) -> BatchPlan:
    """The batch of `facts`; where it is open and a run is resumed, with the micro-batch of its checkpoint."""
    micro = _resumed_rows(facts.config) if _is_open(facts.config) else None
    each = (facts.config.effective_batch_size or 0) // facts.processes
    return facts.batch if not micro or each % micro or not each else BatchPlan(micro, each // micro)


def _ranked(facts: Facts, sizes: Sizes, place: Place, rows: int) -> list[Candidate]:
    """The splits of `rows` that fit, the best first; none where there is no time or no room to judge by."""
    device, wanted = place.device, facts.config.gradient_checkpointing
    if device is None or place.budget_gib is None:
        return []
    plans = splits(rows, facts.processes, (True, False) if wanted is None else (wanted,))
    resumed = _resumed_rows(facts.config)
    if resumed:
        plans = [plan for plan in plans if plan.micro_batch == resumed]
    return search(plans, sizes.memory, lambda batch: sizes.seconds(batch, device), place.budget_gib)


def _environment(facts: Facts) -> dict[str, str]:
    """Segments that grow: rows of varying length otherwise leave holes (a log of the tutorials' command shows 18.3 GiB
    reserved for 15.5 allocated). Both names are the user's; older torch reads only the first."""
    if not run_gpus(facts.environment, facts.config, facts.processes):
        return {}
    if any(facts.environment.environ.get(name) for name in _ALLOCATOR):
        return {}
    return {_ALLOCATOR[0]: "expandable_segments:True"}


def _lines(
    facts: Facts, sizes: Sizes, place: Place, batch: BatchPlan, memory: MemoryPlan, ranked: Sequence[Candidate]
) -> Iterator[str]:
    """What was chosen and why; the memory; the time, against one row at a time."""
    if ranked:
        why = f"as fast as any of the {len(ranked)} that fit" if len(ranked) > 1 else "the only one that fits"
        yield f"batch: {batch.describe()}; {why}"
    elif _is_open(facts.config):
        yield f"batch: {batch.describe()}; {_why_not(place)}"
    else:
        yield f"batch: {batch.describe()}"
    if place.name == RAM and not place.asked_for:  # checked on another machine than it is meant for
        plans = "launch: {memory_gib: 24} plans for one of 24"
        yield f"memory: {memory.needed_gib:.1f} GiB needed on a GPU, and none is here; {plans}"
        return
    if place.budget_gib is not None:
        rows = "the longest rows" if sizes.longest == sizes.seen else f"rows of max_length {sizes.longest}"
        expected = "" if place.name == RAM else f", {memory.expected_gib:.1f} expected in nvidia-smi"
        yield (
            f"memory: {memory.needed_gib:.1f} GiB needed for {rows}{expected}, of {place.budget_gib:.1f} ({place.name})"
        )
    if place.device is not None:
        seconds = sizes.seconds(batch, place.device)
        single = BatchPlan(1, (batch.micro_batch or 1) * (batch.accumulation or 1), sizes.tuning.checkpointing)
        ratio = sizes.seconds(single, place.device) / seconds
        against = f", {ratio:.1f}x as fast as 1 x {single.accumulation}" if ratio > 1.05 else ""
        shown = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
        yield f"time: about {shown} s a step by the figures of {place.device.name}{against}"


def _why_not(place: Place) -> str:
    if place.budget_gib is None:
        return f"how much memory there is, is not known ({place.name})"
    if place.device is None:
        return f"the speed of {place.name} is not known; sft-kit doctor --calibrate measures it"
    return "no split is sure to fit"


def _findings(facts: Facts, sizes: Sizes, place: Place, batch: BatchPlan, memory: MemoryPlan) -> Iterator[Finding]:
    """Whether it fits, and whether another split would be much faster. Nothing is said of a CPU that is only what is
    there: the config may be meant for another machine."""
    if place.asked_for and place.budget_gib is not None and place.most_gib is not None:
        yield from _fit(facts, sizes, place, batch, memory)
    fits = place.budget_gib is not None and memory.needed_gib <= place.budget_gib
    nobodys = place.name == RAM and not place.asked_for
    if place.device is None or not fits or nobodys or _is_open(facts.config):
        return
    rows = (batch.micro_batch or 1) * (batch.accumulation or 1) * facts.processes
    found = _ranked(facts, sizes, place, rows)
    gain = sizes.seconds(batch, place.device) / found[0].seconds if found else 0.0
    if gain > LARGER_BATCH_GAIN:
        message = f"{found[0].batch.describe()} would be about {gain:.1f}x as fast, with the same loss"
        fix = (
            f"write effective_batch_size: {rows} and per_device_train_batch_size: auto, no gradient_accumulation_steps"
        )
        key = "per_device_train_batch_size" if facts.config.per_device_train_batch_size else ""
        if (found[0].batch.micro_batch or 1) == (batch.micro_batch or 1):
            key, fix = "gradient_checkpointing", "gradient_checkpointing: false"
        yield Finding("batch-could-be-larger", "note", key, message, fix)


def _fit(facts: Facts, sizes: Sizes, place: Place, batch: BatchPlan, memory: MemoryPlan) -> Iterator[Finding]:
    """An error only for what no plan can fit: the longest row that was seen alone, hardly any of it labelled, on the
    empty card. Never of RAM, where the system may swap."""
    assert place.budget_gib is not None and place.most_gib is not None  # noqa: S101 (the caller looked)
    where = "launch.memory_gib" if facts.config.launch.memory_gib is not None else place.name
    context = 0.0 if place.name == RAM else CONTEXT_GIB
    smallest = BatchPlan(1, 1, True)
    certain = sizes.least_memory(smallest, some=bool(facts.config.max_steps)).allocated / 2**30 + context
    predicted = memory.allocated / 2**30 + context
    usual = sizes.usual_memory(batch, facts.rows).allocated / 2**30 + context
    if certain > place.most_gib and place.name != RAM:
        message = f"even one row at a time needs at least {certain:.1f} GiB, and there are {place.most_gib:.1f}"
        yield Finding("does-not-fit", "error", where, message, _levers(sizes, smallest, place))
    elif usual > place.most_gib and place.name != RAM:
        message = (
            f"{batch.describe()} needs at least {usual:.1f} GiB for usual rows, and there are {place.most_gib:.1f}"
        )
        yield Finding("does-not-fit", "error", where, message, _levers(sizes, batch, place))
    elif predicted > place.budget_gib and sizes.longest == sizes.seen:
        needs = f"needs {memory.needed_gib:.1f} GiB for its longest rows"
        message = f"{batch.describe()} {needs}, and {place.budget_gib:.1f} are free"
        yield Finding("does-not-fit", "warning", where, message, _levers(sizes, batch, place))
    elif predicted > place.budget_gib:
        needs = f"would need {memory.needed_gib:.1f} GiB"
        message = f"rows of max_length {sizes.longest} {needs}, and {place.budget_gib:.1f} are free"
        yield Finding("tight-fit", "note", where, message, _levers(sizes, batch, place))
    elif memory.needed_gib > place.budget_gib:
        takes = f"{batch.describe()} needs {memory.needed_gib:.1f} of {place.budget_gib:.1f} GiB"
        message = f"{takes}; rows of changing length may exceed that"
        yield Finding("tight-fit", "warning", where, message, _levers(sizes, batch, place))


def _levers(sizes: Sizes, batch: BatchPlan, place: Place) -> str:
    """What would need less, in the order of what it costs, each with what it would need."""
    tuning = sizes.tuned(batch)
    less: list[tuple[str, Sizes, BatchPlan]] = []
    if (batch.micro_batch or 1) > 1:
        rows = (batch.micro_batch or 1) * (batch.accumulation or 1)
        less.append(("per_device_train_batch_size: 1", sizes, BatchPlan(1, rows, batch.checkpointing)))
    if not tuning.checkpointing:
        less.append(("gradient_checkpointing: true", sizes, replace(batch, checkpointing=True)))
    shorter = 1 << ((sizes.longest - 1).bit_length() - 1)  # the next lower power of two
    if shorter >= 128:
        less.append((f"max_length: {shorter}", replace(sizes, longest=shorter, seen=shorter), batch))
    if tuning.kind == "full":
        less.append(("tuner_type: lora", replace(sizes, tuning=replace(tuning, kind="lora", rank=8)), batch))
    elif tuning.base_bits > 4:
        quantised = replace(sizes, tuning=replace(tuning, base_bits=4))
        less.append(("quant_method: bnb with quant_bits: 4", quantised, batch))
    if tuning.kind == "lora" and tuning.rank > 8:
        less.append(("lora_rank: 8", replace(sizes, tuning=replace(tuning, rank=8)), batch))
    needs = [(what, other.memory(plan).needed_gib) for what, other, plan in less]
    fitting = [f"{what} ({gib:.1f} GiB)" for what, gib in needs if gib <= (place.budget_gib or 0)]
    if fitting:
        return "fits with " + ", or ".join(fitting)
    shown = ", ".join(f"{what} ({gib:.1f} GiB)" for what, gib in needs)
    return f"a smaller model; not enough by itself: {shown}" if needs else "a smaller model needs less"
