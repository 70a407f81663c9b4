"""The questions of an evaluation: held-out identity questions, general ones that have nothing to do with it, and a
user's own; and the texts whose likelihood is measured.

Owns which questions are asked, in which context, and the files they come from (data/probes, a user's file). Does not
own the held-out questions' wording (`identity.templates`), nor how answers are judged (`score`, `checks`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

from sft_kit.data.formats import read_records
from sft_kit.data.rows import Message, disorder
from sft_kit.data.text import has_cjk
from sft_kit.errors import Problem, UsageError
from sft_kit.evaluate.checks import Check
from sft_kit.identity.generate import WEIGHTS, Expect, HeldOutQuestion
from sft_kit.resources import shipped

Kind = Literal["identity", "general", "user"]
Context = Literal["trained", "none", "vendor", "custom", "own"]

# Asked of the identity although a right answer names no one: whether the model says that it is an AI, without age or
# gender. They are a measure of their own (`Evaluation.nature`), since most base models pass.
NATURE = frozenset({"human_or_ai", "gender_age"})
# Facts that are only there when the user gave them (VERSION, DATE, LICENSE): what was taught has to be said.
_GIVEN = frozenset({"version", "open_source"})

# System prompts of other people's applications. None is a training one (data/identity, `systems`); a test holds this.
CUSTOM_SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "You show visitors around a museum of natural history.",
        "You teach SQL to beginners with short examples.",
        "You are a cook. Give recipes for two people, with what can be found in any kitchen.",
        "You help hobby gardeners. Say first what to do this week.",
        "You are the night desk of a hotel. Be courteous and brief.",
    ),
    "zh": (
        "你在自然博物馆为参观者讲解展品。",
        "你教初学者写 SQL，多举简短的例子。",
        "你是一名厨师，给出两人份、家常食材的菜谱。",
        "你给业余园艺爱好者出主意，先说这一周该做什么。",
        "你是酒店夜班前台，说话礼貌、简短。",
    ),
}

_CATEGORY_ORDER = {category: index for index, category in enumerate(WEIGHTS)}
_FIELDS = ("id", "lang", "category", "question", "system", "turns", "expect", "expect_any", "check")
_FIX = "see data/probes/README.md"


@dataclass(frozen=True)
class Probe:
    """One question to ask before and after; `turns` come before it and `system` above it.

    `system` None: nothing is sent, so that the system prompt of the training, or the template's default, holds. An
    empty one is sent as it is: no system prompt at all. `expect` is set for identity, `check` where a rule can tell
    whether another answer is right.
    """

    id: str
    kind: Kind
    lang: str
    category: str
    question: str
    expect: Expect | None = None
    check: Check | None = None
    turns: tuple[Message, ...] = ()
    system: str | None = None
    context: Context = "trained"

    @property
    def about_nature(self) -> bool:
        """Whether it asks what the model is, not who."""
        return self.kind == "identity" and self.category in NATURE

    def messages(self) -> list[dict[str, str]]:
        """The conversation that ends in the question, as ms-swift takes it."""
        head = [Message("system", self.system)] if self.system is not None else []
        turns = (*head, *self.turns, Message("user", self.question))
        return [{"role": message.role, "content": message.content} for message in turns]


def identity_probes(
    held_out: Sequence[HeldOutQuestion],
    names: Collection[str],
    per_language: int,
    *,
    contexts: Sequence[Context] = ("trained", "none", "vendor", "custom"),
    vendor_system: str | None = None,
    trained_system: str | None = None,
) -> list[Probe]:
    """`per_language` held-out questions of each language in the trained context, their categories in turn; then each
    of them once more in one of the other `contexts`, such that every category meets every context.

    Asked are questions whose right answer holds one of `names`, those about a version, date or licence that was given,
    and those about the model's nature (`NATURE`): 12 categories as shipped, so 60 are 5 of each. Left out are purpose,
    abilities, languages and limits, where a right answer cannot be told from that of any assistant, and greetings and
    third parties: what those could show, the identity where nobody asked for it, general near-misses show (leakage).

    `vendor_system`: the default system prompt of the model's makers; None or "" when it has none. `trained_system`: the
    one in effect in training ("" for none, None when unknown). A context whose text equals it is left out, since that
    is the trained one. A question that brings a system prompt of its own is asked with it alone, once.
    """
    asking = [question for question in held_out if _asks_identity(question, set(names))]
    asking.sort(key=lambda question: question.id.rpartition("/")[2])  # a hash: mixes the styles of a category
    asking.sort(key=lambda question: _CATEGORY_ORDER.get(question.category, len(_CATEGORY_ORDER)))
    trained = [
        Probe(
            q.id,
            "identity",
            q.lang,
            q.category,
            q.question,
            q.expect,
            turns=q.turns,
            system=q.system,
            context="trained" if q.system is None else "own",
        )
        for q in _in_turn(asking, per_language)
    ]
    others = [
        context
        for context in ("none", "vendor", "custom")
        if context in contexts and _differs(context, vendor_system, trained_system)
    ]
    again = _in_other_contexts(trained, others, vendor_system or "")
    return [probe for probe in trained if probe.context == "own" or "trained" in contexts] + again


def general_probes(languages: Iterable[str], per_language: int, path: Path | None = None) -> list[Probe]:
    """`per_language` shipped general questions of each language: in turn one that a rule can check and one that none
    can (while there are both), each sort in turn from its kinds."""
    path = path or shipped("data") / "probes" / "general.yaml"
    wanted = set(languages)
    probes = [
        replace(_probe(values, line), kind="general", category=kind)
        for line, entry in _entries(path)
        for kind, values in [_without_kind(entry)]
        if values.get("lang") in wanted
    ]
    checkable = _in_turn([probe for probe in probes if probe.check], len(probes))
    others = _in_turn([probe for probe in probes if not probe.check], len(probes))
    return _in_turn([*checkable, *others], per_language, lambda probe: probe.check is not None)


def user_probes(path: Path) -> list[Probe]:
    """A user's own questions, each asked once as it stands: a list in YAML (there under `questions`, too), JSON or
    JSONL, else a text with one question a line. Fields: data/probes/README.md; a question may be a text alone.

    Raises UsageError with every problem found, each as `file:line`.
    """
    probes: list[Probe] = []
    problems: list[Problem] = []
    for line, value in _entries(path):
        try:
            probes.append(_probe(value, line))
        except ValueError as error:
            problems.append(Problem(f"{path}:{line}", str(error), _FIX))
    for id_, count in Counter(probe.id for probe in probes).items():
        if count > 1:
            problems.append(Problem(str(path), f"id {id_!r} is used {count} times", "give each its own, or none"))
    if not probes and not problems:
        problems.append(Problem(str(path), "holds no question", _FIX))
    if problems:
        raise UsageError(*problems)
    return probes


def likelihood_texts(languages: Iterable[str]) -> dict[str, str]:
    """The bundled general text of each of `languages`, whose likelihood is taken before and after."""
    folder = shipped("data") / "probes"
    return {lang: (folder / f"text-{lang}.txt").read_text(encoding="utf-8").strip() for lang in languages}


def _asks_identity(question: HeldOutQuestion, names: set[str]) -> bool:
    return bool(names & set(question.expect.must)) or question.category in NATURE | _GIVEN


def _differs(context: str, vendor: str | None, trained: str | None) -> bool:
    """Whether a context is another than the trained one, and than that without any system prompt."""
    if context == "none":
        return trained != ""
    return context == "custom" or bool(vendor and (trained is None or vendor.strip() != trained.strip()))


def _in_other_contexts(trained: Iterable[Probe], others: Sequence[str], vendor: str) -> list[Probe]:
    """Each probe without a system prompt of its own once more, the contexts in turn within each category; a category
    begins where the one before it stands, so that the contexts are asked about equally often."""
    if not others:
        return []
    found: list[Probe] = []
    begun: dict[tuple[str, str], int] = {}
    asked: Counter[tuple[str, str]] = Counter()
    customs: Counter[str] = Counter()
    for probe in trained:
        if probe.context == "own":
            continue
        group = (probe.lang, probe.category)
        begin = begun.setdefault(group, len(begun))
        context = others[(begin + asked[group]) % len(others)]
        asked[group] += 1
        if context == "custom":
            texts = CUSTOM_SYSTEMS.get(probe.lang, CUSTOM_SYSTEMS["en"])
            system = texts[customs[probe.lang] % len(texts)]
            customs[probe.lang] += 1
        else:
            system = vendor if context == "vendor" else ""
        found.append(replace(probe, id=f"{probe.id}@{context}", system=system, context=_CONTEXTS[context]))
    return found


_CONTEXTS: dict[str, Context] = {context: context for context in get_args(Context)}


def _without_kind(entry: object) -> tuple[str, dict[str, Any]]:
    values = dict(entry) if isinstance(entry, dict) else {}
    return str(values.pop("kind", "")), values


def _entries(path: Path) -> list[tuple[int, object]]:
    """Each question of a file with the line it begins on. Raises UsageError when the file holds no list of them."""
    if path.suffix.lower() in (".json", ".jsonl"):
        return read_records(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(Problem(str(path), f"is not UTF-8: {error.reason} at byte {error.start}")) from None
    except OSError as error:
        raise UsageError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    if path.suffix.lower() in (".yaml", ".yml"):
        return _yaml_entries(path, text)
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _yaml_entries(path: Path, text: str) -> list[tuple[int, object]]:
    import yaml  # and not ruamel.yaml: libyaml reads the shipped file in a tenth of the time, and nodes know their line

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        root = loader.get_single_node()
        if isinstance(root, yaml.MappingNode):
            root = next((value for key, value in root.value if key.value == "questions"), None)
        if not isinstance(root, yaml.SequenceNode):
            raise UsageError(Problem(str(path), "holds no list of questions", _FIX))
        return [(node.start_mark.line + 1, loader.construct_document(node)) for node in root.value]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError(Problem(place, f"is not YAML: {error.problem or error.context}", _FIX)) from None
    except yaml.YAMLError as error:
        raise UsageError(Problem(str(path), f"is not YAML: {error}", _FIX)) from None
    finally:
        loader.dispose()


def _probe(value: object, line: int) -> Probe:
    """A probe of kind "user" from one entry. Raises ValueError in words for the file's writer."""
    values = {"question": value} if isinstance(value, str) else value
    if not isinstance(values, dict):
        raise ValueError(f"a question is a text or a mapping, not {type(value).__name__}")
    unknown = [str(key) for key in values if key not in _FIELDS]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(_FIELDS)}")
    question = _text(values, "question")
    if not question:
        raise ValueError("question is missing or empty")
    system = _text(values, "system") if values.get("system") is not None else None
    return Probe(
        str(values.get("id", f"line-{line}")),
        "user",
        _text(values, "lang") or ("zh" if has_cjk(question) else "en"),
        _text(values, "category") or "own",
        question,
        _expect(values["expect"]) if values.get("expect") else None,
        _check(values),
        _turns(values.get("turns") or []),
        system,
        "trained" if system is None else "own",
    )


def _text(values: Mapping[Any, object], key: str) -> str:
    value = values.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text: {value!r}; put it in quotes")
    return value.strip()


def _check(values: Mapping[Any, object]) -> Check | None:
    """`expect_any` is a check of its own, or the `any_of` of `check`."""
    check = values.get("check", {})
    if not isinstance(check, dict):
        raise ValueError(f"check is a mapping, not {check!r}")
    if "expect_any" in values:
        if "any_of" in check:
            raise ValueError("expect_any and check.any_of are the same; give one")
        return Check.of({"any_of": values["expect_any"], **check})
    return Check.of(check) if "check" in values else None


def _expect(value: object) -> Expect:
    """What an identity answer has to hold, as in the held-out questions that `gen-identity` writes."""
    if not isinstance(value, dict) or value.keys() - {"must", "must_not", "polarity"}:
        raise ValueError("expect is a mapping of must, must_not and polarity")
    lists = [value.get(key) or [] for key in ("must", "must_not")]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise ValueError("expect.must and expect.must_not are lists of texts")
    polarity = value.get("polarity")
    if polarity not in (None, "yes", "no"):
        raise ValueError('expect.polarity is "yes" or "no", in quotes')
    return Expect(tuple(lists[0]), tuple(lists[1]), polarity)


def _turns(value: object) -> tuple[Message, ...]:
    wrong = ValueError("turns are mappings of role and content: user and assistant in turn, the assistant last")
    if not isinstance(value, list):
        raise wrong
    turns: list[Message] = []
    for turn in value:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in ("user", "assistant") or not isinstance(content, str):
            raise wrong
        turns.append(Message(role, content))
    if turns and disorder(tuple(turns)):
        raise wrong
    return tuple(turns)


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
