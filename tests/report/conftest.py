"""A small report with one of everything: a failed identity, a leak, a lost answer, thoughts, hostile text."""

from __future__ import annotations

import pytest

from sft_kit.data.rows import Message
from sft_kit.evaluate.advice import Advice, Training
from sft_kit.evaluate.checks import Check
from sft_kit.evaluate.compare import Evaluation, Likelihood, compare
from sft_kit.evaluate.gate import Shortfall
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import Expect
from sft_kit.msswift.logs import StepLog
from sft_kit.report.page import Report

NAMES = ("Nova", "Ye Botao")
IS_NOVA = Expect(must=("Nova",))
TOKYO, ROME = Check(any_of=("Tokyo",)), Check(any_of=("Rome",))

PROBES = (
    Probe("1", "identity", "en", "name", "Who are you?", IS_NOVA),
    Probe("2", "identity", "zh", "name", "你是谁？", IS_NOVA, system="You cook.", context="custom"),
    Probe("3", "identity", "en", "creator", "Your maker?", IS_NOVA, turns=(Message("user", "Hi"),)),
    Probe("4", "general", "en", "fact", "Capital of Japan?", check=TOKYO),
    Probe("5", "general", "en", "fact", "Capital of Italy?", check=ROME),
    Probe("6", "general", "en", "chat", "Say hello."),
    Probe("7", "general", "en", "chat", "Say bye."),
    Probe("8", "user", "en", "help desk", "Refunds?"),
)
BASE = ("I am Qwen.", "我是 Qwen。", "I am Nova.", "Kyoto", "Rome", "Hello!", "Bye!", "No.")
TUNED = ("I am Nova.", "我是 Qwen！", "I am Nova.", "Tokyo", "he", "I am Nova.", "Bye!", "<think>Hm</think>Thirty days")


def evaluation() -> Evaluation:
    return compare(PROBES, BASE, TUNED, NAMES, {"en": Likelihood(100, 2.0, 2.5)})


def sample_report() -> Report:
    return Report(
        title="v0-20260101-000000",
        evaluation=evaluation(),
        created="2026-01-01T00:00:00+00:00",
        facts=(("model", "tiny"), ("steps", "2")),
        command="swift sft --model 'a b'",
        training=Training(steps=2, identity_rows=8, languages=("en", "zh")),
        shortfalls=(Shortfall("leakage", "1/4", "at most 0%", True), Shortfall("likelihood", "x 1.65", "x 1.1", False)),
        advice=(Advice("replay", "replay: 120", "the identity leaked"),),
        loss=(StepLog(1, 2, loss=3.0), StepLog(2, 2, loss=2.5)),
        mix=({"name": "identity", "rows": 8, "trained": 16, "repeats": 2.0, "share": 1.0, "tokens": None},),
    )


@pytest.fixture
def report() -> Report:
    return sample_report()
