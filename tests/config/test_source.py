"""YAML files, good and bad, become plain values with places, or one error that says where and what to do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sft_kit.config.source import Source, Value, apply_overrides, read_source
from sft_kit.errors import ConfigError, ExitCode
from tests.unprivileged import refusal_without_rights


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes) -> Source:
    path = Path("c.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(path)


def values(text: str | bytes) -> dict[str, Value]:
    source = read(text)
    assert source.problems == ()
    return source.values


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


# --- files that cannot be read as a whole ------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_command_that_writes_one() -> None:
    with pytest.raises(ConfigError) as caught:
        read_source(Path("gone.yaml"))
    assert str(caught.value) == "gone.yaml: no such file; write one with `sft-kit init gone.yaml`"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_source(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a directory; give the config file"


def test_a_path_below_a_file_is_refused() -> None:
    Path("file").write_text("model: a\n")
    with pytest.raises(ConfigError) as caught:
        read_source(Path("file/c.yaml"))
    assert str(caught.value) == "file/c.yaml: cannot be read: Not a directory"


def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: a\n")
    path.chmod(0)
    assert refusal_without_rights(lambda: read_source(path)) == f"2 {path}: cannot be read: Permission denied"


@pytest.mark.parametrize("text", ["", "  \n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_a_file_without_keys_is_called_empty(text: str) -> None:
    assert refusal(text) == "c.yaml: the file is empty; `sft-kit init c.yaml --force` writes one"


def test_bytes_that_are_not_utf8_are_named_with_their_line() -> None:
    assert refusal("model: a\nsystem: é\n".encode("latin-1")) == (
        "c.yaml:2: not UTF-8 (byte 0xe9); save the file as UTF-8"
    )


def test_utf16_is_refused() -> None:
    assert refusal("model: a\n".encode("utf-16")) == "c.yaml:1: not UTF-8 (byte 0xff); save the file as UTF-8"


def test_a_control_character_is_named_with_its_line() -> None:
    assert refusal("model: a\nsystem: \0\n") == (
        "c.yaml:2: not valid YAML: unacceptable character #x0000: special characters are not allowed"
    )


def test_a_file_of_two_megabytes_is_refused_at_once() -> None:
    began = time.monotonic()
    assert refusal("system: " + "x" * 2_000_000) == (
        "c.yaml: larger than 100 kB; is this a data file? A config names it under `dataset:`"
    )
    assert time.monotonic() - began < 0.5


def test_a_data_file_below_the_size_limit_is_refused_before_it_is_read_in_full() -> None:
    row = '{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}'
    began = time.monotonic()
    assert refusal("[" + ",\n".join([row] * 1_000) + "]") == (
        "c.yaml: holds more than 2000 values; is this a data file? A config names it under `dataset:`"
    )
    assert time.monotonic() - began < 5  # 19 s to read it all


def test_deep_nesting_is_refused_with_its_place() -> None:
    assert refusal("a: " + "[" * 200 + "]" * 200) == "c.yaml:1:43: nested deeper than 40 levels"


def test_nesting_that_would_exhaust_the_stack_is_refused() -> None:
    assert refusal("a: " + "[" * 30_000) == "c.yaml:1:43: nested deeper than 40 levels"


@pytest.mark.parametrize(
    ("first", "line"),
    [("a0: &a0 [x]\n", "a{0}: &a{0} [{1}]\n"), ("a0: &a0 {{}}\n", "a{0}: &a{0}\n  <<: [{1}]\n")],
    ids=["lists", "merge keys"],
)
def test_a_billion_laughs_is_refused_quickly(first: str, line: str) -> None:
    text = first.format() + "".join(line.format(n, ", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 12))
    began = time.monotonic()
    assert refusal(text) == "c.yaml: expands to more than 20000 values; remove the YAML aliases"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a\n  <<: *a\n"], ids=["list", "merge key"])
def test_an_alias_of_itself_is_refused(text: str) -> None:
    assert refusal(text) == "c.yaml:1:4: nested deeper than 40 levels"


def test_broken_yaml_is_refused_with_its_place() -> None:
    assert refusal("model: a\nsystem: b: c\n") == (
        "c.yaml:2:10: not valid YAML: mapping values are not allowed here; "
        "check the indentation, colons and quotes around this place"
    )


@pytest.mark.parametrize("text", ["eval:\n\tidentity: 1\n", "model: a\n\tsystem: b\n"])
def test_a_tab_is_called_a_tab(text: str) -> None:
    assert refusal(text) == "c.yaml:2:1: a tab character, which YAML does not allow here; indent with spaces"


def test_an_undefined_alias_is_refused() -> None:
    assert refusal("model: *x\n").startswith("c.yaml:1:8: not valid YAML: found undefined alias 'x';")


def test_a_second_document_is_refused_where_it_begins() -> None:
    assert refusal("model: a\n---\nmodel: b\n") == (
        "c.yaml:2:1: a second YAML document begins here; one file holds one config: remove the `---`"
    )


@pytest.mark.parametrize("text", ["- a\n- b\n", "hello\n", "5\n"])
def test_what_is_not_a_mapping_is_refused(text: str) -> None:
    assert refusal(text) == "c.yaml: a config is a mapping of keys to values; write `key: value` lines"


# --- problems that are collected ---------------------------------------------------------------------------------


def test_duplicate_keys_are_found_at_every_depth_with_the_first_line() -> None:
    assert problems("eval:\n  general: 1\n  general: 2\nmodel: a\nmodel: b\n") == [
        "c.yaml:3:3: general: written twice (first in line 2); keep one of them",
        "c.yaml:5:1: model: written twice (first in line 4); keep one of them",
    ]


def test_a_problem_behind_an_alias_is_reported_once() -> None:
    assert problems("a: &a {x: 1, x: 2}\nb: *a\nc: *a\n") == [
        "c.yaml:1:14: x: written twice (first in line 1); keep one of them"
    ]


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!custom 5", "!custom"),
        ("!custom {a: 1}", "!custom"),
        ("!!set {a, b}", "!!set"),
        ("!!binary aGk=", "!!binary"),
        ("!!python/object/apply:os.system [id]", "!!python/object/apply:os.system"),
        ("!x:int 3", "!x:int"),
    ],
)
def test_an_unknown_tag_is_refused(value: str, tag: str) -> None:
    assert problems(f"key: {value}\n") == [
        f"c.yaml:1:6: the YAML tag {tag} is not supported; write a plain value",
    ]


@pytest.mark.parametrize("value", ["!!int eight", "!!bool perhaps", "!!float x", "9" * 5_000])
def test_a_number_that_cannot_be_read_is_a_problem(value: str) -> None:
    (problem,) = problems(f"key: {value}\n")
    assert problem.startswith("c.yaml:1:6: '") and problem.endswith("is not a number or switch that can be read")


def test_a_list_as_key_is_refused() -> None:
    assert problems("? [a, b]\n: 1\n") == ["c.yaml:1:3: a key must be a plain word"]


def test_merging_what_is_no_mapping_is_refused() -> None:
    assert problems("a: &a 5\nb:\n  <<: *a\n") == ["c.yaml:1:4: <<: merges only mappings; give an alias of one"]


# --- values ------------------------------------------------------------------------------------------------------


def test_numbers_are_numbers_in_every_spelling() -> None:
    assert values("a: 1e-4\nb: 1E5\nc: .5\nd: 2.\ne: -3\nf: 0x1F\ng: 010\n") == {
        "a": 1e-4, "b": 1e5, "c": 0.5, "d": 2.0, "e": -3, "f": 31, "g": 10,
    }  # fmt: skip


def test_the_words_no_and_on_stay_words() -> None:
    assert values("a: no\nb: on\nc: yes\nd: off\ne: y\nf: true\n") == {
        "a": "no", "b": "on", "c": "yes", "d": "off", "e": "y", "f": True,
    }  # fmt: skip


def test_dates_and_times_stay_text() -> None:
    assert values("a: 2024-01-01\nb: 2024-01-01 10:00:00\nc: 1:30\n") == {
        "a": "2024-01-01", "b": "2024-01-01 10:00:00", "c": "1:30",
    }  # fmt: skip


def test_a_file_from_windows_is_read() -> None:
    assert values(b"\xef\xbb\xbfmodel: a\r\nsystem: b\r\n") == {"model": "a", "system": "b"}


def test_json_is_yaml() -> None:
    assert values('{"model": "a", "dataset": ["x", "y"]}') == {"model": "a", "dataset": ["x", "y"]}


def test_an_emoji_in_the_escapes_of_json_is_one_character() -> None:
    assert values('{"system": "\\ud83d\\ude00 \\u7cbe"}') == {"system": "😀 精"}


def test_half_a_character_is_a_problem() -> None:
    assert problems('system: "\\ud83d"\n') == ["c.yaml:1:9: holds half of a character; write it without \\u"]


def test_a_nul_character_is_a_problem() -> None:
    assert problems('output_dir: "a\\0"\n') == ["c.yaml:1:13: holds a NUL character; remove the \\0"]


def test_chinese_and_emoji_are_kept() -> None:
    assert values("system: 你是精衡 😀\n") == {"system": "你是精衡 😀"}


def test_written_keys_win_over_merged_ones_wherever_the_merge_stands() -> None:
    source = read("a: &a {rows: 1, seed: 2}\nb:\n  rows: 8\n  <<: *a\n")
    assert source.values["b"] == {"rows": 8, "seed": 2}
    assert source.place("b.rows") == "c.yaml:3:3"


def test_the_first_of_several_merged_mappings_wins() -> None:
    assert values("a: &a {x: 1}\nb: &b {x: 2, y: 3}\nc:\n  <<: [*a, *b]\n")["c"] == {"x": 1, "y": 3}


# --- places ------------------------------------------------------------------------------------------------------


def test_every_key_and_list_item_has_its_place() -> None:
    source = read("model: a\neval:\n  general: 1\ndataset:\n  - x\n  - y\n")
    assert [source.place(key) for key in ("model", "eval.general", ("dataset", 1))] == [
        "c.yaml:1:1", "c.yaml:3:3", "c.yaml:6:5",
    ]  # fmt: skip


def test_the_place_of_an_absent_key_is_its_section_or_the_file() -> None:
    source = read("model: a\neval:\n  general: 1\n")
    assert [source.place(key) for key in ("eval.identity", "lora_rank")] == ["c.yaml:2:1", "c.yaml"]


# --- overrides ---------------------------------------------------------------------------------------------------

FILE = "model: a\nlora_rank: 8\neval:\n  general: 1\n"


def overridden(*overrides: str) -> dict[str, Value]:
    return apply_overrides(read(FILE), overrides).values


def override_refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        overridden(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("true", True),
        ("no", "no"),
        ("null", None),
        ("", ""),
        ("'8'", "8"),
        ("[a, b#500]", ["a", "b#500"]),
        ("{zh: 精衡, en: X}", {"zh": "精衡", "en": "X"}),
        ("AI-ModelScope/x#500", "AI-ModelScope/x#500"),
        ("# hash", "# hash"),
        ("Use C # not D", "Use C # not D"),
        ("'Answer: briefly'", "Answer: briefly"),
        ("' padded '", " padded "),
        ("a=b", "a=b"),
        ("你好", "你好"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_the_value_of_set_is_read_as_yaml_without_comments(text: str, value: Value) -> None:
    assert overridden(f"key={text}")["key"] == value


def test_set_replaces_adds_and_reaches_into_sections() -> None:
    assert overridden("lora_rank=16", "eval.identity=0.9", "identity.name.en=Ada", "model=b", "model=c") == {
        "model": "c",
        "lora_rank": 16,
        "eval": {"general": 1, "identity": 0.9},
        "identity": {"name": {"en": "Ada"}},
    }


def test_set_opens_a_section_that_was_left_empty() -> None:
    assert apply_overrides(read("eval:\nmodel: a\n"), ["eval.general=2"]).values == {
        "eval": {"general": 2},
        "model": "a",
    }


def test_set_leaves_the_source_it_was_given_alone() -> None:
    source = read(FILE)
    apply_overrides(source, ["eval.general=5"])
    assert source.values["eval"] == {"general": 1}


def test_a_value_of_set_has_set_as_its_place() -> None:
    source = apply_overrides(read(FILE), ["eval.general=x", "identity.name=y"])
    assert [source.place(key) for key in ("eval.general", "identity.author", "eval", "model")] == [
        "--set", "--set", "c.yaml:3:1", "c.yaml:1:1",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["lora_rank", "=3", "eval..general=1", "eval.=1", " =1"])
def test_what_is_not_key_value_is_refused(text: str) -> None:
    assert override_refusal(text) == f"--set {text}: is not KEY=VALUE; write --set learning_rate=1e-4"


def test_set_cannot_reach_into_a_single_value() -> None:
    assert override_refusal("model.name=x") == (
        "--set model.name=x: model holds one value, not a mapping; use --set model=... instead"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[a", "expected ',' or ']', but got '<stream end>'"),
        ("*x", "found undefined alias 'x'"),
        ("!foo x", "the YAML tag !foo is not supported"),
        ("{a: 1, a: 2}", "a: written twice (first in line 1)"),
        ("[" * 50 + "]" * 50, "nested deeper than 40 levels"),
    ],
)
def test_a_value_that_is_not_yaml_is_refused_with_the_way_to_quote_it(value: str, reason: str) -> None:
    assert override_refusal(f"key={value}") == (
        f"""--set key={value}: the value is not valid YAML: {reason}; quote it for YAML: --set 'key="..."'"""
    )


def test_all_bad_overrides_are_reported_together() -> None:
    assert override_refusal("a", "lora_rank=1", "model.x=1").splitlines() == [
        "--set a: is not KEY=VALUE; write --set learning_rate=1e-4",
        "--set model.x=1: model holds one value, not a mapping; use --set model=... instead",
    ]


def test_ignore_comments_are_read_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: m  # sft-kit: ignore near-duplicate, many-repeats because the tutorial says so\n"
        "# sft-kit: ignore personal-data\n"
        "system: 'not a comment of ours: ignore this'\n",
        encoding="utf-8",
    )

    assert read_source(path).ignored == {"near-duplicate": 1, "many-repeats": 1, "personal-data": 2}


def test_codes_of_an_ignore_comment_may_stand_without_commas_up_to_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: m  # sft-kit: ignore few-rows near-duplicate, many-repeats as the tutorial has hidden-text\n"
        "# sft-kit: ignore special-token - no few-steps here\n",
        encoding="utf-8",
    )

    assert read_source(path).ignored == {
        "few-rows": 1,
        "near-duplicate": 1,
        "many-repeats": 1,
        "special-token": 2,
    }  # a code with a mistake in it is one: `check` says that there is none of that name


@pytest.mark.parametrize(
    ("line", "place"), [("  - mine.jsonl #500", "config.yaml:2:16"), ("dataset: mine.jsonl #500", "config.yaml:2:21")]
)
def test_a_sample_size_that_yaml_takes_for_a_comment_is_a_problem(tmp_path: Path, line: str, place: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(("dataset:" if line[0] == " " else "model: m") + f"\n{line}\n", encoding="utf-8")

    (problem,) = read_source(path).problems

    assert problem.place == f"{tmp_path}/{place}"
    assert problem.message == "#500 stands behind a blank, so that YAML takes it for a comment"
    assert problem.fix == "write mine.jsonl#500"


def test_an_ordinary_comment_behind_a_data_set_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("dataset:\n  - mine.jsonl  # 500 rows\n  - b.jsonl#5 # the best\n", encoding="utf-8")

    assert read_source(path).problems == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: a/b\nsystem：你好\n", "c.yaml:2:7: a full-width colon, no colon to YAML; write `system: 你好`"),
        ("identity:\n  name：甲\n  author: 乙\n", "c.yaml:2:7: a full-width colon, no colon to YAML; write `name: 甲`"),
        ("model：a/b\n", "c.yaml:1:6: a full-width colon, no colon to YAML; write `model: a/b`"),
        ("identity:\n  slots：\n    A: b\n", "c.yaml:2:8: a full-width colon, no colon to YAML; write `slots:`"),
        ("model:a/b\nseed: 1\n", "c.yaml:1:6: no blank behind the colon; write `model: a/b`"),
    ],
)
def test_a_colon_that_is_none_to_yaml_is_told_where_it_stands(text: str, said: str) -> None:
    assert refusal(text) == said


def test_a_colon_within_a_text_is_not_blamed() -> None:
    broken = "system: |\n  Note：be brief\n\n  Also:short\ndataset:\n  - HF::owner/data\nmodel: [unclosed\n"
    assert refusal(broken).startswith("c.yaml:8:1: not valid YAML: ")
