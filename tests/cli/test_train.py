"""How the command line of `train` is read: what `--resume` takes, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import VALID, Run


@pytest.mark.parametrize(
    "arguments",
    [
        ("--resume",),
        ("--resume", "latest"),
        ("--resume", "--no-eval"),
        ("--resume", "config.yaml"),
        ("config.yaml", "--resume"),
        ("config.yaml", "--resume", "--set", "max_steps=5"),
    ],
    ids=" ".join,
)
def test_resume_without_a_run_means_the_latest(sft_kit: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.yaml").write_text(VALID, encoding="utf-8")
    done = sft_kit("train", *arguments)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: latest: no such run")


@pytest.mark.parametrize(
    "arguments", [("--resume", "v3"), ("config.yaml", "--resume", "v3"), ("--resume=v3",)], ids=" ".join
)
def test_resume_takes_a_run(sft_kit: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.yaml").write_text(VALID, encoding="utf-8")
    done = sft_kit("train", *arguments)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: v3: no such run")


def test_train_wants_a_config_or_a_run(sft_kit: Run) -> None:
    done = sft_kit("train")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: CONFIG: is missing\n  give one (`sft-kit init` writes it), or --resume to go on with the latest run\n"
    )


def test_accept_changes_belongs_to_resume(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(VALID, encoding="utf-8")
    done = sft_kit("train", "config.yaml", "--accept-changes")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: --accept-changes: belongs to --resume")
