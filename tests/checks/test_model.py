"""What is wrong with a model before it is loaded: one directory for each thing, and none for models that are whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.environment import Environment
from sft_kit.checks.facts import Facts
from sft_kit.checks.model import model_findings
from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.models.catalog import resolve_own_model
from sft_kit.models.directory import read_directory
from sft_kit.msswift.checkpoints import architecture
from sft_kit.msswift.install import find_installation
from sft_kit.plan.batch import BatchPlan

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3618440\n"
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 8,
    "vocab_size": 16,
    "num_hidden_layers": 1,
}
IDENTITY = {"name": "Jingheng", "author": "Ye Botao"}


def write(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return file


def safetensors(file: Path, tensors: Mapping[str, tuple[int, int]]) -> Path:
    header, end = {}, 0
    for name, (rows, columns) in tensors.items():
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [end, end + 4 * rows * columns]}
        end += 4 * rows * columns
    raw = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole chat model that fits CONFIG."""
    folder = tmp_path / "mine"
    write(folder / "config.json", CONFIG)
    projection = "model.layers.0.self_attn.q_proj.weight"
    safetensors(folder / "model.safetensors", {"model.embed_tokens.weight": (16, 8), projection: (8, 8)})
    added = [{"id": number, "content": word} for number, word in enumerate(("<|im_start|>", "<|im_end|>"))]
    write(folder / "tokenizer.json", {"added_tokens": added, "model": {}})
    write(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>", "chat_template": "<|im_start|><|im_end|>"})
    return folder


def found(
    folder: Path | str,
    *,
    local: bool = True,
    versions: Mapping[str, str] | None = None,
    rows: int | None = 60,
    name: str | None = None,
    **keys: Any,
) -> list[Finding]:
    """The findings about `folder` (or a hub id that is not cached) under a config of these keys."""
    keys = {"model_type": "qwen2", "template": "qwen2_5", **keys}
    config = RunConfig.model_validate({"model": str(folder), **{k: v for k, v in keys.items() if v is not None}})
    directory = read_directory(folder) if isinstance(folder, Path) else None
    model = BaseModel(
        name or str(folder),
        str(folder),
        local,
        config.model_type,
        config.template,
        architecture(folder) if isinstance(folder, Path) else None,
    )
    facts = Facts(
        config=config,
        installation=find_installation(),
        environment=Environment(versions or {"torch": "2.13.0", "transformers": "5.19.0"}, (), (), {}),
        model=model,
        directory=directory,
        batch=BatchPlan(1, 16),
        processes=1,
        hugging_face=False,
        rows=rows,
        validation_rows=0,
        lengths=(),
    )
    return list(model_findings(facts))


def codes(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.severity, finding.place) for finding in findings]


def test_nothing_is_said_of_a_whole_model(folder: Path) -> None:
    assert found(folder, identity=IDENTITY) == []


def test_nothing_is_said_of_a_model_that_transformers_saved() -> None:
    own = resolve_own_model("sft-kit/tiny-qwen2", print)
    assert found(own.path, model_type=own.model_type, template=own.template, identity=IDENTITY) == []


def test_nothing_is_said_of_a_model_that_is_not_here_yet() -> None:
    assert found("Qwen/Qwen2.5-7B-Instruct", local=False, model_type=None, template=None, identity=IDENTITY) == []


def test_nothing_is_said_of_a_hub_cache_whose_shards_are_still_to_come(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write(folder / "model.safetensors.index.json", {"weight_map": {"a": "model-00001-of-00001.safetensors"}})
    assert found(folder, local=False) == []


# ---- type and template ----


def test_an_ambiguous_type_names_the_likely_one_first_and_what_to_write(folder: Path) -> None:
    said = "<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"
    write(folder / "tokenizer_config.json", {"chat_template": said})
    message = "2 model types fit Qwen2ForCausalLM: qwen2, qwen2_gte; ms-swift refuses to choose"
    fix = "add model_type: qwen2 and template: qwen2_5"
    expected = Finding("ambiguous-model-type", "error", "model", message, fix)
    assert found(folder, model_type=None, template=None) == [expected]


def test_an_ambiguous_type_beside_a_template_needs_the_type_only(folder: Path) -> None:
    (finding,) = found(folder, model_type=None, template="qwen2_5")
    assert finding.fix == "add model_type: qwen2"


def test_a_type_of_several_templates_needs_one(folder: Path) -> None:
    (finding,) = found(folder, template=None)
    assert (finding.code, finding.severity, finding.place) == ("ambiguous-template", "error", "model")
    assert finding.fix.startswith("add template: qwen")


def test_a_directory_named_like_a_registered_model_needs_neither(folder: Path) -> None:
    named = folder.rename(folder.with_name("Qwen2.5-7B-Instruct"))
    assert found(named, model_type=None, template=None) == []


def test_an_architecture_that_only_transformers_knows_is_trained_without_a_chat_template(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox"})
    message = "ms-swift does not know GPTNeoXForCausalLM and trains it without a chat template (dummy)"
    fix = "add template:, the one it was trained with"
    expected = Finding("unknown-model-type", "warning", "model", message, fix)
    assert found(folder, model_type=None, template=None) == [expected]
    assert found(folder, model_type=None, template="qwen2_5") == []


def test_an_architecture_that_nobody_knows_is_an_error(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "architectures": ["FutureForCausalLM"], "model_type": "future"})
    message = "neither ms-swift nor the installed transformers knows FutureForCausalLM (future)"
    fix = "install a newer transformers, or take another model"
    expected = Finding("unknown-model-type", "error", "model", message, fix)
    assert found(folder, model_type=None, template="qwen2_5") == [expected]


def test_a_type_of_another_architecture_is_doubted(folder: Path) -> None:
    message = "config.json says Qwen2ForCausalLM, which ms-swift does not load as llama (by model_type)"
    fix = "set model_type: qwen2"
    assert found(folder, model_type="llama", template="chatml") == [
        Finding("model-type-mismatch", "warning", "model_type", message, fix)
    ]


def test_a_template_of_other_special_words_is_doubted(folder: Path) -> None:
    (finding,) = found(folder, template="llama3")
    assert codes([finding]) == [("template-mismatch", "warning", "template")]
    assert "<|begin_of_text|>, <|start_header_id|>" in finding.message


def test_a_template_of_no_type_whose_words_the_tokenizer_knows_is_fine(folder: Path) -> None:
    assert found(folder, template="chatml") == []


# ---- what it is for ----


def test_an_embedding_model_is_no_chat_model() -> None:
    findings = found("Qwen/Qwen3-Embedding-0.6B", local=False, model_type=None, template=None)
    assert codes(findings) == [("not-a-chat-model", "error", "model")]
    assert found("Qwen/Qwen3-Embedding-0.6B", local=False, model_type=None, template=None, task_type="embedding") == []


@pytest.mark.parametrize(
    ("base", "chat"),
    [
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen3-8B-Base", "Qwen/Qwen3-8B"),
        ("LLM-Research/Meta-Llama-3.1-8B", "LLM-Research/Meta-Llama-3.1-8B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("Qwen/Qwen3-8B", None),
        ("Qwen/Qwen3-4B-Instruct-2507", None),
    ],
)
def test_a_base_model_is_met_with_its_chat_version(base: str, chat: str | None) -> None:
    findings = found(base, local=False, model_type=None, template=None, identity=IDENTITY)
    assert [(finding.code, finding.fix) for finding in findings] == (
        [("base-model", f"use {chat}, or train on many more rows")] if chat else []
    )


def test_a_base_model_is_fine_for_many_rows_without_an_identity() -> None:
    assert found("Qwen/Qwen2.5-7B", local=False, model_type=None, template=None, rows=50_000) == []


def test_a_directory_without_a_chat_template_may_be_a_base_model(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "architectures": ["MistralForCausalLM"], "model_type": "mistral"})
    write(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    keys = {"model_type": "mistral", "template": None}
    assert codes(found(folder, **keys)) == [("base-model", "warning", "model")]
    assert found(folder.rename(folder.with_name("mine-chat")), **keys) == []


def test_whoever_names_a_template_for_a_base_model_is_believed() -> None:
    assert found("Qwen/Qwen2.5-7B", local=False, model_type=None, template="qwen2_5", identity=IDENTITY) == []


# ---- files ----


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", '{"architectures": [', "broken-config"),
        ("tokenizer_config.json", "", "broken-config"),
        ("config.json", POINTER, "lfs-pointer"),
        ("model.safetensors", POINTER, "lfs-pointer"),
        ("model.safetensors", "", "broken-weights"),
        ("model.safetensors", "no header here, only text", "broken-weights"),
        ("tokenizer.json", POINTER, "lfs-pointer"),
        ("tokenizer.json", '{"model": {"vocab": {', "broken-tokenizer"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder: Path, file: str, content: str, code: str) -> None:
    write(folder / file, content)
    assert codes(found(folder, rows=None)) == [(code, "error", str(folder / file))]


def test_a_file_that_was_cut_off_says_so_and_what_is_left_of_the_download(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(600)
    write(folder / "model.safetensors.aria2", "x")
    (finding,) = found(folder)
    assert codes([finding]) == [("broken-weights", "error", str(folder / "model.safetensors"))]
    assert finding.message.startswith("is cut off: ")
    assert finding.message.endswith("of 600 (model.safetensors.aria2 is left of a download)")


def test_weights_that_transformers_would_not_find_are_none(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert codes(found(folder)) == [("no-weights", "error", str(folder))]


def test_a_directory_of_gguf_only_says_so(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")
    assert codes(found(folder)) == [("gguf-only", "error", str(folder))]


def test_tensors_that_their_file_lacks_would_start_at_random(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    listed = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"), "one.safetensors")
    write(folder / "model.safetensors.index.json", {"weight_map": listed})
    message = "the index names 1 tensors that their files lack (model.norm.weight): they start at random"
    assert found(folder) == [
        Finding("broken-weights", "error", str(folder), message, "download or export the model again")
    ]


@pytest.mark.parametrize(("key", "value"), [("vocab_size", 20), ("hidden_size", 16), ("num_hidden_layers", 2)])
def test_weights_of_another_config_are_found_by_their_shapes(folder: Path, key: str, value: int) -> None:
    write(folder / "config.json", {**CONFIG, key: value})
    assert codes(found(folder)) == [("weights-mismatch", "error", str(folder / "config.json"))]


def test_pickled_weights_are_doubted_and_refused_by_an_old_torch(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert codes(found(folder)) == [("pickled-weights", "warning", str(folder))]
    assert codes(found(folder, versions={"torch": "2.5.1"})) == [("pickled-weights", "error", str(folder))]


# ---- tokenizer ----


def test_a_model_without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert codes(found(folder)) == [("no-tokenizer", "error", str(folder))]


@pytest.mark.parametrize("mark", [{"tokenizer_class": "TokenizersBackend"}, {"extra_special_tokens": ["<|image|>"]}])
def test_a_tokenizer_of_transformers_5_is_refused_under_4_only(folder: Path, mark: dict[str, object]) -> None:
    file = write(folder / "tokenizer_config.json", {**mark, "chat_template": "<|im_start|>"})
    assert codes(found(folder, versions={"transformers": "4.57.6"})) == [("tokenizer-too-new", "error", str(file))]
    assert found(folder) == []


def test_an_end_token_beyond_the_embedding(folder: Path) -> None:
    added = {"20": {"content": "<|im_end|>"}, "0": {"content": "<|im_start|>"}}
    tokenizer = {"eos_token": {"content": "<|im_end|>"}, "added_tokens_decoder": added, "chat_template": "x"}
    write(folder / "tokenizer_config.json", tokenizer)
    message = "its <|im_end|> has id 20, and the model's embedding has 16 rows: the first row fails"
    fix = "use the tokenizer that belongs to this model, or add the tokens by new_special_tokens"
    assert found(folder) == [Finding("vocabulary-too-small", "error", str(folder), message, fix)]


def test_other_tokens_beyond_the_embedding_are_doubted_unless_it_is_enlarged(folder: Path) -> None:
    added = {"16": {"content": "<image_soft_token>"}, "17": {"content": "<mine>"}, "0": {"content": "<|im_start|>"}}
    write(folder / "tokenizer_config.json", {"added_tokens_decoder": added, "chat_template": "<|im_start|>"})
    message = "<mine>: ids beyond the 16 rows of the model's embedding; a row that has one fails"
    fix = "use the tokenizer that belongs to this model, or add the tokens by new_special_tokens"
    assert found(folder) == [Finding("vocabulary-too-small", "warning", str(folder), message, fix)]
    assert found(folder, new_special_tokens=["<mine>"]) == []


# ---- quantised, code, links ----


def test_quantised_weights_are_not_tuned_in_full(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert codes(found(folder, tuner_type="full")) == [("full-tuning-of-quantised", "error", "tuner_type")]
    assert found(folder, tuner_type="lora") == []


def test_code_of_a_model_is_refused_wherever_it_is_from(folder: Path) -> None:
    write(folder / "config.json", {**CONFIG, "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}})
    write(folder / "modeling_own.py", "")
    message = "ms-swift trusts the model's own code: modeling_own.py would run"
    fix = "read them; --trust-remote-code, or `# sft-kit: ignore remote-code` in the config, lets them run"
    assert found(folder) == [Finding("remote-code", "error", "model", message, fix)]
    assert codes(found(folder, local=False)) == [("remote-code", "error", "model")]


def test_modelscopes_pickle_is_only_read_for_check_model(folder: Path) -> None:
    write(folder / ".mdl", "x")
    assert codes(found(folder, check_model=True)) == [("mdl-pickle", "error", "check_model")]
    assert found(folder) == []


def test_links_out_of_the_directory_are_mentioned(folder: Path) -> None:
    elsewhere = (folder / "model.safetensors").rename(folder.parent / "weights")
    (folder / "model.safetensors").symlink_to(elsewhere)
    assert codes(found(folder)) == [("link-outside", "note", str(folder))]


# ---- adapters ----


def adapter(folder: Path, wide: int = 8, base: str = "Qwen/Qwen2.5-7B-Instruct", **settings: object) -> Path:
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "r": 2, "lora_alpha": 32, **settings}
    write(folder / "adapter_config.json", config)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {f"{module}.lora_A.weight": (2, wide), f"{module}.lora_B.weight": (8, 2)}
    safetensors(folder / "adapter_model.safetensors", shapes)
    return folder


def test_an_adapter_of_this_base_is_fine_whatever_its_directory_is_called(folder: Path, tmp_path: Path) -> None:
    assert found(folder, adapters=[str(adapter(tmp_path / "checkpoint-2"))]) == []


def test_an_adapter_of_another_width_was_trained_on_another_base(folder: Path, tmp_path: Path) -> None:
    other = adapter(tmp_path / "checkpoint-2", 16, "meta-llama/Llama-3.1-8B-Instruct")
    message = f"was trained on meta-llama/Llama-3.1-8B-Instruct, not {folder}: its q_proj is 16 wide, the model's 8"
    fix = "give the adapter's own base as model:"
    assert found(folder, adapters=[str(other)]) == [
        Finding("adapter-of-another-base", "error", "adapters.0", message, fix)
    ]


def test_an_adapter_of_another_registered_model_is_doubted(folder: Path, tmp_path: Path) -> None:
    named = folder.rename(folder.with_name("Qwen2.5-7B"))
    adapters = [str(adapter(tmp_path / "checkpoint-2"))]
    assert codes(found(named, adapters=adapters, rows=None)) == [("adapter-of-another-base", "warning", "adapters.0")]
    quantised = named.rename(folder.with_name("Qwen2.5-7B-Instruct-AWQ"))
    assert found(quantised, adapters=adapters, rows=None) == []


@pytest.mark.parametrize(("size", "code"), [(None, "broken-adapter"), (0, "broken-adapter"), (150, "broken-adapter")])
def test_an_adapter_whose_weights_are_missing_or_cut(folder: Path, tmp_path: Path, size: int | None, code: str) -> None:
    weights = adapter(tmp_path / "checkpoint-2") / "adapter_model.safetensors"
    if size is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:size])
    assert codes(found(folder, adapters=[str(weights.parent)])) == [(code, "error", "adapters.0")]


def test_a_pickled_adapter_is_doubted(folder: Path, tmp_path: Path) -> None:
    weights = adapter(tmp_path / "checkpoint-2") / "adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))
    assert codes(found(folder, adapters=[str(weights.parent)])) == [("pickled-weights", "warning", "adapters.0")]


def test_settings_that_an_adapter_overrides_are_named(folder: Path, tmp_path: Path) -> None:
    message = "keeps its own settings: lora_rank 16 (it has 2) is without effect"
    fix = "leave the keys out, or start a new adapter"
    adapters = [str(adapter(tmp_path / "checkpoint-2"))]
    assert found(folder, adapters=adapters, lora_rank=16, lora_alpha=32, tuner_type="lora") == [
        Finding("adapter-settings-win", "warning", "adapters.0", message, fix)
    ]


def test_full_tuning_and_several_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    two = [str(adapter(tmp_path / "a")), str(adapter(tmp_path / "b"))]
    assert codes(found(folder, adapters=two[:1], tuner_type="full")) == [("adapters-not-loaded", "error", "adapters")]
    assert codes(found(folder, adapters=two)) == [("several-adapters", "error", "adapters")]
