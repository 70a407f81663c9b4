"""Which answers claim another identity, and which only speak of one; the sentences are in claims.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sft_kit.identity.claims import claimed_identity

GOLDEN = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))
CLAIMS: dict[str, str] = GOLDEN["claims"]
NONE: list[str] = GOLDEN["none"]


def test_the_golden_file_has_enough_of_both_kinds() -> None:
    assert len(CLAIMS) >= 60
    assert len(NONE) >= 60
    assert not set(CLAIMS) & set(NONE)


@pytest.mark.parametrize("answer", CLAIMS)
def test_a_claim_is_found(answer: str) -> None:
    assert claimed_identity(answer) == CLAIMS[answer]


@pytest.mark.parametrize("answer", NONE)
def test_what_is_no_claim_is_left_alone(answer: str) -> None:
    assert claimed_identity(answer) is None


def test_claims_of_the_users_own_house_do_not_count() -> None:
    assert claimed_identity("我是通义千问，由阿里云开发。", own=("Qwen",)) is None
    assert claimed_identity("I am Qwen, developed by OpenAI.", own=("Qwen",)) == "OpenAI"


@pytest.mark.parametrize(
    "answer", ["", "   ", "I am", "我是", "I am " * 5000, "我是一个" * 5000, "OpenAI " * 3000 + "I am"]
)
def test_any_text_is_answered_quickly(answer: str) -> None:
    assert claimed_identity(answer) is None
