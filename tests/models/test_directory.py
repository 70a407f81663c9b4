"""What is read of a model directory: weights by their headers, tokenizer, code, links; and how long that takes."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from sft_kit.models.directory import ModelDirectory, read_directory

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3618440\n"
CONFIG: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "hidden_size": 8, "vocab_size": 16}


def write(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return file


def safetensors(file: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "BF16") -> Path:
    """A file of that header whose data is a hole."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2
        for each in shape:
            size *= each
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        stream.truncate(8 + len(raw) + end)
    return file


def model(folder: Path) -> Path:
    """A small model: config, one weight file, a tokenizer."""
    write(folder / "config.json", CONFIG)
    layer = {"model.layers.0.self_attn.q_proj.weight": (8, 8), "model.layers.0.input_layernorm.weight": (8,)}
    safetensors(folder / "model.safetensors", {"model.embed_tokens.weight": (16, 8), **layer})
    write(folder / "tokenizer.json", {"added_tokens": [{"id": 15, "content": "<|im_end|>"}], "model": {}})
    write(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"})
    return folder


def states(directory: ModelDirectory) -> dict[str, str]:
    return {file.name: file.state for file in directory.weights}


def test_a_whole_model_is_read(tmp_path: Path) -> None:
    found = read_directory(model(tmp_path))
    assert states(found) == {"model.safetensors": "whole"}
    assert (found.whole, found.dtype, found.parameters) == (True, "BF16", 16 * 8 + 8 * 8 + 8)
    assert found.modules == {"embed_tokens", "q_proj"}
    assert found.tokenizer.added == {"<|im_end|>": 15}
    assert (found.tokenizer.token("eos_token"), found.tokenizer.class_name) == ("<|im_end|>", "Qwen2Tokenizer")
    assert (found.broken, found.code, found.remote, found.links_out, found.leftovers) == ({}, (), (), {}, ())


def test_the_shards_of_an_index_are_there_missing_cut_empty_or_pointers(tmp_path: Path) -> None:
    model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for name in ("a", "b"):
        safetensors(tmp_path / f"{name}.safetensors", {f"{name}.weight": (64, 64)})
    with (tmp_path / "b.safetensors").open("r+b") as stream:
        stream.truncate(4_000)
    (tmp_path / "c.safetensors").touch()
    write(tmp_path / "d.safetensors", POINTER)
    files = {f"{name}.weight": f"{name}.safetensors" for name in "abcde"}
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {**files, "lost.weight": "a.safetensors"}})
    found = read_directory(tmp_path)
    assert states(found) == {
        "a.safetensors": "whole",
        "b.safetensors": "cut",
        "c.safetensors": "empty",
        "d.safetensors": "pointer",
        "e.safetensors": "missing",
    }
    assert found.not_in_files == ("lost.weight",)
    assert not found.whole


def test_pickles_are_named_and_never_opened(tmp_path: Path) -> None:
    model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path / "pytorch_model.bin", "cos\nsystem\n(S'exit'\ntR.")
    found = read_directory(tmp_path)
    assert [(file.name, file.is_pickle, file.state) for file in found.weights] == [("pytorch_model.bin", True, "whole")]
    assert found.tensors == {}


def test_safetensors_are_preferred_to_pickles_as_transformers_does(tmp_path: Path) -> None:
    model(tmp_path)
    write(tmp_path / "pytorch_model.bin", "x")
    assert states(read_directory(tmp_path)) == {"model.safetensors": "whole"}


def test_downloads_that_did_not_end_are_named(tmp_path: Path) -> None:
    model(tmp_path)
    write(tmp_path / "model.safetensors.aria2", "x")
    write(tmp_path / ".cache" / "huggingface" / "download" / "ab.incomplete", "x")
    write(tmp_path / "._____temp" / "model-00002.safetensors", "x")
    assert read_directory(tmp_path).leftovers == (
        "model.safetensors.aria2",
        "._____temp/model-00002.safetensors",
        ".cache/huggingface/download/ab.incomplete",
    )


def test_json_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    model(tmp_path)
    write(tmp_path / "config.json", '{"architectures": [')
    write(tmp_path / "tokenizer_config.json", POINTER)
    write(tmp_path / "generation_config.json", "")
    write(tmp_path / "args.json", "[]")
    found = read_directory(tmp_path)
    assert found.broken.pop("config.json").startswith("is not JSON: ")  # type: ignore[attr-defined]
    assert found.broken == {
        "tokenizer_config.json": "is a Git LFS pointer, not the file",
        "args.json": "is not a JSON object",
        "generation_config.json": "is empty",
    }
    assert found.config == {}


def test_a_tokenizer_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    model(tmp_path)
    write(tmp_path / "tokenizer.json", '{"added_tokens": [], "model": {"vocab": {"a": 1,')
    write(tmp_path / "merges.txt", "")
    assert read_directory(tmp_path).tokenizer.damaged == {
        "merges.txt": "is empty",
        "tokenizer.json": "is cut off or not JSON",
    }


def test_the_chat_template_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    def of(name: str, file: str, value: object) -> str:
        folder = model(tmp_path / name)
        write(folder / file, value)
        return read_directory(folder).tokenizer.chat_template

    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "usual"}]
    assert of("none", "other.json", {}) == ""
    assert of("jinja", "chat_template.jinja", "own file") == "own file"
    assert of("text", "tokenizer_config.json", {"chat_template": "in config"}) == "in config"
    assert of("list", "tokenizer_config.json", {"chat_template": several}) == "usual"
    assert of("json", "chat_template.json", {"chat_template": "of a processor"}) == "of a processor"


def test_code_is_what_auto_map_names_and_what_lies_there(tmp_path: Path) -> None:
    model(tmp_path)
    mapped = {"AutoConfig": "configuration_own.OwnConfig", "AutoTokenizer": ["tokenization_own.Own", None]}
    write(tmp_path / "config.json", {**CONFIG, "auto_map": mapped})
    write(tmp_path / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": "owner/repo--tokenization_own.Own"}})
    write(tmp_path / "modeling_own.py", "")
    write(tmp_path / "custom_generate" / "generate.py", "")
    found = read_directory(tmp_path)
    assert found.code == ("modeling_own.py", "custom_generate/generate.py")
    assert found.remote == (
        "configuration_own.OwnConfig",
        "tokenization_own.Own",
        "owner/repo--tokenization_own.Own",
    )


def test_the_links_of_a_hugging_face_cache_do_not_lead_out_of_it(tmp_path: Path) -> None:
    home = tmp_path / "models--Qwen--Qwen2.5-7B-Instruct"
    blobs = model(home / "blobs")
    snapshot = home / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    elsewhere = write(tmp_path / "elsewhere.json", {})
    (snapshot / "generation_config.json").symlink_to(elsewhere)
    found = read_directory(snapshot)
    assert found.links_out == {"generation_config.json": elsewhere.resolve()}
    assert states(found) == {"model.safetensors": "whole"}


def test_a_7b_directory_is_read_in_30_ms(tmp_path: Path) -> None:
    """Four shards of 340 tensors with a 7 MB tokenizer.json; the best of five, on a machine that others use too."""
    write(tmp_path / "config.json", CONFIG)
    listed = {}
    for shard in range(4):
        name = f"model-0000{shard + 1}-of-00004.safetensors"
        tensors = {f"model.layers.{shard * 8 + n // 12}.mlp.m{n % 12}.weight": (18944, 3584) for n in range(85)}
        safetensors(tmp_path / name, tensors)
        listed |= dict.fromkeys(tensors, name)
    write(tmp_path / "model.safetensors.index.json", {"weight_map": listed})
    write(tmp_path / "tokenizer.json", {"added_tokens": [], "model": {"vocab": "x" * 7_000_000}})
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        found = read_directory(tmp_path)
        seconds.append(time.perf_counter() - start)
    assert (len(found.tensors), found.whole, len(found.modules)) == (340, True, 12)
    assert min(seconds) < 0.03, seconds


INFINITE = '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, Infinity]}}'


@pytest.mark.parametrize(
    "header", ["[1]", '{"a": 5}', '{"a": {"shape": null}}', INFINITE, "[" * 100_000], ids=lambda header: header[:20]
)
def test_a_header_that_is_no_table_of_tensors_is_a_cut_file(tmp_path: Path, header: str) -> None:
    model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(16))
    assert states(read_directory(tmp_path)) == {"model.safetensors": "cut"}


@pytest.mark.parametrize("name", ["a\x00b.safetensors", "a" * 300 + ".safetensors"], ids=["null byte", "too long"])
def test_an_index_of_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": name}})
    assert states(read_directory(tmp_path)) == {name: "missing"}


def test_a_link_to_itself_is_no_link_to_another_place(tmp_path: Path) -> None:
    model(tmp_path)
    (tmp_path / "vocab.json").symlink_to("vocab.json")
    found = read_directory(tmp_path)
    assert found.links_out == {}
    assert found.tokenizer.damaged == {"vocab.json": "cannot be read: Too many levels of symbolic links"}


@pytest.mark.parametrize(
    "config",
    [
        {"added_tokens_decoder": {"\N{SUPERSCRIPT TWO}": {"content": "x"}, "9" * 5000: {"content": "x"}, "1": 5}},
        {"chat_template": [{"name": [], "template": 5}, 7]},
        {"chat_template": {"default": "x"}, "eos_token": {"content": 5}, "tokenizer_class": []},
    ],
    ids=["ids that are no numbers", "templates without names", "values of other types"],
)
def test_a_tokenizer_config_of_odd_values_is_read_all_the_same(tmp_path: Path, config: dict[str, Any]) -> None:
    write(model(tmp_path) / "tokenizer_config.json", config)
    found = read_directory(tmp_path).tokenizer
    assert (found.added, found.chat_template, found.token("eos_token")) == ({"<|im_end|>": 15}, "", None)


@pytest.mark.parametrize(
    "text", ['{"added_tokens": [{"id": Infinity, "content": "x"}]}', '{"added_tokens": ' + "[" * 50_000 + "}"],
    ids=["an endless id", "deeper than can be read"],
)  # fmt: skip
def test_a_tokenizer_whose_tokens_cannot_be_read_has_none(tmp_path: Path, text: str) -> None:
    write(model(tmp_path) / "tokenizer.json", text)
    assert read_directory(tmp_path).tokenizer.added == {}
