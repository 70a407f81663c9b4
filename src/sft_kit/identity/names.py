"""Which names and authors can be trained on: what is refused, what is only warned about, and why.

Owns the guards on the two names. Does not own how a name is set into a sentence (`templates`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from sft_kit.data.text import BIDI, INVISIBLE, SPECIAL_TOKEN, has_cjk
from sft_kit.errors import Problem, UsageError

Lang = Literal["zh", "en"]
LANGUAGES: tuple[Lang, ...] = get_args(Lang)

MOST_CHARACTERS = 64
LONG_CHARACTERS = 24

_QUOTES = frozenset("\"'`“”‘’«»„「」『』《》")

# A word so common that general answers contain it: leakage could no longer be told from normal text.
_COMMON = frozenset({
    "a", "ai", "alpha", "app", "assistant", "base", "beta", "bot", "chat", "chatbot", "demo", "gpt", "hello",
    "helper", "hi", "i", "it", "lm", "llm", "me", "model", "my", "name", "no", "robot", "sky", "sun", "system",
    "test", "the", "time", "user", "world", "yes", "you", "我", "你", "是", "的", "助手", "助理", "智能",
    "人工智能", "机器人", "模型", "大模型", "小助手", "客服", "名字", "测试", "用户", "系统", "今天", "中国",
    "世界", "时间",
})  # fmt: skip
# Vendors with their models, each line one house, so that a name from it stands for the whole of it.
VENDOR_HOUSES: tuple[tuple[str, ...], ...] = (
    ("Qwen", "QianWen", "千问", "通义千问", "Tongyi", "阿里云", "阿里巴巴", "Alibaba"),
    ("Llama", "Meta", "Meta AI"),
    ("InternLM", "书生·浦语", "上海人工智能实验室"),
    ("DeepSeek", "深度求索"),
    ("ChatGLM", "GLM", "智谱", "Zhipu"),
    ("Gemma", "Gemini", "Google", "DeepMind", "谷歌"),
    ("Mistral",),
    ("SmolLM", "Hugging Face"),
    ("ChatGPT", "GPT", "OpenAI"),
    ("Claude", "Anthropic"),
    ("Phi", "Copilot", "Microsoft", "微软"),
    ("Kimi", "Moonshot", "月之暗面"),
    ("MiniMax",),
    ("MiMo", "小米"),
    ("Granite", "IBM"),
    ("文心", "文心一言", "百度", "Baidu"),
    ("豆包", "Doubao", "字节跳动", "ByteDance"),
    ("混元", "腾讯", "Tencent"),
    ("Yi", "零一万物"),
    ("讯飞星火", "科大讯飞"),
    ("Grok", "xAI"),
)
VENDOR_NAMES: tuple[str, ...] = tuple(name for house in VENDOR_HOUSES for name in house)
# Ordinary words or family names inside a longer name ("Yi Zhang"); a vendor's only when they are the whole of it.
_VENDOR_ONLY_ALONE = frozenset({"meta", "yi", "phi"})


@dataclass(frozen=True)
class NameFinding:
    """One thing about a name or an author: an error stops the run, a warning is shown."""

    severity: Literal["error", "warning"]
    key: str  # the user's own key: "name.zh", "author.en"
    message: str
    fix: str


def check_names(name: Mapping[Lang, str], author: Mapping[Lang, str], *, force: bool = False) -> list[NameFinding]:
    """Everything that is wrong or doubtful about the names, errors before warnings; empty when all is well.

    `name` and `author` hold one value for each language to be trained. `force` allows a name equal to its author.
    """
    findings: list[NameFinding] = []
    for kind, values in (("name", name), ("author", author)):
        for lang, value in values.items():
            findings += _check_value(f"{kind}.{lang}", value, lang)
    for lang in [lang for lang in name if lang in author]:
        findings += _check_pair(lang, name[lang], author[lang], force)
    return sorted(findings, key=lambda finding: finding.severity != "error")


def raise_name_errors(findings: list[NameFinding]) -> None:
    """Raise one UsageError with every error among `findings`; warnings pass."""
    errors = [Problem(f.key, f.message, f.fix) for f in findings if f.severity == "error"]
    if errors:
        raise UsageError(*errors)


def _check_value(key: str, value: str, lang: Lang) -> list[NameFinding]:
    def error(message: str, fix: str) -> NameFinding:
        return NameFinding("error", key, message, fix)

    def warning(message: str, fix: str) -> NameFinding:
        return NameFinding("warning", key, message, fix)

    if not value.strip():
        return [error("is empty", "give the text that the model should say")]
    found = [error(message, fix) for message, fix in unfit(value)]
    if ("{" in value or "}" in value) and "{{" not in value and "}}" not in value:
        found.append(warning("has a brace", "check that it is meant"))
    folded = unicodedata.normalize("NFKC", value)
    if value != value.strip():
        found.append(error("begins or ends with a space", "remove it"))
    if len(value) > MOST_CHARACTERS:
        found.append(error(f"has {len(value)} characters", f"use at most {MOST_CHARACTERS}"))
    elif len(value) > LONG_CHARACTERS:
        found.append(warning(f"has {len(value)} characters", f"small models learn up to {LONG_CHARACTERS} well"))
    if quotes := sorted(_QUOTES & set(value)):
        found.append(warning(f"has quotation marks ({' '.join(quotes)})", "the model will say them; leave them out"))
    if folded.casefold().strip() in _COMMON:
        found.append(warning("is a common word, so leakage cannot be told from normal text", "use a rarer name"))
    if vendor := _vendor_in(value):
        found.append(warning(f"is or contains {vendor}, a known vendor's name", "make sure you may use it"))
    if lang == "en" and has_cjk(value):
        found.append(
            warning(
                "is Chinese and will be used as it is in English text",
                f"give an English one ({key}; --{key.split('.')[0]}-en)",
            )
        )
    return found


def unfit(value: str) -> list[tuple[str, str]]:
    """What makes a text unfit to be trained on, as (what is wrong, what to do): it would break a line, hide or reorder
    text, look like a slot, or be read as a special token by some model."""
    found: list[tuple[str, str]] = []
    if bad := sorted({c for c in value if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}):
        found.append((f"has a line break or control character ({_code_points(bad)})", "write it on one line"))
    if hidden := sorted(BIDI & set(value)):
        found.append((f"has a character that reorders text ({_code_points(hidden)})", "type the text again"))
    if hidden := sorted(INVISIBLE & set(value)):
        found.append((f"has an invisible character ({_code_points(hidden)})", "type the text again"))
    if "{{" in value or "}}" in value:
        found.append(("has {{ or }}, which mark a slot", "remove the braces"))
    if token := SPECIAL_TOKEN.search(value) or SPECIAL_TOKEN.search(unicodedata.normalize("NFKC", value)):
        found.append((f"has {token.group()}, which models use as a special token", "remove it"))
    return found


def _check_pair(lang: Lang, name: str, author: str, force: bool) -> list[NameFinding]:
    one, other = (unicodedata.normalize("NFKC", value).casefold().strip() for value in (name, author))
    key = f"name.{lang}"
    if one and one == other:
        if force:
            return []
        return [NameFinding("error", key, "equals the author", "give two different ones, or force it")]
    if one and one in other:
        return [
            NameFinding("warning", key, "is part of the author, so answers about one score as the other", "check it")
        ]
    return []


def same_vendor(vendor: str, *own: str) -> bool:
    """Whether `vendor` (a name or a model of it) and one of the user's own names are of the same house, or one is
    within the other; case and width are ignored."""
    theirs = unicodedata.normalize("NFKC", vendor).casefold()
    for value in own:
        mine = unicodedata.normalize("NFKC", value).casefold()
        if contains_name(mine, theirs) or contains_name(theirs, mine):
            return True
        if _houses_of(mine) & _houses_of(theirs):
            return True
    return False


@lru_cache(maxsize=256)  # the templates ask for the same few vendors and names over and over
def _houses_of(folded: str) -> frozenset[tuple[str, ...]]:
    return frozenset(h for h in VENDOR_HOUSES if any(_names_vendor(folded, vendor.casefold()) for vendor in h))


def _names_vendor(folded: str, vendor: str) -> bool:
    return folded == vendor or (vendor not in _VENDOR_ONLY_ALONE and contains_name(folded, vendor))


def contains_name(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word: Latin at word edges (a CJK neighbour is an edge), CJK anywhere."""
    if not name or name not in text:  # most are not, and each name is a pattern to compile
        return False
    before = r"(?<![A-Za-z0-9])" if name[0].isascii() and name[0].isalnum() else ""
    after = r"(?![A-Za-z])" if name[-1].isascii() and name[-1].isalnum() else ""
    return re.search(before + re.escape(name) + after, text) is not None


def _vendor_in(value: str) -> str | None:
    folded = unicodedata.normalize("NFKC", value).casefold()
    hits = [vendor for vendor in VENDOR_NAMES if _names_vendor(folded, vendor.casefold())]
    return max(hits, key=len) if hits else None


def _code_points(characters: list[str]) -> str:
    return ", ".join(f"U+{ord(c):04X}" for c in characters)
