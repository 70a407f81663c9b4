"""What a stranger's model, adapter or checkpoint may do here: nothing is run that it brings, unless the user says so.

Judges directories before ms-swift is started on them; the facts are `models.trust`'s. `refuse_traps` is for every
directory that is read, `vet` for one that is loaded. What ms-swift and its libraries really run and unpickle is in
docs/security.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sft_kit.errors import Problem, UsageError
from sft_kit.models.directory import WeightFile, points_outside, read_directory, weight_file
from sft_kit.models.trust import OwnCode, odd_entries, own_code
from sft_kit.msswift.checkpoints import plugins, read_json

FLAG = "--trust-remote-code"
_SAFE_TORCH = (2, 6)
"""From then on torch.load takes tensors only unless told otherwise; before, its `weights_only` could be got around
(CVE-2025-32434), which is why transformers refuses pickles there."""
_PEFTS_OWN = "megatron.core"


def refuse_traps(folder: Path) -> None:
    """Raise UsageError for what must not even be read, or makes ms-swift import Python files that it names."""
    refuse_odd(folder)
    named = plugins(folder)
    if named:
        message = f"its args.json makes ms-swift run {', '.join(named)}"
        fix = "read those files, then remove the key from args.json"
        raise UsageError(Problem(str(folder), message, fix, "plugins"))
    adapter = read_json(folder / "adapter_config.json")
    module = adapter.get("megatron_core", _PEFTS_OWN)
    if adapter.get("megatron_config") and module != _PEFTS_OWN:  # peft/tuners/lora/tp_layer.py imports it
        message = f"its adapter_config.json makes peft import the Python module {module!r}"
        raise UsageError(Problem(str(folder), message, "remove megatron_config from it", "plugins"))


def refuse_odd(folder: Path) -> None:
    """Raise UsageError for entries of `folder` that nobody should open."""
    fix = "remove it, and ask yourself who put it there"
    problems = [Problem(str(folder / name), what, fix, "odd-file") for name, what in odd_entries(folder)]
    if problems:
        raise UsageError(*problems)


def vet(folder: Path, *, trusted: bool, say: Callable[[str], None]) -> None:
    """Raise UsageError for a directory that must not be loaded: traps, weights elsewhere, code that is not trusted.

    With `trusted`, `say` is told which code will run.
    """
    refuse_traps(folder)
    directory = read_directory(folder)
    files = directory.weights
    if directory.is_adapter:
        files = tuple(weight_file(folder, name) for name in ("adapter_model.bin",) if name in directory.names)
    problems = [problem for file in files if (problem := _unfit(folder, file))]
    problems += [
        Problem(str(folder / name), why, "download or export it again", "broken-config")
        for name, why in directory.broken.items()
        if name.endswith(".index.json")
    ]
    if problems:
        raise UsageError(*problems)
    if not directory.is_adapter:  # nobody looks for code beside an adapter (ran with both generations)
        allow(own_code(directory), trusted=trusted, say=say)


def allow(code: OwnCode, *, trusted: bool, say: Callable[[str], None]) -> None:
    """Raise UsageError where a model brings code that the user does not trust; else tell `say` what will run."""
    if code and not trusted:
        fix = f"read it first; then {FLAG} shows what will run, and lets it"
        raise UsageError(Problem(str(code.path), f"would run its own code: {in_words(code)}", fix, "remote-code"))
    if code:
        for line in described(code):
            say(line)


def in_words(code: OwnCode) -> str:
    """The code in a few words."""
    from_hubs = [f"{name} (from the hub)" for name in code.elsewhere]
    return names_of([*code.files, *from_hubs] or list(code.classes))


def described(code: OwnCode) -> Iterator[str]:
    """What would run, a line each: file by file with its digest, the classes that are asked for, other repositories."""
    yield f"{FLAG}: this code of {code.path} runs with all your rights"
    for file in code.described():
        name = os.path.relpath(file.path, code.path)
        yield f"  {name}: {file.size:,} bytes, {file.lines:,} lines, sha256 {file.sha256}"
    if code.classes:
        yield f"  its auto_map asks for {', '.join(code.classes)}"
    for name in code.elsewhere:
        repository, _, wanted = name.partition("--")
        yield f"  {wanted} is fetched from {repository}, another repository of the hub: it is not shown here"


def is_old_torch(torch: str) -> bool:
    """Whether this version of torch can be made to run code by a file of weights."""
    numbers = torch.split(".")[:2]
    return all(each.isdigit() for each in numbers) and tuple(map(int, numbers)) < _SAFE_TORCH and bool(torch)


def _unfit(folder: Path, file: WeightFile) -> Problem | None:
    """Why a weight file must not be loaded. One that is cut or no weights at all is left to ms-swift, which says so."""
    place = str(folder / file.name)
    if points_outside(file.name):
        return Problem(place, "is named by the index and lies outside of the model", "do not use it", "broken-weights")
    if file.is_pickle and file.state == "whole" and is_old_torch(_installed_torch()):
        fix = "install torch 2.6 or newer, or convert them to safetensors"
        return Problem(place, "a pickle, and this torch can be made to run code by one", fix, "pickled-weights")
    return None


def _installed_torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def names_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
