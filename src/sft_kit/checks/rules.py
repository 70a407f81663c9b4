"""What a config's keys say about each other, the model's config.json, the number of rows and the batch.

Owns the list of rules. Each is a function of `Facts` that yields findings, in the module of its subject (`rules_*`);
its docstring names the source. An error is one that ms-swift or transformers would surely raise, or that would surely
train something else than the config says. What is not known is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.rules_data import DATA_RULES
from sft_kit.checks.rules_devices import DEVICE_RULES
from sft_kit.checks.rules_precision import PRECISION_RULES
from sft_kit.checks.rules_steps import STEP_RULES
from sft_kit.checks.rules_tuner import TUNER_RULES
from sft_kit.checks.rules_validation import VALIDATION_RULES
from sft_kit.checks.rules_words import WORD_RULES
from sft_kit.checks.tokens import plugins
from sft_kit.findings import Finding

RULES = (*WORD_RULES, *DATA_RULES, *TUNER_RULES, *PRECISION_RULES, *STEP_RULES, *VALIDATION_RULES, *DEVICE_RULES,
         plugins)  # fmt: skip


def config_findings(facts: Facts) -> Iterator[Finding]:
    """What is wrong; `place` is a dotted config key, or "" where no one key is to blame."""
    for rule in RULES:
        yield from rule(facts)
