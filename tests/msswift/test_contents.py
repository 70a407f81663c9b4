"""Files of the right length that do not hold what was written (real checkpoints: tests/integration/test_disk.py)."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from sft_kit.msswift.checkpoints import why_not_resumable
from sft_kit.msswift.contents import why_not_as_written

PAGE = 4096


def noise(size: int) -> bytes:
    return hashlib.shake_128(b"trained").digest(size).replace(b"\0", b"\1")


def zeros(file: Path, start: int, stop: int | None = None) -> None:
    """What had not been written when the power went."""
    content = file.read_bytes()
    stop = len(content) if stop is None else stop
    file.write_bytes(content[:start] + bytes(stop - start) + content[stop:])


def torch_file(file: Path, *, size: int = 5 * PAGE, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data/0", noise(size))
    return file


def safetensors(file: Path, **tensors: bytes) -> Path:
    """Tensors that begin at byte 1000 of the file."""
    header, end = {}, 0
    for name, content in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [end, end := end + len(content)]}
    text = json.dumps(header).encode().ljust(992)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(tensors.values()))
    return file


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state_3.pth", "optimizer.bin", "adapter_model.bin"])
def test_every_byte_of_a_state_is_held_to_its_checksum(tmp_path: Path, name: str) -> None:
    file = torch_file(tmp_path / name)
    assert why_not_as_written(tmp_path) == ""
    whole = file.read_bytes()
    for start in range(PAGE, 5 * PAGE, PAGE):
        zeros(file, start, start + PAGE)
        assert why_not_resumable(tmp_path) == "trainer_state.json is missing"  # the zip file itself is whole
        assert why_not_as_written(tmp_path) == (
            f"{name} is damaged: its record 'archive/data/0' is not what its checksum says"
        )
        file.write_bytes(whole)


def test_deepspeed_s_states_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "global_step20").mkdir()
    zeros(torch_file(tmp_path / "global_step20" / "rank_0_optim_states.pt"), PAGE, 2 * PAGE)
    assert why_not_as_written(tmp_path).startswith("rank_0_optim_states.pt is damaged")


def test_a_file_without_checksums_is_taken_as_it_is(tmp_path: Path) -> None:
    file = torch_file(tmp_path / "optimizer.pt")
    with zipfile.ZipFile(file) as archive:
        checksum = archive.infolist()[0].CRC.to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(checksum, bytes(4)))  # torch.serialization.set_crc32_options(False)
    assert why_not_as_written(tmp_path) == ""


def test_what_torch_did_not_write_is_not_unpacked(tmp_path: Path) -> None:
    zeros(torch_file(tmp_path / "optimizer.pt", compression=zipfile.ZIP_DEFLATED), PAGE, 2 * PAGE)
    (tmp_path / "scheduler.pt").write_bytes(b"\x80\x02a pickle of torch before 1.6")
    assert why_not_as_written(tmp_path) == ""


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (1000, "holds nothing but zeros"),
        (2 * PAGE, "ends in 20,480 bytes of zeros, from the middle of a on"),
        (6 * PAGE, "ends in 4,096 bytes of zeros, from the middle of b on"),
        (PAGE + 8, ""),  # no page begins there: rows of zeros, by right
        (7 * PAGE, ""),  # less than a page
    ],
)
def test_weights_that_were_lost_up_to_their_end_are_seen(tmp_path: Path, start: int, why: str) -> None:
    file = safetensors(tmp_path / "model.safetensors", a=noise(4 * PAGE), b=noise(3 * PAGE - 1000))
    assert os.path.getsize(file) == 7 * PAGE
    assert why_not_as_written(tmp_path) == ""
    zeros(file, start)
    assert why_not_as_written(tmp_path) == (f"model.safetensors {why}" if why else "")


def test_tensors_of_zeros_are_nothing_unusual(tmp_path: Path) -> None:
    # the bias ends the file, and begins where a page does
    safetensors(tmp_path / "model.safetensors", a=noise(2 * PAGE - 1000), bias=bytes(3 * PAGE))
    assert why_not_as_written(tmp_path) == ""
    safetensors(tmp_path / "model.safetensors", bias=bytes(3 * PAGE), a=noise(3 * PAGE))
    assert why_not_as_written(tmp_path) == ""


def test_no_tensors_are_no_loss(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors")
    assert why_not_as_written(tmp_path) == ""
