"""What makes a general answer right, as far as a rule can tell: a fact, a number, or a form that was asked for.

Owns the keys of a check in data/probes/general.yaml and in a user's own questions, and what each means. Does not own
identity answers (`score`). A check looks at what is shown of an answer: without <think>, markdown marks and quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from sft_kit.evaluate.score import mentions, normalise, visible

Count = tuple[int, int]
"""The least and the most that are right, both included."""

_MARKS = re.compile(r"[*_`#>]+")
_QUOTES = "\"'“”‘’「」『』《》"
_CLOSING = " \n\t.!?。！？…,，;；:：" + _QUOTES
_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
_WORD = re.compile(rf"{_CJK}|(?:(?!{_CJK})\w)+(?:[-'’.,:/](?:(?!{_CJK})\w)+)*")
# A Latin full stop ends a sentence only before white space: 3.5 and example.com go on.
_SENTENCE_END = re.compile(rf"[。！？…]+|[.!?]+(?=[{_QUOTES})\]]*(?:\s|$))")
_ITEM = re.compile(r"^\s*(?:[-*•·]|\(?\d{1,2}[.)、．:：]|[（(]?[一二三四五六七八九十]{1,2}[）)、.．])\s*(?=\S)")
_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Check:
    """What must hold of an answer, all of it; a field that is left as it is asks for nothing.

    `any_of`: one of these texts stands in it as a word. `all_of`: every one does. `forbidden`: none of these stands
    anywhere in it, not even inside a word. `words` (a Chinese character is one), `characters` (letters and digits),
    `sentences`, `lines` (that are not blank) and `items` (lines that begin with a bullet or a number) are counted.
    `json`: it is one JSON object, in a fence or not, with exactly these keys. `starts`, `ends`: how it begins and
    ends, case, quotes and closing marks aside. `case`: its letters are all of one case.
    """

    any_of: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    words: Count | None = None
    characters: Count | None = None
    sentences: Count | None = None
    lines: Count | None = None
    items: Count | None = None
    json: tuple[str, ...] = ()
    starts: str = ""
    ends: str = ""
    case: Literal["upper", "lower"] | None = None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Check:
        """A check from YAML or JSON: texts or lists of them, counts as a number or [least, most].

        Raises ValueError for an unknown key or a value that does not fit, in words for the file's writer.
        """
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"check has no {', '.join(sorted(map(str, unknown)))}; known: {known}")
        if not values:
            raise ValueError("check is empty")
        read: dict[str, object] = {key: _READ[key](key, value) for key, value in values.items()}
        return cls(**read)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """The fields that ask for something, as `of` reads them."""
        given = {key: value for key, value in asdict(self).items() if value not in ((), None, "")}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}

    def holds(self, answer: str) -> bool:
        """Whether `answer` is all that this check asks for; an empty one never is."""
        shown = visible(answer).strip()
        plain = _MARKS.sub("", shown)
        return bool(re.search(r"\w", plain)) and self._says(shown) and self._counts(shown, plain) and self._forms(shown)

    def _says(self, shown: str) -> bool:
        text = normalise(shown)
        return (
            (not self.any_of or any(mentions(text, wanted) for wanted in self.any_of))
            and all(mentions(text, wanted) for wanted in self.all_of)
            and not any(normalise(banned) in text for banned in self.forbidden)
        )

    def _counts(self, shown: str, plain: str) -> bool:
        counted: tuple[tuple[Count | None, Callable[[], int]], ...] = (
            (self.words, lambda: len(_WORD.findall(plain))),
            (self.characters, lambda: sum(c.isalnum() for c in plain)),
            (self.sentences, lambda: sum(bool(re.search(r"\w", part)) for part in _SENTENCE_END.split(plain))),
            (self.lines, lambda: sum(bool(re.search(r"\w", line)) for line in shown.splitlines())),
            (self.items, lambda: sum(bool(_ITEM.match(line)) for line in shown.splitlines())),
        )
        return all(wanted is None or wanted[0] <= count() <= wanted[1] for wanted, count in counted)

    def _forms(self, shown: str) -> bool:
        text = normalise(shown)
        letters = [c for c in shown if c.isalpha() and c.upper() != c.lower()]
        cased = {"upper": str.isupper, "lower": str.islower}
        return (
            text.lstrip(_QUOTES).startswith(normalise(self.starts))
            and text.rstrip(_CLOSING).endswith(normalise(self.ends).rstrip(_CLOSING))
            and (self.case is None or (bool(letters) and all(map(cased[self.case], letters))))
            and (not self.json or _keys(shown) == set(self.json))
        )


def _keys(shown: str) -> set[str] | None:
    """The keys of the JSON object that an answer is; None when it is none."""
    fenced = _FENCE.match(shown)
    try:
        value = json.loads(fenced[1] if fenced else shown)
    except ValueError:
        return None
    return set(value) if isinstance(value, dict) else None


def _texts(key: str, value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list | tuple) else [value]
    texts = tuple(_text(key, text) for text in given)
    if not texts:
        raise ValueError(f"{key} is empty")
    return texts


def _text(key: str, value: object) -> str:
    """A number counts as its digits: YAML reads `expect_any: [42]` as one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"{key} is a text or a list of texts, not {value!r}; put it in quotes")
    if not normalise(str(value)):
        raise ValueError(f"{key} is {value!r}, which is markdown and not looked at")
    return str(value)


def _count(key: str, value: object) -> Count:
    given = [value, value] if isinstance(value, int) else value
    numbers = [n for n in given if isinstance(n, int) and not isinstance(n, bool)] if isinstance(given, list) else []
    if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] or len(given) != 2:  # type: ignore[arg-type]
        raise ValueError(f"{key} is a number or [least, most], not {value!r}")
    return (numbers[0], numbers[1])


def _case(key: str, value: object) -> str:
    if value not in ("upper", "lower"):
        raise ValueError(f"{key} is upper or lower, not {value!r}")
    return str(value)


_READ: Mapping[str, Callable[[str, object], object]] = {
    **dict.fromkeys(("any_of", "all_of", "forbidden", "json"), _texts),
    **dict.fromkeys(("words", "characters", "sentences", "lines", "items"), _count),
    **dict.fromkeys(("starts", "ends"), _text),
    "case": _case,
}
