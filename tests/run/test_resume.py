"""Which run is gone on with, from where, and what keeps it from that (for real: tests/integration/test_resume.py)."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.config.load import load_config, resolved_yaml
from sft_kit.errors import UsageError
from sft_kit.run.directory import Manifest, RunDirectory, create_run, now_iso, write_atomic
from sft_kit.run.job import OwnData
from sft_kit.run.own_data import write_own_data
from sft_kit.run.prepare import prepare
from sft_kit.run.provenance import data_digests, versions
from sft_kit.run.resume import Resumption, prepare_resumption
from sft_kit.run.saved_config import portable

ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]} for n in range(30)
]
EMPTY_SAFETENSORS = b"\x02" + bytes(7) + b"{}"


@dataclass(frozen=True)
class Interrupted:
    """A run as a killed launcher leaves it: no checkpoint yet, 17 of 40 steps logged."""

    folder: Path
    run: RunDirectory

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def resumption(self, config: Path | None = None, *overrides: str, **options: Any) -> Resumption:
        output = [] if config else [f"output_dir={self.folder}/output"]
        return prepare_resumption("latest", config, [*output, *overrides], ask_hub=False, **options)

    def refusal(self, config: Path | None = None, *overrides: str, **options: Any) -> list[str]:
        with pytest.raises(UsageError) as caught:
            self.resumption(config, *overrides, **options)
        return [
            str(problem).replace(str(self.folder), "").replace(self.run.name, "RUN")
            for problem in caught.value.problems
        ]

    def checkpoint(self, step: int, *, without: str = "", **arguments: Any) -> Path:
        """checkpoint-N with every file that ms-swift writes, but for `without`."""
        folder = self.run.path / f"checkpoint-{step}"
        folder.mkdir()
        arguments = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, **arguments}
        state = {"global_step": step, "max_steps": 40, "train_batch_size": 2}
        for name, value in (("adapter_config.json", {}), ("args.json", arguments), ("trainer_state.json", state)):
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        (folder / "adapter_model.safetensors").write_bytes(EMPTY_SAFETENSORS)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("data.pkl", b"")
        if without:
            (folder / without).unlink()
        return folder

    def record(self, **changes: Any) -> None:
        self.run.write(replace(self.run.read(), **changes))


@pytest.fixture
def interrupted(as_it_was: Interrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupted]:
    """In one place for every test, since config and manifest hold its path: made once, and put back after each."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    shutil.copytree(as_it_was.folder, tmp_path / "before")
    yield as_it_was
    shutil.rmtree(as_it_was.folder)
    shutil.copytree(tmp_path / "before", as_it_was.folder)


@pytest.fixture(scope="module")
def as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    tmp_path = tmp_path_factory.mktemp("interrupted")
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "config.yaml").write_text(
        "model: sft-kit/tiny-qwen2\n"
        "identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 60}\n"
        f"dataset: {data}\n"
        f"output_dir: {tmp_path}/output\n"
        "launch: {gpus: 0}\ntorch_dtype: float32\nmax_steps: 40\nsave_steps: 10\nlearning_rate: 1e-3\n"
        "per_device_train_batch_size: 2\ngradient_accumulation_steps: 4\n",
        encoding="utf-8",
    )
    job = prepare(tmp_path / "config.yaml", ask_hub=False)
    run = create_run(tmp_path / "output", versioned=True)
    write_atomic(run.config_path, resolved_yaml(portable(job.config)))
    own = write_own_data(job, run)
    digests = data_digests([*own.files, *job.local_data()])
    run.write(Manifest("running", now_iso(), str(tmp_path / "config.yaml"), versions=versions(), data=digests))
    rows = [{"global_step/max_steps": f"{step}/40", "loss": 1.0} for step in range(1, 18)]
    run.logging_jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Interrupted(tmp_path, run)


def test_a_run_goes_on_from_its_last_complete_checkpoint_with_its_own_config_and_rows(interrupted: Interrupted) -> None:
    interrupted.checkpoint(5)
    last = interrupted.checkpoint(10)
    found = interrupted.resumption()
    assert (found.stage, found.step, found.last_step, found.unfit, found.changes) == ("train", 10, 17, (), ())
    assert found.describe() == (
        f"going on with run {interrupted.run.name} from checkpoint-10; 7 steps after it are done again"
    )
    assert found.own is not None
    argv = found.job.command(found.run.path, found.own).argv
    assert argv[argv.index("--resume_from_checkpoint") + 1] == str(last)
    assert argv[argv.index("--output_dir") + 1] == str(interrupted.run.path)
    assert argv[argv.index("--dataset") + 1] == str(interrupted.run.data / "identity.jsonl")


@pytest.mark.parametrize(
    "missing", ["adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_half_written_checkpoint_is_passed_over_and_named(interrupted: Interrupted, missing: str) -> None:
    interrupted.checkpoint(10)
    interrupted.checkpoint(15, without=missing)
    found = interrupted.resumption()
    assert found.step == 10
    assert [(unfit.name, unfit.folder, missing in unfit.why) for unfit in found.unfit] == [
        ("checkpoint-15", "incomplete", True)
    ]


def test_a_run_without_a_complete_checkpoint_starts_from_the_beginning(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10, without="optimizer.pt")
    found = interrupted.resumption()
    assert (found.stage, found.checkpoint, len(found.unfit)) == ("train", None, 1)
    assert found.describe() == f"run {interrupted.run.name} has no complete checkpoint: starting from the beginning"
    assert "--resume_from_checkpoint" not in found.job.command(found.run.path, found.own or OwnData()).argv


def test_a_changed_key_is_shown_and_refused_and_gone_on_with_when_asked(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    assert interrupted.refusal(None, "save_steps=5", "eval.questions=3") == [
        "RUN: changed since it began: eval.questions: 60 -> 3",
        "RUN: changed since it began: save_steps: 10 -> 5; --accept-changes goes on with all of this; "
        "the result is then not that of an uninterrupted run",
    ]
    found = interrupted.resumption(None, "save_steps=5", accept_changes=True)
    assert [str(change) for change in found.changes] == ["save_steps: 10 -> 5"]
    assert found.job.config.save_steps == 5


def test_what_the_checkpoint_brings_along_cannot_be_changed_even_when_asked(interrupted: Interrupted) -> None:
    last = interrupted.checkpoint(10)
    assert interrupted.refusal(None, "learning_rate=2e-3", accept_changes=True) == [
        "RUN: learning_rate: 0.001 -> 0.002: cannot be changed in the middle of a run: the checkpoint brings its own; "
        f"leave it, or train a new run; adapters: /output/RUN/{last.name} starts from these weights"
    ]


def test_where_it_goes_on_from_is_not_the_config_s_to_say(interrupted: Interrupted) -> None:
    first, _ = interrupted.checkpoint(5), interrupted.checkpoint(10)
    (refused,) = interrupted.refusal(None, f"resume_from_checkpoint={first}", accept_changes=True)
    assert refused.startswith("RUN: resume_from_checkpoint: not given -> /output/RUN/checkpoint-5: cannot be changed")


def test_a_resumption_without_the_states_of_the_checkpoint_can_be_asked_for(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    found = interrupted.resumption(None, "resume_only_model=true", accept_changes=True)
    argv = found.job.command(found.run.path, found.own or OwnData()).argv
    assert argv[argv.index("--resume_only_model") + 1] == "true"


def test_without_a_checkpoint_anything_can_be_changed_when_asked(interrupted: Interrupted) -> None:
    found = interrupted.resumption(None, "learning_rate=2e-3", accept_changes=True)
    assert [str(change) for change in found.changes] == ["learning_rate: 0.001 -> 0.002"]


def test_a_config_that_is_given_is_compared_with_the_run_s_own(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    assert interrupted.resumption(interrupted.config).changes == ()
    text = interrupted.config.read_text(encoding="utf-8")
    interrupted.config.write_text(text.replace("save_steps: 10", "save_steps: 20"), encoding="utf-8")
    assert interrupted.refusal(interrupted.config)[0].startswith("RUN: changed since it began: save_steps: 10 -> 20")


def test_a_changed_data_file_is_named(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    data = interrupted.folder / "mine.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("yes", "yet"), encoding="utf-8")
    (refused,) = interrupted.refusal()
    assert refused.startswith("RUN: changed since it began: /mine.jsonl: sha256 ")
    assert " -> another content; --accept-changes" in refused


def test_edited_rows_of_the_run_are_a_change_and_are_written_anew_when_asked(
    interrupted: Interrupted,
) -> None:
    interrupted.checkpoint(10)
    (interrupted.run.data / "identity.jsonl").write_text("{}\n", encoding="utf-8")
    assert "/sft-kit/data/identity.jsonl: sha256" in interrupted.refusal()[0]
    assert interrupted.resumption(None, accept_changes=True).own is None


def test_what_is_refused_is_not_touched(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    interrupted.checkpoint(15, without="optimizer.pt")

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in interrupted.folder.rglob("*") if path.is_file()}

    before = files()
    assert len(interrupted.refusal(None, "save_steps=5", "replay=20")) == 2
    assert files() == before


def test_another_version_of_a_package_is_a_change(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    interrupted.record(versions={**versions(), "torch": "1.0", "sft-kit": "0.0"})
    (refused,) = interrupted.refusal()
    assert refused.startswith(f"RUN: changed since it began: torch: 1.0 -> {versions()['torch']}; --accept")


def test_a_running_run_is_refused(interrupted: Interrupted) -> None:
    with interrupted.run.lock():
        assert interrupted.refusal() == ["RUN: is running now; wait for it, or stop it first"]


def test_a_finished_run_is_refused_and_an_unfinished_one_beside_it_is_named(interrupted: Interrupted) -> None:
    interrupted.record(status="succeeded")
    assert interrupted.refusal(evaluate=False) == [
        "RUN: has come to its end; there is nothing to resume; --set num_train_epochs=... --accept-changes trains it "
        "for longer"
    ]
    older = create_run(interrupted.folder / "output", versioned=True)
    older.write(Manifest("failed", "2020-01-01T00:00:00+00:00", "config.yaml"))
    assert interrupted.refusal(evaluate=False)[0].endswith(f"{older.name} beside it failed: --resume {older.name}")


def test_a_finished_run_is_trained_for_longer_when_asked(interrupted: Interrupted) -> None:
    interrupted.checkpoint(40)
    interrupted.record(status="succeeded")
    found = interrupted.resumption(None, "max_steps=60", accept_changes=True)
    assert (found.stage, found.step) == ("train", 40)


def test_a_trained_run_without_its_report_goes_on_at_the_evaluation(interrupted: Interrupted) -> None:
    interrupted.checkpoint(40)
    interrupted.record(status="succeeded")
    assert interrupted.resumption().stage == "evaluate"


def test_a_run_that_was_killed_behind_its_last_step_is_only_recorded(interrupted: Interrupted) -> None:
    interrupted.checkpoint(40)
    found = interrupted.resumption()
    assert (found.stage, found.step) == ("finish", 40)


def test_a_batch_that_auto_chose_stays_that_of_the_checkpoint(interrupted: Interrupted) -> None:
    text = interrupted.config.read_text(encoding="utf-8").replace("per_device_train_batch_size: 2", "")
    text = text.replace("gradient_accumulation_steps: 4", "effective_batch_size: 8")
    config = load_config(_written(interrupted.config, text)).config
    write_atomic(interrupted.run.config_path, resolved_yaml(portable(config)))
    interrupted.checkpoint(10, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    batch = interrupted.resumption().job.plan.batch
    assert (batch.micro_batch, batch.accumulation) == (1, 8)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_batch_that_a_start_without_memory_fell_back_to_stays(interrupted: Interrupted) -> None:
    interrupted.checkpoint(
        10, per_device_train_batch_size=1, gradient_accumulation_steps=8, gradient_checkpointing=False
    )
    found = interrupted.resumption()
    batch, smaller = found.job.plan.batch, found.job.plan.smaller
    assert (batch.micro_batch, batch.accumulation) == (1, 8)
    assert [(each.micro_batch, each.accumulation, each.checkpointing) for each in smaller] == [(1, 8, True)]
    assert found.config.per_device_train_batch_size == 2


def test_another_number_of_processes_is_a_change(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10, global_world_size=2)
    assert interrupted.refusal()[0].startswith("RUN: changed since it began: processes: 2 -> 1; --accept-changes")


def test_checkpoints_of_a_model_that_gives_nan_are_passed_over_though_nobody_moved_them(
    interrupted: Interrupted,
) -> None:
    for step in (5, 10, 15):
        interrupted.checkpoint(step)
    rows = [
        {"global_step/max_steps": f"{step}/40", "loss": 0.0, "grad_norm": float("nan"), "token_acc": 0.0}
        for step in range(9, 18)
    ]
    kept = interrupted.run.logging_jsonl.read_text(encoding="utf-8").splitlines()[:8]
    text = "".join(line + "\n" for line in (*kept, *map(json.dumps, rows)))
    interrupted.run.logging_jsonl.write_text(text, encoding="utf-8")
    found = interrupted.resumption()
    assert found.step == 5
    assert [(unfit.name, unfit.folder, unfit.why) for unfit in found.unfit] == [
        ("checkpoint-10", "broken", "is of a model that gives NaN"),
        ("checkpoint-15", "broken", "is of a model that gives NaN"),
    ]


def test_signs_of_steps_that_are_done_again_belong_to_the_earlier_start(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    early, late = ({"code": "nan-step", "severity": "warning", "step": step, "message": ""} for step in (10, 11))
    interrupted.record(signs=(early, late))
    found = interrupted.resumption()
    assert (found.signs(done_again=False), found.entry(now_iso())["signs"]) == ([early], [late])


def test_weights_without_states_are_told_and_take_another_learning_rate(interrupted: Interrupted) -> None:
    folder = interrupted.checkpoint(10, save_only_model=True)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).unlink()
    found = interrupted.resumption(None, "learning_rate=2e-3", accept_changes=True)
    assert found.describe().endswith("; it holds weights only (save_only_model): optimizer and schedule start anew")
    argv = found.job.command(found.run.path, found.own or OwnData()).argv
    assert argv[argv.index("--resume_only_model") + 1] == "true"


def test_a_run_that_began_with_only_the_weights_of_another_goes_on_with_its_own_states(
    interrupted: Interrupted,
) -> None:
    with interrupted.run.config_path.open("a", encoding="utf-8") as file:
        file.write("resume_only_model: true\nignore_data_skip: true\n")
    interrupted.checkpoint(10)
    found = interrupted.resumption()
    argv = found.job.command(found.run.path, found.own or OwnData()).argv
    assert [argv[argv.index(f"--{key}") + 1] for key in ("resume_only_model", "ignore_data_skip")] == ["false"] * 2


def test_a_run_that_was_moved_goes_on_with_its_rows(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    interrupted.record(argv=("swift", "sft", "--output_dir", str(interrupted.run.path)))
    moved = interrupted.run.path.rename(interrupted.folder / "moved")
    found = prepare_resumption(str(moved), ask_hub=False)
    assert found.changes == ()
    assert found.own == OwnData(moved / "sft-kit/data/identity.jsonl")
    assert found.job.config.resume_from_checkpoint == str(moved / "checkpoint-10")


def test_a_trained_run_takes_no_change_of_its_training_in_silence(interrupted: Interrupted) -> None:
    interrupted.checkpoint(40)
    assert interrupted.refusal(None, "max_steps=60")[0].startswith("RUN: changed since it began: max_steps: 40 -> 60")
    interrupted.record(status="succeeded", versions={**versions(), "torch": "1.0"})
    assert interrupted.refusal(None, "max_steps=60")[0].startswith("RUN: changed since it began: max_steps: 40 -> 60")
    assert interrupted.resumption(None, "eval.questions=3", accept_changes=True).stage == "evaluate"


def test_a_checkpoint_in_the_place_of_a_run_is_explained(interrupted: Interrupted) -> None:
    last = interrupted.checkpoint(10)
    with pytest.raises(UsageError, match="is a checkpoint; a run goes on from its last complete one"):
        prepare_resumption(str(last), ask_hub=False)


def test_secrets_and_the_place_of_the_run_are_no_changes(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    overrides = ["hub_token=hf_secret", "launch.env.HF_TOKEN=hf_secret", "add_version=true"]
    assert interrupted.resumption(None, *overrides).changes == ()


def test_a_secret_that_only_the_config_had_is_missed(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    interrupted.record(env={"HF_TOKEN_OF_THE_RUN": "***", "CUDA_VISIBLE_DEVICES": ""})
    notes = [str(note).replace(interrupted.run.name, "RUN") for note in interrupted.resumption().job.notes]
    assert notes == [
        "RUN: began with HF_TOKEN_OF_THE_RUN from its config, which no run saves; set it in the environment, or give "
        "the config: sft-kit train CONFIG --resume"
    ]
    given = interrupted.resumption(None, "launch.env.HF_TOKEN_OF_THE_RUN=hf_secret")
    assert (given.changes, given.job.notes) == ((), ())
