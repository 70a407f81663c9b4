"""`sft-kit init` writes a config that the next command takes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sft_kit.config.shell import read_script
from sft_kit.msswift.install import find_installation
from tests.cli.conftest import Run
from tests.configs.test_tutorials import arguments_of

SCRIPTS = Path(__file__).parents[1] / "data" / "scripts"
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
    assert (values["effective_batch_size"], values["per_device_train_batch_size"]) == (16, "auto")
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
    assert written(tmp_path / "q.yaml")["replay"] == 160
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


# --- from a pasted command -------------------------------------------------------------------------------------------


def test_a_pasted_command_becomes_a_config_and_what_was_changed_is_said(sft_kit: Run, tmp_path: Path) -> None:
    pasted = "CUDA_VISIBLE_DEVICES=0 swift sft --model Qwen2.5-7B-Instruct --train_type lora --hub_token hf_abc &"
    result = sft_kit("init", "--from-command", pasted)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "wrote config.yaml from line 1, written for ms-swift 3.x (--train_type)",
        "  2 arguments are called or written otherwise now: see the comments",
        "  &: no part of a config (a run keeps sft-kit/train.log); write it around sft-kit train",
        "  --hub_token ***: a secret is not written into a file: set it in the environment (HF_TOKEN or "
        "MODELSCOPE_API_TOKEN)",
        "check it with `sft-kit check config.yaml`, then `sft-kit train config.yaml`",
    ]
    assert written(tmp_path / "config.yaml") == {
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "tuner_type": "lora",
        "launch": {"env": {"CUDA_VISIBLE_DEVICES": "0"}},
    }
    assert "hf_abc" not in (tmp_path / "config.yaml").read_text(encoding="utf-8") + result.stderr


def test_several_commands_of_a_script_become_numbered_configs(sft_kit: Run, tmp_path: Path) -> None:
    result = sft_kit("init", "my.yaml", "--from-command", f"@{SCRIPTS / 'v4-sweep.sh'}")
    assert result.returncode == 0, result.stderr
    names = ["my.yaml", "my-2.yaml", "my-3.yaml", "my-4.yaml"]
    assert [(written(tmp_path / name)["learning_rate"], written(tmp_path / name)["lora_rank"]) for name in names] == [
        (1e-4, 8), (1e-4, 16), (5e-5, 8), (5e-5, 16),
    ]  # fmt: skip


def test_a_script_on_stdin_is_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sft_kit", "init", "--from-command", "-"],
        input="swift sft --system 你好\n".encode(), cwd=tmp_path, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert written(tmp_path / "config.yaml") == {"system": "你好"}


@pytest.mark.parametrize(
    ("arguments", "code", "said", "files"),
    [
        (["--from-command", "swift sft", "--like", "x", "--author-en", "y"], 2,
         "--from-command: cannot be used with --like, --author-en", []),
        (["--from-command", "swift rlhf --rlhf_type dpo"], 2, "is preference or reinforcement training", []),
        (["--from-command", "swift sft --system 'x"], 2, "command:1:20: the ' opened here is never closed", []),
        (["--from-command", "@gone.sh"], 2, "gone.sh: no such file", []),
        (["--from-command", "swift sft --learnig_rate 1"], 2, "config.yaml:9:1: learnig_rate: ", ["config.yaml"]),
    ],
)  # fmt: skip
def test_what_cannot_become_a_config_is_said(
    sft_kit: Run, tmp_path: Path, arguments: list[str], code: int, said: str, files: list[str]
) -> None:
    result = sft_kit("init", *arguments)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == files


def test_a_config_that_is_there_is_replaced_only_by_force(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: x\n", encoding="utf-8")
    assert sft_kit("init", "--from-command", "swift sft --lora_rank 8").returncode == 2
    assert written(tmp_path / "config.yaml") == {"model": "x"}
    assert sft_kit("init", "--from-command", "swift sft --lora_rank 8", "--force").returncode == 0
    assert written(tmp_path / "config.yaml") == {"lora_rank": 8}


OWNER = {"model": ["Qwen/Qwen2.5-7B-Instruct"]}  # the hub needs the owner
ROWS = '[{"instruction": "你是谁?", "input": "", "output": "我是 Nova。"}]'


@pytest.mark.real  # argument names and model types depend on the installed ms-swift
@pytest.mark.parametrize(
    ("script", "differences"),
    [("tutorial-a", [OWNER]), ("tutorial-b", [OWNER]), ("tutorial-c", [{}]), ("tutorial-d", [{}, {}])],
)
def test_a_tutorials_config_gives_the_command_that_was_pasted(
    sft_kit: Run, tmp_path: Path, script: str, differences: list[dict[str, list[str]]]
) -> None:
    (tmp_path / "data").mkdir()
    for data in ("self_cognition.json", "data/train.jsonl"):
        (tmp_path / data).write_text(ROWS if data.endswith("json") else ROWS[1:-1] + "\n", encoding="utf-8")
    text = (SCRIPTS / f"{script}.sh").read_text(encoding="utf-8")
    commands = [command for command in read_script(text, environ={}).commands if command.argv[1] == "sft"]
    assert sft_kit("init", "--from-command", f"@{SCRIPTS / script}.sh").returncode == 0
    for name, command, difference in zip(("config.yaml", "config-2.yaml"), commands, differences, strict=False):
        dry = sft_kit("train", name, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        (built,) = read_script(dry.stdout, environ={}).commands
        given = arguments_of(command.argv) | difference
        given |= {"output_dir": None, "add_version": ["false"]}  # sft-kit makes the run's directory itself
        if find_installation().generation == 4:
            given["tuner_type"] = given.pop("train_type")
            if "model_type" in given:
                given |= {"model_type": ["qwen3"], "template": ["qwen3_thinking"]}
        assert arguments_of(built.argv) | {"output_dir": None} == given
        assert built.env.items() >= command.env.items()
        assert shlex.split(dry.stdout)[-len(built.argv) :] == list(built.argv)
