"""What sft-kit says of a data file against what the real ms-swift makes of it, row for row."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from sft_kit.findings import Finding
from sft_kit.models.catalog import resolve_own_model
from sft_kit.msswift.datasets import Conversation, SwiftRow, files_of, folder_findings, reading_of
from sft_kit.msswift.install import Generation, find_installation

BROKEN = Path(__file__).parents[1] / "data" / "broken" / "read"
CHILD = Path(__file__).with_name("real_datasets.py")
EXPECTED: dict[str, Any] = yaml.safe_load((BROKEN / "expected.yaml").read_text(encoding="utf-8"))


Source = tuple[Path, dict[str, str] | None]
"""A file or a folder, and the `columns` of the run."""


def judged(
    path: Path, generation: Generation, columns: dict[str, str] | None = None
) -> tuple[list[Finding], list[Finding], list[SwiftRow]]:
    """(what fails it, what is noted, its rows) of a file or a folder."""
    files = files_of(path) if path.is_dir() else [path]
    readings = [reading_of(file, generation, columns, of_folder=path.is_dir()) for file in files]
    fatal = [finding for reading in readings for finding in reading.fatal]
    if path.is_dir():
        fatal += folder_findings(path, readings)
    notes = [finding for reading in readings for finding in reading.notes]
    return fatal, notes, [row for reading in readings for row in reading.rows()]


def summary(path: Path, generation: Generation) -> dict[str, Any]:
    """The first thing that is found, as `expected.yaml` has it."""
    fatal, notes, rows = judged(path, generation)
    if fatal:
        return {"code": fatal[0].code, "lines": list(fatal[0].lines), "fails": True}
    found = [(row.dropped, row.line) for row in rows if row.dropped]
    found = found or [(note.code, 0) for note in notes if note.severity == "warning"]
    found = found or [(row.note, row.line) for row in rows if row.note]
    code = found[0][0] if found else ""
    lines = [line for each, line in found if each == code and line]
    return {"code": code, "lines": lines, "trains": sum(not row.dropped for row in rows)}


def expected(name: str, generation: Generation) -> dict[str, Any]:
    entry: dict[str, Any] = EXPECTED[name]
    return entry if "code" in entry else entry[generation]  # type: ignore[index,no-any-return]


def test_the_folder_of_broken_files_is_whole() -> None:
    entries = {name.rstrip("/") for name in EXPECTED}
    assert len(entries) > 60
    assert entries == {path.name for path in BROKEN.iterdir()} - {"expected.yaml"}


@pytest.mark.parametrize("generation", get_args(Generation))
@pytest.mark.parametrize("name", EXPECTED)
def test_one_wrong_thing_in_a_file_is_found_where_it_is(name: str, generation: Generation) -> None:
    assert summary(BROKEN / name, generation) == expected(name, generation)


@pytest.mark.parametrize("generation", get_args(Generation))
@pytest.mark.parametrize("name", EXPECTED)
def test_each_finding_says_what_is_wrong_in_words(name: str, generation: Generation) -> None:
    fatal, notes, rows = judged(BROKEN / name, generation)
    assert all(finding.message and finding.place.startswith(str(BROKEN)) for finding in [*fatal, *notes])
    assert all(bool(row.reason) == bool(row.dropped or row.note) for row in rows)
    assert all((row.messages is None) == bool(row.dropped) for row in rows)


def written(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_reading_tells_the_kind_and_the_columns_of_the_file(tmp_path: Path) -> None:
    reading = reading_of(written(tmp_path, {"Question": "Hello", "answer": "Hi", "source": "web"}), 4)
    assert (reading.kind, reading.columns, reading.records) == ("query-response", ("Question", "answer", "source"), 1)
    message = "ms-swift does not use the columns source"
    assert reading.notes == (Finding("ignored-columns", "note", str(reading.path), message),)
    assert list(reading.rows()) == [SwiftRow(1, (("user", "Hello"), ("assistant", "Hi")))]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, "sharegpt"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"instruction": "a", "output": "b"}, "query-response"),
        ({"text": "a"}, "text"),
        ({"frage": "a"}, "unknown"),
    ],
)
def test_the_columns_decide_the_kind(row: object, kind: str, tmp_path: Path) -> None:
    assert reading_of(written(tmp_path, row), 4).kind == kind


def test_an_ignored_column_that_could_be_meant_is_a_warning(tmp_path: Path) -> None:
    notes = reading_of(written(tmp_path, {"response": "a", "answer": "b", "query": "c"}), 4).notes
    assert [(note.code, note.severity, note.message) for note in notes] == [
        ("ignored-columns", "warning", "ms-swift takes other columns and ignores answer")
    ]


def test_a_late_column_is_found_without_reading_more_than_once(tmp_path: Path) -> None:
    *_, path = [path for path in late_files(tmp_path) if "new-column" in path.name]
    assert [(f.code, f.lines) for f in reading_of(path, 4).fatal] == [("late-types", (4,))]


def test_a_parquet_file_is_said_not_to_be_checked(tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "rows.parquet", 4)
    assert (reading.kind, [note.code for note in reading.notes], list(reading.rows())) == ("other", ["not-checked"], [])


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    assert [finding.code for finding in reading_of(tmp_path / "none.jsonl", 4).fatal] == ["unreadable-file"]


# --- Against the real one ---------------------------------------------------------------------------------------------


def random_files(folder: Path) -> list[Path]:
    """Some hundred random rows for each format, right and wrong ones, always the same."""
    choose = random.Random(7)  # noqa: S311
    formats: dict[str, Callable[[random.Random], object]] = {
        "messages": lambda r: random_messages(r, "role", "content", ("user", "assistant", "system", "human", "tool")),
        "sharegpt": lambda r: random_messages(r, "from", "value", ("human", "gpt", "system", "bot", "user")),
        "alpaca": random_alpaca,
        "query": random_query,
    }
    files = []
    for name, make in formats.items():
        for suffix in (".jsonl", ".json"):
            rows = [make(choose) for _ in range(150)]
            path = folder / f"{name}{suffix}"
            text = "\n".join(map(json.dumps, rows)) if suffix == ".jsonl" else json.dumps(rows, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
            files.append(path)
    # Values of every kind in one place: 4.x reads them as JSON, 3.x fails.
    wild = folder / "wild.jsonl"
    wild.write_text("\n".join(json.dumps(random_wild(choose)) for _ in range(150)), encoding="utf-8")
    table = folder / "table.csv"
    table.write_text(random_csv(choose), encoding="utf-8", newline="")
    return [*files, wild, table]


def random_text(choose: random.Random) -> str | None:
    return choose.choice(["Hello", "你好 🌏", "5", "true", "", " ", "a\nb", '{"a": 1}', "2024-01-31", None, "x" * 300])


def random_messages(choose: random.Random, role: str, content: str, roles: tuple[str, ...]) -> object:
    length = choose.choice([0, 1, 2, 2, 2, 3, 4, 4, 5])
    ordinary = ["system", *roles[:2] * 3] if choose.random() < 0.3 else [*roles[:2] * 3]
    messages: list[dict[str, object]] = [{role: r, content: random_text(choose) or "ok"} for r in ordinary[:length]]
    if messages and choose.random() < 0.4:
        message = choose.choice(messages)
        change = choose.randrange(4)
        if change == 0:
            message[content] = random_text(choose)
        elif change == 1:
            message[role] = choose.choice([*roles, "narrator", "", None, "tool_call", "observation"])
        elif change == 2:
            messages.remove(message)
        else:
            messages.insert(choose.randrange(len(messages)), dict(message))
    row: dict[str, object] = {
        ("messages" if role == "role" else "conversations"): choose.choice([messages] * 9 + [None])
    }
    if choose.random() < 0.2:
        row["system"] = random_text(choose)
    return choose.choice([row] * 30 + [{}])


def random_alpaca(choose: random.Random) -> object:
    row = {key: random_text(choose) for key in ("instruction", "input", "output")}
    if choose.random() < 0.2:
        row.pop(choose.choice(list(row)))
    if choose.random() < 0.2:
        row["system"] = random_text(choose)
    return row


def random_query(choose: random.Random) -> object:
    row: dict[str, object] = {"query": random_text(choose), "response": random_text(choose)}
    if choose.random() < 0.3:
        pair = [random_text(choose) or "a", random_text(choose) or "b"]
        row["history"] = choose.choice([[pair], [pair, pair], [], None, [pair[:1]]])
    return row


def random_wild(choose: random.Random) -> object:
    anything: list[object] = [
        "text",
        5,
        1.5,
        True,
        None,
        [],
        ["a"],
        {"a": 1},
        [{"type": "text", "text": "part"}],
        "[1]",
    ]
    messages = [{"role": role, "content": choose.choice(["text"] * 20 + anything)} for role in ("user", "assistant")]
    return {
        "messages": choose.choice([messages] * 20 + anything),
        "system": choose.choice(["Be brief."] * 5 + [None, 7]),
    }


def random_csv(choose: random.Random) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["Question", "answer", "history"])
    for _ in range(150):
        history = choose.choice(["", "[['a', 'b']]", "[]", "no list", "[['a']]"])
        writer.writerow([random_text(choose) or "", random_text(choose) or "", history])
    return text.getvalue()


def late_files(folder: Path) -> list[Path]:
    """Files of more than 10 MB in which something is new after that."""
    row: dict[str, object] = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    named = [{"role": "user", "content": "a", "name": "x"}, {"role": "assistant", "content": "b"}]
    late: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "new-column": (row, {**row, "system": "s"}),
        "null-before": ({**row, "system": None}, {**row, "system": "s"}),
        "new-key": (row, {"messages": named}),
        "fewer": ({**row, "source": "web"}, row),
    }
    files = []
    for name, (first, last) in late.items():
        path = folder / f"late-{name}.jsonl"
        lines = [json.dumps({**first, "padding": "x" * 4_000_000})] * 3 + [json.dumps(last)]
        path.write_text("\n".join(lines), encoding="utf-8")
        files.append(path)
    return files


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    made = tmp_path_factory.mktemp("rows")
    files = [*random_files(made), *late_files(made)]
    renamed: dict[str, Source] = {
        "renamed": (BROKEN / "unknown-columns.jsonl", {"FRAGE": "query", "antwort": "response"}),
        "both renamed to one": (BROKEN / "unknown-columns.jsonl", {"frage": "query", "antwort": "query"}),
        "renamed to messages": (BROKEN / "messages-in-capitals.jsonl", {"messages": "messages"}),
    }
    return {**{name: (BROKEN / name, None) for name in EXPECTED}, **{p.name: (p, None) for p in files}, **renamed}


@pytest.fixture(scope="session")
def real(sources: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real ms-swift makes of each source."""
    cache = tmp_path_factory.mktemp("cache")
    model = resolve_own_model("sft-kit/tiny-qwen2", print).path
    asked = {"model": str(model), "sources": [[str(path), columns] for path, columns in sources.values()]}
    caches = {name: str(cache) for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_DATASETS_CACHE")}
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **caches, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    return dict(zip(sources, json.loads(done.stdout.splitlines()[-1]), strict=True))


def really_kept(answer: dict[str, Any]) -> list[tuple[Conversation, bool]] | None:
    """(messages, whether any token is trained) of the rows that reach the training; None if there are none."""
    rows = answer.get("rows", [])
    kept = [(as_conversation(row["messages"]), row["trained"] > 0) for row in rows if not row["refused"]]
    return kept or None


def as_conversation(messages: list[dict[str, Any]]) -> Conversation:
    return tuple((m["role"] if m["role"] != "tool" else "tool_response", as_text(m["content"])) for m in messages)


def as_text(content: object) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def predicted(source: Source, generation: Generation) -> list[tuple[Conversation, bool]] | None:
    fatal, _, rows = judged(source[0], generation, source[1])
    kept = [(row.messages, row.note != "nothing-trained") for row in rows if row.messages is not None]
    return None if fatal else kept or None


@pytest.mark.real
def test_the_rows_that_are_kept_are_those_that_the_real_ms_swift_keeps(
    sources: dict[str, Source], real: dict[str, Any]
) -> None:
    generation = find_installation().generation
    assert len(real) > 100
    wrong = {
        name: {"predicted": mine, "real": theirs, "error": real[name].get("failed")}
        for name, source in sources.items()
        if (mine := predicted(source, generation)) != (theirs := really_kept(real[name]))
    }
    assert wrong == {}


@pytest.mark.real
def test_what_fails_a_whole_file_fails_the_real_ms_swift(sources: dict[str, Source], real: dict[str, Any]) -> None:
    generation = find_installation().generation
    fatal = {name for name, (path, columns) in sources.items() if judged(path, generation, columns)[0]}
    # ms-swift also fails where it has dropped every row.
    assert fatal == {name for name, answer in real.items() if "failed" in answer}


@pytest.mark.real
def test_the_random_files_have_right_and_wrong_rows(sources: dict[str, Source]) -> None:
    generation = find_installation().generation
    for path in [path for path, _ in sources.values() if path.parent != BROKEN and "late" not in path.name]:
        _, _, rows = judged(path, generation)
        assert len(rows) == 150
        assert 3 < sum(bool(row.dropped) for row in rows) < 140
