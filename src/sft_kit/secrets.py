"""What is a secret, and how text that may hold one is shown or saved.

Owns the names that secrets have, the shapes that they take, and the values that this process has met under such names:
`hide` finds all three. Does not own how a secret reaches ms-swift (`msswift.command`) or whether a config should hold
one (`checks.tokens`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

HIDDEN = "***"
_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|AUTHORIZATION|(?:API|ACCESS|PRIVATE)[_-]?KEY|(?:TOKEN|_KEY|_PASS|_PWD)$",
    re.IGNORECASE,
)
# Tokens of a text (`pad_token`, GENERATIVE_RERANKER_POSITIVE_TOKEN), and two keys of tuners.
_NO_SECRET = re.compile(
    r"(?:(?:^|_)(?:bos|eos|pad|unk|sep|cls|mask|eot|image|video|audio|special|stop|start|end|first|last|next|new"
    r"|positive|negative)_token|vera_projection_prng_key|reft_layer_key)$",
    re.IGNORECASE,
)
# A long text is read once: each of these begins at the beginning of a word, and looks ahead no further than a key is
# long, so that 200,000 letters without a space do not take the square of their number.
_URL_USER = re.compile(r"(?<!\w)(\w+://)([^/@\s\"'<>]+)@")
_QUERY = re.compile(r"([?&;])([\w.-]+)=([^&;\s#\"'<>]+)")
_SIGNATURE = re.compile(r"sig(?:nature)?$|^(?:auth|pw|pass|jwt|key)$", re.IGNORECASE)
# `hub_token='x'` and `"hub_token": "x"` of a dataclass, a JSON text or a traceback; HF_TOKEN=x of a shell, and
# `hub_token: x`, where a word of a sentence (`hub_token: must be text`) has no digit or is shorter.
_QUOTED = re.compile(r"""(?<![\w-])([\w-]+)(\\?["']?\s{0,3}[:=]\s{0,3})(b?\\?["'])((?:[^"'\\]|\\.)+?)(?=\\?["'])""")
_ASSIGNED = re.compile(r"(?<![\w-])([\w-]+)(=[\"']?|\s{0,2}[:：]\s{0,2}(?=\S{0,100}\d)(?=\S{8}))([^\s\"'`,;)\\]+)")
# Keys known by their first letters. Strict, as a path must not be taken for one; `data.personal` looks for more.
_KEY_SHAPE = re.compile(
    r"(?<![\w-])(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[\w-]{20,}"
    r"|sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|AKIA[0-9A-Z]{16}|LTAI[0-9A-Za-z]{12,24}|AIza[\w-]{35}"
    r"|xox[abprs]-[0-9A-Za-z-]{20,}|ms-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|eyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{20,})(?![\w-])"
)
_IN_TEXT = re.compile(_NAME.pattern.replace("$", r"\b"), re.IGNORECASE)
_HINTS = ("secret", "passw", "passphrase", "credential", "webhook", "authorization", "key", "token", "_pass", "_pwd")
"""One of these is in every text in which `_IN_TEXT` finds something; to look for them takes a fiftieth of its time."""
_SHORTEST = 8  # a shorter value is found in too many innocent words
_met: set[str] = set()


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether a variable, key or flag of this name holds a secret (`HF_TOKEN`, `swanlab_secret`)."""
    return bool(_NAME.search(name)) and not _NO_SECRET.search(name)


def remember(value: Any, *, secret: bool = False) -> None:
    """Have `hide` find the secrets of `value` wherever they come up from now on, in an error of a library, say: what
    stands under a secret's name in a mapping, or all of it if it is `secret` itself. The environment's are known."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            remember(each, secret=secret or is_secret(str(name)))
    elif isinstance(value, list | tuple):
        for each in value:
            remember(each, secret=secret)
    elif secret and isinstance(value, str | int) and len(str(value)) >= _SHORTEST:
        _met.add(str(value))


def hide(text: str) -> str:
    """`text` with *** for each secret in it: known values, those behind a secret's name, users and passwords and
    signatures of URLs, keys of a known shape."""
    if len(text) >= _SHORTEST:  # many a fix is "", and many a cell of a table a number
        for value in known_values():
            text = text.replace(value, HIDDEN)
    if "://" in text:
        text = _URL_USER.sub(rf"\1{HIDDEN}@", text)
        text = _QUERY.sub(_hide_query, text)
    lower = text.lower()
    # few texts name a secret, and these two look at every word
    if any(hint in lower for hint in _HINTS) and _IN_TEXT.search(text):
        text = _QUOTED.sub(lambda m: f"{m[1]}{m[2]}{m[3]}{HIDDEN}" if is_secret(m[1]) else m[0], text)
        text = _ASSIGNED.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) else m[0], text)
    return _KEY_SHAPE.sub(HIDDEN, text)


def _hide_query(match: re.Match[str]) -> str:
    mark, name, _ = match.groups()
    return f"{mark}{name}={HIDDEN}" if is_secret(name) or _SIGNATURE.search(name) else match[0]


def known_values(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The values that are secrets, of the environment and of `remember`; the longest first, as one may hold another.

    A proxy's `user:password` is one of them, as programs print it apart from its URL."""
    found = set(_met)
    for name, value in environ.items():  # once: reading os.environ is what takes the time here
        if is_secret(name):
            found.add(value)
        if "://" in value:
            found.update(match[2] for match in _URL_USER.finditer(value))
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def hide_in(value: Any) -> Any:
    """`value` (as JSON knows them) with `hide` applied to every text, and *** for what stands under a secret's name."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {name: HIDDEN if is_secret(name) and each else hide_in(each) for name, each in value.items()}
    return [hide_in(each) for each in value] if isinstance(value, list | tuple) else value


def hide_in_env(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with *** for the values of secrets, and for the secrets in the others (a proxy's password)."""
    return {name: HIDDEN if is_secret(name) else hide(value) for name, value in env.items()}


def hide_in_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` with *** for the words behind a secret's flag, and for the secrets in the others."""
    shown: list[str] = []
    hiding = False
    for word in argv:
        if word.startswith("--"):
            flag, joined, value = word[2:].partition("=")
            hiding = is_secret(flag)
            shown.append(f"--{flag}={HIDDEN if hiding else hide(value)}" if joined else word)
        else:
            shown.append(HIDDEN if hiding else hide(word))
    return tuple(shown)


def blot(path: os.PathLike[str] | str, values: Iterable[str]) -> int:
    """Overwrite each of `values` in the file with asterisks of the same length; how many there were.

    For a log that other programs wrote: nothing else of the file changes, not even its length, and who follows it goes
    on. A file that is not there or may not be written is left alone.
    """
    wanted = [value.encode() for value in values if len(value) >= _SHORTEST]
    if not wanted:
        return 0
    pattern = re.compile(b"|".join(map(re.escape, sorted(wanted, key=len, reverse=True))))
    overlap, found = max(map(len, wanted)) - 1, 0
    try:
        with open(path, "r+b") as file:
            at, kept = 0, b""
            while block := file.read(1 << 20):
                text = kept + block
                for match in filter(lambda match: match.end() > len(kept), pattern.finditer(text)):
                    file.seek(at - len(kept) + match.start())
                    file.write(b"*" * len(match[0]))
                    found += 1
                at += len(block)
                file.seek(at)
                kept = text[-overlap:] if overlap else b""
    except OSError:
        return found
    return found
