"""`sft-kit runs` where not everything can be read: what can be is listed, and the rest is shown with its reason."""

from __future__ import annotations

import datetime
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.cli.runs import runs
from sft_kit.errors import ExitCode, SftKitError
from sft_kit.run.directory import Manifest, RunDirectory
from sft_kit.run.listing import show_run, show_runs
from sft_kit.run.runs import find_run, list_runs
from tests.unprivileged import refusal_without_rights

GOOD, ODD = "v1-20260102-000000", "v0-20260101-000000"
NO_DISK = "its disk does not answer; see whether it is still there: `df`, `dmesg`"


@pytest.fixture
def odd(tmp_path: Path) -> RunDirectory:
    """The older one of two runs that failed; beside them a folder that is none."""
    (tmp_path / "notes").mkdir()
    for name in (GOOD, ODD):
        run = RunDirectory(tmp_path / name)
        run.kit.mkdir(parents=True)
        run.write(Manifest("failed", f"2026-01-0{2 if name == GOOD else 1}T00:00:00+00:00", "config.yaml"))
        run.reserve.unlink(missing_ok=True)
    return run


def shown(output: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], str]:
    """(run and status of each line, what was said) by the command, which must end well."""
    runs(output_dir=output)
    out, err = capsys.readouterr()
    lines = [line.split()[:2] for line in out.splitlines()]
    return [line for line in lines if line and line[0].startswith("v")], err.replace(str(output), "OUTPUT")


def no_disk(monkeypatch: pytest.MonkeyPatch, below: Path, *calls: str) -> None:
    """Every one of those calls of `os`, and opening, says EIO for what lies below that folder."""
    import builtins
    import io

    def broken(call: Callable[..., Any]) -> Callable[..., Any]:
        def one(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike) and str(path).startswith(str(below)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return call(path, *arguments, **options)

        return one

    for name in calls:
        monkeypatch.setattr(os, name, broken(getattr(os, name)))
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", broken(io.open))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (a_pipe, "manifest.json: is not a file; remove it"),
        (a_folder, "manifest.json: is not a file; remove it"),
        (a_link_to_nothing, "OUTPUT/v0-20260101-000000: is not a run of sft-kit (no sft-kit/manifest.json)"),
        (lambda path: path.write_text("{"), "manifest.json: is damaged"),
    ],
)
def test_a_run_whose_manifest_is_none_is_listed_with_the_reason(
    change: Callable[[Path], object], why: str, odd: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    change(odd.manifest_path)
    lines, said = shown(odd.path.parent, capsys)
    assert lines == [[GOOD, "failed"], [ODD, "unreadable"]]
    assert why in said


def test_scripts_get_the_runs_that_can_be_read(odd: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    a_pipe(odd.manifest_path)
    runs(output_dir=odd.path.parent, as_json=True)
    out, err = capsys.readouterr()
    assert [run["run"] for run in json.loads(out)] == [GOOD]
    assert "is not a file" in err


def test_a_run_that_may_not_be_looked_at_is_listed(odd: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(odd.path.parent)  # the folders above are of nobody else's either
    odd.path.parent.chmod(0o755)
    odd.path.chmod(0)

    def look() -> None:
        found = list_runs(Path())
        try:
            found[-1].read()
        except SftKitError as error:
            raise SftKitError(f"{[run.name for run in found]} {error}") from None

    said = refusal_without_rights(look)
    odd.path.chmod(0o755)
    assert said == f"1 {[GOOD, ODD]} {odd.manifest_path}: cannot be read: Permission denied"


def test_a_run_whose_disk_does_not_answer_is_listed_with_the_reason(
    odd: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        no_disk(patch, odd.path, "lstat", "listdir", "scandir", "open")
        lines, said = shown(odd.path.parent, capsys)
        assert find_run(str(odd.path), Path("elsewhere")) == odd
    assert lines == [[GOOD, "failed"], [ODD, "unreadable"]]
    assert f"manifest.json: cannot be read: {NO_DISK}" in said


def test_a_run_of_which_only_the_checkpoints_cannot_be_read_is_shown_as_its_manifest_says(
    odd: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd.write(Manifest("interrupted", "2026-01-01T00:00:00+00:00", "config.yaml"))
    with monkeypatch.context() as patch:
        real = os.listdir
        scan = os.scandir

        def broken(call: Callable[..., Any]) -> Callable[..., Any]:
            def one(path: Any = ".") -> Any:
                if str(path) == str(odd.path):
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
                return call(path)

            return one

        patch.setattr(os, "listdir", broken(real))
        patch.setattr(os, "scandir", broken(scan))
        lines, said = shown(odd.path.parent, capsys)
    assert lines == [[GOOD, "failed"], [ODD, "interrupted"]]
    assert f"OUTPUT/{ODD}: cannot be read: {NO_DISK}" in said


def test_an_output_directory_whose_disk_does_not_answer_is_an_error_of_the_disk(
    odd: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = odd.path.parent
    with monkeypatch.context() as patch:
        no_disk(patch, output, "lstat", "listdir", "scandir", "open")
        with pytest.raises(SftKitError) as caught:
            runs(output_dir=output)
    assert (caught.value.exit_code, str(caught.value)) == (
        ExitCode.MISSING,
        f"{output}: cannot be read: {NO_DISK}",
    )


def test_without_any_run_that_can_be_read_nobody_is_told_that_there_is_none(
    odd: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    a_pipe(odd.manifest_path)
    show_runs([odd], odd.path.parent, as_json=False)
    assert "no runs" not in "".join(capsys.readouterr())


@pytest.fixture
def resumed(tmp_path: Path) -> RunDirectory:
    """A run that failed at step 3, with a checkpoint of step 2, after it had been resumed with a change."""
    run = RunDirectory(tmp_path / GOOD)
    last = run.path / "checkpoint-2"
    last.mkdir(parents=True)
    (last / "adapter_config.json").write_text("{}")
    (last / "args.json").write_text("{}")
    (last / "trainer_state.json").write_text('{"global_step": 2}')
    (last / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    rows = ({"global_step/max_steps": f"{step}/40", "loss": 1.0} for step in (1, 2, 3))
    run.logging_jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.kit.mkdir()
    began = (datetime.datetime.now().astimezone() - datetime.timedelta(seconds=90)).isoformat(timespec="seconds")
    entry = {"at": began, "checkpoint": "checkpoint-2", "step": 2, "changed": ["save_steps: 2 -> 3"]}
    failure = {"code": "killed", "cause": "it was killed", "fix": "see dmesg", "lines": ["Killed"]}
    run.write(Manifest("failed", began, "config.yaml", message="it was killed; see dmesg", resumed=(entry,),
                       failure=failure, seconds={"train": 30.0}))  # fmt: skip
    return run


def facts(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    show_run(run, as_json=False)
    return {line[:10].strip(): line[12:] for line in capsys.readouterr().out.splitlines() if line[:10].strip()}


def test_a_run_that_stopped_is_shown_with_its_cause_once_and_with_how_to_go_on(
    resumed: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = facts(resumed, capsys)
    assert (shown["status"], shown["cause"], shown["fix"]) == ("failed", "it was killed", "see dmesg")
    assert shown["go on"] == f"`sft-kit train --resume {resumed.path}` goes on from checkpoint-2"
    assert shown["resumed"].endswith(" from checkpoint-2 (changed: save_steps: 2 -> 3)")


def test_a_run_that_goes_on_is_shown_with_its_steps_and_its_time_so_far(
    resumed: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed.write(replace(resumed.read(), status="running", failure={}, message=""))
    with resumed.lock():
        show_runs([resumed], resumed.path.parent, as_json=False)
    (line,) = [words for text in capsys.readouterr().out.splitlines() if (words := text.split())[:1] == [GOOD]]
    assert line[1:4] == ["running", "3", "1"]
    assert line[4].startswith("2:0")  # 1:30 and 30 s of the start before it, and what this took
