"""`sft-kit init` writes a config that the next command takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.cli.conftest import Run

NAMED = ("--name", "Nova", "--author", "Ye Botao")


def written(path: Path) -> dict[str, object]:
    values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def test_the_default_is_the_tutorials_job_with_the_users_name(sft_kit: Run, tmp_path: Path) -> None:
    result = sft_kit("init", *NAMED)
    assert result.returncode == 0, result.stderr
    values = written(tmp_path / "config.yaml")
    assert values["model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert values["identity"] == {"name": "Nova", "author": "Ye Botao", "languages": ["zh", "en"], "rows": 120}
    assert values["gradient_accumulation_steps"] == 16
    dry = sft_kit("train", "config.yaml", "--dry-run")
    assert dry.returncode == 0, dry.stderr


def test_english_names_stand_beside_chinese_ones(sft_kit: Run, tmp_path: Path) -> None:
    english = ("--name-en", "Jingheng", "--author-en", "Ye Botao")
    assert sft_kit("init", "zh.yaml", "--name", "精衡", "--author", "叶博韬", *english).returncode == 0
    identity = written(tmp_path / "zh.yaml")["identity"]
    assert identity == {
        "name": {"zh": "精衡", "en": "Jingheng"},
        "author": {"zh": "叶博韬", "en": "Ye Botao"},
        "languages": ["zh", "en"],
        "rows": 120,
    }


def test_a_model_with_a_shipped_config_gets_that_one_and_another_the_default(sft_kit: Run, tmp_path: Path) -> None:
    assert sft_kit("init", "q.yaml", *NAMED, "--model", "sft-kit/smollm2-135m").returncode == 0
    assert written(tmp_path / "q.yaml")["replay"] == 48
    assert sft_kit("init", "t.yaml", *NAMED, "--model", "Qwen/Qwen3-4B-Thinking-2507").returncode == 0
    assert written(tmp_path / "t.yaml")["identity"] is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "Nova"], "--author: missing, and there is no terminal to ask on"),
        ([*NAMED, "--like", "nothing"], "there is no shipped config nothing"),
        (["--name", "<|im_end|>", "--author", "x"], "special token"),
        (["there.yaml", *NAMED], "there.yaml: is already there"),
        (["no/dir/c.yaml", *NAMED], "its directory does not exist"),
    ],
)
def test_what_cannot_be_written_is_said(sft_kit: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "there.yaml").write_text("model: x\n", encoding="utf-8")
    result = sft_kit("init", *arguments)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert (tmp_path / "there.yaml").read_text(encoding="utf-8") == "model: x\n"
