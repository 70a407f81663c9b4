"""Whether the files of a checkpoint hold what was written to them, and not only their names and lengths.

transformers does not have its checkpoints flushed to the disk (`run.durable` does), so that a machine that loses its
power can leave files of the right length in which what had not been written yet is zeros. Owns reading the files
through, once, before a training goes on from them. What `checkpoints` sees from names and headers is taken for granted.

Seen: in what torch.save wrote (a zip file with a CRC-32 of each record), any byte that changed. safetensors files have
no checksums; seen is what was lost up to their end, as the kernel writes a file from its beginning. Not seen: zeros in
the middle of one, less than a page (4 KiB) at its end, and a loss that begins where a tensor does, since whole tensors
of zeros are nothing unusual (biases, the B of an adapter's layer that no row has reached, padding rows of a
vocabulary); FSDP's and DeepSpeed's files that are no zip files; files of torch from before 1.6.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sft_kit.models.weights import DamagedWeights, Tensor, read_tensors

_STATES = ("*.pt", "*.pth", "optimizer.bin", "*/*.pt")
_PICKLED = ("adapter_model*.bin", "pytorch_model*.bin")
_BLOCK = 1 << 20  # bytes read at a time
_PAGE = 4096  # what a file system allocates by
_VALUE = 8  # bytes of the longest number: its last ones may be zero by right


def why_not_as_written(checkpoint: Path) -> str:
    """Which file of a checkpoint that is complete was damaged, for people; empty when none is seen to be.

    Reads every state through, and of weights the end. That takes as long as the disk does; the checksums are 0.6 s of
    CPU a GB (zlib.crc32 over an optimizer.pt of 320 MB), and what was read need not be read again by the trainer.
    """
    return next(_damages(checkpoint), "")


def _damages(checkpoint: Path) -> Iterator[str]:
    zips = (file for pattern in (*_PICKLED, *_STATES) for file in sorted(checkpoint.glob(pattern)))
    for file in (*sorted(checkpoint.glob("*.safetensors")), *zips):
        try:
            damage = _lost_end(file) if file.suffix == ".safetensors" else _wrong_record(file)
        except OSError as error:
            damage = f"cannot be read: {error.strerror or error}"
        if damage:
            yield f"{file.name} {damage}"


def _wrong_record(file: Path) -> str:
    """The record of a zip file that is not what its checksum says. One without checksums has none that is wrong
    (torch.serialization.set_crc32_options: all are 0 then); what is compressed is not torch's."""
    if not zipfile.is_zipfile(file):
        return ""
    name = ""
    try:
        with zipfile.ZipFile(file) as archive:
            records = [each for each in archive.infolist() if each.compress_type == zipfile.ZIP_STORED]
            for record in records if any(each.CRC for each in records) else []:
                name = record.filename
                with archive.open(record) as stream:
                    while stream.read(_BLOCK):
                        pass
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return f"is damaged: its record {name!r} is not what its checksum says"
    return ""


def _lost_end(file: Path) -> str:
    """What a safetensors file ends in, where that cannot be what was saved."""
    try:
        tensors = [each for each in read_tensors(file).values() if each.stop > each.start]
    except DamagedWeights:
        return ""
    last, size = _end_of_values(file), file.stat().st_size
    if tensors and last <= min(each.start for each in tensors):
        return "holds nothing but zeros"
    page = -(-last // _PAGE) * _PAGE
    if page - last < _VALUE and size - page >= _PAGE and (cut := _around(last, tensors)):
        return f"ends in {size - page:,} bytes of zeros, from the middle of {cut.name} on"
    return ""


def _end_of_values(file: Path) -> int:
    """Where the zeros at the end of `file` begin."""
    with file.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            stream.seek(start)
            if kept := len(stream.read(end - start).rstrip(b"\0")):
                return start + kept
            end = start
    return 0


def _around(position: int, tensors: list[Tensor]) -> Tensor | None:
    """The tensor that has bytes before and after `position`."""
    return next((each for each in tensors if each.start < position < each.stop), None)
