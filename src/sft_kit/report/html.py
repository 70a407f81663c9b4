"""The report as one HTML page that needs nothing but itself: no network, no font, no other file.

Owns what stands on the page (page.html.j2, with page.css and page.js put into it). What it says is `words` and
`tables`. Answers are data: everything is escaped, characters that reorder or hide text are shown as code points, and
the page's own Content-Security-Policy lets no style and no script run but the two it came with.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_kit.evaluate.compare import Pair, Side
from sft_kit.evaluate.score import thinking, visible
from sft_kit.report import marked
from sft_kit.report.marked import Stretch, marks, pieces, readable, stretches
from sft_kit.report.page import Report
from sft_kit.report.plot import loss_svg
from sft_kit.report.tables import (
    Score,
    failures_first,
    identity_scores,
    knowledge_scores,
    outcomes,
    overall,
    verdict,
)
from sft_kit.report.words import (
    CONTEXTS,
    KINDS,
    LANGUAGES,
    MEASURES,
    Mood,
    conclusion,
    gate,
    interval,
    p_value,
    percent,
    statements,
)

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLD = 420  # characters of an answer from which on it is folded,
_START = 300  # and so many of it stay in sight
_MOST = 10_000  # of one answer on the page; report.json has the whole
_EXAMPLES = 12  # answers listed under leakage and forgetting; the table has all
_OUTCOMES = {
    "failed": "failed after training",
    "leaked": "leaked the identity",
    "old": "claims another identity",
    "lost": "right before, wrong after",
    "won": "wrong before, right after",
    "wrong": "wrong after",
}


@dataclass(frozen=True)
class Answer:
    """One answer as it is shown: `start` is what a folded one shows of its `text`, `cut` what is left out of it."""

    mood: Mood
    verdict: str
    text: Sequence[Stretch]
    start: Sequence[Stretch]
    characters: int
    cut: int
    thoughts: Sequence[Stretch]


@dataclass(frozen=True)
class Row:
    """One question with both answers. `data` are its values for the filters."""

    data: Mapping[str, str]
    about: Sequence[str]
    lang: str
    question: Sequence[Stretch]
    turns: Sequence[tuple[str, Sequence[Stretch]]]
    base: Answer
    tuned: Answer


@dataclass(frozen=True)
class Filter:
    """A choice of rows: the name of its field, its label, and its (value, words, count) options."""

    name: str
    label: str
    options: Sequence[tuple[str, str, int]]


def html(report: Report) -> str:
    """The page."""
    from markupsafe import Markup

    evaluation = report.evaluation
    pairs = failures_first(evaluation)
    keys = _Keys()
    rows = [_row(pair, evaluation.names, keys) for pair in pairs]
    css, script = (_part(name) for name in ("page.css", "page.js"))
    mood, gate_says = gate(report)
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            css=Markup(css),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            policy=_policy(css, script),
            conclusion=conclusion(report),
            statements=statements(report),
            gate_mood=mood,
            gate_says=gate_says,
            measures=MEASURES,
            overall=overall(evaluation),
            groups=[
                (grouping, [(score, keys.link(grouping, score)) for score in scores])
                for grouping, scores in identity_scores(evaluation).items()
            ],
            leaks=[row for row in rows if "leaked" in row.data["outcome"].split()],
            leakage=evaluation.leakage("tuned") if evaluation.names else None,
            lost=[row for row in rows if "lost" in row.data["outcome"].split()],
            knowledge=[(score, "") for score in knowledge_scores(evaluation)],
            flips=evaluation.flips(),
            likelihoods=[(LANGUAGES.get(lang, lang), one) for lang, one in evaluation.likelihoods.items()],
            rows=rows,
            failed=sum("failed" in row.data["outcome"].split() for row in rows),
            filters=_filters(rows, keys),
            examples=_EXAMPLES,
            loss=Markup(loss_svg(report.loss, title="Training loss", styled=False)),  # noqa: S704 - escapes its title
            has_loss=any(step.loss is not None for step in report.loss),
            mix=_mix(report.mix),
            facts=[*report.facts, *_evaluated(report)],
        )
    )
    return page.lstrip().encode("utf-8", "replace").decode("utf-8")  # a lone surrogate in a name cannot be written


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "p_value": p_value, "number": _number}
    environment.globals |= {"name_of": marked.name_of}
    return environment


def _seen(value: object) -> object:
    """What the page shows, with the code points of characters that would reorder or hide what stands around."""
    return readable(value) if type(value) is str else value  # not Markup, which is our own


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _policy(css: str, script: str) -> str:
    style, code = (f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in (css, script))
    return (
        f"default-src 'none'; style-src {style}; script-src {code}; img-src data:; base-uri 'none'; form-action 'none'"
    )


class _Keys:
    """A short key for every value that rows are filtered by: a user's category may hold spaces."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def of(self, field: str, value: str) -> str:
        values = self._values.setdefault(field, [])
        if value not in values:
            values.append(value)
        return f"{field[0]}{values.index(value)}"

    def value(self, field: str, key: str) -> str:
        return self._values[field][int(key[1:])]

    def link(self, grouping: str, score: Score) -> str:
        """The filter that shows the identity questions of one line of the scores."""
        field = {"language": "lang"}.get(grouping, grouping)
        return f"kind={self.of('kind', 'identity')} {field}={self.of(field, score.key)}"


def _row(pair: Pair, names: Sequence[str], keys: _Keys) -> Row:
    probe = pair.probe
    fields = {"kind": probe.kind, "category": probe.category, "lang": probe.lang, "context": probe.context}
    about = [KINDS[probe.kind], probe.category.replace("_", " "), LANGUAGES.get(probe.lang, probe.lang)]
    if probe.context != "trained":
        about.append(CONTEXTS[probe.context])
    turns = [(turn.role, stretches(turn.content)) for turn in probe.turns]
    if probe.system:
        turns.insert(0, ("system", stretches(probe.system)))
    return Row(
        {**{field: keys.of(field, value) for field, value in fields.items()}, "outcome": " ".join(outcomes(pair))},
        [text for text in about if text],
        probe.lang,
        stretches(probe.question),
        turns,
        _answer(pair, pair.base, names),
        _answer(pair, pair.tuned, names),
    )


def _answer(pair: Pair, side: Side, names: Sequence[str]) -> Answer:
    own = {*names, *side.leaked}
    claimed = {side.old.affirmed} if side.old and side.old.affirmed else set()
    seen = set(side.old.raw) - claimed if side.old else set()
    mood, words = verdict(pair, side)
    text = visible(side.answer).strip()
    shown = text[:_MOST]
    start = _beginning(shown) if len(text) > _FOLD else ""
    found = marks(shown, own, claimed, seen)
    return Answer(
        mood,
        words,
        pieces(shown, found),
        pieces(start, found[: len(start)]),
        len(text),
        len(text) - len(shown),
        stretches(thinking(side.answer).strip()[:_MOST], own, claimed, seen),
    )


def _beginning(text: str) -> str:
    """About the first 300 characters, up to the end of a word or a sentence where one is near."""
    ends = [found.end() for found in re.finditer(r"\s|[，。！？；、]", text[:_START])]
    return text[: ends[-1] if ends and ends[-1] > _START // 2 else _START].rstrip()


def _filters(rows: Iterable[Row], keys: _Keys) -> list[Filter]:
    """The choices that leave out something: a field with one value is no choice."""
    names = {
        "kind": ("Kind", KINDS), "outcome": ("Outcome", _OUTCOMES), "category": ("Category", {}),
        "lang": ("Language", LANGUAGES), "context": ("Context", CONTEXTS),
    }  # fmt: skip
    found = []
    for field, (label, words) in names.items():
        counts: dict[str, int] = {}
        for row in rows:
            for key in row.data[field].split():
                counts[key] = counts.get(key, 0) + 1
        values = {key: key if field == "outcome" else keys.value(field, key) for key in counts}
        order = list(_OUTCOMES) if field == "outcome" else sorted(values.values())
        options = [
            (key, words.get(value, value.replace("_", " ") or "none"), counts[key])
            for key, value in sorted(values.items(), key=lambda item: order.index(item[1]))
        ]
        if len(options) > 1 or (field == "outcome" and options):
            found.append(Filter(field, label, options))
    return found


@dataclass(frozen=True)
class Source:
    """One source of the mix as it is drawn: `start` and `share` in 0..1 where the share is known."""

    name: str
    rows: int | None
    trained: int | None
    repeats: float | None
    share: float | None
    start: float
    colour: int


def _mix(mix: Iterable[Mapping[str, Any]]) -> list[Source]:
    sources, start = [], 0.0
    for index, one in enumerate(mix):
        share = one.get("share")
        sources.append(
            Source(
                str(one.get("name", "")), one.get("rows"), one.get("trained"), one.get("repeats"), share, start,
                index % 6 + 1,
            )
        )  # fmt: skip
        start += share or 0.0
    return sources


def _evaluated(report: Report) -> list[tuple[str, str]]:
    evaluation = report.evaluation
    asked = f"{len(evaluation.pairs)} questions to each model"
    return [*([("evaluated", report.created)] if report.created else []), ("asked", asked)]


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
