"""Rules about how rows reach the model: attention and packing, streaming, lengths, the loader, thinking templates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import Rule, given, model_config, number, rows_a_step, runs_own_code, switch, texts
from sft_kit.errors import MissingError
from sft_kit.findings import Finding
from sft_kit.identity.claims import claimed_identity
from sft_kit.msswift.model_choice import choose
from sft_kit.msswift.templates import Template, templates

_FLASH = {
    4: ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4"),
    3: ("flash_attn", "flash_attention_2", "flash_attention_3"),
}
"""Generation -> what SftArguments (3.x TrainArguments)._check_padding_free lets pass; no hub kernel is among them."""
_CURLY = ("“”", "””", "‘’", "’’", "＂＂")
_LENGTHS = ("seq_length", "max_position_embeddings", "n_positions", "model_max_length", "seq_len", "max_seq_len",
            "max_sequence_length", "max_seq_length")  # fmt: skip
"""Keys of config.json that ms-swift takes the least of (HfConfigFactory.get_max_model_len)."""


def flash_attention(facts: Facts) -> Iterator[Finding]:
    """packing and padding_free put rows end to end, which only flash attention keeps apart; attn_impl must be written,
    for sdpa is the default (_check_padding_free; ms-swift#5690) [measured, 3.12.6, 4.6.0]."""
    key = "packing" if switch(facts, "packing") else "padding_free" if switch(facts, "padding_free") else None
    attention = facts.config.attn_impl
    if key is None or attention in _FLASH[facts.installation.generation]:
        return
    why = (
        f"attn_impl {attention} mixes the rows up" if attention else "attn_impl is not set, and sdpa mixes the rows up"
    )
    message = f"needs flash attention ({why}); ms-swift refuses it"
    fix = f"attn_impl: flash_attn (needs the package flash-attn), or {key}: false"
    yield Finding("packing-without-flash-attention", "error", key, message, fix)


def curly_quotes(facts: Facts) -> Iterator[Finding]:
    """Quotation marks of a web page are text to YAML: they are trained with the prompt [measured, 4.6.0]."""
    for key in ("system", "model_name", "model_author", "run_name"):
        value = given(facts, key)
        if isinstance(value, str) and len(value) > 2 and (value[0] + value[-1]) in _CURLY:
            message = f"stands in {value[0]} {value[-1]}, no quotation marks to YAML: they become part of the text"
            yield Finding("curly-quotes", "warning", key, message, 'write "...", or no quotation marks')


def lazy_tokenize(facts: Facts) -> Iterator[Finding]:
    """BaseArguments._init_lazy_tokenize [measured, 3.12.6, 4.6.0]."""
    if switch(facts, "lazy_tokenize"):
        other = next((key for key in ("packing", "streaming") if switch(facts, key)), None)
        if other:
            message = f"cannot be used with {other}; ms-swift refuses it"
            yield Finding("lazy-tokenize", "error", "lazy_tokenize", message, "lazy_tokenize: false, or leave it out")


def streaming(facts: Facts) -> Iterator[Finding]:
    """A stream has no length: transformers' Trainer wants max_steps (ms-swift#6827), ms-swift's loader groups nothing,
    and a cached data set cannot be streamed (SwiftSft._prepare_dataset)."""
    if not switch(facts, "streaming"):
        return
    if (facts.config.max_steps or 0) <= 0:
        ignored = "num_train_epochs" if facts.config.num_train_epochs is not None else "max_epochs"
        extra = f"; {ignored} is not enough" if given(facts, ignored) is not None else ""
        message = f"a stream has no length: without max_steps the trainer refuses to start{extra}"
        yield Finding("streaming-without-steps", "error", "streaming", message, _steps_of_stream(facts))
    for key in ("cached_dataset", "cached_val_dataset"):
        if texts(facts, key):
            message = "a data set that is tokenised already cannot be streamed; ms-swift refuses it"
            yield Finding("streaming-cached", "error", key, message, "streaming: false")
    if facts.config.group_by_length:
        message = "has no effect on a stream, whose lengths are not known"
        yield Finding("no-effect", "warning", "group_by_length", message, "remove it, or streaming: false")


def _steps_of_stream(facts: Facts) -> str:
    if facts.rows is None:
        return "add max_steps: rows x epochs / rows a step; or streaming: false"
    steps = max(1, round(facts.rows * (facts.config.num_train_epochs or 3) / rows_a_step(facts)))
    return f"add max_steps: {steps}; or streaming: false, which {facts.rows} rows do not need"


def loader(facts: Facts) -> Iterator[Finding]:
    """transformers/training_args.py for the prefetch factor [measured, both], ms-swift's BatchSamplerShard for the
    other ("shuffle must be True when group_by_length is True")."""
    prefetch = number(facts, "dataloader_prefetch_factor")
    if prefetch is not None and facts.config.dataloader_num_workers == 0:
        message = "needs processes that fetch, and dataloader_num_workers is 0; transformers refuses it"
        fix = "remove it, or dataloader_num_workers: 1"
        yield Finding("prefetch-without-workers", "error", "dataloader_prefetch_factor", message, fix)
    ordered = not switch(facts, "train_dataloader_shuffle", default=True)
    if facts.config.group_by_length and ordered and not switch(facts, "streaming"):
        message = "groups rows by shuffling, and train_dataloader_shuffle is false; ms-swift refuses it after the data"
        yield Finding("group-without-shuffle", "error", "group_by_length", message, "group_by_length: false")


def split_rows(facts: Facts) -> Iterator[Finding]:
    """SwiftSft._encode_dataset: splitting long rows is for plain text, and refused with a chat template."""
    if facts.config.truncation_strategy == "split" and switch(facts, "use_chat_template", default=True):
        message = "splits plain text, not conversations; ms-swift refuses it after loading the model"
        yield Finding("split-chat", "error", "truncation_strategy", message, "truncation_strategy: delete, or left")


def longer_than_model(facts: Facts) -> Iterator[Finding]:
    """max_length over the positions that the model was trained for. Does not fail: rotary positions go on for ever."""
    limit = _positions(facts)
    wanted = facts.config.max_length
    if wanted is not None and limit is not None and wanted > limit:
        message = f"the model was made for {limit:,} tokens; what lies beyond is noise to it"
        fix = f"max_length: {limit}, or rope_scaling: yarn with max_model_len: {wanted}"
        yield Finding("max-length-over-model", "warning", "max_length", message, fix)


def _positions(facts: Facts) -> int | None:
    """What config.json says, with its own rope scaling, or the longer context that the config asks for."""
    asked = number(facts, "max_model_len")
    if asked:
        return int(asked)
    config = model_config(facts)
    found = [length for length in map(config.get, _LENGTHS) if isinstance(length, int)]
    if not found:
        return None
    scaling = facts.config.rope_scaling or config.get("rope_scaling") or config.get("rope_parameters")
    if isinstance(scaling, str):
        return None  # JSON text or a file: not looked into
    if not isinstance(scaling, dict) or "factor" not in scaling:
        return min(found)
    factor, base = scaling["factor"], scaling.get("original_max_position_embeddings") or min(found)
    known = isinstance(factor, (int, float)) and isinstance(base, int) and math.isfinite(factor)
    return max(min(found), int(base * factor)) if known else None


def rope_without_length(facts: Facts) -> Iterator[Finding]:
    """ModelArguments._init_rope_scaling asserts that a factor or max_model_len is there [measured, 3.12.6, 4.6.0]."""
    scaling = facts.config.rope_scaling
    if scaling is None or number(facts, "max_model_len"):
        return
    kind = scaling if isinstance(scaling, str) else scaling.get("rope_type", scaling.get("type", "default"))
    known = kind in ("linear", "dynamic", "yarn")
    if known and (isinstance(scaling, str) or "factor" not in scaling):
        message = "does not say how far: without a factor ms-swift needs max_model_len, and stops"
        fix = f"add max_model_len: {facts.config.max_length or 32768}, the length to reach"
        yield Finding("rope-without-length", "error", "rope_scaling", message, fix)


def thinking(facts: Facts) -> Iterator[Finding]:
    """Identity rows do not think. Hybrid templates (Qwen3) put an empty thought before such answers themselves
    (Template._add_non_thinking_prefix, in both generations); those of models that only think (Qwen3-Thinking-2507, QwQ)
    cannot, and open every answer with `<think>` when asked, which no row shows them."""
    template = _template(facts)
    if facts.config.identity is None or template is None or not template.is_thinking:
        return
    place = "template" if facts.config.template else "model"
    if not template.non_thinking_prefix:
        message = f"{template.name} always thinks first, and identity rows answer at once: the identity may not show"
        yield Finding("thinking-only", "warning", place, message, "take the Instruct or hybrid model of the family")
    elif not switch(facts, "add_non_thinking_prefix", default=True):
        message = f"without it the answers lack even the empty thought that {template.name} puts before them in use"
        fix = "leave it out: ms-swift then adds the empty thought that the model expects"
        yield Finding("no-thinking-prefix", "warning", "add_non_thinking_prefix", message, fix)


def _template(facts: Facts) -> Template | None:
    """The template that ms-swift takes, if that is certain."""
    model, directory = facts.model, facts.directory
    if model is None or runs_own_code(facts):
        return None
    name = model.template
    try:
        if name is None:
            config, args = (directory.config, directory.args) if directory else (None, {})
            name = choose(facts.installation, model.source, config, args, model.model_type, None).template
        return templates(facts.installation).get(name) if name else None
    except MissingError:
        return None


def foreign_system(facts: Facts) -> Iterator[Finding]:
    """A system prompt that says who the model is, and not who it shall be: it is trained, and asked for, beside the new
    name (row > `system` > the template's own: swift/template/base.py)."""
    identity, system = facts.config.identity, facts.config.system
    if identity is None or not system:
        return
    names = [text for key in ("name", "author") for text in identity.per_language(key).values()]
    claimed = claimed_identity(system.replace("You are", "I am").replace("你是", "我是"), names)
    if claimed and not any(name.lower() in system.lower() for name in names):
        message = f"says that the model is {claimed}, in every row that brings no system prompt"
        fix = "name it as identity does, or leave the name out"
        yield Finding("foreign-system", "warning", "system", message, fix)


DATA_RULES: tuple[Rule, ...] = (
    curly_quotes, flash_attention, lazy_tokenize, streaming, loader, split_rows, longer_than_model,
    rope_without_length, thinking, foreign_system,
)  # fmt: skip
