"""Files made to hang, exhaust or crash their reader: each is refused or contained, in seconds and little memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_kit.config.load import load_config
from sft_kit.config.source import read_source
from sft_kit.console import show_error
from sft_kit.data.formats import read_records, read_rows
from sft_kit.data.scan import scan
from sft_kit.errors import SftKitError, UsageError
from sft_kit.msswift.datasets import MOST_FILES, reading_of
from sft_kit.msswift.logs import read_results, read_steps, read_summary
from sft_kit.run.answer_cache import read_answers, read_likelihoods
from sft_kit.run.directory import RunDirectory
from tests.hostile.contained import Outcome, call, run

Make = Callable[[Path], object]
SECONDS, MIB = 10, 300  # the slowest takes 1 s alone; other tests run beside it


def text(content: str | bytes) -> Make:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def hole(start: bytes, size: int) -> Make:
    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make


CONFIGS: dict[str, Make] = {
    "9,000 brackets": text("model: " + "[" * 9_000 + "]" * 9_000),
    "90,000 brackets, open": text("model: " + "[" * 90_000),
    "600 mappings in each other": text("".join(f"{' ' * depth}k:\n" for depth in range(300))),
    "9,000 dashes": text("- " * 9_000),
    "a billion laughs": text(
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    ),
    "a billion merges": text(
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))
    ),
    "an anchor in itself": text("a: &a [*a]\n"),
    "a merge of itself": text("a: &a\n  <<: *a\n"),
    "100,000 keys": text("".join(f"k{n}: {n}\n" for n in range(100_000))),
    "1,500 keys": text("".join(f"k{n}: 1\n" for n in range(1_500))),
    "1,500 times one key": text("model: a\n" * 1_500),
    "a number of 6,000 digits": text("lora_rank: " + "9" * 6_000),
    "a hexadecimal number of 6,000 digits": text("lora_rank: 0x" + "f" * 6_000),
    "a number to the base 60": text("%YAML 1.1\n---\nlora_rank: 1:" + "59:" * 30_000 + "1\n"),
    "a Python object": text("model: !!python/object/apply:os.system ['touch done']\n"),
    "numbers and switches that are none": text("a: !!int ''\nb: !!float x\nc: !!bool maybe\n"),
    "NUL": text('model: "a\\0b"\n"k\\0": 1\n'),
    "half a character in a key": text('"k\\ud800": 1\n'),
    "UTF-16": text("model: x\n".encode("utf-16")),
    "UTF-32": text("model: x\n".encode("utf-32")),
    "not UTF-8": text(b"model: \xc0\xaf\n"),
    "a raw escape": text(b"model: a\x1b[31mb\n"),
    "a folder": lambda path: path.mkdir(),
    "a pipe into which nobody writes": lambda path: os.mkfifo(path),
    "a link to itself": lambda path: path.symlink_to(path),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/tty": lambda path: path.symlink_to("/dev/tty"),
    "a gigabyte of nothing": hole(b"", 1 << 30),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    CONFIGS[name](folder / "c.yaml")

    def load() -> None:
        try:
            load_config(Path("c.yaml"))
        except SftKitError as error:
            show_error(error)
            raise SystemExit(error.exit_code) from error

    found = call(load, folder, seconds=SECONDS, mib=MIB)
    assert found.is_contained(2), found
    assert found.err.startswith("error: c.yaml")
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]


ROW = b'{"messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi, how are you?"}]}\n'
DATA: dict[str, tuple[str, Make]] = {
    "a million brackets": ("d.jsonl", text(ROW + b"[" * 1_000_000)),
    "a list of a million brackets": ("d.json", text("[" * 1_000_000)),
    "a value 100,000 deep": ("d.jsonl", text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")),
    "a line of 100 MB": ("d.jsonl", text(b'{"a":"' + b"word " * 20_000_000)),
    "a text of 100 MB in a list": ("d.json", text(b'["' + b"word " * 20_000_000)),
    "a cell of 50 MB": ("d.csv", text(b'query,response\n"' + b"word " * 10_000_000)),
    "50 MB of quotes": ("d.csv", text(b"query,response\n" + b'"' * 50_000_000)),
    "a line of text of 50 MB": ("d.txt", text(b"word " * 10_000_000)),
    "a number of ten million digits": ("d.jsonl", text('{"x":' + "9" * 10_000_000 + "}")),
    "half a million broken lines": ("d.jsonl", text(b"{\n" * 500_000)),
    "50 GB of holes behind a row": ("d.jsonl", hole(ROW, 50 << 30)),
    "50 GB of holes behind a cell": ("d.csv", hole(b"query,response\na,b\n", 50 << 30)),
    "50 GB of holes in a list": ("d.json", hole(b"[" + ROW + b",", 50 << 30)),
    "half a character": ("d.jsonl", text(ROW.replace(b"Hello", b"\\ud800"))),
    "infinite numbers": ("d.jsonl", text(ROW.replace(b'"Hello"', b"-Infinity"))),
    "a tool call of 100,000 brackets": ("d.jsonl", text(
        ROW.replace(b'"assistant"', b'"tool_call"').replace(b"Hi,", b"[" * 100_000))),
    "an archive": ("d.jsonl", text(b"PK\x03\x04" + bytes(1_000))),
    "a pipe": ("d.jsonl", lambda path: os.mkfifo(path)),
    "/dev/zero": ("d.jsonl", lambda path: path.symlink_to("/dev/zero")),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_hostile_data_is_a_finding_and_not_the_end_of_the_check(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    file, make = DATA[name]
    make(folder / file)

    def read() -> None:
        reading = reading_of(Path(file), 4)
        dropped = [row.dropped for row in (() if reading.fatal else reading.rows()) if row.messages is None]
        raise SystemExit(0 if reading.fatal or dropped else 1)

    found = call(read, folder, seconds=SECONDS, mib=MIB)
    assert found.is_contained(0), found


def checked(folder: Path, config: str) -> Outcome:
    (folder / "c.yaml").write_text(config, encoding="utf-8")
    return run(["check", "c.yaml"], folder, seconds=20)


def test_the_command_itself_survives_what_its_readers_refuse(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "d.jsonl").write_bytes(ROW + b"[" * 1_000_000)
    found = checked(folder, "model: sft-kit/tiny-qwen2\ntorch_dtype: float32\ndataset: d.jsonl\n")
    assert found.is_contained(3), found
    assert "error d.jsonl:2: is nested too deeply to be read" in found.out
    found = checked(folder, f"model: sft-kit/tiny-qwen2\ndataset: 'd.jsonl#{'9' * 5_000}'\n")
    assert found.is_contained(2), found


def test_a_folder_of_very_many_files_is_not_searched_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_kit.msswift import datasets

    monkeypatch.setattr(datasets, "MOST_FILES", 3)
    for name in "abcd":
        (tmp_path / f"{name}.jsonl").touch()
    with pytest.raises(UsageError, match="holds more than 3 files and folders"):
        datasets.files_of(tmp_path)
    assert MOST_FILES == 100_000


# --- any bytes at all ---------------------------------------------------------------------------------------------

SOUP = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([
        b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b" ", b"\\", b"\\ud800", b"null", b"NaN", b"1e999",
        b"9" * 5_000,
        b"- ", b"&a ", b"*a", b"!!int ", b"<<: ", b"? ", b"|\n", b"#", b"\xff", b"\xef\xbb\xbf", b"\x1b", b"\0", b"a",
        b'"status": "running"', b'"schema": 1', b'"global_step/max_steps": "1/2"', b'"messages"', b'"loss"',
    ]), max_size=40).map(b"".join),
)  # fmt: skip
ANY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reads(read: Callable[[Path], object]) -> Callable[[Path], object]:
    def attempt(path: Path) -> object:
        try:
            return read(path)
        except SftKitError:
            return None

    return attempt


@ANY
@given(SOUP)
def test_any_bytes_are_a_config_or_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    reads(read_source)(path)
    reads(load_config)(path)


@ANY
@given(SOUP)
def test_any_bytes_are_rows_or_broken_ones(tmp_path: Path, content: bytes) -> None:
    for name in ("d.jsonl", "d.json", "d.csv", "d.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        list(scan(path))
        reading = reading_of(path, 4)
        list(reading.rows())
    reads(read_records)(tmp_path / "d.json")
    reads(read_rows)(tmp_path / "d.jsonl")


@ANY
@given(SOUP)
def test_any_bytes_are_steps_answers_or_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logging.jsonl"
    path.write_bytes(content)
    for read in (read_steps, read_summary, read_results, read_answers, read_likelihoods):
        read(path)
    (tmp_path / "sft-kit").mkdir(exist_ok=True)
    (tmp_path / "sft-kit" / "manifest.json").write_bytes(content)
    reads(lambda run: RunDirectory(run).read())(tmp_path)
