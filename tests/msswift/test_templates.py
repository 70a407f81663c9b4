"""The templates read from ms-swift's source against its registry, and which of them a model gets."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sft_kit.msswift import templates as module
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.model_choice import template_of
from sft_kit.msswift.templates import Template, dated, templates
from tests.msswift.encoded_rows import previewed_and_real

QWEN2_5 = Template(
    name="qwen2_5",
    prefix=(),
    system_prefix=("<|im_start|>system\n{{SYSTEM}}<|im_end|>\n",),
    prompt=("<|im_start|>user\n{{QUERY}}<|im_end|>\n<|im_start|>assistant\n",),
    system_prompt=None,
    chat_sep=("<|im_end|>\n",),
    suffix=("<|im_end|>\n",),
    default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    auto_add_bos=False,
    stop_words=("<|endoftext|>",),
    is_thinking=False,
    non_thinking_prefix="",
    history_thinking_prefix="",
    preserve_thinking=None,
    class_name="Template",
)


@pytest.mark.real
def test_every_template_is_the_real_registrys() -> None:
    real = previewed_and_real()[1]["templates"]
    ours = {name: plain(template) for name, template in templates(find_installation()).items()}
    assert len(ours) >= 200
    assert ours == real


def plain(template: Template) -> dict[str, Any]:
    """The template as JSON has it, today's date filled in."""

    def of(value: Any) -> Any:
        if isinstance(value, tuple):
            return [of(item) for item in value]
        return dated(value, datetime.now()) if isinstance(value, str) else value

    return {name: of(value) for name, value in vars(template).items() if name != "name"}


@pytest.mark.real
def test_hub_models_get_the_template_that_the_real_ms_swift_gives_them() -> None:
    real = previewed_and_real()[1]["template_of"]
    installation = find_installation()
    ours = {model: template_of(installation, model, model_type=None, template=None, folder=None) for model in real}
    assert len(ours) > 30
    assert ours == real


def test_a_known_template_is_read_in_full() -> None:
    assert templates(find_installation())["qwen2_5"] == QWEN2_5


def test_the_date_of_a_template_is_the_days() -> None:
    (prefix,) = templates(find_installation())["llama3_2"].prefix
    assert isinstance(prefix, str)
    assert "Today Date: 03 Feb 2026\n" in dated(prefix, datetime(2026, 2, 3))


def test_templates_come_back_from_the_cache_as_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    module.templates.cache_clear()
    read = dict(templates(find_installation()))
    module.templates.cache_clear()
    start = time.process_time()
    assert dict(templates(find_installation())) == read
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize(
    ("model", "model_type", "template", "expected"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", None, None, "qwen2_5"),
        ("some/where/Qwen2.5-7B-Instruct/", None, None, "qwen2_5"),
        ("/hub/models--Qwen--Qwen3-8B/snapshots/0a1b2c", None, None, "qwen3"),
        ("my/own-model", None, "chatml", "chatml"),
        ("my/own-model", "internlm2", None, "internlm2"),
        ("my/own-model", None, None, None),
    ],
)
def test_a_models_template_follows_ms_swifts_order(
    model: str, model_type: str | None, template: str | None, expected: str | None
) -> None:
    found = template_of(find_installation(), model, model_type=model_type, template=template, folder=None)
    assert found == expected


def test_a_directory_says_its_template_by_args_json_then_by_its_architecture(tmp_path: Path) -> None:
    def of_folder() -> str | None:
        return template_of(find_installation(), str(tmp_path), model_type=None, template=None, folder=tmp_path)

    (tmp_path / "config.json").write_text('{"architectures": ["Gemma2ForCausalLM"]}', encoding="utf-8")
    assert of_folder() == "gemma"
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    assert of_folder() is None
    (tmp_path / "config.json").write_text('{"architectures": ["NobodyKnowsForCausalLM"]}', encoding="utf-8")
    assert of_folder() == "dummy"
    (tmp_path / "args.json").write_text('{"template": "chatml"}', encoding="utf-8")
    assert of_folder() == "chatml"
