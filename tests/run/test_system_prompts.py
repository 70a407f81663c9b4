"""The vendor's default system prompt and the trained one, as the evaluation asks under them."""

from __future__ import annotations

from pathlib import Path

from sft_kit.msswift.install import find_installation
from sft_kit.run.system_prompts import prompts_of

VENDOR = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN = {"model": "Qwen/Qwen2.5-7B-Instruct"}


def test_a_config_decides_the_trained_prompt_and_else_ms_swifts_template() -> None:
    installation = find_installation()
    assert prompts_of(installation, {**QWEN, "system": "Hi."}) == (VENDOR, "Hi.")
    assert prompts_of(installation, {**QWEN, "system": ""}) == (VENDOR, "")
    assert prompts_of(installation, QWEN) == (VENDOR, VENDOR)
    assert prompts_of(installation, {"model": "Qwen/Qwen3-4B"}) == (None, "")


def test_what_is_not_known_is_none() -> None:
    assert prompts_of(find_installation(), {"model": "owner/unheard-of"}) == (None, None)
    assert prompts_of(find_installation(), {}) == (None, None)


def test_the_models_own_chat_template_tells_the_vendors_prompt_where_ms_swifts_has_none(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(
        "{% if messages[0].role != 'system' %}<|system|>I am SmolLM.<|end|>{% endif %}"
        "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    )
    base = {"model": str(tmp_path), "model_type": "llama", "template": "chatml"}
    assert prompts_of(find_installation(), base) == ("I am SmolLM.", "")
