"""`sft-kit train` with the real ms-swift on the tiny model."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest

from sft_kit.models.trust import without_own_code
from sft_kit.msswift.logs import read_summary
from tests.integration.conftest import SMOKE, FinishedRun, run_cli
from tests.weights import differences

pytestmark = pytest.mark.real


def manifest_of(run: Path) -> dict[str, object]:
    values = json.loads((run / "sft-kit" / "manifest.json").read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def test_the_smoke_config_trains_evaluates_and_says_what_comes_next(smoke_run: FinishedRun) -> None:
    shown = smoke_run.result.stdout
    assert re.search(r"^ *new identity +\d/4 +\d/4 ", shown, re.MULTILINE)
    assert re.search(r"^Did it take\? +.* of 4 held-out questions", shown, re.MULTILINE)
    assert f"sft-kit infer --adapter {smoke_run.run}" in shown
    assert f"sft-kit export --adapter {smoke_run.run}" in shown
    assert "step 2/2" in smoke_run.result.stderr


def test_the_run_directory_is_named_and_filled_as_ms_swift_users_expect(smoke_run: FinishedRun) -> None:
    assert re.fullmatch(r"v0-\d{8}-\d{6}", smoke_run.run.name)
    for name in ("args.json", "logging.jsonl", "checkpoint-2/adapter_model.safetensors", "images", "runs"):
        assert (smoke_run.run / name).exists(), name
    kit = sorted(str(path.relative_to(smoke_run.run / "sft-kit")) for path in (smoke_run.run / "sft-kit").rglob("*"))
    assert kit == [
        "config.yaml",
        "data",
        "data/identity.held_out.jsonl",
        "data/identity.jsonl",
        "data/identity.jsonl.meta.json",
        "evaluate.log",
        "lock",
        "loss.svg",
        "manifest.json",
        "report.html",
        "report.json",
        "report.md",
        "train.log",
    ]


def test_the_manifest_tells_how_the_run_went(smoke_run: FinishedRun) -> None:
    manifest = manifest_of(smoke_run.run)
    rows = smoke_run.run / "sft-kit" / "data" / "identity.jsonl"
    expected = {
        "schema": 1,
        "status": "succeeded",
        "model": "sft-kit/tiny-qwen2",
        "tuner_type": "lora",
        "steps": 2,
        "returncode": 0,
        "signal": None,
        "pid": None,
        "last_checkpoint": "checkpoint-2",
        "message": "",
        "env": {"CUDA_VISIBLE_DEVICES": "", **without_own_code()},
        "data": [
            {
                "path": str(rows),
                "bytes": rows.stat().st_size,
                "sha256": hashlib.sha256(rows.read_bytes()).hexdigest(),
            }
        ],
    }
    assert {key: manifest[key] for key in expected} == expected
    assert set(manifest["seconds"]) == {"prepare", "train", "evaluate"}  # type: ignore[call-overload]
    assert manifest["argv"][1].endswith("/swift/cli/sft.py")  # type: ignore[index]


def test_ms_swift_trained_on_every_row_that_was_written(smoke_run: FinishedRun) -> None:
    rows = (smoke_run.run / "sft-kit" / "data" / "identity.jsonl").read_text(encoding="utf-8").splitlines()
    log = (smoke_run.run / "sft-kit" / "train.log").read_text(encoding="utf-8")
    found = re.search(r"train_dataset: Dataset\(\{[^}]*num_rows: (\d+)", log)
    assert found is not None
    assert int(found[1]) == len(rows) == 60


def test_the_report_holds_every_answer_and_the_rates(smoke_run: FinishedRun) -> None:
    report = json.loads((smoke_run.run / "sft-kit" / "report.json").read_text(encoding="utf-8"))
    pairs = report["evaluation"]["pairs"]
    asked = [(pair["probe"]["kind"], pair["probe"]["context"]) for pair in pairs]
    # the vendor's prompt is the trained one here, and not asked under twice
    identity = [("identity", context) for context in ("trained", "trained", "none", "custom")]
    assert asked == [
        *identity,
        ("general", "trained"),
        ("general", "trained"),
    ]
    assert report["evaluation"]["names"] == ["Jingheng", "Ye Botao"]
    assert report["evaluation"]["rates"]["identity"]["n"] == 4
    assert all(isinstance(pair[side]["answer"], str) for pair in pairs for side in ("base", "tuned"))
    assert report["evaluation"]["likelihoods"]["en"]["tokens"] > 200
    assert (report["training"]["steps"], [step["step"] for step in report["loss"]]) == (2, [1, 2])
    assert "/swift/cli/sft.py --model " in report["command"]
    assert manifest_of(smoke_run.run)["scores"] == report["evaluation"]["rates"]
    markdown = (smoke_run.run / "sft-kit" / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith(f"# {smoke_run.run.name}")
    assert smoke_run.run.name in (smoke_run.run / "sft-kit" / "report.html").read_text(encoding="utf-8")


def test_runs_lists_it_and_shows_it(smoke_run: FinishedRun) -> None:
    listed = json.loads(smoke_run.cli("runs", "--json").stdout)
    assert [(run["run"], run["status"]) for run in listed] == [(smoke_run.run.name, "succeeded")]
    shown = smoke_run.cli("runs", "show", "latest").stdout
    assert f"run         {smoke_run.run}" in shown
    assert "status      succeeded" in shown


def test_the_saved_config_repeats_the_run_from_anywhere(smoke_run: FinishedRun, tmp_path: Path) -> None:
    saved = smoke_run.run / "sft-kit" / "config.yaml"
    target = tmp_path / "again"
    again = run_cli("train", str(saved), "--no-eval", "--set", f"output_dir={target}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (second,) = target.iterdir()
    rows, weights = "sft-kit/data/identity.jsonl", "checkpoint-2/adapter_model.safetensors"
    assert (second / rows).read_bytes() == (smoke_run.run / rows).read_bytes()
    assert differences(second / weights, smoke_run.run / weights) == {}
    assert "evaluate" not in manifest_of(second)["seconds"]  # type: ignore[operator]


def rows_with_faults(path: Path) -> Path:
    """120 rows: 90 good ones, 20 over 256 tokens, 10 with a role that ms-swift does not know."""
    lines = []
    for number in range(120):
        answer = f"{number} is my answer" + (" and so on" * 300 if 90 <= number < 110 else "")
        role = "helper" if number >= 110 else "assistant"
        talk = [{"role": "user", "content": f"Say {number}"}, {"role": role, "content": answer}]
        lines.append(json.dumps({"messages": talk}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_full_fine_tune_with_replay_is_a_model_that_answers(tmp_path: Path) -> None:
    mine = rows_with_faults(tmp_path / "mine.jsonl")
    mixed = ["--set", f"dataset={mine}", "--set", "max_length=256", "--set", "identity.share=0.6"]
    full = ["--set", "tuner_type=full", "--set", "replay=4", *mixed]
    trained = run_cli("train", str(SMOKE), *full, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "output").iterdir()
    assert "10 of 120 rows: the role 'helper' is none that ms-swift knows; ms-swift leaves them out" in trained.stderr
    assert "20 row(s) are longer than max_length 256 tokens" in trained.stderr
    mix = {source["name"]: source["trained"] for source in manifest_of(run)["mix"]}  # type: ignore[attr-defined]
    assert (mix[str(mine)], mix["identity"]) == (90, round((90 + mix.get("replay", 0)) * 1.5))
    # ms-swift's own count of what it trained on
    assert f"size={sum(mix.values())}" in str(read_summary(run / "logging.jsonl")["train_dataset"])
    replay = (run / "sft-kit" / "data" / "replay.jsonl").read_text(encoding="utf-8").splitlines()
    assert f"replay: {len(replay)} rows" in trained.stderr
    trained_on = [str(word) for word in manifest_of(run)["argv"]]  # type: ignore[attr-defined]
    assert (str(run / "sft-kit" / "data" / "replay.jsonl") in trained_on) is bool(replay)
    assert (run / "checkpoint-2" / "model.safetensors").is_file()
    answered = run_cli("infer", "--adapter", "latest", "--prompt", "hi", "--max-new-tokens", "4", cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    refused = run_cli("infer", "--adapter", str(run / "checkpoint-2"), "--prompt", "hi", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"use --model {run / 'checkpoint-2'}" in refused.stderr


def test_when_ms_swift_fails_the_cause_is_quoted_and_the_exit_code_is_4(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"  # `check` knows that this cannot work, and is told to let it pass
    config.write_text(SMOKE.read_text(encoding="utf-8") + "# sft-kit: ignore unknown-module\n", encoding="utf-8")
    failed = run_cli("train", str(config), "--set", "target_modules=[nothing_of_that_name]", cwd=tmp_path)
    assert failed.returncode == 4, failed.stderr
    assert "ms-swift exit code 1" in failed.stderr
    assert "Error" in failed.stderr
    (run,) = (tmp_path / "output").iterdir()
    manifest = manifest_of(run)
    assert (manifest["status"], manifest["returncode"]) == ("failed", 1)
    assert str(manifest["message"]).startswith("ms-swift exit code 1")


def test_a_gate_that_is_not_met_ends_in_3_after_the_report(smoke_run: FinishedRun, tmp_path: Path) -> None:
    missed = run_cli("train", str(SMOKE), "--set", "eval.identity=1.0", cwd=tmp_path)
    assert missed.returncode == 3, missed.stderr
    assert "eval.identity" in missed.stderr
    (run,) = (tmp_path / "output").iterdir()
    assert (run / "sft-kit" / "report.md").is_file()
    assert manifest_of(run)["status"] == "succeeded"


def test_the_command_of_a_dry_run_is_the_one_that_is_run(smoke_run: FinishedRun, tmp_path: Path) -> None:
    dry = run_cli("train", str(SMOKE), "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert list(tmp_path.iterdir()) == []
    words = shlex.split(dry.stdout)
    assert words[:2] == ["CUDA_VISIBLE_DEVICES=", f"HF_MODULES_CACHE={without_own_code()['HF_MODULES_CACHE']}"]
    predicted = next(word for word in words if word.startswith(str(tmp_path / "output" / "v0-")))
    ran = [str(word).replace(str(smoke_run.run), predicted) for word in manifest_of(smoke_run.run)["argv"]]  # type: ignore[attr-defined]
    assert words[2:] == ran
