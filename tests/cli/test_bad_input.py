"""Every kind of bad input of the command line: the exit code, the place, the fix, and that nothing was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import VALID, Run


def config(tmp_path: Path, text: str) -> str:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    return "config.yaml"


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The error lines and the fix below each."""
    return [line for line in result.stderr.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("written", "line", "fix"),
    [
        ("learnig_rate: 1e-4", "config.yaml:4:1: learnig_rate: ms-swift", "did you mean learning_rate?"),
        ("lora_rank: eight", "config.yaml:4:1: lora_rank: ", None),
        ("torch_dtype: bfloat", "config.yaml:3:1: torch_dtype", "did you mean bfloat16?"),
        ("identity: {name: X}", "config.yaml:4:1: identity: written twice (first in line 2)", "keep one of them"),
        ("\tlora_rank: 8", "config.yaml:4:1: a tab character", "indent with spaces"),
        ("train_type: lora\ntuner_type: lora", "config.yaml:5:1: tuner_type: the same argument as train_type", None),
        ("dataset: missing.jsonl", "config.yaml:4:1: dataset: missing.jsonl: no such file or folder", None),
        ("dataset: [a/b/c.jsonl]", "config.yaml:4:11: dataset: a/b/c.jsonl: no such file or folder", None),
        ("effective_batch_size: 7\nper_device_train_batch_size: 2", "config.yaml:4:1: effective_batch_size: 7", None),
        ("gradient_accumulation_steps: auto", "config.yaml:4:1: gradient_accumulation_steps: auto needs", None),
        ("launch: {gpus: many}", "config.yaml:4:10: launch.gpus", None),
        ("eval: {identity: 2}", "config.yaml:4:8: eval.identity", None),
        ("deepseed: zero2", "config.yaml:4:1: deepseed: ms-swift", "did you mean deepspeed?"),
        ("sft_type: lora\ntrain_type: lora", "config.yaml:5:1: train_type: the same argument as sft_type", None),
        ("use_flash_attn: true", "config.yaml:4:1: use_flash_attn: ms-swift", "write attn_impl: flash_attn"),
        ("overwrite_output_dir: true", "config.yaml:4:1: overwrite_output_dir: ", "remove it: nothing changes"),
    ],
)
def test_a_wrong_key_is_refused_with_its_line_and_its_fix(
    sft_kit: Run, tmp_path: Path, written: str, line: str, fix: str | None
) -> None:
    text = VALID if not written.startswith("torch_dtype") else VALID.replace("torch_dtype: float32\n", "")
    result = sft_kit("train", config(tmp_path, text + written + "\n"))
    assert result.returncode == 2, result.stderr
    shown = "\n".join(errors(result))
    assert f"error: {line}" in shown
    assert fix is None or fix in shown
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_wrong_keys_and_wrong_values_are_all_reported_at_once(sft_kit: Run, tmp_path: Path) -> None:
    text = "model: no/such/dir\nidentity: {name: '', author: Y, languages: [en]}\ndataset: gone.csv\nlora_rnk: 8\n"
    result = sft_kit("train", config(tmp_path, text))
    assert result.returncode == 2
    shown = [line.split(": ")[1:3] for line in errors(result) if line.startswith("error:")]
    assert shown == [
        ["config.yaml:1:1", "model"],
        ["config.yaml:2:12", "identity.name.en"],
        ["config.yaml:3:1", "dataset"],
        ["config.yaml:4:1", "lora_rnk"],
    ]


def _version() -> str:
    from sft_kit.msswift.install import find_installation

    return find_installation().version


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"model: \xff\xfe\n", "not UTF-8"),
        (b"- a\n- b\n", "a config is a mapping"),
        (b"model: [unclosed\n", "not valid YAML"),
        (b"# " + b"x" * 1_000_001, "larger than"),
    ],
)
def test_a_config_that_is_no_config_is_refused(sft_kit: Run, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    result = sft_kit("train", "config.yaml")
    assert result.returncode == 2
    assert said in result.stderr


def test_a_missing_config_says_how_to_get_one(sft_kit: Run) -> None:
    result = sft_kit("train", "config.yaml")
    assert result.returncode == 2
    assert "config.yaml: no such file" in result.stderr
    assert "sft-kit init" in result.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("a\nb", "line break"),
        ("<|im_end|>", "special token"),
        ("{{AUTHOR}}", "{{"),
        ("x" * 500, "64"),
        ("a\u202eb", "U+202E"),
    ],
)
def test_a_name_that_cannot_be_trained_is_refused(sft_kit: Run, tmp_path: Path, name: str, said: str) -> None:
    text = VALID.replace("name: Jingheng", f"name: {json.dumps(name)}")
    result = sft_kit("train", config(tmp_path, text))
    assert result.returncode == 2, result.stderr
    assert "config.yaml:2:12: identity.name" in result.stderr
    assert said in result.stderr


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("name", ["小精灵🧚", "O'Hara", 'the "Bot"', "Ünï", "{x}"])
def test_an_unusual_name_is_accepted(sft_kit: Run, tmp_path: Path, name: str, escaped: bool) -> None:
    text = VALID.replace("name: Jingheng", f"name: {json.dumps(name, ensure_ascii=escaped)}")
    result = sft_kit("train", config(tmp_path, text), "--dry-run")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("./models/qwen", "./models/qwen: no such directory"),
        ("/nowhere/qwen", "/nowhere/qwen: no such directory"),
        ("a/b/c", "a/b/c: no such directory"),
        ("Qwen2.5-7B-Instruct", "did you mean Qwen/Qwen2.5-7B-Instruct?"),
        ("here/qwen", "here/qwen: no such directory"),
        ("config.yaml", "is a file, not a model directory"),
        ("sft-kit/gpt5", "sft-kit/tiny-qwen2"),
        ("empty", "is not a model directory (no config.json)"),
        ("half", "lacks weights: model-00002-of-00002.safetensors"),
        ("adapter", "is an adapter, not a full model"),
    ],
)
def test_a_model_that_is_not_there_is_never_taken_for_a_hub_id(
    sft_kit: Run, tmp_path: Path, model: str, said: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}", encoding="utf-8")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "half" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": shards}), encoding="utf-8"
    )
    (tmp_path / "half" / "model-00001-of-00002.safetensors").write_bytes(b"")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    began = time.monotonic()
    result = sft_kit("train", config(tmp_path, VALID.replace("sft-kit/tiny-qwen2", model)))
    assert result.returncode == 2, result.stderr
    assert "error: config.yaml:1:1: model: " in result.stderr
    assert said in result.stderr
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("use_hf", "variable"), [("0", "USE_HF=1"), ("1", "HF_ENDPOINT")])
def test_a_hub_that_cannot_be_reached_is_said_in_seconds(
    sft_kit: Run, tmp_path: Path, use_hf: str, variable: str
) -> None:
    text = VALID.replace("sft-kit/tiny-qwen2", "Nobody/nothing-7B")
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_DOMAIN": "127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    began = time.monotonic()
    result = sft_kit("train", config(tmp_path, text), env={**dead, "USE_HF": use_hf})
    assert result.returncode == 5, result.stderr
    assert "cannot be reached for Nobody/nothing-7B" in result.stderr
    assert variable in result.stderr
    assert time.monotonic() - began < 10
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_an_output_directory_that_cannot_be_written_is_refused_before_anything(sft_kit: Run, tmp_path: Path) -> None:
    cfg = config(tmp_path, VALID)
    assert "config.yaml is a file" in sft_kit("train", cfg, "--set", "output_dir=config.yaml").stderr
    for folder, code in (("/proc/sft-kit", 5), ("config.yaml/below", 2)):  # /proc has no room for a checkpoint
        result = sft_kit("train", cfg, "--set", f"output_dir={folder}")
        assert result.returncode == code, result.stderr
        assert "output_dir" in result.stderr


def test_a_read_only_output_directory_is_refused(sft_kit: Run, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    command = [sys.executable, "-m", "sft_kit", "train", config(tmp_path, VALID)]
    if os.geteuid() == 0:  # root may write anywhere, unless it gives that right away
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *command]
    command += ["--set", f"output_dir={locked}/below"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert f"no permission to write below {locked}" in result.stderr


def test_an_output_directory_in_use_is_refused(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "output" / "checkpoint-5").mkdir(parents=True)
    result = sft_kit("train", config(tmp_path, VALID + "add_version: false\n"))
    assert result.returncode == 2, result.stderr
    assert "already holds a run (checkpoint-5)" in result.stderr


def test_infer_refuses_an_empty_prompt(sft_kit: Run) -> None:
    result = sft_kit("infer", "--model", "sft-kit/tiny-qwen2", "--prompt", " ")
    assert result.returncode == 2
    assert errors(result) == ["error: --prompt: is empty", "  give the question"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--adapter", "latest"], "no such run"),
        (["--adapter", "v7"], "no such run"),
        (["--adapter", "nowhere/checkpoint-1/x"], "no such adapter, run or checkpoint"),
        (["--adapter", "base"], "is a full model, not an adapter; use --model base"),
        (["--adapter", "empty"], "holds no adapter"),
        (["--model", "adapter"], "is an adapter, not a full model; use --adapter adapter"),
        (["--model", "Qwen2.5-7B-Instruct"], "did you mean Qwen/Qwen2.5-7B-Instruct?"),
        ([], "give either --adapter or --model"),
        (["--adapter", "x", "--model", "y"], "give either --adapter or --model"),
        (["--adapter", "evil"], "makes ms-swift run /tmp/evil.py"),
        (["--adapter", "moved"], "its base model /gone/qwen is not there any more"),
    ],
)
def test_infer_says_what_to_give_instead(sft_kit: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    for name, files in {
        "base": {"config.json": {}},
        "empty": {},
        "adapter": {"adapter_config.json": {}},
        "evil": {"adapter_config.json": {}, "args.json": {"model": "Qwen/Q", "external_plugins": ["/tmp/evil.py"]}},
        "moved": {"adapter_config.json": {}, "args.json": {"model": "/gone/qwen"}},
    }.items():
        (tmp_path / name).mkdir()
        for file, values in files.items():
            (tmp_path / name / file).write_text(json.dumps(values), encoding="utf-8")
    result = sft_kit("infer", *arguments, "--prompt", "hi")
    assert result.returncode == 2, result.stderr
    assert said in result.stderr.replace("\n  ", "; ")


def test_an_option_that_does_not_exist_is_a_usage_error(sft_kit: Run) -> None:
    result = sft_kit("train", "--no-such-option")
    assert result.returncode == 2
    assert "No such option" in result.stderr


def test_without_ms_swift_the_message_names_the_command_that_installs_it(tmp_path: Path) -> None:
    """A site-packages that has everything but ms-swift, made of links to the real one."""
    import typer

    real = Path(typer.__file__).parents[1]
    bare = tmp_path / "site"
    bare.mkdir()
    for entry in real.iterdir():
        if not entry.name.startswith(("swift", "ms_swift", "__editable__", "_sft_kit", "sft_kit")):
            (bare / entry.name).symlink_to(entry)
    source = Path(__file__).resolve().parents[2] / "src"
    (tmp_path / "config.yaml").write_text(VALID, encoding="utf-8")
    program = f"import sys; sys.path[:0] = [{str(source)!r}, {str(bare)!r}]; from sft_kit.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, "train", "config.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 5, result.stderr
    assert "ms-swift" in result.stderr
    assert "pip install" in result.stderr
