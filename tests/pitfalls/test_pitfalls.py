"""`sft-kit check` on every pitfall of the corpus: what it finds, all of it, and what it exits with; and their page."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from scripts.bench.pitfalls import PAGE, RESULTS, page

from sft_kit.msswift.install import find_installation
from tests.pitfalls.corpus import CORPUS, GPUS, GROUPS, Check, Pitfall, read_corpus

PITFALLS = read_corpus()

# The codes of `findings.CODES` about keys and values; the hub is asked by `train` only.
CONFIG_CODES = {
    "bad-model", "bad-names", "bad-override", "bad-sample", "bad-section", "batch-does-not-divide", "broken-yaml",
    "doubtful-names", "duplicate-key", "missing-file", "missing-model", "mix-conflict", "no-adapter", "no-checkpoint",
    "no-effect", "no-such-path", "not-a-config", "nothing-to-train-on", "offline", "output-dir",
    "plugins", "removed-key", "same-argument-twice", "save-no-with-eval", "too-few-gpus", "unknown-key", "wrong-value",
}  # fmt: skip


@pytest.mark.parametrize("pitfall", PITFALLS, ids=lambda pitfall: pitfall.slug)
def test_check_finds_what_is_wrong_and_nothing_else(pitfall: Pitfall, check: Check) -> None:
    assert check(pitfall) == pitfall.answer(find_installation().generation)


def test_there_are_enough_pitfalls_and_each_is_described() -> None:
    assert len(PITFALLS) >= 85
    assert {path.name for path in CORPUS.iterdir() if (path / "config.yaml").is_file()} == {p.slug for p in PITFALLS}
    for pitfall in PITFALLS:
        assert all((pitfall.title_en, pitfall.title_zh, pitfall.source, pitfall.instead)), pitfall.slug
        assert pitfall.group in GROUPS and pitfall.gpu in GPUS, pitfall.slug
    for titles in ([p.title_en for p in PITFALLS], [p.title_zh for p in PITFALLS]):
        assert [title for title, times in Counter(titles).items() if times > 1] == []


def test_git_keeps_all_of_the_corpus() -> None:
    ignored = [path for path in CORPUS.rglob("*") if path.is_dir() and path.name in ("output", "build", "dist")]
    assert ignored == []  # .gitignore leaves them out


def test_every_code_of_a_config_has_a_pitfall() -> None:
    assert CONFIG_CODES - {code for pitfall in PITFALLS for code in pitfall.expected} == set()


def test_the_page_is_what_the_corpus_and_the_measurements_say() -> None:
    assert PAGE.read_text("utf-8") == page(PITFALLS, json.loads(RESULTS.read_bytes()))
