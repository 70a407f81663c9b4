"""The shipped probes and replay prompts: enough, well formed, and none asked that is also trained."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ruamel.yaml import YAML

from sft_kit.data.text import fold, near
from sft_kit.identity.generate import IdentitySpec, generate
from sft_kit.identity.templates import load_templates
from sft_kit.resources import shipped

KINDS = {"fact", "arithmetic", "writing", "code", "chat", "near-miss"}


def probes() -> list[dict[str, Any]]:
    questions: list[dict[str, Any]] = YAML(typ="safe").load(shipped("data") / "probes" / "general.yaml")["questions"]
    return questions


def prompts() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = YAML(typ="safe").load(shipped("data") / "replay" / "prompts.yaml")[
        "prompts"
    ]
    return found


def identity_questions() -> set[str]:
    spec = IdentitySpec({"zh": "精衡", "en": "Jingheng"}, {"zh": "叶博韬", "en": "Ye Botao"}, rows=5000)
    data = generate(spec, load_templates())
    return {r.row.messages[-2].content for r in data.rows} | {h.question for h in data.held_out}


def near_pairs(some: set[str], others: set[str]) -> list[tuple[str, str]]:
    """Pairs that count as the same; texts of very different length cannot, and are not compared."""
    sizes = {text: len(fold(text)) + 2 for text in some | others}
    return [(a, b) for a in some for b in others if 0.5 < sizes[a] / sizes[b] < 2 and a != b and near(a, b)] + [
        (a, a) for a in some & others
    ]


def test_probes_are_well_formed_and_forty_a_language() -> None:
    found = probes()
    assert Counter(p["lang"] for p in found) == {"en": 40, "zh": 40}
    assert len({p["id"] for p in found}) == len(found)
    assert len({fold(p["question"]) for p in found}) == len(found)
    assert {p["kind"] for p in found} == KINDS
    assert [p for p in found if p.keys() - {"id", "lang", "kind", "question", "expect_any"}] == []
    assert [p for p in found if not all(isinstance(text, str) and text for text in p.get("expect_any", ["x"]))] == []


def test_half_of_the_probes_or_more_can_be_checked() -> None:
    checkable = Counter(p["lang"] for p in probes() if "expect_any" in p)
    assert min(checkable["zh"], checkable["en"]) >= 24


def test_no_probe_is_answered_by_its_own_question() -> None:
    """An echo of the question must not pass; a one-digit or one-letter word could hide in any text."""
    echoed = [
        p["id"] for p in probes() for text in p.get("expect_any", ()) if text.casefold() in p["question"].casefold()
    ]
    assert echoed == []


def test_replay_has_150_prompts_a_language_of_every_kind_and_no_two_alike() -> None:
    for lang, kinds in prompts().items():
        texts = [text for texts in kinds.values() for text in texts]
        assert (lang in ("zh", "en"), len(texts) >= 150, len({fold(t) for t in texts})) == (True, True, len(texts))
        assert set(kinds) == {"fact", "maths", "writing", "code", "chat", "advice", "near-miss"}
        assert min(map(len, kinds.values())) >= 20


def test_no_replay_prompt_is_near_a_probe() -> None:
    replay = {text for kinds in prompts().values() for texts in kinds.values() for text in texts}
    asked = {p["question"] for p in probes()}
    assert (len(replay), len(asked)) >= (300, 80)
    assert near_pairs(asked, replay) == []


def test_no_probe_is_near_an_identity_question() -> None:
    assert near_pairs({p["question"] for p in probes()}, identity_questions()) == []


def test_no_shipped_prompt_names_an_identity() -> None:
    texts = [text for kinds in prompts().values() for texts in kinds.values() for text in texts]
    texts += [p["question"] for p in probes()]
    assert len(texts) > 380
    assert [t for t in texts if "{{" in t or "sft-kit" in t] == []


def test_every_data_folder_says_its_fields_origin_and_licence() -> None:
    for folder in ("identity", "probes", "replay"):
        text = (shipped("data") / folder / "README.md").read_text("utf-8")
        assert ("Origin:" in text, "Apache-2.0" in text) == (True, True)
