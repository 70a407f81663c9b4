"""What data may do to the terminal that shows it, and to the program that reads it: nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from sft_kit.console import print_lines, print_table, result_json, safe, show_finding, warn
from sft_kit.errors import Problem
from sft_kit.findings import Finding


def test_what_steers_or_reorders_a_terminal_is_written_out() -> None:
    assert safe("a\x1b[31mb\x9bc\u202ed\x07\udcffe\r") == r"a\x1b[31mb\x9bc<U+202E>d\x07<U+DCFF>e\x0d"


def test_a_finding_is_one_line_whatever_its_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    show_finding(Finding("few-rows", "note", "a\nerror b\u202e.jsonl", "only 3 rows", "add some"))
    assert capsys.readouterr().out == "note a error b<U+202E>.jsonl: only 3 rows  [few-rows]\n  add some\n"


def test_json_is_one_line_of_plain_text_with_the_same_value(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"place": "精衡\x9b31m\u202e\x1b\n\udcff.jsonl"}
    result_json(value)
    printed = capsys.readouterr().out
    assert printed == '{"place": "精衡\\u009b31m\\u202e\\u001b\\n\\udcff.jsonl"}\n'
    assert json.loads(printed) == value


SAID = [("In short", "新身份已经学会，" * 6), ("", "one two " * 12)]


def test_a_long_value_is_broken_between_words_and_goes_on_under_itself_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    code = f"from sft_kit.console import print_lines; print_lines({SAID!r}, indent=2)"
    with os.fdopen(ours, encoding="utf-8") as screen:
        environment = {**os.environ, "TERM": "dumb"}  # 80 columns and no colour
        subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environment, check=True)
        os.close(theirs)
        lines = [screen.readline().rstrip("\n") for _ in range(4)]
    assert lines == [
        "  In short  " + "新身份已经学会，" * 4 + "新身",
        " " * 12 + "份已经学会，新身份已经学会，",
        " " * 12 + "one two " * 8 + "one",
        " " * 12 + "two " + "one two " * 2 + "one two",
    ]


def test_elsewhere_a_value_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(SAID)
    assert capsys.readouterr().out == f"In short  {SAID[0][1]}\n          {SAID[1][1].rstrip()}\n"


def on_a_terminal(code: str) -> list[str]:
    """What `code` shows on a terminal of 80 columns without colour."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, encoding="utf-8", newline="\n") as screen:
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "80"}
        subprocess.run([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment, check=True)
        os.write(theirs, b"end\n")
        os.close(theirs)
        return [line.rstrip("\r\n") for line in iter(screen.readline, "end\r\n")]


def test_a_finding_is_broken_between_words_on_a_terminal() -> None:
    finding = Finding(
        "bf16-without-gpu",
        "warning",
        "a.yaml:9:1",
        "torch_dtype: bfloat16, but no NVIDIA GPU is found here; training may end",
        "on a machine without one write a config for its CPU by `sft-kit init cpu.yaml --force` and train that",
    )
    imports = "from sft_kit.console import show_finding; from sft_kit.findings import Finding; "
    assert on_a_terminal(f"{imports}show_finding({finding!r})") == [
        "warning a.yaml:9:1: torch_dtype: bfloat16, but no NVIDIA GPU is found here;",
        "    training may end  [bf16-without-gpu]",
        "  on a machine without one write a config for its CPU by",
        "  `sft-kit init cpu.yaml --force` and train that",
    ]


def test_a_word_longer_than_the_line_stays_whole() -> None:
    path = "/data/" + "x" * 90
    assert on_a_terminal(f"from sft_kit.console import say_words; say_words('it is in {path} now')") == [
        "it is in",
        f"  {path}",
        "  now",
    ]


def test_a_warning_shows_what_to_do_on_a_line_of_its_own_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("c.yaml:1:1", "is doubtful", "write it again")
    imports = "from sft_kit.console import warn; from sft_kit.errors import Problem; "
    assert on_a_terminal(f"{imports}warn({problem!r})") == ["warning: c.yaml:1:1: is doubtful", "  write it again"]
    warn(problem)
    assert capsys.readouterr().err == "warning: c.yaml:1:1: is doubtful; write it again\n"


def test_a_table_wider_than_the_terminal_goes_without_its_frame() -> None:
    def table(cell: str) -> list[str]:
        return on_a_terminal(f"from sft_kit.console import print_table; print_table('', 'abcdef', [[{cell!r}] * 6])")

    assert table("word")[0].startswith("\u250f")
    assert [line.rstrip() for line in table("eleven_char")] == [
        "  ".join(f"{name:<11}" for name in "abcdef").rstrip(),
        "  ".join(["eleven_char"] * 6),
    ]


def test_a_table_in_a_pipe_has_no_blanks_at_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ("what", "found"), [("a", "b c")])
    printed = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in printed if "a" in line] == ["what   found", "a      b c"]
    assert all(line == line.rstrip() for line in printed)
