"""Rules about validating, saving, logging and going on: what is asked for and cannot come, or comes too late."""

from __future__ import annotations

from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import (
    Rule,
    eval_strategy,
    given,
    has_validation,
    number,
    resumed,
    resumed_step,
    runs_own_code,
    save_strategy,
    steps_of,
    switch,
    texts,
    total_steps,
    tuner,
)
from sft_kit.findings import Finding, Severity
from sft_kit.msswift.checkpoints import kind_of, read_json

_FOREIGN_METRICS = frozenset({"accuracy", "acc", "f1", "bleu", "bleu-4", "rouge", "rouge-1", "rouge-2", "rouge-l",
                              "perplexity", "ppl"})  # fmt: skip
_ADD_DATA = "add split_dataset_ratio: 0.05, or val_dataset"


def nothing_to_validate(facts: Facts) -> Iterator[Finding]:
    """Validation asked for and no data for it: ms-swift sets eval_strategy to `no` and goes on (SftArguments and
    TrainArguments.__post_init__) [measured, 3.12.6, 4.6.0]. Tutorials write eval_steps out of habit: a note."""
    if has_validation(facts):
        return
    wanted = {
        "eval_strategy": facts.config.eval_strategy not in (None, "no"),
        "eval_steps": facts.config.eval_steps is not None and facts.config.eval_strategy != "no",
        "early_stop_interval": number(facts, "early_stop_interval") is not None,
        "save_strategy": facts.config.save_strategy == "best",
        "metric_for_best_model": facts.config.metric_for_best_model is not None,
    }
    place = next((key for key, asked in wanted.items() if asked), None)
    if place and not switch(facts, "load_best_model_at_end"):
        streamed = switch(facts, "streaming") and facts.config.split_dataset_ratio
        why = "a streamed data set is not split, so" if streamed else "there is no validation data, and"
        fix = "give val_dataset" if streamed else f"{_ADD_DATA}; or remove it"
        severity: Severity = "note" if place == "eval_steps" and not streamed else "warning"
        yield Finding("no-validation-data", severity, place, f"{why} ms-swift silently validates nothing", fix)


def best_without_validation(facts: Facts) -> Iterator[Finding]:
    """transformers' TrainingArguments: load_best_model_at_end needs the save and eval strategies to be equal, and
    save_steps a multiple of eval_steps; `best` and `no` of save_strategy are exceptions [measured, both]."""
    if not switch(facts, "load_best_model_at_end"):
        return
    saves, evaluates = save_strategy(facts), eval_strategy(facts)
    # Without save_strategy both are "steps"; with eval_dataset alone the words still agree.
    if saves == "best" or (saves == "no" and evaluates == "no"):
        return
    place = "load_best_model_at_end"
    if not has_validation(facts):
        message = (
            "needs validation, and there is no data for it; transformers refuses it after loading the model's config"
        )
        yield Finding("best-without-validation", "error", place, message, f"{_ADD_DATA}; or remove it")
    elif saves != evaluates:
        message = f"needs one strategy for both, but saves by {saves} and validates by {evaluates}"
        yield Finding("best-without-validation", "error", place, message, f"eval_strategy: {saves}")
    elif saves == "steps" and _not_a_multiple(steps_of(facts, "save_steps"), steps_of(facts, "eval_steps")):
        each, every = f"{steps_of(facts, 'save_steps'):g}", f"{steps_of(facts, 'eval_steps'):g}"
        message = f"save_steps {each} is no multiple of eval_steps {every}; transformers refuses that"
        yield Finding("best-without-validation", "error", place, message, "give both the same number")


def _not_a_multiple(save: float, evaluate: float) -> bool:
    """transformers/training_args.py, word for word: shares of an epoch and whole steps cannot be mixed."""
    if save % evaluate == 0:
        return False
    if save >= 1 and evaluate >= 1:
        return True
    return not (save < 1 and evaluate < 1) or (save * 1_000_000) % (evaluate * 1_000_000) != 0


def best_needs_a_rhythm(facts: Facts) -> Iterator[Finding]:
    """save_strategy best, and no eval_strategy: ms-swift copies it, and transformers knows no eval_strategy best
    ("best is not a valid IntervalStrategy") [measured, 3.12.6, 4.6.0]."""
    if facts.config.save_strategy == "best" and facts.config.eval_strategy is None and has_validation(facts):
        message = "best needs to be told when to validate; ms-swift takes eval_strategy: best, which does not exist"
        yield Finding("best-without-rhythm", "error", "save_strategy", message, "add eval_strategy: steps (or epoch)")


def schedule_without_validation(facts: Facts) -> Iterator[Finding]:
    """transformers/training_args.py: these schedules follow the validation loss [measured, 3.12.6, 4.6.0]."""
    schedule = facts.config.lr_scheduler_type
    if schedule in ("reduce_lr_on_plateau", "greedy") and eval_strategy(facts) == "no":
        message = f"{schedule} follows the validation loss, and nothing is validated; transformers refuses it"
        yield Finding("schedule-without-validation", "error", "lr_scheduler_type", message, f"cosine, or {_ADD_DATA}")


def metric_of_others(facts: Facts) -> Iterator[Finding]:
    """ms-swift measures eval_loss and eval_token_acc; any other metric_for_best_model ends in a KeyError after the
    first validation [measured, 3.12.6, 4.6.0]. Judged for names of other tools, and without metrics of one's own."""
    metric = (facts.config.metric_for_best_model or "").removeprefix("eval_")
    own = runs_own_code(facts) or any(
        given(facts, key) for key in ("eval_metric", "predict_with_generate", "task_type")
    )
    if metric in _FOREIGN_METRICS and not own and eval_strategy(facts) != "no":
        message = f"ms-swift measures no {metric}; the first validation ends in a KeyError"
        yield Finding("unknown-metric", "error", "metric_for_best_model", message, "loss, or token_acc")


def whole_steps(facts: Facts) -> Iterator[Finding]:
    """transformers/training_args.py: over 1 these are numbers of steps, and must be whole [measured, both]."""
    used = {"save_steps": save_strategy(facts) == "steps", "eval_steps": eval_strategy(facts) == "steps"}
    for key in (key for key, used_here in used.items() if used_here):
        value = number(facts, key)
        if value is not None and value > 1 and not value.is_integer():
            message = f"{value:g} is neither a share (under 1) nor a whole number of steps; transformers refuses it"
            yield Finding("fractional-steps", "error", key, message, f"{key}: {round(value)}")


def all_is_validation(facts: Facts) -> Iterator[Finding]:
    """A share of 1 leaves no row to train on (swift/dataset/dataset_meta.py, 3.x swift/llm/dataset/loader.py:
    post_process gives train_dataset None) [measured]; without validation nothing is split off (_init_eval_strategy).
    """
    if facts.config.split_dataset_ratio == 1 and not facts.config.val_dataset and eval_strategy(facts) != "no":
        message = "takes every row for validation and leaves none to train on"
        yield Finding("nothing-to-train", "error", "split_dataset_ratio", message, "split_dataset_ratio: 0.05")


def split_beside_validation(facts: Facts) -> Iterator[Finding]:
    """DataArguments.__post_init__ sets the share to 0 beside val_dataset, and for a streamed data set."""
    if not facts.config.split_dataset_ratio:
        return
    if facts.config.val_dataset:
        message = "has no effect beside val_dataset: ms-swift splits nothing off"
        yield Finding("split-ignored", "note", "split_dataset_ratio", message, "remove one of the two")
    elif switch(facts, "streaming") and facts.config.eval_strategy is None and facts.config.eval_steps is None:
        message = "has no effect on a streamed data set: nothing is split off, and nothing validated"
        yield Finding("split-ignored", "warning", "split_dataset_ratio", message, "give val_dataset")


def validated_once(facts: Facts) -> Iterator[Finding]:
    """Fewer steps than eval_steps: ms-swift validates once, after the last step (DefaultFlowCallbackNew)."""
    total = total_steps(facts)
    if total is None or facts.config.eval_steps is None or eval_strategy(facts) != "steps":
        return
    if steps_of(facts, "eval_steps", total) > total:
        message = f"the run has {total} steps, so it is validated once only, at its end"
        yield Finding("validated-once", "note", "eval_steps", message, f"eval_steps: {max(1, total // 4)}")


def sparse_log(facts: Facts) -> Iterator[Finding]:
    """Fewer steps than logging_steps: of the loss only the first step's is written (logging_first_step)."""
    total = total_steps(facts)
    if total is None or total <= 1 or facts.config.logging_steps is None:
        return
    if steps_of(facts, "logging_steps", total) > total:
        message = f"the run has {total} steps, so no loss is shown but the first step's"
        yield Finding("sparse-log", "note", "logging_steps", message, "logging_steps: 1")


def only_model_of_best(facts: Facts) -> Iterator[Finding]:
    """transformers' Trainer.create_accelerator_and_postprocess: under DeepSpeed and FSDP the best model cannot be
    loaded from a checkpoint of the model alone. The preset fsdp2 saves shards, which save_only_model cannot be
    (SftArguments._check_fsdp2_compatibility) [measured, 4.6.0]."""
    sharder = "deepspeed" if given(facts, "deepspeed") else "fsdp" if given(facts, "fsdp") else None
    if not facts.config.save_only_model or sharder is None:
        return
    if switch(facts, "load_best_model_at_end"):
        message = f"cannot be used with {sharder} and load_best_model_at_end; transformers refuses it"
        yield Finding("only-model-of-shards", "error", "save_only_model", message, "save_only_model: false")
    elif given(facts, "fsdp") == "fsdp2" and facts.installation.generation == 4:
        message = "the preset fsdp2 saves shards, of which the model alone cannot be saved; ms-swift refuses it"
        yield Finding("only-model-of-shards", "error", "save_only_model", message, "save_only_model: false")


def resumed_already_done(facts: Facts) -> Iterator[Finding]:
    """Resuming goes on counting from the checkpoint's step: a run that is as long trains nothing (ms-swift#2956,
    #3396) and says that all went well [measured, 3.12.6, 4.6.0]."""
    step, total = resumed_step(facts), total_steps(facts)
    if step and total is not None and step >= total:
        message = f"is at step {step} already, and this run has {total} steps in all: nothing would be trained"
        fix = "more num_train_epochs or max_steps; or resume_only_model: true, to start counting anew"
        yield Finding("nothing-left-to-train", "error", "resume_from_checkpoint", message, fix)


def resumed_without_state(facts: Facts) -> Iterator[Finding]:
    """A checkpoint of save_only_model has no optimizer state: transformers goes on with a fresh optimizer and says
    nothing (Trainer._load_optimizer_and_scheduler returns where the files are not)."""
    folder = resumed(facts)
    if not folder or switch(facts, "resume_only_model") or given(facts, "deepspeed") or given(facts, "fsdp"):
        return
    if (folder / "trainer_state.json").is_file() and not any(folder.glob("optimizer*")):
        message = "has no optimizer state (save_only_model): it goes on with a fresh optimizer, and says nothing"
        fix = "write resume_only_model: true if that is meant"
        yield Finding("resume-without-state", "warning", "resume_from_checkpoint", message, fix)


def resumed_with_another_batch(facts: Facts) -> Iterator[Finding]:
    """transformers 4 takes the micro-batch of the checkpoint (Trainer.train: `self._train_batch_size =
    state.train_batch_size`) and the accumulation of the arguments; 5 takes both from the arguments."""
    folder, micro = resumed(facts), facts.batch.micro_batch
    if not folder or micro is None or facts.installation.generation != 3 or switch(facts, "resume_only_model"):
        return
    kept = read_json(folder / "trainer_state.json").get("train_batch_size")
    if isinstance(kept, int) and kept > 0 and kept != micro:
        each = kept * (facts.batch.accumulation or 1)
        message = f"has no effect: the checkpoint's {kept} is kept, and each step takes {each} rows"
        yield Finding(
            "no-effect", "error", "per_device_train_batch_size", message, f"per_device_train_batch_size: {kept}"
        )


def resumed_with_another_tuner(facts: Facts) -> Iterator[Finding]:
    """A checkpoint is resumed by what it is. An adapter under full tuning: "Can't find a checkpoint index"; a model
    under LoRA: "'NoneType' object has no attribute 'missing_keys'" [measured, 3.12.6, 4.6.0]."""
    folder = resumed(facts)
    kind = kind_of(folder) if folder else None
    full = tuner(facts) == "full"
    if (kind == "adapter" and full) or (kind == "model" and tuner(facts) in ("lora", "adalora", "longlora")):
        what = "an adapter" if kind == "adapter" else "a whole model"
        message = f"is {what}, and tuner_type is {tuner(facts)}"
        fix = f"tuner_type: {'lora' if kind == 'adapter' else 'full'}, as in the run it comes from"
        yield Finding("resume-other-tuner", "error", "resume_from_checkpoint", message, fix)


_OF_ADAPTER = {"lora_rank": "r", "lora_alpha": "lora_alpha", "use_dora": "use_dora", "use_rslora": "use_rslora"}


def resumed_adapter_shape(facts: Facts) -> Iterator[Finding]:
    """A resumed adapter keeps its own adapter_config.json; the config's rank and alpha are read by nobody
    (TunerMixin.prepare_model -> Swift.from_pretrained). `adapters` says it of `adapters`."""
    folder = resumed(facts)
    if folder is None or tuner(facts) == "full":
        return
    own = read_json(folder / "adapter_config.json")
    for key, name in _OF_ADAPTER.items():
        wanted = getattr(facts.config, key)
        if wanted is not None and own.get(name) is not None and wanted != own[name]:
            message = f"has no effect: the adapter that is resumed has {own[name]}, and keeps it"
            yield Finding("adapter-settings-win", "warning", key, message, f"{key}: {str(own[name]).lower()}")


def resumed_beside_adapters(facts: Facts) -> Iterator[Finding]:
    """TunerMixin.prepare_model: `args.resume_from_checkpoint or args.adapters[0]`."""
    resumes = facts.config.resume_from_checkpoint and not switch(facts, "resume_only_model")
    if resumes and texts(facts, "adapters") and tuner(facts) != "full":
        message = "has no effect: resume_from_checkpoint is loaded instead"
        yield Finding("no-effect", "warning", "adapters", message, "remove one of the two")


VALIDATION_RULES: tuple[Rule, ...] = (
    nothing_to_validate, best_without_validation, best_needs_a_rhythm, schedule_without_validation, metric_of_others,
    whole_steps,
    all_is_validation, split_beside_validation, validated_once, sparse_log, only_model_of_best, resumed_already_done,
    resumed_without_state, resumed_with_another_batch, resumed_with_another_tuner, resumed_adapter_shape,
    resumed_beside_adapters,
)  # fmt: skip
