"""A stranger's model, adapter or checkpoint, given to every command that reads one: refused before anything is loaded.

Each trap that holds code or a pickle would leave a canary behind; none may be there afterwards. That the canaries work,
and that what is let through runs nothing, is shown with real ms-swift at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sft_kit.run.check
import sft_kit.run.eval_command
import sft_kit.run.export
import sft_kit.run.preview
import sft_kit.run.serve
import sft_kit.run.talk
from sft_kit.checks.trust import allow
from sft_kit.errors import MsSwiftError, UsageError
from sft_kit.models.catalog import resolve_own_model
from sft_kit.models.trust import own_code_of, without_own_code
from sft_kit.msswift.install import find_installation
from sft_kit.run.chats import open_chat
from tests.hostile.contained import Outcome, run

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 8, "vocab_size": 16,
    "num_hidden_layers": 1, "max_position_embeddings": 512,
}  # fmt: skip
SHAPES = {"model.embed_tokens.weight": (16, 8), "model.layers.0.self_attn.q_proj.weight": (8, 8)}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
ROW = {"messages": [{"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong"}]}


@dataclass(frozen=True)
class World:
    """A folder with a model, an adapter of it, a checkpoint to resume, and rows; all of it is fine at first."""

    folder: Path

    @property
    def canary(self) -> Path:
        """What planted code makes."""
        return self.folder / "canary"

    @property
    def code(self) -> str:
        return f"open({str(self.canary)!r}, 'w').close()\n"

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def change(self, name: str, **values: Any) -> None:
        """Set keys of a JSON file."""
        file = self.folder / name
        there = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**there, **values}))

    def plant(self, name: str) -> None:
        """A pickle that makes the canary when it is loaded."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(pickle.dumps(_Boom(str(self.canary)), protocol=2))

    def cli(self, *words: str) -> Outcome:
        return run(words, self.folder, seconds=30)


class _Boom:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


def safetensors(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What sft-kit knows of ms-swift is read once, in this process, and not again in each fork."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SFT_KIT_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        first = build(tmp_path_factory.mktemp("first") / "world")
        sft_kit.run.check.check_run(first / "config.yaml")
        yield folder


@pytest.fixture
def world(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("SFT_KIT_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    return build(tmp_path / "world")


def build(folder: Path) -> World:
    """A world without traps."""
    world = World(folder)
    model, adapter = world / "model", world / "adapter"
    model.mkdir(parents=True)
    adapter.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "tokenizer.json").write_text('{"added_tokens": []}')
    chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat_template}))
    safetensors(model / "model.safetensors", SHAPES)
    (adapter / "adapter_config.json").write_text(json.dumps({**LORA, "base_model_name_or_path": str(model)}))
    (adapter / "args.json").write_text(json.dumps({"model": str(model), "template": "qwen2_5"}))
    (adapter / "trainer_state.json").write_text('{"global_step": 5, "max_steps": 9}')
    safetensors(
        adapter / "adapter_model.safetensors",
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (2, 8)},
    )
    (world / "rows.jsonl").write_text((json.dumps(ROW) + "\n") * 4)
    config(world)
    return world


def config(world: World, **keys: Any) -> None:
    values = {
        "model": str(world / "model"), "model_type": "qwen2", "template": "qwen2_5", "torch_dtype": "float32",
        "dataset": [str(world / "rows.jsonl")], "use_cpu": True, "launch": {"gpus": 0}, **keys,
    }  # fmt: skip
    (world / "config.yaml").write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()))


# ---- which commands read what ----

NAMED = ("--name", "Jingheng", "--author", "Ye Botao")
OF_A_MODEL: dict[str, Callable[[World], tuple[str, ...]]] = {
    "check": lambda world: ("check", "config.yaml"),
    "train": lambda world: ("train", "config.yaml", "--dry-run"),
    "preview": lambda world: ("preview", "config.yaml"),
    "infer": lambda world: ("infer", "--model", "model", "-p", "hi"),
    "eval": lambda world: ("eval", "--model", "model", "--base", "model", *NAMED),
    "export": lambda world: ("export", "--adapter", "model", "--out", "out"),
    "serve": lambda world: ("serve", "--model", "model", "--port", "0"),
    "infer the adapter": lambda world: ("infer", "--adapter", "adapter", "-p", "hi"),
    "eval the adapter": lambda world: ("eval", "--adapter", "adapter", *NAMED),
    "export the adapter": lambda world: ("export", "--adapter", "adapter", "--out", "out"),
    "serve the adapter": lambda world: ("serve", "--adapter", "adapter", "--port", "0"),
}
OF_AN_ADAPTER = {
    **{name: argv for name, argv in OF_A_MODEL.items() if name.endswith("the adapter")},
    "train on": lambda world: (config(world, adapters=[str(world / "adapter")]), ("check", "config.yaml"))[1],
}
OF_A_CHECKPOINT = {
    "resume": lambda world: (
        config(world, resume_from_checkpoint=str(world / "adapter")),
        ("check", "config.yaml"),
    )[1],
}


# ---- the traps ----

Plant = Callable[[World], object]


def code(world: World, name: str = "model/modeling_own.py") -> None:
    (world / name).parent.mkdir(exist_ok=True)
    (world / name).write_text(world.code)


def auto_map(file: str, **extra: Any) -> Plant:
    def plant(world: World) -> None:
        code(world)
        world.change(f"model/{file}", auto_map={"AutoModelForCausalLM": "modeling_own.Own"}, **extra)

    return plant


def named_pipe(name: str) -> Plant:
    def plant(world: World) -> None:
        (world / name).unlink(missing_ok=True)
        os.mkfifo(world / name)

    return plant


def listening(name: str) -> Plant:
    def plant(world: World) -> None:
        (world / name).unlink(missing_ok=True)
        there = os.open(world / name.partition("/")[0], os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as door:  # a socket's own path may be 108 bytes long
            door.bind(f"/proc/self/fd/{there}/{name.partition('/')[2]}")
        os.close(there)

    return plant


def link(name: str, target: str) -> Plant:
    def plant(world: World) -> None:
        (world / name).unlink(missing_ok=True)
        (world / name).symlink_to(target)

    return plant


def sparse(name: str, size: int) -> Plant:
    def plant(world: World) -> None:
        (world / name).touch()
        os.truncate(world / name, size)

    return plant


def index(shards: dict[str, str]) -> Plant:
    def plant(world: World) -> None:
        (world / "model/model.safetensors").unlink()
        (world / "model/model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))

    return plant


def shards(count: int) -> Plant:
    def plant(world: World) -> None:
        index({f"t{n}": f"model-{n}.safetensors" for n in range(count)})(world)

    return plant


def base(name: object, *, by_args: bool = True) -> Plant:
    def plant(world: World) -> None:
        if by_args:
            world.change("adapter/args.json", model=name)
        else:
            (world / "adapter/args.json").unlink()
            world.change("adapter/adapter_config.json", base_model_name_or_path=name)

    return plant


def plugin(file: str, key: str) -> Plant:
    def plant(world: World) -> None:
        code(world, "adapter/plugin.py")
        world.change(file, **{key: [str(world / "adapter/plugin.py")]})

    return plant


REMOTE, ODD, PLUGIN, BASE = (
    "own code",
    "ask yourself who put it there",
    "args.json makes ms-swift run",
    "its base model|base model of adapter",
)
MODEL_TRAPS: dict[str, tuple[Plant, str]] = {
    "auto_map of config.json": (auto_map("config.json"), REMOTE),
    "auto_map of the tokenizer": (auto_map("tokenizer_config.json"), REMOTE),
    "auto_map of the processor": (auto_map("preprocessor_config.json"), REMOTE),
    "auto_map of generation_config": (auto_map("generation_config.json"), REMOTE),
    "auto_map in a part of the config": (
        lambda world: world.change("model/config.json", text_config={"auto_map": {"AutoModel": "modeling_own.Own"}}),
        REMOTE,
    ),
    "auto_map to another repository": (
        lambda world: world.change("model/config.json", auto_map={"AutoModel": "evil/repo--modeling_own.Own"}),
        REMOTE,
    ),
    "code without auto_map": (code, REMOTE),
    "custom_generate": (lambda world: code(world, "model/custom_generate/generate.py"), REMOTE),
    "plugins in args.json": (plugin("model/args.json", "external_plugins"), PLUGIN),
    "registers in args.json": (plugin("model/args.json", "custom_register_path"), PLUGIN),
    "a pipe for config": (named_pipe("model/generation_config.json"), ODD),
    "a pipe for weights": (named_pipe("model/model.safetensors"), ODD),
    "a pipe for a tokenizer": (named_pipe("model/tokenizer.json"), ODD),
    "a socket": (listening("model/args.json"), ODD),
    "a device": (link("model/args.json", "/dev/zero"), ODD),
    "an endless device for config": (link("model/generation_config.json", "/dev/zero"), ODD),
    "config of 500 MB": (sparse("model/tokenizer_config.json", 500 << 20), "more than such a file can have"),
    "index of 1 TB": (sparse("model/model.safetensors.index.json", 1 << 40), "more than such a file can have"),
}
WEIGHT_TRAPS: dict[str, tuple[Plant, str]] = {
    "a shard above": (index({"a": "../world/model/tokenizer.json"}), "outside|lacks"),
    "a shard at the root": (index({"a": "/etc/passwd"}), "outside|lacks"),
    "a shard with a null byte": (index({"a": "model\0.safetensors"}), "lacks weights|outside"),
    "20,000 shards": (shards(20_000), "lacks weights|weight files"),
}
ADAPTER_TRAPS: dict[str, tuple[Plant, str]] = {
    "plugins": (plugin("adapter/args.json", "external_plugins"), PLUGIN),
    "registers": (plugin("adapter/args.json", "custom_register_path"), PLUGIN),
    "a module for peft": (
        lambda w: w.change("adapter/adapter_config.json", megatron_core="antigravity", megatron_config={"a": 1}),
        "makes peft import",
    ),
    "a pipe for args": (named_pipe("adapter/args.json"), ODD),
    "a pipe for weights": (named_pipe("adapter/adapter_model.safetensors"), ODD),
    "args of 1 TB": (sparse("adapter/args.json", 1 << 40), "more than such a file can have"),
    "args without an end": (link("adapter/args.json", "/dev/zero"), ODD),
}  # fmt: skip
LOADED_TRAPS: dict[str, tuple[Plant, str]] = {
    f"base {name!r}{'' if by_args else ' by peft'}": (base(name, by_args=by_args), BASE)
    for by_args in (True, False)
    for name in ("../..", "--help", "a/b\nc", "https://evil.example/model", "~/model", "../\0", ["x"], "/etc/passwd")
}
CHECKPOINT_TRAPS: dict[str, tuple[Plant, str]] = {
    "plugins": (plugin("adapter/args.json", "external_plugins"), PLUGIN),
    "DeepSpeed's states": (
        lambda world: world.plant("adapter/global_step5/mp_rank_00_model_states.pt"),
        "pickled-state",
    ),
    "FSDP's metadata": (lambda world: world.plant("adapter/optimizer_0/.metadata"), "pickled-state"),
    "a pipe": (named_pipe("adapter/adapter_model.safetensors"), "no complete checkpoint|named pipe"),
}


TABLES: tuple[tuple[dict[str, tuple[Plant, str]], dict[str, Callable[[World], tuple[str, ...]]]], ...] = (
    (MODEL_TRAPS, OF_A_MODEL),
    (WEIGHT_TRAPS, {name: argv for name, argv in OF_A_MODEL.items() if name != "preview"}),
    (ADAPTER_TRAPS, OF_AN_ADAPTER),
    (LOADED_TRAPS, {name: argv for name, argv in OF_AN_ADAPTER.items() if name != "train on"}),
    (CHECKPOINT_TRAPS, OF_A_CHECKPOINT),
)
OFTEN = {"auto_map of config.json"}


def cases(*, every: bool) -> Iterator[Any]:
    """Every trap with every command; else each with one of them in turn, and a model's own code with all."""
    for traps, commands in TABLES:
        for number, (trap, (plant, words)) in enumerate(traps.items()):
            tried = list(commands.items())
            if not every and trap not in OFTEN:
                tried = [tried[number % len(tried)]]
            for command, argv in tried:
                yield pytest.param(plant, argv, words, id=f"{trap}: {command}")


@pytest.mark.parametrize(("plant", "argv", "words"), list(cases(every="SFT_KIT_EVERY_TRAP" in os.environ)))
def test_a_trap_is_refused_and_nothing_of_it_runs(
    world: World, plant: Plant, argv: Callable[[World], tuple[str, ...]], words: str
) -> None:
    plant(world)
    outcome = world.cli(*argv(world))
    shown = outcome.out + outcome.err
    assert outcome.is_contained(2, 3), (outcome.code, shown[-2000:])
    assert any(word in shown for word in words.split("|")), shown[-2000:]
    assert not world.canary.exists()
    assert not (world / "out").exists()


def test_the_flag_shows_what_will_run_before_it_runs(world: World) -> None:
    auto_map("config.json")(world)
    code(world, "model/parts/deep.py")
    world.change("model/config.json", auto_map={"AutoModel": "modeling_own.Own", "AutoConfig": "other/repo--conf.C"})
    told: list[str] = []
    allow(own_code_of(world / "model"), trusted=True, say=told.append)
    digest, size = hashlib.sha256(world.code.encode()).hexdigest(), len(world.code)
    assert told == [
        f"--trust-remote-code: this code of {world / 'model'} runs with all your rights",
        f"  modeling_own.py: {size:,} bytes, 1 lines, sha256 {digest}",
        f"  parts/deep.py: {size:,} bytes, 1 lines, sha256 {digest}",
        "  its auto_map asks for modeling_own.Own",
        "  conf.C is fetched from other/repo, another repository of the hub: it is not shown here",
    ]


def test_training_is_contained_unless_the_flag_or_the_config_lets_code_run(world: World) -> None:
    contained = world.cli("train", "config.yaml", "--dry-run")
    assert contained.code == 0, contained.err
    assert "HF_MODULES_CACHE=" in contained.out
    auto_map("config.json")(world)
    by_flag = world.cli("train", "config.yaml", "--dry-run", "--trust-remote-code")
    with (world / "config.yaml").open("a") as file:
        file.write("\n# sft-kit: ignore remote-code\n")
    for let in (by_flag, world.cli("train", "config.yaml", "--dry-run")):
        assert let.code == 0, let.err
        assert "HF_MODULES_CACHE" not in let.out
        assert "modeling_own.py: " in let.err


def test_a_checkpoint_of_ones_own_may_hold_unlimited_pickles(world: World) -> None:
    world.plant("adapter/global_step5/mp_rank_00_model_states.pt")
    config(world, resume_from_checkpoint=str(world / "adapter"), output_dir=str(world.folder))
    assert "pickled-state" not in world.cli("check", "config.yaml").out


def test_a_link_out_of_a_checkpoint_is_not_published_with_it(world: World) -> None:
    link("model/notes.txt", "/etc/passwd")(world)
    with pytest.raises(UsageError, match=r"notes\.txt: is a link to /etc/passwd"):
        sft_kit.run.export._copy_model(world / "model", world / "out")
    assert not (world / "out").exists()


@pytest.mark.parametrize("name", ["../../x", "v3/../../..", "\0", "model/config.json", "adapter/../.."])
@pytest.mark.parametrize("command", [("infer", "--adapter"), ("export", "--adapter"), ("runs", "show")])
def test_a_name_with_tricks_means_no_run(world: World, command: tuple[str, ...], name: str) -> None:
    if "\0" not in name:  # no process can be given one
        assert world.cli(*command, name).is_contained(2)


@pytest.mark.real
def test_planted_code_runs_with_the_flag_only_and_planted_pickles_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary of the code is another one than that of the pickles, so that one load shows both."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    own = resolve_own_model("sft-kit/tiny-qwen2", print)
    world, boomed = World(tmp_path), tmp_path / "boomed"
    shutil.copytree(own.path, world / "model")
    for name in (".mdl", "training_args.bin", "tokenizer.pkl", "x.joblib", "x.npy"):
        (world / f"model/{name}").write_bytes(pickle.dumps(_Boom(str(boomed)), protocol=2))
    own_config = f"{world.code}from transformers import Qwen2Config\nclass Own(Qwen2Config): pass\n"
    (world / "model/own.py").write_text(own_config)
    world.change("model/config.json", auto_map={"AutoConfig": "own.Own"})
    types = {"model_type": own.model_type, "template": own.template}
    (world / "model/args.json").write_text(json.dumps(types))

    def infer(*flag: str) -> subprocess.CompletedProcess[str]:
        words = ("infer", "--model", "model", "-p", "hi", "--max-new-tokens", "2", *flag)
        return subprocess.run([sys.executable, "-m", "sft_kit", *words], cwd=tmp_path, capture_output=True, text=True)

    refused = infer()
    assert (refused.returncode, world.canary.exists()) == (2, False), refused.stderr
    assert "would run its own code: own.py" in refused.stderr

    values = {"model": str(world / "model"), **types}
    with (
        pytest.raises(MsSwiftError, match="nobody has let it run"),
        open_chat(find_installation(), values, log=tmp_path / "log", env=without_own_code()),
    ):
        pass
    assert not world.canary.exists()

    let = infer("--trust-remote-code")
    assert world.canary.exists(), let.stderr
    assert f"own.py: {len(own_config)} bytes, 3 lines" in let.stderr
    assert not boomed.exists()
