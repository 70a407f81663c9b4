"""Faults of a disk at each moment of a run, with the real ms-swift on the tiny model: what was kept, what was said.

    sudo .venv/bin/python scripts/bench/faults.py [--only NAME]... [--out FILE] [--docs docs/disk.md]

Each case has a file system of its own (a tmpfs, or ext4 in a loop file where it has to break), in a mount namespace
that ends with this script: nothing stays mounted. A watcher waits for the moment (a file of the run appears) and then
fills the file system, takes its inodes, or breaks it; EXT4_IOC_SHUTDOWN and `remount,abort` are the kernel's own ways
to do so. Writes one record a case, and the table of docs/disk.md between its marks. 10 to 40 s a case on two cores.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SMOKE = REPOSITORY / "configs" / "smoke-cpu.yaml"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
KIB, MIB = 1 << 10, 1 << 20
_EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h; 2: without flushing the journal
STEPS = ("--set", "max_steps=4", "--set", "save_steps=1")


@dataclass(frozen=True)
class Result:
    """What one fault did. `exit` is that of the command, `resumed` what `train --resume` made of it with room again."""

    case: str
    moment: str
    fault: str
    exit: int
    status: str
    kept: str
    said: str
    resumed: str = ""
    left: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass
class Disk:
    """A small file system at `path`; `output` is where runs go."""

    path: Path
    log: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.path / "out"

    @property
    def run(self) -> Path | None:
        runs = sorted(self.output.glob("v*")) if self.output.is_dir() else []
        return runs[-1] if runs else None

    def fill(self, leave: int = 0) -> None:
        with (self.path / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while (room := self.free() - leave) > 0:
                file.write(b"x" * min(room, MIB))

    def free(self) -> int:
        seen = os.statvfs(self.path)
        return seen.f_bavail * seen.f_frsize

    def use_up_files(self, leave: int = 0) -> None:
        (self.path / "files").mkdir(exist_ok=True)
        with suppress(OSError):
            for number in range(os.statvfs(self.path).f_favail - leave):
                (self.path / "files" / str(number)).touch()

    def make_room(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)
        for file in (self.path / "files").glob("*"):
            file.unlink()

    def abort(self) -> None:
        """ext4 finds an error and makes itself read-only."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.path)], check=True)

    def shut_down(self) -> None:
        """ext4 answers everything with EIO, as when the disk under it is gone."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", 2))
        finally:
            os.close(descriptor)


Action = Callable[[Disk], None]


@dataclass(frozen=True)
class Case:
    """`when` (a pattern below the run directory, or empty for before the start) and what is done then."""

    name: str
    moment: str
    fault: str
    when: str
    then: Action
    keys: tuple[str, ...] = STEPS
    ext4: bool = False
    evaluate: bool = False
    resume: bool = True
    full_cache: bool = False
    room: int | None = None  # left before the start, so that the rest is filled in a millisecond


def full(leave: int = 0) -> Action:
    return lambda disk: disk.fill(leave)


def full_for_a_moment(disk: Disk) -> None:
    disk.fill()
    time.sleep(1.0)
    disk.make_room()


def read_only_from_the_start(disk: Disk) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)


def owned_by_root(disk: Disk) -> None:
    disk.output.mkdir()
    disk.output.chmod(0o755)


KIT = "sft-kit/"
CASES = (
    Case("before", "before the start", "full", "", full(20 * KIB), resume=False),
    Case("before-inodes", "before the start", "no inode", "", lambda disk: disk.use_up_files(), resume=False),
    Case("before-read-only", "before the start", "read-only", "", read_only_from_the_start, resume=False),
    Case("rows", "identity rows", "full", KIT + "reserve", full(24 * KIB), room=3300 * KIB),
    Case("moment", "manifest, while it trains", "full for 1 s", KIT + "train.log", full_for_a_moment),
    Case("loading", "train.log, while it loads", "full", KIT + "train.log", full()),
    Case("first", "first checkpoint", "full", KIT + "train.log", full(600 * KIB)),
    Case("later", "a later checkpoint", "full", KIT + "train.log", full(2900 * KIB)),
    Case("later-inodes", "a later checkpoint", "no inode", "checkpoint-1/trainer_state.json",
         lambda disk: disk.use_up_files(4)),
    Case("read-only", "a later checkpoint", "becomes read-only", "checkpoint-2/trainer_state.json",
         lambda disk: disk.abort(), ext4=True, resume=False),
    Case("gone", "a later checkpoint", "I/O error", "checkpoint-2/trainer_state.json",
         lambda disk: disk.shut_down(), ext4=True, resume=False),
    Case("plot", "end of training, plots", "full", "checkpoint-4/trainer_state.json", full()),
    Case("report", "the report", "full", KIT + "evaluate.log", full(), evaluate=True,
         keys=("--set", "max_steps=2")),
    Case("cache", "the answers' cache", "full", "", lambda disk: None, evaluate=True, resume=False,
         keys=("--set", "max_steps=2"), full_cache=True),
)  # fmt: skip


def run_case(case: Case, python: str, scratch: Path, reference: dict[int, str]) -> Result:
    began = time.monotonic()
    with mounted(scratch / case.name, ext4=case.ext4) as disk, ExitStack() as more:
        env = {}
        if case.full_cache:
            env["SFT_KIT_CACHE"] = str(fill_cache(more.enter_context(mounted(scratch / f"{case.name}-cache"))))
        process = start(python, disk, case, env)
        watch(case, disk, process)
        _, errors = process.communicate(timeout=300)
        code, errors = process.returncode, str(errors)
        if code == 1:
            print(errors, file=sys.stderr)  # a bug of ours
        status, kept, left = seen(python, disk)
        resumed = ""
        if case.resume and (run := disk.run) and code:
            disk.make_room()
            resumed = go_on(python, disk, run, case, reference)
        return Result(
            case.name, case.moment, case.fault, code, status, kept, said(errors), resumed, left,
            round(time.monotonic() - began, 1),
        )  # fmt: skip


def start(python: str, disk: Disk, case: Case, env: dict[str, str]) -> subprocess.Popen[str]:
    if case.room:
        disk.fill(case.room)
    if not case.when:
        case.then(disk)
    command = [python, "-m", "sft_kit", "train", str(SMOKE), "--set", f"output_dir={disk.output}", *case.keys]
    command += [] if case.evaluate else ["--no-eval"]
    return subprocess.Popen(
        command, cwd=disk.path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
    )  # fmt: skip


def watch(case: Case, disk: Disk, process: subprocess.Popen[str]) -> None:
    """Wait for the moment, then act."""
    while case.when and process.poll() is None:
        run = disk.run
        if run is not None and (run / case.when).exists():
            case.then(disk)
            return
        time.sleep(0.002)


def seen(python: str, disk: Disk) -> tuple[str, str, tuple[str, ...]]:
    """(the status that `runs` shows, what is there whole, temporary files left)."""
    command = [python, "-m", "sft_kit", "runs", "--json", "--output-dir", str(disk.output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    run = disk.run
    try:
        found = json.loads(shown.stdout)
        status = found[0]["status"] if found else "no run"
        checkpoint = found[0]["last_checkpoint"] if found else None
    except (ValueError, IndexError, KeyError):
        return "cannot be read", "nothing can be read", ()
    if run is None:
        return status, "nothing was begun", ()
    from sft_kit.msswift.checkpoints import checkpoints

    whole = [one.path.name for one in checkpoints(run) if one.complete]
    parts = [f"{len(whole)} checkpoints" if len(whole) != 1 else "1 checkpoint"] if whole else ["no checkpoint yet"]
    parts += ["manifest"] if found else []
    parts += ["report"] if (run / KIT / "report.json").exists() else []
    left = tuple(sorted(path.name for path in (run / "sft-kit").rglob(".*")))
    assert checkpoint is None or checkpoint in whole, (checkpoint, whole)
    return status, ", ".join(parts), left


def said(errors: str) -> str:
    """The error, without the places; of a run that went well its warnings."""
    found = re.findall(r"^error: (.*)$", errors, re.MULTILINE) or re.findall(r"^warning: (.*)$", errors, re.MULTILINE)
    text = found[0] if found else ""
    return re.sub(r"v\d+-\d{8}-\d{6}", "RUN", re.sub(r"(?:/[\w.-]+)+/(?=[\w.-]+)", "", text))[:300]


def go_on(python: str, disk: Disk, run: Path, case: Case, reference: dict[int, str]) -> str:
    command = [python, "-m", "sft_kit", "train", "--resume", str(run)] + ([] if case.evaluate else ["--no-eval"])
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, cwd=disk.path.parent, capture_output=True, text=True, check=False, env=env)
    if result.returncode:
        return f"exit {result.returncode}: {said(result.stderr)}"
    if case.evaluate:
        return "report written" if (run / KIT / "report.json").exists() else "no report"
    return "equal" if digest(run) == reference[4] else "another adapter"


def digest(run: Path) -> str:
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return hashlib.sha256((last / "adapter_model.safetensors").read_bytes()).hexdigest()


def uninterrupted(python: str, scratch: Path) -> str:
    """The adapter of a run on which nothing was inflicted."""
    with mounted(scratch / "reference") as disk:
        process = start(python, disk, Case("reference", "", "", "", lambda disk: None), {})
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0 and disk.run is not None, errors
        return digest(disk.run)


@contextmanager
def mounted(place: Path, *, ext4: bool = False) -> Iterator[Disk]:
    place.mkdir()
    if ext4:
        image = place.with_suffix(".img")
        subprocess.run(["truncate", "-s", "24M", str(image)], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(image), str(place)], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=400", "tmpfs", str(place)], check=True)
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_cache(disk: Disk) -> Path:
    """A cache on a disk that is full, with the tiny model in it."""
    from sft_kit.resources import cache_dir

    (disk.path / "models").mkdir()
    for model in (cache_dir() / "models").glob("tiny-qwen2-*"):
        subprocess.run(["cp", "-r", str(model), str(disk.path / "models")], check=True)
    disk.fill()
    return disk.path


def table(results: list[Result]) -> str:
    lines = [
        "| moment | fault | exit | `runs` shows | kept | said | `--resume` with room again |",
        "|---|" + "---|" * 6,
    ]
    for one in results:
        cells = (one.moment, one.fault, str(one.exit), one.status, one.kept, one.said, one.resumed or "-")
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/faults.json")
    parser.add_argument("--docs", type=Path, help="put the table into this page")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.in_namespace:  # root makes a mount namespace; anybody else a user namespace too
        flags = "-m" if os.geteuid() == 0 else "-rm"
        os.execvp("unshare", ["unshare", flags, sys.executable, *sys.argv, "--in-namespace"])  # noqa: S606
    chosen = [case for case in CASES if not options.only or case.name in options.only]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        reference = {4: uninterrupted(sys.executable, scratch)} if any(case.resume for case in chosen) else {}
        results = []
        for case in chosen:
            results.append(run_case(case, sys.executable, scratch, reference))
            print(json.dumps(asdict(results[-1])), flush=True)
    before = {one["case"]: one for one in json.loads(options.out.read_text())} if options.out.exists() else {}
    done = {**before, **{one.case: asdict(one) for one in results}}
    ordered = [done[case.name] for case in CASES if case.name in done]
    options.out.write_text(json.dumps(ordered, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        text = options.docs.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        made = table([Result(**{**one, "left": tuple(one["left"])}) for one in ordered])
        options.docs.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
