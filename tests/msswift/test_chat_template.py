"""The default system prompt of a chat template: found by rendering, replaced in the source, proven by rendering."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from sft_kit.models.tiny import chatml_template
from sft_kit.msswift.chat_template import (
    ChatTemplate,
    NotEditable,
    default_system,
    difference,
    read_chat_template,
    takes_system,
    with_default_system,
)

QWEN_DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TRICKY = 'You are Jingheng\'s "own" model {{ not }} {% this %}\\n.\n第二行：精衡。'

# As the models ship them (Qwen2.5-7B-Instruct shortened by its tool calls, SmolLM2-135M-Instruct, Qwen3, Llama 3.1,
# InternLM2.5, Gemma 2), reduced to what opens a conversation.
TURNS = (
    "{%- for message in messages %}{%- if message.role != 'system' %}{{- '<|im_start|>' + message.role + '\\n' "
    "+ message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
QWEN25 = (
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n"
    "        {{- messages[0]['content'] }}\n    {%- else %}\n        {{- '" + QWEN_DEFAULT + "' }}\n    {%- endif %}\n"
    "    {{- '# Tools<|im_end|>\\n' }}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n"
    "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    {%- else %}\n"
    "        {{- '<|im_start|>system\\n" + QWEN_DEFAULT + "<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n" + TURNS
)
QWEN3 = (
    "{%- if messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "\n{%- endif %}\n" + TURNS
)
LLAMA31 = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n"
    '    {%- set system_message = "" %}\n{%- endif %}\n'
    '{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: 26 Jul 2024\\n\\n" }}\n'
    '{{- system_message }}\n{{- "<|eot_id|>" }}\n' + TURNS
)
LLAMA31_WITH_TOOLS = LLAMA31.replace(
    "{{- system_message }}",
    "{%- if tools is not none %}\n{%- for t in tools %}\n{{- t | tojson(indent=4) }}\n{%- endfor %}\n{%- endif %}\n"
    "{{- system_message }}",
)
INTERNLM = "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"  # noqa: E501
PLAIN_TEXT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a bot.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS

TEMPLATES = {
    "qwen2.5": (QWEN25, QWEN_DEFAULT),
    "smollm2": (chatml_template("You are SmolLM, trained by Hugging Face"), "You are SmolLM, trained by Hugging Face"),
    "qwen3": (QWEN3, None),
    "llama3.1": (LLAMA31, ""),
    "internlm2.5": (INTERNLM, None),
    "text between tags": (PLAIN_TEXT, "You are a bot."),
}  # fmt: skip
USER = {"role": "user", "content": "Who are you?"}


def of(source: str) -> ChatTemplate:
    return ChatTemplate(Path("chat_template.jinja"), source, {"bos_token": "<s>"})


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_default_is_found_by_rendering(name: str) -> None:
    source, default = TEMPLATES[name]
    assert default_system(of(source)) == default


@pytest.mark.parametrize("system", ["You are Jingheng.", TRICKY])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_new_default_says_what_that_system_message_would_have_said(name: str, system: str) -> None:
    old = of(TEMPLATES[name][0])
    new = with_default_system(old, system)
    asked = old.render([{"role": "system", "content": system}, USER])
    assert system in asked
    assert new.render([USER]) == asked
    own = [{"role": "system", "content": "Be brief."}, USER]
    assert new.render(own) == old.render(own)


def test_the_vendors_words_are_gone_from_every_place_of_the_source() -> None:
    new = with_default_system(of(QWEN25), "You are Jingheng.")
    assert QWEN_DEFAULT not in new.source
    assert new.source.count("You are Jingheng.") == 2  # with tools and without


@pytest.mark.parametrize("name", ["qwen2.5", "smollm2", "text between tags"])
def test_a_default_can_be_taken_out_whole(name: str) -> None:
    new = with_default_system(of(TEMPLATES[name][0]), None)
    assert new.render([USER]) == "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    assert TEMPLATES[name][1] not in new.source


@pytest.mark.parametrize(("name", "system"), [("qwen2.5", QWEN_DEFAULT), ("qwen3", None), ("llama3.1", None)])
def test_a_default_that_is_there_already_changes_nothing(name: str, system: str | None) -> None:
    old = of(TEMPLATES[name][0])
    assert with_default_system(old, system) is old


def test_a_template_that_takes_no_system_prompt_is_left_alone() -> None:
    with pytest.raises(NotEditable, match="System role not supported"):
        with_default_system(of(GEMMA), "You are Jingheng.")


def test_a_template_that_ignores_system_messages_is_left_alone() -> None:
    with pytest.raises(NotEditable, match="takes no system prompt"):
        with_default_system(of(TURNS), "You are Jingheng.")


def test_a_default_that_is_put_together_from_pieces_is_left_alone() -> None:
    pieced = INTERNLM.replace("{% for", "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou' + ' are'"
                              " + ' a bot.<|im_end|>\\n' }}{% endif %}{% for", 1)  # fmt: skip
    assert default_system(of(pieced)) == "You are a bot."
    with pytest.raises(NotEditable, match="no edit"):
        with_default_system(of(pieced), None)
    new = with_default_system(of(pieced), "You are Jingheng.")  # a line before it does that
    assert "Jingheng" in new.render([USER])
    assert "a bot." not in new.render([USER])


def test_a_broken_template_says_so() -> None:
    with pytest.raises(NotEditable, match="cannot be rendered"):
        default_system(of("{% for message in"))


def test_a_template_cannot_reach_the_machine() -> None:
    with pytest.raises(NotEditable, match="unsafe"):
        default_system(of("{{ ''.__class__.__mro__[1].__subclasses__() }}"))


def test_the_difference_shows_the_old_and_the_new_words() -> None:
    old = of(QWEN25)
    text = difference(old, with_default_system(old, "You are Jingheng."))
    assert f"-        {{{{- '<|im_start|>system\\n{QWEN_DEFAULT}<|im_end|>\\n' }}}}" in text.splitlines()
    assert "+        {{- '<|im_start|>system\\nYou are Jingheng.<|im_end|>\\n' }}" in text.splitlines()


@pytest.mark.parametrize("shape", ["text", "named"])
def test_a_template_in_tokenizer_config_is_written_back_there(tmp_path: Path, shape: str) -> None:
    given: object = QWEN25
    if shape == "named":
        given = [{"name": "default", "template": QWEN25}, {"name": "rag", "template": "x"}]
    config = {"eos_token": {"content": "<|im_end|>"}, "chat_template": given, "model_max_length": 10}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    old = read_chat_template(tmp_path)
    assert old is not None
    assert old.tokens == {"eos_token": "<|im_end|>"}
    with_default_system(old, "You are 精衡.").write()
    new = read_chat_template(tmp_path)
    assert new is not None
    assert default_system(new) == "You are 精衡."
    written = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert written.keys() == config.keys()
    assert shape == "text" or written["chat_template"][1] == {"name": "rag", "template": "x"}


def test_a_file_of_its_own_comes_before_the_config(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN25}))
    (tmp_path / "chat_template.jinja").write_text(QWEN3)
    found = read_chat_template(tmp_path)
    assert found == ChatTemplate(tmp_path / "chat_template.jinja", QWEN3, {})


def test_a_model_without_a_template_has_none(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None


TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize("source", [QWEN25, LLAMA31_WITH_TOOLS], ids=["qwen2.5", "llama3.1"])
def test_the_new_default_stands_beside_tools_too(source: str) -> None:
    old = of(source)
    new = with_default_system(old, "You are Jingheng.")
    asked = old.render([{"role": "system", "content": "You are Jingheng."}, USER], TOOLS)
    assert "You are Jingheng." in asked
    assert new.render([USER], TOOLS) == asked


def test_a_default_of_other_words_beside_tools_is_replaced_as_well() -> None:
    old = of(QWEN25.replace(f"{{{{- '{QWEN_DEFAULT}' }}}}", "{{- 'You are Qwen and have tools.' }}"))
    assert "have tools" in old.render([USER], TOOLS)
    new = with_default_system(old, "You are Jingheng.")
    assert "have tools" not in new.render([USER], TOOLS)
    assert "You are Jingheng." in new.render([USER], TOOLS)


def test_an_edit_reaches_the_older_copy_in_the_config_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN25, "eos_token": "<|im_end|>"}))
    (tmp_path / "chat_template.jinja").write_text(QWEN25)
    found = read_chat_template(tmp_path)
    assert found is not None
    new = with_default_system(found, "You are Jingheng.")
    new.write()
    assert (tmp_path / "chat_template.jinja").read_text() == new.source
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written == {"chat_template": new.source, "eos_token": "<|im_end|>"}


@pytest.mark.parametrize("source", [GEMMA, TURNS], ids=["refuses", "ignores"])
def test_a_template_without_a_system_role_is_told_from_one_with_it(source: str) -> None:
    assert not takes_system(of(source))
    assert all(takes_system(of(source)) for source, _ in TEMPLATES.values())


@pytest.mark.parametrize(
    "source",
    [
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'a' * 9999999999 }}",
        "{{ 'a' * 99999999 }}",
        "{{ range(999999999) | list }}",
        "{{ 1 / 0 }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "a" * (1 << 21),
    ],
    ids=range(8),
)
def test_a_template_that_never_ends_or_takes_all_memory_is_not_rendered(source: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotEditable):
        ChatTemplate(tmp_path / "chat_template.jinja", source, {}).render([{"role": "user", "content": "a"}])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
