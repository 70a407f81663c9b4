"""The Modelfile: Go renders its TEMPLATE as jinja renders the chat template, and Ollama reads back what was written.

data/ollama.json holds what real Go rendered, and real transformers to the letter too (scripts/dev/ollama_golden.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_kit.errors import UsageError
from sft_kit.models.tiny import chatml_template
from sft_kit.msswift.chat_template import ChatTemplate
from sft_kit.run.ollama import learn, modelfile, tried, write_modelfile
from tests.run.chat_templates import chat_templates, of

GOLDEN = json.loads((Path(__file__).parent / "data" / "ollama.json").read_text("utf-8"))
TEMPLATES = chat_templates()
NAMES = sorted(TEMPLATES)
BY_POSITION = "{{ messages[0]['content'] }}{% if messages | length > 3 %} (long){% endif %}"


def read_modelfile(text: str) -> dict[str, list[str]]:
    """The arguments by instruction (`PARAMETER stop`), as Ollama's parser reads them.

    It reads on until a line end at which what it has is not an open quotation, and drops what does not print.
    """
    found: dict[str, list[str]] = {}
    rest = iter(text)
    for head in iter(lambda: _until(rest, " \n"), ""):
        if head.startswith("#"):
            _until(rest, "\n")
            continue
        name = f"PARAMETER {_until(rest, ' ')}" if head == "PARAMETER" else head
        value = ""
        for char in rest:
            if char == "\n" and (read := unquoted(value.strip())) is not None:
                break
            value += char if char.isprintable() or char in "\n\t" else ""
        found.setdefault(name, []).append(str(read))
    return found


def unquoted(text: str) -> str | None:
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            whole = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if whole else None
    return text


def _until(rest: Iterator[str], ends: str) -> str:
    text = ""
    for char in rest:
        if char in ends:
            break
        text += char
    return text


def model(folder: Path, template: ChatTemplate, **config: Any) -> Path:
    """The small files of a model: tokens 0 and 1 end an answer and a turn, 2 and 3 are none of a conversation."""
    folder.mkdir(exist_ok=True)
    words = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "<tool>", "<s>"]
    added = [{"id": number, "content": word, "special": True} for number, word in enumerate(words)]
    files = {
        "tokenizer.json": {"added_tokens": added},
        "tokenizer_config.json": {"chat_template": template.source, **template.tokens, **config},
        "generation_config.json": {"eos_token_id": [1, 0], "do_sample": True, "temperature": 0.7, "top_p": 0.8,
                                   "top_k": 20, "repetition_penalty": 1.05},
        "config.json": {"max_position_embeddings": 32768},
    }  # fmt: skip
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_every_family_has_its_renderings() -> None:
    assert sorted(GOLDEN) == NAMES
    assert len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_go_renders_what_the_chat_template_renders(name: str) -> None:
    pieces = learn(TEMPLATES[name])
    assert pieces is not None
    assert pieces.go_template() == GOLDEN[name]["template"], "run scripts/dev/ollama_golden.py"
    conversations = tried(pieces)
    assert GOLDEN[name]["rendered"] == [TEMPLATES[name].render(messages) for messages in conversations]
    takes_system = name not in ("gemma2", "mistral")
    assert len(conversations) == (12 if takes_system else 4)


def test_a_modelfile_says_all_that_ollama_must_know(tmp_path: Path) -> None:
    folder = model(tmp_path / "merged", TEMPLATES["chatml"])
    path = write_modelfile(folder, system="你是精衡。")
    assert path == folder / "Modelfile"
    assert read_modelfile(path.read_text("utf-8")) == {
        "FROM": ["."],
        "TEMPLATE": [GOLDEN["chatml"]["template"]],
        "SYSTEM": ["你是精衡。"],
        "PARAMETER stop": ["<|im_end|>", "<|endoftext|>", "<|im_start|>"],
        "PARAMETER temperature": ["0.7"],
        "PARAMETER top_p": ["0.8"],
        "PARAMETER top_k": ["20"],
        "PARAMETER repeat_penalty": ["1.05"],
        "PARAMETER num_ctx": ["8192"],
    }


def test_a_modelfile_is_never_overwritten(tmp_path: Path) -> None:
    folder = model(tmp_path, TEMPLATES["chatml"])
    write_modelfile(folder, system=None)
    with pytest.raises(UsageError, match="is already there"):
        write_modelfile(folder, system="another")
    assert "SYSTEM" not in read_modelfile((folder / "Modelfile").read_text("utf-8"))


@pytest.mark.parametrize(
    "system",
    [
        'You are "Ada".',
        'Say """x""" and\n"quote"',
        '"""at the start',
        'ends in a quote"',
        'ends in three"""',
        "two\n\nlines\nand\ta tab",
        "{{ .System }} {# %}",
        "你是“精衡”。\n由叶博韬开发",
        "PARAMETER stop x\nFROM y\n# no comment",
    ],
)
def test_a_system_prompt_comes_back_to_the_letter(system: str, tmp_path: Path) -> None:
    read = read_modelfile(modelfile(model(tmp_path, TEMPLATES["chatml"]), system=system))
    assert read["SYSTEM"] == [system]
    assert read["FROM"] == ["."]


@pytest.mark.parametrize("system", ["wide　space", 'a line that ends in """\nand another', '"""\n', "zero\u200bwidth"])
def test_what_no_quotation_can_hold_is_said_by_the_template(system: str, tmp_path: Path) -> None:
    read = read_modelfile(modelfile(model(tmp_path, TEMPLATES["chatml"]), system=system))
    assert "SYSTEM" not in read
    (go_string,) = re.findall(r'\{\{ else \}\}\{\{ "(.*?)" \}\}\{\{ end \}\}', read["TEMPLATE"][0])
    opening = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    assert go_string.encode().decode("unicode_escape") == opening


def test_outer_blanks_that_the_chat_template_cuts_off_are_cut_off_the_system_prompt(tmp_path: Path) -> None:
    for name, written in (("llama3", "You are Ada."), ("chatml", " You are Ada.\n")):
        folder = model(tmp_path / name, TEMPLATES[name])
        assert read_modelfile(modelfile(folder, system=" You are Ada.\n"))["SYSTEM"] == [written]


def test_the_token_that_ollama_puts_in_front_itself_is_not_written_twice(tmp_path: Path) -> None:
    for adds, begins in ((True, "{{ if .System }}<|im_start|>"), (False, "{{ if .System }}<s><|im_start|>")):
        folder = model(tmp_path / str(adds), TEMPLATES["internlm2"], add_bos_token=adds)
        (template,) = read_modelfile(modelfile(folder, system=None))["TEMPLATE"]
        assert template.startswith(begins)
        assert template.count("<s>") == (0 if adds else 2)


def test_a_model_without_sampling_answers_without_sampling(tmp_path: Path) -> None:
    folder = model(tmp_path, TEMPLATES["chatml"])
    (folder / "generation_config.json").write_text('{"do_sample": false, "eos_token_id": 1}')
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    read = read_modelfile(modelfile(folder, system=None))
    assert {name: value for name, value in read.items() if name.startswith("PARAMETER")} == {
        "PARAMETER stop": ["<|im_end|>", "<|im_start|>"],
        "PARAMETER temperature": ["0"],
        "PARAMETER num_ctx": ["2048"],
    }


@pytest.mark.parametrize("source", [BY_POSITION, "no messages", "{% broken", "{{ raise_exception('no') }}"])
def test_a_template_that_is_no_row_of_texts_is_left_out_with_a_warning(
    source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read = read_modelfile(modelfile(model(tmp_path, of(source)), system="You are Ada."))
    assert "TEMPLATE" not in read
    assert read["SYSTEM"] == ["You are Ada."]
    assert "no TEMPLATE was written" in capfd.readouterr().err


def test_a_template_that_treats_long_conversations_differently_is_not_taken_for_a_row_of_texts() -> None:
    source = chatml_template(None) + "{% if messages | length > 5 %}!{% endif %}"
    assert learn(of(source)) is None


def test_a_chat_template_without_a_system_prompt_gets_no_system(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read = read_modelfile(modelfile(model(tmp_path, TEMPLATES["gemma2"]), system="You are Ada."))
    assert "SYSTEM" not in read
    assert read["TEMPLATE"] == [GOLDEN["gemma2"]["template"]]
    assert "takes no system prompt" in capfd.readouterr().err


def test_a_template_that_writes_the_date_is_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = "{{ strftime_now('%Y') }}" + chatml_template(None)
    assert re.match(
        r"\{\{ if \.System \}\}20\d\d<",
        read_modelfile(modelfile(model(tmp_path, of(source)), system=None))["TEMPLATE"][0],
    )
    assert "writes the date" in capfd.readouterr().err
