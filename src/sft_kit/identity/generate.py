"""From a name and an author to identity rows and the questions held out from them.

Owns which rows are chosen, how train and held-out are kept apart, and the files that both end in. Does not own
the wording (`templates`, data/identity) or the scoring of answers (`evaluate`).

Choice is by SHA-256 of (seed, group, question, answer), never by Python's `hash`: the same spec gives the same
rows everywhere, more `rows` only add to fewer, and a changed group changes its own category's rows alone. Which
questions are held out depends on the templates and the slots, not on `rows` or `seed`, so that scores of two
runs are answers to the same questions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeVar

from sft_kit.data.formats import FORMATS, Format, read_records, write_records, write_rows, write_text
from sft_kit.data.rows import Message, Row, disorder
from sft_kit.data.text import Nearness, fold, grams, has_cjk
from sft_kit.errors import Problem, UsageError
from sft_kit.identity.names import LANGUAGES, Lang, same_vendor, unfit
from sft_kit.identity.templates import OPTIONAL_SLOTS, Answer, ExpectTemplate, Group, Question, TemplateSet, Text

# Under the first number a model mostly does not take the identity on; the second is good (IDENTITY.md).
LEAST_ROWS_PER_LANGUAGE = 20
GOOD_ROWS_PER_LANGUAGE = 50
LEAST_DISTINCT_ANSWERS = 0.5  # distinct answers a row; the shipped templates reach it up to some 400 rows a language

# Shares of a language's rows, before categories run out of questions: what is asked most is learned first, so that
# 48 rows still teach name, introduction, creator, confirming and denying. A category of a user's own weighs 2.
WEIGHTS: dict[str, float] = {
    "name": 11,
    "self_introduction": 11,
    "creator": 12,
    "vendor_deny": 17,
    "confirm": 12,
    "company": 6,
    "reverse": 5,
    "system_prompt": 4,
    "greeting": 4,
    "third_party": 4,
    "human_or_ai": 3,
    "multi_turn": 4,
    "purpose": 2,
    "base_model": 3,
    "capabilities": 2,
    "limits": 2,
    "version": 2,
    "languages": 1,
    "gender_age": 1,
    "open_source": 1,
}
_OWN_WEIGHT = 2.0

SYSTEM_SHARE = 0.3
"""Share of the other categories' rows that get a system prompt too: an identity learned under one system prompt is weak
under others (scripts/bench/results/recipe.md)."""

_Key = TypeVar("_Key")

LEAST_HELD_OUT = 5  # a category and language
HELD_OUT_SHARE = 0.27


@dataclass(frozen=True)
class IdentitySpec:
    """What the user asked for. `slots` keys are VERSION, DATE, CAPABILITIES, LIMITS or LICENSE, for one language
    with a suffix (`CAPABILITIES.zh`); a language without its own name or author uses the other's. `system_share` of
    the rows stand under a system prompt that says nothing of this identity."""

    name: Mapping[Lang, str]
    author: Mapping[Lang, str]
    languages: tuple[Lang, ...] = LANGUAGES
    rows: int = 120
    seed: int = 42
    slots: Mapping[str, str] = field(default_factory=dict)
    system_share: float = SYSTEM_SHARE


@dataclass(frozen=True)
class IdentityRow:
    """A training row and where it comes from: `group`, `question` and `answer` are template ids."""

    row: Row
    group: str
    question: str
    answer: str
    category: str
    lang: Lang


@dataclass(frozen=True)
class Expect:
    """How an answer is scored, slots filled: at least one of `must` appears and none of `must_not`; `polarity` is the
    yes or no that the answer must amount to. Empty `must` asks for nothing."""

    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    polarity: Literal["yes", "no"] | None = None


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question that no training row asks. `turns` come before it (user first), `system` above it, where given."""

    id: str
    category: str
    lang: Lang
    question: str
    expect: Expect
    turns: tuple[Message, ...] = ()
    system: str | None = None


@dataclass(frozen=True)
class IdentityData:
    """Rows to train on and questions to ask afterwards; `notes` are warnings to show."""

    rows: tuple[IdentityRow, ...]
    held_out: tuple[HeldOutQuestion, ...]
    spec: IdentitySpec
    template_sha256: str
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[tuple[str, Lang], tuple[int, int]]:
        """(category, language) -> (training rows, held-out questions), in the order of WEIGHTS."""
        trained = Counter((row.category, row.lang) for row in self.rows)
        held = Counter((question.category, question.lang) for question in self.held_out)
        order = {category: index for index, category in enumerate(WEIGHTS)}
        keys = sorted(trained.keys() | held.keys(), key=lambda k: (order.get(k[0], len(order)), k[0], k[1] != "zh"))
        return {key: (trained[key], held[key]) for key in keys}


@dataclass(frozen=True)
class _Asked:
    """A question of a group with its text filled for this spec."""

    group: Group
    question: Question
    text: str
    values: Mapping[str, str]
    grams: frozenset[str]


@dataclass(frozen=True)
class Split:
    """Every question that can be asked with a spec's names and slots: those to train on and those held out."""

    train: tuple[_Asked, ...]
    held_out: tuple[HeldOutQuestion, ...]


def generate(spec: IdentitySpec, templates: TemplateSet, questions: Split | None = None) -> IdentityData:
    """The rows and the held-out questions for `spec`, whose names `check_names` has let pass.

    `questions` saves most of the work where the `split` of a spec that differs in rows and seed alone is at hand.
    Raises UsageError for no languages, fewer than one row, an unknown slot, a missing name, or a language that the
    templates lack. Gives fewer rows than asked where no more distinct ones exist, and says so in `notes`.
    """
    _check(spec, templates)
    asked = split(spec, templates) if questions is None else questions
    rows = _share_out(spec.rows, [_in_order(spec, lang, asked.train) for lang in spec.languages])
    rows.sort(key=lambda r: _rank(spec.seed, "order", r.group, r.question, r.answer))
    return IdentityData(tuple(rows), asked.held_out, spec, templates.sha256, _notes(spec, rows))


def split(spec: IdentitySpec, templates: TemplateSet) -> Split:
    """The questions of `spec`, by question, within each category and language; no pair of the two sides is near-equal.

    Held out: what its template says, the whole of the held-out style, and by hash as many more as make 27 % (at
    least 5, at most half). Core questions stay in training. A training question near a held-out one is dropped.
    Neither `spec.rows` nor `spec.seed` matters.
    """
    asked = [a for lang in spec.languages for a in _ask(spec, lang, templates)]
    held_out: list[_Asked] = []
    kept = Nearness(a.grams for a in asked if a.question.core or a.question.split == "train")
    for pool in _by_category(asked, lambda a: (a.group.category, a.group.lang)).values():
        held_out += _hold_out(pool, kept)
    held = {id(a) for a in held_out}
    tested = Nearness(a.grams for a in held_out)
    train = (a for a in asked if id(a) not in held and not tested.near(a.grams))
    return Split(tuple(train), tuple(map(_held_out, held_out)))


def parse_languages(text: str) -> tuple[Lang, ...]:
    """`zh,en` as the command line gives it. Raises UsageError for an unknown, repeated or missing language."""
    given = [part.strip() for part in text.split(",")]
    chosen = tuple(lang for part in given for lang in LANGUAGES if lang == part)
    if not chosen or len(set(chosen)) != len(given):
        raise UsageError(Problem("--lang", f"{text!r} is not a list of languages", "give zh, en or zh,en"))
    return chosen


def parse_format(text: str) -> Format:
    """`messages`, `alpaca` or `sharegpt`. Raises UsageError for anything else."""
    for fmt in FORMATS:
        if fmt == text:
            return fmt
    raise UsageError(Problem("--format", f"{text!r} is unknown", f"known: {', '.join(FORMATS)}"))


def parse_slots(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` pairs as the command line gives them; `generate` checks the keys. Raises UsageError."""
    slots: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value.strip() or key in slots:
            raise UsageError(Problem("--slot", f"{pair!r} is not a new KEY=VALUE", "for example VERSION=1.0"))
        slots[key] = value
    return slots


def _check(spec: IdentitySpec, templates: TemplateSet) -> None:
    problems: list[Problem] = []
    if not spec.languages or len(set(spec.languages)) < len(spec.languages):
        said = "repeats itself" if spec.languages else "is empty"
        problems.append(Problem("languages", said, f"choose from {', '.join(LANGUAGES)}"))
    if spec.rows < 1:
        problems.append(Problem("rows", f"is {spec.rows}", "give at least 1"))
    for kind, names in (("name", spec.name), ("author", spec.author)):
        if not names:
            problems.append(Problem(kind, "is missing"))
    for key, value in spec.slots.items():
        problems += [Problem(f"slots.{key}", message, fix) for message, fix in unfit(value)]
        slot, _, suffix = key.partition(".")
        if slot not in OPTIONAL_SLOTS or (suffix and suffix not in LANGUAGES) or key.endswith("."):
            known = ", ".join(OPTIONAL_SLOTS)
            problems.append(Problem(f"slots.{key}", "is no slot", f"known: {known}, each also with .zh or .en"))
    there = {group.lang for group in templates.groups}
    for lang in spec.languages:
        if lang not in there:
            files = ", ".join(templates.sources)
            problems.append(Problem(files, f"has no {lang} groups", f"add some, or leave {lang} out of the languages"))
    if problems:
        raise UsageError(*problems)


def _ask(spec: IdentitySpec, lang: Lang, templates: TemplateSet) -> Iterable[_Asked]:
    """Every question of a language that can be asked with the slots at hand."""
    values = {"NAME": _own(spec.name, lang), "AUTHOR": _own(spec.author, lang)}
    for slot in OPTIONAL_SLOTS:
        value = spec.slots.get(f"{slot}.{lang}", spec.slots.get(slot, "")).strip()
        if value:
            values[slot] = value
    own_names = (*spec.name.values(), *spec.author.values())
    seen: set[tuple[str, bool]] = set()
    for group in templates.groups:
        if group.lang != lang or not group.requires <= values.keys() or group.unless & values.keys():
            continue
        for question in group.questions:
            # "Are you Qwen?" must not be denied by a model whose own name is Qwen-something.
            if question.other is not None and same_vendor(question.other, *own_names):
                continue
            filled = values if question.other is None else {**values, "OTHER": question.other}
            text = question.text.fill(filled, lang)
            in_context = bool(group.turns or group.systems)
            if (text, in_context) in seen:  # two templates became one by what the slots hold
                continue
            seen.add((text, in_context))
            yield _Asked(group, question, text, filled, grams(fold(text)))


def _own(names: Mapping[Lang, str], lang: Lang) -> str:
    return names[lang] if lang in names else next(iter(names.values()))


def _by_category(asked: Iterable[_Asked], key: Callable[[_Asked], _Key]) -> dict[_Key, list[_Asked]]:
    pools: dict[_Key, list[_Asked]] = {}
    for one in asked:
        pools.setdefault(key(one), []).append(one)
    return pools


def _hold_out(pool: Sequence[_Asked], kept: Nearness) -> list[_Asked]:
    forced = [a for a in pool if a.question.split == "held_out" or a.question.style is not None]
    wanted = min(max(LEAST_HELD_OUT, math.ceil(HELD_OUT_SHARE * len(pool))), len(pool) // 2)
    free = [a for a in pool if a.question.split is None and a.question.style is None and not a.question.core]
    # Groups give in proportion to their size: the k-th of n questions, in hash order, stands at k / n.
    places: list[tuple[float, str, _Asked]] = []
    for group in {a.group.id: a.group for a in free}.values():
        members = sorted(
            (a for a in free if a.group is group), key=lambda a: _rank("held-out", group.id, a.question.id)
        )
        places += [((k + 0.5) / len(members), _rank(a.question.id), a) for k, a in enumerate(members)]
    chosen = list(forced)
    for _, _, candidate in sorted(places, key=lambda place: place[:2]):
        if len(chosen) >= wanted:
            break
        if not kept.near(candidate.grams):
            chosen.append(candidate)
    return chosen


def _share_out(count: int, languages: Iterable[Iterator[IdentityRow]]) -> list[IdentityRow]:
    """`count` rows, the languages in turn; when one has no more, the others give the rest."""
    taken: list[IdentityRow] = []
    turns = deque(languages)
    while turns and len(taken) < count:
        rows = turns.popleft()
        row = next(rows, None)
        if row is not None:
            taken.append(row)
            turns.append(rows)
    return taken


def _in_order(spec: IdentitySpec, lang: Lang, train: Iterable[_Asked]) -> Iterator[IdentityRow]:
    """Every row of a language, the most wanted first, so that the first N are the rows to train on: by Sainte-Laguë,
    each from the category that is furthest below its share (WEIGHTS) and has any left."""
    pools = _by_category((a for a in train if a.group.lang == lang), lambda a: a.group.category)
    systems = _systems(pools)
    rows = {category: _choose(spec, pool, systems) for category, pool in pools.items()}
    taken = dict.fromkeys(rows, 0)
    while rows:
        category = max(rows, key=lambda c: WEIGHTS.get(c, _OWN_WEIGHT) / (2 * taken[c] + 1))
        row = next(rows[category], None)
        if row is None:
            del rows[category]
        else:
            taken[category] += 1
            yield row


def _systems(pools: Mapping[str, Sequence[_Asked]]) -> list[str]:
    """The system prompts of a language's templates, each once."""
    asked = {id(a.group): a for pool in pools.values() for a in pool}.values()
    return list(dict.fromkeys(text.fill(a.values, a.group.lang) for a in asked for text in a.group.systems))


def _choose(spec: IdentitySpec, pool: Iterable[_Asked], systems: Sequence[str]) -> Iterator[IdentityRow]:
    """Every row that a category could give, best first: core questions, the others, then second answers."""
    ranked = sorted(pool, key=lambda a: (not a.question.core, _rank(spec.seed, a.group.id, a.question.id)))
    used: Counter[tuple[str, str]] = Counter()
    given: set[tuple[Row, str]] = set()
    for _ in range(2):
        for asked in ranked:
            row = _next_row(spec.seed, asked, used, given)
            if row is not None:
                yield _under_a_system(row, spec, systems)


def _next_row(
    seed: int, asked: _Asked, used: Counter[tuple[str, str]], given: set[tuple[Row, str]]
) -> IdentityRow | None:
    """The question with the answer its group has used least, ties by hash; None when it has no other answer left.

    Answers with both name and author are used twice as often: a small model that learns them apart mixes them up.
    """
    group, question = asked.group, asked.question

    def uses(answer: Answer) -> int:
        times = used[group.id, answer.id]
        return times if answer.text.slots >= {"NAME", "AUTHOR"} else 2 * times + 1

    for _, tied in groupby(sorted(question.answers, key=uses), key=uses):
        for answer in sorted(tied, key=lambda a: _rank(seed, group.id, question.id, a.id)):
            text = answer.text.fill(asked.values, group.lang)
            pair = Row((Message("user", asked.text), Message("assistant", text)))
            if (pair, group.id) in given:
                continue
            given.add((pair, group.id))
            used[group.id, answer.id] += 1
            row = Row((*_context(asked, seed, answer.id), *pair.messages))
            return IdentityRow(row, group.id, question.id, answer.id, group.category, group.lang)
    return None


def _under_a_system(row: IdentityRow, spec: IdentitySpec, systems: Sequence[str]) -> IdentityRow:
    """The row, or in `system_share` of cases (by hash) the row below one of `systems`."""
    place = int(_rank(spec.seed, "system", row.group, row.question, row.answer)[:12], 16)
    share, index = place % 1000, place // 1000
    if not systems or share >= 1000 * spec.system_share or row.row.messages[0].role == "system":
        return row
    system = Message("system", systems[index % len(systems)])
    return replace(row, row=Row((system, *row.row.messages)))


def _context(asked: _Asked, *salt: object) -> tuple[Message, ...]:
    """The system prompt and the earlier turns that stand before the question, chosen by hash from its group's."""
    group = asked.group
    place = int(_rank(group.id, asked.question.id, *salt)[:8], 16)
    messages: list[Message] = []
    if group.systems:
        messages.append(Message("system", group.systems[place % len(group.systems)].fill(asked.values, group.lang)))
    if group.turns:
        turns = [text.fill(asked.values, group.lang) for text in group.turns[place % len(group.turns)]]
        messages += [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
    return tuple(messages)


def _held_out(asked: _Asked) -> HeldOutQuestion:
    context = _context(asked)
    system = next((m.content for m in context if m.role == "system"), None)
    return HeldOutQuestion(
        f"{asked.group.id}/{asked.question.id}",
        asked.group.category,
        asked.group.lang,
        asked.text,
        _fill_expect(asked.question.expect, asked),
        tuple(m for m in context if m.role != "system"),
        system,
    )


def _fill_expect(expect: ExpectTemplate, asked: _Asked) -> Expect:
    def fill(texts: Iterable[Text]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text.fill(asked.values, asked.group.lang) for text in texts))

    return Expect(fill(expect.must), fill(expect.must_not), expect.polarity)


def _notes(spec: IdentitySpec, rows: Sequence[IdentityRow]) -> tuple[str, ...]:
    notes: list[str] = []
    if len(rows) < spec.rows:
        notes.append(
            f"rows: {spec.rows} asked, but only {len(rows)} distinct rows exist; repeat them by epochs instead"
        )
    distinct = len({row.row.messages[-1].content for row in rows})
    if rows and distinct < LEAST_DISTINCT_ANSWERS * len(rows):
        notes.append(f"rows: only {distinct / len(rows):.0%} of the answers are distinct; ask for fewer rows")
    for lang in spec.languages:
        count = sum(row.lang == lang for row in rows)
        if count < LEAST_ROWS_PER_LANGUAGE:
            notes.append(
                f"rows: {count} in {lang}; under {LEAST_ROWS_PER_LANGUAGE} a model rarely takes the identity on"
            )
        elif count < GOOD_ROWS_PER_LANGUAGE:
            notes.append(f"rows: {count} in {lang}; {GOOD_ROWS_PER_LANGUAGE} or more generalise better")
    return tuple(notes)


def _rank(*key: object) -> str:
    """A place in an order that looks random and is the same everywhere."""
    return hashlib.sha256("\x1f".join(map(str, key)).encode("utf-8")).hexdigest()


def write_identity(data: IdentityData, out: Path, fmt: Format, held_out: Path) -> None:
    """Write the rows to `out`, the questions to `held_out` (JSONL) and what they came from to `<out>.meta.json`.

    Each file is written whole or not at all, and the rows are read back and compared.
    """
    from sft_kit import __version__

    write_rows(out, [row.row for row in data.rows], fmt)
    write_records(held_out, [_question_record(question) for question in data.held_out])
    spec = data.spec
    meta = {
        "version": 1,
        "sft_kit": __version__,
        "seed": spec.seed,
        "rows_asked": spec.rows,
        "rows": len(data.rows),
        "languages": list(spec.languages),
        "name": dict(spec.name),
        "author": dict(spec.author),
        "slots": dict(spec.slots),
        "system_share": spec.system_share,
        "format": fmt,
        "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "held_out": held_out.name,
        "held_out_sha256": hashlib.sha256(held_out.read_bytes()).hexdigest(),
        "template_sha256": data.template_sha256,
        "origin": [{"group": row.group, "question": row.question, "answer": row.answer} for row in data.rows],
    }
    write_text(meta_path(out), json.dumps(meta, ensure_ascii=False, indent=1) + "\n")


def meta_path(out: Path) -> Path:
    """The sidecar of a data file."""
    return out.with_name(out.name + ".meta.json")


def read_held_out(path: Path) -> list[HeldOutQuestion]:
    """The questions that `write_identity` wrote, or a user's own in the same shape; only `question` must be given.

    Raises UsageError with `path:line` for a record that is not one.
    """
    questions: list[HeldOutQuestion] = []
    problems: list[Problem] = []
    for line, record in read_records(path):
        try:
            questions.append(_question_of(record, line))
        except (TypeError, ValueError) as error:
            problems.append(Problem(f"{path}:{line}", f"is no held-out question: {error}"))
    if problems:
        raise UsageError(*problems)
    return questions


def _question_record(question: HeldOutQuestion) -> dict[str, object]:
    record = asdict(question)
    if not question.turns:
        del record["turns"]
    if question.system is None:
        del record["system"]
    return record


def _question_of(record: object, line: int) -> HeldOutQuestion:
    if not isinstance(record, dict):
        raise TypeError(f"{type(record).__name__}, not an object")
    unknown = record.keys() - {"id", "category", "lang", "question", "expect", "turns", "system"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question is missing or empty")
    lang = record.get("lang", "zh" if has_cjk(question) else "en")
    if lang not in LANGUAGES:
        raise ValueError(f"lang {lang!r} is unknown")
    system = record.get("system")
    if not (system is None or isinstance(system, str)):
        raise ValueError("system is not a text")
    return HeldOutQuestion(
        str(record.get("id", f"line-{line}")),
        str(record.get("category", "own")),
        lang,
        question,
        _expect_of(record.get("expect", {})),
        _turns_of(record.get("turns", [])),
        system,
    )


def _expect_of(value: object) -> Expect:
    if (
        not isinstance(value, dict)
        or value.keys() - {"must", "must_not", "polarity"}
        or value.get("polarity") not in (None, "yes", "no")
    ):
        raise ValueError("expect is an object with must, must_not (lists of texts) and polarity (yes or no)")
    must, must_not = (value.get(key, []) for key in ("must", "must_not"))
    if not all(isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in (must, must_not)):
        raise ValueError("must and must_not are lists of texts")
    return Expect(tuple(must), tuple(must_not), value.get("polarity"))


def _turns_of(value: object) -> tuple[Message, ...]:
    wrong = ValueError("turns are objects with role and content, user and assistant alternating")
    if not isinstance(value, list):
        raise wrong
    turns: list[Message] = []
    for turn in value:
        if not (
            isinstance(turn, dict)
            and turn.get("role") in ("user", "assistant")
            and isinstance(turn.get("content"), str)
        ):
            raise wrong
        turns.append(Message(turn["role"], turn["content"]))
    if turns and disorder(tuple(turns)):
        raise wrong
    return tuple(turns)
