"""Reading records one by one: every form, every way to be broken, in bounded memory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_kit.data.scan import Broken, scan

ONE = b'{"a": 1}'
NOT_UTF8 = "save it as UTF-8"


def scanned(folder: Path, content: bytes, name: str = "rows.jsonl") -> list[tuple[int, object]]:
    path = folder / name
    path.write_bytes(content)
    return list(scan(path))


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", []),
        (b"\n \n\t\n", []),
        (ONE + b"\n" + ONE, [(1, {"a": 1}), (2, {"a": 1})]),
        (ONE + b"\r\n" + ONE + b"\r\n", [(1, {"a": 1}), (2, {"a": 1})]),
        (b"\n\n" + ONE + b"\n\n" + ONE, [(3, {"a": 1}), (5, {"a": 1})]),
        (b"\xef\xbb\xbf" + ONE, [(1, {"a": 1})]),
        (ONE + ONE + b"\n" + ONE, [(1, {"a": 1}), (1, {"a": 1}), (2, {"a": 1})]),
        (b"  " + ONE + b"  \n", [(1, {"a": 1})]),
        (b'{\n"a":\n1}\n{"b": 2}\n', [(1, {"a": 1}), (4, {"b": 2})]),
        (b'{"a":\n1} {"b":\n2}\n{"c": 3}', [(1, {"a": 1}), (2, {"b": 2}), (4, {"c": 3})]),
        ('{"a": "\u2028\x85"}\n'.encode(), [(1, {"a": "\u2028\x85"})]),
        (b'null\n5\n"x"\n[1]\n', [(1, None), (2, 5), (3, "x"), (4, [1])]),
        (b'{"a": "\\ud83c\\udf0f"}\n', [(1, {"a": "\U0001f30f"})]),
    ],
)
def test_json_lines_are_read_as_pyarrow_reads_them(
    content: bytes, records: list[tuple[int, object]], tmp_path: Path
) -> None:
    assert scanned(tmp_path, content) == records
    assert scanned(tmp_path, content, "rows.json") == records


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b'[{"a": 1},\n {"a": 2}]\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'\xef\xbb\xbf[\n\n1,"x",\nnull\n]', [(3, 1), (3, "x"), (4, None)]),
        (b'["a\tb", "a\nb", 1]', [(1, "a\tb"), (1, "a\nb"), (2, 1)]),
        (b'["a\\ud800b"]', [(1, "ab")]),
    ],
)
def test_a_json_list_is_read_as_ujson_reads_it(
    content: bytes, records: list[tuple[int, object]], tmp_path: Path
) -> None:
    assert scanned(tmp_path, content, "rows.json") == records
    assert scanned(tmp_path, content, "rows.jsonl") == records


@pytest.mark.parametrize(
    ("content", "broken"),
    [
        (ONE + b'\n{"a": [1,', {2: "is not JSON: it ends in the middle"}),
        (b'{"a": "x\n' + ONE, {1: "is not JSON: Invalid control character at '\\n'"}),
        (b'{"a": [\n' + ONE + b"\n" + ONE, {1: "is not JSON: Expecting ',' delimiter at '{\"a\": 1}'"}),
        (b"{'a': 1}\n" + ONE, {1: "is not JSON: Expecting property name enclosed in double quotes at \"'a': 1}\""}),
        (ONE + b",\n" + ONE, {1: "is not JSON: Expecting value at ','"}),
        (ONE + b'\n{"a": "\xff"}\n', {2: f"is not UTF-8: invalid start byte at byte 7 of the line; {NOT_UTF8}"}),
        (b'{"a": "\\udc00"}', {1: "has half of a surrogate pair (\\ud800 to \\udfff alone), which is no character"}),
        (b"[" * 100_000, {1: "is nested too deeply to be read"}),
        (b'{"a": ' + b"[" * 100_000, {1: "is nested too deeply to be read"}),
        (b'{"a": ' + b"1" * 5000 + b"}", {1: "has a number of more digits than can be read"}),
        ("[1]".encode("utf-16"), {1: f"is not UTF-8 but UTF-16 or no text at all; {NOT_UTF8}"}),
        (b"\x00\x01\x02", {1: f"is not UTF-8 but UTF-16 or no text at all; {NOT_UTF8}"}),
        (b"[1,\n2,\n]", {3: "is not JSON: a comma stands before the closing ]"}),
        (b"[1\n2]", {2: "is not JSON: a comma is missing before '2]'"}),
        (b"[1,\n2", {2: "is not JSON: the list is not closed, its ] is missing"}),
        (b"[1]\n[2]", {2: "is not JSON: the file goes on after the list"}),
        (b"[1,\n,2]", {2: "is not JSON: Expecting value at ',2]'"}),
        (b"[1,\nNone]", {2: "is not JSON: Expecting value at 'None]'"}),
        (b'[1,\n{"a": ', {2: "is not JSON: it ends in the middle"}),
        (b'[1,\n"\xff"]', {2: f"is not UTF-8: invalid start byte at byte 5 of the file, line 2; {NOT_UTF8}"}),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(content: bytes, broken: dict[int, str], tmp_path: Path) -> None:
    found = {line: value.message for line, value in scanned(tmp_path, content) if isinstance(value, Broken)}
    assert found == broken


def test_json_lines_go_on_after_a_broken_one(tmp_path: Path) -> None:
    values = [value for _, value in scanned(tmp_path, b'{"a": [\n' + ONE + b"\nno\n" + ONE)]
    assert [value for value in values if not isinstance(value, Broken)] == [{"a": 1}, {"a": 1}]


def test_nan_is_a_number_as_pyarrow_has_it(tmp_path: Path) -> None:
    assert str(scanned(tmp_path, b'{"a": NaN}\n')) == "[(1, {'a': nan})]"


def test_a_file_that_is_not_there_is_broken(tmp_path: Path) -> None:
    assert list(scan(tmp_path / "none.jsonl")) == [(1, Broken("cannot be read: No such file or directory"))]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", []),
        (b"q,a\n", []),
        (b"q,a\n1,2\r\n3,4", [(2, ["1", "2"]), (3, ["3", "4"])]),
        (b"\xef\xbb\xbfq,a\n\n1,2\n\n", [(3, ["1", "2"])]),
        (b'q,a\n"x\ny","say ""hi"""\n1,2\n', [(2, ["x\ny", 'say "hi"']), (4, ["1", "2"])]),
        (b"q,a\n1\n", [(2, ["1", ""])]),
        (b"q,a\n1,2\n1,2,3\n4,5\n", [(2, ["1", "2"]), (3, None), (4, ["4", "5"])]),
        (b"q,a\n0,1,2\n0,3,4\n", [(2, ["1", "2"]), (3, ["3", "4"])]),
        (b'q,a\n1,2\n"3,4\n', [(2, ["1", "2"]), (3, None)]),
        (b"q,a\n1,\xff\n", [(1, None)]),
        (b'q,a\n"' + b"x" * 200_000 + b'",2\n', [(2, ["x" * 200_000, "2"])]),
    ],
)
def test_a_csv_is_read_as_pandas_reads_it(
    content: bytes, records: list[tuple[int, list[str] | None]], tmp_path: Path
) -> None:
    found = scanned(tmp_path, content, "rows.csv")
    assert found == [
        (line, dict(zip("qa", cells, strict=True)) if cells else found[i][1]) for i, (line, cells) in enumerate(records)
    ]
    assert [isinstance(value, Broken) for _, value in found] == [cells is None for _, cells in records]


def test_equal_column_names_of_a_csv_are_told_apart(tmp_path: Path) -> None:
    assert scanned(tmp_path, b"q,q,a\n1,2,3\n", "rows.csv") == [(2, {"q": "1", "q.1": "2", "a": "3"})]


def test_each_line_of_a_text_file_is_a_record(tmp_path: Path) -> None:
    assert scanned(tmp_path, b" a \r\n\nb", "rows.txt") == [(1, {"text": " a "}), (2, {"text": ""}), (3, {"text": "b"})]


TEXTS = st.text()
RECORDS = st.lists(st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(-(2**63), 2**63), st.none(), st.lists(TEXTS))))


@given(records=RECORDS, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_any_json_that_is_written_comes_back(
    records: list[object], ascii_only: bool, indent: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(records, ensure_ascii=ascii_only, indent=indent), encoding="utf-8", newline="")
    assert [value for _, value in scan(path)] == records
    lines = "".join(json.dumps(record, ensure_ascii=ascii_only, indent=indent) + "\n" for record in records)
    path.write_text(lines, encoding="utf-8", newline="")
    assert [value for _, value in scan(path)] == records


@given(rows=st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_any_csv_that_is_written_comes_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("q", "a"), *rows])
    assert [value for _, value in scan(path)] == [{"q": q, "a": a} for q, a in rows]


@given(texts=st.lists(st.text(max_size=5)), size=st.integers(1, 9))
def test_a_list_comes_back_whatever_the_size_of_the_chunks(
    texts: list[str], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "chunks.json"
    path.write_text(json.dumps([[text, 12345, True] for text in texts]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sft_kit.data.scan._CHUNK", size)
        assert [value for _, value in scan(path)] == [[text, 12345, True] for text in texts]


PEAK_MB = """
import resource, sys
from pathlib import Path
from sft_kit.data.scan import scan
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in scan(Path(sys.argv[1])))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_a_long_file_is_read_in_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    row = json.dumps({"text": "x" * 1000})
    count = 60_000
    with path.open("w", encoding="utf-8") as file:
        file.write("[" if name == "rows.json" else "text\n" if name == "rows.csv" else "")
        file.writelines(f"{row},\n" if name == "rows.json" else f"{row}\n" for _ in range(count - 1))
        file.write(f"{row}]" if name == "rows.json" else row)
    assert path.stat().st_size > 60_000_000
    done = subprocess.run([sys.executable, "-c", PEAK_MB, str(path)], capture_output=True, text=True, check=True)
    found, peak = map(int, done.stdout.split())
    assert found == count if name != "rows.csv" else found > 1
    assert peak < 20


@pytest.mark.parametrize("content", [b'[{"a": "%s"}]', b'{"a": "%s"}\n', b'{\n"a":\n"%s"\n}\n'])
def test_the_time_for_one_long_value_grows_with_its_length_only(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_bytes(content % (b"x" * 15_000_000))
    start = time.process_time()
    ((_, value),) = scan(path)
    assert isinstance(value, dict)
    assert len(value["a"]) == 15_000_000
    assert time.process_time() - start < 3


def test_a_value_over_many_lines_is_not_parsed_once_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"a": list(range(200_000))}, indent=1), encoding="utf-8")
    start = time.process_time()
    assert list(scan(path)) == [(1, {"a": list(range(200_000))})]
    assert time.process_time() - start < 3
