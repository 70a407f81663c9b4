"""Secrets in a config, and plugins. No value is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_kit.checks.tokens import plugins, secret_findings
from tests.checks.machine_facts import facts, machine, short

KEY = "hf_" + "QzWxEcRvTbYnUmIkOlPaSdFgHjKl3947"


@pytest.mark.parametrize(
    ("keys", "place", "variable"),
    [
        ({"hub_token": KEY}, "hub_token", "MODELSCOPE_API_TOKEN"),
        ({"swanlab_token": "x"}, "swanlab_token", "SWANLAB_API_KEY"),
        ({"launch": {"env": {"WANDB_API_KEY": "x"}}}, "launch.env.WANDB_API_KEY", "WANDB_API_KEY"),
        ({"launch": {"env": {"MY_SETTING": KEY}}}, "launch.env.MY_SETTING", "MY_SETTING"),
        ({"launch": {"env": {"HTTPS_PROXY": "http://me:pw@proxy.example"}}}, "launch.env.HTTPS_PROXY", "HTTPS_PROXY"),
        ({"run_name": f"try {KEY}"}, "run_name", "config"),
        ({"report_to": ["none", KEY]}, "report_to.1", "config"),
    ],
)
def test_a_secret_is_named_and_not_shown(keys: dict[str, Any], place: str, variable: str) -> None:
    found = list(secret_findings(facts(machine(), keys)))
    assert [(each.code, each.severity, each.place) for each in found] == [("secret-in-config", "warning", place)]
    assert variable in found[0].fix and KEY not in str(found)


def test_the_variable_follows_the_hub() -> None:
    (found,) = secret_findings(facts(machine(), {"hub_token": "x"}, hugging_face=True))
    assert "HF_TOKEN" in found.fix


def test_ordinary_values_are_no_secrets() -> None:
    keys = {
        "system": "You are a helpful assistant.", "output_dir": "output/qwen2.5-7b-instruct-lora-20260101-093000",
        "new_special_tokens": ["<a>"], "run_name": "3f2a9c41-run",
        "launch": {"env": {"USE_HF": "1", "HF_TOKEN": "", "HF_ENDPOINT": "https://mirror.example:8080/a@b"}},
        "dataset": ["AI-ModelScope/alpaca-gpt4-data-zh#500"], "target_modules": ["q_proj", "v_proj"],
    }  # fmt: skip
    assert list(secret_findings(facts(machine(), keys))) == []


def test_plugins_are_told_and_missing_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    keys = {"external_plugins": [str(tmp_path / "mine.py"), str(tmp_path / "gone.py")]}
    assert short(plugins(facts(machine(), keys))) == [
        ("runs-python", "note", "external_plugins.0"),
        ("no-such-path", "error", "external_plugins.1"),
    ]
