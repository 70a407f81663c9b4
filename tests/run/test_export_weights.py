"""The weights of a merged model against its base and adapter: what is right passes, every planted fault is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sft_kit.models.weights import INDEX, read_tensors, rounded, values
from sft_kit.run.merged_weights import check_merge, check_weights

Arrays = dict[str, np.ndarray]
RANK, ALPHA = 4, 8.0
ADAPTER = "adapter_model.safetensors"
DTYPES = ("F32", "F16", "BF16")


def write(file: Path, arrays: Mapping[str, np.ndarray], dtype: str = "F32") -> None:
    """A safetensors file of `arrays` (float32) kept as `dtype`, by the format's description."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        kept = rounded(array.astype(np.float32).reshape(-1), dtype)
        raw = (kept.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else kept
        piece = (raw.astype(np.float16) if dtype == "F16" else raw).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@dataclass(frozen=True)
class Merge:
    """A base, an adapter and what they make, as folders; `right` is what the merged file holds."""

    base: Path
    adapter: Path
    merged: Path
    right: Arrays
    plain: Arrays
    dtype: str

    def faults(self, **changes: np.ndarray) -> tuple[str, ...]:
        """What is said of a merged file in which some tensors are others."""
        write(self.merged / "model.safetensors", {**self.right, **changes}, self.dtype)
        return check_merge(self.merged, self.base, self.adapter).faults


def name_of(layer: int, which: str) -> str:
    return f"model.layers.{layer}.{which}.weight"


@pytest.fixture(params=DTYPES)
def merge(request: pytest.FixtureRequest, tmp_path: Path) -> Merge:
    dtype: str = request.param
    random = np.random.default_rng(0)
    plain = {
        name_of(layer, which): random.normal(0, 0.02, shape).astype(np.float32)
        for layer in range(2)
        for which, shape in (("mlp.up_proj", (48, 32)), ("mlp.down_proj", (32, 48)), ("norm", (32,)))
    }
    plain["model.embed_tokens.weight"] = random.normal(0, 0.02, (64, 32)).astype(np.float32)
    kept = {name: rounded(array.reshape(-1), dtype).reshape(array.shape) for name, array in plain.items()}
    right, factors = dict(kept), {}
    for layer in range(2):
        for which in ("mlp.up_proj", "mlp.down_proj"):
            rows, columns = kept[name_of(layer, which)].shape
            a = random.normal(0, 0.1, (RANK, columns)).astype(np.float32)
            b = random.normal(0, 0.005, (rows, RANK)).astype(np.float32)
            module = f"base_model.model.model.layers.{layer}.{which}"
            factors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
            right[name_of(layer, which)] = kept[name_of(layer, which)] + ALPHA / RANK * (b @ a)
    folders = [tmp_path / name for name in ("base", "adapter", "merged")]
    for folder in folders:
        folder.mkdir()
    base, adapter, merged = folders
    write(base / "model.safetensors", plain, dtype)
    write(adapter / ADAPTER, factors)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (merged / "config.json").write_text('{"tie_word_embeddings": true}')
    write(merged / "model.safetensors", right, dtype)
    return Merge(base, adapter, merged, right, kept, dtype)


def test_a_right_merge_has_no_fault(merge: Merge) -> None:
    report = check_merge(merge.merged, merge.base, merge.adapter)
    assert (report.faults, report.tensors, report.changed, report.compared) == ((), 7, 4, "base and adapter")


def test_two_swapped_tensors_of_one_shape_are_both_named(merge: Merge) -> None:
    first, second = name_of(0, "mlp.up_proj"), name_of(1, "mlp.up_proj")
    faults = merge.faults(**{first: merge.right[second], second: merge.right[first]})
    assert [fault.split()[0] for fault in faults] == [first, second]
    assert all("is not base + adapter" in fault for fault in faults)


def test_two_swapped_tensors_that_the_adapter_leaves_alone_are_both_named(merge: Merge) -> None:
    first, second = name_of(0, "norm"), name_of(1, "norm")
    faults = merge.faults(**{first: merge.right[second], second: merge.right[first]})
    assert faults == tuple(
        f"{n} differs from the base model's, though the adapter leaves it alone" for n in (first, second)
    )


def test_an_untouched_base_is_a_merge_that_did_nothing(merge: Merge) -> None:
    assert merge.faults(**merge.plain) == ("no tensor differs from the base model's: nothing was merged",)


def test_one_module_that_was_left_out_is_named(merge: Merge) -> None:
    name = name_of(1, "mlp.down_proj")
    assert merge.faults(**{name: merge.plain[name]}) == (
        f"{name} is the base model's: the adapter was not merged into it",
    )


def test_an_adapter_merged_twice_is_seen_in_every_tensor(merge: Merge) -> None:
    twice = {name: 2 * merge.right[name] - merge.plain[name] for name in merge.right if "proj" in name}
    assert len(merge.faults(**twice)) == 4


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(merge: Merge, wrong: float) -> None:
    name = "model.embed_tokens.weight"
    broken = merge.right[name].copy()
    broken[3, 4] = wrong
    assert merge.faults(**{name: broken}) == (f"{name} holds 1 values that are not finite",)


def test_a_tensor_of_another_shape_is_named(merge: Merge) -> None:
    name = name_of(0, "norm")
    assert merge.faults(**{name: merge.right[name][:16]}) == (f"{name} has the shape [16], in the base model [32]",)


def test_a_tensor_too_many_and_one_too_few_are_named(merge: Merge) -> None:
    kept = dict(merge.right)
    kept["model.other.weight"] = kept.pop(name_of(0, "norm"))
    write(merge.merged / "model.safetensors", kept, merge.dtype)
    assert check_merge(merge.merged, merge.base, merge.adapter).faults == (
        f"{name_of(0, 'norm')} is in the base model and not here",
        "model.other.weight is here and not in the base model",
    )


def shard(merge: Merge) -> Path:
    """The merged model in two files with an index; the second one's path."""
    (merge.merged / "model.safetensors").unlink()
    names = sorted(merge.right)
    files = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, own in files.items():
        write(merge.merged / file, {name: merge.right[name] for name in own}, merge.dtype)
    table = {name: file for file, own in files.items() for name in own}
    (merge.merged / INDEX).write_text(json.dumps({"weight_map": table}))
    return merge.merged / "model-00002-of-00002.safetensors"


def test_a_model_in_two_files_is_right_too(merge: Merge) -> None:
    shard(merge)
    assert check_merge(merge.merged, merge.base, merge.adapter).faults == ()


def test_a_missing_shard_is_named(merge: Merge) -> None:
    shard(merge).unlink()
    faults = check_merge(merge.merged, merge.base, merge.adapter).faults
    assert faults == ("model-00002-of-00002.safetensors is missing",)


def test_a_shard_that_is_cut_off_is_named(merge: Merge) -> None:
    second = shard(merge)
    second.write_bytes(second.read_bytes()[:-10])
    (fault,) = check_merge(merge.merged, merge.base, merge.adapter).faults
    assert fault.startswith("model-00002-of-00002.safetensors is cut off: ")


def test_weights_of_an_earlier_export_beside_the_index_are_named(merge: Merge) -> None:
    second = shard(merge)
    shutil.copy(second, merge.merged / "model-00003-of-00003.safetensors")
    (fault,) = check_merge(merge.merged, merge.base, merge.adapter).faults
    assert fault == "model-00003-of-00003.safetensors is there and belongs to no index: it is of another model"


def test_an_adapter_that_is_no_lora_leaves_a_check_against_the_base_alone(merge: Merge) -> None:
    (merge.adapter / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    report = check_merge(merge.merged, merge.base, merge.adapter)
    assert (report.faults, report.compared) == ((), "base only (what a VERA adds is not worked out here)")


def test_a_full_model_is_checked_on_its_own(merge: Merge) -> None:
    assert check_weights(merge.merged).faults == ()
    (merge.merged / "model.safetensors").unlink()
    assert check_weights(merge.merged).faults == ("there are no safetensors files",)


def test_a_small_change_that_was_worked_out_in_bfloat16_is_right_and_its_absence_is_seen(merge: Merge) -> None:
    read = {name: values(t).reshape(t.shape) for name, t in read_tensors(merge.adapter / ADAPTER).items()}
    factors = {name: array * (0.05 if "lora_B" in name else 1) for name, array in read.items()}
    write(merge.adapter / ADAPTER, factors)
    coarse = {}
    for name in (name for name in merge.right if "proj" in name):
        module = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = (rounded(factors[f"{module}.lora_{side}.weight"], "BF16") for side in "AB")
        coarse[name] = merge.plain[name] + rounded(ALPHA / RANK * rounded(b @ a, "BF16"), "BF16")
    assert merge.faults(**coarse) == ()
    name = name_of(0, "mlp.up_proj")
    assert merge.faults(**{**coarse, name: merge.plain[name]}) == (
        f"{name} is the base model's: the adapter was not merged into it",
    )


def test_scaling_by_rank_pattern_and_rslora_is_what_peft_does(merge: Merge) -> None:
    config = {"peft_type": "LORA", "r": 99, "lora_alpha": ALPHA, "alpha_pattern": {"up_proj": 2 * ALPHA}}
    (merge.adapter / "adapter_config.json").write_text(json.dumps(config))
    up = [name for name in merge.right if "up_proj" in name]
    doubled = {name: 2 * merge.right[name] - merge.plain[name] for name in up}
    assert merge.faults(**doubled) == ()
    (merge.adapter / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True}))
    assert len(merge.faults(**doubled)) == 4


def test_the_values_read_are_those_that_safetensors_wrote(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    wanted = np.arange(24, dtype=np.float32).reshape(4, 6) / 7
    save_file({"a": wanted, "b": wanted.astype(np.float16)}, tmp_path / "model.safetensors")
    tensors = read_tensors(tmp_path)
    assert values(tensors["a"]).tolist() == wanted.reshape(-1).tolist()
    assert values(tensors["b"], 6, 12).tolist() == wanted.astype(np.float16)[1].astype(np.float32).tolist()


def test_bfloat16_is_rounded_to_nearest_with_ties_to_even() -> None:
    one = 2.0**-8  # half of the last bit of a bfloat16 at 1
    numbers = np.array([1 + one, 1 + 3 * one, 1 + 1.01 * one, -1 - one], np.float32)
    assert rounded(numbers, "BF16").tolist() == [1.0, 1 + 4 * one, 1 + 2 * one, -1.0]
