"""How many tokens ms-swift will train a row with, counted without importing torch, transformers or ms-swift.

Owns the same steps as ms-swift's `Template.encode` in training, over the parts that `templates` read and the model's
own tokenizer.json: which texts a row becomes, which of them are joined before they are tokenized (those of equal loss
weight), and their number of tokens. Exact for templates of ms-swift's plain `Template` class with a tokenizer that
transformers takes from tokenizer.json as it is; a good estimate for others, and `exact` and `why` say so.

tests/msswift/test_encode.py compares the counts with the rows that ms-swift's own pipeline encodes, row for row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sft_kit.data.text import is_cjk
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.install import Generation, Installation
from sft_kit.msswift.model_choice import template_of
from sft_kit.msswift.templates import PLAIN_CLASS, Prompt, Template, dated, templates
from sft_kit.resources import user_path

Conversation = Sequence[tuple[str, str]]
"""(role, content) pairs; the roles are system, user, assistant, tool_call, tool_response."""

_ROWS_AT_ONCE = 500  # bounds memory: a tokenized text is some hundred times its size while it is counted
_REPEATED = 200  # characters up to which a text is remembered: prompts and system prompts come back, answers seldom
_TALK = {"user", "assistant"}
_STRATEGIES = {"default", "last_round", "all"}
_LENGTH_KEYS = ("seq_length", "max_position_embeddings", "n_positions", "model_max_length", "seq_len", "max_seq_len",
                "max_sequence_length", "max_seq_length")  # fmt: skip
_LANGUAGE_MODEL = ("text_config", "llm_config", "language_config", "thinker_config")
# The template of a row without a chat template, as `TemplateMeta.to_generate_template_meta` makes it.
_NO_CHAT: Mapping[str, Any] = {
    "prefix": (), "system_prefix": None, "prompt": ("{{QUERY}}",), "system_prompt": None, "chat_sep": None,
    "suffix": (("eos_token_id",),), "default_system": None, "auto_add_bos": True, "is_thinking": False,
    "non_thinking_prefix": "",
}  # fmt: skip
# What transformers 5's Qwen2Tokenizer puts in place of whatever tokenizer.json says.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GENERIC_TOKENIZERS = {"", "PreTrainedTokenizer", "TokenizersBackend"}


@dataclass(frozen=True)
class LossWeights:
    """ms-swift's `loss_scale`, as far as it decides which texts are tokenized together.

    `strategy` says which parts train; each of `patterns` splits the parts that do (pattern -> weight), one after the
    other.
    """

    strategy: str
    patterns: tuple[Mapping[str, float], ...]

    def of(self, text: str) -> list[tuple[str, float]]:
        """`text` in the pieces that get weights of their own."""
        pieces = [(text, 1.0)]
        for patterns in self.patterns:
            pieces = [(part, weight * each) for piece, weight in pieces for part, each in _split(piece, patterns)]
        return pieces


def _split(text: str, patterns: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """As ms-swift's `split_str_parts_by(..., regex_mode=True)` and the weights of what each part begins with."""
    for part in re.split("|".join(f"({pattern})" for pattern in patterns), text, flags=re.DOTALL):
        if part:
            yield part, next((weight for p, weight in patterns.items() if re.match(p, part, re.DOTALL)), 1.0)


@dataclass(frozen=True)
class _Options:
    """The `swift sft` arguments that change the texts of a row."""

    weights: LossWeights
    add_non_thinking_prefix: bool
    keeps_old_thoughts: bool


class Lengths:
    """Counts tokens for one model, template and set of arguments; made by `lengths_of`."""

    def __init__(
        self,
        template: Template | None,
        options: _Options,
        generation: Generation,
        tokenizer: _Tokenizer,
        *,
        max_length: int | None,
        doubts: Sequence[str],
    ) -> None:
        self.template = template.name if template else None
        """The template's name; None when it is not known which one ms-swift takes."""
        self.max_length = max_length
        """Of the config, else the model's own; None when neither says."""
        self._doubts = doubts
        self._template = template
        self._options = options
        self._generation = generation
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}
        self._now = datetime.now()
        stop = template.suffix[-1] if template and template.suffix else ""
        stops = [*(template.stop_words if template else ()), stop.strip() if isinstance(stop, str) else "",
                 tokenizer.eos_token]  # fmt: skip
        self._stop_words = tuple(word for word in stops if isinstance(word, str) and word)

    @cached_property
    def why(self) -> str:
        """Why counts are estimates; empty when they are exact. The first use of a counter reads tokenizer.json."""
        needs_bos = self._template is not None and self._template.auto_add_bos
        return "; ".join([*self._doubts, *self._tokenizer.doubts(needs_bos=needs_bos)])

    @property
    def exact(self) -> bool:
        """Whether counts equal the length of ms-swift's `input_ids` for every row that `covers` accepts."""
        return not self.why

    def covers(self, messages: Conversation) -> bool:
        """Whether the row is plain talk that ends with an answer: tool calls are formatted by ms-swift's agents."""
        talk = [role for role, _ in messages[_has_system(messages) :]]
        return bool(talk) and talk[-1] == "assistant" and _TALK.issuperset(talk)

    def count(self, messages: Conversation, system: str | None = None) -> int:
        """Tokens of the row before any truncation. `system`: the config's, for rows that bring none."""
        return self.count_many([messages], system)[0]

    def count_many(self, rows: Iterable[Conversation], system: str | None = None) -> list[int]:
        """`count` of each row; equal texts are tokenized once, the others many at a time."""
        default, all_rows = _system_of_config(system), iter(rows)
        totals: list[int] = []
        while batch := list(islice(all_rows, _ROWS_AT_ONCE)):
            rendered = [self._texts(messages, default) for messages in batch]
            new = list({text for texts, _ in rendered for text in texts if text not in self._known})
            counts = dict(zip(new, self._tokenizer.lengths(new), strict=True))
            self._known.update((text, count) for text, count in counts.items() if len(text) <= _REPEATED)
            counts |= {text: self._known[text] for texts, _ in rendered for text in texts if text in self._known}
            totals += [fixed + sum(counts[text] for text in texts) for texts, fixed in rendered]
        return totals

    @cached_property
    def _around(self) -> tuple[int, int]:
        """Tokens that `auto_add_bos` puts before and after a row."""
        return self._tokenizer.around() if self._template and self._template.auto_add_bos else (0, 0)

    @cached_property
    def _marks(self) -> re.Pattern[str] | None:
        return self._tokenizer.marks(self._template) if self._template else None

    def _texts(self, messages: Conversation, default_system: str | None) -> tuple[list[str], int]:
        """The texts that are tokenized each on its own, and the number of tokens that are there without a text."""
        if self._template is None:
            return [content for _, content in messages], 4 * len(messages)
        joined: list[str] = []
        texts: list[str] = []
        fixed, weight = self._around[1], 0.0
        for part, own_weight in self._weighted(messages, default_system):
            if isinstance(part, str) and own_weight == weight:
                joined.append(part)
                continue
            if joined:
                texts.append("".join(joined))
            joined, weight = [], own_weight
            if isinstance(part, str):
                joined = [part]
            else:
                fixed += part
        between: list[str] = []
        for text in [*texts, "".join(joined)]:
            parts = self._marks.split(text) if self._marks else [text]
            between += parts[::2]
            fixed += len(parts) // 2
        return between, fixed

    def _weighted(self, messages: Conversation, default_system: str | None) -> Iterator[tuple[str | int, float]]:
        """The row's parts in order with their loss weights: a text, or how many token ids stand there."""
        template, weights = self._template, self._options.weights
        assert template is not None  # noqa: S101 (the only caller has asked)
        own = messages[0][1] if _has_system(messages) else None
        system = own if own is not None else default_system if default_system is not None else template.default_system
        turns = self._turns(messages[_has_system(messages) :], template)
        everything = weights.strategy == "all"

        def other(
            prompt: Prompt, query: str | None = None, number: int | None = None
        ) -> Iterator[tuple[str | int, float]]:
            for part in prompt:
                if isinstance(part, tuple):
                    yield len(part), float(everything)
                elif text := self._filled(part, system, query, number):
                    yield from weights.of(text) if everything else [(text, 0.0)]

        bos, eos = self._around
        if bos:
            yield bos, float(everything)
        yield from other(template.prefix if not system or template.system_prefix is None else template.system_prefix)
        last = len(turns) - 1
        for number, (query, answers) in enumerate(turns):
            at_end = number == last and template.system_prompt is not None
            yield from other(
                template.system_prompt if at_end and template.system_prompt else template.prompt, query, number
            )
            trained = weights.strategy != "last_round" or number == last
            for answer in answers:
                yield from weights.of(answer) if trained else [(answer, 0.0)]
            if number < last:
                yield from other(template.chat_sep or ())
            elif answers and not eos and not answers[-1].endswith(self._stop_words):
                for part in template.suffix:
                    if isinstance(part, tuple):
                        yield len(part), 1.0
                    else:
                        yield from weights.of(part)

    def _filled(self, part: str, system: str | None, query: str | None, number: int | None) -> str:
        values = {"{{SYSTEM}}": system, "{{QUERY}}": query}
        if number is not None:
            values |= {"{{ROUND0}}": str(number), "{{ROUND1}}": str(number + 1)}
        text = dated(part, self._now)
        for mark, value in values.items():
            if value is not None and mark in text:
                text = text.replace(mark, value)
        return text

    def _turns(self, talk: Conversation, template: Template) -> list[tuple[str, list[str]]]:
        """(query, answers) pairs. Neighbours of one role are one turn; 4.x keeps its answers apart until the end."""
        merged: list[tuple[bool, list[str]]] = []
        for role, content in talk:
            answers = role in ("assistant", "tool_call")
            if merged and merged[-1][0] == answers:
                merged[-1][1].append(content)
            else:
                merged.append((answers, [content]))
        if self._generation == 3:
            merged = [(answers, ["".join(texts)]) for answers, texts in merged]
        self._think(merged, template)
        if merged and merged[0][0]:
            merged.insert(0, (False, [""]))
        if len(merged) % 2:
            merged.append((True, []))
        if template.chat_sep is None:
            merged = merged[-2:]
        queries, answers_of = merged[::2], merged[1::2]
        return [("".join(query), answers) for (_, query), (_, answers) in zip(queries, answers_of, strict=True)]

    def _think(self, merged: list[tuple[bool, list[str]]], template: Template) -> None:
        """Add the empty thought of a hybrid model's answer, and drop old thoughts where ms-swift does."""
        options, prefix = self._options, template.non_thinking_prefix
        last_query = max((index for index, (answers, _) in enumerate(merged) if not answers), default=-1)
        only_last = options.weights.strategy == "last_round" and not template.preserve_thinking
        for index, (answers, texts) in enumerate(merged):
            if not answers:
                continue
            if prefix and options.add_non_thinking_prefix and index >= (last_query if only_last else -1):
                texts[0] = texts[0] if texts[0].startswith(("<think>", prefix)) else prefix + texts[0]
            if not options.keeps_old_thoughts and index < last_query:
                texts[0] = template.history_thinking_prefix + texts[0].split("</think>")[-1].strip()


def lengths_of(installation: Installation, model: str, folder: Path | None, values: Mapping[str, Any]) -> Lengths:
    """The counter for `model` (as ms-swift is told of it) whose tokenizer files lie in `folder` (None: not here).

    `values` are the run's `swift sft` arguments under their 4.x names. Raises MissingError only for an ms-swift whose
    source is not laid out as the versions we know.
    """
    name = template_of(
        installation, model, model_type=values.get("model_type"), template=values.get("template"), folder=folder
    )
    template = templates(installation).get(name) if name else None
    doubts = [] if template else [f"it is not known which template {model} gets; set template"]
    if template and template.class_name != PLAIN_CLASS:
        doubts.append(f"template {template.name} has rules of its own ({template.class_name})")
    if template and values.get("use_chat_template") is False:
        template = replace(template, **_NO_CHAT)
    if values.get("template_backend") == "jinja":
        doubts.append("template_backend jinja renders the tokenizer's own chat template")
    if values.get("new_special_tokens"):
        doubts.append("new_special_tokens change the tokenizer")
    weights = _loss_weights(installation, str(values.get("loss_scale") or "default"), template, values)
    if weights is None:
        doubts.append(f"loss_scale {values.get('loss_scale')} splits texts in a way of its own")
        weights = LossWeights("default", ())
    options = _Options(
        weights=weights,
        add_non_thinking_prefix=values.get("add_non_thinking_prefix") is not False,
        keeps_old_thoughts=_keeps_old_thoughts(installation.generation, template, weights.strategy, values),
    )
    tokenizer = _Tokenizer(folder, _transformers_major(installation))
    max_length = values.get("max_length") or (_model_length(folder) if folder else None)
    return Lengths(template, options, installation.generation, tokenizer, max_length=max_length, doubts=doubts)


def _has_system(messages: Conversation) -> bool:
    return bool(messages) and messages[0][0] == "system"


def _system_of_config(system: str | None) -> str | None:
    """What ms-swift makes of `system`: a .txt file is read, and a backslash with n is a new line."""
    if system is None or not system.endswith(".txt"):
        return None if system is None else system.replace("\\n", "\n")
    try:
        return user_path(system).read_text(encoding="utf-8")
    except OSError:
        return ""  # ms-swift stops there; who checks the config says so


def _keeps_old_thoughts(
    generation: Generation, template: Template | None, strategy: str, values: Mapping[str, Any]
) -> bool:
    """Whether answers before the last keep what stands before `</think>` (both generations' rules for training)."""
    if template is None or values.get("use_chat_template") is False:
        return True
    if generation == 4:
        for said in (values.get("preserve_thinking"), template.preserve_thinking):
            if said is not None:
                return bool(said)
    return not (template.is_thinking or values.get("enable_thinking")) or strategy != "last_round"


def _loss_weights(
    installation: Installation, loss_scale: str, template: Template | None, values: Mapping[str, Any]
) -> LossWeights | None:
    """The weights that `loss_scale` names; None for those that ms-swift splits by the query or by keywords."""
    hybrid = template is not None and template.is_thinking and template.non_thinking_prefix
    if (
        installation.generation == 4
        and hybrid
        and not values.get("disable_ignore_empty_think")
        and "ignore_empty_think" not in loss_scale
    ):
        loss_scale += "+ignore_empty_think"
    first, *rest = loss_scale.split("+")
    strategy, names = (first, rest) if first in _STRATEGIES else ("default", [first, *rest])
    place = "loss_scale/config" if installation.generation == 4 else "plugin/loss_scale/config"
    found = []
    for name in names:
        if name in ("base", "-"):
            continue
        patterns = read_json(installation.package / place / f"{name}.json")
        if not patterns or not all(isinstance(weight, list) and len(weight) == 1 for weight in patterns.values()):
            return None
        found.append({pattern: float(weight[0]) for pattern, weight in patterns.items()})
    return LossWeights(strategy, tuple(found))


def _model_length(folder: Path) -> int | None:
    """The longest row the model takes, by ms-swift's keys of config.json."""
    config = read_json(folder / "config.json")
    parts = [config, *(config[key] for key in _LANGUAGE_MODEL if isinstance(config.get(key), dict))]
    found = [next((part[key] for part in parts if isinstance(part.get(key), int)), None) for key in _LENGTH_KEYS]
    return min((length for length in found if length is not None), default=None)


def _transformers_major(installation: Installation) -> int:
    infos = list(installation.transformers_package.parent.glob("transformers-*.dist-info"))
    number = infos[0].name.removeprefix("transformers-").partition(".")[0] if infos else ""
    return int(number) if number.isdigit() else 5


class _Tokenizer:
    """The tokenizer.json of a folder, read when it is first needed; without one, a guess by characters."""

    def __init__(self, folder: Path | None, transformers_major: int) -> None:
        self._folder = folder
        self._major = transformers_major
        self._config = read_json(folder / "tokenizer_config.json") if folder else {}
        self._wrong = ""

    @cached_property
    def _loaded(self) -> Any:
        """A `tokenizers.Tokenizer`, or None with the reason in `_wrong`."""
        file = self._folder / "tokenizer.json" if self._folder else None
        if file is None or not file.is_file():
            self._wrong = "the model's tokenizer.json is not on this machine"
            return None
        from tokenizers import Tokenizer

        try:
            loaded = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
            self._wrong = f"tokenizer.json cannot be read: {error}"
            return None
        loaded.no_truncation()
        loaded.no_padding()
        return loaded

    @property
    def eos_token(self) -> str:
        token = self._config.get("eos_token")
        return str(token.get("content", "") if isinstance(token, dict) else token or "")

    def doubts(self, *, needs_bos: bool) -> list[str]:
        """Why transformers may tokenize otherwise than tokenizer.json says."""
        if self._loaded is None:
            return [self._wrong]
        found = []
        if self._config.get("auto_map"):
            found.append("the tokenizer is Python code of the model's own")
        elif self._major >= 5 and not self._is_kept_by_transformers_5():
            found.append(f"transformers 5 builds {self._config.get('tokenizer_class')} anew, not from tokenizer.json")
        if self._config.get("add_prefix_space") is not None and self._class() == "LlamaTokenizer":
            found.append("add_prefix_space makes transformers convert the tokenizer anew")
        said = self._config.get("add_bos_token"), self._config.get("add_eos_token")
        if needs_bos and any(
            want is not None and want != bool(has) for want, has in zip(said, self.around(), strict=True)
        ):
            found.append("tokenizer_config.json and tokenizer.json disagree about bos and eos")
        return found

    def _class(self) -> str:
        return str(self._config.get("tokenizer_class") or "").removesuffix("Fast")

    def _is_kept_by_transformers_5(self) -> bool:
        """Classes with a rule of their own get it whatever the file says; every tokenizer of a qwen2 model is one."""
        model_type = read_json((self._folder or Path()) / "config.json").get("model_type")
        kind = "Qwen2Tokenizer" if model_type == "qwen2" else self._class()
        if kind in _GENERIC_TOKENIZERS:
            return True
        if kind != "Qwen2Tokenizer":
            return False
        pre_tokenizer = json.loads(self._state("pre_tokenizer") or b"{}")
        steps = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
        return [step.get("type") for step in steps] == ["Split", "ByteLevel"] and (
            steps[0].get("pattern") == {"Regex": _QWEN2_SPLIT}
        )

    def around(self) -> tuple[int, int]:
        """Special tokens before and after a text, as `auto_add_bos` finds them: around the single token of `a`."""
        if self._loaded is None:
            return 0, 0
        alone = self._loaded.encode("a", add_special_tokens=False).ids
        within = self._loaded.encode("a").ids
        if len(alone) != 1 or alone[0] not in within:
            return 0, 0
        before = within.index(alone[0])
        return before, len(within) - before - 1

    def marks(self, template: Template) -> re.Pattern[str] | None:
        """The special tokens of a template's texts at which they can be cut before they are tokenized, so that what
        stands between them (`assistant`, a system prompt) is tokenized once for all rows. None where a cut could change
        what comes after it: a tokenizer that puts a space before a text.
        """
        if self._loaded is None or re.search(rb"Metaspace|\"add_prefix_space\":true", self._state("pre_tokenizer")):
            return None
        if b"Prepend" in self._state("normalizer"):
            return None
        prompts = [template.prefix, template.system_prefix, template.prompt, template.chat_sep, template.suffix]
        text = "".join(part for prompt in prompts if prompt for part in prompt if isinstance(part, str))
        tokens = self._loaded.get_added_tokens_decoder().values()
        plain = [t.content for t in tokens if not (t.normalized or t.lstrip or t.rstrip or t.single_word)]
        used = [token for token in plain if token in text]
        alone = [token for token in used if sum(token in other.content for other in tokens) == 1]
        return re.compile(f"({'|'.join(map(re.escape, alone))})") if alone else None

    def _state(self, part: str) -> bytes:
        """A part of the tokenizer as its JSON text."""
        found = getattr(self._loaded, part)
        return bytes(found.__getstate__()) if found else b""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        if self._loaded is None:
            return [_guess(text) for text in texts]
        encode: Callable[..., list[Any]] = getattr(self._loaded, "encode_batch_fast", self._loaded.encode_batch)
        return [len(encoding) for encoding in encode(texts, add_special_tokens=False)]


def _guess(text: str) -> int:
    """Tokens by characters, as today's vocabularies have them: about 0.7 for a Chinese character, 0.25 for others."""
    chinese = 0 if text.isascii() else sum(map(is_cjk, text))
    return math.ceil(0.7 * chinese + 0.25 * (len(text) - chinese))
