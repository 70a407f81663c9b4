"""Text that was not meant to be trained on: special tokens, slots never filled, broken encodings, hidden characters.

Owns what counts as one in the text of a conversation, where `<div>`, `List<String>`, `\\frac{a}{b}` and `${name}` are
ordinary: tokens and slots are matched by name, not by shape, and code is left out where a shape means something there.
The rules for names, which are stricter, are `text.SPECIAL_TOKEN` and `identity.names`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft_kit.data.pattern import Pattern

# --- special tokens ------------------------------------------------------------------------------------------------
# Tokenizers read these anywhere, in code too: <|im_end|>, <｜end▁of▁sentence｜>, <start_of_turn>, [INST], [gMASK].
_TOKEN = Pattern(
    r"<[|｜][A-Za-z_▁][\w▁.:\-]{0,40}[|｜]>|</?(?:start_of_turn|end_of_turn|start_of_image|end_of_image|begin_of_text|end_of_text|"
    r"end_of_utterance|fake_token_around_image)>|<</?SYS>>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|\[[gs]MASK\]"
)
# These are words of other languages too (HTML, generics), so they count outside code only.
_DOUBTFUL_TOKEN = Pattern(r"</?s>|\[(?:PAD|UNK|BOS|EOS|EOT)\]", re.IGNORECASE)
# Texts about models write these in the middle of a sentence; a text that was taken from a model begins or ends so.
_EDGE_TOKEN = Pattern(r"\A\s*<(?:pad|unk|bos|eos|eod|eop|sop|eot)>|<(?:pad|unk|bos|eos|eod|eop|sop|eot)>\s*\Z")
_STRUCK = Pattern(r"<s>[^<>\n]{1,80}</s>", re.IGNORECASE)
_PROMPT_HEADING = Pattern(r"(?:^|\n)### ?(?:Instruction|Response|Human|Assistant|Input):?\s*\n", re.IGNORECASE)

# --- slots ---------------------------------------------------------------------------------------------------------
_SLOT = (
    r"(?:(?:your|my|the|model|bot|assistant|ai|company|user|author|developer|team|product|organi[sz]ation|"
    r"creator)[ _-]?)?"
    r"(?:name|author|developer|creator|company|model|assistant|bot|username|organi[sz]ation|team|vendor)|插入\w{1,6}|"
    r"(?:您|你)?的?(?:模型|公司|作者|开发者|机器人|助手|产品|团队|用户|单位|机构)?(?:名字|名称|姓名|作者|开发者|公司名?|团队名?|机构名?|用户名|单位)"
)
_DOUBLE_BRACE = Pattern(r"\{\{ *(?:[\w\-.\u4e00-\u9fff][\w\-. \u4e00-\u9fff]{0,39} *|(?<= ))\}\}")
_IDENTITY_SLOT = Pattern(rf"\{{\{{\s*(?:{_SLOT})\s*\}}\}}", re.IGNORECASE)
_SINGLE_BRACE = Pattern(rf"(?<![\\$\w_^{{}}/])\{{(?:{_SLOT})\}}(?![{{}}])", re.IGNORECASE)
_BRACKET = Pattern(rf"[\[【](?:{_SLOT})[\]】](?![(\[])", re.IGNORECASE)
_ANGLE = Pattern(rf"<(?:{_SLOT})>", re.IGNORECASE)
_ANGLE_SHOUTED = Pattern(r"<[A-Z_ ]+>|<[\u4e00-\u9fff]+>")
_CROSSED = Pattern(
    r"(?:我是|我叫|名字是|名字叫|由|来自|\bI am|\bI'm|\bmy name is|(?:developed|created|made|trained|"
    r"built) by)\s?(?:(?:XX+|某某)(?![A-Za-z])|\$\{\w{2,30}\})"
)
_TEMPLATE_WORDS = Pattern(
    r"letter|e-?mail|template|invitation|resign|draft|contract|form\b|card|speech|script|essay|post|announcement|memo|report|proposal|"
    r"信|邮件|模板|范文|合同|简历|通知|请柬|申请|稿|协议|公告|证明|格式|文案|简介|发言",
    re.IGNORECASE,
)
_ENGINE = Pattern(
    r"\{%|jinja|handlebars|mustache|nunjucks|liquid|django|\bvue|angular|helm|twig|thymeleaf|template engine|"
    r"模板引擎|模板语法|插值",
    re.IGNORECASE,
)
_PROGRAM_LINE = Pattern(r"[=;]|\b[fF][\"']|\bimport\b|\$\{|\w\(|</")

# --- damage --------------------------------------------------------------------------------------------------------
# UTF-8 read as Latin-1 or cp1252 (Ã©, â€™, æˆ‘), as GBK (锟斤拷), or uninitialised memory (烫烫烫).
_CP1252 = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e"
    "\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122"
)
_MOJIBAKE = Pattern(
    rf"Ã[\u0080-\u00bf\u0192\u201a]|â€[\u0080-\u00bf™œ\u009d\u0153\u02dc\u201c\u201d\u2018\u2019¦“”]|Â[\u00a0°±²³´·»«©®£]|(?:[äåæçèé][{_CP1252}]{{2}}){{2}}"
    r"|锟斤拷|烫烫烫|屯屯屯|ï»¿"
)
_CONTROL = Pattern(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = Pattern(r"[\u200b\u2060\ufeff\u00ad\u180e\u3164]")
_LONE_SURROGATE = Pattern(r"[\ud800-\udfff]")
_ENTITY = Pattern(r"&(?:amp|lt|gt|quot|nbsp|apos|ldquo|rdquo|mdash|hellip|#\d{2,5}|#x[0-9a-fA-F]{2,5});")
_MARKUP = Pattern(r"</?[a-z][\w-]*[^<>]*>|html|xml|entit|转义|实体|\bescap", re.IGNORECASE)

_CODE = Pattern(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|``[^`]+``|`[^`\n]+`", re.DOTALL)
_MATHS = Pattern(  # no \( and no \[ inside: a text of nothing else would be read once for each of them
    r"\$\$.*?\$\$|\$[^$\n]+\$|\\\((?:[^\\]|\\[^()\[\]])*\\\)|\\\[(?:[^\\]|\\[^()\[\]])*\\\]", re.DOTALL
)

# One look for anything unusual in a text that is not ASCII; each hit is then looked at by the rules above.
_UNUSUAL = re.compile(
    "[\ufffd\u0080-\u009f\u00ad\u180e\u200b\u202a-\u202e\u2060\u2066-\u2069\u3164\ufeff\ud800-\udfffÃÂâäåæçèéï锟烫屯｜＜【]"
)
# ASCII that no rule looks at, as bytes to be deleted: what is left of most texts is nothing.
_DULL = bytes(b for b in range(256) if b in b"\t\n\r" or (32 <= b < 127 and chr(b) not in "<{[&@0123456789#X")) + bytes(
    range(128, 256)
)
_DIGITS = b"0123456789"
_FEWEST_DIGITS = 4  # a phone or card number has at least as many, and most kinds of keys


def suspicious(text: str, raw: bytes) -> tuple[bool, bool]:
    """A fast look before the precise ones: (whether `blemishes` can find anything, whether `personal_data` can).

    `raw` is `text` in UTF-8. About 1 microsecond for 300 characters; most texts end here.
    """
    marks = raw.translate(None, _DULL)
    unusual = not text.isascii() and (_UNUSUAL.search(text) is not None or "某某" in text)
    if not marks:
        return unusual, False
    others = marks.translate(None, _DIGITS)
    personal = b"@" in others or len(marks) - len(others) >= _FEWEST_DIGITS or "AKIA" in text or "-----BEGIN" in text
    return unusual or bool(others), personal


def blemishes(content: str, question: str) -> Iterator[tuple[str, str]]:
    """(code, example) of what is wrong with the text of one message; `question` is what it answers ("" "
    "for a question)."""
    if match := _CONTROL.search(content):
        yield "control-character", f"U+{ord(match[0]):04X}"
    if match := _INVISIBLE.search(content):
        yield "invisible-character", f"U+{ord(match[0]):04X}"
    if "\ufffd" in content or _LONE_SURROGATE.search(content):
        yield "replacement-character", _around(content, max(content.find("\ufffd"), 0))
    if match := _MOJIBAKE.search(content):
        yield "mojibake", _around(content, match.start())
    if "<" in content or "[" in content or "｜" in content or "＜" in content or "###" in content:
        yield from _tokens(content)
    if "{" in content or "[" in content or "【" in content or "<" in content or "X" in content or "某某" in content:
        yield from _slots(content, question)
    if (
        "&" in content
        and (match := _ENTITY.search(content))
        and not _MARKUP.search(content + question)
        and "```" not in content
    ):
        yield "html-entity", match[0]


def _tokens(content: str) -> Iterator[tuple[str, str]]:
    if match := _TOKEN.search(content):
        yield "special-token", match[0]
        return
    prose = _STRUCK.sub("", _CODE.sub(" ", content)) if not _whole(content) else content
    match = _EDGE_TOKEN.search(prose)
    if match is None and not re.search(r"</?(?!s>|s )[a-z]+[ >]", prose):
        match = _DOUBTFUL_TOKEN.search(prose)
    if match:
        yield "special-token", match[0].strip()
    if match := _PROMPT_HEADING.search(content):
        yield "prompt-in-text", match[0].strip()


def _whole(content: str) -> bool:
    """Whether <s> and </s> stand around the whole text, as a model's template would set them, not around a word."""
    stripped = content.strip().casefold()
    return stripped.startswith("<s>") and stripped.endswith("</s>")


def _slots(content: str, question: str) -> Iterator[tuple[str, str]]:
    prose = (
        _MATHS.sub(" ", _CODE.sub(" ", content))
        if "`" in content or "$" in content or "~~~" in content or "\\" in content
        else content
    )
    if (match := _IDENTITY_SLOT.search(prose)) and not _ENGINE.search(question + content):
        yield "unfilled-placeholder", match[0]
        return
    for pattern in (_SINGLE_BRACE, _CROSSED):
        match = pattern.search(prose)
        line = _line_of(prose, match.start()) if match and pattern is _SINGLE_BRACE else ""
        if match and not (_PROGRAM_LINE.search(line) or "/{" in line):
            yield "unfilled-placeholder", match[0]
            return
    match = _DOUBLE_BRACE.search(prose)
    if match and not re.search(
        r"\{%|\\|handlebars|mustache|jinja|vue|template|模板", content + question, re.IGNORECASE
    ):
        yield "doubtful-placeholder", match[0]
        return
    match = _BRACKET.search(prose) or _ANGLE.search(prose)
    if match is None or _PROGRAM_LINE.search(_line_of(prose, match.start())):
        return
    if match[0][0] == "<" and (not _ANGLE_SHOUTED.fullmatch(match[0]) or re.search(r"</", prose)):
        return
    if not _TEMPLATE_WORDS.search(question):
        yield "doubtful-placeholder", match[0]


def _line_of(text: str, at: int) -> str:
    end = text.find("\n", at)
    return text[text.rfind("\n", 0, at) + 1 : end if end >= 0 else len(text)]


def _around(text: str, at: int, width: int = 12) -> str:
    return " ".join(text[max(at - width, 0) : at + width].split())


def thinking(answer: str) -> tuple[str, str] | None:
    """(code, example) of how <think> stands in an answer, or None where it does not.

    ms-swift keeps an answer that begins with <think> as it is, and otherwise adds the empty block of a hybrid-thinking
    template itself (4.6.0, `template/base.py:_add_non_thinking_prefix`).
    """
    prose = _CODE.sub(" ", answer)
    opened, closed = prose.find("<think>"), prose.find("</think>")
    if opened < 0 and closed < 0:
        return None
    if prose.lstrip().startswith("<think>") and closed > opened:
        thought = prose[prose.index("<think>") + len("<think>") : closed]
        return ("think-in-answer", "<think>") if thought.strip() else ("empty-think", "<think></think>")
    return "broken-think", _around(prose, max(opened, closed))
