"""Rules about several GPUs and the kernels: DeepSpeed, FSDP, device_map and Liger, against the processes of the run.

Owns the combinations of keys. What is installed and which GPUs are visible is `machine`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_values import Rule, given, prequantised, switch
from sft_kit.findings import Finding


def two_sharders(facts: Facts) -> Iterator[Finding]:
    """SftArguments (3.x TrainArguments)._init_fsdp: "FSDP2 is not compatible with DeepSpeed"."""
    if given(facts, "deepspeed") and given(facts, "fsdp"):
        yield Finding("deepspeed-and-fsdp", "error", "fsdp", "cannot be used with deepspeed; ms-swift refuses it",
                      "keep one of the two")  # fmt: skip


def _stage(deepspeed: Any) -> int | None:
    """The ZeRO stage of a preset or a mapping; None for a file, which is not looked into."""
    if isinstance(deepspeed, dict):
        stage = (deepspeed.get("zero_optimization") or {}).get("stage")
        return stage if isinstance(stage, int) else None
    preset = str(deepspeed).removesuffix("_offload")
    return {"zero0": 0, "zero1": 1, "zero2": 2, "zero3": 3}.get(preset)


def stage_three(facts: Facts) -> Iterator[Finding]:
    """transformers' from_pretrained refuses a device_map under ZeRO-3, and does not partition a quantised model
    (modeling_utils.py: needs_zero3_init ... and not _is_quantized), so that every card holds all of it."""
    if given(facts, "deepspeed") is None or _stage(given(facts, "deepspeed")) != 3:
        return
    if given(facts, "device_map") is not None:
        message = "cannot be used with ZeRO-3; transformers refuses it when loading the model"
        yield Finding("device-map-zero3", "error", "device_map", message, "remove it, or deepspeed: zero2")
    method = facts.config.quant_method or prequantised(facts)
    if method:
        message = f"ZeRO-3 does not split a {method} base: every GPU holds all of it, and loading often fails"
        yield Finding("zero3-quantised", "warning", "deepspeed", message, "deepspeed: zero2")


def one_card(facts: Facts) -> Iterator[Finding]:
    """With one process there is nothing to split; offloading to the CPU is what is left of DeepSpeed."""
    deepspeed = given(facts, "deepspeed")
    if deepspeed and facts.processes == 1 and _stage(deepspeed) is not None and "offload" not in str(deepspeed):
        message = "splits the optimizer among processes, and there is one: it only costs time"
        yield Finding("deepspeed-alone", "note", "deepspeed", message, "remove it, or zero2_offload to save memory")


def liger(facts: Facts) -> Iterator[Finding]:
    """Liger's kernels are Triton's, for GPUs; its loss gives way to any other (Seq2SeqTrainer.compute_loss)."""
    if not switch(facts, "use_liger_kernel"):
        return
    if facts.config.use_cpu:
        message = "Liger's kernels run on a GPU, and use_cpu is true"
        yield Finding("liger-on-cpu", "warning", "use_liger_kernel", message, "use_liger_kernel: false")
    weighted = {"react", "hermes", "qwen", "agentflan", "alpha_umi"} & set((facts.config.loss_scale or "").split("+"))
    other = "loss_scale" if weighted else next(
        (key for key in ("loss_type", "enable_dft_loss", "enable_channel_loss") if given(facts, key)), None
    )  # fmt: skip
    if other:
        message = f"Liger's loss, its largest saving of memory, gives way to {other}"
        yield Finding("liger-loss", "note", "use_liger_kernel", message)


DEVICE_RULES: tuple[Rule, ...] = (two_sharders, stage_three, one_card, liger)
