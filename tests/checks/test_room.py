"""Room on disk and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.environment import Disk, Memory
from sft_kit.checks.room import checkpoint_bytes, room_findings
from sft_kit.findings import Finding
from sft_kit.plan.shape import shape_of
from tests.checks.machine_facts import GIB, SMALL, card, directory, facts, machine, short
from tests.small_disk import SmallDisk, on_small_disk

LARGE = {  # Qwen2.5-7B
    **SMALL, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
PARAMETERS = 7_615_616_512
LORA_8 = 20_185_088


def found(free_gib: float, keys: dict[str, Any], **more: Any) -> list[Finding]:
    seen = machine(card(), disk=Disk(Path("/runs"), int(free_gib * GIB)))
    return list(room_findings(facts(seen, keys, **({"directory": directory(LARGE)} | more))))


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ({}, LORA_8 * 12),
        ({"lora_rank": 16}, LORA_8 * 24),
        ({"save_only_model": True}, LORA_8 * 4),
        ({"optim": "paged_adamw_8bit"}, LORA_8 * 4),
        ({"tuner_type": "full"}, PARAMETERS * 6),
        ({"tuner_type": "full", "torch_dtype": "float32", "save_only_model": True}, PARAMETERS * 4),
        ({"tuner_type": "llamapro"}, 0),
    ],
)
def test_the_size_of_a_checkpoint(keys: dict[str, Any], size: int) -> None:
    shape = shape_of(LARGE)
    assert shape is not None
    assert checkpoint_bytes(facts(machine(), keys, directory=directory(LARGE)), shape) == size


def test_no_room_for_one_checkpoint_is_an_error() -> None:
    assert found(40, {"tuner_type": "full"}) == [
        Finding(
            "disk-full", "error", "output_dir", "a checkpoint takes 42.6 GiB, and /runs has 40.0 GiB free",
            "make room, or give a directory on another disk",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "fit", "message", "fix"),
    [
        ({}, 3.5, "6 checkpoints of 42.6 GiB are 255.3 GiB", "set save_total_limit: 2"),
        ({"save_total_limit": 4}, 3.5, "5 checkpoints of 42.6 GiB are 212.8 GiB", "set save_total_limit: 2"),
        ({}, 1.5, "6 checkpoints of 42.6 GiB are 255.3 GiB",
         "make room, or set save_only_model: true (nothing to go on from then)"),
    ],
)  # fmt: skip
def test_how_many_checkpoints_fit_is_said(keys: dict[str, Any], fit: float, message: str, fix: str) -> None:
    one = PARAMETERS * 6 / GIB
    (finding,) = found(fit * one, {"tuner_type": "full", "save_steps": 50, **keys})
    assert (finding.message.partition(", and")[0], finding.fix) == (message, fix)


def test_where_the_steps_are_not_known_a_run_that_keeps_every_checkpoint_on_a_small_disk_is_warned_of() -> None:
    one = PARAMETERS * 6 / GIB
    keys = {"tuner_type": "full", "save_steps": 50}
    (finding,) = found(3.5 * one, keys, rows=None)
    assert finding == Finding(
        "disk-full", "warning", "output_dir",
        "every checkpoint of 42.6 GiB is kept, as save_total_limit is not set, and /runs has 148.9 GiB free",
        "set save_total_limit: 2",
    )  # fmt: skip
    assert found(3.5 * one, {**keys, "save_total_limit": 2}, rows=None) == []
    assert found(20 * one, keys, rows=None) == []


@pytest.mark.parametrize(
    ("disk", "message"),
    [
        (Disk(Path("/runs"), 5000), "a run takes 2.0 MiB even without checkpoints, and /runs has 4.9 KiB free"),
        (Disk(Path("/runs"), GIB, 0), "/runs can hold no more files (no inode is free)"),
    ],
)
def test_a_disk_that_takes_nothing_more_is_an_error_whatever_the_model(disk: Disk, message: str) -> None:
    unknown = directory({"model_type": "never_heard_of"})
    findings = list(room_findings(facts(machine(card(), disk=disk), {}, directory=unknown)))
    assert [(each.severity, each.place, each.message) for each in findings] == [("error", "output_dir", message)]


def test_a_full_disk_for_temporary_files_or_answers_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(disk: SmallDisk) -> tuple[bool, list[Finding]]:
        disk.fill()
        monkeypatch.setenv("SFT_KIT_CACHE", str(disk.path))
        return disk.real, list(room_findings(facts(machine(card(), environ={"TMPDIR": str(disk.path)}), {})))

    free = f"{tmp_path} has 0 free"
    real, findings = on_small_disk(tmp_path, call)
    assert not real or findings == [
        Finding("disk-full", "warning", "", f"{free}, and temporary files go there",
                "make room, or set TMPDIR to a folder on another disk"),
        Finding("disk-full", "warning", "", f"{free}, and what models answer is kept there",
                "make room, or set SFT_KIT_CACHE to a folder on another disk"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        ({"save_steps": 50}, 6),  # 1,600 rows, 16 a step, 3 epochs: 300 steps
        ({"save_steps": 50, "save_total_limit": 2}, 3),
        ({"save_steps": 0.25}, 4),
        ({"save_strategy": "epoch"}, 3),
        ({"save_steps": 50, "max_steps": 100}, 2),
        ({}, 1),
        ({"save_strategy": "no"}, 1),
    ],
)
def test_a_disk_that_fills_up_before_the_end_is_a_warning(keys: dict[str, Any], kept: int) -> None:
    full = keys | {"tuner_type": "full"}
    one = PARAMETERS * 6 / GIB
    assert found(kept * one + 1, full) == []
    expected = "error" if kept == 1 else "warning"
    assert [(each.code, each.severity) for each in found(kept * one - 1, full)] == [("disk-full", expected)]


def test_nothing_is_said_of_a_model_whose_size_is_not_known() -> None:
    assert found(0.1, {"tuner_type": "full"}, directory=directory({"model_type": "never_heard_of"})) == []


@pytest.mark.parametrize(("dtype", "needed"), [("float32", 4), ("float16", 2)])
def test_training_on_the_cpu_needs_ram_for_the_weights(dtype: str, needed: int) -> None:
    keys = {"torch_dtype": dtype, "launch": {"gpus": 0}}
    for available, codes in ((PARAMETERS * needed + 1, []), (PARAMETERS * needed - 1, ["little-ram"])):
        seen = machine(card(), memory=Memory(64 * GIB, available))
        assert [each.code for each in room_findings(facts(seen, keys, directory=directory(LARGE)))] == codes


def test_a_gpu_run_is_not_measured_by_ram() -> None:
    seen = machine(card(), memory=Memory(8 * GIB, GIB))
    assert list(room_findings(facts(seen, directory=directory(LARGE)))) == []


@pytest.mark.parametrize(
    ("processes", "config", "shared_mib", "codes"),
    [(2, LARGE, 64, ["little-shared-memory"]), (2, LARGE, 1024, []), (1, LARGE, 64, []),
     (1, {**LARGE, "vision_config": {}}, 64, ["little-shared-memory"])],
)  # fmt: skip
def test_the_shared_memory_of_a_container(
    processes: int, config: dict[str, Any], shared_mib: int, codes: list[str]
) -> None:
    seen = machine(card(), card(1), memory=Memory(64 * GIB, 60 * GIB, shared_mib * 2**20))
    known = facts(seen, {"launch": {"gpus": processes}}, directory=directory(config))
    assert [code for code, *_ in short(room_findings(known))] == codes


def test_of_a_run_that_is_resumed_only_the_checkpoints_that_are_still_to_come_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-150"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 150}', encoding="utf-8")
    one = PARAMETERS * 6 / GIB
    keys = {"tuner_type": "full", "save_steps": 50, "resume_from_checkpoint": str(folder)}
    (finding,) = found(1.5 * one, keys)
    assert (finding.message.partition(" of ")[0], finding.fix) == ("3 checkpoints", "make room")
    assert found(3.5 * one, keys) == []
