"""The questions of an evaluation: held-out identity questions and general ones that have nothing to do with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sft_kit.data.rows import Message
from sft_kit.errors import Problem, UsageError
from sft_kit.identity.generate import WEIGHTS, Expect, HeldOutQuestion
from sft_kit.resources import shipped

Kind = Literal["identity", "general"]
_CATEGORY_ORDER = {category: index for index, category in enumerate(WEIGHTS)}


@dataclass(frozen=True)
class Probe:
    """One question to ask before and after; `turns` come before it and `system` above it, where given.

    `expect` is set for identity, `expect_any` for general questions that a rule can check.
    """

    id: str
    kind: Kind
    lang: str
    category: str
    question: str
    expect: Expect | None = None
    expect_any: tuple[str, ...] = ()
    turns: tuple[Message, ...] = ()
    system: str | None = None

    def messages(self) -> list[dict[str, str]]:
        """The conversation that ends in the question, as ms-swift takes it."""
        head = [Message("system", self.system)] if self.system is not None else []
        turns = (*head, *self.turns, Message("user", self.question))
        return [{"role": message.role, "content": message.content} for message in turns]


def identity_probes(held_out: Sequence[HeldOutQuestion], names: Collection[str], per_language: int) -> list[Probe]:
    """`per_language` held-out questions of each language that ask for one of `names`, its categories in turn.

    Questions about abilities, age and the like are held out too, but a right answer to them need not name anyone.
    """
    asking = [question for question in held_out if set(question.expect.must) & set(names)]
    asking.sort(key=lambda question: question.id.rpartition("/")[2])  # a hash: mixes the styles of a category
    asking.sort(key=lambda question: _CATEGORY_ORDER.get(question.category, len(_CATEGORY_ORDER)))
    return [
        Probe(q.id, "identity", q.lang, q.category, q.question, q.expect, turns=q.turns, system=q.system)
        for q in _in_turn(asking, per_language)
    ]


def general_probes(languages: Iterable[str], per_language: int, path: Path | None = None) -> list[Probe]:
    """`per_language` shipped general questions of each language: in turn one that a rule can check and one that none
    can (while there are both), each sort in turn from its kinds."""
    entries = read_questions(path or shipped("data") / "probes" / "general.yaml")
    probes = [
        Probe(
            str(entry["id"]),
            "general",
            str(entry["lang"]),
            str(entry["kind"]),
            str(entry["question"]),
            expect_any=tuple(str(text) for text in entry.get("expect_any", ())),
        )
        for entry in entries
    ]
    wanted = set(languages)
    probes = [probe for probe in probes if probe.lang in wanted]
    checkable = _in_turn([probe for probe in probes if probe.expect_any], len(probes))
    others = _in_turn([probe for probe in probes if not probe.expect_any], len(probes))
    return _in_turn([*checkable, *others], per_language, lambda probe: bool(probe.expect_any))


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The list of mappings in a YAML file (under its only top-level list, or as it is).

    Raises UsageError when the file holds no such list.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        raise UsageError(Problem(str(path), f"cannot be read: {str(error).splitlines()[0]}")) from error
    if isinstance(values, dict):
        values = next((value for value in values.values() if isinstance(value, list)), None)
    if not isinstance(values, list) or not all(isinstance(entry, dict) for entry in values):
        raise UsageError(Problem(str(path), "holds no list of questions", "see data/probes/README.md"))
    return values


def _in_turn(
    items: Sequence[Any], per_language: int, group: Callable[[Any], Hashable] = attrgetter("category")
) -> list[Any]:
    """Round-robin over the categories of each language, so that a few questions still cover every category."""
    by_language: dict[str, dict[Hashable, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        by_language[item.lang][group(item)].append(item)
    chosen: list[Any] = []
    for categories in by_language.values():
        taken: list[Any] = []
        for turn in range(max(map(len, categories.values()), default=0)):
            taken += [queue[turn] for queue in categories.values() if turn < len(queue)]
        chosen += taken[:per_language]
    return chosen
