"""One thing that a check found: a stable code, how bad it is, where, what, and what to do about it.

Owns the value and its order. Codes are words with hyphens (`empty-answer`), never renamed and never reused: configs
name them in `# sft-kit: ignore CODE`, and scripts read them from `--json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sft_kit.errors import Problem
from sft_kit.secrets import hide

Severity = Literal["error", "warning", "note"]
CODES = frozenset({
    # A file that ms-swift cannot read, or reads in another way than it is written (msswift.datasets).
    "all-dates", "broken-csv", "broken-json", "column-twice", "different-columns", "empty-file", "ignored-columns",
    "late-types", "mixed-types", "no-files", "not-an-object", "not-checked", "not-text", "not-utf8",
    "number-too-big", "unknown-columns", "unknown-extension", "unreadable-file",
    # A row that ms-swift drops or changes (msswift.preprocess).
    "bad-history", "broken-tool-call", "empty-conversation", "first-of-list", "joined-turns", "no-answer",
    "no-content", "no-question", "not-a-conversation", "nothing-trained", "over-max-length", "rejected-answer",
    "unanswered-end", "unknown-role", "wrong-order",
    # A row that is not fit to train on (data.codes), or a file whose answers are too much alike (data.answers).
    "answer-repeats-question", "broken-think", "card-number", "contradictory-answers", "control-character",
    "cut-answers", "doubtful-placeholder", "duplicate-rows", "empty-answer", "empty-question", "empty-think",
    "few-distinct-answers", "few-rows", "html-entity", "id-number", "invisible-character", "mail-address",
    "many-denials", "many-refusals", "mojibake", "near-duplicates", "other-identity", "other-language-answer",
    "phone-number", "prompt-in-text", "replacement-character", "secret", "special-token", "think-in-answer",
    "unfilled-placeholder", "uniform-openings",
    # The mix, and the config's own ignore comments (run.mix, run.prepare).
    "config-doubt", "config-note", "held-out-in-data", "left-out-files", "many-repeats", "plain-text", "repeated-rows",
    "share-exceeded", "small-identity-share", "unknown-check",
    # A key of the config, or what it names (config, run.prepare, run.training_data).
    "bad-endpoint", "bad-model", "bad-names", "bad-override", "bad-sample", "bad-section", "batch-does-not-divide",
    "broken-yaml", "config-error", "curly-quotes", "doubtful-names", "duplicate-key", "hub-unreachable",
    "missing-file", "missing-model", "mix-conflict", "no-adapter", "no-checkpoint", "no-effect", "no-such-path",
    "not-a-config", "not-on-hub", "nothing-to-train-on", "offline", "output-dir", "plugins", "removed-key",
    "same-argument-twice", "save-no-with-eval", "too-few-gpus", "unknown-key", "wrong-value",
    # What the keys of a config say about each other, the model, the data and the packages (checks.rules).
    "batch-over-data", "best-without-rhythm", "best-without-validation", "bits-without-method", "deepspeed-alone",
    "deepspeed-and-fsdp", "device-map-zero3", "dora-of-quantised", "epochs-ignored", "few-steps", "foreign-system",
    "fp16-and-bf16", "fractional-steps", "full-float16", "group-without-shuffle", "joined-modules", "lazy-tokenize",
    "learning-rate", "liger-loss", "liger-on-cpu", "loftq", "long-warmup", "lora-scale", "max-length-over-model",
    "mixed-trackers", "no-batch", "no-clipping", "no-steps", "no-thinking-prefix", "no-validation-data",
    "nothing-left-to-train", "nothing-to-train", "only-model-of-shards", "packing-without-flash-attention",
    "prefetch-without-workers", "quant-bits", "quantised-in-float32", "quantised-twice", "resume-other-tuner",
    "resume-without-state", "rope-without-length", "schedule-without-settings", "schedule-without-validation",
    "sparse-log", "split-chat", "split-ignored", "streaming-cached", "streaming-without-steps", "thinking-only",
    "unknown-metric", "unknown-module", "unknown-word", "validated-once", "vllm-adapter", "vllm-rank", "warmup-twice",
    "zero3-quantised",
    # The model: its type and template, its files, its tokenizer, the adapter beside it (checks.model).
    "adapter-of-another-base", "adapter-settings-win", "adapters-not-loaded", "ambiguous-model-type",
    "ambiguous-template", "base-model", "broken-adapter", "broken-config", "broken-tokenizer", "broken-weights",
    "full-tuning-of-quantised", "gguf-only", "lfs-pointer", "link-outside", "mdl-pickle", "missing-shard",
    "model-type-mismatch", "no-tokenizer", "no-weights", "not-a-chat-model", "pickled-weights", "remote-code",
    "several-adapters", "template-mismatch", "tokenizer-too-new", "unknown-model-type", "vocabulary-too-small",
    "weights-mismatch",
    # What a stranger's model or checkpoint would do (checks.trust, checks.adapters).
    "odd-file", "pickled-state",
    # The machine: versions, packages, GPUs, disk, RAM, hubs, secrets (checks.machine).
    "bad-visible-devices", "bf16-on-old-gpu", "bf16-without-gpu", "disk-full", "driver-too-old",
    "flash-attention-on-old-gpu", "gated-model", "gpu-busy", "gpu-order", "hidden-gpus", "little-ram",
    "little-shared-memory", "misspelt-variable", "missing-package", "other-hubs-name", "port-taken", "refused-version",
    "runs-python", "secret-in-config", "socks-proxy", "spread-over-gpus", "torch-for-other-gpus", "torch-mismatch",
    "torch-without-cuda", "tracker-login", "uneven-gpus", "untested-version", "unused-variable",
    "use-hf-contradicted",
    # Memory and batch (run.run_plan).
    "batch-could-be-larger", "does-not-fit", "tight-fit",
})  # fmt: skip
"""Every code that a finding can have."""
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """An error means that training would fail or train on something wrong; a warning that it may; a note informs.

    `place` is a file (`data/mine.jsonl`, with `:line` where one line is meant) or a place in the config; `rows` is how
    many rows are concerned (0: not about rows) and `lines` the first few of their line numbers, counted from 1.
    """

    code: str
    severity: Severity
    place: str
    message: str
    fix: str = ""
    rows: int = 0
    lines: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("place", "message", "fix"):  # as in a Problem: a finding is shown as JSON too
            object.__setattr__(self, name, hide(getattr(self, name)))

    def problem(self) -> Problem:
        """The finding as an error or a warning shows it; the code comes last, for `# sft-kit: ignore`."""
        return Problem(self.place, f"{self.message} [{self.code}]", self.fix)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; each as they were found."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
