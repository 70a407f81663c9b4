"""The quickstart's real chat model, shortened to two steps: what noise from a tiny model cannot show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import REPOSITORY, run_cli

pytestmark = pytest.mark.real

SHORT = ["max_steps=2", "replay=4", "identity.rows=40", "eval={questions: 2, general: 2, max_new_tokens: 24}"]


def test_the_base_model_answers_the_replay_rows_and_the_report_compares_real_answers(tmp_path: Path) -> None:
    overrides = [word for override in SHORT for word in ("--set", override)]
    result = run_cli("train", str(REPOSITORY / "configs" / "quickstart.yaml"), *overrides, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "output").iterdir()
    lines = (run / "sft-kit" / "data" / "replay.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["messages"] for line in lines]
    assert len(rows) >= 3
    for user, assistant in rows:
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert assistant["content"].split()
        assert assistant["content"][-1] in '.!?:"”)`'  # a full sentence, or an answer that ended by itself
    report = json.loads((run / "sft-kit" / "report.json").read_text(encoding="utf-8"))
    (tokyo,) = [pair for pair in report["evaluation"]["pairs"] if pair["probe"]["id"] == "en-fact-01"]
    assert (tokyo["base"]["correct"], "Tokyo" in tokyo["base"]["answer"]) == (True, True)
    assert "vendor" in report["evaluation"]["identity_by"]["context"]  # SmolLM2's own, of its chat template
    likelihood = report["evaluation"]["likelihoods"]["en"]
    assert 1.5 < likelihood["base"] < 4  # nats per token: a model of language, which two steps leave as it is
    assert abs(likelihood["tuned"] - likelihood["base"]) < 0.3
