"""What is wrong with the machine for this run: one place that asks every subject's module in turn.

Owns the order. The judging is in `versions`, `packages`, `gpus`, `room`, `hubs` and `tokens`;
what they judge was seen by `environment` and stands in `facts`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sft_kit.checks.facts import Facts
from sft_kit.checks.gpus import gpu_findings
from sft_kit.checks.hubs import hub_findings, variable_findings
from sft_kit.checks.packages import package_findings
from sft_kit.checks.room import room_findings
from sft_kit.checks.tokens import secret_findings
from sft_kit.checks.versions import version_findings
from sft_kit.findings import Finding


def environment_findings(facts: Facts) -> Iterator[Finding]:
    """What is wrong; `place` is a dotted config key, or "" or a thing ("torch", "GPU 0 (NVIDIA A10)") where no key is
    to blame."""
    yield from version_findings(facts)
    yield from package_findings(facts)
    yield from gpu_findings(facts)
    yield from hub_findings(facts)
    yield from room_findings(facts)
    yield from secret_findings(facts)
    yield from variable_findings(facts)
