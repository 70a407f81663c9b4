"""`sft-kit preview` as a command: what it refuses at once, and one real preview of directories without weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sft_kit.msswift.install import find_installation
from tests.cli.conftest import Run
from tests.msswift.chat_tokenizers import build

CONFIG = "model: {model}\ntemplate: qwen2_5\nmodel_type: qwen2\nmax_length: 60\n"
TOKEN = "hf_of-nobody"  # with which a login would fail
LINES = [
    {"messages": [{"role": "user", "content": "你是谁？"}, {"role": "assistant", "content": "我是精衡。"}]},
    {"messages": [{"role": "user", "content": "long"}, {"role": "assistant", "content": "long " * 200}]},
]


def write(folder: Path, config: str, **files: str) -> None:
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "arguments", "error"),
    [
        ("template: qwen2_5\ndataset: mine.jsonl\n", [], "there is no model to preview"),
        ("model: empty\n", [], "nothing to train on: no identity and no dataset"),
        ("model: empty\ndataset: owner/on-a-hub\n", [], "there are no rows to preview"),
        ("model: bare\ndataset: mien.jsonl\n", [], "config.yaml:2:1: dataset: mien.jsonl: no such file or folder"),
        ("model: bare\ndataset: mine.jsonl\ncolumns: 'x'\n", [], "config.yaml:3:1: columns: 'x' does not say"),
        ("model: bare\ndataset: mine.jsonl\n", ["--model", "adapter"], "adapter: is an adapter, not a full model"),
        ("model: nowhere/at/all\ndataset: mine.jsonl\n", [], "nowhere/at/all: no such directory"),
        ("model: bare\ndataset: mine.jsonl\n", [], "bare: has no tokenizer files"),
        ("model: bare\ndataset: mine.jsonl\n", ["--model", "empty"], "empty: has no config.json"),
        ("model: bare\ndataset: mine.jsonl\n", ["--model", "sft-kit/tiny"], "there is no sft-kit/tiny"),
        ("model: bare\nmodle: x\n", [], "modle"),
    ],
)
def test_what_cannot_be_previewed_is_said_before_ms_swift_is_started(
    sft_kit: Run, tmp_path: Path, config: str, arguments: list[str], error: str
) -> None:
    write(tmp_path, config, mine=json.dumps(LINES[0]) + "\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "bare" / "config.json").write_text("{}", encoding="utf-8")
    result = sft_kit("preview", "config.yaml", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert error in result.stderr


@pytest.fixture(scope="session")
def previewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two models without weights and one broken, in a folder with rows."""
    folder = tmp_path_factory.mktemp("preview")
    texts = [message["content"] for line in LINES for message in line["messages"]]
    build(folder / "first", "qwen2", texts)
    build(folder / "second", "qwen3", texts)
    build(folder / "broken", "qwen2", texts)
    (folder / "broken" / "tokenizer.json").write_text("{}", encoding="utf-8")
    rows = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES)
    own = f"dataset: [mine.jsonl, owner/on-a-hub]\nhub_token: {TOKEN}\n"
    write(folder, CONFIG.format(model="first") + own, mine=rows)
    words = ["preview", "config.yaml", "--json", "--rows", "1", "--model", "first", "--model", "broken"]
    done = subprocess.run([sys.executable, "-m", "sft_kit", *words], cwd=folder, capture_output=True, text=True)
    return folder, done


@pytest.mark.real
def test_a_preview_as_json_has_the_ids_and_the_labels_of_the_rows_shown(
    previewed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    values = json.loads(previewed[1].stdout)
    (model,) = values["models"]
    (row,) = model.pop("rows")
    tokens = model.pop("tokens")
    assert model.pop("model_type") == ("qwen2" if find_installation().generation == 4 else "qwen2_5")
    assert (values["schema"], model) == (1, {
        "model": "first", "template": "qwen2_5",
        "template_default": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "system": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "takes_system": True, "empty_thought": "", "max_length": 60, "truncation_strategy": "delete",
        "loss_scale": "default", "counted_rows": 2, "trained": 0.0, "failed": 0, "notes": [],
        "fates": {"kept": 0, "dropped": 2, "truncated": 0, "split": 0},
    })  # fmt: skip
    assert tokens[0] == row["length"] == len(row["input_ids"]) == len(row["labels"]) > 60
    assert (row["source"], row["place"], row["fate"]) == ("mine.jsonl", "line 1", "dropped")
    assert "".join(piece["text"] for piece in row["pieces"] if piece["trained"]) == "我是精衡。<|im_end|>\n"


@pytest.mark.real
def test_a_model_that_fails_is_told_after_the_others_with_its_log(
    previewed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    done = previewed[1]
    assert done.returncode == 4
    assert "warning: owner/on-a-hub: not on this machine, so its rows are not shown" in done.stderr
    assert "error: broken: ms-swift: " in done.stderr
    log = Path(done.stderr.strip().splitlines()[-1].removeprefix("  its whole output: "))
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert TOKEN not in done.stdout + done.stderr + log.read_text(encoding="utf-8")
    shutil.rmtree(log.parent)


@pytest.mark.real
def test_a_preview_leaves_nothing_behind(previewed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    names = {path.name for path in previewed[0].iterdir()}
    assert names == {"config.yaml", "mine.jsonl", "first", "second", "broken"}


def test_set_beats_the_file(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.yaml").write_text("model: elsewhere\nidentity: {name: Nova, author: Ye}\n", encoding="utf-8")

    result = sft_kit("preview", "config.yaml", "--set", "model=empty")

    assert (result.returncode, "empty: has no config.json" in result.stderr) == (2, True)
