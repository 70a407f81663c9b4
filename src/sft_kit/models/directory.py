"""What lies in a model directory: its config, its weight files and their tensors, its tokenizer, what could run code.

Reads JSON files and the headers of safetensors files only: never weights, never pickles, never what is no regular file
(a named pipe in place of one would be waited on for ever) or is larger than such a file can be. Judges nothing
(`checks.model`, `checks.trust`). A 7B model's directory takes some 10 ms.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from sft_kit.models.weights import DamagedWeights, Tensor, read_tensors
from sft_kit.resources import read_bounded

State = Literal["whole", "missing", "empty", "pointer", "cut"]
"""`pointer`: the few lines that Git LFS leaves in place of a file it did not fetch; `cut`: shorter than its header."""

_POINTER = b"version https://git-lfs"
_LEFTOVERS = (".incomplete", ".part", ".partial", ".aria2", ".crdownload", ".download", ".tmp")
CONFIGS = (
    "config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "image_processor_config.json", "generation_config.json",
)  # fmt: skip
"""Those that transformers looks for `auto_map` in."""
_TOKENIZERS = re.compile(
    r"(tokenizer\.(json|model)|vocab\.|merges\.txt|spiece|sentencepiece|tekken|.*\.(tiktoken|model)$)"
)
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_HEAD = 1 << 16
"""Bytes of tokenizer.json that are read: its added tokens stand before the vocabulary, which is megabytes long."""
LARGEST_CONFIG = 32 << 20
"""Bytes of a config that is read; the largest known, tokenizer_config.json with every added token, has 10 MB."""
LARGEST_INDEX = 256 << 20
MOST_SHARDS = 10_000


@dataclass(frozen=True)
class WeightFile:
    """One file that the model is loaded from. `size` in bytes; `damage` says what is wrong with a cut one.

    `tensors` by name, of a whole safetensors file; empty for a pickle, which nothing here opens.
    """

    name: str
    size: int
    state: State
    tensors: Mapping[str, Tensor]
    damage: str = ""

    @property
    def is_pickle(self) -> bool:
        return not self.name.endswith(".safetensors")


@dataclass(frozen=True)
class TokenizerFiles:
    """`config` is tokenizer_config.json; `files` hold the vocabulary; `damaged` are those that cannot be read, and why.

    `added` are the ids of the tokens beside the vocabulary, by text, where a file lists them near its beginning.
    """

    config: Mapping[str, Any]
    files: tuple[str, ...]
    damaged: Mapping[str, str]
    added: Mapping[str, int]
    chat_template: str

    @property
    def class_name(self) -> str:
        return str(self.config.get("tokenizer_class") or "")

    def token(self, key: str) -> str | None:
        """The text of a special token (`eos_token`), which is an object in older files."""
        value = self.config.get(key)
        if isinstance(value, Mapping):
            value = value.get("content")
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class ModelDirectory:
    """The files of one model on this machine; names are relative to `path`.

    `weights` are the files that transformers loads, there or not; none where it would find nothing to load. `broken`
    says why a JSON file cannot be read. `code` are the Python files, `remote` what `auto_map` names in them.
    """

    path: Path
    config: Mapping[str, Any]
    args: Mapping[str, Any]
    generation: Mapping[str, Any]
    weights: tuple[WeightFile, ...]
    not_in_files: tuple[str, ...]
    """Tensors that the index names and their file lacks."""
    tokenizer: TokenizerFiles
    broken: Mapping[str, str]
    names: tuple[str, ...]
    leftovers: tuple[str, ...]
    code: tuple[str, ...]
    remote: tuple[str, ...]
    links_out: Mapping[str, Path]

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor by name; empty for pickled weights."""
        return MappingProxyType({name: tensor for file in self.weights for name, tensor in file.tensors.items()})

    @cached_property
    def modules(self) -> frozenset[str]:
        """The last names of the modules with a two-dimensional weight (`q_proj`): what `target_modules` may name.

        Packed weights of a quantised model (`qweight`) count. Embeddings are among them, norms are not.
        """
        found = set()
        for name, tensor in self.tensors.items():
            owner, _, kind = name.rpartition(".")
            if owner and (kind == "qweight" or (kind == "weight" and len(tensor.shape) == 2)):
                found.add(owner.rpartition(".")[2])
        return frozenset(found)

    @property
    def whole(self) -> bool:
        """Whether every weight file is there in full."""
        return bool(self.weights) and all(file.state == "whole" for file in self.weights)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(file.size for file in self.weights)

    @cached_property
    def parameters(self) -> int:
        """Number of stored values; those of packed weights count as they are packed. 0 for pickles."""
        return sum(tensor.size for tensor in self.tensors.values())

    @cached_property
    def dtype(self) -> str | None:
        """The type of most of the values, as safetensors spells it (BF16)."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
        return max(sizes, key=lambda each: sizes[each]) if sizes else None

    @property
    def quantization(self) -> Mapping[str, Any]:
        """`quantization_config` of config.json (`quant_method` gptq, awq, bitsandbytes, fp8, ...); empty for none."""
        found = self.config.get("quantization_config")
        return found if isinstance(found, Mapping) else {}

    @property
    def is_adapter(self) -> bool:
        return "adapter_config.json" in self.names

    @property
    def gguf(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name.endswith(".gguf"))

    @property
    def is_chat(self) -> bool:
        """Whether it was made for conversations, as far as its files tell: it brings a chat template."""
        return bool(self.tokenizer.chat_template)


def read_directory(path: Path) -> ModelDirectory:
    """Look into `path`; what cannot be read is left out, and named in `broken`."""
    names = tuple(sorted(entry.name for entry in _entries(path)))
    broken: dict[str, str] = {}
    config = _json(path, "config.json", names, broken)
    tokenizer_config = _json(path, "tokenizer_config.json", names, broken)
    others = [_json(path, name, names, broken) for name in CONFIGS[2:]]
    weights, lacking = _weights(path, names, config, broken)
    return ModelDirectory(
        path=path,
        config=config,
        args=_json(path, "args.json", names, broken),
        generation=_json(path, "generation_config.json", names, broken),
        weights=weights,
        not_in_files=lacking,
        tokenizer=_tokenizer(path, names, tokenizer_config),
        broken=broken,
        names=names,
        leftovers=tuple(_leftovers(path, names)),
        code=tuple(_code(path, names)),
        remote=tuple(_remote((config, tokenizer_config, *others))),
        links_out=dict(_links_out(path, names)),
    )


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _json(path: Path, name: str, names: tuple[str, ...], broken: dict[str, str]) -> Mapping[str, Any]:
    if name not in names:
        return {}
    raw, why = read_regular(path / name, LARGEST_INDEX if name in _INDEXES else LARGEST_CONFIG)
    if why:
        broken[name] = why
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        broken[name] = _why_not_json(raw, error)
    else:
        if isinstance(value, dict):
            return value
        broken[name] = "is not a JSON object"
    return {}


def read_regular(file: Path, most: int) -> tuple[bytes, str]:
    """The content of a regular file of up to `most` bytes, or why it is not read."""
    try:
        what, size = kind_of_file(file), file.stat().st_size
        if what:
            return b"", f"is {what}, not a file"
        if size > most:
            return b"", f"has {size:,} bytes, more than such a file can have"
        return read_bounded(file, most), ""  # not what was put in its place meanwhile
    except FileNotFoundError:
        return b"", "is missing"
    except OSError as error:
        return b"", f"cannot be read: {error.strerror or error}"


def kind_of_file(file: Path) -> str:
    """What `file`, or the target of the link that it is, is in words; empty for a regular file. OSError for none."""
    mode = file.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def points_outside(name: str) -> bool:
    """Whether a file name that another file gives leads out of its own directory, or is none."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _why_not_json(raw: bytes, error: Exception) -> str:
    if not raw.strip():
        return "is empty"
    return "is a Git LFS pointer, not the file" if raw.startswith(_POINTER) else f"is not JSON: {error}"


# ---- weights ----


def _weights(
    path: Path, names: tuple[str, ...], config: Mapping[str, Any], broken: dict[str, str]
) -> tuple[tuple[WeightFile, ...], tuple[str, ...]]:
    """What transformers would load, in its order (modeling_utils.py's `_get_resolved_checkpoint_files`)."""
    named = config.get("transformers_weights")
    if isinstance(named, str) and named.endswith(".safetensors"):
        return (weight_file(path, named),), ()
    for single, index in (("model.safetensors", _INDEXES[0]), ("pytorch_model.bin", _INDEXES[1])):
        if single in names:
            return (weight_file(path, single),), ()
        if index in names:
            table = _json(path, index, names, broken).get("weight_map")
            listed = {str(k): str(v) for k, v in table.items()} if isinstance(table, dict) else {}
            if len(set(listed.values())) > MOST_SHARDS:
                broken[index] = f"names {len(set(listed.values())):,} weight files"
                return (), ()
            files = {name: weight_file(path, name) for name in sorted(set(listed.values()))}
            lacking = (
                tensor
                for tensor, name in listed.items()
                if files[name].state == "whole" and not files[name].is_pickle and tensor not in files[name].tensors
            )
            return tuple(files.values()), tuple(lacking)
    return (), ()


def weight_file(path: Path, name: str) -> WeightFile:
    """One weight file of the directory `path`, its header read and compared with its length."""
    file = path / name
    try:
        size = file.stat().st_size
        if points_outside(name):
            return WeightFile(name, size, "cut", {}, f"{name} lies outside of the directory")
        if what := kind_of_file(file):
            return WeightFile(name, 0, "cut", {}, f"{name} is {what}, not a file")
        with file.open("rb") as stream:
            start = stream.read(len(_POINTER))
    except (OSError, ValueError):  # ValueError: an index may name a file with a null byte
        return WeightFile(name, 0, "missing", {})
    if not size:
        return WeightFile(name, 0, "empty", {})
    if start == _POINTER:
        return WeightFile(name, size, "pointer", {})
    if not name.endswith(".safetensors"):
        return WeightFile(name, size, "whole", {})
    try:
        return WeightFile(name, size, "whole", read_tensors(file))
    except DamagedWeights as error:
        return WeightFile(name, size, "cut", {}, str(error))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return WeightFile(name, size, "cut", {}, f"{name} has no header of tensors")


def _leftovers(path: Path, names: tuple[str, ...]) -> Iterator[str]:
    """Files of a download that did not end: beside the others, or where the hubs' own clients keep them."""
    yield from (name for name in names if name.endswith(_LEFTOVERS))
    if "._____temp" in names:  # modelscope
        yield from (f"._____temp/{entry.name}" for entry in _entries(path / "._____temp"))
    if ".cache" in names:  # huggingface_hub, with local_dir
        below = Path(".cache/huggingface/download")
        yield from (str(below / e.name) for e in _entries(path / below) if e.name.endswith(".incomplete"))


# ---- tokenizer ----


def _tokenizer(path: Path, names: tuple[str, ...], config: Mapping[str, Any]) -> TokenizerFiles:
    files = tuple(name for name in names if _TOKENIZERS.match(name) and not name.endswith(_LEFTOVERS))
    damaged = {name: why for name in files if (why := _damage(path / name))}
    added = _added(config.get("added_tokens_decoder"))
    if not added and "tokenizer.json" in files and "tokenizer.json" not in damaged:
        added = _added_of_fast(path / "tokenizer.json")
    return TokenizerFiles(config, files, damaged, added, _chat_template(path, names, config))


def _damage(file: Path) -> str:
    """What is wrong with a file, from its ends alone; empty for nothing."""
    try:
        if what := kind_of_file(file):
            return f"is {what}, not a file"
        with file.open("rb") as stream:
            start = stream.read(64)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 64))
            end = stream.read()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if not size:
        return "is empty"
    if start.startswith(_POINTER):
        return "is a Git LFS pointer, not the file"
    if file.suffix == ".json" and not (start.lstrip().startswith(b"{") and end.rstrip().endswith((b"}", b"]"))):
        return "is cut off or not JSON"
    return ""


def _added(decoder: object) -> dict[str, int]:
    if not isinstance(decoder, dict):
        return {}
    return {
        str(each["content"]): int(number)
        for number, each in decoder.items()
        if isinstance(each, dict) and "content" in each and re.fullmatch("[0-9]{1,9}", str(number))
    }


def _added_of_fast(file: Path) -> dict[str, int]:
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return {}
    found = re.search(r'"added_tokens"\s*:\s*', head)
    if found is None:
        return {}
    try:
        listed, _ = json.JSONDecoder().raw_decode(head, found.end())
        return {str(each["content"]): int(each["id"]) for each in listed}
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return {}  # longer than what was read, or no list of tokens


def _chat_template(path: Path, names: tuple[str, ...], config: Mapping[str, Any]) -> str:
    """The model's own, empty for none; the default one of several."""
    if "chat_template.jinja" in names:
        raw, _ = read_regular(path / "chat_template.jinja", LARGEST_CONFIG)
        try:
            return raw.decode("utf-8")
        except ValueError:
            return ""
    value = config.get("chat_template") or _json(path, "chat_template.json", names, {}).get("chat_template")
    if isinstance(value, list):  # [{name: default, template: ...}, {name: tool_use, ...}]
        by_name = {str(each.get("name")): each.get("template") for each in value if isinstance(each, dict)}
        value = by_name.get("default") or next(iter(by_name.values()), None)
    return value if isinstance(value, str) else ""


# ---- what runs, and where files really are ----


def _code(path: Path, names: tuple[str, ...]) -> Iterator[str]:
    yield from (name for name in names if name.endswith(".py"))
    if "custom_generate" in names:  # transformers runs it when the model is loaded
        yield from (f"custom_generate/{e.name}" for e in _entries(path / "custom_generate") if e.name.endswith(".py"))


def _remote(configs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What `auto_map` names (`modeling_x.XForCausalLM`, or `owner/repo--...` on a hub), each once."""
    seen: dict[str, None] = {}
    waiting: list[object] = list(configs)  # those of a config's parts (text_config) count too
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Mapping):
            seen |= dict.fromkeys(_texts_in(part.get("auto_map")))
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    yield from seen


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(each)


def _links_out(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Links to files elsewhere. In Hugging Face's cache every file is one, to `blobs` beside `snapshots`."""
    home = Path(os.path.realpath(path))  # resolve() raises on a link to itself before Python 3.13
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for name in names:
        if (path / name).is_symlink():
            target = Path(os.path.realpath(path / name))
            if not any(target.is_relative_to(each) for each in homes):
                yield name, target
