"""Personal data and secrets in a text: mail addresses, phone, identity and card numbers, keys.

Owns what counts as one, and which are only made up for an example (`user@example.com`, 555-0123, 13800138000,
`AKIA...EXAMPLE`, a number that fails its checksum). Does not own what follows. What was found is returned masked: a
check must not print what it warns about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft_kit.data.pattern import Pattern

_MAIL = Pattern(r"(?<![\w.%+\-/:])([A-Za-z0-9._%+\-]+)@((?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,})(?![\w@])")
# Names and domains of examples, and addresses of offices rather than of people.
_MADE_UP_LOCAL = Pattern(
    r"(?:(?:my|your|the)?[._-]?(?:user|username|name|first|last|firstname|lastname|e?mail|address|account|someone|somebody|example|sample|test\w*|demo|"
    r"xx+|abc\w*|foo|bar|git|john|jane|alice|bob|zhangsan|lisi|wangwu)[._-]?(?:doe|smith|name|email|lastname|address|last)?\d{0,3}"
    r"|info|support|contact|no-?reply|admin|hello|sales|service|services|help|press|hr|jobs|office|team|postmaster|webmaster|feedback|me|you|a|b|x)",
    re.IGNORECASE,
)
_MADE_UP_DOMAIN = Pattern(
    r"(?:[\w.-]*\.)?(?:example|invalid|test|localhost)|(?:[\w.-]*\.)?(?:example|test|testing|domain|mydomain|yourdomain|email|mail|company|"
    r"yourcompany|mycompany|abc|xyz|xx+|foo|sample|acme|website|yoursite|mysite|site|corp|school|university|server|host|samplemail)"
    r"\.(?:com|org|net|cn|io|edu|co|com\.cn|gov)",
    re.IGNORECASE,
)
_CN_MOBILE = Pattern(r"(?<![\d.\w\-])(?:\+?86[- ]?)?(1[3-9]\d[- ]?\d{4}[- ]?\d{4})(?![\d\w]|\.\d)", re.ASCII)
_US_PHONE = Pattern(
    r"(?<![\d.\-\w])(?:\+?1[-. ])?(\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])([2-9]\d{2})[-. ](\d{4})(?![\d\-]|\.\d)", re.ASCII
)
_WORLD_PHONE = Pattern(
    r"(?<![\d\w+])\+(?!86)(?:[2-9]\d{0,2})[ \-.]?(?:\(0\)[ ]?)?\(?\d{1,4}\)?(?:[ \-.]?\d{2,4}){2,4}(?!\d)", re.ASCII
)
_CN_ID = Pattern(
    r"(?<![\d.\w])([1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx])(?![\d\w])", re.ASCII
)
_CARD = Pattern(
    r"(?<![\d.\w\-])((?:\d{4}[ -]){3}\d{4}|\d{4}[ -]\d{6}[ -]\d{5}|\d{15,16}|62\d{15,17})(?![\d\w]|[.\-]\d)", re.ASCII
)
_CARD_ISSUER = Pattern(r"4|5[1-5]|2[2-7]|3[47]|62|6011|65")
_KNOWN_KEY = Pattern(
    r"(?<![\w])(?:sk-(?:proj-|ant-(?:api\d\d-)?)?[A-Za-z0-9_\-]{20,}|AKIA[0-9A-Z]{16}|LTAI[0-9A-Za-z]{12,24}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_[A-Za-z0-9_]{30,}|hf_[A-Za-z0-9]{30,}|AIza[0-9A-Za-z_\-]{35}|xox[abprs]-[0-9A-Za-z\-]{20,}|glpat-[A-Za-z0-9_\-]{20,}"
    r"|eyJ[A-Za-z0-9_\-]{15,}\.eyJ[A-Za-z0-9_\-]{15,}\.[A-Za-z0-9_\-]{20,})"
)
_NAMED_KEY = Pattern(
    r"(?:key|token|secret|passw(?:or)?d|credential|密钥|口令|密码|令牌)[\w ]{0,12}(?:[\"']?\s*(?:[:=：]|is|"
    r"是|为)\s*[\"'`]?)([A-Za-z0-9_\-+/]{24,}={0,2})(?![\w/+])",
    re.IGNORECASE,
)
_PRIVATE_KEY = Pattern(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=]{16}")
_MADE_UP_KEY = Pattern(
    r"example|your|xxx|\.\.\.|placeholder|dummy|sample|test|abcdef|1234567|fake|insert|here", re.IGNORECASE
)
_MADE_UP_DIGITS = Pattern(r"(\d)\1{4}|12345|23456|34567|45678|56789|98765|87654|76543|(\d{2,4})\2{2}")
# Numbers that manuals and test suites use: mobile, identity card, cards.
_FAMOUS = frozenset({
    "13800138000", "13800138001", "13912345678", "11010519491231002X", "440524188001010014",
    "4242424242424242", "4012888888881881", "378282246310005",
    "371449635398431", "4000056655665556", "5105105105105100", "5200828282828210",
})  # fmt: skip
# Numbers that a firm gives to its customers: toll-free in North America, 400 and 800 in China.
_HOTLINES = frozenset({"400", "800", "833", "844", "855", "866", "877", "888"})
# Every number and every key has one of these; most texts have neither.
_LONG_NUMBER = Pattern(r"\d[\d \-.()]{7,}\d", re.ASCII)
_LONG_WORD = Pattern(r"[A-Za-z0-9_\-+/]{20}")
_FEWEST_DISTINCT = 10  # a key of fewer different characters was typed, not drawn


def personal_data(text: str) -> Iterator[tuple[str, str]]:
    """(code, masked example) of each piece of personal data in `text`; at most one of a code."""
    if "@" in text and (mail := next(filter(None, map(_mail, _MAIL.finditer(text))), "")):
        yield "mail-address", mail
    if _LONG_NUMBER.search(text):
        if number := next(_id_numbers(text), ""):
            yield "id-number", _masked(number)
        if number := next(_cards(text), ""):
            yield "card-number", _masked(number)
        if number := next(_phones(text), ""):
            yield "phone-number", _masked(number)
    if _LONG_WORD.search(text) and (key := next(_keys(text), "")):
        yield "secret", _masked(key)


def _mail(match: re.Match[str]) -> str:
    local, domain = match.groups()
    if _MADE_UP_LOCAL.fullmatch(local) or _MADE_UP_DOMAIN.fullmatch(domain):
        return ""
    return f"{local[0]}…@{domain}"


def _phones(text: str) -> Iterator[str]:
    for pattern in (_CN_MOBILE, _US_PHONE, _WORLD_PHONE):
        for match in pattern.finditer(text):
            digits = re.sub(r"\D", "", match[1] if pattern is _CN_MOBILE else match[0])
            made_up = _MADE_UP_DIGITS.search(digits) or digits in _FAMOUS
            if pattern is _US_PHONE:
                area = match[1].strip("() -.")
                made_up = made_up or "555" in (match[2], area) or area in _HOTLINES
            elif pattern is _WORLD_PHONE:
                made_up = made_up or not 9 <= len(digits) <= 15 or "5550" in digits
            if not made_up:
                yield match[0]


def _id_numbers(text: str) -> Iterator[str]:
    for match in _CN_ID.finditer(text):
        number = match[1].upper()
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
        check = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11
        if "10X98765432"[check] == number[-1] and number not in _FAMOUS:
            yield number


def _cards(text: str) -> Iterator[str]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[1])
        if (
            _CARD_ISSUER.match(digits)
            and _luhn(digits)
            and digits not in _FAMOUS
            and not _MADE_UP_DIGITS.search(digits)
        ):
            yield digits


def _luhn(digits: str) -> bool:
    """The checksum of ISO/IEC 7812-1."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _keys(text: str) -> Iterator[str]:
    for match in _KNOWN_KEY.finditer(text):
        if not _typed(match[0]):
            yield match[0]
    for match in _NAMED_KEY.finditer(text):
        key = match[1]
        drawn = re.search(r"\d", key) and re.search(r"[a-z]", key) and re.search(r"[A-Z]", key)
        if drawn and not _typed(key):
            yield key
    if header := _PRIVATE_KEY.search(text):
        yield header[0]


def _typed(key: str) -> bool:
    return bool(_MADE_UP_KEY.search(key)) or len(set(key)) < _FEWEST_DISTINCT


def _masked(value: str) -> str:
    return f"{value[:4]}…"
