"""Answers, for one installed ms-swift, which flat keys a config may hold and with which values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft_kit.errors import Problem
from sft_kit.msswift.arguments import Argument, arguments, check_value, suggest
from sft_kit.msswift.dialect import canonical, emit_name, removed, translate, value_word
from sft_kit.msswift.install import Installation


@dataclass(frozen=True)
class SwiftKeys:
    """The `config.load.KeyRules` of `swift sft` in `installation`."""

    installation: Installation

    def canonical(self, key: str) -> str:
        """The 4.x spelling of `key`."""
        return canonical(key)

    def value(self, key: str, value: Any) -> Any:
        """Today's word for an old one, such as `bfloat16` for `torch_dtype: bf16`; any other value as it is."""
        return (value_word(key, value) or value) if isinstance(value, str) else value

    def problem(self, key: str, value: Any) -> Problem | None:
        """Why the installed `swift sft` would refuse `key` with `value`, or None."""
        table = arguments(self.installation, "sft")
        argument = table.get(emit_name(key, table))
        if argument is not None:
            wrong = check_value(argument, value)
            return Problem("", wrong, code="wrong-value") if wrong else None
        gone = removed(key)
        reason = gone or f"ms-swift {self.installation.version} has no such argument"
        return Problem("", reason, self._fix(key, value, table), "removed-key" if gone else "unknown-key")

    def _fix(self, key: str, value: Any, table: Mapping[str, Argument]) -> str:
        now = translate(key, value, table)
        if now:
            today = ", ".join(f"{entry.key}: {entry.value}" for entry in now if entry.key)
            return f"write {today}" if today else "remove it: nothing changes"
        close = suggest(key, table)
        return f"did you mean {close}?" if close else "`sft-kit schema` lists the usual keys"
