"""Names, values and model types of one generation in the words of another."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from sft_kit.msswift.arguments import Verb, arguments, check_value
from sft_kit.msswift.dialect import (
    _GONE,
    _NICKNAMES,
    _ONLY_IN_2,
    _RENAMED,
    _VALUES,
    ModelType,
    Translation,
    _model_table,
    canonical,
    dataset_of_2,
    emit_name,
    other_names,
    removed,
    spoken_in,
    translate,
    translate_model_type,
)
from sft_kit.msswift.install import Generation, find_installation
from sft_kit.msswift.model_types import model_types

NEW = {"tuner_type", "eval_metric", "use_cpu", "model", "adapters", "torch_dtype", "infer_backend", "target_modules"}
NEW |= {"quant_bits", "temperature", "attn_impl", "optim", "eval_strategy", "deepspeed", "mcore_adapter"}
OLD = {"train_type", "metric", "use_cpu", "no_cuda", "model", "ckpt_dir", "infer_backend", "past_index"}
INFER = {"metric", "model", "adapters", "infer_backend", "tuner_type"}


def all_installed_names() -> set[str]:
    return {name for verb in get_args(Verb) for name in arguments(find_installation(), verb)}


def test_every_canonical_name_has_a_spelling_in_the_installed_ms_swift() -> None:
    known = all_installed_names()
    assert len(_RENAMED) > 60
    assert [name for name in _RENAMED if emit_name(name, known) not in known] == []
    assert [name for name in _NICKNAMES.values() if emit_name(name, known) not in known] == []
    assert [name for name in _VALUES if emit_name(name, known) not in known] == []


def test_every_new_word_for_a_value_is_taken_by_the_installed_ms_swift() -> None:
    tables = [arguments(find_installation(), verb) for verb in get_args(Verb)]
    refused = [
        (name, word)
        for name, words in _VALUES.items()
        for word in words.values()
        for table in tables
        if (argument := table.get(name)) and check_value(argument, word)
    ]
    assert refused == []


def test_no_name_means_two_things() -> None:
    olds = [old for names in _RENAMED.values() for old in names]
    assert len(olds) == len(set(olds))
    assert set(olds) & set(_RENAMED) == set()
    assert set(_GONE) & (set(olds) | set(_RENAMED)) == set()


@pytest.mark.parametrize(
    ("name", "newest"),
    [
        ("train_type", "tuner_type"),
        ("sft_type", "tuner_type"),
        ("tuner_type", "tuner_type"),
        ("metric", "eval_metric"),
        ("no_cuda", "use_cpu"),
        ("model_id_or_path", "model"),
        ("learning_rate", "learning_rate"),
        ("learnig_rate", "learnig_rate"),
    ],
)
def test_a_name_has_one_newest_spelling(name: str, newest: str) -> None:
    assert canonical(name) == newest


@pytest.mark.parametrize(
    ("name", "known", "verb", "spelled"),
    [
        ("tuner_type", NEW, "sft", "tuner_type"),
        ("tuner_type", OLD, "sft", "train_type"),
        ("sft_type", OLD, "sft", "train_type"),
        ("metric", NEW, "sft", "eval_metric"),
        ("eval_metric", OLD, "sft", "metric"),
        ("metric", INFER, "infer", "metric"),
        ("eval_metric", INFER, "infer", "eval_metric"),
        ("no_cuda", OLD, "sft", "use_cpu"),
        ("no_such_argument", NEW, "sft", "no_such_argument"),
    ],
)
def test_a_name_is_spelled_as_the_installed_ms_swift_spells_it(
    name: str, known: set[str], verb: Verb, spelled: str
) -> None:
    assert emit_name(name, known, verb) == spelled


def test_other_names_are_the_newest_first() -> None:
    assert other_names("sft_type") == ("tuner_type", "train_type")
    assert other_names("tuner_type") == ("train_type", "sft_type")
    assert other_names("finetuning_type") == ("tuner_type", "train_type", "sft_type")
    assert other_names("max_length") == ()


@pytest.mark.parametrize(
    ("key", "value", "known", "expected"),
    [
        ("tuner_type", "lora", NEW, [Translation("tuner_type", "lora")]),
        ("train_type", "lora", NEW, [Translation("tuner_type", "lora", "train_type is called tuner_type here")]),
        ("tuner_type", "lora", OLD, [Translation("train_type", "lora", "tuner_type is called train_type here")]),
        ("infer_backend", "pt", OLD, [Translation("infer_backend", "pt")]),
        (
            "infer_backend",
            "transformers",
            OLD,
            [Translation("infer_backend", "pt", "infer_backend transformers is called pt here")],
        ),
        (
            "infer_backend",
            "pt",
            NEW,
            [Translation("infer_backend", "transformers", "infer_backend pt is called transformers here")],
        ),
        ("infer_backend", "vllm", NEW, [Translation("infer_backend", "vllm")]),
        (
            "dtype",
            "bf16",
            NEW,
            [
                Translation(
                    "torch_dtype",
                    "bfloat16",
                    "dtype is called torch_dtype here; torch_dtype bf16 is called bfloat16 here",
                )
            ],
        ),
        (
            "lora_target_modules",
            ["ALL"],
            NEW,
            [Translation("target_modules", ["all-linear"], "lora_target_modules is called target_modules here")],
        ),
        (
            "use_flash_attn",
            True,
            NEW,
            [Translation("attn_impl", "flash_attn", "use_flash_attn true is attn_impl flash_attn here")],
        ),
        ("do_sample", "false", NEW, [Translation("temperature", 0, "do_sample false is temperature 0 here")]),
        (
            "quantization_bit",
            0,
            NEW,
            [
                Translation(
                    None,
                    None,
                    "quantization_bit is called quant_bits here; "
                    "quant_bits 0 is what ms-swift does when it is left out",
                )
            ],
        ),
        (
            "mcore_adapters",
            ["a"],
            NEW,
            [Translation("mcore_adapter", "a", "mcore_adapters is called mcore_adapter here")],
        ),
        ("past_index", 2, OLD, [Translation("past_index", 2)]),
        ("past_index", -1, NEW, [Translation(None, None, "past_index is not passed on: transformers 5 took it out")]),
        ("past_index", 2, NEW, []),
        ("learnig_rate", 1e-4, NEW, []),
    ],
)
def test_an_entry_is_said_in_the_installed_words(
    key: str, value: object, known: set[str], expected: list[Translation]
) -> None:
    assert translate(key, value, known) == expected


def test_ckpt_dir_is_adapters_or_model_by_what_lies_there(tmp_path: Path) -> None:
    said = translate("ckpt_dir", str(tmp_path), NEW)
    assert said == [Translation("model", str(tmp_path), "ckpt_dir is called model here")]
    (tmp_path / "adapter_config.json").write_text("{}")
    said = translate("ckpt_dir", str(tmp_path), NEW)
    assert said == [Translation("adapters", [str(tmp_path)], "ckpt_dir is called adapters here")]
    assert translate("ckpt_dir", str(tmp_path), OLD) == [Translation("ckpt_dir", str(tmp_path))]


def test_a_removed_argument_has_a_reason() -> None:
    assert removed("train_dataset_sample") == (
        "write the number of rows behind the data set's name instead: dataset: [id#500]"
    )
    assert removed("learning_rate") is None


@pytest.mark.parametrize(
    ("model_type", "template", "generation", "architecture", "expected"),
    [
        ("qwen3_thinking", None, 4, None, ("qwen3", "qwen3_thinking")),
        ("qwen2_5", None, 4, None, ("qwen2", "qwen2_5")),
        ("llama3_1", None, 4, None, ("llama", "llama3_2")),
        ("qwen3_thinking", "qwen3", 4, None, ("qwen3", "qwen3")),
        ("qwen3_nothinking", None, 4, None, (None, "qwen3_nothinking")),
        ("qwen3_nothinking", None, 4, "Qwen3ForCausalLM", ("qwen3", "qwen3_nothinking")),
        ("deepseek_r1_distill", None, 4, "LlamaForCausalLM", ("llama", "deepseek_r1")),
        ("glm4_1v", None, 4, None, ("glm4v", None)),
        ("qwen3", "qwen3_thinking", 4, None, ("qwen3", "qwen3_thinking")),
        ("internlm2", None, 4, None, ("internlm2", None)),
        (None, "glm4_0414", 4, None, (None, "glm4")),
        (None, None, 4, None, (None, None)),
        ("qwn3", None, 4, None, ("qwn3", None)),
        ("qwen3", "qwen3_thinking", 3, None, ("qwen3_thinking", "qwen3_thinking")),
        ("qwen2", "qwen2_5", 3, None, ("qwen2_5", "qwen2_5")),
        ("qwen2", None, 3, None, ("qwen2", None)),
        ("llama", "llama3_2", 3, None, ("llama", "llama3_2")),
        ("qwen3_thinking", None, 3, None, ("qwen3_thinking", None)),
        ("deepseek_v3", "deepseek_r1", 3, None, ("deepseek_r1", "deepseek_r1")),
        ("deepseek_v3", None, 3, None, (None, None)),
        ("qwen3_vl_moe", None, 3, None, ("qwen3_moe_vl", None)),
        ("qwen3_5", None, 3, None, ("qwen3_5", None)),
    ],
)
def test_a_model_type_is_named_as_the_generation_names_it(
    model_type: str | None,
    template: str | None,
    generation: Generation,
    architecture: str | None,
    expected: tuple[str | None, str | None],
) -> None:
    found = translate_model_type(model_type, template, generation, architecture=architecture)
    assert (found.model_type, found.template) == expected
    assert bool(found.note) == (model_type != found.model_type)


def test_a_note_names_both_spellings() -> None:
    assert translate_model_type("qwen3_thinking", None, 4) == ModelType(
        "qwen3",
        "qwen3_thinking",
        "ms-swift 3's model_type qwen3_thinking is qwen3 with template qwen3_thinking in ms-swift 4",
    )


def test_every_translated_model_type_and_template_is_registered_in_the_installed_ms_swift() -> None:
    installation = find_installation()
    types = model_types(installation)
    templates = {name for info in types.values() for name in info.templates}
    table = _model_table()
    assert len(table.became) == 67
    if installation.generation == 4:
        wanted = {(new.model_type, new.template) for became in table.became.values() for new in became}
        assert [pair for pair in wanted if pair[0] not in types or pair[1] not in types[pair[0]].templates] == []
        assert [name for name in table.templates.values() if name not in templates] == []
    else:
        assert [name for name in table.became if name not in types] == []
        assert [name for name in table.templates if name not in templates] == []
        assert [name for name in table.only_in_4 if name in types] == []


@pytest.mark.real
def test_no_argument_that_only_2_x_has_is_in_the_installed_ms_swift() -> None:
    assert len(_ONLY_IN_2) > 50
    assert _ONLY_IN_2 & arguments(find_installation(), "sft").keys() == set()
    assert [name for name in _ONLY_IN_2 if canonical(name) == name and removed(name) is None] == [
        name for name in _ONLY_IN_2 if name in ("use_flash_attn", "do_sample")
    ]


@pytest.mark.parametrize(
    ("name", "generation"),
    [("sft_type", "2.x"), ("train_type", "3.x"), ("tuner_type", "4.x"), ("lora_rank", ""), ("evaluation_strategy", "")],
)
def test_a_name_tells_the_one_generation_that_has_it(name: str, generation: str) -> None:
    assert spoken_in(name) == generation


def test_data_sets_that_2_x_called_otherwise_have_their_hub_ids() -> None:
    assert dataset_of_2("alpaca-zh") == "AI-ModelScope/alpaca-gpt4-data-zh"
    assert dataset_of_2("AI-ModelScope/alpaca-gpt4-data-zh") is None


def test_the_tuner_backend_of_2_x_is_peft() -> None:
    assert translate("tuner_backend", "swift", {"tuner_backend"}) == [
        Translation("tuner_backend", "peft", "tuner_backend swift is called peft here")
    ]
