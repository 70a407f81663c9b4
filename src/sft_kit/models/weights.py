"""Reads the tensors of a model's safetensors files one by one, as numpy arrays, without torch.

Owns the file format (https://github.com/huggingface/safetensors#format: 8 bytes of header length, a JSON header, the
data) and the arithmetic of bfloat16, which numpy has not. Does not own what is compared (`run.merged_weights`). A file
is mapped, never read whole, so a 15 GB model needs no more memory than the slices that are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


class DamagedWeights(Exception):
    """A weight file is missing, cut off, or not what its index says; the message is for people."""


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies: `start` and `stop` are bytes of `file`; `dtype` as safetensors spells it."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether `values` can read it: float32, float16 or bfloat16."""
        return self.dtype in ("F32", "F16", "BF16")


def weight_files(model: Path) -> list[Path]:
    """The safetensors files of the model: those of its index, else model.safetensors, else all there are."""
    try:
        table = json.loads((model / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in table.values()})
    except FileNotFoundError:
        single = model / _SINGLE
        return [single] if single.is_file() else sorted(model.glob("*.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedWeights(f"{INDEX} cannot be read: {error}") from error
    outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise DamagedWeights(f"{INDEX} names {outside[0]}, which lies outside of the directory")
    return [model / name for name in names]


def read_tensors(model: Path) -> dict[str, Tensor]:
    """Every tensor of a model directory, or of one safetensors file, by name; empty when there are none.

    Raises DamagedWeights for a file that is missing or cut off, and where index and files disagree.
    """
    if model.is_file():
        return {tensor.name: tensor for tensor in _tensors(model)}
    found: dict[str, Tensor] = {}
    for file in weight_files(model):
        for tensor in _tensors(file):
            if tensor.name in found:
                raise DamagedWeights(f"{tensor.name} is in {found[tensor.name].file.name} and in {file.name}")
            found[tensor.name] = tensor
    if (model / INDEX).is_file():
        listed: dict[str, Any] = json.loads((model / INDEX).read_text(encoding="utf-8"))["weight_map"]
        wrong = sorted(name for name, file in listed.items() if name not in found or found[name].file.name != file)
        if wrong:
            raise DamagedWeights(f"{wrong[0]} is not in {listed[wrong[0]]}, where the index has it")
    return found


def _tensors(file: Path) -> Iterator[Tensor]:
    try:
        bytes_there = file.stat().st_size
        if not file.is_file():  # opening a named pipe would wait for ever
            raise DamagedWeights(f"{file.name} is not a file")
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(_LONGEST_HEADER, bytes_there - 8):
                raise DamagedWeights(f"{file.name} is cut off or not a safetensors file")
            header: dict[str, Any] = json.loads(stream.read(length))
    except FileNotFoundError:
        raise DamagedWeights(f"{file.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedWeights(f"{file.name} cannot be read: {error}") from error
    try:
        header.pop("__metadata__", None)
        tensors = [_tensor(name, file, entry, 8 + length) for name, entry in header.items()]
        wanted = [tensor.size * _BYTES.get(tensor.dtype, 1) for tensor in tensors]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise DamagedWeights(f"{file.name} has no header of tensors") from None
    for tensor, size in zip(tensors, wanted, strict=True):
        if not 8 + length <= tensor.start <= tensor.stop <= bytes_there or tensor.stop - tensor.start != size:
            end = f"{tensor.name} should end at byte {tensor.stop:,} of {bytes_there:,}"
            raise DamagedWeights(f"{file.name} is cut off: {end}")
        yield tensor


def _tensor(name: str, file: Path, entry: Mapping[str, Any], data: int) -> Tensor:
    """One entry of a header; `data` is the byte at which the tensors begin."""
    start, stop = (data + int(offset) for offset in entry["data_offsets"])
    return Tensor(name, file, str(entry["dtype"]), tuple(map(int, entry["shape"])), start, stop)


def values(tensor: Tensor, start: int = 0, stop: int | None = None) -> Floats:
    """The values from `start` to `stop` of the flattened tensor, exactly, in float32. ValueError if they are none."""
    import numpy as np

    if not tensor.is_float:
        raise ValueError(f"{tensor.name} is {tensor.dtype}")
    raw = raw_values(tensor)[start:stop]
    wide = raw.astype(np.uint32) << 16 if tensor.dtype == "BF16" else raw
    numbers: Floats = wide.view(np.float16 if tensor.dtype == "F16" else np.float32).astype(np.float32)
    return numbers


def raw_values(tensor: Tensor) -> Any:
    """The flattened tensor's bits as unsigned integers of its width (bytes where that is not known), mapped."""
    import numpy as np

    width = _BYTES.get(tensor.dtype, 1)
    count = (tensor.stop - tensor.start) // width
    if not count:
        return np.empty(0, np.uint8)
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[width]
    return np.memmap(tensor.file, dtype=kind, mode="r", offset=tensor.start, shape=(count,))


def same_bits(first: Tensor, second: Tensor, step: int) -> bool:
    """Whether two tensors hold the same bits; `step` of their values are looked at a time."""
    import numpy as np

    return first.size == second.size and all(
        np.array_equal(raw_values(first)[start : start + step], raw_values(second)[start : start + step])
        for start in range(0, first.size, step)
    )


def rounded(numbers: Floats, dtype: str) -> Floats:
    """`numbers` as `dtype` would keep them, to nearest, ties to even; still float32."""
    import numpy as np

    if dtype == "F16":
        return numbers.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
        kept: Floats = ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).view(np.float32)
        return kept
    return numbers
