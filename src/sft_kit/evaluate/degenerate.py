"""Text that no model should have written: it repeats itself, or answers in another language than it was asked in.

Used on what is trained on (replay) and on what is scored. Rules, so approximate; they err on letting an answer pass.
"""

from __future__ import annotations

import re

from sft_kit.data.text import has_cjk, is_cjk

_NAMES_A_LANGUAGE = re.compile(r"[英日韩法德俄]语|英文|日文|译|\b(?:translat|chinese|japanese|korean)", re.IGNORECASE)
_REPEATED = re.compile(r"(.{4,}?)\1{2,}", re.DOTALL)


def repeats_itself(answer: str) -> bool:
    """Whether something of four characters or more is said three times on end, and fills 24 letters (or 12 Chinese
    characters) in that way; lines of a table are let through."""
    return any(re.search(r"\w", found[1]) and len(found[0].encode()) >= 24 for found in _REPEATED.finditer(answer))


def other_language(prompt: str, answer: str) -> bool:
    """Whether a Chinese prompt is answered in Latin words alone, or one in Latin letters mostly in Chinese.

    Prompts that name a language, short answers and code are let through.
    """
    if _NAMES_A_LANGUAGE.search(prompt):
        return False
    words = len(re.findall(r"[^\W\d_]{2,}", re.sub(r"[\u3040-\u9fff\uac00-\ud7af]", " ", answer)))
    if has_cjk(prompt):
        return words >= 8 and not has_cjk(answer) and "```" not in answer
    return sum(map(is_cjk, answer)) > max(12, words)
