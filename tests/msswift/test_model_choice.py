"""The model type and template that a model gets, against the real ms-swift; and the likely one of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.model_choice import Choice, choose, fits, likely_type, registered_type, template_of
from sft_kit.msswift.model_types import model_types
from tests.msswift.conftest import ask_child

CHILD = Path(__file__).with_name("real_choice.py")
QWEN2: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
QWEN3: dict[str, Any] = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
PHI: dict[str, Any] = {"architectures": ["PhimoeForCausalLM"]}
NEW: dict[str, Any] = {"architectures": ["BrandNewForCausalLM"], "model_type": "brand_new"}

Case = tuple[str, dict[str, Any], dict[str, Any] | None, str | None, str | None]
CASES: list[Case] = [  # directory, config.json, args.json, model_type, template
    ("qwen", QWEN2, None, None, None),
    ("Qwen2.5-7B-Instruct", QWEN2, None, None, None),
    ("qwen2.5-7b-instruct", QWEN2, None, None, None),
    ("Qwen2___5-7B-Instruct", QWEN2, None, None, None),
    ("models--Qwen--Qwen2.5-7B-Instruct/snapshots/abc", QWEN2, None, None, None),
    ("models--Qwen2.5-7B-Instruct/snapshots/abc", QWEN2, None, None, None),
    ("models/Qwen--Qwen2.5-7B-Instruct/snapshots/master", QWEN2, None, None, None),
    ("models/Qwen2.5-7B-Instruct/snapshots/master", QWEN2, None, None, None),
    ("Qwen2.5-7B-Instruct", LLAMA, None, None, None),
    ("Qwen2.5-7B-Instruct", QWEN2, None, "llama", None),
    ("Qwen2.5-7B-Instruct", QWEN2, None, None, "chatml"),
    ("Qwen2.5-7B-Instruct", QWEN2, {"swift_version": "4.6.0", "template": "qwen"}, None, None),
    ("Qwen2.5-7B-Instruct", QWEN2, {"swift_version": "4.6.0", "model_type": "llama"}, None, None),
    ("mine", QWEN2, None, "qwen2", None),
    ("mine", QWEN2, None, "qwen2", "qwen2_5"),
    ("mine", QWEN2, None, None, "qwen2_5"),
    ("mine", QWEN2, {"swift_version": "4.6.0", "model_type": "qwen2", "template": "qwen2_5"}, None, None),
    ("mine", QWEN2, {"swift_version": "4.0.0.dev0", "model_type": "qwen2", "template": "qwen2_5"}, None, None),
    ("mine", QWEN2, {"swift_version": "3.12.6", "model_type": "qwen2", "template": "qwen2_5"}, None, None),
    ("mine", QWEN2, {"model_type": "qwen2", "template": "qwen2_5"}, None, None),
    ("mine", QWEN2, {"swift_version": "4.6.0", "model_type": "no_such"}, None, None),
    ("mine", QWEN2, {"swift_version": "4.6.0", "model_type": "qwen2", "template": "no_such"}, None, None),
    ("mine", QWEN2, {"swift_version": "4.6.0", "model_type": "qwen2"}, None, None),
    ("mine", LLAMA, None, None, None),
    ("mine", LLAMA, None, "llama", None),
    ("mine", LLAMA, None, "llama", "chatml"),
    ("mine", QWEN3, None, None, None),
    ("Qwen3-8B", QWEN3, None, None, None),
    ("Qwen3-4B-Thinking-2507", QWEN3, None, None, None),
    ("DeepSeek-R1-Distill-Qwen-7B", QWEN2, None, None, None),
    ("glm-edge-4b-chat", {"architectures": ["GlmForCausalLM"]}, None, None, None),
    ("Meta-Llama-3.1-8B-Instruct", LLAMA, None, None, None),
    ("mine", PHI, None, None, None),
    ("mine", NEW, None, None, None),
    ("mine", NEW, None, None, "chatml"),
    ("mine", {**NEW, "vision_config": {}}, None, None, None),
    ("mine", {"model_type": "qwen2"}, None, None, None),
    ("mine", {"architectures": []}, None, None, None),
    ("mine", {"architectures": None}, None, None, None),
    ("mine", QWEN2, None, "no_such", None),
    ("mine", QWEN2, None, "qwen2", "no_such"),
]


def every_type() -> list[Case]:
    """Each registered type asked for by name, and each architecture by itself."""
    types = model_types(find_installation())
    named: list[Case] = [("mine", NEW, None, kind, None) for kind in types]
    architectures = dict.fromkeys(name for info in types.values() for name in info.architectures)
    return [*named, *(("mine", {"architectures": [name]}, None, None, None) for name in architectures)]


def chosen(model: Path, model_type: str | None, template: str | None, chat_template: str = "") -> Choice:
    config, args = read_json(model / "config.json"), read_json(model / "args.json")
    return choose(find_installation(), str(model), config, args, model_type, template, chat_template=chat_template)


@pytest.mark.real
def test_every_choice_is_the_real_ms_swifts(tmp_path: Path) -> None:
    cases, asked = [*CASES, *every_type()], []
    for number, (name, config, args, model_type, template) in enumerate(cases):
        folder = tmp_path / str(number) / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if args is not None:
            (folder / "args.json").write_text(json.dumps(args), encoding="utf-8")
        asked.append((str(folder), model_type, template))
    theirs = ask_child(CHILD, asked)
    ours = []
    for folder_name, model_type, template in asked:
        choice = chosen(Path(folder_name), model_type, template)
        settled = None if choice.trouble else choice.template
        ours.append([choice.model_type, settled, choice.trouble, sorted(choice.candidates)])
    different = [(case, our, real) for case, our, real in zip(cases, ours, theirs, strict=True) if our != real]
    assert len(theirs) > 400
    assert different == []


QWEN25 = "<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"
QWEN2_TEXT = "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>"
SWITCH = "<|im_start|> <|im_end|> <think></think> enable_thinking"
LLAMA3 = "<|begin_of_text|><|start_header_id|>user<|end_header_id|> <|eot_id|>"


@pytest.mark.parametrize(
    ("name", "config", "chat_template", "likely"),
    [
        ("model", QWEN2, QWEN25, ("qwen2", "qwen2_5")),
        ("model", QWEN2, QWEN2_TEXT, ("qwen2", "qwen")),
        ("my-qwen2.5-7b", QWEN2, "", ("qwen2", "qwen2_5")),
        ("model", QWEN2, "<｜begin▁of▁sentence｜><｜User｜><｜Assistant｜>", ("qwen2", "deepseek_r1")),
        ("model", QWEN3, SWITCH, ("qwen3", "qwen3")),
        ("model", QWEN3, "<|im_start|> <think> <|im_end|>", ("qwen3", "qwen3_thinking")),
        ("model", QWEN3, "<|im_start|> <|im_end|>", ("qwen3", "qwen3_nothinking")),
        ("qwen3-emb-mine", QWEN3, "", ("qwen3_emb", "qwen3_emb")),
        ("model", LLAMA, LLAMA3, ("llama", "llama3")),
        ("model", LLAMA, f"{LLAMA3} Cutting Knowledge Date: Today Date:", ("llama", "llama3_2")),
        ("model", LLAMA, "<s>[INST] <<SYS>> <</SYS>> [/INST]", ("llama", "llama")),
        ("model", LLAMA, "<|im_start|> <|im_end|>", ("llama", "chatml")),
        ("model", {**LLAMA, "vocab_size": 64000}, "<|im_start|> <|im_end|>", ("yi", "chatml")),
        ("llama-3.1-8b-mine", LLAMA, "", ("llama", "llama3_2")),
    ],
)
def test_the_likely_type_comes_first(
    name: str, config: dict[str, Any], chat_template: str, likely: tuple[str, str]
) -> None:
    choice = choose(find_installation(), f"/models/{name}", config, {}, None, None, chat_template=chat_template)
    assert (choice.trouble, choice.candidates[0], choice.likely) == ("ambiguous-type", likely[0], likely)


def test_a_given_template_is_kept_beside_the_likely_type() -> None:
    choice = choose(find_installation(), "model", LLAMA, {}, None, "chatml")
    assert choice.likely == ("llama", "chatml")


def test_the_template_of_a_type_with_several_is_likely_too() -> None:
    choice = choose(find_installation(), "model", QWEN2, {}, "qwen2", None, chat_template=QWEN25)
    assert (choice.trouble, choice.model_type, choice.likely) == ("ambiguous-template", "qwen2", ("qwen2", "qwen2_5"))


def test_a_hub_id_without_its_files_is_only_known_by_its_name() -> None:
    installation = find_installation()
    assert choose(installation, "Qwen/Qwen2.5-7B-Instruct", None, {}, None, None) == Choice(
        "qwen2", "qwen2_5", why="the id"
    )
    assert choose(installation, "owner/own-model", None, {}, None, None) == Choice(None, None)


def test_a_type_fits_the_architectures_it_is_registered_for() -> None:
    installation = find_installation()
    assert fits(installation, "qwen2", QWEN2)
    assert not fits(installation, "qwen2", LLAMA)
    assert fits(installation, "no_such", LLAMA) and fits(installation, "qwen2", {})
    assert likely_type(installation, QWEN2) == "qwen2"
    assert likely_type(installation, NEW) is None


def test_the_registered_type_of_a_directory_is_that_of_its_name() -> None:
    assert registered_type(find_installation(), "/models/Qwen2.5-7B-Instruct/") == "qwen2"
    assert registered_type(find_installation(), "/models/mine") is None


def test_a_config_of_odd_values_has_a_likely_type_all_the_same() -> None:
    odd = {**QWEN2, "vocab_size": [1280], "model_type": {}}
    assert choose(find_installation(), "mine", odd, {}, None, None).trouble == "ambiguous-type"


def test_a_type_with_a_template_of_its_own_beside_its_groups_gets_that(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Mistral3ForConditionalGeneration"]}), "utf-8")
    found = template_of(find_installation(), str(tmp_path), model_type="mistral3", template=None, folder=tmp_path)
    assert found == model_types(find_installation())["mistral3"].templates[0]
