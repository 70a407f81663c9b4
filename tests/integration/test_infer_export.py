"""`infer` and `export` on what a real run left: adapter, run, latest, merged and base model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sft_kit.models.catalog import own_model_path
from sft_kit.msswift.chat_template import read_chat_template, with_default_system
from sft_kit.msswift.install import find_installation
from sft_kit.run.merged_weights import check_merge
from sft_kit.run.parity import compare_answers, conversations, trained_answers
from sft_kit.run.targets import resolve_adapter
from tests.integration.conftest import FinishedRun, run_cli

pytestmark = pytest.mark.real
SHORT = ("--max-new-tokens", "6")


def test_run_name_path_and_latest_mean_the_same_adapter_and_answer_alike(smoke_run: FinishedRun) -> None:
    output = smoke_run.workdir / "output"
    names = ["latest", smoke_run.run.name, "v0", str(smoke_run.run), str(smoke_run.run / "checkpoint-2")]
    assert {resolve_adapter(name, output).path for name in names} == {str(smoke_run.run / "checkpoint-2")}
    answers = [
        smoke_run.cli("infer", "--adapter", name, "-p", "Who are you?", *SHORT) for name in ("latest", names[-1])
    ]
    assert [answer.returncode for answer in answers] == [0, 0], answers[0].stderr
    assert answers[0].stdout == answers[1].stdout
    assert answers[0].stdout.strip()
    assert f"{smoke_run.run.name}/checkpoint-2" in answers[0].stderr


def test_lines_from_a_pipe_are_one_conversation(smoke_run: FinishedRun) -> None:
    lines = "hello\nbye\n/clear\nbye\n/exit\nnever asked\n"
    piped = smoke_run.cli("infer", "--adapter", "latest", *SHORT, stdin=lines)
    assert piped.returncode == 0, piped.stderr
    assert "forgotten" in piped.stderr
    first, with_history, after_clear = piped.stdout.splitlines()
    alone = smoke_run.cli("infer", "--adapter", "latest", *SHORT, "-p", "hello", "-p", "bye").stdout.splitlines()
    assert [first, after_clear] == alone
    assert with_history != after_clear  # the model saw the first turn too


def test_a_closed_stdin_is_said_at_once(smoke_run: FinishedRun) -> None:
    command = [sys.executable, "-m", "sft_kit", "infer", "--adapter", "latest"]
    closed = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *command],
        cwd=smoke_run.workdir,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert closed.returncode == 2
    assert "stdin is closed" in closed.stderr
    assert "--prompt" in closed.stderr


@pytest.fixture(scope="module")
def merged(smoke_run: FinishedRun) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The exported model of the finished run, and what exporting it said."""
    out = smoke_run.workdir / "merged"
    return out, smoke_run.cli("export", "--adapter", "latest", "--out", str(out), "--ollama")


def test_an_export_is_proven_packaged_and_never_overwritten(
    smoke_run: FinishedRun, merged: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    out, export = merged
    assert export.returncode == 0, export.stderr
    assert export.stdout.strip() == str(out)
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer_config.json", "README.md", "Modelfile"} <= names
    assert not {"training_args.bin", "optimizer.pt", "adapter_config.json"} & names
    assert "28 of them changed, all finite; compared with base and adapter" in export.stderr
    assert "parity: 60 of 60 answers equal (20 prompts)" in export.stderr
    assert "60 of 60 answers equal" in (out / "README.md").read_text(encoding="utf-8")
    assert str(smoke_run.workdir) not in (out / "args.json").read_text(encoding="utf-8")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir())
    again = smoke_run.cli("export", "--adapter", "latest", "--out", str(out))
    assert again.returncode == 2
    assert "is already there" in again.stderr
    assert sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir()) == before
    assert [path.name for path in smoke_run.workdir.iterdir() if path.name.startswith(".merged")] == []


def test_ms_swift_loads_an_exported_model_too(
    smoke_run: FinishedRun, merged: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    answered = smoke_run.cli("infer", "--model", str(merged[0]), "-p", "Who made you?", *SHORT)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()


def test_planted_faults_of_an_export_are_all_caught(
    smoke_run: FinishedRun, merged: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    adapter = smoke_run.run / "checkpoint-2"
    base = own_model_path("sft-kit/tiny-qwen2")
    right = load_file(merged[0] / "model.safetensors")
    first, second = (f"model.layers.{n}.self_attn.q_proj.weight" for n in (0, 1))

    def faulty(name: str, tensors: dict[str, np.ndarray] | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(merged[0], folder)
        if tensors:
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    # weights: no model is loaded for these
    assert check_merge(merged[0], base, adapter).faults == ()
    swapped = faulty("swapped", {**right, first: right[second], second: right[first]})
    assert [fault.split()[0] for fault in check_merge(swapped, base, adapter).faults] == [first, second]
    unmerged = faulty("unmerged")
    shutil.copy(base / "model.safetensors", unmerged / "model.safetensors")
    assert "nothing was merged" in check_merge(unmerged, base, adapter).faults[0]

    # answers: the adapter is loaded once, and each candidate
    installation, log, env = find_installation(), tmp_path / "log", {"CUDA_VISIBLE_DEVICES": ""}
    asked = conversations(["Who made you?", "What is 1 + 1?"], None, default_agrees=True)
    expected = trained_answers(installation, {"adapters": [str(adapter)]}, asked, log=log, env=env)
    parity = compare_answers(installation, unmerged, asked, expected, log=log, env=env)
    assert parity.different  # two steps of training are enough to be seen
    template = read_chat_template(faulty("template"))
    assert template is not None
    with_default_system(template, "You are someone else.").write()
    parity = compare_answers(installation, tmp_path / "template", asked, expected, log=log, env=env)
    assert [one.asked.context for one in parity.different if one.prompts] == ["none", "none"]
    assert "You are someone else." in str(parity.different[0])


def test_a_base_model_by_its_own_name_answers(tmp_path: Path) -> None:
    answered = run_cli("infer", "--model", "sft-kit/tiny-qwen2", "-p", "hi", *SHORT, cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()


def test_an_adapter_whose_weights_are_broken_is_ms_swifts_failure_with_its_cause(
    smoke_run: FinishedRun, tmp_path: Path
) -> None:
    broken = tmp_path / "checkpoint-9"
    broken.mkdir()
    before = sorted((smoke_run.run / "checkpoint-2").iterdir())
    assert all(path.is_file() for path in before)  # no earlier infer has left anything in the checkpoint
    for file in before:
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "adapter_model.safetensors").write_bytes(b"not weights")
    failed = smoke_run.cli("infer", "--adapter", str(broken), "-p", "hi")
    assert failed.returncode == 4
    assert "SafetensorError" in failed.stderr
