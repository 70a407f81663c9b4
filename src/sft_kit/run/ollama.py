"""`export --ollama`: the Modelfile with which Ollama asks a merged model as transformers does.

Owns the Modelfile: its Go TEMPLATE, SYSTEM, stop strings and sampling. ms-swift's own (`--to_ollama`) points FROM at
the base model and has no SYSTEM.

No list of model families is kept. The chat template of the model itself is rendered with marks in place of the
messages; what stands between them is all that a conversation is made of, and becomes the TEMPLATE. It is used only if
it then renders a set of other conversations exactly as the chat template does. Most templates are such a row of texts
(ChatML, Llama 2 and 3, Gemma, Phi, DeepSeek, ...); for one that is not, TEMPLATE is left out with a warning.

The TEMPLATE is of Ollama's `.Messages` form (https://docs.ollama.com/template). Ollama differs in three things that a
Modelfile cannot change: it joins neighbouring messages of one role, it moves every system message to the front, and it
leaves blanks around a message that some chat templates (Llama 3, Gemma) cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sft_kit.console import warn
from sft_kit.errors import Problem, UsageError
from sft_kit.msswift.chat_template import ChatTemplate, Messages, NotEditable, read_chat_template
from sft_kit.msswift.checkpoints import read_json
from sft_kit.run.directory import write_atomic

LONGEST_CONTEXT = 8192
"""Tokens of `num_ctx` at most. Ollama reserves memory for all of them, and takes 2048 or 4096 when not told."""

_MARKS = ("s7f1system", "s7f1user", "s7f1answer", "s7f1more")
_THINKING = {"<think>", "</think>"}
_TRIED: tuple[tuple[str, ...], ...] = (
    ("Hello",),
    ("你好,你是谁?", "我是精衡。", "谁开发了你?"),
    ('She said: "no"', 'It\'s {{ .Prompt }}\n\nand\t"""', "a\nb", "\\n {% if %}", "<b>&amp;</b>"),
    ("1", "2", "3", "4", "5", "6", "7"),
)
"""User, assistant, user, ...: what a learned template must render as the chat template does."""


@dataclass(frozen=True)
class Pieces:
    """The texts between the messages of a conversation, as a chat template writes them.

    `opening`, user, `to_answer`, assistant, `to_user`, user, ..., user, `asking`; with a system prompt the opening is
    `before_system`, the system prompt, `after_system`. `before_system` is None where it takes no system prompt.
    """

    opening: str
    to_answer: str
    to_user: str
    asking: str
    before_system: str | None = None
    after_system: str = ""

    def render(self, messages: Messages) -> str:
        """What the TEMPLATE of these pieces renders for a conversation that ends with the user."""
        system = [message["content"] for message in messages if message["role"] == "system"]
        turns = [message["content"] for message in messages if message["role"] != "system"]
        text = f"{self.before_system}{system[0]}{self.after_system}" if system else self.opening
        for index, turn in enumerate(turns[:-1]):
            text += turn + (self.to_user if index % 2 else self.to_answer)
        return text + turns[-1] + self.asking

    def go_template(self) -> str:
        """The TEMPLATE of a Modelfile. An answer that comes last is left open, so that it can be gone on with."""
        opening, asking, to_answer = go_text(self.opening), go_text(self.asking), go_text(self.to_answer)
        if self.before_system is not None:
            given = go_text(self.before_system) + "{{ .System }}" + go_text(self.after_system)
            opening = "{{ if .System }}" + given + "{{ else }}" + opening + "{{ end }}"
        if asking != to_answer:
            to_answer = "{{ if eq (len (slice $.Messages $i)) 1 }}" + asking + "{{ else }}" + to_answer + "{{ end }}"
        return (
            opening
            + '{{ range $i, $m := .Messages }}{{ if eq $m.Role "user" }}{{ $m.Content }}'
            + to_answer
            + '{{ else if eq $m.Role "assistant" }}{{ $m.Content }}{{ if gt (len (slice $.Messages $i)) 1 }}'
            + go_text(self.to_user)
            + "{{ end }}{{ end }}{{ end }}"
        )


def write_modelfile(merged: Path, *, system: str | None) -> Path:
    """Write `merged/Modelfile` for `ollama create NAME -f merged/Modelfile`, and return its path.

    `merged` is a complete Hugging Face folder with its chat template as it shall be; `system` is the trained system
    prompt, or None. Raises UsageError when there is a Modelfile. What Ollama cannot be told is a warning.
    """
    path = merged / "Modelfile"
    if path.exists():
        raise UsageError(Problem(str(path), "is already there", "remove it, or export to a new folder"))
    write_atomic(path, modelfile(merged, system=system))
    return path


def modelfile(merged: Path, *, system: str | None) -> str:
    """The text of the Modelfile. FROM is `.`: Ollama reads it relative to the Modelfile, so the folder can be moved."""
    template = read_chat_template(merged)
    pieces = learn(template) if template else None
    lines = ["FROM ."]
    if pieces is None:
        what = "has no chat template" if template is None else "its chat template cannot be written as a Go template"
        fix = "no TEMPLATE was written, Ollama will choose one: compare its answers, or write TEMPLATE yourself"
        warn(Problem(str(merged), what, fix))
    elif template and "strftime_now" in template.source:
        warn(Problem(str(merged), "its chat template writes the date", "TEMPLATE writes today's, on every day"))
    if system and pieces:
        if pieces.before_system is None:
            warn(Problem(str(merged), "its chat template takes no system prompt", "no SYSTEM was written"))
            system = None
        else:
            system = _as_rendered(system, template)
            if not _can_be_quoted(system):  # then TEMPLATE says it, where every character can be written
                opening = f"{pieces.before_system}{system}{pieces.after_system}"
                pieces, system = replace(pieces, opening=opening), None
    if pieces:
        lines.append(f"TEMPLATE {quoted(_without_bos(pieces, merged).go_template())}")
    if system:
        if _can_be_quoted(system):
            lines.append(f"SYSTEM {quoted(system)}")
        else:
            warn(Problem(str(merged), "a Modelfile cannot hold this system prompt", "no SYSTEM was written"))
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(merged, pieces)]
    return "\n".join(lines) + "\n"


def learn(template: ChatTemplate) -> Pieces | None:
    """The pieces of `template`, if all that it renders is such a row of texts; else None."""
    system, user, answer, more = _MARKS
    turns = [_message("user", user), _message("assistant", answer), _message("user", more)]
    try:
        found = _between(template.render(turns), (user, answer, more))
        if found is None:
            return None
        pieces = Pieces(*found)
        try:
            found = _between(template.render([_message("system", system), *turns]), (system, user, answer, more))
        except NotEditable:  # it takes no system prompt
            found = None
        else:
            if found is None or found[2:] != (pieces.to_answer, pieces.to_user, pieces.asking):
                return None
            pieces = replace(pieces, before_system=found[0], after_system=found[1])
        if any(template.render(messages) != pieces.render(messages) for messages in tried(pieces)):
            return None
    except NotEditable:
        return None
    return pieces


def tried(pieces: Pieces) -> list[list[dict[str, str]]]:
    """The conversations that a TEMPLATE is tried on, each without a system prompt and, if it takes one, with one."""
    conversations = [
        [_message("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)] for texts in _TRIED
    ]
    if pieces.before_system is None:
        return conversations
    systems = ("You are Ada.", '你是"精衡",\n由叶博韬开发。')
    return conversations + [[_message("system", text), *turns] for text in systems for turns in conversations]


def go_text(text: str) -> str:
    """`text` between the actions of a Go template in a Modelfile: as it is, or as a string where that would not do."""
    if _can_be_quoted(text) and "{{" not in text and '"""' not in text and not text.endswith(("{", '"')):
        return text
    escaped = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    written = "".join(escaped.get(char) or (char if char.isprintable() else f"\\U{ord(char):08x}") for char in text)
    return f'{{{{ "{written}" }}}}'


def quoted(text: str) -> str:
    """`text` as an argument of a Modelfile, which knows no escapes; see `_can_be_quoted`."""
    return f'"""{text}"""'


def _can_be_quoted(text: str) -> bool:
    """Whether Ollama reads `text` in triple quotes back to the letter: it drops what does not print (such as the
    ideographic space), and stops at the first line that ends in triple quotes (its `parser/parser.go`)."""
    lines = f'"""{text}'.split("\n")
    early = any(
        line.rstrip().endswith('"""') and (len(line.rstrip()) > 5 or index) for index, line in enumerate(lines[:-1])
    )
    return not early and all(char.isprintable() or char in "\n\t" for char in text)


def _as_rendered(system: str, template: ChatTemplate | None) -> str:
    """`system` without outer blanks where the chat template cuts them off: Ollama would not."""
    question = _message("user", _MARKS[1])
    both = [[_message("system", text), question] for text in (system, system.strip())]
    same = template is not None and template.render(both[0]) == template.render(both[1])
    return system.strip() if same else system


def _between(text: str, marks: Sequence[str]) -> tuple[str, ...] | None:
    """What stands before, between and after `marks`, if each is there once and in this order."""
    if any(text.count(mark) != 1 for mark in marks):
        return None
    places = [text.index(mark) for mark in marks]
    if any(a > b for a, b in pairwise(places)):
        return None
    starts = [0, *(place + len(mark) for place, mark in zip(places, marks, strict=True))]
    return tuple(text[start:end] for start, end in zip(starts, [*places, len(text)], strict=True))


def _without_bos(pieces: Pieces, merged: Path) -> Pieces:
    """Without the leading token of a text where Ollama puts it there itself: where tokenizer_config.json says so."""
    config = read_json(merged / "tokenizer_config.json")
    bos = _token_text(config.get("bos_token"))
    if not (bos and config.get("add_bos_token")):
        return pieces
    before = pieces.before_system
    return replace(
        pieces,
        opening=pieces.opening.removeprefix(bos),
        before_system=None if before is None else before.removeprefix(bos),
    )


def _parameters(merged: Path, pieces: Pieces | None) -> list[tuple[str, object]]:
    """Names and values of PARAMETER lines: the stop strings, and the sampling of generation_config.json."""
    generation = read_json(merged / "generation_config.json")
    found: list[tuple[str, object]] = [("stop", f'"{text}"') for text in _stop_strings(merged, generation, pieces)]
    if generation.get("do_sample") is False:
        found.append(("temperature", 0))
    else:
        found += _numbers(generation, {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"})
    found += _numbers(generation, {"repetition_penalty": "repeat_penalty"})
    longest = read_json(merged / "config.json").get("max_position_embeddings")
    if isinstance(longest, int):
        found.append(("num_ctx", min(longest, LONGEST_CONTEXT)))
    return found


def _numbers(values: dict[str, Any], names: dict[str, str]) -> list[tuple[str, object]]:
    found = [(ollama, values.get(ours)) for ours, ollama in names.items()]
    return [(name, value) for name, value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _stop_strings(merged: Path, generation: dict[str, Any], pieces: Pieces | None) -> list[str]:
    """The tokens that end an answer, and those that stand between two turns, as text."""
    added = read_json(merged / "tokenizer.json").get("added_tokens") or []
    texts = {token["id"]: token["content"] for token in added}
    ends = generation.get("eos_token_id")
    found = [texts.get(end, "") for end in (ends if isinstance(ends, list) else [ends])]
    found.append(_token_text(read_json(merged / "tokenizer_config.json").get("eos_token")))
    if pieces:
        between = f"{pieces.to_user}{pieces.to_answer}"
        found += [text for text in sorted(texts.values()) if text in between and text not in _THINKING]
    return [text for text in dict.fromkeys(found) if text.strip() and '"' not in text and text.isprintable()]


def _token_text(value: object) -> str:
    """A special token as tokenizer_config.json writes it: a text, or an object with its `content`; else empty."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
