"""Checkpoints are on the disk as soon as they are whole, and nobody waits for it."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from sft_kit.errors import ExitCode
from sft_kit.run.durable import Durable
from sft_kit.writes import NotWritten
from tests.run.watching import wait_until

TENSORS = b'{"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'


def save(run: Path, step: int, *, end: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(len(TENSORS).to_bytes(8, "little") + TENSORS + bytes(4))
    if end:
        (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were flushed, in order, as `checkpoint-2/adapter_config.json`."""
    names: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        names.append(f"{path.parent.name}/{path.name}")

    monkeypatch.setattr(os, "fsync", seen)
    return names


def files(folder: Path) -> list[str]:
    return sorted(f"{folder.name}/{path.name}" for path in folder.iterdir())


def test_a_checkpoint_is_flushed_once_when_it_has_become_whole(tmp_path: Path, flushed: list[str]) -> None:
    save(tmp_path, 2)
    durable = Durable(tmp_path)
    folder = save(tmp_path, 4, end=False)
    durable.look()
    assert flushed == []  # one is of an earlier start, the other is being written
    save(tmp_path, 4)
    for _ in range(3):
        durable.look()
        durable.end()
    assert sorted(flushed) == files(folder)


def test_one_after_the_other_is_flushed(tmp_path: Path, flushed: list[str]) -> None:
    durable = Durable(tmp_path)
    first, second = save(tmp_path, 2), save(tmp_path, 10)
    for _ in range(2):
        durable.look()
        durable.end()
    assert flushed[:3] != flushed[3:]
    assert (sorted(flushed[:3]), sorted(flushed[3:])) == (files(first), files(second))


def test_a_slow_disk_keeps_nobody_from_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: written.wait(60))
    durable = Durable(tmp_path)
    save(tmp_path, 2)
    began = time.monotonic()
    for _ in range(10):
        durable.look()
    assert time.monotonic() - began < 5
    assert not written.is_set()
    written.set()
    durable.end()


def test_what_could_not_be_flushed_is_told_at_once_and_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    durable = Durable(tmp_path)
    folder = save(tmp_path, 2)
    monkeypatch.setattr(os, "fsync", broken)
    durable.look()
    said = ""

    def told() -> bool:
        nonlocal said
        durable.look()
        said += capsys.readouterr().err
        return bool(said)

    wait_until(told)
    assert said.count("cannot be written: its disk does not answer") == 1
    with pytest.raises(NotWritten, match="its disk does not answer") as caught:
        durable.end()
    assert (caught.value.exit_code, caught.value.problems[0].place) == (ExitCode.MISSING, str(folder))


def test_a_checkpoint_that_is_removed_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(gone))
    durable = Durable(tmp_path)
    save(tmp_path, 2)
    durable.look()
    durable.end()
