"""How one meaning is spelled in ms-swift 2.x, 3.x and 4.x: argument names, values and model types.

Owns the tables of what was renamed or removed, and translation with them. What the installed version accepts is not
repeated here: functions take the installed argument names (`arguments(...)`) and translate into those, because a part
of them comes from transformers, whose version changes independently.

Sources: the argument dataclasses of ms-swift 2.6.1, 3.0 to 3.12.6 and 4.0 to 4.6.0 (git tags) compared field by field,
ms-swift's ReleaseNote3.0.md, and transformers 4.57 and 5.19.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from sft_kit.msswift.install import Generation, Verb

# The canonical name (the newest) and every older one that means the same and takes the same values.
_RENAMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # 4.0
        "tuner_type": ("train_type", "sft_type"),
        "eval_metric": ("metric",),  # of sft only, see _SFT_ONLY
        "mcore_adapter": ("mcore_adapters",),
        # 4.5: ms-swift took over the saving that transformers 5 dropped
        "safe_serialization": ("save_safetensors",),
        # transformers 5, or deprecated in 4 with the same successor
        "use_cpu": ("no_cuda",),
        "eval_strategy": ("evaluation_strategy",),
        "hub_token": ("push_to_hub_token",),
        "hub_model_id": ("push_to_hub_model_id",),
        "torch_compile_backend": ("torchdynamo",),
        # within 3.x
        "adapters": ("lora_modules", "vllm_lora_modules"),
        "agent_template": ("tools_prompt",),
        "load_data_args": ("load_dataset_config",),
        "load_from_cache_file": ("enable_cache",),
        "use_liger_kernel": ("use_liger",),
        "eval_dataset": ("eval_datasets",),
        "eval_dataset_args": ("eval_datasets_args",),
        "write_batch_size": ("writer_buffer_size",),
        "swanlab_webhook_url": ("swanlab_lark_webhook_url",),
        "swanlab_secret": ("swanlab_lark_secret",),
        "vllm_gpu_memory_utilization": ("gpu_memory_utilization",),
        "vllm_tensor_parallel_size": ("tensor_parallel_size",),
        "vllm_pipeline_parallel_size": ("pipeline_parallel_size",),
        "vllm_data_parallel_size": ("data_parallel_size",),
        "vllm_max_num_seqs": ("max_num_seqs",),
        "vllm_disable_custom_all_reduce": ("disable_custom_all_reduce",),
        "vllm_enforce_eager": ("enforce_eager",),
        "vllm_limit_mm_per_prompt": ("limit_mm_per_prompt",),
        "vllm_enable_prefix_caching": ("enable_prefix_caching",),
        "vllm_use_async_engine": ("use_async_engine",),
        "lmdeploy_tp": ("tp",),
        "lmdeploy_session_len": ("session_len",),
        "lmdeploy_cache_max_entry_count": ("cache_max_entry_count",),
        "lmdeploy_quant_policy": ("quant_policy",),
        "lmdeploy_vision_batch_size": ("vision_batch_size",),
        # 2.x
        "model": ("model_id_or_path",),
        "template": ("template_type",),
        "torch_dtype": ("dtype",),
        "dataset": ("custom_train_dataset_path",),
        "val_dataset": ("custom_val_dataset_path",),
        "data_seed": ("dataset_seed",),
        "split_dataset_ratio": ("dataset_test_ratio",),
        "dataset_num_proc": ("preprocess_num_proc",),
        "shuffle_buffer_size": ("streaming_buffer_size",),
        "per_device_train_batch_size": ("batch_size", "per_gpu_train_batch_size"),
        "per_device_eval_batch_size": ("eval_batch_size", "per_gpu_eval_batch_size"),
        "target_modules": ("lora_target_modules", "boft_target_modules", "vera_target_modules", "ia3_target_modules"),
        "target_regex": ("lora_target_regex",),
        "modules_to_save": (
            "lora_modules_to_save",
            "boft_modules_to_save",
            "vera_modules_to_save",
            "ia3_modules_to_save",
        ),
        "lora_dropout": ("lora_dropout_p",),
        "lora_bias": ("lora_bias_trainable",),
        "lorap_lr_ratio": ("lora_lr_ratio",),
        "init_weights": ("init_lora_weights",),
        "trainable_parameters": ("additional_trainable_parameters",),
        "vit_gradient_checkpointing": ("vit_use_gc",),
        "neftune_noise_alpha": ("neftune_alpha",),
        "loss_type": ("loss_name",),
        "save_only_model": ("only_save_model",),
        "add_version": ("add_output_dir_suffix",),
        "check_model": ("check_model_is_latest",),
        "hub_strategy": ("push_hub_strategy",),
        "deepspeed": ("deepspeed_config_path",),
        "device_map": ("device_map_config", "device_map_config_path"),
        "max_memory": ("device_max_memory",),
        "quant_bits": ("quantization_bit",),
        "bnb_4bit_compute_dtype": ("bnb_4bit_comp_dtype",),
        "merge_lora": ("merge_lora_and_save",),
        "load_args": ("load_args_from_ckpt_dir",),
    }
)

# `metric` is also an argument of infer and deploy, with another meaning, in every generation.
_SFT_ONLY = frozenset({"metric", "eval_metric"})

# What people write who come from elsewhere: only ever a suggestion, never translated.
_NICKNAMES: Mapping[str, str] = MappingProxyType(
    {
        "lr": "learning_rate",
        "num_proc": "dataset_num_proc",
        "epochs": "num_train_epochs",
        "num_epochs": "num_train_epochs",
        "max_seq_length": "max_length",
        "max_seq_len": "max_length",
        "cutoff_len": "max_length",
        "model_max_length": "max_length",
        "model_name_or_path": "model",
        "finetuning_type": "tuner_type",
        "lora_r": "lora_rank",
        "lora_target": "target_modules",
        "adapter": "adapters",
        "adapter_name_or_path": "adapters",
        "grad_accum": "gradient_accumulation_steps",
        "acc_steps": "gradient_accumulation_steps",
        "flash_attn": "attn_impl",
        "train_dataset": "dataset",
        "eval_size": "split_dataset_ratio",
        "val_size": "split_dataset_ratio",
        "system_prompt": "system",
        "use_flash_attn": "attn_impl",
        "do_sample": "temperature",
        "ckpt_dir": "adapters",
        "adafactor": "optim",
        "include_inputs_for_metrics": "include_for_metrics",
    }
)

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Old words for values, by canonical name; None: leaving the argument out means the same.
_VALUES: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "torch_dtype": {**_DTYPES, "AUTO": None},
        "bnb_4bit_compute_dtype": {**_DTYPES, "AUTO": None},
        "lora_dtype": {**_DTYPES, "AUTO": None},
        "target_modules": {"ALL": "all-linear"},
        "deepspeed": {
            "default-zero2": "zero2",
            "default-zero3": "zero3",
            "zero2-offload": "zero2_offload",
            "zero3-offload": "zero3_offload",
        },
        "truncation_strategy": {"ignore": "delete", "truncation_left": "left"},
        "infer_backend": {"AUTO": None},
        "quant_bits": {"0": None},
        "tuner_backend": {"swift": "peft"},  # 2.x's own copy of peft's tuners
        "save_total_limit": {"-1": None},
    }
)

_TORCHACC = "torchacc support was taken out of ms-swift"
_PER_DATASET = "write the number of rows behind the data set's name instead: dataset: [id#500]"
_TRANSFORMERS_5 = "transformers 5 took it out"
# Arguments without a successor: the values with which leaving it out means the same, and why it went.
_GONE: Mapping[str, tuple[tuple[object, ...], str]] = MappingProxyType(
    {
        # transformers 4 -> 5
        "overwrite_output_dir": ((False, True), f"{_TRANSFORMERS_5}; the Trainer never deletes what is in output_dir"),
        "use_mps_device": ((False, True), f"{_TRANSFORMERS_5}; mps is used where it is there"),
        "use_legacy_prediction_loop": ((False,), _TRANSFORMERS_5),
        "jit_mode_eval": ((False,), _TRANSFORMERS_5),
        "past_index": ((-1,), _TRANSFORMERS_5),
        "mp_parameters": (("",), f"{_TRANSFORMERS_5}; it was for SageMaker"),
        "ray_scope": (("last",), _TRANSFORMERS_5),
        "tpu_num_cores": ((), _TRANSFORMERS_5),
        "tpu_metrics_debug": ((False,), f"{_TRANSFORMERS_5}; use debug: [tpu_metrics_debug]"),
        "fp16_opt_level": (("O1",), f"{_TRANSFORMERS_5} together with apex"),
        "fp16_backend": (("auto", "cuda_amp"), f"{_TRANSFORMERS_5} together with apex"),
        "half_precision_backend": (("auto", "cuda_amp"), f"{_TRANSFORMERS_5} together with apex"),
        "fsdp_min_num_params": ((0,), f"{_TRANSFORMERS_5}; use fsdp_config: {{min_num_params: ...}}"),
        "fsdp_transformer_layer_cls_to_wrap": (
            (),
            f"{_TRANSFORMERS_5}; use fsdp_config: {{transformer_layer_cls_to_wrap: [...]}}",
        ),
        "push_to_hub_organization": ((), f"{_TRANSFORMERS_5}; use hub_model_id: organization/name"),
        "include_tokens_per_second": ((False,), f"{_TRANSFORMERS_5}; ms-swift logs train_speed(s/it) itself"),
        # 3.x
        "metric_warmup_step": ((0,), _TORCHACC),
        "fsdp_num": ((1,), _TORCHACC),
        "acc_steps": ((1,), _TORCHACC),
        "model_layer_cls_name": ((), _TORCHACC),
        "packing_cache": ((), "ms-swift needs no folder for packing any more"),
        "use_merge_kit": ((False,), "ms-swift took it out in 3.1"),
        "channels": ((), "use enable_channel_loss: true and a column `channel` in the data"),
        # 2.x
        "train_dataset_sample": ((-1,), _PER_DATASET),
        "train_dataset_mix_ratio": ((0,), _PER_DATASET),
        "train_dataset_mix_ds": ((), _PER_DATASET),
        "self_cognition_sample": ((0,), "use the section `identity`, or dataset: [swift/self-cognition#500]"),
        "check_dataset_strategy": (("none", "warning", "discard", "error"), "sft-kit check looks at every row"),
        "use_loss_scale": ((False,), "use loss_scale"),
        "loss_scale_config_path": ((), "use loss_scale"),
        "train_backend": (("transformers",), "Megatron has commands of its own (megatron sft)"),
        "sequence_parallel": ((False,), "use sequence_parallel_size"),
        "pp": ((1,), "Megatron has commands of its own (megatron sft)"),
        "min_lr": ((), "use lr_scheduler_type: cosine_with_min_lr and lr_scheduler_kwargs: {min_lr: ...}"),
        "streaming_val_size": ((0,), "use val_dataset"),
        "hqq_dynamic_config_path": ((), "ms-swift took it out in 3.0"),
        "rescale_image": ((-1,), "use max_pixels"),
        "ia3_feedforward_modules": (((), []), "ms-swift took it out in 3.0"),
        "neftune_backend": (("transformers",), "ms-swift took it out in 3.0"),
        "test_oom_error": ((False,), "ms-swift took it out in 3.0"),
        "gpu_memory_fraction": ((), "ms-swift took it out in 3.0"),
        "model_cache_dir": ((), "set the environment variable MODELSCOPE_CACHE or HF_HOME"),
        "eval_human": ((False, True), "infer asks you when it gets no val_dataset"),
        "save_result": ((False, True), "results are always saved, see result_path"),
        "result_dir": ((), "use result_path"),
        "show_dataset_sample": ((-1, 10), "use val_dataset_sample"),
        "val_dataset_sample": ((-1,), "write the number of rows behind its name instead: val_dataset: [id#100]"),
        "merge_device_map": ((), "use device_map"),
        "overwrite_generation_config": ((False, True), "ms-swift took it out in 3.0"),
        "vllm_enable_lora": ((False, True), "adapters are enough"),
        "quant_output_dir": ((), "use output_dir"),
        "ollama_output_dir": ((), "use output_dir"),
        "hf_output_dir": ((), "use output_dir"),
        "megatron_output_dir": ((), "use output_dir"),
        "quant_seqlen": ((2048,), "use max_length"),
        "quant_device_map": ((), "use device_map"),
        "to_megatron": ((False,), "use to_mcore"),
        "gguf_file": ((), "ms-swift took it out in 3.3"),
    }
)

# Arguments of `sft` that 2.6.1 has, and no 3.x or 4.x, nor their transformers.
_ONLY_IN_2 = frozenset(
    (
        "model_id_or_path", "sft_type", "additional_trainable_parameters", "template_type", "add_output_dir_suffix",
        "dtype", "train_backend", "pp", "min_lr", "sequence_parallel", "loss_name", "dataset_seed",
        "dataset_test_ratio", "use_loss_scale", "loss_scale_config_path", "check_dataset_strategy",
        "streaming_val_size", "streaming_buffer_size", "quantization_bit", "hqq_dynamic_config_path",
        "bnb_4bit_comp_dtype", "rescale_image", "lora_bias_trainable", "lora_lr_ratio", "init_lora_weights",
        "ia3_feedforward_modules", "neftune_backend", "vit_use_gc", "batch_size", "eval_batch_size", "test_oom_error",
        "preprocess_num_proc", "use_flash_attn", "check_model_is_latest", "gpu_memory_fraction", "device_map_config",
        "device_max_memory", "do_sample", "self_cognition_sample", "train_dataset_mix_ratio", "train_dataset_mix_ds",
        "only_save_model", "neftune_alpha", "deepspeed_config_path", "model_cache_dir", "lora_dropout_p",
        "lora_target_modules", "lora_target_regex", "lora_modules_to_save", "boft_target_modules",
        "boft_modules_to_save", "vera_target_modules", "vera_modules_to_save", "ia3_target_modules",
        "ia3_modules_to_save", "custom_train_dataset_path", "custom_val_dataset_path", "device_map_config_path",
        "push_hub_strategy",
    )
)  # fmt: skip
_ONLY_IN = MappingProxyType({"train_type": "3.x", "lora_modules": "3.x", "tuner_type": "4.x", "eval_metric": "4.x"})

# The data sets that 2.x called by names of its own (its dataset_info.json and dataset.py), and where they lie.
_DATASETS_OF_2: Mapping[str, str] = MappingProxyType(
    {
        "alpaca-zh": "AI-ModelScope/alpaca-gpt4-data-zh",
        "alpaca-en": "AI-ModelScope/alpaca-gpt4-data-en",
        "self-cognition": "swift/self-cognition",
        "blossom-math-zh": "AI-ModelScope/blossom-math-v2",
        "school-math-zh": "AI-ModelScope/school_math_0.25M",
        "code-alpaca-en": "wyj123456/code_alpaca_en",
        "codealpaca-20k": "AI-ModelScope/CodeAlpaca-20k",
        "leetcode-python-en": "AI-ModelScope/leetcode-solutions-python",
        "codefuse-python-en": "codefuse-ai/CodeExercise-Python-27k",
        "codefuse-evol-instruction-zh": "codefuse-ai/Evol-instruction-66k",
        "advertise-gen-zh": "lvjianjin/AdvertiseGen",
        "dureader-robust-zh": "modelscope/DuReader_robust-QG",
        "lawyer-llama-zh": "AI-ModelScope/lawyer_llama_data",
        "disc-law-sft-zh": "AI-ModelScope/DISC-Law-SFT",
        "disc-med-sft-zh": "AI-ModelScope/DISC-Med-SFT",
        "coig-cqia": "AI-ModelScope/COIG-CQIA",
        "sharegpt-gpt4": "AI-ModelScope/sharegpt_gpt4",
        "deepctrl-sft": "AI-ModelScope/deepctrl-sft-data",
        "poetry-zh": "modelscope/chinese-poetry-collection",
        "ms-agent": "iic/ms_agent",
        "qwen2-pro-zh": "AI-ModelScope/Magpie-Qwen2-Pro-200K-Chinese",
        "qwen2-pro-en": "AI-ModelScope/Magpie-Qwen2-Pro-200K-English",
        "longwriter-6k": "ZhipuAI/LongWriter-6k",
    }
)


@dataclass(frozen=True)
class Translation:
    """One argument as the installed ms-swift takes it. `key` None: nothing is passed, and `note` says why that is the
    same. `note` is empty where nothing changed."""

    key: str | None
    value: object
    note: str = ""


@lru_cache(maxsize=1)
def _by_old_name() -> Mapping[str, str]:
    return {old: new for new, olds in _RENAMED.items() for old in olds}


def canonical(name: str, verb: Verb = "sft") -> str:
    """The newest name of an argument; any other name as it is. HfArgumentParser takes hyphens for underscores."""
    name = name.replace("-", "_")
    if name in _SFT_ONLY and verb != "sft":
        return name
    return _by_old_name().get(name, name)


def other_names(name: str) -> tuple[str, ...]:
    """Every other name that means the same, the newest first; for a nickname also what it stands for."""
    newest = _by_old_name().get(name) or (name if name in _RENAMED else _NICKNAMES.get(name))
    if newest is None:
        return ()
    return tuple(other for other in (newest, *_RENAMED.get(newest, ())) if other != name)


def emit_name(name: str, known: Container[str], verb: Verb = "sft") -> str:
    """How the installed ms-swift calls the argument: the newest of its names among `known`; `name` if it has none."""
    newest = canonical(name, verb)
    olds = () if newest in _SFT_ONLY and verb != "sft" else _RENAMED.get(newest, ())
    return next((spelling for spelling in (newest, *olds) if spelling in known), name)


def removed(name: str) -> str | None:
    """Why an argument is gone and what to do instead, for one that has no successor of the same meaning."""
    return _GONE[name][1] if name in _GONE else None


def spoken_in(name: str) -> str:
    """The one generation (`2.x`, `3.x`, `4.x`) whose `sft` has an argument of that name, or ""."""
    return "2.x" if name in _ONLY_IN_2 else _ONLY_IN.get(name, "")


def dataset_of_2(name: str) -> str | None:
    """The hub id of a data set that 2.x called `name` (`alpaca-zh`), None if it is in no table."""
    return _DATASETS_OF_2.get(name)


def translate(key: str, value: object, known: Container[str], verb: Verb = "sft") -> list[Translation]:
    """One config entry in the words of the installed ms-swift, whose argument names are `known`.

    Usually one translation. Empty if the installed ms-swift cannot express it (`removed` may say why). Values are
    otherwise not checked: `arguments.check_value` does that, after this.
    """
    if key in known and emit_name(key, known, verb) == key:
        return [_translate_value(key, value, "", known)]
    special = _translate_special(key, value)
    if special is not None and (special.key is None or special.key in known):
        return [special]
    name = emit_name(key, known, verb)
    if name in known:
        return [_translate_value(name, value, f"{key} is called {name} here", known)]
    if key in _GONE:
        harmless, reason = _GONE[key]
        return [Translation(None, None, f"{key} is not passed on: {reason}")] if value in harmless else []
    return []


def value_word(name: str, value: str) -> str | None:
    """The word that an argument takes today for an old one (torch_dtype bf16: bfloat16); None if there is none."""
    return _VALUES.get(canonical(name), {}).get(value)


def _translate_value(name: str, value: object, note: str, known: Container[str]) -> Translation:
    if name == "infer_backend" and value in ("pt", "transformers"):
        # Only 4.x has tuner_type, and only 4.x calls its own engine `transformers`; it takes `pt` with a warning.
        backend = "transformers" if "tuner_type" in known else "pt"
        note = note if value == backend else _joined(note, f"infer_backend {value} is called {backend} here")
        return Translation(name, backend, note)
    if name == "mcore_adapter" and isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    words = _VALUES.get(canonical(name), {})
    if isinstance(value, (list, tuple)):
        new = [words.get(str(item), item) for item in value]
        return Translation(name, value if new == list(value) else new, note)
    if str(value) not in words:
        return Translation(name, value, note)
    word = words[str(value)]
    if word is None:
        return Translation(None, None, _joined(note, f"{name} {value} is what ms-swift does when it is left out"))
    return Translation(name, word, _joined(note, f"{name} {value} is called {word} here"))


def _translate_special(key: str, value: object) -> Translation | None:
    """Renames that depend on the value."""
    yes = str(value).lower() in ("true", "1")
    if key == "use_flash_attn":
        if yes:
            return Translation("attn_impl", "flash_attn", "use_flash_attn true is attn_impl flash_attn here")
        return Translation(None, None, "use_flash_attn is not passed on: ms-swift uses it only where attn_impl asks")
    if key == "do_sample":
        if yes:
            return Translation(None, None, "do_sample is not passed on: a temperature above 0 samples")
        return Translation("temperature", 0, "do_sample false is temperature 0 here")
    if key == "adafactor":
        if yes:
            return Translation("optim", "adafactor", "adafactor true is optim adafactor here")
        return Translation(None, None, "adafactor false is what happens when optim is not adafactor")
    if key == "include_inputs_for_metrics":
        if yes:
            return Translation("include_for_metrics", ["inputs"], "it is include_for_metrics inputs here")
        return Translation(None, None, "include_inputs_for_metrics false is the default of include_for_metrics")
    if key == "ckpt_dir" and isinstance(value, str):
        # As 3.x decided it (CompatArguments._handle_ckpt_dir).
        marks = ("adapter_config.json", "default/adapter_config.json", "reft")
        name = "adapters" if any((Path(value) / mark).exists() for mark in marks) else "model"
        return Translation(name, [value] if name == "adapters" else value, f"ckpt_dir is called {name} here")
    return None


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


@dataclass(frozen=True)
class ModelType:
    """What to pass as `model_type` and `template`; None means: leave it out, ms-swift finds it by itself."""

    model_type: str | None
    template: str | None
    note: str = ""


@dataclass(frozen=True)
class _Successor:
    """A 4.x type that took over models of a 3.x type, the template they have there, and its architectures."""

    model_type: str
    template: str
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class _ModelTable:
    """model_types_3_to_4.json: what became of the types and templates that only 3.x has, and the types new in 4.x."""

    became: Mapping[str, tuple[_Successor, ...]]
    architectures: Mapping[str, tuple[str, ...]]  # of the 3.x-only types
    templates: Mapping[str, str]
    only_in_4: frozenset[str]


@lru_cache(maxsize=1)
def _model_table() -> _ModelTable:
    stored = json.loads(Path(__file__).with_name("model_types_3_to_4.json").read_bytes())
    only_in_3 = stored["only_in_3"]
    return _ModelTable(
        {
            old: tuple(_Successor(s["model_type"], s["template"], tuple(s["architectures"])) for s in entry["became"])
            for old, entry in only_in_3.items()
        },
        {old: tuple(entry["architectures"]) for old, entry in only_in_3.items()},
        stored["templates"],
        frozenset(stored["only_in_4"]),
    )


def translate_model_type(
    model_type: str | None, template: str | None, generation: Generation, *, architecture: str | None = None
) -> ModelType:
    """A `model_type` and `template` of either generation in the names of `generation`.

    3.x had a type for each template (`qwen3_thinking`); 4.x has one for each architecture (`qwen3`) and the template
    beside it. Where one type became several, `architecture` (the first in the model's config.json) decides; without
    it `model_type` becomes None, and ms-swift finds the type by itself. A name that is in no table, misspelled or too
    new, is returned as it is.
    """
    table = _model_table()
    if generation == 4:
        template = table.templates.get(template, template) if template else template
        if model_type is None or model_type not in table.became:
            return ModelType(model_type, template)
        return _to_4(model_type, template, table.became[model_type], architecture)
    if model_type is None:
        return ModelType(None, template)
    return _to_3(model_type, template, table, architecture)


def _to_4(old: str, template: str | None, became: tuple[_Successor, ...], architecture: str | None) -> ModelType:
    fitting = [new for new in became if architecture in new.architectures] or list(became)
    names = list(dict.fromkeys(new.model_type for new in fitting))
    templates = list(dict.fromkeys(new.template for new in fitting))
    chosen = template or (templates[0] if len(templates) == 1 else None)
    beside = f" with template {chosen}" if chosen else ""
    if len(names) > 1:
        note = (
            f"ms-swift 3's model_type {old} is {' or '.join(names)}{beside} in ms-swift 4, by the model's architecture"
        )
        return ModelType(None, chosen, f"{note}; left to ms-swift")
    return ModelType(names[0], chosen, f"ms-swift 3's model_type {old} is {names[0]}{beside} in ms-swift 4")


def _to_3(new: str, template: str | None, table: _ModelTable, architecture: str | None) -> ModelType:
    olds = [
        old
        for old, became in table.became.items()
        if any(s.model_type == new and template in (None, s.template) for s in became)
        and (architecture is None or architecture in table.architectures[old])
    ]
    if new not in table.only_in_4 and (template is None or len(olds) != 1):
        return ModelType(new, template)  # 3.x has the type too, and takes any template beside it
    if not olds:
        return ModelType(new, template)
    if len(olds) > 1:
        note = (
            f"ms-swift 4's model_type {new} is one of {', '.join(olds)} in ms-swift 3, by the model; left to ms-swift"
        )
        return ModelType(None, template, note)
    beside = f" with template {template}" if template else ""
    return ModelType(olds[0], template, f"ms-swift 4's model_type {new}{beside} is {olds[0]} in ms-swift 3")
