"""`sft-kit check` in this process, on what a pitfall lays out and in its environment.

Real files, and a real program for the GPUs; only the disk and the RAM of the machine are told (a full disk cannot be
had without root), so that a small CI machine finds what a large one does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sft_kit.checks import environment as machine
from sft_kit.cli.check import check as run_check
from sft_kit.errors import SftKitError
from tests.pitfalls.corpus import Check, Pitfall, lay_out

GIB = 2**30


def disk(free: int) -> os.statvfs_result:
    """What os.statvfs says of a disk with `free` bytes of room, one to each block, and inodes enough."""
    return os.statvfs_result((1, 1, 2 * free, free, free, 10**9, 10**9, 10**9, 0, 255))


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """See `corpus.Check`; `--json`, so that anything but one line of JSON on stdout fails."""

    def checked(pitfall: Pitfall) -> tuple[int, list[str]]:
        folder = tmp_path / pitfall.slug
        folder.mkdir()
        environ = lay_out(pitfall, folder)
        monkeypatch.chdir(folder)
        for name in os.environ.keys() - environ.keys():
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        if site := environ.get("PYTHONPATH"):
            monkeypatch.syspath_prepend(site)
            for package in Path(site).glob("*/__init__.py"):  # what another test has imported would be found instead
                monkeypatch.delitem(sys.modules, package.parent.name, raising=False)
        free = int(pitfall.disk_gib * GIB)
        monkeypatch.setattr(os, "statvfs", lambda path: disk(free))
        monkeypatch.setattr(machine, "_memory", lambda: machine.Memory(256 * GIB, 200 * GIB, 64 * GIB))
        capsys.readouterr()
        try:
            run_check(Path(pitfall.argument), list(pitfall.overrides), as_json=True)
            code = 0
        except SftKitError as error:  # as cli.main does; building the whole of its Typer app takes longer than a check
            code = int(error.exit_code)
        said = capsys.readouterr()
        assert said.out.count("\n") == 1, said.out + said.err
        findings = json.loads(said.out)["findings"]
        return code, sorted(each["code"] for each in findings if each["severity"] != "note")

    return checked
