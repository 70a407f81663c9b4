"""Rows written in each format come back unchanged, and files that cannot be read say where and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_kit.data.formats import FORMATS, Format, read_rows, write_rows
from sft_kit.data.rows import Message, Row, disorder
from sft_kit.errors import UsageError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    system = draw(st.none() | TEXT)
    exchanges = draw(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
    messages = [] if system is None else [Message("system", system)]
    for question, answer in exchanges:
        messages += [Message("user", question), Message("assistant", answer)]
    return Row(tuple(messages))


ONE = Row((Message("user", "你是谁？"), Message("assistant", "我是精衡。")))
TALK = Row(
    (
        Message("system", "Be brief."),
        Message("user", "2+2?"),
        Message("assistant", "4"),
        Message("user", "Who are you?"),
        Message("assistant", "Jingheng."),
    )
)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("fmt", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(rows(), max_size=4))
def test_any_unicode_text_survives_every_format(tmp_path: Path, fmt: Format, suffix: str, written: list[Row]) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, written, fmt)
    assert read_rows(path) == written


STOPS = st.tuples(st.sampled_from(FORMATS), st.sampled_from([".json", ".jsonl", ".txt"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(rows(), max_size=3), stops=st.lists(STOPS, min_size=2, max_size=5))
def test_rows_survive_any_chain_of_formats_and_files(
    tmp_path: Path, written: list[Row], stops: list[tuple[Format, str]]
) -> None:
    carried = written
    for number, (fmt, suffix) in enumerate(stops):
        path = tmp_path / f"{number}{suffix}"
        write_rows(path, carried, fmt)
        carried = read_rows(path)
    assert carried == written


# Texts that a reader could take for the end of a line, a row or a file, or for nothing at all.
HARD = [
    "",
    " ",
    "\n",
    "\r\n",
    "a\u2028b\u2029c",
    "\x85",
    "\x00",
    "\ufeff",
    '"',
    "\\",
    "\\n",
    "{",
    "[",
    "]\n[",
    "null",
    "\u0301",
]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_texts_that_look_like_the_end_of_something_survive(tmp_path: Path, fmt: Format, suffix: str) -> None:
    written = [
        Row((Message("system", one), Message("user", other), Message("assistant", one)))
        for one in HARD
        for other in HARD
    ]
    write_rows(tmp_path / f"hard{suffix}", written, fmt)
    assert read_rows(tmp_path / f"hard{suffix}") == written


def test_messages_are_one_json_object_a_line_with_real_characters(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.jsonl", [ONE])
    assert (tmp_path / "r.jsonl").read_text("utf-8") == (
        '{"messages": [{"role": "user", "content": "你是谁？"}, {"role": "assistant", "content": "我是精衡。"}]}\n'
    )


def test_alpaca_has_the_shape_of_the_tutorials_and_carries_system_and_history(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.json", [ONE, TALK], "alpaca")
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == [
        {"instruction": "你是谁？", "input": "", "output": "我是精衡。"},
        {
            "instruction": "Who are you?",
            "input": "",
            "output": "Jingheng.",
            "system": "Be brief.",
            "history": [["2+2?", "4"]],
        },
    ]


def test_sharegpt_names_the_sides_human_and_gpt(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.json", [ONE], "sharegpt")
    assert json.loads((tmp_path / "r.json").read_text("utf-8")) == [
        {"conversations": [{"from": "human", "value": "你是谁？"}, {"from": "gpt", "value": "我是精衡。"}]}
    ]


def test_alpaca_instruction_and_input_are_joined_by_a_newline_as_ms_swift_does(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "Translate", "input": "cat", "output": "猫"}]', "utf-8")
    assert read_rows(path) == [Row((Message("user", "Translate\ncat"), Message("assistant", "猫")))]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff\n{"instruction": "a", "output": "b"}\r\n\n', "utf-8")
    assert read_rows(path) == [Row((Message("user", "a"), Message("assistant", "b")))]


BROKEN = {
    '{"instruction": "a"}': "has an instruction but no output",
    '{"instruction": 1, "output": "b"}': "instruction is not a text",
    '{"instruction": "a", "output": "b", "history": [["x"]]}': "history[0] is not a pair of question and answer",
    '{"text": "hello"}': "has text; expected messages, conversations or instruction/output",
    '"hello"': "is a str, not an object with messages or instruction/output",
    '{"messages": {}}': "messages is not a list",
    '{"messages": ["a"]}': "messages[0] is not an object",
    '{"messages": []}': "has no user message and no answer",
    '{"messages": [{"role": "owner", "content": "a"}]}': "messages[0] has the role 'owner'",
    '{"messages": [{"role": "user", "content": null}]}': "messages[0] has no text in its content",
    '{"messages": [{"role": "user", "content": "a"}]}': "ends with a user message that has no answer",
    '{"messages": [{"role": "assistant", "content": "a"}]}': "has the role 'assistant' where 'user' belongs",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_row_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n' + line + "\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        read_rows(path)
    assert str(caught.value) == f"{path}:2: {BROKEN[line]}"


def test_all_broken_rows_of_a_list_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text('[\n{"output": 1},\n{"instruction": "a", "output": "b"},\n\n{"messages": 3}]', "utf-8")
    with pytest.raises(UsageError) as caught:
        read_rows(path)
    assert [p.place for p in caught.value.problems] == [f"{path}:2", f"{path}:5"]


def test_what_is_not_json_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{"instruction": }\n', "utf-8")
    with pytest.raises(UsageError, match=r"b\.jsonl:2:17: is not JSON: Expecting value"):
        read_rows(path)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: cannot be read: No such file"):
        read_rows(tmp_path / "none.jsonl")


def test_a_file_in_another_encoding_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "gbk.jsonl").write_bytes('{"instruction": "你", "output": "好"}'.encode("gbk"))
    with pytest.raises(UsageError, match=r"gbk\.jsonl: is not UTF-8"):
        read_rows(tmp_path / "gbk.jsonl")


@pytest.mark.parametrize(
    "row",
    [Row(()), Row((Message("user", "a"),)), Row((Message("user", "a"), Message("user", "b")))],
)
def test_a_row_out_of_order_is_refused_and_the_old_file_stays(tmp_path: Path, row: Row) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("old", "utf-8")
    with pytest.raises(UsageError, match="row 2"):
        write_rows(path, [ONE, row])
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]
    assert path.read_text("utf-8") == "old"


def test_a_lone_surrogate_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not Unicode"):
        write_rows(tmp_path / "r.jsonl", [Row((Message("user", "\ud800"), Message("assistant", "b")))])
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_roles_is_checked_past_a_system_message() -> None:
    assert disorder(TALK.messages) is None
    assert disorder(TALK.messages[2:]) == "has the role 'assistant' where 'user' belongs"
    assert TALK.exchanges == (("2+2?", "4"), ("Who are you?", "Jingheng."))
    assert (TALK.system, ONE.system) == ("Be brief.", None)
