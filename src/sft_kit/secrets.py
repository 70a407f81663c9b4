"""What is a secret, and how text that holds one is shown or saved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HIDDEN = "***"
_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|_KEY$|CREDENTIAL|WEBHOOK", re.IGNORECASE)
_NO_SECRET = frozenset({"new_special_tokens", "max_new_tokens", "average_tokens_across_devices"})
_URL_USER = re.compile(r"(\w+://)[^/@\s]+@")


def is_secret(name: str) -> bool:
    """Whether a variable, key or flag of this name holds a secret (`HF_TOKEN`, `swanlab_secret`)."""
    return name not in _NO_SECRET and "num_tokens" not in name and bool(_NAME.search(name))


def hide_in_env(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with the values of secrets, and users and passwords in URLs, replaced by ***."""
    return {name: HIDDEN if is_secret(name) else _URL_USER.sub(rf"\1{HIDDEN}@", value) for name, value in env.items()}


def hide_in_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` with the words behind a secret's flag replaced by ***."""
    shown: list[str] = []
    hiding = False
    for word in argv:
        if word.startswith("--"):
            flag, joined, _ = word[2:].partition("=")
            hiding = is_secret(flag)
            shown.append(f"--{flag}={HIDDEN}" if hiding and joined else word)
        else:
            shown.append(HIDDEN if hiding else _URL_USER.sub(rf"\1{HIDDEN}@", word))
    return tuple(shown)
