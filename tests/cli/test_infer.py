"""The options of `infer` reach the process that answers; here that is a stand-in which says what it was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.stand_in import stand_in
from tests.models.test_cached import WEIGHTS

SAYS_WHAT_IT_WAS_ASKED = """
import json, sys
def main(argv):
    ready = dict(ready=True, seconds=0, model="m", model_type="qwen2", template="qwen2_5", system=None, adapters=[])
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "cancel" in request:
            continue
        number = request.pop("id")
        print(json.dumps(dict(id=number, delta=json.dumps(request))), flush=True)
        answer = dict(response="", prompt_tokens=1, completion_tokens=1, seconds=0, finish_reason="stop")
        print(json.dumps(dict(id=number, done=True, **answer)), flush=True)
    return 0
"""
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ([], {"messages": [USER], "max_new_tokens": 2048, "temperature": 0.0}),
        (
            ["--system", "Be kind.", "--temperature", "0.7", "--max-new-tokens", "5"],
            {"messages": [{"role": "system", "content": "Be kind."}, USER], "max_new_tokens": 5, "temperature": 0.7},
        ),
    ],
    ids=["none", "all"],
)
def test_system_temperature_and_length_are_those_of_the_question(
    sft_kit: Run, tmp_path: Path, arguments: list[str], request_: dict[str, Any]
) -> None:
    (tmp_path / "model").mkdir()
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model" / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model" / "model.safetensors").write_bytes(WEIGHTS)
    env = stand_in(tmp_path / "stand-in", "sft_kit.msswift.worker", SAYS_WHAT_IT_WAS_ASKED)

    done = sft_kit("infer", "--model", "model", "--prompt", "Hi", *arguments, env=env)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**request_, "stream": True, "base": False}
