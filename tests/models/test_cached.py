from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_kit.errors import MissingError
from sft_kit.models.cached import build_once, run_module

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)

# A builder as a process of its own: leaves a mark each time it runs, and ends when there is no gate.
BUILDER = (
    f"WEIGHTS = {WEIGHTS!r}"
    + """
import sys, time
from pathlib import Path
from sft_kit.models.cached import build_once
target, gate = Path(sys.argv[1]), Path(sys.argv[2])
def build(directory):
    (directory / "config.json").write_text("{}")
    with (target.parent / "builds").open("a") as marks:
        marks.write("x")
    while gate.exists():
        time.sleep(0.01)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(WEIGHTS)
build_once(target, build, say=lambda text: print(text, flush=True))
"""
)


def start_builder(target: Path, gate: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", BUILDER, str(target), str(gate)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def build(directory: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (directory / name).write_text("{}")
    (directory / "model.safetensors").write_bytes(WEIGHTS)


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_killed_build_is_cleared_away_and_done_again(tmp_path: Path) -> None:
    target = tmp_path / "model"
    builder = start_builder(target, Path("/"))
    wait_for(tmp_path / "builds")
    builder.kill()
    assert builder.wait() == -signal.SIGKILL
    assert files_of(tmp_path) == {".lock-model", f".model.{builder.pid}", "builds"}

    assert build_once(target, build, say=print) == target
    assert files_of(tmp_path) == {".lock-model", "builds", "model"}
    assert files_of(target) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_model_that_lost_a_file_is_built_again(tmp_path: Path) -> None:
    target = build_once(tmp_path / "model", build, say=print)
    (target / "model.safetensors").unlink()
    build_once(target, build, say=print)
    assert files_of(target) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_two_launches_at_once_build_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    first = start_builder(tmp_path / "model", gate)
    wait_for(tmp_path / "builds")
    second = start_builder(tmp_path / "model", gate)
    assert second.stdout is not None
    assert second.stdout.readline() == "Another sft-kit is building model; waiting for it\n"
    gate.unlink()
    assert [first.communicate()[0], second.communicate()[0]] == ["", ""]
    assert [first.returncode, second.returncode] == [0, 0]
    assert (tmp_path / "builds").read_text() == "x"


def test_a_finished_model_is_not_built_again(tmp_path: Path) -> None:
    target = build_once(tmp_path / "model", build, say=print)
    runs: list[Path] = []
    assert build_once(target, runs.append, say=print) == target
    assert runs == []


def test_a_build_that_leaves_files_out_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="without all of its files"):
        build_once(tmp_path / "model", lambda directory: None, say=print)
    assert files_of(tmp_path) == {".lock-model"}


def test_a_cache_that_cannot_be_written_is_named_with_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError) as caught:
        build_once(tmp_path / "file" / "model", build, say=print)
    (problem,) = caught.value.problems
    assert problem.place == str(tmp_path / "file" / "model")
    assert problem.fix == "free some space there, or set SFT_KIT_CACHE to a directory that can be written"


def test_a_child_that_fails_is_reported_by_its_last_line() -> None:
    with pytest.raises(MissingError) as caught:
        run_module("sft_kit.models.tiny", "nowhere", "gpt", fix="fix it")
    assert str(caught.value) == "python -m sft_kit.models.tiny: gpt: not one of qwen2, qwen3, llama; fix it"
