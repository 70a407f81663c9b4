"""The shipped probes and replay prompts: enough, well formed, and none asked that is also trained."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sft_kit.data.text import NEAR, fold, grams
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.score import mentions, normalise
from sft_kit.identity.generate import IdentitySpec, generate
from sft_kit.identity.templates import load_templates
from sft_kit.resources import shipped
from sft_kit.run.replay import replay_prompts

KINDS = {"fact", "arithmetic", "instruction", "writing", "code", "chat", "near-miss"}
REPLAY_KINDS = [
    "advice", "chat", "code", "constraint", "definition", "extraction", "fact", "list", "maths", "near-miss",
    "reasoning", "role-play", "summary", "translation", "writing",
]  # fmt: skip


def probes() -> list[dict[str, Any]]:
    questions: list[dict[str, Any]] = YAML(typ="safe").load(shipped("data") / "probes" / "general.yaml")["questions"]
    return questions


def prompts() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = YAML(typ="safe").load(shipped("data") / "replay" / "prompts.yaml")[
        "prompts"
    ]
    return found


def identity_questions() -> set[str]:
    slots = {"VERSION": "1.2", "DATE": "June 2025", "CAPABILITIES": "maths", "LIMITS": "law", "LICENSE": "MIT"}
    spec = IdentitySpec({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "Ye Botao"}, rows=5000, slots=slots)
    data = generate(spec, load_templates())
    return {r.row.messages[-2].content for r in data.rows} | {h.question for h in data.held_out}


@cache
def pieces(text: str) -> frozenset[str]:
    return grams(fold(text))


def alike(one: str, other: str) -> bool:
    common = len(pieces(one) & pieces(other))
    return common >= NEAR * (len(pieces(one)) + len(pieces(other)) - common)


def near_pairs(some: set[str], others: set[str]) -> list[tuple[str, str]]:
    return [(a, b) for a in some for b in others if alike(a, b)]


def test_probes_are_well_formed_and_over_a_hundred_a_language() -> None:
    found = probes()
    assert Counter(p["lang"] for p in found) == {"en": 128, "zh": 128}
    assert len({p["id"] for p in found}) == len(found)
    assert len({fold(p["question"]) for p in found}) == len(found)
    assert {p["kind"] for p in found} == KINDS
    assert [p for p in found if p.keys() - {"id", "lang", "kind", "question", "expect_any", "check"}] == []
    assert [p for p in found if not all(isinstance(text, str) and text for text in p.get("expect_any", ["x"]))] == []


def test_half_of_the_probes_or_more_can_be_checked_and_twenty_by_their_form() -> None:
    checkable = Counter(p["lang"] for p in probes() if p.keys() & {"expect_any", "check"})
    by_form = Counter(p["lang"] for p in probes() if "check" in p)
    assert min(checkable["zh"], checkable["en"]) >= 64
    assert min(by_form["zh"], by_form["en"]) >= 20
    assert {p["kind"] for p in probes() if "check" in p} == {"instruction"}


def test_no_two_probes_of_a_language_are_alike() -> None:
    for lang in ("zh", "en"):
        asked = [p["question"] for p in probes() if p["lang"] == lang]
        assert [(a, b) for i, a in enumerate(asked) for b in asked[i + 1 :] if alike(a, b)] == []


def test_no_probe_is_answered_by_its_own_question() -> None:
    """An echo of the question must not pass; texts are looked for as the score looks for them."""
    echoed = [p["id"] for p in probes() for text in p.get("expect_any", ()) if mentions(normalise(p["question"]), text)]
    assert echoed == []


def test_replay_has_300_prompts_a_language_of_every_kind_and_60_near_misses() -> None:
    assert sorted(prompts()) == ["en", "zh"]
    for kinds in prompts().values():
        assert sorted(kinds) == REPLAY_KINDS
        assert (sum(map(len, kinds.values())) >= 300, len(kinds["near-miss"]) >= 60) == (True, True)
        assert min(map(len, kinds.values())) >= 12


def test_no_two_replay_prompts_of_a_language_are_alike() -> None:
    for kinds in prompts().values():
        texts = sorted({text for texts in kinds.values() for text in texts})
        assert len(texts) == sum(map(len, kinds.values()))
        assert [(a, b) for i, a in enumerate(texts) for b in texts[i + 1 :] if alike(a, b)] == []


def test_near_misses_are_a_fifth_of_any_first_prompts_of_replay() -> None:
    near_misses = {text for kinds in prompts().values() for text in kinds["near-miss"]}
    for languages in (["zh", "en"], ["zh"], ["en"]):
        for count in (24, 48, 100, 200, 300):
            chosen = replay_prompts(count, languages)
            assert len(chosen) == count
            assert sum(prompt in near_misses for prompt in chosen) >= 0.2 * count


def test_any_first_prompts_of_replay_hold_every_kind_in_its_share() -> None:
    for lang, kinds in prompts().items():
        every = sum(map(len, kinds.values()))
        chosen = replay_prompts(every, [lang])
        kind_of = {text: kind for kind, texts in kinds.items() for text in texts}
        taken: Counter[str] = Counter()
        for count, prompt in enumerate(chosen, 1):
            taken[kind_of[prompt]] += 1
            assert all(abs(taken[kind] - len(texts) / every * count) < 2 for kind, texts in kinds.items())


def test_no_replay_prompt_is_near_a_probe_or_an_identity_question() -> None:
    replay = {text for kinds in prompts().values() for texts in kinds.values() for text in texts}
    asked = {p["question"] for p in probes()}
    identity = identity_questions()
    assert (len(replay), len(asked) >= 200, len(identity) > 800) == (648, True, True)
    assert near_pairs(asked, replay) == []
    assert near_pairs(identity, replay) == []


def test_no_probe_is_near_an_identity_question() -> None:
    assert near_pairs({p["question"] for p in probes()}, identity_questions()) == []


def test_no_shipped_prompt_names_an_identity() -> None:
    texts = [text for kinds in prompts().values() for texts in kinds.values() for text in texts]
    texts += [p["question"] for p in probes()]
    assert len(texts) > 800
    assert [t for t in texts if "{{" in t or "sft-kit" in t] == []


def test_every_data_folder_says_its_fields_origin_and_licence() -> None:
    for folder in ("identity", "probes", "replay"):
        text = (shipped("data") / folder / "README.md").read_text("utf-8")
        assert ("Origin:" in text, "Apache-2.0" in text) == (True, True)


def test_the_readme_of_probes_names_every_key_of_a_check() -> None:
    text = (shipped("data") / "probes" / "README.md").read_text("utf-8")
    keys = [field.name for field in fields(Check)]
    assert len(keys) >= 12
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_readme_of_identity_quotes_what_its_script_prints() -> None:
    script = Path(__file__).parents[2] / "scripts" / "dev" / "identity_table.py"
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, encoding="utf-8", check=True)
    assert told.stdout.count("\n") > 30
    assert told.stdout in (shipped("data") / "identity" / "README.md").read_text("utf-8")
