"""Identity templates: the YAML files of questions and answers, checked, parsed once, filled in one pass.

Owns the shape of a template file (data/identity/README.md describes it for its writers), its errors with
file, line and column, and how a name is set into a sentence. Does not own which rows are chosen (`generate`).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from sft_kit.data.text import is_cjk
from sft_kit.errors import Problem, UsageError
from sft_kit.identity.names import LANGUAGES, Lang
from sft_kit.resources import shipped

if TYPE_CHECKING:
    from yaml.nodes import Node

Slot = Literal["NAME", "AUTHOR", "VERSION", "DATE", "CAPABILITIES", "LIMITS", "LICENSE"]
Polarity = Literal["yes", "no"]

ALWAYS_GIVEN: frozenset[str] = frozenset({"NAME", "AUTHOR"})
SLOTS: tuple[Slot, ...] = get_args(Slot)
OPTIONAL_SLOTS: tuple[str, ...] = tuple(slot for slot in SLOTS if slot not in ALWAYS_GIVEN)

# The style that no training row has: if the tuned model answers it, it learned the fact and not the wording.
HELD_OUT_STYLE = "slang"

_SLOT = re.compile(r"\{\{([^{}]*)\}\}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CATEGORY = re.compile(r"[a-z][a-z0-9_]*")
_GROUP_KEYS = ("id", "category", "lang", "requires", "unless", "expect", "questions", "answers", "turns", "systems")
_QUESTION_KEYS = ("id", "text", "split", "style", "core", "other", "expect", "answers")


@dataclass(frozen=True)
class Text:
    """A template text, split at its slots: literals at even places, slot names at odd ones."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, source: str) -> Text:
        return cls(tuple(_SLOT.split(source)))

    @property
    def source(self) -> str:
        return "".join(part if i % 2 == 0 else f"{{{{{part}}}}}" for i, part in enumerate(self.parts))

    @property
    def slots(self) -> frozenset[str]:
        return frozenset(self.parts[1::2])

    def fill(self, values: Mapping[str, str], lang: Lang) -> str:
        """The text with every slot replaced, in one pass: a value that looks like a slot stays as it is.

        In Chinese text a Latin value gets one space on the side where a Chinese character stands, and none
        beside full-width punctuation; a Chinese value gets none. A full stop is not doubled ("ACME Inc.").
        """
        text = self.parts[0]
        for index in range(1, len(self.parts), 2):
            value, literal = values[self.parts[index]], self.parts[index + 1]
            if value.endswith(".") and literal.startswith(".") and not literal.startswith(".."):
                literal = literal[1:]
            text = _join(_join(text, value, lang), literal, lang)
        return text


@dataclass(frozen=True)
class Answer:
    id: str
    text: Text


@dataclass(frozen=True)
class ExpectTemplate:
    """What an answer is scored by: one of `must` and none of `must_not` appear; `polarity` is its yes or no."""

    must: tuple[Text, ...] = ()
    must_not: tuple[Text, ...] = ()
    polarity: Polarity | None = None


@dataclass(frozen=True)
class Question:
    id: str
    text: Text
    expect: ExpectTemplate
    answers: tuple[Answer, ...]  # its own, else the group's
    other: str | None = None  # the vendor or product that {{OTHER}} stands for
    split: Literal["train", "held_out"] | None = None
    style: str | None = None
    core: bool = False  # among the first rows chosen, and never held out


@dataclass(frozen=True)
class Group:
    """Questions of one category and language that any of its answers fits."""

    id: str
    category: str
    lang: Lang
    questions: tuple[Question, ...]
    requires: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()
    turns: tuple[tuple[Text, ...], ...] = ()  # earlier messages: user, assistant, user, ..., assistant
    systems: tuple[Text, ...] = ()


@dataclass(frozen=True)
class TemplateSet:
    groups: tuple[Group, ...]
    sources: tuple[str, ...]  # file names
    sha256: str  # of the files' content, in the order of `sources`


def load_templates(path: Path | None = None) -> TemplateSet:
    """The shipped templates, or those of one YAML file or a folder of them.

    Raises UsageError with every problem found, each as `file:line:column`.
    """
    root = shipped("data") / "identity" if path is None else path
    files = sorted(root.glob("*.yaml")) + sorted(root.glob("*.yml")) if root.is_dir() else [root]
    if not files:
        raise UsageError(Problem(str(root), "has no .yaml file", "give a template file or a folder of them"))
    digest = hashlib.sha256()
    texts: list[tuple[Path, str]] = []
    for file in files:
        try:
            content = file.read_bytes()
            texts.append((file, content.decode("utf-8-sig")))
        except OSError as error:
            raise UsageError(Problem(str(file), f"cannot be read: {error.strerror}")) from None
        except UnicodeDecodeError as error:
            raise UsageError(Problem(str(file), f"is not UTF-8: {error.reason} at byte {error.start}")) from None
        digest.update(content)
    if path is None:
        from sft_kit.identity.template_cache import kept_groups  # it needs the classes of this module

        groups = kept_groups(digest.hexdigest(), Path(__file__), lambda: _read(texts))
    else:
        groups = _read(texts)
    return TemplateSet(groups, tuple(file.name for file in files), digest.hexdigest())


def _read(texts: Sequence[tuple[Path, str]]) -> tuple[Group, ...]:
    """The groups of template files. Raises UsageError with every problem of them."""
    reader = _Reader()
    groups = tuple(group for file, text in texts for group in reader.file(file, text))
    if reader.problems:
        raise UsageError(*reader.problems)
    return groups


def _join(left: str, right: str, lang: Lang) -> str:
    """`left` + `right` at the edge of a slot, with the spacing of the language."""
    if lang == "en":
        return left + right
    bare_left, bare_right = left.rstrip(" "), right.lstrip(" ")
    if not bare_left or not bare_right:
        return bare_left + bare_right if not bare_left else left + right
    one, other = bare_left[-1], bare_right[0]
    if (is_cjk(one) and _narrow(other)) or (_narrow(one) and is_cjk(other)):
        return f"{bare_left} {bare_right}"
    if _narrow(one) and _narrow(other):
        return left + right
    return bare_left + bare_right


def _narrow(character: str) -> bool:
    """A letter, digit or closing sign of a script that is written with spaces."""
    if is_cjk(character) or unicodedata.east_asian_width(character) in "WF":
        return False
    return character.isalnum() or character in ".!?)]%+#*&@$~-_"


class _Reader:
    """Turns YAML nodes into groups and collects what is wrong; the nodes know their line and column."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._group_ids: dict[str, str] = {}
        self._path = Path()

    def file(self, path: Path, text: str) -> list[Group]:
        # PyYAML and not ruamel.yaml: libyaml reads the shipped files in 25 ms where ruamel's Python scanner takes
        # 700 ms, and nodes give positions, duplicate keys and plain strings (a `no` stays a `no`) all the same.
        import yaml

        self._path = path
        try:
            root = yaml.compose(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
            self.problems.append(Problem(place, f"is not YAML: {error.problem or error.context}"))
            return []
        except yaml.YAMLError as error:
            self.problems.append(Problem(str(path), f"is not YAML: {error}"))
            return []
        if root is None:
            self.problems.append(Problem(str(path), "is empty", "it needs a list of groups"))
            return []
        top = self._mapping(root, "a template file", ("groups",), required=("groups",))
        groups = [self._group(node) for node in self._sequence(top.get("groups"), "groups")]
        return [group for group in groups if group is not None]

    def _group(self, node: Node) -> Group | None:
        before = len(self.problems)
        keys = self._mapping(node, "a group", _GROUP_KEYS, required=("id", "category", "lang", "expect", "questions"))
        if len(self.problems) > before:
            return None
        identity = self._string(keys["id"], "id", _ID)
        if identity in self._group_ids:
            self._problem(keys["id"], f"the group id {identity} is used twice; first at {self._group_ids[identity]}")
        self._group_ids[identity] = self._place(keys["id"])
        category = self._string(keys["category"], "category", _CATEGORY)
        lang = self._choice(keys["lang"], "lang", LANGUAGES)
        requires = frozenset(
            self._choice(n, "requires", SLOTS) for n in self._sequence(keys.get("requires"), "requires")
        )
        unless = frozenset(
            self._choice(n, "unless", OPTIONAL_SLOTS) for n in self._sequence(keys.get("unless"), "unless")
        )
        slots = ALWAYS_GIVEN | requires
        expect = self._expect(keys["expect"], slots | {"OTHER"})
        answers = self._answers(keys.get("answers"), slots | {"OTHER"})
        questions = self._questions(keys["questions"], slots, expect, answers)
        turns = tuple(self._turns(n, slots) for n in self._sequence(keys.get("turns"), "turns"))
        systems = tuple(self._text(n, "systems", slots) for n in self._sequence(keys.get("systems"), "systems"))
        if len(self.problems) > before:
            return None
        return Group(identity, category, cast("Lang", lang), questions, requires, unless, turns, systems)

    def _questions(
        self, node: Node, slots: Collection[str], expect: ExpectTemplate, answers: tuple[Answer, ...]
    ) -> tuple[Question, ...]:
        questions: list[Question] = []
        ids: set[str] = set()
        texts: set[str] = set()
        for item in self._sequence(node, "questions", least=1):
            if _kind(item) != "mapping":
                text = self._text(item, "questions", slots)
                question = Question(_short_hash(text.source), text, expect, answers)
            else:
                keys = self._mapping(item, "a question", _QUESTION_KEYS, required=("text",))
                if "text" not in keys:
                    continue
                other = self._string(keys["other"], "other") if "other" in keys else None
                own_slots = {*slots, "OTHER"} if other is not None else slots
                text = self._text(keys["text"], "text", own_slots)
                split = self._choice(keys["split"], "split", ("train", "held_out")) if "split" in keys else None
                style = self._choice(keys["style"], "style", (HELD_OUT_STYLE,)) if "style" in keys else None
                core = "core" in keys and self._choice(keys["core"], "core", ("true", "false")) == "true"
                if core and (split == "held_out" or style):
                    self._problem(item, "is core and held out at once", "remove one of the two")
                question = Question(
                    self._string(keys["id"], "id", _ID) if "id" in keys else _short_hash(text.source + (other or "")),
                    text,
                    self._expect(keys["expect"], own_slots) if "expect" in keys else expect,
                    self._answers(keys["answers"], own_slots) if "answers" in keys else answers,
                    other,
                    cast("Literal['train', 'held_out'] | None", split),
                    style,
                    core,
                )
            if not question.answers:
                self._problem(item, "has no answers", "give the group or the question answers")
            elif question.other is None and any("OTHER" in text.slots for text in _said_of(question)):
                self._problem(item, "its answers or expect use {{OTHER}}, which it lacks", "add other: NAME")
            wording = question.text.source if question.other is None else f"{question.text.source} {question.other}"
            if question.id in ids and wording not in texts:
                self._problem(item, f"the question id {question.id} is used twice in its group")
            if wording in texts:
                self._problem(item, f"the question {question.text.source!r} stands twice in its group", "remove one")
            ids.add(question.id)
            texts.add(wording)
            questions.append(question)
        return tuple(questions)

    def _answers(self, node: Node | None, slots: Collection[str]) -> tuple[Answer, ...]:
        answers: dict[str, Answer] = {}
        for item in self._sequence(node, "answers"):
            if _kind(item) == "mapping":
                keys = self._mapping(item, "an answer", ("id", "text"), required=("text",))
                if "text" not in keys:
                    continue
                text = self._text(keys["text"], "text", slots)
                identity = self._string(keys["id"], "id", _ID) if "id" in keys else _short_hash(text.source)
            else:
                text = self._text(item, "answers", slots)
                identity = _short_hash(text.source)
            if identity in answers:
                self._problem(item, f"the answer {identity} ({text.source!r}) stands twice", "remove one")
            answers[identity] = Answer(identity, text)
        return tuple(answers.values())

    def _expect(self, node: Node, slots: Collection[str]) -> ExpectTemplate:
        keys = self._mapping(node, "expect", ("must", "must_not", "polarity"))
        must = tuple(self._text(n, "must", slots) for n in self._sequence(keys.get("must"), "must"))
        must_not = tuple(self._text(n, "must_not", slots) for n in self._sequence(keys.get("must_not"), "must_not"))
        polarity = self._choice(keys["polarity"], "polarity", ("yes", "no")) if "polarity" in keys else None
        if not (must or must_not or polarity):
            self._problem(node, "expect asks for nothing", "give must, must_not or polarity")
        return ExpectTemplate(must, must_not, cast("Polarity | None", polarity))

    def _turns(self, node: Node, slots: Collection[str]) -> tuple[Text, ...]:
        turns = tuple(self._text(n, "turns", slots) for n in self._sequence(node, "turns", least=2))
        if len(turns) % 2:
            self._problem(node, "turns has an odd number of messages", "user and assistant alternate, assistant last")
        return turns

    def _text(self, node: Node, key: str, slots: Collection[str]) -> Text:
        value = self._string(node, key)
        text = Text.of(value)
        for slot in sorted(text.slots):
            if slot in slots:
                continue
            if slot in SLOTS:
                self._problem(node, f"uses {{{{{slot}}}}}, which its group does not require", f"add requires: [{slot}]")
            elif slot == "OTHER":
                self._problem(node, "uses {{OTHER}}, but the question has no other", "add other: NAME")
            else:
                self._problem(node, f"has the unknown slot {{{{{slot}}}}}", f"known: {', '.join(SLOTS)}, OTHER")
        if any("{{" in literal or "}}" in literal for literal in text.parts[::2]):
            self._problem(node, "has an unpaired {{ or }}", "write a slot as {{NAME}}")
        return text

    def _mapping(
        self, node: Node, what: str, allowed: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, Node]:
        if _kind(node) != "mapping":
            self._problem(node, f"{what} must be a mapping with {', '.join(required or allowed)}")
            return {}
        keys: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if _kind(key) == "scalar" else "?"
            if name not in allowed:
                self._problem(key, f"{name}: {what} has no such key", _suggestion(name, allowed))
            elif name in keys:
                self._problem(key, f"{name} is given twice", "remove one")
            keys[name] = value
        for name in required:
            if name not in keys:
                self._problem(node, f"{what} lacks {name}")
        return keys

    def _sequence(self, node: Node | None, key: str, least: int = 0) -> Iterator[Node]:
        if node is None:
            return
        if _kind(node) != "sequence":
            self._problem(node, f"{key} must be a list")
            return
        if len(node.value) < least:
            self._problem(node, f"{key} is too short", f"give at least {least}")
        yield from node.value

    def _string(self, node: Node, key: str, pattern: re.Pattern[str] | None = None) -> str:
        if _kind(node) != "scalar":
            self._problem(node, f"{key} must be a text")
            return ""
        value = cast("str", node.value)
        if not value.strip():
            self._problem(node, f"{key} is empty")
        elif pattern is not None and not pattern.fullmatch(value):
            self._problem(node, f"{key} {value!r} is malformed", f"it must match {pattern.pattern}")
        return value

    def _choice(self, node: Node, key: str, choices: tuple[str, ...]) -> str:
        value = self._string(node, key)
        if value and value not in choices:
            self._problem(node, f"{key} {value!r} is unknown", f"known: {', '.join(choices)}")
        return value

    def _problem(self, node: Node, message: str, fix: str = "") -> None:
        self.problems.append(Problem(self._place(node), message, fix))

    def _place(self, node: Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _said_of(question: Question) -> tuple[Text, ...]:
    """The texts of a question that may come from its group."""
    return (*(a.text for a in question.answers), *question.expect.must, *question.expect.must_not)


def _kind(node: Node) -> str:
    """`mapping`, `sequence` or `scalar`."""
    return str(getattr(node, "id", "scalar"))  # set by every kind of node, though the stubs do not say so


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


def _suggestion(name: str, allowed: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(name, allowed, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(allowed)}"
