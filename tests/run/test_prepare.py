"""A config becomes a job: everything in it reaches the command or the environment, or is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from sft_kit.config.load import load_config
from sft_kit.config.schema import OwnKeys, RunConfig
from sft_kit.errors import ConfigError
from sft_kit.models.catalog import own_model_path
from sft_kit.models.trust import without_own_code
from sft_kit.msswift.arguments import arguments
from sft_kit.msswift.dialect import emit_name
from sft_kit.msswift.install import find_installation
from sft_kit.run.directory import RunDirectory
from sft_kit.run.job import Job, OwnData
from sft_kit.run.own_data import planned_own_data
from sft_kit.run.prepare import examine, prepare
from sft_kit.run.saved_config import portable

MODEL = "model: sft-kit/tiny-qwen2\n"
IDENTITY = "identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 60}\n"
SAMPLES: dict[str, Any] = {  # where the first thing that comes to mind would be refused
    "model": "sft-kit/tiny-qwen2",
    "model_type": "qwen2",
    "template": "qwen2_5",
    "attn_impl": "sdpa",
    "quant_method": "bnb",
    "rope_scaling": "linear",
    "deepspeed": "zero2",
    "lora_dtype": "float32",
    "loss_scale": "default",
    "optim": "adamw_torch",
    "lr_scheduler_type": "cosine",
    "report_to": ["none"],
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "tuner_type": "lora",
    "adapters": ["owner/adapter"],
    "dataset": ["owner/data#5"],
    "val_dataset": ["owner/data"],
    "resume_from_checkpoint": None,  # a real one is made in the test
}
NOT_PASSED_ON = {
    "hub_token": "by environment, since the argv is printed",
}


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "NPROC_PER_NODE", "NNODES", "USE_HF", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def job_of(tmp_path: Path, text: str, *overrides: str) -> Job:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return prepare(path, [f"output_dir={tmp_path}/output", *overrides], ask_hub=False)


def argv_of(job: Job) -> list[str]:
    run = RunDirectory(Path("/runs/v0"))
    return list(job.command(run.path, planned_own_data(job, run)).argv)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def sample(key: str) -> Any:
    if key in SAMPLES:
        return SAMPLES[key]
    annotation = RunConfig.model_fields[key].annotation
    kinds = {annotation, *get_args(annotation), *(arg for part in get_args(annotation) for arg in get_args(part))}
    literal = next((arg for arg in kinds if isinstance(arg, str) and arg != "auto"), None)
    if literal:
        return literal
    by_kind = ((bool, True), (int, 1), (float, 1), (str, "x"))
    return next((value for kind, value in by_kind if kind in kinds), "x")


@pytest.mark.real
def test_every_typed_key_reaches_the_command_of_the_installed_ms_swift(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "trainer_state.json", "args.json"):
        (checkpoint / name).write_text("{}", encoding="utf-8")
    (checkpoint / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # whole, and empty
    keys = [key for key in RunConfig.model_fields if key not in OwnKeys]
    assert len(keys) >= 60
    values = {key: sample(key) for key in keys} | {"resume_from_checkpoint": str(checkpoint)}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    examination = examine(path, [f"output_dir={tmp_path}/output"], ask_hub=False)
    assert examination.job is not None, examination.found.problems  # rules of keys that contradict each other aside
    argv = argv_of(examination.job)
    table = arguments(find_installation(), "sft")
    passed = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    assert {key for key in keys if emit_name(key, table) not in passed} == set(NOT_PASSED_ON)


def test_a_hub_token_goes_by_environment_and_is_shown_nowhere(tmp_path: Path) -> None:
    job = job_of(tmp_path, MODEL + IDENTITY + "hub_token: s3cret\nlaunch: {env: {WANDB_API_KEY: k3y, A: b}}\n")
    command = job.command(Path("/runs/v0"), OwnData())
    given = {"WANDB_API_KEY": "k3y", "A": "b", "MODELSCOPE_API_TOKEN": "s3cret"}
    assert command.env == {**given, **without_own_code()}
    assert command.environment()["A"] == "b"
    assert "s3cret" not in command.shell() and "k3y" not in command.shell()
    saved = portable(job.config)
    assert (saved.hub_token, saved.launch.env) == (None, {"A": "b"})


def test_use_hf_reaches_every_process_of_the_run(tmp_path: Path) -> None:
    job = job_of(tmp_path, MODEL + IDENTITY + "use_hf: true\nhub_token: s3cret\n")
    assert job.env == {"HF_TOKEN": "s3cret", "USE_HF": "1", **without_own_code()}
    assert job.model_values()["use_hf"] is True


def test_the_effective_batch_size_becomes_accumulation(tmp_path: Path) -> None:
    text = MODEL + IDENTITY + "per_device_train_batch_size: 2\neffective_batch_size: 16\n"
    argv = argv_of(job_of(tmp_path, text))
    assert (after(argv, "--per_device_train_batch_size"), after(argv, "--gradient_accumulation_steps")) == ("2", "8")
    assert "--effective_batch_size" not in argv


@pytest.mark.parametrize("where", ["environment", "config"])
def test_torchruns_variables_count_for_the_batch_and_start_torchrun(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MODEL + IDENTITY + "effective_batch_size: 16\nper_device_train_batch_size: 1\nlaunch: {gpus: 0}\n"
    if where == "environment":
        monkeypatch.setenv("NPROC_PER_NODE", "2")
    else:
        text = text.replace("{gpus: 0}", "{gpus: 0, env: {NPROC_PER_NODE: '2'}}")
    argv = argv_of(job_of(tmp_path, text))
    assert argv[1:6] == ["-m", "torch.distributed.run", "--nproc_per_node", "2", argv[5]]
    assert argv[5].endswith("swift/cli/sft.py")
    assert after(argv, "--gradient_accumulation_steps") == "8"


def test_own_rows_come_before_the_users(tmp_path: Path) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"query": "What is 1 + 1?", "response": "It is 2."}\n', encoding="utf-8")
    argv = argv_of(job_of(tmp_path, MODEL + IDENTITY + f"replay: 5\ndataset: {rows}#5\nval_dataset: {rows}\n"))
    at = argv.index("--dataset")
    data = "/runs/v0/sft-kit/data"
    assert argv[at + 1 : at + 4] == [f"{data}/identity.jsonl", f"{data}/replay.jsonl", f"{rows}#5"]
    assert after(argv, "--val_dataset") == str(rows)


def test_data_in_the_home_folder_is_named_to_ms_swift_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.jsonl").write_text('{"query": "What is 1 + 1?", "response": "It is 2."}\n', encoding="utf-8")
    argv = argv_of(job_of(tmp_path, MODEL + "dataset: ~/mine.jsonl#1\nval_dataset: ~/mine.jsonl\n"))
    assert after(argv, "--dataset") == f"{tmp_path}/mine.jsonl#1"
    assert after(argv, "--val_dataset") == f"{tmp_path}/mine.jsonl"


@pytest.mark.parametrize("columns", ["{q: query, a: response}", """'{"q": "query", "a": "response"}'""", "map.json"])
def test_columns_are_a_mapping_or_json_or_a_json_file(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.json").write_text('{"q": "query", "a": "response"}', encoding="utf-8")
    (tmp_path / "mine.jsonl").write_text('{"q": "What is 1 + 1?", "a": "It is 2."}\n', encoding="utf-8")
    (file,) = job_of(tmp_path, MODEL + f"dataset: mine.jsonl\ncolumns: {columns}\n").data
    assert (file.form, file.kept) == ("query-response", 1)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("adapters: nowhere/deep/x", "adapters: nowhere/deep/x: no adapter there (no adapter_config.json)"),
        ("resume_from_checkpoint: gone", "resume_from_checkpoint: gone: no complete checkpoint there"),
        ("deepspeed: gone.json", "deepspeed: gone.json: no such file"),
        ("dataset: ['']", "dataset: '': no such file or folder"),
        ("dataset: [owner/data#0]", "dataset: owner/data#0: 0 behind # is no number of rows"),
        ("val_dataset: ['owner/data#']", "val_dataset: owner/data#: nothing behind # is no number of rows"),
        ("columns: q to query", "columns: 'q to query' does not say what to call which column"),
        ("eval: {file: gone.yaml}", "eval.file: gone.yaml: no such file"),
        ("save_strategy: 'no'", "save_strategy: no leaves nothing to evaluate"),
    ],
)
def test_what_a_run_starts_from_is_looked_at(written: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        job_of(tmp_path, MODEL + IDENTITY + written + "\n# sft-kit: ignore missing-package\n")
    (found,) = error.value.problems
    assert found.message == problem
    assert found.place.startswith(f"{tmp_path}/config.yaml:3:")


@pytest.mark.parametrize("key", ["model", "adapters", "resume_from_checkpoint"])
def test_a_path_that_cannot_be_looked_at_is_a_problem_of_its_key(key: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text((MODEL if key != "model" else "") + IDENTITY + f"{key}: {'a' * 300}\n", encoding="utf-8")
    (problem,) = examine(config, ask_hub=False).found.problems
    assert problem.message.startswith(f"{key}: ") and problem.message.endswith(": File name too long")


def test_the_users_questions_are_read_before_anything_starts(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"question": "Who?"}\n{"category": "none"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.jsonl:2: "):
        job_of(tmp_path, MODEL + IDENTITY + f"eval: {{file: {mine}}}\n")


def test_a_model_whose_args_json_imports_python_files_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "evil"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"")
    (model / "args.json").write_text(json.dumps({"external_plugins": "x.py"}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"makes ms-swift run x\.py"):
        job_of(tmp_path, f"model: {model}\n" + IDENTITY)


def test_a_data_set_of_the_hub_is_not_a_path_because_a_folder_has_its_owners_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swift" / "llm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert job_of(tmp_path, MODEL + "dataset: swift/self-cognition#500\n").config.dataset == [
        "swift/self-cognition#500"
    ]


def test_the_saved_config_names_its_files_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("{}\n", encoding="utf-8")
    config = MODEL + "dataset: [mine.jsonl#5, owner/data#7]\neval: {file: mine.jsonl}\n"
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    saved = portable(load_config(tmp_path / "config.yaml").config)
    assert saved.dataset == [f"{tmp_path}/mine.jsonl#5", "owner/data#7"]
    assert saved.eval.file == f"{tmp_path}/mine.jsonl"
    assert (saved.model, saved.output_dir) == ("sft-kit/tiny-qwen2", str(tmp_path / "output"))


def test_a_model_of_ours_that_was_damaged_in_the_cache_is_one_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: sft-kit/tiny-qwen2\nidentity: {name: A, author: B}\ntorch_dtype: float32\n", encoding="utf-8"
    )
    folder = own_model_path("sft-kit/tiny-qwen2")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "config.json").write_text("{", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    assert prepare(config, ask_hub=False).model.name == "sft-kit/tiny-qwen2"  # train builds it before it starts
