"""What is not as it was when a run began: keys of its config, data files, packages, the number of processes.

Owns the comparison, and which differences can have no say in what comes out. Does not decide what follows from one
(`resume`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sft_kit.config.schema import RunConfig
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.command import processes_of
from sft_kit.msswift.dataset_syntax import parse_entry
from sft_kit.resources import user_path
from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.own_data import EDITED
from sft_kit.run.provenance import is_as_recorded, is_same_file, versions
from sft_kit.run.saved_config import portable

_OF_THE_PLACE = frozenset({"output_dir", "add_version"})
# What decides no weight: how many checkpoints are kept, what is done about trouble, what is asked afterwards (`eval`).
_OF_NO_WEIGHT = frozenset({"save_total_limit", "launch.on_nan", "launch.on_out_of_memory"})


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was. `what` is a dotted key, the path of a file, or a package; `moved`: data files
    lie elsewhere, with the same content."""

    of: Literal["config", "data", "package", "processes"]
    what: str
    before: str
    after: str
    moved: bool = False

    @property
    def of_evaluation(self) -> bool:
        """Whether it is only about what the trained model is asked."""
        return self.of == "config" and self.what.startswith("eval.")

    @property
    def of_training(self) -> bool:
        """Whether the trained model can be another one for it."""
        return not (self.moved or self.of_evaluation or (self.of == "config" and self.what in _OF_NO_WEIGHT))

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}{' (moved, same content)' if self.moved else ''}"


def changes_since(
    before: Manifest, run: RunDirectory, saved: RunConfig, given: RunConfig, checkpoint: Path | None
) -> tuple[Change, ...]:
    """All that differs from what the manifest `before`, the `saved` config and `checkpoint`, the one to go on from, say
    of `run`. Reads the data files through."""
    moves = _moves(before, saved, given)
    moved = {path for paths in moves.values() for path in paths}
    config = (replace(change, moved=change.what in moves) for change in _config_changes(saved, given))
    data = (change for change in _data_changes(before, run.data) if change.what not in moved)
    return (*config, *data, *_version_changes(before), *_process_changes(given, checkpoint))


def _config_changes(before: RunConfig, after: RunConfig) -> Iterator[Change]:
    """Each key that two configs give another value, by its dotted name, but for places and secrets."""
    old, new = (_flat(portable(config).model_dump(mode="json")) for config in (before, after))
    for key in dict.fromkeys((*old, *new)):
        if key not in _OF_THE_PLACE and old.get(key) != new.get(key):
            yield Change("config", key, _shown(old.get(key)), _shown(new.get(key)))


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "not given" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _data_changes(before: Manifest, own: Path) -> Iterator[Change]:
    """Each file that is not as recorded; those in the folder `own` are sft-kit's, and can be written anew."""
    for entry in before.data:
        if is_as_recorded(entry):
            continue
        path = Path(str(entry.get("path")))
        gone = not path.is_file()
        if own in path.parents:
            now = "gone; it is written anew" if gone else f"edited; it is written anew, yours is kept as *{EDITED}"
        else:
            now = "no longer there (if it was moved: --set dataset=PATH)" if gone else "another content"
        yield Change("data", str(path), f"sha256 {str(entry.get('sha256'))[:12]}", now)


def _moves(before: Manifest, saved: RunConfig, given: RunConfig) -> dict[str, list[str]]:
    """The keys of data whose every entry is what it was, or names a file that has the content which `before` records
    of the old one; with the recorded paths of those."""
    recorded = {str(entry.get("path")): entry for entry in before.data}

    def moved(old: str, new: str) -> str:
        a, b = parse_entry(old), parse_entry(new)
        was = str(user_path(a.name).absolute())
        same = replace(a, name="") == replace(b, name="")
        return was if same and was in recorded and is_same_file(recorded[was], user_path(b.name)) else ""

    found = {}
    for key in ("dataset", "val_dataset"):
        old, new = (list(getattr(portable(config), key) or []) for config in (saved, given))
        if old != new and len(old) == len(new):
            paths = {a: moved(a, b) for a, b in zip(old, new, strict=True) if a != b}
            if all(paths.values()):
                found[key] = list(paths.values())
    return found


def _version_changes(before: Manifest) -> Iterator[Change]:
    now = versions()
    for package, version in before.versions.items():
        if package != "sft-kit" and now.get(package) != version:
            yield Change("package", package, version, now.get(package, "not installed"))


def _process_changes(given: RunConfig, checkpoint: Path | None) -> Iterator[Change]:
    before = read_json(checkpoint / "args.json").get("global_world_size") if checkpoint else None
    now = processes_of({**os.environ, **given.launch.env}, given.launch.gpus)
    if isinstance(before, int) and before != now:
        yield Change("processes", "processes", str(before), str(now))
