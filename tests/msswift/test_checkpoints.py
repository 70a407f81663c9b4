"""What a directory is, told from its file names and small JSON files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import Checkpoint, checkpoints, is_complete, kind_of, missing_weights, read_json

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "args.json", "trainer_state.json")
FULL = ("config.json", "model.safetensors", "args.json", "trainer_state.json")


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}")
    return path


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (ADAPTER, "adapter"),
        (("adapter_config.json", "config.json"), "adapter"),
        (FULL, "model"),
        (("checkpoint-5/adapter_config.json",), "run"),
        (("sft-kit/manifest.json",), "run"),
        (("args.json", "logging.jsonl"), "unknown"),
        (("checkpoint-best/config.json",), "unknown"),
        (("checkpoint-5",), "unknown"),  # a file
    ],
)
def test_a_directory_is_known_by_what_lies_in_it(tmp_path: Path, names: tuple[str, ...], kind: str) -> None:
    assert kind_of(folder(tmp_path, *names)) == kind


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "gone") == "unknown"


def test_checkpoints_are_ordered_by_step_and_only_whole_ones_are_complete(tmp_path: Path) -> None:
    folder(tmp_path, "checkpoint-20-merged/config.json", "checkpoint-x/a", "checkpoint-7", "images/a")
    folder(tmp_path / "checkpoint-100", *ADAPTER)
    folder(tmp_path / "checkpoint-20", *ADAPTER[:3])
    folder(tmp_path / "checkpoint-3", *FULL)
    assert checkpoints(tmp_path) == [
        Checkpoint(tmp_path / "checkpoint-3", 3, True),
        Checkpoint(tmp_path / "checkpoint-20", 20, False),
        Checkpoint(tmp_path / "checkpoint-100", 100, True),
    ]


def test_a_file_or_nothing_has_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checkpoints(tmp_path / "file") == checkpoints(tmp_path / "gone") == []


@pytest.mark.parametrize("names", [ADAPTER, FULL])
@pytest.mark.parametrize("lost", range(4))
def test_a_checkpoint_without_its_weights_or_its_end_is_not_complete(
    tmp_path: Path, names: tuple[str, ...], lost: int
) -> None:
    folder(tmp_path, *names)
    (tmp_path / names[lost]).unlink()
    assert is_complete(tmp_path) is (names[lost] == "args.json")


def test_an_adapter_in_the_older_format_is_complete(tmp_path: Path) -> None:
    assert is_complete(folder(tmp_path, "adapter_config.json", "adapter_model.bin", "trainer_state.json"))


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_weights_that_the_index_names_and_are_not_there_are_missing(tmp_path: Path, index: str) -> None:
    folder(tmp_path, "config.json", "model-00002-of-00003.safetensors")
    shards = [f"model-0000{n}-of-00003.safetensors" for n in (3, 2, 1)]
    weight_map = {f"layer.{number}": shard for number, shard in enumerate(shards * 2)}
    (tmp_path / index).write_text(json.dumps({"weight_map": weight_map}))
    assert missing_weights(tmp_path) == [shards[2], shards[0]]


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("config.json",), ["*.safetensors"]),
        (("config.json", "model.safetensors"), []),
        (("config.json", "pytorch_model.bin"), []),
    ],
)
def test_a_model_without_an_index_needs_any_weights(tmp_path: Path, names: tuple[str, ...], missing: list[str]) -> None:
    assert missing_weights(folder(tmp_path, *names)) == missing


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"model": "a"}', {"model": "a"}),
        (b"[1]", {}),
        (b"{", {}),
        (b"\xff", {}),
        (b"[" * 100_000, {}),
    ],
)
def test_json_that_is_no_object_counts_as_empty(tmp_path: Path, content: bytes, value: dict[str, str]) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") == value


def test_a_missing_json_file_counts_as_empty(tmp_path: Path) -> None:
    assert read_json(tmp_path / "gone.json") == {}
