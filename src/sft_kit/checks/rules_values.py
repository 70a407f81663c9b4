"""What the keys of a config come to once ms-swift has put in its own defaults: the ground that the rules stand on.

Owns the defaults that rules need (ms-swift's, equal in 3.12.6 and 4.6.0 where not said otherwise) and the number of
steps. Judges nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_kit.checks.facts import Facts
from sft_kit.findings import Finding
from sft_kit.msswift.arguments import TRUE
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.words import OWN_CODE
from sft_kit.resources import user_path

Rule = Callable[[Facts], Iterator[Finding]]

LORA_LIKE = frozenset({"lora", "longlora", "adalora"})
"""Tuners that read lora_rank, lora_alpha and their kin."""


def given(facts: Facts, key: str) -> Any:
    """The value that the config gives `key`, sft-kit's typed keys and ms-swift's others alike; None: left out."""
    config = facts.config
    return getattr(config, key) if key in type(config).model_fields else (config.model_extra or {}).get(key)


def switch(facts: Facts, key: str, default: bool = False) -> bool:
    """`key` as a switch; an argument of ms-swift's own may be written `'yes'`, as on a command line."""
    value = given(facts, key)
    if value is None:
        return default
    return value if isinstance(value, bool) else str(value).lower() in TRUE


def number(facts: Facts, key: str) -> float | None:
    """`key` as a finite number; None where it is left out, or none."""
    value = given(facts, key)
    try:
        found = None if value is None or isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return found if found is not None and math.isfinite(found) else None


def texts(facts: Facts, key: str) -> list[str]:
    """`key` as a list of texts; empty where it is left out."""
    value = given(facts, key)
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]


def tuner(facts: Facts) -> str:
    """What is trained: lora unless the config says otherwise."""
    return facts.config.tuner_type or "lora"


def runs_own_code(facts: Facts) -> bool:
    """Whether ms-swift imports Python of the user, which can add tuners, templates, losses and the like."""
    return any(texts(facts, key) for key in OWN_CODE)


def model_config(facts: Facts) -> dict[str, Any]:
    """The model's config.json, its `text_config` laid over it; empty where it is not here."""
    if facts.directory is None:
        return {}
    config = dict(facts.directory.config)
    inner = config.get("text_config") or config.get("llm_config")
    return config | dict(inner) if isinstance(inner, dict) else config


def prequantised(facts: Facts) -> str | None:
    """How the model's own files are quantised (`gptq`, `awq`, `bitsandbytes`, ...), after its config.json."""
    section = model_config(facts).get("quantization_config")
    method = section.get("quant_method") if isinstance(section, dict) else None
    return str(method) if method else None


def dtype(facts: Facts) -> str | None:
    """The type of the weights: `torch_dtype`, else that of config.json (ms-swift: ModelArguments._init_torch_dtype).
    None where only the machine decides."""
    if facts.config.torch_dtype:
        return facts.config.torch_dtype
    config = model_config(facts)
    own = str(config.get("torch_dtype") or config.get("dtype") or "").removeprefix("torch.")
    return own if own in ("bfloat16", "float16", "float32") else None


def has_validation(facts: Facts) -> bool:
    """Whether ms-swift will have anything to validate on (DataArguments._init_val_dataset_exists, `eval_dataset`).

    A share of a streamed data set is none: ms-swift sets `split_dataset_ratio` to 0 for it.
    """
    split = (facts.config.split_dataset_ratio or 0) > 0 and not switch(facts, "streaming")
    own_data = facts.config.dataset or facts.config.identity or facts.config.replay
    sets = ("val_dataset", "cached_val_dataset", "eval_dataset")
    return bool(split and own_data) or any(texts(facts, key) for key in sets)


def resumed(facts: Facts) -> Path | None:
    """The folder of the checkpoint to go on from; None where none is asked for, or none can be read (told before)."""
    folder = user_path(facts.config.resume_from_checkpoint) if facts.config.resume_from_checkpoint else None
    return folder if folder and os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK) else None


def resumed_step(facts: Facts) -> int:
    """The optimizer step that training goes on from; 0 where it begins, or begins counting anew."""
    folder = resumed(facts)
    if not folder or switch(facts, "resume_only_model"):
        return 0
    step = read_json(folder / "trainer_state.json").get("global_step")
    return step if isinstance(step, int) else 0


def save_strategy(facts: Facts) -> str:
    return facts.config.save_strategy or "steps"


def eval_strategy(facts: Facts) -> str:
    """When ms-swift validates; left out, it is `save_strategy` (_init_eval_strategy), and without data `no`."""
    return (facts.config.eval_strategy or save_strategy(facts)) if has_validation(facts) else "no"


def steps_of(facts: Facts, key: str, total: int | None = None) -> float:
    """`save_steps`, `eval_steps` or `logging_steps` in steps; under 1 it is a share of `total` (left as it is if that
    is not known). `eval_steps` left out is `save_steps`."""
    value = number(facts, key)
    if value is None:
        value = {"logging_steps": 5.0, "save_steps": 500.0}.get(key) or steps_of(facts, "save_steps")
    return float(math.ceil(value * total)) if value < 1 and total else value


def rows_a_step(facts: Facts) -> int:
    """Rows of one optimizer step. The plan may still have to split an effective batch; it never changes it."""
    return facts.config.effective_batch_size or facts.rows_a_step


def rows_of_process(facts: Facts) -> int | None:
    """Rows that one process sees in an epoch: each the same number, the rest is left out (BatchSamplerShard in
    swift/dataloader/shard.py, 3.x swift/llm/data_loader.py). None where rows are streamed, packed or not counted."""
    unknown = switch(facts, "streaming") or switch(facts, "packing") or texts(facts, "cached_dataset")
    if facts.rows is None or unknown or (number(facts, "sequence_parallel_size") or 1) > 1:
        return None
    if facts.config.truncation_strategy == "split" or number(facts, "deepspeed_autotp_size"):
        return None
    return facts.rows // facts.processes


def steps_an_epoch(facts: Facts) -> int | None:
    """Optimizer steps of one epoch (transformers' Trainer.set_initial_training_values); None if not known."""
    rows = rows_of_process(facts)
    if rows is None:
        return None
    if switch(facts, "dataloader_drop_last"):
        if facts.batch.micro_batch is None:
            return None
        rows -= rows % facts.batch.micro_batch
    return max(1, -(-rows // max(1, rows_a_step(facts) // facts.processes)))


def total_steps(facts: Facts) -> int | None:
    """Optimizer steps of the whole run, if no row is dropped; None if not known."""
    if facts.config.max_steps and facts.config.max_steps > 0:
        return facts.config.max_steps
    epoch = steps_an_epoch(facts)
    epochs = facts.config.num_train_epochs or 3.0
    limit = number(facts, "max_epochs")
    return None if epoch is None else math.ceil((min(epochs, limit) if limit else epochs) * epoch)
