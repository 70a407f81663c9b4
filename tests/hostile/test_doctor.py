"""`doctor` on a machine that lies: each thing that it reads is made to hang, to flood, or to steer the terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from sft_kit.checks.environment import look
from sft_kit.data.text import STEERING
from sft_kit.msswift.hub import hub_problem
from sft_kit.plan.gpus import Gpu, list_gpus
from sft_kit.resources import cache_dir
from tests.hostile.contained import Outcome, call
from tests.plan.fake_nvidia_smi import Card, install

EVIL = "\x1b[2J\x1b]0;own\x07\u202e[red]x\r\u2028"
TORCH = "class version:\n cuda = None\nclass cuda:\n is_available = lambda: False\n__version__ = '2.8.0'\n"
OFFLINE = {"USE_HF": "1", "HF_HUB_OFFLINE": "1"}


def torch_is(folder: Path, program: str) -> dict[str, str]:
    """Variables with which a child's torch is `program`; the real one takes seconds to import."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(program, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Outcome]:
    """`doctor` in an empty folder, where `before` is called first."""

    def run(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        before: Callable[[], object] = lambda: None,
        torch: str = TORCH,
    ) -> Outcome:
        import sft_kit.cli

        (tmp_path / "stand-in").mkdir()
        (tmp_path / "here").mkdir()
        own = {**torch_is(tmp_path / "stand-in", torch), **OFFLINE, "SFT_KIT_CACHE": str(tmp_path / "cache")}

        def command() -> None:
            before()
            sys.argv = ["sft-kit", "doctor", *arguments]
            sft_kit.cli.main()

        return call(command, tmp_path / "here", seconds=10, mib=600, env={**own, **(env or {})})

    return run


def is_a_report(found: Outcome) -> bool:
    """Whether it is whole, and nothing in it steers a terminal."""
    names = [line.split()[0] for line in found.out.splitlines() if line.strip()]
    shown = not STEERING.search(found.out + found.err)
    return found.is_contained(0, 5) and {"python", "sft-kit", "torch", "memory", "speed"} <= set(names) and shown


def test_names_of_cards_and_of_their_processes_are_shown_escaped(
    doctor: Callable[..., Outcome], tmp_path: Path
) -> None:
    entry = install(tmp_path / "bin", [Card(f"NVIDIA {EVIL} torch  ok  2.8.0"), Card("A" * 100_000)])
    swift = tmp_path / "bin" / "swift"
    swift.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
    swift.chmod(0o755)
    found = doctor(env={"PATH": f"{entry}{os.pathsep}{os.environ['PATH']}"})
    assert is_a_report(found), found
    assert "\\x1b[2J\\x1b]0;own\\x07<U+202E>[red]x" in "".join(found.out.split())
    assert len(found.out) < 20_000
    assert not (tmp_path / "ran").exists()


PROGRAMS = {
    "hangs": "exec sleep 60",
    "leaves a child that holds its pipe": 'sleep 60 & echo $! > "$0.pid"; exit 0',
    "prints for ever": "exec yes '0, NVIDIA A10, 22000, 23028'",
    "prints nothing but zeros": "exec cat /dev/zero",
    "is a program of another kind": "exec cat /proc/self/exe",
    "has numbers of 4,000 digits": "printf '0, A, %04000d, 1\\n%05000d, A, 1, 1\\n' 9 9 | tr 0 9",
    "ignores that it is told to end": "trap '' TERM HUP INT; while :; do sleep 1; done",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_nvidia_smi_that_does_not_answer_means_no_gpus(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{PROGRAMS[name]}\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    assert list_gpus(timeout_s=0.3) == []
    assert time.monotonic() - began < 5
    left = [p for p in psutil.process_iter(["name", "ppid"]) if p.info["ppid"] == os.getpid()]
    assert not [child for child in left if child.info["name"] in ("sleep", "nvidia-smi", "cat", "yes")]
    if (pid := tmp_path / "nvidia-smi.pid").exists():
        assert not psutil.pid_exists(int(pid.read_text())) or psutil.Process(int(pid.read_text())).status() == "zombie"


def test_very_many_processes_on_a_card_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.plan.fake_nvidia_smi import App

    entry = install(tmp_path, [Card()] * 100, [App(n % 100, n + 1, "p", 1) for n in range(3_000)])
    monkeypatch.setenv("PATH", f"{entry}{os.pathsep}{os.environ['PATH']}")
    began = time.process_time()
    gpus = list_gpus()
    assert (len(gpus), [len(gpu.holders) for gpu in gpus]) == (100, [30] * 100)
    assert time.process_time() - began < 1


TORCHES = {
    "floods": "while True: print('x' * 1000)",
    "prints bytes that are no text": f"import os; os.write(1, b'\\xff\\xfe\\n'); os.write(2, b'\\xff'); {TORCH!r}; 1/0",
    "ends the process": "import os; os._exit(0)",
    "says much and raises": f"print({EVIL!r}); raise ImportError({EVIL!r} * 1000)",
    "speaks at the end": f"import atexit; atexit.register(print, 'bye')\nexec({TORCH!r})",
}


@pytest.mark.parametrize("name", TORCHES)
def test_a_torch_that_misbehaves_is_one_line_of_the_report(name: str, doctor: Callable[..., Outcome]) -> None:
    found = doctor(torch=TORCHES[name])
    assert is_a_report(found), found


def test_python_files_in_the_current_folder_are_not_run(doctor: Callable[..., Outcome], tmp_path: Path) -> None:
    def plant() -> None:
        for name in ("torch.py", "json.py", "transformers.py"):
            Path(name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")

    found = doctor(before=plant)
    assert is_a_report(found), found
    assert not (tmp_path / "ran").exists()


VARIABLES = {
    "a number of 5,000 digits": {"CUDA_VISIBLE_DEVICES": "9" * 5_000, "SFT_KIT_CACHE": "/" + "a" * 5_000},
    "steering text": {"CUDA_VISIBLE_DEVICES": f"0,{EVIL}", "HF_ENDPOINT": f"http://{EVIL}", "HF_HUB_OFFLINE": ""},
    "no text": {"CUDA_VISIBLE_DEVICES": "\udcff" * 50_000, "SFT_KIT_CACHE": "/nowhere/\udcff\x1b[31m"},
    "the home of nobody": {"SFT_KIT_CACHE": "~nobody-at-all/x", "HOME": "~nobody-at-all"},
}


@pytest.mark.parametrize("name", VARIABLES)
def test_hostile_variables_are_shown_escaped_or_passed_over(
    name: str, doctor: Callable[..., Outcome], tmp_path: Path
) -> None:
    entry = install(tmp_path / "bin", [Card()])
    found = doctor(env={"PATH": f"{entry}{os.pathsep}{os.environ['PATH']}", **VARIABLES[name]})
    assert is_a_report(found), found
    assert len(found.out) < 20_000


def test_the_report_as_json_escapes_too_and_stays_json(doctor: Callable[..., Outcome], tmp_path: Path) -> None:
    entry = install(tmp_path / "bin", [Card(f"NVIDIA {EVIL}")])
    environ = {"PATH": f"{entry}{os.pathsep}{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "\udcff"}
    found = doctor("--json", env=environ)
    assert found.is_contained(0, 5), found
    assert not STEERING.search(found.out)
    assert any("\x1b[2J" in line["value"] for line in json.loads(found.out))


HUBS = {
    "an address that is none": {"USE_HF": "1", "HF_ENDPOINT": "http://[::1"},
    "a device": {"USE_HF": "1", "HF_ENDPOINT": "file:///dev/zero#"},
    "steering text": {"USE_HF": "1", "HF_ENDPOINT": f"http://{EVIL}"},
    "no text": {"MODELSCOPE_DOMAIN": "\udcff"},
    "a domain that is none": {"MODELSCOPE_DOMAIN": "a" * 300 + EVIL},
    "a proxy that is none": {"USE_HF": "1", "HTTPS_PROXY": "::::"},
    "half a proxy": {"USE_HF": "1", "https_proxy": "http://["},
}


@pytest.mark.parametrize("name", HUBS)
def test_a_hub_that_is_none_is_a_reason_in_words(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    environ = HUBS[name]
    problem = hub_problem("a/b", "models", hugging_face="USE_HF" in environ, environ=environ)
    assert problem is None or problem.code == "hub-unreachable"
    assert capfd.readouterr().err == ""  # the thread that asks has not died of it


METADATA: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a requirement of a megabyte": lambda path: path.write_text(f"Requires-Dist: {'a' * 1_000_000}(\n"),
    "50 GB of nothing": lambda path: (path.touch(), os.truncate(path, 50 << 30)),
    "no text": lambda path: path.write_bytes(b"Requires-Dist: torch\xff (>=9)\n"),
    "a command to paste": lambda path: path.write_text('Requires-Dist: tokenizers (<0.1"; touch ran; ")\n'),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_packages_is_read_within_bounds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "transformers-5.0.0", METADATA[name])
    monkeypatch.syspath_prepend(tmp_path)
    began = time.process_time()
    assert "transformers" not in look().requires or look().requires["transformers"] == {}
    assert time.process_time() - began < 1


def package(site: Path, name: str, make: Callable[[Path], object]) -> None:
    (site / f"{name}.dist-info").mkdir(parents=True)
    make(site / f"{name}.dist-info" / "METADATA")


def test_versions_of_packages_are_shown_escaped_and_on_one_line(doctor: Callable[..., Outcome], tmp_path: Path) -> None:
    for name in ("trl", "peft"):
        package(tmp_path / "site", f"{name}-0.1{EVIL}\n  torch  ok  9.9", METADATA["a command to paste"])
    found = doctor(before=lambda: sys.path.insert(0, str(tmp_path / "site")))
    assert is_a_report(found), found
    assert "0.1\\x1b[2J\\x1b]0;own\\x07<U+202E>[red]x" in found.out
    assert sum(line.split()[:1] == ["torch"] for line in found.out.splitlines()) == 1


def test_a_card_without_sense_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = install(tmp_path, [Card(free_mib=10**30), Card("A", 24_000)])
    monkeypatch.setenv("PATH", f"{entry}{os.pathsep}{os.environ['PATH']}")
    assert [(gpu.index, gpu.name) for gpu in list_gpus()] == [(1, "A")]
    assert isinstance(look().gpus[0], Gpu)


def test_the_cache_of_nobody_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", "~nobody-at-all/x")
    assert cache_dir() == Path("~nobody-at-all/x")
