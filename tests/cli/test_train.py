"""How the command line of `train` is read: what `--resume` takes, and what does not go together."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
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


def typed(answer: bytes, folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and screen of `train`, at whose terminal somebody has typed `answer`. Its cache is a file, so that it
    goes no further than to want a model."""
    (folder / "config.yaml").write_text(VALID + "model_name: Anna\n", encoding="utf-8")  # of no effect: a doubt
    (folder / "cache").write_text("", encoding="utf-8")
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    done = subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "train", "config.yaml", *arguments],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "SFT_KIT_CACHE": "cache"},
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 1 << 16):
            screen += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return done.wait(60), screen.decode()


def test_yes_goes_on_in_spite_of_doubts_without_asking(tmp_path: Path) -> None:
    code, screen = typed(b"n\n", tmp_path)
    assert (code, "go on? [y/N]" in screen, "cannot keep the model" in screen) == (130, True, False), screen
    code, screen = typed(b"n\n", tmp_path, "--yes")
    assert (code, "go on? [y/N]" in screen, "cannot keep the model" in screen) == (5, False, True), screen
