"""The report says what an answer amounts to, and shows answers as they are."""

from __future__ import annotations

from sft_kit.evaluate.compare import compare
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import Expect
from sft_kit.report.before_after import markdown_report, table_rows

NAMES = ("Nova", "Ye Botao")
PROBES = [
    Probe("1", "identity", "en", "name", "Who are you?", Expect(must=("Nova",))),
    Probe("2", "identity", "en", "name", "Your name?", Expect(must=("Nova",))),
    Probe("3", "general", "en", "fact", "Capital of Japan?", expect_any=("Tokyo",)),
    Probe("4", "general", "en", "fact", "Capital of Italy?", expect_any=("Rome",)),
    Probe("5", "general", "en", "chat", "Say hello."),
    Probe("6", "general", "en", "chat", "Say bye."),
]
TUNED = ["I am Nova.", "I am Qwen.", "Tokyo", "he he", "Hello, I am Nova.", "Bye | *see* you ![x](http://a)"]


def test_each_answer_has_its_verdict_in_words() -> None:
    evaluation = compare(PROBES, ["?"] * 6, TUNED, NAMES)
    verdicts = [row[3] for row in table_rows(evaluation.pairs)]
    assert verdicts == ["✓ new identity", "✗ missing", "✓ right", "✗ wrong", "✗ leak", "no leak"]


def test_markup_in_an_answer_stays_text_inside_its_cell() -> None:
    evaluation = compare([PROBES[5]], ["<b>"], [TUNED[5]], NAMES)
    line = markdown_report(evaluation, [("model", "x")], "v0").splitlines()[-1]
    assert line == r"| Say bye. | &lt;b> | Bye \| \*see\* you \!\[x\](http://a) | no leak |"
