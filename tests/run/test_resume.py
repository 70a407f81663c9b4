"""Which run is gone on with, from where, and what keeps it from that (for real: tests/integration/test_resume.py)."""

from __future__ import annotations

import json
import os
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
from sft_kit.run.own_data import keep_edited, write_own_data
from sft_kit.run.prepare import prepare
from sft_kit.run.provenance import data_digests, versions
from sft_kit.run.resume import Resumption, prepare_resumption
from sft_kit.run.saved_config import portable
from tests.unprivileged import refusal_without_rights

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


def test_a_checkpoint_that_lost_what_was_written_to_it_is_passed_over_and_said(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    optimizer = interrupted.checkpoint(15) / "optimizer.pt"
    with zipfile.ZipFile(optimizer, "w") as archive:
        archive.writestr("archive/data/0", b"momentum" * 1024)
    written = optimizer.read_bytes()
    optimizer.write_bytes(written[:4096] + bytes(4096) + written[8192:])
    found = interrupted.resumption()
    assert found.step == 10
    why = "optimizer.pt is damaged: its record 'archive/data/0' is not what its checksum says"
    assert [(one.name, one.folder, one.why) for one in found.unfit] == [
        ("checkpoint-15", "incomplete", f"is not what was saved ({why})")
    ]
    interrupted.record(status="succeeded")  # trained to its end: its states are of no use any more
    assert (interrupted.resumption().stage, interrupted.resumption().step) == ("evaluate", 15)


def test_a_large_checkpoint_takes_a_while_to_read_and_that_is_said(
    interrupted: Interrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    (interrupted.checkpoint(10) / "notes").touch()
    os.truncate(interrupted.run.path / "checkpoint-10" / "notes", 5 << 30)
    assert interrupted.resumption().step == 10
    assert capsys.readouterr().err == "reading checkpoint-10 through (5.0 GiB): is it what was saved?\n"


def test_a_run_without_a_complete_checkpoint_starts_from_the_beginning(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10, without="optimizer.pt")
    found = interrupted.resumption()
    assert (found.stage, found.checkpoint, len(found.unfit)) == ("train", None, 1)
    assert found.describe() == f"run {interrupted.run.name} has no complete checkpoint: starting from the beginning"
    assert "--resume_from_checkpoint" not in found.job.command(found.run.path, found.own or OwnData()).argv


def test_a_changed_key_is_shown_and_refused_and_gone_on_with_when_asked(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    assert interrupted.refusal(None, "save_steps=5", "logging_steps=3") == [
        "RUN: changed since it began: save_steps: 10 -> 5",
        "RUN: changed since it began: logging_steps: not given -> 3; --accept-changes goes on with all of this; "
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


def test_a_data_file_that_only_moved_is_shown_and_gone_on_with(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    moved = (interrupted.folder / "mine.jsonl").rename(interrupted.folder / "ours.jsonl")
    (refused,) = interrupted.refusal()
    assert " -> no longer there (if it was moved: --set dataset=PATH); --accept-changes" in refused
    found = interrupted.resumption(None, f"dataset={moved}")
    assert [line.replace(str(interrupted.folder), "") for line in found.lines()[1:]] == [
        'changed since it began: dataset: ["/mine.jsonl"] -> ["/ours.jsonl"] (moved, same content)'
    ]
    argv = found.job.command(found.run.path, found.own or OwnData()).argv
    assert argv[argv.index("--dataset") + 2] == str(moved)
    assert found.config.dataset == [str(moved)]


def test_a_copy_of_a_data_file_is_as_good_as_the_file(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    copied = shutil.copy(interrupted.folder / "mine.jsonl", interrupted.folder / "copy.jsonl")
    assert [change.moved for change in interrupted.resumption(None, f"dataset={copied}").changes] == [True]


def test_a_data_file_elsewhere_with_other_rows_or_another_number_of_them_is_a_change(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    data = interrupted.folder / "mine.jsonl"
    other = data.with_name("other.jsonl")
    other.write_text(data.read_text(encoding="utf-8").replace("yes", "yet"), encoding="utf-8")
    copied = shutil.copy(data, data.with_name("copy.jsonl"))
    for entry in (other, f"{copied}#20", json.dumps([str(copied), str(copied)])):
        assert interrupted.refusal(None, f"dataset={entry}")[0].startswith("RUN: changed since it began: dataset: ")


def test_edited_rows_of_the_run_are_a_change_and_are_written_anew_when_asked(
    interrupted: Interrupted,
) -> None:
    interrupted.checkpoint(10)
    (interrupted.run.data / "identity.jsonl").write_text("{}\n", encoding="utf-8")
    assert "/sft-kit/data/identity.jsonl: sha256" in interrupted.refusal()[0]
    assert interrupted.resumption(None, accept_changes=True).own is None


def test_what_a_user_wrote_into_the_rows_of_a_run_is_kept(interrupted: Interrupted) -> None:
    rows = interrupted.run.data / "identity.jsonl"
    rows.write_text("{}\n", encoding="utf-8")
    keep_edited(interrupted.run, interrupted.run.read().data)
    assert {path.name for path in rows.parent.iterdir()} >= {"identity.jsonl.edited", "identity.held_out.jsonl"}
    assert not rows.exists()
    assert rows.with_name("identity.jsonl.edited").read_text(encoding="utf-8") == "{}\n"


def test_what_has_no_say_in_the_weights_needs_no_consent(interrupted: Interrupted) -> None:
    interrupted.checkpoint(10)
    found = interrupted.resumption(None, "save_total_limit=2", "launch.on_nan=warn", "eval.questions=3")
    assert [change.what for change in found.changes] == ["eval.questions", "launch.on_nan", "save_total_limit"]


def test_a_run_that_gave_nothing_but_nan_is_not_started_again_in_silence(interrupted: Interrupted) -> None:
    assert len(interrupted.resumption().lines()) == 1
    interrupted.record(signs=({"code": "nan-for-good", "step": 3},))
    assert interrupted.resumption().lines()[-1].startswith("it gave nothing but NaN")


@pytest.mark.parametrize("text", ["", "max_stepz: 3\n"])
def test_a_run_without_a_usable_config_of_its_own_takes_the_one_that_is_given(
    interrupted: Interrupted, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted.checkpoint(10)
    if text:
        interrupted.run.config_path.write_text(text, encoding="utf-8")
    else:
        interrupted.run.config_path.unlink()
    refused = interrupted.refusal()[-1]
    why = "is not valid any more; correct it, or give" if text else "is gone; give"
    assert refused == (
        f"/output/RUN/sft-kit/config.yaml: the run's own config {why} the one it was started with: "
        "sft-kit train CONFIG --resume /output/RUN"
    )
    assert interrupted.resumption(interrupted.config).step == 10
    assert ("is not valid any more: nothing tells" in capsys.readouterr().err) == bool(text)


def test_a_run_that_may_not_be_written_is_refused_where_it_lies(
    interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(interrupted.run.path.parent)  # the folders above are of nobody else's either
    said = refusal_without_rights(lambda: prepare_resumption(interrupted.run.name, ask_hub=False))
    assert said == (
        f"2 {interrupted.run.path}: cannot be written (no permission), and a run goes on where it lies; make it "
        "writable, or copy it and give the copy: --resume DIRECTORY"
    )


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
        "RUN: has come to its end; there is nothing to resume; --set max_steps=... --accept-changes trains it for "
        "longer"
    ]
    assert interrupted.refusal(None, "max_steps=60", evaluate=False)[0].endswith(
        "; --accept-changes trains it further, with max_steps: 40 -> 60"
    )
    older = create_run(interrupted.folder / "output", versioned=True)
    older.write(Manifest("failed", "2020-01-01T00:00:00+00:00", "config.yaml", model="another"))
    assert "another" not in interrupted.refusal(evaluate=False)[0]
    older.write(replace(older.read(), model=interrupted.run.read().model))
    assert interrupted.refusal(evaluate=False)[0].endswith(
        f"{older.name} beside it failed: --resume /output/{older.name}"
    )
    assert interrupted.refusal(None, "eval.questions=3", evaluate=False)[0].endswith(
        "; sft-kit eval --adapter /output/RUN --set eval.questions=3 asks once more"
    )


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
