"""Words that ms-swift looks up in a table after loading everything: a misspelt one costs a minute, or the whole run."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import LORA_LIKE, Rule, given, runs_own_code, texts, tuner
from sft_kit.findings import Finding, Severity
from sft_kit.msswift.model_types import model_types
from sft_kit.msswift.words import unknown_word, words

_WORDS = ("tuner_type", "optimizer", "lr_scheduler_type", "attn_impl", "loss_scale", "loss_type", "eval_metric",
          "callbacks", "report_to", "deepspeed", "fsdp", "rope_scaling", "device_map", "agent_template",
          "init_weights")  # fmt: skip
_NICKNAMES = {
    "attn_impl": {"flash": "flash_attn", "fa2": "flash_attn", "flash_attention": "flash_attn", "xformers": "sdpa",
                  "flash-attn": "flash_attn", "flash_attn_2": "flash_attention_2"},
    "tuner_type": {"qlora": "lora", "freeze": "full", "dora": "lora", "sft": "lora", "pt": "full"},
    "report_to": {"tb": "tensorboard", "null": "none", "false": "none"},
    "lr_scheduler_type": {"cos": "cosine", "const": "constant"},
}  # fmt: skip
_FIXES = {
    ("tuner_type", "qlora"): "write tuner_type: lora, quant_method: bnb, quant_bits: 4",
    ("tuner_type", "dora"): "write tuner_type: lora, use_dora: true",
}


def unknown_words(facts: Facts) -> Iterator[Finding]:
    """A word that is in none of ms-swift's tables: KeyError or ValueError after the model is loaded, for the tuner and
    the loss scale after the data too [measured in 3.12.6 and 4.6.0: the parser takes any text].

    Not an error where the user's own code may register it. 4.x looks an agent template up only for rows with tools.
    """
    if runs_own_code(facts):
        return
    for key in _WORDS:
        if key == "init_weights" and tuner(facts) not in LORA_LIKE | {"bone"}:
            continue  # nobody reads it
        values = [] if isinstance(given(facts, key), dict) else texts(facts, key)
        for value in values:
            if key == "deepspeed" and value.endswith(".json"):
                continue  # a file; that it is there is checked elsewhere
            unknown = unknown_word(facts.installation, key, value)
            if unknown:
                wrong, allowed = unknown
                late = key == "agent_template" and facts.installation.generation == 4
                yield _finding(facts, key, wrong, allowed, "warning" if late else "error")


def _finding(facts: Facts, key: str, wrong: str, allowed: tuple[str, ...], severity: Severity) -> Finding:
    nickname = _NICKNAMES.get(key, {}).get(wrong.lower())
    lower = [word for word in allowed if word.lower() == wrong.lower()]
    close = [nickname] if nickname in allowed else lower or difflib.get_close_matches(wrong, allowed, 1, 0.6)
    if not allowed:
        fix = "give a JSON file"
    elif close:
        fix = f"did you mean {close[0]}?"
    else:
        fix = "one of " + ", ".join(allowed[:16]) + (", ..." if len(allowed) > 16 else "")
    message = f"ms-swift {facts.installation.version} knows no {wrong!r}"
    return Finding("unknown-word", severity, key, message, _FIXES.get((key, wrong.lower()), fix))


def unknown_model_words(facts: Facts) -> Iterator[Finding]:
    """model_type and template, after the names of other generations were translated: ValueError in ms-swift
    (swift/model/model_meta.py, swift/template/register.py), KeyError for a template in 3.x [measured]."""
    model = facts.model
    if model is None or runs_own_code(facts):
        return
    known = {
        "model_type": (facts.config.model_type, model.model_type, tuple(model_types(facts.installation))),
        "template": (facts.config.template, model.template, words(facts.installation).get("template", ())),
    }
    for key, (written, word, allowed) in known.items():
        if written and word and allowed and word not in allowed:
            yield _finding(facts, key, word, allowed, "error")


def trackers_with_none(facts: Facts) -> Iterator[Finding]:
    """`none` and `all` are words only when they stand alone (transformers/integrations/integration_utils.py:
    get_reporting_integration_callbacks raises for them in a list)."""
    trackers = texts(facts, "report_to")
    for word in ("none", "all"):
        if word in trackers and len(trackers) > 1:
            message = f"{word} has to stand alone; transformers refuses it in a list with others"
            yield Finding("mixed-trackers", "error", "report_to", message, f"write {word}, or only the others")


WORD_RULES: tuple[Rule, ...] = (unknown_words, unknown_model_words, trackers_with_none)
