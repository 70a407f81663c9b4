"""Run directories: their names, their manifests, and the truth about their status, with real processes."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.errors import ExitCode, UsageError
from sft_kit.run.directory import (
    Manifest,
    RunDirectory,
    create_run,
    next_run_path,
    now_iso,
    write_atomic,
)
from sft_kit.run.runs import find_run, list_runs
from tests.unprivileged import refusal_without_rights

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)
FULL = Manifest(
    status="succeeded",
    created="2026-03-04T05:06:07+08:00",
    config="配置.yaml",
    argv=("python", "-m", "swift.cli.sft", "--model", "a b"),
    env={"USE_HF": "1"},
    versions={"ms-swift": "4.6.0"},
    data=({"path": "a.jsonl", "rows": 3, "sha256": "00"},),
    mix=({"name": "a.jsonl", "rows": 3, "trained": 3, "tokens": None, "repeats": 1.0, "share": 1.0},),
    replay={"asked": 5, "rows": 4},
    started="2026-03-04T05:06:08+08:00",
    ended="2026-03-04T05:07:08+08:00",
    pid=12,
    returncode=0,
    message="",
    tuner_type="lora",
    model="Qwen/x",
    last_checkpoint="checkpoint-2",
    steps=2,
    final_loss=0.25,
    seconds={"train": 60.0},
    scores={"identity": {"k": 1, "n": 1}},
)


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`, with sft_kit importable, and says what it prints."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def make(output: Path, name: str, created: str = "2026-01-01T00:00:00+00:00", **changes: Any) -> RunDirectory:
    run = RunDirectory(output / name)
    run.data.mkdir(parents=True)
    run.write(replace(FULL, created=created, **changes))
    return run


def refusal(call: object) -> str:
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


# --- names and creation ------------------------------------------------------------------------------------------


def test_a_run_is_named_as_ms_swift_names_it(tmp_path: Path) -> None:
    assert next_run_path(tmp_path, now=NOW) == tmp_path / "v0-20260304-050607"


def test_the_number_is_one_above_the_highest_there(tmp_path: Path) -> None:
    for name in ("v2-20250101-000000", "v10-20250101-000000", "v99-other", "v7", "x-v80-20250101-000000"):
        (tmp_path / name).mkdir()
    assert next_run_path(tmp_path, now=NOW) == tmp_path / "v11-20260304-050607"


def test_a_new_run_has_its_folders_and_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = create_run(Path("deep/output"), versioned=True)
    assert re.fullmatch(r"v0-\d{8}-\d{6}", run.name)
    assert run.path.parent == tmp_path / "deep" / "output"
    assert [str(path.relative_to(run.path)) for path in sorted(run.path.rglob("*"))] == [
        "sft-kit", "sft-kit/data", "sft-kit/reserve",
    ]  # fmt: skip


def test_runs_that_are_created_at_once_get_different_directories(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sft_kit.run.directory import create_run\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "print(*[create_run(Path(sys.argv[1]), versioned=True).path for _ in range(5)], sep='\\n')"
    )
    start_at = time.time() + 1.0
    children = [child(code, tmp_path, start_at) for _ in range(3)]
    paths = [path for process in children for path in process.communicate(timeout=60)[0].splitlines()]
    assert len(paths) == len(set(paths)) == 15
    assert sorted(int(Path(path).name.split("-")[0][1:]) for path in paths) == list(range(15))


def test_an_unversioned_run_is_the_output_directory_itself(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert create_run(tmp_path, versioned=False) == RunDirectory(tmp_path)
    assert (tmp_path / "sft-kit" / "data").is_dir()


@pytest.mark.parametrize("entry", ["sft-kit", "args.json", "logging.jsonl", "checkpoint-5"])
def test_an_unversioned_run_never_goes_into_another_one(tmp_path: Path, entry: str) -> None:
    (tmp_path / entry).mkdir()
    if entry == "sft-kit":
        (tmp_path / entry / "manifest.json").touch()
    assert refusal(lambda: create_run(tmp_path, versioned=False)) == (
        f"{tmp_path} already holds a run ({entry}); remove add_version: false, or give another output_dir"
    )


def test_what_a_launcher_left_that_was_killed_before_its_first_manifest_is_no_run(tmp_path: Path) -> None:
    run = create_run(tmp_path, versioned=False)
    write_atomic(run.config_path, "model: a\n")
    (run.kit / ".unfinished-manifest.json-abcdefgh.json").write_text("{")
    assert create_run(tmp_path, versioned=False) == run
    with run.lock():
        assert sorted(path.name for path in run.kit.iterdir()) == ["config.yaml", "data", "lock", "reserve"]
        assert refusal(lambda: create_run(tmp_path, versioned=False)).startswith(f"{tmp_path} already holds a run")
    (run.data / "identity.jsonl").touch()
    assert refusal(lambda: create_run(tmp_path, versioned=False)).startswith(f"{tmp_path} already holds a run")


def test_an_output_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert refusal(lambda output=output: create_run(output, versioned=True)) == (
            f"{output}: output_dir is a file; give a directory"
        )


def test_an_output_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    output = tmp_path / "output"
    assert refusal_without_rights(lambda: create_run(output, versioned=True)) == (
        f"2 {output}: output_dir cannot be written (no permission); give another one with --set output_dir=..."
    )


def test_what_else_the_system_says_against_an_output_directory_is_passed_on() -> None:
    assert refusal(lambda: create_run(Path("/proc/self/output"), versioned=True)) == (
        "/proc/self/output: cannot be written: No such file or directory"
    )


# --- the manifest ------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000", created=FULL.created)
    assert run.read() == FULL
    assert "配置.yaml" in run.manifest_path.read_text(encoding="utf-8")


def test_a_diverged_run_still_has_a_manifest_of_valid_json(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000", final_loss=float("nan"), scores={"rates": [float("inf"), 1.0]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    values = json.loads(run.manifest_path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert (values["final_loss"], values["scores"]) == (None, {"rates": [None, 1.0]})


def test_a_path_that_is_not_utf8_survives_the_manifest(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000", config="caf\udce9.yaml")
    assert run.read().config == "caf\udce9.yaml"


def test_a_writer_that_is_killed_never_leaves_half_a_manifest(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    code = (
        "import sys\nfrom dataclasses import replace\nfrom pathlib import Path\n"
        "from sft_kit.run.directory import RunDirectory\n"
        "run = RunDirectory(Path(sys.argv[1])); manifest = run.read()\nprint('ready', flush=True)\n"
        "while True:\n    for size in (1, 200_000): run.write(replace(manifest, message='x' * size))"
    )
    seen = set[int]()
    for _ in range(4):
        writer = child(code, run.path)
        assert writer.stdout is not None
        writer.stdout.readline()
        both, until = set[int](), time.monotonic() + 20  # a busy machine takes its time for an fsync
        while not both >= {1, 200_000} and time.monotonic() < until:
            both.add(len(run.read().message))
        seen |= both
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        seen.add(len(run.read().message))
    assert seen - {0} == {1, 200_000}


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\udce9")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.txt", "old")]


def test_what_a_second_start_without_memory_leaves_takes_no_place_of_the_first(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    (run.kit / "attempt-1.jsonl").write_text("")
    (run.kit / "attempt-2").mkdir()
    assert run.next_attempt() == run.kit / "attempt-3.jsonl"


def test_the_present_moment_has_its_offset() -> None:
    assert datetime.datetime.fromisoformat(now_iso()).utcoffset() is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged: Expecting value: line 1 column 1 (char 0)"),
        ('{"status": "runn', "is damaged: Unterminated string starting at: line 1 column 12 (char 11)"),
        ("[]", "is not a manifest of sft-kit"),
        ('"text"', "is not a manifest of sft-kit"),
        ('{"name": "another tool"}', "is not a manifest of sft-kit"),
        ('{"status": "paused", "schema": 1}', "is not a manifest of sft-kit"),
        ('{"status": [], "schema": 1}', "is not a manifest of sft-kit"),
        (
            '{"status": "failed", "schema": 2, "created": "", "config": ""}',
            "has schema 2, this sft-kit knows 1; was it written by a newer sft-kit? pip install -U sft-kit",
        ),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_by_its_path(tmp_path: Path, text: str, message: str) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    run.manifest_path.write_text(text)
    assert refusal(run.read) == f"{run.manifest_path}: {message}"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\x00",
        b"[" * 100_000,
        b'{"status": "failed", "schema": 1}',
        b'{"status": "failed", "schema": 1, "created": "", "config": "", "argv": null}',
        b'{"status": "failed", "schema": 1, "created": "", "config": "", "signs": [1]}',
        b'{"status": "failed", "schema": 1, "created": "", "config": "", "versions": []}',
    ],
    ids=["bytes", "deep", "keys missing", "wrong type", "no table", "no object"],
)
def test_a_manifest_that_makes_no_sense_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    run.manifest_path.write_bytes(content)
    assert refusal(run.read).startswith(f"{run.manifest_path}: is damaged: ")


def test_a_directory_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    assert refusal(RunDirectory(tmp_path).read) == f"{tmp_path}: is not a run of sft-kit (no sft-kit/manifest.json)"


def test_a_manifest_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    run.manifest_path.chmod(0)
    assert refusal_without_rights(run.read) == f"2 {run.manifest_path}: cannot be read: Permission denied"


def test_a_key_of_a_later_version_with_the_same_schema_is_passed_over(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000", created=FULL.created)
    values = json.loads(run.manifest_path.read_text(encoding="utf-8"))
    run.manifest_path.write_text(json.dumps({**values, "later": 1}))
    assert run.read() == FULL


# --- status ------------------------------------------------------------------------------------------------------

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom sft_kit.run.directory import RunDirectory\n"
    "with RunDirectory(Path(sys.argv[1])).lock():\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[RunDirectory, subprocess.Popen[str]]]:
    """A run with the status running, whose lock another process holds."""
    run = make(tmp_path, "v0-20260101-000000", status="running", pid=4)
    launcher = child(HOLD, run.path)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "held\n"
    yield run, launcher
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()


def test_a_run_whose_launcher_lives_is_running(running: tuple[RunDirectory, subprocess.Popen[str]]) -> None:
    assert (running[0].locked(), running[0].read().status, running[0].read().pid) == (True, "running", 4)


def test_a_run_whose_launcher_was_killed_is_interrupted(running: tuple[RunDirectory, subprocess.Popen[str]]) -> None:
    run, launcher = running
    launcher.kill()
    launcher.wait()
    manifest = run.read()
    assert (run.locked(), manifest.status, manifest.message, manifest.pid) == (
        False, "interrupted", "the launcher is gone (killed, or the machine stopped)", None,
    )  # fmt: skip


@pytest.mark.parametrize("status", ["planned", "running"])
def test_an_unfinished_manifest_without_a_lock_is_interrupted(tmp_path: Path, status: str) -> None:
    run = make(tmp_path, "v0-20260101-000000", status=status, message="out of disk")
    assert (run.read().status, run.read().message) == ("interrupted", "out of disk")


@pytest.mark.parametrize("status", ["succeeded", "failed", "interrupted"])
def test_a_finished_manifest_is_believed_while_the_lock_is_held(tmp_path: Path, status: str) -> None:
    run = make(tmp_path, "v0-20260101-000000", status=status)
    with run.lock():
        assert run.read().status == status


def test_a_run_is_held_by_one_launcher_at_a_time(running: tuple[RunDirectory, subprocess.Popen[str]]) -> None:
    run, launcher = running

    def hold() -> None:
        with run.lock():
            pass

    assert re.sub(r"since \S+ \S+\)", "since then)", refusal(hold)) == (
        f"{run.path}: another sft-kit is using this run directory (pid {launcher.pid} since then); "
        "wait for it, or stop it; a new run needs another output_dir"
    )


def test_a_look_at_the_status_does_not_keep_a_launcher_out(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    with run.lock():
        pass
    looking = os.open(run.kit / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # what `locked()` of `sft-kit runs` holds for a moment
    looker = os.fork()
    if looker == 0:
        time.sleep(0.08)
        os._exit(0)
    os.close(looking)  # the child's copy holds the lock for another 0.08 s
    with run.lock():
        assert run.locked()
    os.waitpid(looker, 0)


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    run = make(tmp_path, "v0-20260101-000000")
    with run.lock():
        assert run.locked()
    assert not run.locked()


# --- finding -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> list[RunDirectory]:
    """Runs from new to old, made in another order; the first two in one second, beside things that are no runs."""
    (tmp_path / "v3-20260101-000000").mkdir()
    (tmp_path / "file").write_text("")
    old = make(tmp_path, "v1-20260101-000000", created="2026-01-01T10:00:00+08:00")
    newest = make(tmp_path, "v10-20260102-000000", created="2026-01-01T03:00:00+00:00")
    newer = make(tmp_path, "v9-20260102-000000", created="2026-01-01T03:00:00+00:00")
    return [newest, newer, old]


def test_runs_are_listed_newest_first(three: list[RunDirectory], tmp_path: Path) -> None:
    assert list_runs(tmp_path) == three


def test_a_run_with_a_damaged_manifest_is_listed_last(three: list[RunDirectory], tmp_path: Path) -> None:
    three[0].manifest_path.write_text("{")
    assert list_runs(tmp_path) == [*three[1:], three[0]]


def test_an_unversioned_run_is_listed_from_its_own_directory(tmp_path: Path) -> None:
    run = make(tmp_path, "mine")
    assert list_runs(run.path) == [run]


def test_there_are_no_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "gone") == []


def test_a_directory_that_may_not_be_listed_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    assert refusal_without_rights(lambda: list_runs(tmp_path)).startswith(f"2 {tmp_path}: cannot be read: ")


@pytest.mark.parametrize(
    ("name", "index"),
    [("latest", 0), ("v10", 0), ("v1", 2), ("v9-20260102-000000", 1)],
)
def test_a_run_is_found_by_what_people_call_it(
    three: list[RunDirectory], tmp_path: Path, name: str, index: int
) -> None:
    assert find_run(name, tmp_path) == three[index]


def test_a_run_is_found_by_its_path_wherever_it_lies(three: list[RunDirectory], tmp_path: Path) -> None:
    assert find_run(str(three[1].path), tmp_path / "elsewhere") == three[1]


@pytest.mark.parametrize("name", ["v2", "v3-20260101-000000", "v", "nothing", "V10"])
def test_an_unknown_run_is_refused_with_the_ones_there_are(
    three: list[RunDirectory], tmp_path: Path, name: str
) -> None:
    assert refusal(lambda: find_run(name, tmp_path)) == (
        f"{name}: no such run; runs below {tmp_path}: v10-20260102-000000, v9-20260102-000000, v1-20260101-000000; "
        "--output-dir looks elsewhere"
    )


def test_without_any_run_latest_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: find_run("latest", tmp_path)) == (
        f"latest: no such run; runs below {tmp_path}: none yet; --output-dir looks elsewhere"
    )


def test_a_pipe_in_place_of_a_manifest_is_no_manifest(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.kit.mkdir()
    os.mkfifo(run.manifest_path)
    assert run.recorded() == b""
    with pytest.raises(UsageError, match="is not a file; remove it"):
        run.read()
