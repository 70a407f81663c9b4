"""The default system prompt of a model's Jinja chat template: what it is, and how it becomes another one.

A merged model that leaves ms-swift (for transformers, vLLM, SGLang) is prompted by its own chat template, which puts in
a default of its own where a conversation brings no system message ("You are Qwen, created by Alibaba Cloud...").
Training used ms-swift's template, whose default may be another one or none. Owns finding that default by rendering, and
replacing it in the source. An edit is tried and then rendered: only one that does exactly what was asked is kept.
Does not own which default is wanted (`run.export`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from sft_kit.msswift.checkpoints import read_json

Messages = Sequence[Mapping[str, str]]

_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"
_MARK = "\u2402a system prompt\u2403"
_ASK: Messages = ({"role": "user", "content": "a question"},)
_TALK: Messages = (*_ASK, {"role": "assistant", "content": "an answer"}, {"role": "user", "content": "another"})
_TOOLS: Sequence[Mapping[str, Any]] = (
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "look something up",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    },
)
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
# transformers' own tag for what the assistant says; it renders nothing, and plain Jinja does not know it
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


_LONGEST_SOURCE = 1 << 20  # characters; the longest of a real model has 20,000
_LONGEST_PROMPT = 1 << 24  # bytes
_LONGEST_ERROR = 500
_SECONDS = 2  # of the CPU; those of real models take milliseconds
_MEMORY = 2 << 30
_RENDERED, _RAISED, _BEYOND = 0, 3, 4  # how a fork that renders ends


class NotEditable(Exception):
    """The template cannot be given that default safely; the message says why."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, the file that it lies in, and the special tokens that it may name."""

    file: Path
    source: str
    tokens: Mapping[str, str]

    def render(self, messages: Messages, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt for `messages`, up to where the answer begins. Raises NotEditable when the template refuses, or
        would take more time or memory than any prompt needs."""
        if len(self.source) > _LONGEST_SOURCE:
            raise NotEditable(f"it has {len(self.source):,} characters")
        given = {"messages": [*messages], "tools": tools and [*tools], "documents": None, "add_generation_prompt": True}
        environment = _environment()
        return _bounded(
            lambda: str(environment.from_string(_GENERATION.sub("", self.source)).render(**given, **self.tokens))
        )

    def write(self) -> None:
        """Put it back into its file, and into the configuration beside it where that has one too, for older tools."""
        if self.file.name == _FILE:
            self.file.write_text(self.source, encoding="utf-8")
        file = self.file.with_name(_CONFIG)
        config = read_json(file)
        given = config.get("chat_template")
        if given is None:
            return
        if isinstance(given, list):
            config["chat_template"] = [
                {**item, "template": self.source} if item["name"] == "default" else item for item in given
            ]
        else:
            config["chat_template"] = self.source
        file.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_chat_template(model: Path) -> ChatTemplate | None:
    """The template of a model directory, found where transformers looks; None when it has none."""
    config = read_json(model / _CONFIG)
    tokens = {name: _text_of(config[name]) for name in _TOKENS if config.get(name)}
    if (model / _FILE).is_file():
        return ChatTemplate(model / _FILE, (model / _FILE).read_text(encoding="utf-8"), tokens)
    given = config.get("chat_template")
    if isinstance(given, list):  # several by name
        named = {str(item.get("name")): item.get("template") for item in given if isinstance(item, dict)}
        given = named.get("default")
    return ChatTemplate(model / _CONFIG, given, tokens) if isinstance(given, str) else None


def default_system(template: ChatTemplate) -> str | None:
    """What stands where the system prompt would when a conversation brings none; None when no place is made for one.

    "" is a place that is left empty (Llama 3.1's dates). Raises NotEditable for a template that takes no system
    message, or whose words without one are not those with one less the prompt.
    """
    without, given = template.render(_ASK), template.render(_with(_MARK, _ASK))
    if given.count(_MARK) != 1:
        raise NotEditable("it takes no system prompt")
    before, after = given.split(_MARK)
    if len(without) >= len(before) + len(after) and without.startswith(before) and without.endswith(after):
        return without[len(before) : len(without) - len(after)]
    if not _is_shortened(without, given):
        raise NotEditable("without a system message it says something of its own")
    return None


def with_default_system(template: ChatTemplate, system: str | None) -> ChatTemplate:
    """`template` with `system` as its default; None for no system prompt at all. The same one if it has that already.

    Conversations that bring a system message render as before. Raises NotEditable when no edit does that.
    """
    current = default_system(template)
    if (current or None) == (system or None):
        return template
    for source in dict.fromkeys(_edits(template.source, current, system or None)):
        edited = replace(template, source=source)
        if _is_right(edited, template, system or None):
            return edited
    raise NotEditable("no edit of its source gives that default and leaves the rest as it is")


def difference(old: ChatTemplate, new: ChatTemplate) -> str:
    """A unified diff of the two sources."""
    before, after = (template.source.replace("%}{", "%}\n{").splitlines() for template in (old, new))
    name = old.file.name if old.file.name == _FILE else f"{old.file.name}: chat_template"
    return "\n".join(difflib.unified_diff(before, after, name, f"{name} (new)", lineterm="", n=1))


def _edits(source: str, current: str | None, system: str | None) -> Iterator[str]:
    """Candidates, the most natural first: the words replaced where they stand, or a line put before the template."""
    if current:
        for written in dict.fromkeys((_quoted(current, "'"), _quoted(current, '"'), _quoted(current, ""), current)):
            if written not in source:
                continue
            if system is None:
                yield from _without_text_around(source, written)
            else:
                for quote in "'", '"':
                    yield source.replace(written, _quoted(system, quote))
                yield source.replace(written, system)  # between tags, where nothing is escaped
    if system is not None:
        head = "{%- if messages and messages[0]['role'] != 'system' %}"
        message = f"[{{'role': 'system', 'content': '{_quoted(system, chr(39))}'}}]"
        yield f"{head}{{%- set messages = {message} + messages %}}{{%- endif -%}}\n{source}"


def _without_text_around(source: str, written: str) -> Iterator[str]:
    """`source` without the whole string, or the whole text between tags, that `written` is part of."""
    escaped = re.escape(written)
    for pattern in (
        rf"(?<=')(?:\\.|[^'\\])*?{escaped}(?:\\.|[^'\\])*(?=')",
        rf'(?<=")(?:\\.|[^"\\])*?{escaped}(?:\\.|[^"\\])*(?=")',
        rf"(?<=\}})[^{{}}]*?{escaped}[^{{}}]*(?=\{{)",
    ):
        yield re.sub(pattern, "", source)


def _is_right(edited: ChatTemplate, before: ChatTemplate, system: str | None) -> bool:
    try:
        untouched = all(
            edited.render(_with("another one", talk)) == before.render(_with("another one", talk))
            for talk in (_ASK, _TALK)
        )
        if system is None:
            return untouched and not default_system(edited)
        return untouched and all(
            edited.render(talk) == before.render(_with(system, talk)) and _same_with_tools(edited, before, system, talk)
            for talk in (_ASK, _TALK)
        )
    except NotEditable:
        return False


def _same_with_tools(edited: ChatTemplate, before: ChatTemplate, system: str, talk: Messages) -> bool:
    """Whether the default is `system` beside tools too, where the template takes them beside a system prompt."""
    try:
        wanted = before.render(_with(system, talk), _TOOLS)
    except NotEditable:
        return True
    return edited.render(talk, _TOOLS) == wanted and edited.render(_with(system, talk), _TOOLS) == wanted


def takes_system(template: ChatTemplate) -> bool:
    """Whether a system message shows in what the template renders (Gemma 2's refuses one)."""
    try:
        return _MARK in template.render(_with(_MARK, _ASK))
    except NotEditable:
        return False


def _quoted(text: str, quotes: str) -> str:
    """`text` as it is written inside a Jinja string; `quotes` are those to escape."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    for quote in quotes:
        text = text.replace(quote, f"\\{quote}")
    return text


def _with(system: str, talk: Messages) -> Messages:
    return ({"role": "system", "content": system}, *talk)


def _is_shortened(short: str, long: str) -> bool:
    """Whether `short` is `long` with one stretch left out."""
    return len(short) <= len(long) and _alike(short, long) + _alike(short[::-1], long[::-1]) >= len(short)


def _alike(first: str, second: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _bounded(render: Callable[[], str]) -> str:
    """What `render` returns, in a fork of this process: Jinja's sandbox bounds neither time nor memory, and even to
    compile a template can take for ever (`9 ** (9 ** 9)`). Raises NotEditable for an error, and beyond the bounds."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)  # else it would wait for itself to read
        _render_in_the_child(render, writes)
    os.close(writes)
    with open(reads, "rb") as answer:
        said = answer.read(_LONGEST_PROMPT + 1)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if ended not in (_RENDERED, _RAISED) or len(said) > _LONGEST_PROMPT:
        raise NotEditable(f"it cannot be rendered in {_SECONDS} s and {_MEMORY >> 30} GiB")
    text = said.decode("utf-8", "surrogatepass")
    if ended == _RAISED:
        raise NotEditable(f"it cannot be rendered: {text}")
    return text


def _render_in_the_child(render: Callable[[], str], writes: int) -> NoReturn:
    """Write the text or the error, and end: nothing that the parent has open or registered is flushed or run."""
    code = _BEYOND
    try:
        for what, most in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_DATA, _MEMORY)):
            hard = resource.getrlimit(what)[1]
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        try:
            text, ends = render(), _RENDERED
        except Exception as error:  # a template can raise whatever its filters and arithmetic do
            text, ends = str(error)[:_LONGEST_ERROR], _RAISED
        with open(writes, "wb") as answer:
            answer.write(text.encode("utf-8", "surrogatepass"))
        code = ends
    finally:
        os._exit(code)


def _text_of(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _environment() -> Any:
    """Jinja as transformers sets it up for chat templates (`transformers.utils.chat_template_utils`)."""
    from datetime import datetime

    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
