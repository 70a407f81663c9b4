"""Rules about the length of a run and its learning rate: the batch against the rows, steps, warm-up."""

from __future__ import annotations

from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import (
    LORA_LIKE,
    Rule,
    given,
    number,
    rows_a_step,
    rows_of_process,
    steps_an_epoch,
    switch,
    total_steps,
    tuner,
)
from sft_kit.findings import Finding

FEW_STEPS = 10
"""Below this the learning rate has hardly risen before it falls; our own recipes take 30 and more."""
_SETTINGS = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
_EXAMPLES = {"min_lr_rate": "0.1", "num_decay_steps": "100"}
_ADAM = ("adamw", "paged_adamw", "adam")


def no_batch(facts: Facts) -> Iterator[Finding]:
    """Fewer rows than one batch of each process: an epoch has no step (BatchSamplerShard.__len__ is 0, and transformers
    says that "dataloader does not have a length") [measured, 3.12.6, 4.6.0]."""
    rows, dropped = rows_of_process(facts), switch(facts, "dataloader_drop_last")
    smallest = (facts.batch.micro_batch or 1) if dropped else 1
    if rows is not None and facts.rows and rows < smallest:
        many = "" if facts.processes == 1 else f" of each of {facts.processes} processes"
        message = f"{facts.rows} rows fill no batch{many}: nothing would be trained"
        place = "dataloader_drop_last" if dropped else "dataset"
        fix = f"at least {smallest * facts.processes} rows, or a smaller batch"
        yield Finding("no-batch", "error", place, message, fix)


def batch_over_data(facts: Facts) -> Iterator[Finding]:
    """More rows a step than there are: an epoch is one step of what there is (Trainer.set_initial_training_values)."""
    step, total = rows_a_step(facts), total_steps(facts)
    if facts.rows is None or not rows_of_process(facts) or facts.rows >= step:
        return
    place = next((key for key in ("effective_batch_size", "gradient_accumulation_steps", "per_device_train_batch_size")
                  if given(facts, key) not in (None, "auto")), "")  # fmt: skip
    message = f"a step takes {step} rows and there are {facts.rows}: an epoch is one step, the run {total}"
    wanted = max(1, min(16, facts.rows // 8))
    if place == "gradient_accumulation_steps":  # effective_batch_size beside it would be a contradiction
        wanted = max(1, wanted * int(facts.batch.accumulation or 1) // step)
    fix = f"{place or 'effective_batch_size'}: {wanted}"
    yield Finding("batch-over-data", "warning", place, message, fix)


def few_steps(facts: Facts) -> Iterator[Finding]:
    """Too few steps for anything to be learnt; not said of a number of steps that the user chose."""
    total, epoch = total_steps(facts), steps_an_epoch(facts)
    if total is None or epoch is None or total >= FEW_STEPS or (facts.config.max_steps or 0) > 0:
        return
    if facts.rows is not None and facts.rows < rows_a_step(facts):
        return  # said by batch_over_data
    place = "num_train_epochs" if facts.config.num_train_epochs is not None else ""
    message = f"the run has {total} optimizer steps in all, too few to learn much"
    fix = f"num_train_epochs: {-(-30 // epoch)}, or a smaller effective_batch_size"
    yield Finding("few-steps", "warning", place, message, fix)


def no_steps(facts: Facts) -> Iterator[Finding]:
    """max_steps 0 is not "all": the Trainer stops after its first step [measured, 3.12.6, 4.6.0]. All is -1."""
    if facts.config.max_steps == 0:
        message = "0 does not mean all: training stops after its first step"
        yield Finding("no-steps", "error", "max_steps", message, "remove it; num_train_epochs counts then")


def epochs_beside_steps(facts: Facts) -> Iterator[Finding]:
    """transformers' Trainer: "max_steps is given, it will override any value given in num_train_epochs"."""
    if (facts.config.max_steps or 0) > 0 and facts.config.num_train_epochs is not None:
        message = "has no effect beside max_steps"
        yield Finding("epochs-ignored", "note", "num_train_epochs", message, "remove one of the two")


def long_warmup(facts: Facts) -> Iterator[Finding]:
    """A warm-up as long as the run: the learning rate never reaches its height."""
    total, steps = total_steps(facts), number(facts, "warmup_steps")
    if total is not None and steps is not None and steps >= 1 and steps >= total:
        message = f"the run has {total} steps, so the learning rate never reaches its height"
        yield Finding("long-warmup", "warning", "warmup_steps", message, f"warmup_steps: {max(1, total // 20)}")


def warmup_twice(facts: Facts) -> Iterator[Finding]:
    """4.x: TrainArgumentsMixin._handle_hf_removed_args refuses both together, and a ratio of 1. In 3.x warmup_steps
    wins, and 1 is a warm-up without end (transformers 4.57) [measured, 3.12.6, 4.6.0]."""
    ratio, steps = number(facts, "warmup_ratio") or 0, number(facts, "warmup_steps") or 0
    new = facts.installation.generation == 4
    if ratio and steps:
        message = "ms-swift refuses it beside warmup_steps" if new else "has no effect beside warmup_steps"
        yield Finding("warmup-twice", "error" if new else "warning", "warmup_ratio", message, "remove one of the two")
    elif ratio >= 1:
        message = "the whole run would be warm-up" + ("; ms-swift refuses it" if new else "")
        yield Finding("long-warmup", "error" if new else "warning", "warmup_ratio", message, "warmup_ratio: 0.05")


def schedule_settings(facts: Facts) -> Iterator[Finding]:
    """Schedules that transformers/optimization.py cannot make without lr_scheduler_kwargs: they fail when training
    begins, after the model and the data were loaded [measured, 3.12.6, 4.6.0]."""
    schedule, settings = facts.config.lr_scheduler_type, given(facts, "lr_scheduler_kwargs")
    needed = _SETTINGS.get(schedule or "")
    if needed is None or (isinstance(settings, str) and not settings.lstrip().startswith("{")):
        return  # a file: not looked into
    if settings is None or not any(name in settings for name in needed):
        message = f"{schedule} needs {' or '.join(needed)}; transformers refuses it when training begins"
        fix = f"add lr_scheduler_kwargs: {{{needed[-1]}: {_EXAMPLES[needed[-1]]}}}"
        yield Finding("schedule-without-settings", "error", "lr_scheduler_type", message, fix)


def learning_rate(facts: Facts) -> Iterator[Finding]:
    """An order of magnitude off what works: LoRA learns at 1e-5 to 1e-3, full tuning at 1e-6 to 5e-5 (AdamW)."""
    rate, kind = facts.config.learning_rate, tuner(facts)
    if rate is None or given(facts, "optimizer") or not (facts.config.optim or "adamw").startswith(_ADAM):
        return
    if kind in LORA_LIKE and (rate <= 1e-6 or rate > 2e-3):
        how = "too small for LoRA: next to nothing is learnt" if rate <= 1e-6 else "so large that LoRA tends to diverge"
        mirrored = f"did you mean {1 / rate:.0e}? " if rate >= 1000 else ""  # 1e4 for 1e-4
        fix = f"{mirrored}1e-4 is usual for LoRA"
        yield Finding("learning-rate", "warning", "learning_rate", f"{rate:g} is {how}", fix)
    elif kind == "full" and rate > 1e-4:
        message = f"{rate:g} is a rate for LoRA: trained in full, a model forgets what it could"
        yield Finding("learning-rate", "warning", "learning_rate", message, "1e-5 is usual for full tuning")


def no_clipping(facts: Facts) -> Iterator[Finding]:
    """max_grad_norm 0: transformers' Trainer clips only where it is over 0."""
    if facts.config.max_grad_norm == 0:
        message = "0 turns clipping off: one bad row can throw the run off"
        yield Finding("no-clipping", "note", "max_grad_norm", message, "max_grad_norm: 1")


STEP_RULES: tuple[Rule, ...] = (
    no_batch, batch_over_data, few_steps, no_steps, epochs_beside_steps, long_warmup, warmup_twice, schedule_settings,
    learning_rate,
    no_clipping,
)  # fmt: skip
