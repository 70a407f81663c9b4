"""The pitfall corpus: one folder for each way in which a run fails or trains something wrong, and what `check` says.

A folder holds `pitfall.yaml` (the fields of `Pitfall`), the `config.yaml` that people write, and its data; it is
copied to an empty directory beside `mine.jsonl`, 60 good rows that every pitfall may train on, and the model of
`model:` is laid out there as `model/`. Owns the reading and that lay-out. Does not own the judging (test_pitfalls)
nor the timing (scripts/bench/pitfalls.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from sft_kit.models.catalog import resolve_own_model
from sft_kit.msswift.install import Generation
from tests.pitfalls.packages import CUDA_TORCH
from tests.pitfalls.packages import install as stand_in
from tests.plan.fake_nvidia_smi import A10, A100, RTX4090, RTX5090, T4, V100, App, install

CORPUS = Path(__file__).resolve().parent
ROWS = CORPUS / "mine.jsonl"
Group = Literal["config", "data", "hub", "model", "machine", "security", "memory"]
GROUPS: tuple[Group, ...] = get_args(Group)

GPUS = {
    "none": ([], []),
    "rtx4090": ([RTX4090], []),
    "rtx4090-x2": ([RTX4090, RTX4090], []),
    "rtx4090-x4": ([RTX4090] * 4, []),
    "rtx4090-half": ([RTX4090], [App(0, 4242, "/usr/bin/python3", 11000)]),
    "rtx4090-busy": ([RTX4090], [App(0, 4242, "/usr/bin/python3", 21000)]),
    "rtx4090-old-driver": ([replace(RTX4090, driver="450.80.02")], []),
    "rtx5090": ([RTX5090], []),
    "a10": ([A10], []),
    "a100": ([A100], []),
    "a100-x4": ([A100] * 4, []),
    "a100-x8": ([A100] * 8, []),
    "t4": ([T4], []),
    "v100": ([V100], []),
}
"""What a machine's nvidia-smi answers, by the word in `gpu:`."""

# Whoever runs this may have these set; a pitfall sees only what it sets itself.
_NOT_INHERITED = (
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "MASTER_ADDR", "MASTER_PORT", "MODELSCOPE_API_TOKEN", "MODELSCOPE_CACHE",
    "MODELSCOPE_DOMAIN", "NNODES", "NODE_RANK", "NPROC_PER_NODE", "OMP_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "USE_HF", "WANDB_API_KEY", "SWANLAB_API_KEY",
    "LD_LIBRARY_PATH", "PYTHONPATH", "XDG_CACHE_HOME",
)  # fmt: skip


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 200 files: a second without libyaml


@dataclass(frozen=True)
class Model:
    """`model/` beside the config: one of sft-kit's tiny models, changed.

    `config` are keys put into its config.json (None takes one out); `remove` files that go; `cut` files of which only
    so many bytes stay; `add` files with their text, or with a mapping or list that becomes JSON.
    """

    origin: str
    config: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    cut: Mapping[str, int] = field(default_factory=dict)
    add: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pitfall:
    """One folder. `expected` are the codes of the errors and warnings that `check` gives, sorted, each as often as it
    is given; `swift` says whether plain `swift sft` can be run on it here, `instead` what it does. `packages` are
    versions that seem to be installed, `disk_gib` the room that seems to be free; `argument` is what `check` gets.
    `expected_3` and `exit_3` are what ms-swift 3 is told where that is not what ms-swift 4 is."""

    slug: str
    title_en: str
    title_zh: str
    source: str
    group: str
    expected: tuple[str, ...]
    exit: int
    swift: bool
    instead: str
    argument: str = "config.yaml"
    overrides: tuple[str, ...] = ()
    environ: Mapping[str, str | None] = field(default_factory=dict)
    gpu: str = "none"
    packages: Mapping[str, str] = field(default_factory=dict)
    disk_gib: float = 2000
    model: Model | None = None
    expected_3: tuple[str, ...] | None = None
    exit_3: int | None = None

    @property
    def folder(self) -> Path:
        return CORPUS / self.slug

    def answer(self, generation: Generation) -> tuple[int, list[str]]:
        """The exit code, and the codes of errors and warnings, where that generation of ms-swift is installed."""
        of_3 = generation == 3
        code = self.exit_3 if of_3 and self.exit_3 is not None else self.exit
        return code, list(self.expected_3 if of_3 and self.expected_3 is not None else self.expected)


Check = Callable[[Pitfall], tuple[int, list[str]]]
"""The fixture `check`: the exit code of `sft-kit check`, and the codes of its errors and warnings, sorted."""


def read_corpus() -> list[Pitfall]:
    """Every pitfall, by group and slug."""
    found = [_read(path) for path in CORPUS.glob("*/pitfall.yaml")]
    return sorted(found, key=lambda pitfall: (GROUPS.index(pitfall.group), pitfall.slug))  # type: ignore[arg-type]


def lay_out(pitfall: Pitfall, folder: Path) -> dict[str, str]:
    """Copy the pitfall into `folder` (empty, of its own) and return the whole environment to check it in: that of this
    process, without what would change the answer, with the pitfall's GPUs, packages (PYTHONPATH) and variables."""
    shutil.copyfile(ROWS, folder / ROWS.name)
    shutil.copytree(pitfall.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pitfall.yaml"))
    if pitfall.model:
        _build(pitfall.model, folder / "model")
    return environment(pitfall, folder)


def environment(pitfall: Pitfall, folder: Path) -> dict[str, str]:
    """See `lay_out`. The fake nvidia-smi, the stubs of packages and empty caches of the hubs lie beside `folder`."""
    beside = folder.parent / f"{folder.name}-machine"
    cards, apps = GPUS[pitfall.gpu]
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environ |= {"MODELSCOPE_CACHE": str(beside / "modelscope"), "HF_HOME": str(beside / "huggingface")}
    environ["PATH"] = install(beside / "bin", cards, apps) + os.pathsep + environ.get("PATH", "")
    # a machine with a GPU has a torch for it; the one that the tests run with may be for the CPU
    packages = {**(CUDA_TORCH if cards else {}), **pitfall.packages}
    if packages:
        environ["PYTHONPATH"] = stand_in(beside / "site", packages)
    for name, value in pitfall.environ.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    return environ


def _read(path: Path) -> Pitfall:
    values = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # noqa: S506 (a safe one)
    title, model = values.pop("title"), values.pop("model", None)
    expected_3 = values.pop("expected_3", None)
    if model:
        origin = model.pop("from")
        model["remove"] = tuple(model.pop("remove", ()))
        model = Model(origin, **model)
    return Pitfall(
        slug=path.parent.name,
        title_en=title["en"],
        title_zh=title["zh"],
        expected=tuple(sorted(values.pop("expected"))),
        overrides=tuple(values.pop("set", ())),
        environ={name: None if value is None else str(value) for name, value in values.pop("environ", {}).items()},
        model=model,
        expected_3=None if expected_3 is None else tuple(sorted(expected_3)),
        **values,
    )


def _build(model: Model, folder: Path) -> None:
    """Hard links where the disk allows it; what is changed is written anew, never through a link."""
    source = resolve_own_model(f"sft-kit/{model.origin}", print).path
    folder.mkdir()
    for path in sorted(source.iterdir()):
        if path.name in model.remove or path.is_dir():
            continue
        target = folder / path.name
        if path.name in model.cut:
            target.write_bytes(path.read_bytes()[: model.cut[path.name]])
        elif path.name == "config.json" and model.config:
            config = {**json.loads(path.read_bytes()), **model.config}
            target.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8")
        else:
            _link(path, target)
    for name, content in model.add.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        target.write_text(text, encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
