"""Each rule of the config: where it speaks, and beside it where it keeps silent."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.environment import Environment
from sft_kit.checks.facts import Facts
from sft_kit.checks.rules import RULES, config_findings
from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.models.directory import read_directory
from sft_kit.msswift.install import find_installation
from sft_kit.plan.batch import BatchPlan

IDENTITY = {"name": "Ada", "author": "Lovelace Lab", "languages": "en"}
SPLIT = {"split_dataset_ratio": 0.1}
BEST = {"load_best_model_at_end": True}
FLASH = {"attn_impl": "flash_attn"}
RANK = {"lora_rank": 8, "lora_alpha": 16}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 32768, "torch_dtype": "bfloat16"}


def facts(config: dict[str, Any], **other: Any) -> Facts:
    """What is known of a run of 1000 rows with `config`; `other` replaces facts, `generation` and `model_config`."""
    generation, folder = other.pop("generation", 4), other.pop("folder", None)
    whole = RunConfig.model_validate({"model": "Qwen/Qwen2.5-7B-Instruct", "dataset": ["mine.jsonl"], **config})
    sizes = (whole.per_device_train_batch_size, whole.gradient_accumulation_steps)
    micro, accumulation = (size if isinstance(size, int) else None for size in sizes)
    known = Facts(
        config=whole,
        installation=replace(find_installation(), generation=generation),
        environment=Environment({}, (), (), {}),
        model=BaseModel(str(whole.model), str(whole.model), False, whole.model_type, whole.template),
        directory=read_directory(folder) if folder else None,
        batch=BatchPlan(micro, accumulation),
        processes=1,
        hugging_face=False,
        rows=1000,
        validation_rows=None,
        lengths=(),
    )
    return replace(known, **other)


def said(config: dict[str, Any], **other: Any) -> list[tuple[str, str, str]]:
    return [(each.severity[0].upper(), each.code, each.place) for each in config_findings(facts(config, **other))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Qwen2 directory of headers only: config.json and the names of its tensors."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN2), encoding="utf-8")
    names = ["embed_tokens", "layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.0.mlp.down_proj"]
    header = json.dumps(
        {
            f"model.{name}.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4 * i, 4 * i + 4]}
            for i, name in enumerate(names)
        }
    ).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(4 * len(names))
    (folder / "model.safetensors").write_bytes(content)
    return folder


def with_config(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


SPEAKS: dict[str, tuple[dict[str, Any], str]] = {
    "words that a plugin may register": (
        {"tuner_type": "mine", "template": "mine", "external_plugins": [__file__]},
        "N runs-python external_plugins.0",
    ),
    # words
    "a misspelt tuner": ({"tuner_type": "lorra"}, "E unknown-word tuner_type"),
    "a misspelt scheduler": ({"lr_scheduler_type": "cos"}, "E unknown-word lr_scheduler_type"),
    "an optimizer plugin that is none": ({"optimizer": "adam"}, "E unknown-word optimizer"),
    "an attention that is none": ({"attn_impl": "fa2"}, "E unknown-word attn_impl"),
    "a loss scale that is none": ({"loss_scale": "last_round+reactt"}, "E unknown-word loss_scale"),
    "a tracker that is none": ({"report_to": ["tensorbord"]}, "E unknown-word report_to"),
    "a DeepSpeed preset that is none": ({"deepspeed": "zero4"}, "E unknown-word deepspeed"),
    "an initialisation that is none": ({"init_weights": "gausian"}, "E unknown-word init_weights"),
    "a rope scaling that is none": ({"rope_scaling": "longrope"}, "E unknown-word rope_scaling"),
    "a device map that is none": ({"device_map": "automatic"}, "E unknown-word device_map"),
    "a template that is none": ({"template": "qwen2_6"}, "E unknown-word template"),
    "a model type that is none": ({"model_type": "qwen22"}, "E unknown-word model_type"),
    "an agent template that is none": ({"agent_template": "hermess"}, "W unknown-word agent_template"),
    "none beside a tracker": ({"report_to": ["none", "wandb"]}, "E mixed-trackers report_to"),
    # rows and attention
    "packing with the default attention": ({"packing": True}, "E packing-without-flash-attention packing"),
    "padding_free with sdpa": (
        {"padding_free": True, "attn_impl": "sdpa"},
        "E packing-without-flash-attention padding_free",
    ),
    "packing with a hub's flash kernel": (
        {"packing": True, "attn_impl": "kernels-community/flash-attn"},
        "E packing-without-flash-attention packing",
    ),
    "lazy packing": ({"packing": True, "lazy_tokenize": True, **FLASH}, "E lazy-tokenize lazy_tokenize"),
    "streaming by epochs": ({"streaming": True, "num_train_epochs": 2}, "E streaming-without-steps streaming"),
    "grouping a stream": ({"streaming": True, "max_steps": 50, "group_by_length": True}, "W no-effect group_by_length"),
    "a cached stream": (
        {"streaming": True, "max_steps": 50, "cached_dataset": ["c"]},
        "E streaming-cached cached_dataset",
    ),
    "prefetching without workers": (
        {"dataloader_num_workers": 0, "dataloader_prefetch_factor": 2},
        "E prefetch-without-workers dataloader_prefetch_factor",
    ),
    "grouping in order": (
        {"group_by_length": True, "train_dataloader_shuffle": False},
        "E group-without-shuffle group_by_length",
    ),
    "splitting conversations": ({"truncation_strategy": "split"}, "E split-chat truncation_strategy"),
    "yarn without a length": ({"rope_scaling": "yarn"}, "E rope-without-length rope_scaling"),
    "identity rows for a model that only thinks": (
        {"identity": IDENTITY, "template": "qwen3_thinking"},
        "W thinking-only template",
    ),
    "identity rows without the empty thought": (
        {"identity": IDENTITY, "template": "qwen3", "add_non_thinking_prefix": False},
        "W no-thinking-prefix add_non_thinking_prefix",
    ),
    "another vendor's name in the system prompt": (
        {"identity": IDENTITY, "system": "You are Qwen, created by Alibaba Cloud."},
        "W foreign-system system",
    ),
    # tuner
    "LoRA's keys under full tuning": ({"tuner_type": "full", **RANK}, "W no-effect lora_rank"),
    "freezing parameters under LoRA": ({"freeze_parameters_ratio": 0.5}, "W no-effect freeze_parameters_ratio"),
    "two modules in one text": ({"target_modules": "q_proj,v_proj"}, "E joined-modules target_modules"),
    "loftq": ({"init_weights": "loftq"}, "E loftq init_weights"),
    "a tiny LoRA scale": ({"lora_rank": 16, "lora_alpha": 1}, "N lora-scale lora_rank"),
    "a group of modules with an underscore": ({"target_modules": ["all_linear"]}, "E unknown-module target_modules"),
    "a rank over vLLM's largest": ({"lora_rank": 1024, "lora_alpha": 1024}, "N vllm-rank lora_rank"),
    "DoRA for vLLM": ({"use_dora": True}, "N vllm-adapter use_dora"),
    "GaLore under LoRA": ({"use_galore": True}, "W no-effect use_galore"),
    # precision
    "fp16 and bf16": ({"fp16": True, "bf16": True}, "E fp16-and-bf16 fp16"),
    "bf16 of float32 weights": ({"torch_dtype": "float32", "bf16": True}, "E fp16-and-bf16 bf16"),
    "fp16 of bfloat16 weights": ({"torch_dtype": "bfloat16", "fp16": True}, "E fp16-and-bf16 fp16"),
    "full float16": ({"tuner_type": "full", "torch_dtype": "float16"}, "E full-float16 torch_dtype"),
    "full tuning of a 4-bit base": (
        {"tuner_type": "full", "quant_method": "bnb", "quant_bits": 4},
        "E full-tuning-of-quantised quant_method",
    ),
    "a method without bits": ({"quant_method": "bnb"}, "E quant-bits quant_method"),
    "bits that bnb has not": ({"quant_method": "bnb", "quant_bits": 3}, "E quant-bits quant_bits"),
    "bits without a method": ({"quant_bits": 4}, "W bits-without-method quant_bits"),
    "4 bits in float32": (
        {"quant_method": "bnb", "quant_bits": 4, "torch_dtype": "float32"},
        "W quantised-in-float32 torch_dtype",
    ),
    # steps
    "a batch over the data": ({"effective_batch_size": 2048}, "W batch-over-data effective_batch_size"),
    "few steps": ({"num_train_epochs": 1, "effective_batch_size": 250}, "W few-steps num_train_epochs"),
    "no steps": ({"max_steps": 0}, "E no-steps max_steps"),
    "epochs beside steps": ({"max_steps": 50, "num_train_epochs": 3}, "N epochs-ignored num_train_epochs"),
    "a warm-up as long as the run": ({"max_steps": 50, "warmup_steps": 50}, "W long-warmup warmup_steps"),
    "a warm-up by two keys": ({"warmup_ratio": 0.05, "warmup_steps": 10}, "E warmup-twice warmup_ratio"),
    "nothing but warm-up": ({"warmup_ratio": 1.0}, "E long-warmup warmup_ratio"),
    "a least rate that is not given": (
        {"lr_scheduler_type": "cosine_with_min_lr"},
        "E schedule-without-settings lr_scheduler_type",
    ),
    "a decay that is not given": (
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"min_lr_ratio": 0.1}},
        "E schedule-without-settings lr_scheduler_type",
    ),
    "a tiny rate for LoRA": ({"learning_rate": 1e-6}, "W learning-rate learning_rate"),
    "a huge rate for LoRA": ({"learning_rate": 1e-2}, "W learning-rate learning_rate"),
    "LoRA's rate for full tuning": ({"tuner_type": "full", "learning_rate": 2e-4}, "W learning-rate learning_rate"),
    "no clipping": ({"max_grad_norm": 0}, "N no-clipping max_grad_norm"),
    # validation
    "validating nothing": ({"eval_strategy": "steps"}, "W no-validation-data eval_strategy"),
    "validation steps out of habit": ({"eval_steps": 50}, "N no-validation-data eval_steps"),
    "the best of nothing": ({"save_strategy": "best"}, "W no-validation-data save_strategy"),
    "loading the best of nothing": (BEST, "E best-without-validation load_best_model_at_end"),
    "saving by epoch and validating by steps": (
        {**BEST, **SPLIT, "save_strategy": "epoch", "eval_strategy": "steps"},
        "E best-without-validation load_best_model_at_end",
    ),
    "saving between validations": (
        {**BEST, **SPLIT, "save_steps": 5, "eval_steps": 2},
        "E best-without-validation load_best_model_at_end",
    ),
    "the best without a rhythm": ({**SPLIT, "save_strategy": "best"}, "E best-without-rhythm save_strategy"),
    "a plateau without validation": (
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        "E schedule-without-validation lr_scheduler_type",
    ),
    "a metric of other tools": (
        {**SPLIT, "metric_for_best_model": "accuracy"},
        "E unknown-metric metric_for_best_model",
    ),
    "one and a half steps": ({"save_steps": 1.5}, "E fractional-steps save_steps"),
    "all rows for validation": ({"split_dataset_ratio": 1}, "E nothing-to-train split_dataset_ratio"),
    "a split beside a validation set": ({**SPLIT, "val_dataset": ["v.jsonl"]}, "N split-ignored split_dataset_ratio"),
    "a split of a stream": ({**SPLIT, "streaming": True, "max_steps": 50}, "W split-ignored split_dataset_ratio"),
    "validating after the end": ({**SPLIT, "eval_steps": 500}, "N validated-once eval_steps"),
    "logging after the end": ({"logging_steps": 500}, "N sparse-log logging_steps"),
    "the model alone of shards": ({"fsdp": "fsdp2", "save_only_model": True}, "E only-model-of-shards save_only_model"),
    # devices
    "DeepSpeed and FSDP": ({"deepspeed": {"a": 1}, "fsdp": "fsdp2"}, "E deepspeed-and-fsdp fsdp"),
    "DeepSpeed alone": ({"deepspeed": "zero2"}, "N deepspeed-alone deepspeed"),
    "Liger on a CPU": ({"use_liger_kernel": True, "use_cpu": True}, "W liger-on-cpu use_liger_kernel"),
    "Liger and a weighted loss": ({"use_liger_kernel": True, "loss_scale": "react"}, "N liger-loss use_liger_kernel"),
}

SILENT: dict[str, dict[str, Any]] = {
    "ms-swift's own words": {
        "tuner_type": "lora", "optimizer": "muon", "lr_scheduler_type": "cosine_with_restarts", "attn_impl": "sdpa",
        "loss_scale": "last_round+react+ignore_empty_think", "report_to": ["tensorboard", "swanlab"],
        "init_weights": "pissa_niter_4", "agent_template": "hermes", "template": "qwen2_5", "model_type": "qwen2",
        "device_map": "cuda:1",
    },
    "a hub's kernel": {"attn_impl": "kernels-community/flash-attn3"},
    "no tracker": {"report_to": "none"},
    "packing with flash attention": {"packing": True, **FLASH},
    "padding_free off": {"padding_free": False, "attn_impl": "sdpa"},
    "streaming by steps": {"streaming": True, "max_steps": 50},
    "a loader without workers": {"dataloader_num_workers": 0},
    "grouping by length": {"group_by_length": True},
    "splitting plain text": {"truncation_strategy": "split", "use_chat_template": False},
    "yarn with a length": {"rope_scaling": "yarn", "max_model_len": 65536},
    "yarn with a factor": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    "identity rows for a hybrid model": {"identity": IDENTITY, "template": "qwen3"},
    "identity rows for a model that does not think": {"identity": IDENTITY, "template": "qwen3_nothinking"},
    "a thinking model without identity": {"template": "qwen3_thinking"},
    "the new name in the system prompt": {"identity": IDENTITY, "system": "You are Ada, made by Lovelace Lab."},
    "a system prompt without a name": {"identity": IDENTITY, "system": "You are a helpful assistant."},
    "plain LoRA": {**RANK, "target_modules": "all-linear", "use_rslora": False, "learning_rate": 1e-4},
    "plain full tuning": {"tuner_type": "full", "learning_rate": 1e-5, "torch_dtype": "bfloat16", "freeze_llm": False},
    "a list of modules": {"target_modules": ["q_proj", "v_proj"]},
    "a regular expression for modules": {"target_modules": "^model.*(q_proj|v_proj){1,2}$"},
    "bf16 of bfloat16 weights": {"torch_dtype": "bfloat16", "bf16": True},
    "bf16 arithmetic on float32 weights": {"torch_dtype": "float32", "fp16": False, "bf16": True},
    "LoRA on float16": {"torch_dtype": "float16"},
    "full float16 under DeepSpeed": {"tuner_type": "full", "torch_dtype": "float16", "deepspeed": "zero2_offload"},
    "full float32": {"tuner_type": "full", "torch_dtype": "float32"},
    "QLoRA": {"quant_method": "bnb", "quant_bits": 4, "torch_dtype": "bfloat16"},
    "hqq of 3 bits": {"quant_method": "hqq", "quant_bits": 3},
    "fp8 without bits": {"quant_method": "fp8"},
    "a few steps on purpose": {"max_steps": 2},
    "ten steps": {"num_train_epochs": 1, "effective_batch_size": 100},
    "a short warm-up": {"warmup_ratio": 0.05},
    "a warm-up by share": {"warmup_steps": 0.1},
    "a least rate": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
    "a least rate in JSON": {
        "lr_scheduler_type": "cosine_warmup_with_min_lr",
        "lr_scheduler_kwargs": '{"min_lr_rate": 0.1}',
    },
    "Adafactor's rate": {"learning_rate": 1e-2, "optim": "adafactor"},
    "no strategy without data": {"eval_strategy": "no", "eval_steps": 5},
    "all rows for a validation that is off": {"split_dataset_ratio": 1, "eval_strategy": "no"},
    "validation split off": {**SPLIT, "eval_strategy": "steps", "eval_steps": 10},
    "the best by steps": {**BEST, **SPLIT, "save_steps": 20, "eval_steps": 10},
    "the best by epoch": {**BEST, **SPLIT, "save_strategy": "epoch"},
    "the best, saved as it comes": {**SPLIT, "save_strategy": "best", "eval_strategy": "epoch"},
    "the best with nothing saved": {**BEST, "save_strategy": "no"},
    "ms-swift's metric": {**SPLIT, "metric_for_best_model": "token_acc"},
    "a metric of one's own": {**SPLIT, "metric_for_best_model": "accuracy", "eval_metric": "acc"},
    "shares of the run": {"save_steps": 0.25},
    "a plateau with validation": {**SPLIT, "lr_scheduler_type": "reduce_lr_on_plateau"},
    "FSDP": {"fsdp": "fsdp2"},
    "DeepSpeed with offloading": {"deepspeed": "zero3_offload"},
    "Liger": {"use_liger_kernel": True},
}  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), SPEAKS.values(), ids=SPEAKS)
def test_it_is_said(config: dict[str, Any], expected: str) -> None:
    assert [" ".join(each) for each in said(config)] == [expected]


@pytest.mark.parametrize("config", SILENT.values(), ids=SILENT)
def test_nothing_is_said(config: dict[str, Any]) -> None:
    assert said(config) == []


def test_every_rule_tells_where_it_has_it_from() -> None:
    assert [rule.__name__ for rule in RULES if len(rule.__doc__ or "") < 60] == []
    assert len({rule.__name__ for rule in RULES}) == len(RULES) > 50


def test_a_finding_says_what_happens_and_what_to_write() -> None:
    version = find_installation().version
    assert list(config_findings(facts({"attn_impl": "flash"}))) == [
        Finding(
            "unknown-word", "error", "attn_impl", f"ms-swift {version} knows no 'flash'", "did you mean flash_attn?"
        )
    ]
    assert list(config_findings(facts({"streaming": True}))) == [
        Finding(
            "streaming-without-steps",
            "error",
            "streaming",
            "a stream has no length: without max_steps the trainer refuses to start",
            "add max_steps: 188; or streaming: false, which 1000 rows do not need",
        )
    ]


def test_qlora_is_told_how_it_is_written() -> None:
    (finding,) = config_findings(facts({"tuner_type": "qlora"}))
    assert finding.fix == "write tuner_type: lora, quant_method: bnb, quant_bits: 4"


def test_3_x_knows_no_flash_attention_4_and_lets_warm_up_stand_twice() -> None:
    packed = {"packing": True, "attn_impl": "flash_attention_4"}
    assert said(packed) == []
    assert said(packed, generation=3) == [("E", "packing-without-flash-attention", "packing")]
    twice = {"warmup_ratio": 0.1, "warmup_steps": 5}
    assert said(twice, generation=3) == [("W", "warmup-twice", "warmup_ratio")]


def test_nothing_is_said_of_steps_where_the_rows_are_not_counted() -> None:
    config = {"effective_batch_size": 2048, "num_train_epochs": 1, "logging_steps": 500, "warmup_steps": 900}
    assert said(config, rows=None) == []


def test_each_process_sees_its_share_of_the_rows() -> None:
    config = {"effective_batch_size": 100, "num_train_epochs": 1}
    assert said(config, processes=4, rows=999) == []
    assert said({**config, "per_device_train_batch_size": 1}, processes=4, rows=3) == [
        ("E", "no-batch", "dataset")
    ]  # fmt: skip


def test_drop_last_of_fewer_rows_than_a_batch_trains_nothing() -> None:
    config = {"dataloader_drop_last": True, "per_device_train_batch_size": 64, "gradient_accumulation_steps": 1}
    assert ("E", "no-batch", "dataloader_drop_last") in said(config, rows=50)
    assert ("E", "no-batch", "dataloader_drop_last") not in said(config, rows=64)


def test_max_length_is_held_against_the_model(model: Path) -> None:
    assert said({"max_length": 32768}, folder=model) == []
    assert said({"max_length": 40000}, folder=model) == [("W", "max-length-over-model", "max_length")]
    assert said({"max_length": 40000, "rope_scaling": "yarn", "max_model_len": 65536}, folder=model) == []
    stretched = with_config(model, rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768})
    assert said({"max_length": 131072}, folder=stretched) == []


def test_modules_are_held_against_the_model(model: Path) -> None:
    assert said({"target_modules": ["q_proj", "lm_head"]}, folder=model) == []
    assert said({"target_modules": ["query_key_value"]}, folder=model) == [("E", "unknown-module", "target_modules")]
    assert said({"target_modules": ["q_proj", "up_proj"]}, folder=model) == [("W", "unknown-module", "target_modules")]
    trained_too = {"modules_to_save": ["embed_tokens", "lm_head", "norms"]}
    assert ("W", "unknown-module", "modules_to_save") in said(trained_too, folder=model)
    other = with_config(model, architectures=["SomethingNewForCausalLM"])
    assert said({"target_modules": ["query_key_value"]}, folder=other) == []


def test_a_text_model_has_nothing_to_freeze(model: Path) -> None:
    assert said({"freeze_llm": True}, folder=model) == [("W", "no-effect", "freeze_llm")]
    with_pictures = with_config(model, vision_config={})
    assert said({"freeze_llm": True}, folder=with_pictures) == []


def test_the_models_own_type_counts_where_none_is_given(model: Path) -> None:
    assert said({"fp16": True}, folder=model) == [("E", "fp16-and-bf16", "fp16")]
    assert said({"fp16": True}, folder=with_config(model, torch_dtype="float16")) == []
    full = {"tuner_type": "full"}
    assert said(full, folder=with_config(model, torch_dtype="float16")) == [("E", "full-float16", "tuner_type")]


def test_what_a_quantised_model_cannot_carry(model: Path) -> None:
    gptq = with_config(model, quantization_config={"quant_method": "gptq", "bits": 4})
    assert said({"quant_method": "bnb", "quant_bits": 4}, folder=gptq) == [("E", "quantised-twice", "quant_method")]
    assert ("E", "dora-of-quantised", "use_dora") in said({"use_dora": True}, folder=gptq)
    assert said({"quant_bits": 4}, folder=gptq) == []
    eetq = {"quant_method": "eetq", "quant_bits": 8, "use_dora": True}
    assert said(eetq) == [("N", "vllm-adapter", "use_dora"), ("E", "dora-of-quantised", "use_dora")]
    assert said({**eetq, "quant_method": "bnb"}) == [("N", "vllm-adapter", "use_dora")]
    assert said({"deepspeed": "zero3"}, folder=gptq, processes=2) == [("W", "zero3-quantised", "deepspeed")]


def test_zero_3_takes_no_device_map() -> None:
    assert said({"deepspeed": "zero3", "device_map": "auto"}, processes=2) == [("E", "device-map-zero3", "device_map")]
    assert said({"deepspeed": "zero2", "device_map": "auto"}, processes=2) == []


def checkpoint(folder: Path, step: int, *, optimizer: bool = True) -> Path:
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 32}), encoding="utf-8")
    if optimizer:
        (folder / "optimizer.pt").write_bytes(b"")
    return folder


def test_a_resumed_run_has_to_be_longer_than_the_checkpoint(tmp_path: Path) -> None:
    resumed = {"resume_from_checkpoint": str(checkpoint(tmp_path / "checkpoint-30", 30))}
    assert said({**resumed, "max_steps": 30}) == [("E", "nothing-left-to-train", "resume_from_checkpoint")]
    assert said({**resumed, "max_steps": 60}) == []
    assert said({**resumed, "max_steps": 30, "resume_only_model": True}) == []


def test_a_resumed_adapter_keeps_what_it_is(tmp_path: Path) -> None:
    resumed = {"resume_from_checkpoint": str(checkpoint(tmp_path / "checkpoint-30", 30))}
    assert said({**resumed, "lora_rank": 8}) == []
    assert said({**resumed, "lora_rank": 16}) == [("W", "adapter-settings-win", "lora_rank")]
    assert said({**resumed, "tuner_type": "full"}) == [("E", "resume-other-tuner", "resume_from_checkpoint")]
    assert said({**resumed, "adapters": ["other"]}) == [("W", "no-effect", "adapters")]


def test_transformers_4_keeps_the_micro_batch_of_a_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-30", 30)
    state = {"global_step": 30, "train_batch_size": 2}
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    other = {"resume_from_checkpoint": str(folder), "per_device_train_batch_size": 4}
    assert said(other, generation=3) == [("E", "no-effect", "per_device_train_batch_size")]
    assert said({**other, "per_device_train_batch_size": 2}, generation=3) == []
    assert said(other, generation=4) == []


def test_a_checkpoint_without_optimizer_is_resumed_anew(tmp_path: Path) -> None:
    folder = str(checkpoint(tmp_path / "checkpoint-30", 30, optimizer=False))
    assert said({"resume_from_checkpoint": folder}) == [("W", "resume-without-state", "resume_from_checkpoint")]
    assert said({"resume_from_checkpoint": folder, "resume_only_model": True}) == []


def test_the_best_model_cannot_be_loaded_from_shards_of_the_model_alone() -> None:
    config = {**BEST, **SPLIT, "save_only_model": True}
    assert said({**config, "deepspeed": "zero2"}, processes=2) == [("E", "only-model-of-shards", "save_only_model")]
    assert said(config) == []


def test_the_registered_template_of_a_hub_id_is_known() -> None:
    config = {"identity": IDENTITY, "model": "Qwen/Qwen3-4B-Thinking-2507"}
    assert said(config) == [("W", "thinking-only", "model")]
    assert said({**config, "model": "Qwen/Qwen3-4B"}) == []
    assert said({**config, "model": "Qwen/Qwen3-4B-Instruct-2507"}) == []


@pytest.mark.parametrize(
    "config",
    [{"max_model_len": math.nan}, {"rope_scaling": {"rope_type": "yarn", "factor": math.nan}},
     {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": "many"}}],
    ids=["a length", "a factor", "an old length"],
)  # fmt: skip
def test_a_length_that_is_no_number_is_not_judged(model: Path, config: dict[str, Any]) -> None:
    assert said({"max_length": 64, **config}, folder=model) == []
