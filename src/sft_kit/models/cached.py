"""Build a model directory once, whoever else wants it at the same time and whatever interrupted the last try.

Owns the lock, the temporary directory, and the rule for what counts as a finished model directory: one that was damaged
since, or holds what no model of ours does, is built anew. Does not own how a directory is filled: the callers pass that
in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sft_kit.errors import MissingError, Problem
from sft_kit.models.directory import kind_of_file, read_directory

Say = Callable[[str], None]
_NOT_OURS = ("adapter_config.json", "args.json")
"""Files by which peft and ms-swift load something else beside the model, or import plugins."""


def is_model_directory(directory: Path) -> bool:
    """Whether `directory` holds what transformers needs: config, tokenizer and safetensors weights."""
    return (
        (directory / "config.json").is_file()
        and (directory / "tokenizer.json").is_file()
        and any(directory.glob("*.safetensors"))
    )


def is_whole(directory: Path) -> bool:
    """Whether a kept model is what was built: its JSON can be read and its weights are of full length, no entry is a
    link to elsewhere or no file, and nothing in it would have code run. Milliseconds: values are not read."""
    if not is_model_directory(directory):
        return False
    found = read_directory(directory)
    damaged = found.broken or found.tokenizer.damaged or found.leftovers or not found.whole
    if damaged or found.code or found.remote or found.links_out or not set(_NOT_OURS).isdisjoint(found.names):
        return False
    return not any(kind_of_file(directory / name) for name in found.names)


def build_once(target: Path, build: Callable[[Path], None], *, say: Say) -> Path:
    """`target`, a finished model directory; when it is not there yet, or not whole, `build` fills it.

    `build` is given an empty directory beside `target`, which takes its place by one rename when it is finished, so
    that a half-built model is never seen. Processes that want the same model wait for the first of them. What a
    killed process left behind is removed. Raises MissingError when the cache cannot be written or stays incomplete.
    """
    if is_whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, say=say):
            if is_whole(target):
                return target
            if is_model_directory(target):
                say(f"{target} is not as sft-kit made it, so it is made anew")
            for stale in target.parent.glob(f".{target.name}.*"):
                shutil.rmtree(stale, ignore_errors=True)
            unfinished = target.parent / f".{target.name}.{os.getpid()}"
            unfinished.mkdir()
            try:
                build(unfinished)
                if not is_model_directory(unfinished):
                    raise MissingError(Problem(str(target), "the model was built without all of its files"))
                if target.is_symlink() or target.is_file():
                    target.unlink()
                elif target.exists():
                    shutil.rmtree(target)
                unfinished.replace(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        fix = "free some space there, or set SFT_KIT_CACHE to a directory that can be written"
        raise MissingError(Problem(str(target), f"cannot keep the model: {error}", fix)) from error
    return target


def run_module(module: str, *arguments: str | Path, fix: str) -> None:
    """Run `python -m module` to its end, without showing its output, and without the current directory on its
    path, where a stranger's torch.py may lie.

    Heavy imports stay in that process. Raises MissingError with its last line and `fix` when it fails.
    """
    start = f"import sys, runpy; del sys.path[0]; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    argv = [sys.executable, "-c", start, *map(str, arguments)]
    child = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if child.returncode:
        said = (child.stderr.strip() or child.stdout.strip()).splitlines()
        reason = said[-1].strip() if said else f"exit code {child.returncode}"
        raise MissingError(Problem(f"python -m {module}", reason, fix))


@contextlib.contextmanager
def _locked(target: Path, *, say: Say) -> Iterator[None]:
    # The kernel drops a flock with its process, so a killed builder never blocks the next one.
    # no link is followed, and no pipe waited for
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(target.parent / f".lock-{target.name}", flags, 0o644), "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another sft-kit is building {target.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
