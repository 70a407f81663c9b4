"""What a directory is, told from its file names and small JSON files."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import (
    Checkpoint,
    TrainerState,
    checkpoints,
    is_complete,
    kind_of,
    missing_weights,
    read_json,
    trainer_state,
    why_incomplete,
    why_not_resumable,
)

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "args.json", "trainer_state.json")
FULL = ("config.json", "model.safetensors", "args.json", "trainer_state.json")


def content(name: str) -> bytes:
    """What a file of that name holds at the least: an empty table of tensors, an empty zip file, an empty object."""
    if name.endswith(".safetensors"):
        return safetensors()
    return torch_file() if name.endswith((".bin", ".pt", ".pth")) else b"{}"


def safetensors(**tensors: int) -> bytes:
    """A safetensors file with tensors of that many bytes each."""
    header, end = {}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def torch_file(size: int = 100) -> bytes:
    """What torch.save writes, as far as anyone looks who loads nothing: an uncompressed zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("archive/data.pkl", bytes(size))
        written.writestr("archive/version", "3\n")
    return file.getvalue()


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content(name))
    return path


def saved(run: Path, step: int = 20, *, full: bool = False, **arguments: object) -> Path:
    """A checkpoint as transformers leaves it: the weights whole, the states of the training beside them."""
    path = run / f"checkpoint-{step}"
    weights = ("config.json", "model.safetensors") if full else ("adapter_config.json", "adapter_model.safetensors")
    folder(path, *weights, "optimizer.pt", "scheduler.pt", "rng_state.pth")
    (path / weights[1]).write_bytes(safetensors(a=64, b=8))
    (path / weights[0]).write_text('{"model_type": "qwen2", "peft_type": "LORA"}')
    (path / "args.json").write_text(json.dumps({"global_world_size": 1, "local_world_size": 1, **arguments}))
    state = {"best_model_checkpoint": str(run / "checkpoint-10"), "global_step": step, "max_steps": 30}
    (path / "trainer_state.json").write_text(json.dumps({**state, "log_history": [{"loss": float("nan")}]}))
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
    saved(tmp_path, 3, full=True)
    assert checkpoints(tmp_path) == [
        Checkpoint(tmp_path / "checkpoint-3", 3, True),
        Checkpoint(tmp_path / "checkpoint-20", 20, False),
        Checkpoint(tmp_path / "checkpoint-100", 100, True),
    ]


def test_a_file_or_nothing_has_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checkpoints(tmp_path / "file") == checkpoints(tmp_path / "gone") == []


def test_a_whole_checkpoint_is_complete_and_training_can_go_on_from_it(tmp_path: Path) -> None:
    for checkpoint in (saved(tmp_path, 1), saved(tmp_path, 2, full=True)):
        assert (why_incomplete(checkpoint), why_not_resumable(checkpoint)) == ("", "")


@pytest.mark.parametrize("full", [False, True])
def test_a_file_that_is_lost_is_named(full: bool, tmp_path: Path) -> None:
    whole = sorted(path.name for path in saved(tmp_path / "whole", full=full).iterdir())
    assert len(whole) == 7
    said = {}
    for name in whole:
        checkpoint = saved(tmp_path / name, full=full)
        (checkpoint / name).unlink()
        said[name] = (why_incomplete(checkpoint), why_not_resumable(checkpoint))
    config, weights = ("config.json", "model.safetensors") if full else (ADAPTER[0], ADAPTER[1])
    no_config = "adapter_config.json or config.json is missing"
    assert said == {
        "args.json": ("", ""),
        config: (no_config, no_config),
        weights: (f"{weights} is missing",) * 2,
        "optimizer.pt": ("", "optimizer.pt is missing"),
        "rng_state.pth": ("", "rng_state.pth is missing"),
        "scheduler.pt": ("", "scheduler.pt is missing"),
        "trainer_state.json": ("trainer_state.json is missing",) * 2,
    }


@pytest.mark.parametrize(
    ("name", "resumed_only", "full"),
    [
        ("adapter_config.json", False, False),
        ("adapter_model.safetensors", False, False),
        ("config.json", False, True),
        ("model.safetensors", False, True),
        ("trainer_state.json", False, False),
        ("optimizer.pt", True, False),
        ("scheduler.pt", True, False),
        ("rng_state.pth", True, True),
    ],
)
def test_a_file_that_was_cut_anywhere_is_seen(name: str, resumed_only: bool, full: bool, tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, full=full)
    whole = (checkpoint / name).read_bytes()
    assert len(whole) > 24
    for length in (*range(0, len(whole) - 24, 29), *range(len(whole) - 24, len(whole))):
        (checkpoint / name).write_bytes(whole[:length])
        assert why_not_resumable(checkpoint).startswith(name), length
        assert is_complete(checkpoint) is resumed_only
    (checkpoint / name).write_bytes(b"")
    assert why_not_resumable(checkpoint) == f"{name} is empty"


def test_weights_in_shards_are_whole_when_every_one_is(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, full=True)
    (checkpoint / "model.safetensors").unlink()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for tensor, name in shards.items():
        (checkpoint / name).write_bytes(safetensors(**{tensor: 32}))
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert why_not_resumable(checkpoint) == ""

    (checkpoint / shards["b"]).write_bytes(safetensors(b=32)[:-1])
    assert why_incomplete(checkpoint).startswith(f"{shards['b']} is cut off: b should end at byte")
    (checkpoint / shards["b"]).write_bytes(safetensors(c=32))
    assert why_incomplete(checkpoint) == "the weight file of b lacks it"
    (checkpoint / shards["b"]).unlink()
    assert why_incomplete(checkpoint) == f"{shards['b']} is missing"
    index.write_text("")
    assert why_incomplete(checkpoint) == "model.safetensors.index.json is empty"


def test_weights_in_the_older_format_are_judged_by_their_table_of_contents(tmp_path: Path) -> None:
    path = folder(tmp_path, "adapter_config.json", "adapter_model.bin", "trainer_state.json")
    assert is_complete(path)
    (path / "adapter_model.bin").write_bytes(torch_file()[:-1])
    assert why_incomplete(path) == "adapter_model.bin is cut off"
    (path / "adapter_model.bin").write_bytes(b"\x80\x02a pickle of torch before 1.6")
    assert is_complete(path)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ('{"global_step": 19}', "trainer_state.json is of step 19"),
        ("{}", "trainer_state.json is of step None"),
        ("[]", "trainer_state.json is not a JSON object"),
        ("[" * 100_000, "trainer_state.json is cut off or not JSON"),
    ],
)
def test_a_trainer_state_of_another_step_is_no_place_to_go_on_from(state: str, why: str, tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    (checkpoint / "trainer_state.json").write_text(state)
    assert why_not_resumable(checkpoint) == why


def test_a_copy_under_another_name_is_of_any_step(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    assert why_not_resumable(checkpoint.rename(tmp_path / "the-good-one")) == ""


def test_states_that_were_left_out_on_purpose_are_not_missed(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, save_only_model=True)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).unlink()
    assert why_not_resumable(checkpoint) == ""
    assert trainer_state(checkpoint) == TrainerState(20, 30, "checkpoint-10", weights_only=True)


def test_every_process_of_this_machine_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, global_world_size=4, local_world_size=2)
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_2.pth")
    assert why_not_resumable(checkpoint) == "rng_state_*.pth of every process is missing"
    folder(checkpoint, "rng_state_3.pth")
    assert why_not_resumable(checkpoint) == ""


def without_optimizer(checkpoint: Path) -> Path:
    (checkpoint / "optimizer.pt").unlink()
    return checkpoint


def test_deepspeed_keeps_the_optimizer_in_the_folder_that_latest_names(tmp_path: Path) -> None:
    checkpoint = without_optimizer(saved(tmp_path))
    (checkpoint / "scheduler.pt").unlink()
    (checkpoint / "latest").write_text("global_step20\n")
    assert why_not_resumable(checkpoint) == "the optimizer's state is missing (latest names 'global_step20')"
    folder(checkpoint, "global_step20/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert why_not_resumable(checkpoint) == ""
    (checkpoint / "global_step20" / "mp_rank_00_model_states.pt").write_bytes(torch_file()[:-30])
    assert why_not_resumable(checkpoint) == "mp_rank_00_model_states.pt is cut off"


@pytest.mark.parametrize("name", ["optimizer_0/.metadata", "optimizer.bin"])
def test_fsdp_keeps_the_optimizer_under_names_of_its_own(name: str, tmp_path: Path) -> None:
    assert why_not_resumable(folder(without_optimizer(saved(tmp_path)), name)) == ""


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda path: None, TrainerState(20, 30, "checkpoint-10", weights_only=False)),
        (lambda path: path.write_text('{"global_step": 1, "max_steps": 2}'), TrainerState(1, 2, None, False)),
        (lambda path: path.write_text('{"global_step": "1"}'), None),
        (lambda path: path.unlink(), None),
    ],
)
def test_how_far_a_checkpoint_is(change: Callable[[Path], object], state: TrainerState | None, tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    change(checkpoint / "trainer_state.json")
    assert trainer_state(checkpoint) == state


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


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trainer_state.json")
    (tmp_path / "args.json").touch()
    os.truncate(tmp_path / "args.json", 1 << 40)
    assert why_incomplete(tmp_path) == "trainer_state.json is a named pipe, not a file"
    assert (read_json(tmp_path / "trainer_state.json"), read_json(tmp_path / "args.json")) == ({}, {})
