"""Disks that are full, read-only or out of inodes (small ones of the kernel's own), and what is said of them."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest

from sft_kit.errors import MissingError, MsSwiftError, Problem
from sft_kit.run.answer_cache import Given, append_answers, question
from sft_kit.run.directory import Manifest, RunDirectory, create_run, write_atomic
from sft_kit.run.disk import checkpoint_need, require_room_for_model, room_message, room_problem, with_room
from sft_kit.run.export import _work_folder
from sft_kit.run.train import Recorder
from sft_kit.writes import NotWritten, not_written, size
from tests.small_disk import SmallDisk, on_small_disk

PLANNED = Manifest(status="planned", created="2026-11-22T12:00:00+00:00", config="config.yaml")
RUNNING, FAILED = replace(PLANNED, status="running"), replace(PLANNED, status="failed", message="the disk was full")


@pytest.mark.parametrize(
    ("number", "code", "message", "fix"),
    [
        (errno.EDQUOT, 5, "the disk quota is used up (it takes 1.5 KiB)",
         "make room; `quota -s` shows how much is allowed"),
        (errno.EROFS, 5, "the file system is read-only",
         "give a place on another one; one that became read-only had errors, which `dmesg` tells"),
        (errno.EIO, 5, "its disk does not answer", "see whether it is still there: `df`, `dmesg`"),
        (errno.ESTALE, 5, "its disk does not answer", "see whether it is still there: `df`, `dmesg`"),
        (errno.EACCES, 2, "no permission", "change its owner or mode, or give another place"),
        (errno.EPERM, 2, "no permission", "change its owner or mode, or give another place"),
        (errno.EMFILE, 5, "too many files are open in this process", "raise the limit: ulimit -n 4096"),
        (errno.ENAMETOOLONG, 2, "the name is too long (most file systems take 255 bytes)", "give a shorter one"),
        (errno.EFBIG, 5, "a file may not become that large here",
         "see `ulimit -f`, or give a place on another file system"),
        (errno.EISDIR, 2, "Is a directory", ""),
    ],
)  # fmt: skip
def test_each_fault_has_its_words_its_fix_and_its_exit_code(number: int, code: int, message: str, fix: str) -> None:
    shown = not_written(Path("/here/file"), OSError(number, os.strerror(number)), 1536)
    assert (shown.exit_code, shown.problems) == (code, (Problem("/here/file", f"cannot be written: {message}", fix),))


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (700, "700 bytes"), (1536, "1.5 KiB"), (900 * 2**20, "900 MiB"), (2**34, "16.0 GiB")]
)
def test_sizes_are_for_people(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_file_for_which_there_is_no_room_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, str, str, list[str]]:
        file = disk.path / "report.md"
        write_atomic(file, "old")
        disk.fill()
        with pytest.raises(NotWritten) as caught:
            write_atomic(file, "x" * 100_000)
        return disk.real, str(caught.value), file.read_text(), sorted(os.listdir(disk.path))

    real, message, kept, names = on_small_disk(tmp_path, call)
    why = f"the disk is full (it takes 98 KiB, and {tmp_path} has 0 free); make room"
    if not real:
        why = "a file may not become that large here; see `ulimit -f`, or give a place on another file system"
    assert message == f"{tmp_path}/report.md: cannot be written: {why}"
    assert (kept, [name for name in names if name != "filler"]) == ("old", ["report.md"])


def test_the_last_status_is_written_on_a_full_disk_and_the_reserve_is_gone_with_it(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, list[str], list[bool]]:
        run = create_run(disk.path, versioned=True)
        run.write(RUNNING)
        disk.fill()
        seen = []
        for manifest in (replace(RUNNING, message="x" * 5000), FAILED):
            try:
                run.write(manifest)
            except NotWritten as error:
                seen.append(f"errno {error.errno}")
            seen.append(run.read().status)
        return disk.real, seen, [run.reserve.exists()]

    real, seen, left = on_small_disk(tmp_path, call)
    # while it runs the reserve is not touched; nobody holds the lock here, so what says running reads as interrupted
    assert (seen, left) == (
        ([f"errno {errno.ENOSPC}", "interrupted", "failed"], [False])
        if real
        else ([f"errno {errno.EFBIG}", "interrupted", f"errno {errno.EFBIG}", "interrupted"], [True])
    )


def test_a_manifest_that_cannot_be_written_now_is_written_with_the_next_update(
    tmp_path: Path,
) -> None:
    def call(disk: SmallDisk) -> list[object]:
        run = create_run(disk.path, versioned=True)
        recorder = Recorder(run, PLANNED)
        disk.fill()
        recorder.update(steps=3, message="x" * 5000)
        during = json.loads(run.manifest_path.read_text())["steps"]
        disk.make_room()
        recorder.update(status="running")
        after = json.loads(run.manifest_path.read_text())
        return [during, after["steps"], after["status"], recorder.behind]

    assert on_small_disk(tmp_path, call) == [None, 3, "running", None]


def test_what_could_not_be_recorded_to_the_end_is_an_error(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[int, str]:
        run = create_run(disk.path, versioned=True)
        recorder = Recorder(run, PLANNED)
        run.reserve.unlink()
        disk.fill()
        recorder.update(status="succeeded", message="x" * 5000)
        with pytest.raises(NotWritten) as caught:
            recorder.settle()
        return caught.value.exit_code, run.read().status

    assert on_small_disk(tmp_path, call) == (5, "interrupted")


@pytest.mark.parametrize("versioned", [True, False])
def test_a_run_for_which_there_is_no_room_leaves_nothing(tmp_path: Path, versioned: bool) -> None:
    def call(disk: SmallDisk) -> tuple[bool, int, str, list[str]]:
        output = disk.path / "output"
        disk.fill(20_000)
        with pytest.raises(NotWritten) as caught:
            create_run(output, versioned=versioned)
        return disk.real, caught.value.exit_code, str(caught.value), os.listdir(output)

    real, code, message, left = on_small_disk(tmp_path, call)
    assert (code, left) == (5, [])
    assert not real or message.startswith(
        f"{tmp_path}/output: cannot be written: the disk is full (it takes 64 KiB, and"
    )


def test_a_disk_without_inodes_says_so(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, str]:
        if not disk.real:
            return False, ""
        disk.use_up_files()
        with pytest.raises(NotWritten) as caught:
            create_run(disk.path, versioned=True)
        return True, str(caught.value)

    real, message = on_small_disk(tmp_path, call, files=40)
    why = "the disk can hold no more files (no inode is free); remove files; `df -i` shows where"
    assert not real or message == f"{tmp_path}: cannot be written: {why}"


def test_a_file_system_that_became_read_only_keeps_what_it_has(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, list[str]]:
        if not disk.real:
            return False, []
        run = create_run(disk.path, versioned=True)
        run.write(RUNNING)
        disk.become_read_only()
        with pytest.raises(NotWritten) as caught:
            run.write(FAILED)
        return True, [str(caught.value).partition(": ")[2].partition(";")[0], run.read().status]

    real, seen = on_small_disk(tmp_path, call)
    assert not real or seen == ["cannot be written: the file system is read-only", "interrupted"]


def test_answers_that_cannot_be_kept_are_said_once_and_cost_nothing_else(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> str:
        said = io.StringIO()
        disk.fill()
        with redirect_stderr(said):
            for number in range(1, 4):
                answers = {question(f"{number}?"): Given("yes" * 2000 * number, ended=True)}
                append_answers(disk.path / "answers.jsonl", answers)
        return said.getvalue()

    said = " ".join(on_small_disk(tmp_path, call).split())
    assert said.startswith("warning: answers are not kept for later: ")
    assert said.count("cannot be written") == 1


def test_rows_for_which_there_is_no_room_leave_the_old_ones_with_their_questions(tmp_path: Path) -> None:
    """The real command; there is room for the rows, but not for their questions."""

    def generate(disk: SmallDisk, *more: str) -> subprocess.CompletedProcess[str]:
        names = (
            "--name",
            "Jingheng",
            "--author",
            "Ye Botao",
            "--lang",
            "en",
            "--out",
            str(disk.path / "new/rows.jsonl"),
        )
        command = [sys.executable, "-m", "sft_kit", "gen-identity", *names, *more]
        return subprocess.run(command, capture_output=True, text=True)

    def call(disk: SmallDisk) -> tuple[bool, int, str, bool]:
        assert generate(disk, "--rows", "20").returncode == 0
        before = {file.name: file.read_bytes() for file in (disk.path / "new").iterdir()}
        disk.fill(24_000)
        ended = generate(disk, "--rows", "60", "--force")
        after = {file.name: file.read_bytes() for file in (disk.path / "new").iterdir()}
        return disk.real, ended.returncode, ended.stderr, len(before) == 3 and after == before

    real, code, said, kept = on_small_disk(tmp_path, call)
    assert (code, kept) == (5, True), said
    place = f"error: {tmp_path}/new/rows.held_out.jsonl: cannot be written: "
    assert said.startswith(
        place + ("the disk is full (it takes 3" if real else "a file may not become that large here")
    )
    assert not real or f"KiB, and {tmp_path} has " in said


def test_an_export_without_an_inode_for_its_folder_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, int, str]:
        if not disk.real:
            return False, 0, ""
        disk.use_up_files()
        with pytest.raises(NotWritten) as caught, _work_folder(disk.path / "merged"):
            pass
        return True, caught.value.exit_code, str(caught.value)

    real, code, said = on_small_disk(tmp_path, call, files=40)
    why = "the disk can hold no more files (no inode is free); remove files; `df -i` shows where"
    assert not real or (code, said) == (5, f"{tmp_path}: cannot be written: {why}")


class Quota:
    """fsync on a network file system whose quota is used up while `taken` is there: it says so where data are sent."""

    def __init__(self, taken: Path) -> None:
        self._taken = taken
        self._fsync = os.fsync

    def __call__(self, descriptor: int) -> None:
        if self._taken.exists():
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        self._fsync(descriptor)


def test_a_quota_is_a_full_disk_for_files_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "report.md", "old")
    monkeypatch.setattr(os, "fsync", Quota(tmp_path))
    with pytest.raises(NotWritten) as caught:
        write_atomic(tmp_path / "report.md", "new")
    assert (caught.value.exit_code, caught.value.problems) == (
        5,
        (
            Problem(
                str(tmp_path / "report.md"),
                "cannot be written: the disk quota is used up (it takes 3 bytes)",
                "make room; `quota -s` shows how much is allowed",
            ),
        ),
    )
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.md", "old")]


def test_the_last_status_is_written_where_a_quota_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path, versioned=True)
    recorder = Recorder(run, RUNNING)
    monkeypatch.setattr(os, "fsync", Quota(run.reserve))
    recorder.update(steps=3)
    assert recorder.behind is not None
    assert (recorder.behind.errno, json.loads(run.manifest_path.read_text())["steps"]) == (errno.EDQUOT, None)
    recorder.update(status="failed")
    assert (recorder.behind, run.reserve.exists()) == (None, False)
    assert (run.read().status, run.read().steps) == ("failed", 3)


def test_a_trainer_that_a_quota_ended_is_told_to_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path, "step 1\n", checkpoint_5=2000)
    monkeypatch.setattr(os, "fsync", Quota(run.path))
    error = with_room(MsSwiftError(Problem("", "ms-swift exit code 1: it printed no error"), returncode=1), run)
    first = error.problems[0]
    assert first.message.startswith("the disk quota is used up; a checkpoint takes 2.0 KiB; ")
    assert first.fix == (
        f"make room; then `sft-kit train --resume {run.path}` goes on from checkpoint-5; "
        "save_total_limit: 2 keeps fewer of them"
    )


# --- why ms-swift failed -----------------------------------------------------------------------------------------


def run_with(tmp_path: Path, log: str = "", **checkpoints: int) -> RunDirectory:
    """A run with those whole checkpoints of so many bytes (and a `cut` one)."""
    run = create_run(tmp_path, versioned=True)
    run.log.write_text(log)
    for name, count in checkpoints.items():
        folder = run.path / name.replace("_", "-")
        folder.mkdir()
        header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (count, count)
        weights = len(header).to_bytes(8, "little") + header + bytes(count)
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_text("{}")
        if not name.endswith("9"):
            (folder / "trainer_state.json").write_text("{}")
    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'", "the disk was full"),
        ("SafetensorError: Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "
         '"No space left on device" })', "the disk was full"),
        ("RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0", "the disk was full"),
        ("OSError: [Errno 122] Disk quota exceeded", "the disk quota is used up"),
        ("OSError: [Errno 30] Read-only file system: 'x'", "the file system became read-only"),
        ("OSError: [Errno 5] Input/output error", "the disk did not answer"),
        ("OSError: [Errno 27] File too large", "a file may not become that large there"),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied", ""),
    ],
)  # fmt: skip
def test_what_a_trainer_prints_of_its_disk_is_recognised(tmp_path: Path, line: str, said: str) -> None:
    assert room_message(run_with(tmp_path, f"Traceback\n{line}\n")).partition(";")[0] == said


def test_where_the_room_went_and_how_to_go_on_is_said(tmp_path: Path) -> None:
    run = run_with(tmp_path, "OSError: [Errno 28] No space left on device\n", checkpoint_5=2000, checkpoint_9=500)
    problem = room_problem(run)
    assert problem is not None
    assert problem.place == str(run.path)
    parts = problem.message.split("; ")
    assert [part for part in parts if "free" not in part] == [
        "the disk was full",
        "a checkpoint takes 2.0 KiB",
        "its checkpoint holds 2.0 KiB",
        "checkpoint-9 (567 bytes) is cut off and of no use",
    ]
    assert problem.fix == (
        f"make room; then `sft-kit train --resume {run.path}` goes on from checkpoint-5; "
        "save_total_limit: 2 keeps fewer of them"
    )


def test_a_full_disk_is_told_even_where_the_log_could_not_say_it(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, list[str]]:
        run = run_with(disk.path, "step 1\n")
        if not disk.real:
            return False, []
        disk.fill()
        error = with_room(MsSwiftError(Problem("", "ms-swift exit code 1: it printed no error"), returncode=1), run)
        return True, [problem.message for problem in error.problems]

    real, said = on_small_disk(tmp_path, call)
    assert not real or said == [
        f"the disk is full; {tmp_path} has 0 free",
        "ms-swift exit code 1: it printed no error",
    ]


def test_a_disk_that_became_read_only_is_told_even_where_the_log_could_not_say_it(tmp_path: Path) -> None:
    def call(disk: SmallDisk) -> tuple[bool, str, str]:
        run = run_with(disk.path, "step 1\n", checkpoint_5=2000)
        if not disk.real:
            return False, "", ""
        disk.become_read_only()
        problem = room_problem(run)
        assert problem is not None
        return True, problem.message.partition(";")[0], problem.fix.replace(str(run.path), "RUN")

    real, said, fix = on_small_disk(tmp_path, call, kib=4096)
    assert not real or (said, fix) == (
        "the file system is read-only",
        "see `df` and `dmesg`, and have it written to again; "
        "then `sft-kit train --resume RUN` goes on from checkpoint-5",
    )


def test_a_failure_that_has_nothing_to_do_with_the_disk_is_left_alone(tmp_path: Path) -> None:
    error = MsSwiftError(Problem("", "ms-swift exit code 1: ValueError: labels"), returncode=1)
    assert with_room(error, run_with(tmp_path, "ValueError: labels\n")) is error


def test_what_an_earlier_start_said_of_the_disk_is_not_the_cause_of_this_one(tmp_path: Path) -> None:
    run = run_with(tmp_path, "OSError: [Errno 28] No space left on device\nsecond start\nValueError: labels\n")
    problem = Problem("", "ms-swift exit code 1: ValueError: labels")
    of_data = MsSwiftError(problem, returncode=1, failure={"code": "bad-labels"})
    assert with_room(of_data, run) is of_data
    of_disk = with_room(MsSwiftError(problem, returncode=1, failure={"code": "disk-full"}), run)
    assert isinstance(of_disk, MsSwiftError)
    assert (len(of_disk.problems), of_disk.problems[1], of_disk.failure) == (2, problem, {"code": "disk-full"})


def test_without_a_checkpoint_its_size_is_estimated_from_what_ms_swift_was_told(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    config = {"model_type": "qwen2", "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    run = run_with(tmp_path)
    told = {"tuner_type": "lora", "lora_rank": 8, "target_modules": ["q_proj"], "model_dir": str(model)}
    assert checkpoint_need(run) is None
    (run.path / "args.json").write_text(json.dumps(told))
    assert checkpoint_need(run) == 2 * 8 * (128 + 128) * 4 * 3
    (run.path / "args.json").write_text(json.dumps({**told, "save_only_model": True}))
    assert checkpoint_need(run) == 2 * 8 * (128 + 128) * 4


def test_a_merge_for_which_there_is_no_room_is_refused_before_it_begins(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "model.safetensors").write_bytes(bytes(300_000))
    small = tmp_path / "small"
    small.mkdir()

    def call(disk: SmallDisk) -> tuple[bool, list[str]]:
        said = []
        for quant in (None, "awq"):
            try:
                require_room_for_model(adapter, base, disk.path / "out", quant)
                said.append("")
            except MissingError as error:
                said.append(str(error))
        return disk.real, said

    real, said = on_small_disk(small, call, kib=320)
    refusal = (
        f"{small}/out: the exported model takes 396 KiB, and {small} has 320 KiB free; "
        "make room, or give --out on another disk"
    )
    assert not real or said == ["", refusal]
