"""Rules about what is trained: the LoRA keys against each other, the tuner and the modules that the model has."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import LORA_LIKE, Rule, given, model_config, number, switch, texts, tuner
from sft_kit.findings import Finding
from sft_kit.msswift.arguments import suggest

_LORA_KEYS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_dtype", "use_rslora", "use_dora", "target_modules",
              "target_regex", "modules_to_save", "init_weights", "lorap_lr_ratio")  # fmt: skip
_FULL_KEYS = ("freeze_parameters", "freeze_parameters_regex", "freeze_parameters_ratio", "trainable_parameters",
              "trainable_parameters_regex")  # fmt: skip
_GROUPS = frozenset({"all-linear", "all-embedding", "all-norm", "all-router"})
_TEXT_MODELS = frozenset({
    "GemmaForCausalLM", "Gemma2ForCausalLM", "InternLM2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM",
    "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
})  # fmt: skip
"""Text-only dense models whose modules are named in memory as they are in their files."""
VLLM_LARGEST_RANK = 512
"""What vLLM's --max-lora-rank can be at most (vllm/config/lora.py: MaxLoRARanks, documentation of 0.14)."""


def keys_of_other_tuner(facts: Facts) -> Iterator[Finding]:
    """LoRA's keys under full tuning, and those of full tuning under LoRA, are read by nobody
    (TunerMixin.prepare_model, prepare_adapter)."""
    kind = tuner(facts)
    if kind == "full":
        unread = [key for key in _LORA_KEYS if given(facts, key) not in (None, False, [])]
    elif kind in LORA_LIKE:
        unread = [key for key in _FULL_KEYS if given(facts, key) not in (None, 0, 0.0, [])]
    else:
        return
    if unread:
        others = f", and so {'have' if len(unread) > 2 else 'has'} {', '.join(unread[1:])}" if unread[1:] else ""
        fix = "remove them" if unread[1:] else "remove it"
        message = f"has no effect under tuner_type: {kind}{others}"
        yield Finding("no-effect", "warning", unread[0], message, f"{fix}, or change tuner_type")


def frozen_text_model(facts: Facts) -> Iterator[Finding]:
    """freeze_llm and its kin are read for multimodal models only (TunerArguments._init_multimodal_full,
    get_target_modules): a text model asked to be frozen is trained all the same."""
    if _text_model(facts) and facts.config.freeze_llm:
        message = "has no effect on a text-only model: it is trained all the same"
        yield Finding("no-effect", "warning", "freeze_llm", message, "remove it")


def _text_model(facts: Facts) -> bool:
    config = model_config(facts)
    architectures = config.get("architectures")
    known = isinstance(architectures, list) and bool(_TEXT_MODELS.intersection(map(str, architectures[:1])))
    return known and not any(key in config for key in ("vision_config", "audio_config", "visual"))


def joined_module_names(facts: Facts) -> Iterator[Finding]:
    """`q_proj,v_proj` is one name to peft: "Target modules {'q_proj,v_proj'} not found" (ms-swift#6516)."""
    for key in ("target_modules", "modules_to_save"):
        joined = next((text for text in texts(facts, key) if "," in text and not set(text) & set("()|^$")), None)
        if joined and tuner(facts) != "full":
            names = ", ".join(part.strip() for part in joined.split(",") if part.strip())
            message = f"{joined!r} is one name to peft, which no module has"
            yield Finding("joined-modules", "error", key, message, f"{key}: [{names}]")


def unknown_modules(facts: Facts) -> Iterator[Finding]:
    """Names that no module of the model has: peft raises where none is found, and passes over the others in silence
    (peft/tuners/tuners_utils.py: inject_adapter). Judged for dense text models, by the names in their weight files."""
    names = [text for text in texts(facts, "target_modules") if text not in _GROUPS]
    for name in names:
        meant = name.lower().replace("_", "-").replace(" ", "-")
        if meant in _GROUPS and tuner(facts) in LORA_LIKE:  # all_linear: no model has such a module
            message = f"the model has no module {name}; peft refuses that after loading the model"
            yield Finding("unknown-module", "error", "target_modules", message, f"did you mean {meant}?")
            return
    if not names or facts.directory is None or not _text_model(facts) or tuner(facts) not in LORA_LIKE:
        return
    modules = facts.directory.modules
    if not modules or given(facts, "target_regex") or any("," in name or set(name) & set("()|^$*\\") for name in names):
        return
    there = {*modules, "lm_head"}  # of a tied head there is no weight, but there is a module
    lost = [name for name in names if name.rpartition(".")[2] not in there]
    if not lost:
        return
    close = suggest(lost[0], there)
    fix = f"did you mean {close}?" if close else f"all-linear, or of: {', '.join(sorted(there))}"
    none = len(lost) == len(texts(facts, "target_modules"))
    what = "; peft refuses that after loading the model" if none else "; peft passes over it and says nothing"
    message = f"the model has no module {', '.join(lost)}{what}"
    yield Finding("unknown-module", "error" if none else "warning", "target_modules", message, fix)


def unwritten_module(facts: Facts) -> Iterator[Finding]:
    """modules_to_save that the model has not: peft trains nothing more, and says nothing."""
    names = [text for text in texts(facts, "modules_to_save") if text not in _GROUPS and "," not in text]
    if not names or facts.directory is None or not _text_model(facts) or tuner(facts) not in LORA_LIKE:
        return
    there = {name for full in facts.directory.tensors for name in full.split(".")} | {"lm_head", "v_head", "score"}
    lost = [name for name in names if name.rpartition(".")[2] not in there]
    if facts.directory.tensors and lost:
        message = f"the model has no module {', '.join(lost)}; peft passes over it and says nothing"
        yield Finding(
            "unknown-module", "warning", "modules_to_save", message, "embed_tokens and lm_head are the usual ones"
        )


def loftq(facts: Facts) -> Iterator[Finding]:
    """peft's LoraConfig: "loftq_config must be specified when init_lora_weights is 'loftq'", and ms-swift has no
    argument for it (prepare_adapter), in both generations."""
    if str(given(facts, "init_weights")) == "loftq" and tuner(facts) == "lora":
        message = "needs a loftq_config, for which ms-swift has no argument; peft refuses it after loading the model"
        yield Finding("loftq", "error", "init_weights", message, "init_weights: pissa, or leave it out")


def lora_scale(facts: Facts) -> Iterator[Finding]:
    """The factor on the adapter's output, alpha / rank (rsLoRA: alpha / sqrt(rank)); ms-swift's own is 32 / 8 = 4."""
    if tuner(facts) not in LORA_LIKE or (facts.config.lora_rank is None and facts.config.lora_alpha is None):
        return
    rank, alpha = facts.config.lora_rank or 8, facts.config.lora_alpha or 32
    scale = alpha / (math.sqrt(rank) if facts.config.use_rslora else rank)
    place = "lora_rank" if facts.config.lora_rank is not None else "lora_alpha"
    if scale > 16 or scale < 0.25:
        how = "large: training may diverge" if scale > 16 else "small: learning is slow"
        message = f"alpha {alpha} over rank {rank} scales the adapter by {scale:.3g}, which is {how}"
        yield Finding("lora-scale", "note", place, message, "lora_alpha of 1 to 4 times lora_rank is usual")


def vllm_rank(facts: Facts) -> Iterator[Finding]:
    """vLLM serves no adapter above rank 512; up to there --max-lora-rank has to be told (ms-swift#4221)."""
    rank = facts.config.lora_rank
    if rank is not None and rank > VLLM_LARGEST_RANK and tuner(facts) == "lora":
        message = f"vLLM serves adapters up to rank {VLLM_LARGEST_RANK} only"
        yield Finding("vllm-rank", "note", "lora_rank", message, "merge the adapter before serving it with vLLM")


def vllm_parts(facts: Facts) -> Iterator[Finding]:
    """vLLM's PEFTHelper refuses DoRA and modules_to_save (vllm/lora/peft_helper.py: _validate_features)."""
    if tuner(facts) != "lora":
        return
    for key in ("use_dora", "modules_to_save"):
        if given(facts, key):
            message = "vLLM cannot serve such an adapter beside its base"
            yield Finding("vllm-adapter", "note", key, message, "merge it before serving it with vLLM")


def adam_of_galore(facts: Facts) -> Iterator[Finding]:
    """GaLore projects the gradients of whole weights; under LoRA the base has none (TunerMixin.prepare_model)."""
    if switch(facts, "use_galore") and tuner(facts) in LORA_LIKE:
        message = "projects the gradients of whole weights, and under LoRA the base has none"
        yield Finding("no-effect", "warning", "use_galore", message, "tuner_type: full, or remove it")
    layers = number(facts, "lisa_activated_layers")
    if layers and tuner(facts) != "full":
        message = "LISA chooses layers of a model that is trained in full"
        yield Finding("no-effect", "warning", "lisa_activated_layers", message, "tuner_type: full, or remove it")


TUNER_RULES: tuple[Rule, ...] = (
    keys_of_other_tuner, frozen_text_model, joined_module_names, unknown_modules, unwritten_module, loftq, lora_scale,
    vllm_rank, vllm_parts, adam_of_galore,
)  # fmt: skip
