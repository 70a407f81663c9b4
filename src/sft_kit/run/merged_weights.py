"""Whether a merged model's weights are what its base and its adapter make: tensor by tensor, without loading either.

Every tensor of the base must be there with its shape, none else, all finite. Those that the adapter leaves alone must
equal the base's; those it changes must equal base + scale * B A, as the merged dtype rounds it. That catches a swapped
tensor, a missing shard, a merge that did nothing and one done twice, which twenty equal answers might not.

Owns the arithmetic. Does not own the file format (`models.weights`) or answers (`run.parity`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_kit.models.weights import DamagedWeights, Tensor, read_tensors, rounded, same_bits, values, weight_files
from sft_kit.msswift.checkpoints import read_json

if TYPE_CHECKING:
    from sft_kit.models.weights import Floats

_CHUNK = 1 << 23  # values at a time: 32 MB in float32, of which a handful are alive
_MOST_FAULTS = 5  # named; a wrong merge is often wrong in every tensor

# A value of a right merge may miss base + change by the rounding of its dtype and by that of the change, which peft may
# compute in bfloat16. Only what is beyond that counts, beside what an untouched base would be beyond it: none for a
# right merge, 1 for one that did nothing or did it twice, 0.5 for half the scale, far more for a swapped tensor.
# (Without the allowance a right bfloat16 merge of SmolLM2 is off by 0.33 of the change: roundings that fell otherwise.)
_MOST_OFF = 0.3
_HALF_STEP = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}  # of a value, at most
_CHANGE_ERROR = 2.0**-7  # of the change; of its root mean square where its terms cancel
_NOISE = 1e-6  # of the tensor's own norm: float32 sums in another order

# Not parameters, or not loaded by transformers at all (multi-token prediction heads).
_MAY_BE_LOST = re.compile(r"rotary_emb\.inv_freq$|\.masked_bias$|(^|\.)mtp\.")
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class WeightReport:
    """What was found. `compared` says how far the check could go; empty `faults` mean that all is well."""

    tensors: int
    changed: int
    faults: tuple[str, ...]
    compared: str  # "base and adapter", "base", or why there was nothing to compare with


def check_weights(model: Path, done: Callable[[int, int], None] = lambda done, all_: None) -> WeightReport:
    """The weights of a full model on their own: complete, in the files that the index names, and finite."""
    try:
        tensors = read_tensors(model)
        faults = _stray_files(model) or [*_not_finite(tensors, done)]
    except DamagedWeights as error:
        return WeightReport(0, 0, (str(error),), "nothing")
    if not tensors:
        faults = ["there are no safetensors files"]
    return WeightReport(len(tensors), 0, _first(faults), "nothing (a full model)")


def check_merge(
    merged: Path, base: Path, adapter: Path, done: Callable[[int, int], None] = lambda done, all_: None
) -> WeightReport:
    """The weights of `merged` against its base model's and its adapter's. `done(tensors, all)` tells how far it is.

    What cannot be compared (a base without safetensors, an adapter that is no LoRA or whose modules have other names)
    is said in `compared`; shapes and finite values are looked at all the same.
    """
    whole = check_weights(merged)  # its own faults first: they explain the others
    if whole.faults:
        return whole
    try:
        found, given = read_tensors(merged), read_tensors(base)
        low_rank = _LowRank.read(adapter)
    except DamagedWeights as error:
        return WeightReport(whole.tensors, 0, (), f"nothing ({error})")
    if not given:
        return WeightReport(whole.tensors, 0, (), "nothing (its base has no safetensors files)")
    tied = bool(read_json(merged / "config.json").get("tie_word_embeddings", True))
    faults = [*_wrong_names(found, given, low_rank, tied), *_wrong_shapes(found, given)]
    if faults:
        return WeightReport(len(found), 0, _first(faults), "base")
    unknown = low_rank.unknown(found)
    changed = 0
    for index, name in enumerate(sorted(found.keys() & given.keys())):
        done(index, len(found))
        off, is_changed = _compare(found[name], given[name], None if unknown else low_rank.change(name))
        changed += is_changed
        if off and not unknown:
            faults.append(f"{name} {off}")
    if not changed and low_rank.changes_anything:
        faults = ["no tensor differs from the base model's: nothing was merged"]
    compared = f"base only ({unknown})" if unknown else "base and adapter"
    return WeightReport(len(found), changed, _first(faults), compared)


@dataclass(frozen=True)
class _Change:
    """What an adapter does to one tensor: adds `scale` * `b` `a` to it, or replaces it."""

    shape: tuple[int, ...]
    a: Floats | None = None
    b: Floats | None = None
    scale: float = 1.0
    transposed: bool = False
    instead: Tensor | None = None

    def apply(self, numbers: Floats, start: int) -> Floats:
        """The base's values from `start` (whole rows) with the change added, in float32."""
        if self.instead is not None:
            return values(self.instead, start, start + numbers.size)
        if self.a is None or self.b is None:
            return numbers
        a, b = (self.b.T, self.a.T) if self.transposed else (self.a, self.b)
        columns = self.shape[-1]
        rows = slice(start // columns, (start + numbers.size) // columns)
        added: Floats = numbers + self.scale * (b[rows] @ a).reshape(-1)
        return added


@dataclass(frozen=True)
class _LowRank:
    """An adapter: its LoRA factors by the tensor they change, and whole tensors that it brings (modules_to_save)."""

    config: Mapping[str, Any]
    factors: Mapping[str, Mapping[str, Tensor]]
    whole: Mapping[str, Tensor]
    other: tuple[str, ...] = field(default=())  # tensors that are neither

    @classmethod
    def read(cls, adapter: Path) -> _LowRank:
        """Raises DamagedWeights when the adapter's own file cannot be read."""
        factors: dict[str, dict[str, Tensor]] = {}
        whole: dict[str, Tensor] = {}
        other: list[str] = []
        for name, tensor in read_tensors(adapter / "adapter_model.safetensors").items():
            module, kind = _parts(name.removeprefix(_PREFIX))
            if kind in ("A", "B", "embedding_A", "embedding_B"):
                factors.setdefault(f"{module}.weight", {})[kind] = tensor
            elif kind:
                other.append(name)
            else:
                whole[module] = tensor
        return cls(read_json(adapter / "adapter_config.json"), factors, whole, tuple(other))

    def unknown(self, found: Mapping[str, Tensor]) -> str:
        """Why what this adapter does cannot be worked out here; empty when it can."""
        kind = str(self.config.get("peft_type") or "")
        if kind != "LORA" or self.config.get("use_dora") or self.other:
            return f"what a {'DoRA' if self.config.get('use_dora') else kind or 'adapter'} adds is not worked out here"
        strange = [name for name in (*self.factors, *self.whole) if name not in found]
        return f"the adapter's {strange[0]} has another name there" if strange else ""

    @property
    def changes_anything(self) -> bool:
        """Whether the adapter is more than the zeros that training starts from."""
        outer = [f.get("B") or f.get("embedding_B") for f in self.factors.values()]
        return bool(self.whole or self.other or any(tensor is not None and values(tensor).any() for tensor in outer))

    def change(self, name: str) -> _Change | None:
        if name in self.whole:
            return _Change(self.whole[name].shape, instead=self.whole[name])
        factors = self.factors.get(name)
        if factors is None:
            return None
        is_embedding = "embedding_A" in factors
        a, b = (factors[f"embedding_{side}" if is_embedding else side] for side in "AB")
        both = values(a).reshape(a.shape), values(b).reshape(b.shape)
        transposed = is_embedding or bool(self.config.get("fan_in_fan_out"))
        shape = (a.shape[1], b.shape[0]) if transposed else (b.shape[0], a.shape[1])
        return _Change(shape, *both, self._scale(name.removesuffix(".weight"), a.shape[0]), transposed)

    def _scale(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) for rsLoRA; a module may have an alpha of its own. `rank` is the factor's."""
        patterns: Mapping[str, Any] = self.config.get("alpha_pattern") or {}
        own = [alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)]
        alpha = float(own[0] if own else self.config.get("lora_alpha") or rank)
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)


def _parts(name: str) -> tuple[str, str]:
    """("model.layers.0.mlp.up_proj", "A") of a LoRA factor's name; (the name, "") of a whole tensor's."""
    match = re.fullmatch(r"(.+)\.lora_(?:(A|B)\.(?:default\.)?weight|(embedding_[AB])(?:\.default)?|(.+))", name)
    if match is None:
        return name.replace(".modules_to_save.default", "").replace(".modules_to_save", ""), ""
    return match[1], match[2] or match[3] or match[4]


def _wrong_names(
    found: Mapping[str, Tensor], given: Mapping[str, Tensor], low_rank: _LowRank, tied: bool
) -> Iterator[str]:
    free = {name for name in (*found, *given) if name.endswith(("lm_head.weight", "embed_tokens.weight"))}
    may_differ = free if tied or low_rank.whole else set()
    for name in sorted(given.keys() - found.keys() - may_differ):
        if not _MAY_BE_LOST.search(name):
            yield f"{name} is in the base model and not here"
    for name in sorted(found.keys() - given.keys() - may_differ):
        yield f"{name} is here and not in the base model"


def _wrong_shapes(found: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    for name in sorted(found.keys() & given.keys()):
        if found[name].shape != given[name].shape:
            yield f"{name} has the shape {list(found[name].shape)}, in the base model {list(given[name].shape)}"
        if found[name].is_float != given[name].is_float:
            yield f"{name} is {found[name].dtype}, in the base model {given[name].dtype}"


def _compare(found: Tensor, given: Tensor, change: _Change | None) -> tuple[str, bool]:
    """(what is wrong with `found`, empty if nothing; whether it differs from the base's)."""
    import numpy as np

    if found.dtype == given.dtype and change is None and same_bits(found, given, _CHUNK):
        return "", False
    if not found.is_float:
        return "differs from the base model's", True
    if change is not None and change.shape != found.shape:
        return f"has the shape {list(found.shape)}, its adapter {list(change.shape)}", True
    off = moved = norm = real = 0.0
    step = max(1, _CHUNK // found.shape[-1]) * found.shape[-1] if found.shape else 1
    for start in range(0, found.size, step):
        kept = rounded(values(given, start, start + step), found.dtype)
        there = values(found, start, start + step)
        real += _squares(there - kept)
        if change is not None:
            wanted = change.apply(kept, start)
            added = np.abs(wanted - kept)
            allowed = _HALF_STEP[found.dtype] * np.abs(wanted) + _CHANGE_ERROR * (added + np.sqrt(np.mean(added**2)))
            off += _squares(np.maximum(np.abs(there - wanted) - allowed, 0))
            moved += _squares(np.maximum(added - allowed, 0))
            norm += _squares(kept)
    if change is None:
        return ("differs from the base model's, though the adapter leaves it alone" if real else ""), bool(real)
    if off**0.5 <= _MOST_OFF * moved**0.5 + _NOISE * norm**0.5:
        return "", bool(real)
    if not real:
        return "is the base model's: the adapter was not merged into it", False
    how = f"it is off by {(off / moved) ** 0.5:.2g} times the change" if moved else "the adapter changes nothing in it"
    return f"is not base + adapter ({how})", True


def _squares(numbers: Floats) -> float:
    import numpy as np

    return float(np.sum(np.square(numbers, dtype=np.float64)))


def _not_finite(tensors: Mapping[str, Tensor], done: Callable[[int, int], None]) -> Iterator[str]:
    import numpy as np

    for index, tensor in enumerate(tensors.values()):
        done(index, len(tensors))
        if tensor.is_float:
            for start in range(0, tensor.size, _CHUNK):
                bad = int(np.count_nonzero(~np.isfinite(values(tensor, start, start + _CHUNK))))
                if bad:
                    yield f"{tensor.name} holds {bad} values that are not finite"
                    break


def _stray_files(model: Path) -> list[str]:
    named = set(weight_files(model))
    strays = sorted(file.name for file in model.glob("*.safetensors") if file not in named)
    return [f"{name} is there and belongs to no index: it is of another model" for name in strays]


def _first(faults: list[str]) -> tuple[str, ...]:
    more = len(faults) - _MOST_FAULTS
    return (*faults[:_MOST_FAULTS], *([f"and {more} more"] if more > 0 else []))
