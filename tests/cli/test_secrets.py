"""No command shows a secret: not the good ones, and not the errors about what holds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import VALID, Run

ENV = {
    "MODELSCOPE_API_TOKEN": "canary-modelscope-1",
    "OPENAI_API_KEY": "canary-openai-2",
    "HTTPS_PROXY": "http://me:canary-proxy-3@localhost:3128",
}
SECRETS = """\
use_hf: true
hub_token: canary-hub-4
swanlab_token: canary-swan-5
report_to: tensorboard
model_kwargs: {fps_api_key: canary-kwargs-6}
launch:
  gpus: 0
  env: {AWS_SECRET_ACCESS_KEY: canary-aws-7, ALL_PROXY: "http://me:canary-proxy-8@localhost:1"}
"""


@pytest.mark.parametrize("arguments", [("train", "--dry-run"), ("check", "--json"), ("check",)])
def test_a_command_that_works_shows_none(sft_kit: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.yaml").write_text(VALID + SECRETS, encoding="utf-8")
    command, *options = arguments
    result = sft_kit(command, "config.yaml", *options, env=ENV)
    assert result.returncode == 0, result.stderr
    assert "secret-in-config" in result.stderr + result.stdout
    assert "canary" not in result.stdout + result.stderr
    if "--dry-run" in options:
        assert "HF_TOKEN='***'" in result.stdout and "SWANLAB_API_KEY='***'" in result.stdout


def test_a_config_whose_secrets_are_wrong_is_refused_without_showing_them(sft_kit: Run, tmp_path: Path) -> None:
    wrong = {
        "hub_token": 1234567890123,
        "swanlab_token": ["canary-1"],
        "swanlab_secret": {"x": "canary-2"},
        "swanlab_webhook_url": True,
        "hub_tokn": "canary-3",
        "dataset": "https://me:canary-4@host/x.jsonl?token=canary-5",
        "model": "https://me:canary-6@host/x",
        "launch": {"env": {"HF_TOKEN": ["canary-7"]}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(wrong), encoding="utf-8")
    result = sft_kit("check", "config.yaml", env=ENV)
    assert result.returncode == 2
    shown = result.stdout + result.stderr
    assert "hub_tokn" in shown and "https://***@host/x" in shown
    assert "canary" not in shown and "1234567890123" not in shown


def test_overrides_that_cannot_be_applied_are_refused_without_showing_them(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(VALID + "hub_token: x\n", encoding="utf-8")
    wrong = ('hub_token="canary-1', "hub_token.x=canary-2", "hub_token: canary-3")
    result = sft_kit("check", "config.yaml", *(word for override in wrong for word in ("--set", override)))
    assert result.returncode == 2
    assert result.stdout.count("[bad-override]") == 3
    assert "canary" not in result.stdout + result.stderr
