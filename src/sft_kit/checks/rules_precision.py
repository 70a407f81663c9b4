"""Rules about number types and quantised bases: fp16 and bf16, bits and methods, what can be trained of which."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import Rule, dtype, given, prequantised, switch, tuner
from sft_kit.findings import Finding

_BITS = {"bnb": (4, 8), "quanto": (2, 4, 8, "float8"), "eetq": (8,), "hqq": (1, 2, 3, 4, 8)}
"""Method -> bits it takes: swift/arguments/base_args/quant_args.py and transformers' configs of these methods."""
_OF_CONFIG_CLASS = {"bnb": "bitsandbytes", "hqq": "hqq", "eetq": "eetq", "quanto": "quanto", "fp8": "fp8"}
_FROZEN = frozenset({"gptq", "awq", "bitsandbytes", "eetq", "aqlm"})
"""Ways to quantise whose weights are integers: they can carry adapters, and never be trained themselves."""


def two_precisions(facts: Facts) -> Iterator[Finding]:
    """fp16 and bf16 both true, written so or by default: ms-swift sets fp16 for float16 and float32 weights and bf16
    for bfloat16 (ModelArguments._init_mixed_precision), and TrainingArguments refuses both [measured, 3.12.6, 4.6.0].
    """
    weights, fp16, bf16 = dtype(facts), given(facts, "fp16"), given(facts, "bf16")
    if sys.platform == "darwin":
        weights = None  # with Metal ms-swift turns neither on by itself
    message = "fp16 and bf16 cannot both be on; transformers refuses it"
    if switch(facts, "fp16") and switch(facts, "bf16"):
        yield Finding("fp16-and-bf16", "error", "fp16", message, "keep one, or neither: torch_dtype decides")
    elif switch(facts, "bf16") and fp16 is None and weights in ("float16", "float32"):
        message = f"with {weights} weights ms-swift turns fp16 on too, and transformers refuses both"
        fix = "write torch_dtype: bfloat16 instead; or add fp16: false, for bf16 arithmetic on these weights"
        yield Finding("fp16-and-bf16", "error", "bf16", message, fix)
    elif switch(facts, "fp16") and bf16 is None and weights == "bfloat16":
        message = "with bfloat16 weights ms-swift turns bf16 on too, and transformers refuses both"
        yield Finding("fp16-and-bf16", "error", "fp16", message, "write torch_dtype: float16 instead, or remove it")


def half_precision_full(facts: Facts) -> Iterator[Finding]:
    """All weights in float16 under a gradient scaler: "Attempting to unscale FP16 gradients" at the first step
    (torch/amp/grad_scaler.py; ms-swift#5718, #4352). prepare_model turns float16 adapters into float32, but not a
    whole model. DeepSpeed and FSDP scale by themselves."""
    weights = dtype(facts)
    by_itself = given(facts, "deepspeed") or given(facts, "fsdp") or facts.config.use_cpu
    if tuner(facts) != "full" or weights != "float16" or by_itself or not switch(facts, "fp16", default=True):
        return
    place = "torch_dtype" if facts.config.torch_dtype else "tuner_type"
    message = 'all weights in float16 end at the first step in "Attempting to unscale FP16 gradients"'
    fix = "torch_dtype: bfloat16 where the GPU has it, else float32; or tuner_type: lora"
    yield Finding("full-float16", "error", place, message, fix)


def full_of_quantised(facts: Facts) -> Iterator[Finding]:
    """A base quantised on loading, and all weights to train: transformers refuses it when the trainer is made
    (validate_quantization_for_training; in 4.57 Trainer.__init__). `model` says it of models that are quantised.
    """
    method = facts.config.quant_method
    if tuner(facts) == "full" and method in _BITS:
        message = f"a {method} base cannot be trained in full: its weights are frozen integers"
        fix = "tuner_type: lora, or no quant_method"
        yield Finding("full-tuning-of-quantised", "error", "quant_method", message, fix)


def bits_of_method(facts: Facts) -> Iterator[Finding]:
    """QuantizeArguments.get_quantization_config: a method needs its bits, and takes only some; bits alone are read by
    nobody, so that the base is loaded whole (ms-swift#3129) [measured, 3.12.6, 4.6.0]."""
    method, bits = facts.config.quant_method, given(facts, "quant_bits")
    if method is None and bits is not None and prequantised(facts) is None:
        message = "without quant_method nothing is quantised: the base is loaded at full size"
        yield Finding("bits-without-method", "warning", "quant_bits", message, "add quant_method: bnb")
    if method in _BITS and bits is None:
        message = f"{method} needs quant_bits; ms-swift refuses it without"
        choice = " or ".join(str(each) for each in _BITS[method])
        yield Finding("quant-bits", "error", "quant_method", message, f"add quant_bits: {choice}")
    elif method in _BITS and bits not in _BITS[method] and str(bits) not in map(str, _BITS[method]):
        choice = " or ".join(str(each) for each in _BITS[method])
        message = f"{method} cannot store weights in {bits} bits"
        yield Finding("quant-bits", "error", "quant_bits", message, f"quant_bits: {choice}")


def quantised_twice(facts: Facts) -> Iterator[Finding]:
    """A model that is quantised already, and another method on top: transformers raises in
    AutoHfQuantizer.merge_quantization_configs (quantizers/auto.py), in both generations."""
    method, own = facts.config.quant_method, prequantised(facts)
    if method in _OF_CONFIG_CLASS and own in _FROZEN and own != _OF_CONFIG_CLASS[method]:
        message = f"the model's own weights are {own} already, and cannot be quantised again by {method}"
        yield Finding("quantised-twice", "error", "quant_method", message, "remove it, or take the unquantised model")


def dora_of_quantised(facts: Facts) -> Iterator[Finding]:
    """peft/tuners/lora/{gptq,awq,eetq,aqlm}.py: "does not support DoRA yet" (bnb and hqq do)."""
    own = "eetq" if facts.config.quant_method == "eetq" else prequantised(facts)
    if facts.config.use_dora and tuner(facts) == "lora" and own in ("gptq", "awq", "eetq", "aqlm"):
        message = f"peft has no DoRA for a {own} base"
        yield Finding("dora-of-quantised", "error", "use_dora", message, "use_dora: false, or a bnb base")


def quantised_in_float32(facts: Facts) -> Iterator[Finding]:
    """A 4-bit base that computes in float32 (QuantizeArguments.__post_init__ takes float32 for float16 and float32)."""
    compute = given(facts, "bnb_4bit_compute_dtype")
    four = facts.config.quant_method == "bnb" and str(given(facts, "quant_bits")) == "4"
    if four and compute is None and facts.config.torch_dtype == "float32" and not facts.config.use_cpu:
        message = "a 4-bit base then computes in float32: several times slower, for nothing that 4 bits still hold"
        fix = "torch_dtype: bfloat16, or bnb_4bit_compute_dtype: bfloat16"
        yield Finding("quantised-in-float32", "warning", "torch_dtype", message, fix)


PRECISION_RULES: tuple[Rule, ...] = (
    two_precisions, half_precision_full, full_of_quantised, bits_of_method, quantised_twice, dora_of_quantised,
    quantised_in_float32,
)  # fmt: skip
