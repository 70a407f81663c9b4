"""Text made to steer a terminal, hide words, run in a page or leave its quotes: it is shown, and does nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_kit.console import print_table, result_piece, warn
from sft_kit.data.lint import Lint
from sft_kit.data.personal import personal_data
from sft_kit.data.text import safe, shell_command
from sft_kit.errors import Problem
from sft_kit.identity.claims import claimed_identity
from sft_kit.report.html import html
from sft_kit.report.markdown import markdown
from tests.report.conftest import sample_report

SHOWN = {
    "colour": ("\x1b[31mred", r"\x1b[31mred"),
    "a screen wiped": ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
    "the clipboard": ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
    "a hyperlink": ("\x1b]8;;http://a\x1b\\b\x1b]8;;\x1b\\", "\\x1b]8;;http://a\\x1b\\b\\x1b]8;;\\x1b\\"),
    "a title": ("\x1b]0;root\x07", r"\x1b]0;root\x07"),
    "an answer of the terminal": ("\x1b[6n\x05", r"\x1b[6n\x05"),
    "C1": ("\x9b31m\x90\x9d", r"\x9b31m\x90\x9d"),
    "a line written over": ("good\rbad\b\b", r"good\x0dbad\x08\x08"),
    "DEL and NUL": ("\x7f\0", r"\x7f\x00"),
    "an override": ("a\u202ebc\u202c", "a<U+202E>bc<U+202C>"),
    "isolates": ("\u2066a\u2069\u2067\u2068", "<U+2066>a<U+2069><U+2067><U+2068>"),
    "marks of direction": ("\u200e\u200f\u061c", "<U+200E><U+200F><U+061C>"),
    "zero width": ("ad\u200bmin\ufeff\u2060", "ad<U+200B>min<U+FEFF><U+2060>"),
    "tags": ("hi\U000e0069\U000e0067", "hi<U+E0069><U+E0067>"),
    "half a character": ("\ud83d \udcff", "<U+D83D> <U+DCFF>"),
    "secret line ends": ("a\u2028b\u2029\x0b\x0c\x85", r"a<U+2028>b<U+2029>\x0b\x0c\x85"),
    "a tower of marks": ("a" + "\u0301" * 500, "a" + "\u0301" * 8 + "<+492 marks>"),
    "words in selectors": ("a\ufe0f\U000e0100\U000e0101", "a\ufe0f<+2 marks>"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_steers_or_hides_is_written_out(name: str) -> None:
    text, shown = SHOWN[name]
    assert safe(text) == shown


@pytest.mark.parametrize("text", [
    "精衡，你好！\n\t", "👩\u200d💻 👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "می\u200cخواهم", "עברית العربية", "e\u0301 Việt Nam ก็ \u0e19\u0e49\u0e33", "क\u094dष", "a\r\nb", "葛\U000e0100",
])  # fmt: skip
def test_legitimate_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


def test_markup_in_foreign_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    warn(Problem("[link=http://a]c.yaml", "[red]x[/red] [/]", "[bold]"))
    print_table("[red]title", ["[red]a"], [["[link=http://a]b[/link]"]])
    found = capsys.readouterr()
    assert found.err == "warning: [link=http://a]c.yaml: [red]x[/red] [/]; [bold]\n"
    assert [line.strip() for line in found.out.splitlines() if "[" in line] == [
        "[red]title", "[red]a", "[link=http://a]b[/link]",
    ]  # fmt: skip


def test_a_value_of_100_000_characters_does_not_bury_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    warn(Problem("c.yaml", "x" * 100_000))
    assert capsys.readouterr().err == f"warning: c.yaml: {'x' * 1_992}... (98,008 more characters)\n"


def test_an_answer_is_written_out_on_a_terminal_and_exact_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    answer = "\x1b]0;x\x07\u202e精"
    result_piece(answer)
    assert capsys.readouterr().out == answer
    ours, theirs = pty.openpty()
    code = f"from sft_kit.console import result_piece\nfor piece in {answer!r}: result_piece(piece)"
    subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True, env={**os.environ, "PYTHONUTF8": "1"})
    os.close(theirs)
    assert os.read(ours, 1_000).decode() == r"\x1b]0;x\x07<U+202E>精"
    os.close(ours)


# --- quoting ------------------------------------------------------------------------------------------------------

WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    [
        "",
        "-rf",
        "--",
        "$(touch done)",
        "`touch done`",
        "a\nb",
        "'",
        "\\'",
        "!!",
        "~",
        "*",
        "\x1b[31m'\\n",
        "\u202e$x",
        "$'\\x41'",
    ]
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(WORD, max_size=40))
def test_a_printed_command_is_read_back_word_for_word_by_bash(words: list[str]) -> None:
    line = shell_command(words)
    assert safe(line) == line or "marks>" in safe(line)
    script = f"printf '%s\\0' x {line}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert said.decode().split("\0")[1:-1] == words


# --- time ---------------------------------------------------------------------------------------------------------

UNITS = [
    *("a", "1", " ", "\n", "-", ".", "a.", "a@b.", "1-", "+1 ", "key: ", "x://", "http://a/"),
    *("\\(", "\\[", "$", "`", "```\n"),
    *("{{", "{{ ", "<", "<|", "<think>", "[", "是", "我是", "我是一个", "不是", "I am "),
    *("I'm not ", "Qwen ", "developed by ", "&amp;"),
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_the_time_for_a_repeated_text_does_not_explode(unit: str) -> None:
    text = unit * (10_000 // len(unit))
    began = time.process_time()
    lint = Lint("d.jsonl", own_names=("Jingheng",))
    lint.add(1, (("user", text), ("assistant", text)))
    lint.findings()
    list(personal_data(text))
    claimed_identity(text, own=("Jingheng",))
    assert time.process_time() - began < 2  # 0.1 s; 10,000 squared takes 10 s


# --- reports ------------------------------------------------------------------------------------------------------

EVIL = (
    "\"'><script>document.title='done'</script><img src=http://127.0.0.1:9/p onerror=alert(1)></style></title></svg>"
    "![x](http://127.0.0.1:9/m) [y](javascript:alert(1)) `z` | \u202e\x1b[31m{{7*7}}"
)


def evil_report(tmp_path: Path) -> tuple[str, str]:
    report = sample_report()
    pairs = tuple(
        replace(
            pair,
            probe=replace(pair.probe, question=EVIL, category=EVIL),
            tuned=replace(pair.tuned, answer=pair.tuned.answer + EVIL),
        )
        for pair in report.evaluation.pairs
    )
    evaluation = replace(report.evaluation, pairs=pairs, names=(*report.evaluation.names, EVIL[:60]))
    evil = replace(report, title=EVIL, command=EVIL, created=EVIL, facts=((EVIL, EVIL),), evaluation=evaluation)
    return html(evil), markdown(evil)


def test_a_page_of_hostile_texts_holds_no_foreign_tag_and_nothing_that_reorders(tmp_path: Path) -> None:
    page, _ = evil_report(tmp_path)
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert 'http-equiv="Content-Security-Policy"' in page
    assert "default-src &#39;none&#39;" in page


def test_a_markdown_report_of_hostile_texts_begins_no_link_no_image_and_no_tag(tmp_path: Path) -> None:
    _, text = evil_report(tmp_path)
    lines = [line for line in text.splitlines() if not line.startswith("    ")]  # a block of code is shown as it is
    assert len(lines) > 20
    for sign in ("<script", "<img", "\u202e", "\x1b"):
        assert not [line for line in lines if sign in line]
    assert not [line for line in lines if "[x](" in line.replace("\\[", "").replace("\\]", "")]


def test_json_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    from sft_kit.console import result_json

    value = dict(SHOWN.values())
    result_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert all(character not in printed for character in "\x1b\x9b\u202e\u200b\U000e0069\r")
