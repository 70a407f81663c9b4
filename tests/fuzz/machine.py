"""A run directory under everything that can happen to it, and what must hold after each step.

The product's own functions run in forked children (`faults`); only the ms-swift process is a stand-in (`trainer`), and
so are the answers of models. What must hold:

- every manifest is whole; a run is never shown as running, nor as succeeded when it is not;
- whoever looks (`runs`, `runs show`, `--resume`) gets an answer or an error of ours, never a traceback;
- no lock outlives its holder; no number of a run is given twice; nothing of a user's is changed or removed;
- in the end a run that nobody meddled with has succeeded, with the rows, the checkpoints and the model of a run that
  nothing happened to, its report, and no temporary file.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sft_kit.config.load import load_config
from sft_kit.data.rows import Message, Row
from sft_kit.errors import UsageError
from sft_kit.msswift.checkpoints import checkpoints, why_incomplete
from sft_kit.run import own_data, prepare, train
from sft_kit.run.directory import RunDirectory
from sft_kit.run.durable import Durable
from sft_kit.run.job import Job
from sft_kit.run.listing import show_run, show_runs
from sft_kit.run.replay import Replay
from sft_kit.run.reporting import SUFFIXES, read_report
from sft_kit.run.resume import prepare_resumption
from sft_kit.run.runs import list_runs
from sft_kit.writes import UNFINISHED
from tests.fuzz.faults import Ended, Fault, in_child
from tests.fuzz.trainer import STEPS, StandIn, state_after, state_in, supervise
from tests.report.conftest import evaluation

NAMES = ("Jingheng", "Mingchuan")
_ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]}) + "\n"
    for n in range(30)
)
_REPLAY = tuple(Row((Message("user", f"What is {n}?"), Message("assistant", f"It is {n}."))) for n in range(3))


@dataclass
class Seen:
    """What the examples of this process came to."""

    examples: int = 0
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    crashed_at: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


seen = Seen()


@dataclass(frozen=True)
class World:
    """A folder for all examples, since jobs hold its path: `output` is made anew for each."""

    folder: Path
    versioned: Job
    unversioned: Job

    @property
    def output(self) -> Path:
        return self.folder / "output"


@cache
def world() -> World:
    """Made once in a process, inside `stand_ins`."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="sft-kit-fuzz-")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "mine.jsonl").write_text(_ROWS, encoding="utf-8")
    (folder / "config.yaml").write_text(
        "model: sft-kit/tiny-qwen2\n"
        "identity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 40}\n"
        f"dataset: {folder}/mine.jsonl\noutput_dir: {folder}/output\nreplay: 3\n"
        "launch: {gpus: 0}\ntorch_dtype: float32\nmax_steps: 6\nsave_steps: 2\nsave_total_limit: 2\n"
        "learning_rate: 1e-3\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 4\n",
        encoding="utf-8",
    )
    jobs = [
        prepare.prepare(folder / "config.yaml", [f"add_version={word}"], ask_hub=False) for word in ("true", "false")
    ]
    identity = jobs[0].config.identity
    assert identity is not None
    for name in NAMES:  # what a child would otherwise make anew each time
        prepare.identity_data(identity.model_copy(update={"name": name}))
    return World(folder, *jobs)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Nothing of ms-swift is started in this block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "identity_data", _identity_data)
        patch.setattr(train, "start", StandIn)
        patch.setattr(train, "supervise", supervise)
        patch.setattr(Durable, "look", lambda _: None)  # its thread flushes at another moment each time
        patch.setattr(train, "evaluate", _evaluate)
        patch.setattr(train, "prompts_of", lambda *_: (None, None))
        patch.setattr(own_data, "replay_rows", _replay_rows)
        yield


_real_identity_data = prepare.identity_data
_identities: dict[str, Any] = {}


def _identity_data(section: Any) -> Any:
    """The real ones, but made once."""
    key = section.model_dump_json()
    if key not in _identities:
        _identities[key] = _real_identity_data(section)
    return _identities[key]


def _evaluate(*_: Any, log: Path, **__: Any) -> Any:
    with open(log, "ab") as file:
        file.write(b"swift infer\n")
    return evaluation()


def _replay_rows(*_: Any, log: Path, **__: Any) -> Replay:
    with open(log, "ab") as file:
        file.write(b"swift infer\n")
    return Replay(_REPLAY, (), 0, 0, {"model": "tiny"}, {})


@cache
def rows_of(name: str) -> dict[str, str]:
    """The SHA-256 of each own data file of a run that nothing happens to."""
    job = world().versioned
    assert job.config.identity is not None
    identity = prepare.identity_data(job.config.identity.model_copy(update={"name": name}))
    run = RunDirectory(world().folder / f"rows-{name}")
    run.data.mkdir(parents=True)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        own_data.write_own_data(replace(job, identity=identity), run)
    return {path.name: _sha256(path) for path in run.data.glob("*.jsonl")}


@cache
def model_after(steps: int) -> str:
    """The model of a run that nothing happens to."""
    rows_of(NAMES[0])
    data = world().folder / f"rows-{NAMES[0]}" / "sft-kit" / "data"
    return state_after(steps, [data / "identity.jsonl", data / "replay.jsonl", world().folder / "mine.jsonl"])


WRITES = 195  # of a run that nothing happens to, and a few more
FAULTS = st.builds(
    Fault,
    st.sampled_from(["none", "crash", "crash", "power", "full", "blip", "trainer"]),
    st.sampled_from(range(WRITES)),
)


class RunDirectories(RuleBasedStateMachine):
    """The operations of launchers, machines and users on one `output_dir`."""

    def __init__(self) -> None:
        super().__init__()
        seen.examples += 1
        shutil.rmtree(world().output, ignore_errors=True)
        self.versioned = True
        self.prove = True
        self.users: dict[Path, bytes] = {}
        self.meddled: set[Path] = set()  # runs of which a user changed or removed something
        self.changed: set[Path] = set()  # runs of which a change was accepted
        self.filled = False
        self.numbers: list[int] = []

    @initialize(versioned=st.booleans(), prove=st.sampled_from([True, True, False]))
    def output_dir(self, versioned: bool, prove: bool) -> None:
        self.versioned, self.prove = versioned, prove

    # --- launchers ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self._folders()) < 2 if self.versioned and self._runs() else not self._runs())
    @rule(fault=FAULTS)
    def train(self, fault: Fault) -> None:
        job = self._job()
        before = self._folders()
        ended = self._do(lambda: train.train(job, prove=self.prove), fault)
        for folder in sorted(self._folders() - before):
            if self.versioned:
                number = int(folder.name[1:].split("-")[0])
                assert number > max(self.numbers, default=-1), f"{folder.name} has the number of an earlier run"
                self.numbers.append(number)
        self._refused(ended)
        if fault.kind == "none" and not (self.meddled and not self.versioned):  # what a user left may be in the way
            assert ended.refused is None, ended.refused
            assert self._runs()[0].read().status == "succeeded"

    @precondition(lambda self: self._runs() and not self.versioned)
    @rule()
    def train_where_a_run_is(self) -> None:
        ended = self._do(lambda: train.train(self._job(), prove=self.prove), Fault())
        assert "already holds a run" in str(ended.refused), "a second run was begun in the directory of the first"

    @precondition(lambda self: self._runs())
    @rule(
        which=st.integers(0, 2), fault=FAULTS, change=st.sampled_from(["", "", "", "save_steps=3", "name", "refused"])
    )
    def resume(self, which: int, fault: Fault, change: str) -> None:
        runs = self._runs()
        run = runs[which % len(runs)]
        overrides, accept = [], change not in ("", "refused")
        if change in ("save_steps=3", "refused"):
            overrides = ["save_steps=3"]
        elif change == "name":
            overrides = [f"identity.name={NAMES[1]}"]
        if accept:
            self.changed.add(run.path)
        if accept and overrides == [f"identity.name={NAMES[1]}"]:
            self.meddled.add(run.path / "model")
        ended = self._resume(run, fault, overrides, accept=accept)
        self._refused(ended)

    @precondition(lambda self: self._runs())
    @rule(fault=st.builds(Fault, st.just("crash"), st.integers(0, 30)))
    def second_launcher(self, fault: Fault) -> None:
        """While one launcher holds the run another one is refused, and changes nothing."""
        run = self._runs()[0]
        from_holder, says = os.pipe()
        waits, to_holder = os.pipe()

        holder = os.fork()
        if holder == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                os.close(to_holder)
                with run.lock():
                    os.write(says, b"held")
                    os.read(waits, 1)
            finally:
                os._exit(0)
        os.close(says)
        os.close(waits)
        try:
            assert os.read(from_holder, 4) == b"held", "the lock is not free"
            recorded = run.recorded()
            ended = self._resume(run, fault, [], accept=False)
            # before it is refused it may die at seeing to it that there is a lock to ask
            assert ended.refused is not None or re.match(r"(mkdir|open) (.*/)?sft-kit(/lock)?$", ended.crashed), ended
            assert run.recorded() == recorded, "a launcher that was refused wrote the manifest"
            assert run.locked()
        finally:
            os.kill(holder, 9)
            os.waitpid(holder, 0)
            os.close(from_holder)
            os.close(to_holder)

    # --- users ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self._runs())
    @rule(number=st.integers(0, 10_000))
    def remove_a_file(self, number: int) -> None:
        run = self._runs()[0]
        files = sorted(path for path in run.path.rglob("*") if path.is_file() and path not in self.users)
        if files:
            files[number % len(files)].unlink()
            self.meddled.add(run.path)

    @precondition(lambda self: self._runs())
    @rule(name=st.sampled_from(["notes.txt", "sft-kit/notes.md", "sft-kit/.notes.abcdefgh", "sft-kit/data/more.jsonl",
                                "sft-kit/.manifest.json.abcdefgh"]))  # fmt: skip
    def add_a_file(self, name: str) -> None:
        path = self._runs()[0].path / name
        if path.parent.is_dir() and not path.exists():
            path.write_bytes(b"mine\n")
            self.users[path] = b"mine\n"

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def looks_right(self) -> None:
        assert all(path.read_bytes() == content for path, content in self.users.items()), (
            "a user's file is not as it was"
        )
        for run in self._runs():
            json.loads(run.manifest_path.read_bytes())
            assert not run.locked(), f"{run.name} is locked by nobody"
            status = run.read().status
            assert status in ("interrupted", "failed", "succeeded"), f"{run.name} is shown as {status}"
            if status == "succeeded" and run.path not in self.meddled:
                self._is_trained(run)
            for as_json in (True, False):
                show_quietly(show_run, run, as_json=as_json)
        for as_json in (True, False):
            show_quietly(show_runs, self._runs(), world().output, as_json=as_json)

    def teardown(self) -> None:
        if (
            not self._runs() and not self.meddled and world().output.exists()
        ):  # killed before its first manifest: begun once more
            ended = self._do(lambda: train.train(self._job(), prove=self.prove), Fault())
            assert ended.refused is None, f"cannot begin: {ended.refused}"
        for run in self._runs():
            for _ in range(4):
                try:
                    if run.read().status == "succeeded" and not self._no_report(run):
                        break
                except UsageError:
                    break
                ended = self._resume(run, Fault(), [], accept=False)
                if ended.refused and run.path in self.meddled:
                    if "changed since it began" not in str(ended.refused):
                        break
                    ended = self._resume(run, Fault(), [], accept=True)
                assert ended.refused is None or run.path in self.meddled, f"cannot go on: {ended.refused}"
            if run.path not in self.meddled:
                self._is_whole(run)
        self.looks_right()

    def _is_trained(self, run: RunDirectory) -> None:
        there = [one for one in checkpoints(run.path) if one.complete]
        assert there and there[-1].step == STEPS, f"{run.name} is shown as succeeded and has no last checkpoint"
        if run.path / "model" not in self.meddled:
            for one in there:
                assert state_in(one.path) == model_after(one.step), f"{one.path.name} is not that of an untouched run"

    def _is_whole(self, run: RunDirectory) -> None:
        assert run.read().status == "succeeded"
        self._is_trained(run)
        for one in checkpoints(run.path):
            assert not why_incomplete(one.path), f"{one.path.name} is left half-written"
        config = load_config(run.config_path, (), None).config if run.config_path.is_file() else None
        assert config is not None and config.identity is not None, "the run has no config"
        name = config.identity.name
        assert isinstance(name, str)
        rows = {path.name: _sha256(path) for path in run.data.glob("*.jsonl") if path not in self.users}
        assert rows == rows_of(name), f"the rows are not those of {name}"
        for file in ("identity.jsonl", "replay.jsonl"):
            meta = json.loads((run.data / f"{file}.meta.json").read_bytes())
            assert meta["sha256"] == rows[file], f"the record beside {file} is of another one"
        recorded = {Path(entry["path"]).name: entry["sha256"] for entry in run.read().data}
        assert recorded == {
            **{file: rows[file] for file in ("identity.jsonl", "replay.jsonl")},
            "mine.jsonl": _sha256(world().folder / "mine.jsonl"),
        }
        if self.prove:
            assert read_report(run.report()) is not None
            assert all(run.report().with_suffix(f".{suffix}").stat().st_size for suffix in SUFFIXES)
        assert self.filled or (run.kit / "loss.svg").stat().st_size  # no run fails for a picture
        assert not run.reserve.exists(), "the reserve is still there"
        left = list(run.path.rglob(f"{UNFINISHED}*"))
        assert not left, f"temporary files are left: {left}"

    # --- how ------------------------------------------------------------------------------------------------------

    def _do(self, call: Any, fault: Fault) -> Ended:
        seen.operations += 1
        seen.faults[fault.kind] += 1
        self.filled |= fault.kind in ("full", "blip")
        StandIn.killed_at_step = fault.at % STEPS + 1 if fault.kind == "trainer" else None

        def quiet() -> None:
            call()

        ended = in_child(quiet, world().output, fault)
        assert not ended.broke, ended.broke
        if ended.crashed:
            seen.crashed_at[ended.crashed] += 1
        return ended

    def _resume(self, run: RunDirectory, fault: Fault, overrides: list[str], *, accept: bool) -> Ended:
        def call() -> None:
            found = prepare_resumption(
                str(run.path), None, overrides, accept_changes=accept, ask_hub=False, evaluate=self.prove
            )
            train.resume(found, prove=self.prove)

        return self._do(call, fault)

    def _refused(self, ended: Ended) -> None:
        if ended.refused:
            seen.refusals[re.sub(r"v\d+-\d+-\d+|/\S+", "...", str(ended.refused))[:90]] += 1

    def _job(self) -> Job:
        return world().versioned if self.versioned else world().unversioned

    def _runs(self) -> list[RunDirectory]:
        return list_runs(world().output)

    def _no_report(self, run: RunDirectory) -> bool:
        return self.prove and not run.report().with_suffix(".html").is_file()

    def _folders(self) -> set[Path]:
        output = world().output
        return {path for path in output.iterdir() if path.is_dir()} if self.versioned and output.is_dir() else set()


def show_quietly(show: Any, *arguments: Any, **options: Any) -> str:
    """What a screen shows; an error of ours is an answer too."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        try:
            show(*arguments, **options)
        except UsageError as error:
            return str(error)
    return out.getvalue()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
