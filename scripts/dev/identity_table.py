"""Prints what data/identity holds and gives, as the Markdown that data/identity/README.md quotes.

    python scripts/dev/identity_table.py

First the distinct questions of each category and language, to train on and held out, without optional slots, and the
categories that such a slot adds or changes. Then the worst of 200 seeds, for the default number of rows and for many:
fewest distinct answers a row, the opening (two English words, two Chinese characters) that most answers share, and most
denials. Last the pairs of a training and a held-out question of a language whose character 3-grams have a Jaccard
similarity of 0.8 or more. Needs sft-kit on the path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sft_kit.data.text import NEAR, fold, grams
from sft_kit.identity.generate import WEIGHTS, IdentityRow, IdentitySpec, Split, generate, split
from sft_kit.identity.names import LANGUAGES, Lang
from sft_kit.identity.templates import TemplateSet, load_templates

SEEDS = range(200)
ROWS = (120, 400)
SPEC = IdentitySpec({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "Ye Botao"})
SLOTS = {"VERSION": "1.2", "DATE": "June 2025", "CAPABILITIES": "maths", "LIMITS": "law", "LICENSE": "Apache-2.0"}
WITH_SLOTS = {
    "version": ("VERSION", "DATE"),
    "open_source": ("LICENSE",),
    "capabilities": ("CAPABILITIES",),
    "limits": ("LIMITS",),
}
NAMES = {"zh": "Chinese", "en": "English"}
DENIAL = re.compile(
    r"(no|not|i'm not|it wasn't|that's not|that's a mix-up|i don't come)\b|不是|不，|并不|并非|我不是", re.IGNORECASE
)


def main() -> None:
    templates = load_templates()
    print(*questions_table(templates), sep="\n")
    print()
    print(*proportions_table(templates), sep="\n")
    print()
    pairs = near_pairs(templates)
    print(f"Pairs of a training and a held-out question with a similarity of {NEAR} or more: {pairs}.")


def questions_table(templates: TemplateSet) -> Iterable[str]:
    yield "| category | zh: train | held out | en: train | held out |"
    yield "|---|---:|---:|---:|---:|"
    sides = asked({}, templates)
    for category in sorted({category for category, _ in sides[0]}, key=list(WEIGHTS).index):
        yield cells(category, [side[category, lang] for lang in LANGUAGES for side in sides])
    yield cells("all, distinct", [distinct(side, lang) for lang in LANGUAGES for side in sides])
    for category, slots in WITH_SLOTS.items():
        given = asked({slot: SLOTS[slot] for slot in slots}, templates)
        label = f"{category}, {' and '.join(slots)} given"
        yield cells(label, [side[category, lang] for lang in LANGUAGES for side in given])


def cells(label: str, texts: Iterable[set[str]]) -> str:
    return f"| {label} | {' | '.join(str(len(of)) for of in texts)} |"


Asked = dict[tuple[str, Lang], set[str]]


def asked(slots: Mapping[str, str], templates: TemplateSet) -> tuple[Asked, Asked]:
    """(category, language) -> the texts of its questions, of those in rows and of those held out."""
    data = generate(replace(SPEC, rows=5000, slots=slots), templates)
    trained: Asked = {}
    held: Asked = {}
    for row in data.rows:
        trained.setdefault((row.category, row.lang), set()).add(row.row.messages[-2].content)
    for question in data.held_out:
        held.setdefault((question.category, question.lang), set()).add(question.question)
    return trained, held


def distinct(side: Asked, lang: Lang) -> set[str]:
    return {fold(text) for (_, of), texts in side.items() if of == lang for text in texts}


def proportions_table(templates: TemplateSet) -> Iterable[str]:
    yield "| rows, both languages | language | distinct answers a row, least | largest opening | denials, most |"
    yield "|---:|---|---:|---:|---:|"
    questions = split(SPEC, templates)
    for rows in ROWS:
        for lang, (answers, opening, denials) in worst(rows, templates, questions).items():
            yield f"| {rows} | {NAMES[lang]} | {answers:.2f} | {opening:.0%} | {denials:.0%} |"


def worst(rows: int, templates: TemplateSet, questions: Split) -> dict[Lang, tuple[float, float, float]]:
    found: dict[Lang, list[tuple[float, float, float]]] = {lang: [] for lang in LANGUAGES}
    for seed in SEEDS:
        data = generate(replace(SPEC, rows=rows, seed=seed), templates, questions)
        for lang in LANGUAGES:
            found[lang].append(proportions([row for row in data.rows if row.lang == lang], lang))
    return {
        lang: (min(of[0] for of in each), max(of[1] for of in each), max(of[2] for of in each))
        for lang, each in found.items()
    }


def proportions(rows: Sequence[IdentityRow], lang: Lang) -> tuple[float, float, float]:
    """Distinct answers, the largest share of one opening, denials; each a row."""
    answers = [row.row.messages[-1].content for row in rows]
    openings = Counter(text[:2] if lang == "zh" else " ".join(text.split()[:2]) for text in answers)
    denials = sum(DENIAL.match(text) is not None for text in answers)
    return len(set(answers)) / len(rows), max(openings.values()) / len(rows), denials / len(rows)


def near_pairs(templates: TemplateSet) -> int:
    trained, held = asked(SLOTS, templates)
    count = 0
    for lang in LANGUAGES:
        others = [grams(text) for text in distinct(held, lang)]
        for one in map(grams, distinct(trained, lang)):
            count += sum(len(one & other) >= NEAR * len(one | other) for other in others)
    return count


if __name__ == "__main__":
    main()
