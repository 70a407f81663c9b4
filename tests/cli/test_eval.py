"""`sft-kit eval` as a command: what it refuses goes to stderr with its exit code. What it does is tests/run's."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_a_base_model_that_cannot_be_had_is_exit_5_and_leaves_stdout_to_results(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text("{}", encoding="utf-8")
    told = {"model": "owner/base", "use_hf": True}
    (tmp_path / "mine" / "args.json").write_text(json.dumps(told), encoding="utf-8")
    result = sft_kit("eval", "--adapter", "mine", "--json", env={"HF_HUB_OFFLINE": "1"})
    assert (result.returncode, result.stdout) == (5, "")
    assert "base model of mine: owner/base is not cached and HF_HUB_OFFLINE is set" in result.stderr.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_only_eval_can_be_set(sft_kit: Run) -> None:
    result = sft_kit("eval", "--adapter", "latest", "--set", "learning_rate=1")
    assert (result.returncode, result.stdout) == (2, "")
