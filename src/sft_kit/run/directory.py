"""The run directory: its name, its manifest and the truth about its status. Which ones there are, `runs` tells.

Owns `<output_dir>/v<N>-<YYYYmmdd-HHMMSS>/sft-kit/`. ms-swift's own files lie beside that folder and are never
touched. A run is alive for as long as its launcher holds the lock file; the lock dies with its owner, so a run
whose launcher was killed is never shown as running, whatever its manifest says.
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sft_kit.errors import Problem, UsageError
from sft_kit.run.lock import hold, is_held
from sft_kit.secrets import hide_in
from sft_kit.writes import (
    UNFINISHED,
    not_read,
    not_written,
    put_in_place,
    remove_unfinished,
    room_at,
)

Status = Literal["planned", "running", "succeeded", "failed", "interrupted"]
SCHEMA_VERSION = 1
_QUOTES = ("message", "attempts", "resumed", "signs", "failure")  # fields that hold what others printed
_TABLES = ("data", "mix", "attempts", "resumed", "signs")
_OBJECTS = ("env", "versions", "replay", "seconds", "scores", "failure")
RUN_NAME = re.compile(r"^v(\d+)-\d{8}-\d{6}$")
_RESERVE_BYTES = 64 * 1024  # a manifest takes a tenth of it
_OF_A_RUN = re.compile(r"^(sft-kit|args\.json|logging\.jsonl|checkpoint-.*)$")


@dataclass(frozen=True)
class Manifest:
    """What one run is and what became of it. Times are ISO 8601 in local time with offset; durations seconds."""

    status: Status
    created: str
    config: str  # path of the config as the user gave it
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # only what sft-kit set, secrets removed
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[Mapping[str, Any]] = ()  # path, bytes, sha256
    mix: Sequence[Mapping[str, Any]] = ()  # name, rows, trained, repeats, share, tokens
    replay: Mapping[str, Any] = field(default_factory=dict)  # asked, rows, shortened, cached, skipped by reason
    started: str | None = None
    ended: str | None = None
    pid: int | None = None
    returncode: int | None = None
    signal: int | None = None
    message: str = ""  # why it failed or was interrupted, in one line
    tuner_type: str = ""
    model: str = ""
    last_checkpoint: str | None = None  # relative to the run directory
    best_checkpoint: str | None = None
    steps: int | None = None
    final_loss: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)  # prepare, train, evaluate
    scores: Mapping[str, Any] = field(default_factory=dict)
    # where memory ran out: micro_batch, accumulation, checkpointing, returncode, signal, message of each start
    attempts: Sequence[Mapping[str, Any]] = ()
    # each `train --resume`: at, checkpoint (None: from the beginning), step, status and message before, changed keys
    resumed: Sequence[Mapping[str, Any]] = ()
    signs: Sequence[Mapping[str, Any]] = ()  # what was seen wrong while it trained: code, severity, step, message, fix
    failure: Mapping[str, Any] = field(default_factory=dict)  # why ms-swift failed: code, cause, fix, lines of its log
    schema: int = SCHEMA_VERSION

    @property
    def checkpoint(self) -> str | None:
        """The one that the run stands for: the best by its validation loss, else the last."""
        return self.best_checkpoint or self.last_checkpoint


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run. `path` is absolute."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kit(self) -> Path:
        """sft-kit's own folder inside the run."""
        return self.path / "sft-kit"

    @property
    def manifest_path(self) -> Path:
        return self.kit / "manifest.json"

    @property
    def config_path(self) -> Path:
        return self.kit / "config.yaml"

    @property
    def data(self) -> Path:
        return self.kit / "data"

    @property
    def held_out(self) -> Path:
        """The identity questions that no row of the run asks."""
        return self.data / "identity.held_out.jsonl"

    def report(self, checkpoint: str | None = None) -> Path:
        """The files of the report without their suffix: on the run's best checkpoint, or on another one's name."""
        return self.kit / (f"report-{checkpoint}" if checkpoint else "report")

    @property
    def log(self) -> Path:
        """Everything ms-swift printed while training."""
        return self.kit / "train.log"

    def next_attempt(self) -> Path:
        """Where the step records of a start that ran out of memory go, and in a folder of that name its checkpoints:
        `attempt-1.jsonl`, or the first that is free (a resumed run can run out again)."""
        files = (self.kit / f"attempt-{number}.jsonl" for number in itertools.count(1))
        return next(file for file in files if not (file.exists() or file.with_suffix("").exists()))

    @property
    def logging_jsonl(self) -> Path:
        """ms-swift's own step records."""
        return self.path / "logging.jsonl"

    @property
    def reserve(self) -> Path:
        """Room on the disk that a live run keeps, so that how it ended can be written when all else is full."""
        return self.kit / "reserve"

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest in one step: a reader sees the old or the new one, never half of it.

        Raises NotWritten, with the old one whole. A last status is written with the room of the reserve.
        """
        values: dict[str, Any] = _finite(asdict(manifest))
        values |= hide_in({name: values[name] for name in _QUOTES})
        text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        # a path that is not UTF-8 becomes the JSON escape of its bytes
        text = text.encode("utf-8", "backslashreplace").decode()
        live = manifest.status in ("planned", "running")
        if not live:
            with suppress(OSError):  # before, not after: a launcher killed in between would leave it for good
                self.reserve.unlink(missing_ok=True)
        write_atomic(self.manifest_path, text)
        if live and not self.reserve.exists():
            with suppress(OSError):  # without it a run is only worse off on a full disk
                _fill(self.reserve)

    def read(self) -> Manifest:
        """The manifest with its true status: one that says running without a live launcher is interrupted.

        Raises UsageError when there is none, it is not one of ours, or a newer sft-kit wrote it.
        """
        place = str(self.manifest_path)
        if os.path.exists(place) and not os.path.isfile(place):  # reading a pipe would never end
            raise UsageError(Problem(place, "is not a file", "remove it"))
        try:
            text = self.manifest_path.read_bytes()
            values = json.loads(text)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(Problem(str(self.path), "is not a run of sft-kit (no sft-kit/manifest.json)")) from None
        except OSError as error:
            raise not_read(self.manifest_path, error) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(Problem(place, f"is damaged: {error}")) from error
        if not isinstance(values, dict) or values.get("status") not in get_args(Status):
            raise UsageError(Problem(place, "is not a manifest of sft-kit"))
        if values.get("schema") != SCHEMA_VERSION:
            message = f"has schema {values.get('schema')!r}, this sft-kit knows {SCHEMA_VERSION}"
            raise UsageError(Problem(place, message, "was it written by a newer sft-kit? pip install -U sft-kit"))
        kinds = {name: str(of.type) for name, of in Manifest.__dataclass_fields__.items() if name in values}
        if odd := [name for name, kind in kinds.items() if kind in _KINDS and not _KINDS[kind](values[name])]:
            raise UsageError(Problem(place, f"is damaged: of another kind than sft-kit writes: {', '.join(odd)}"))
        try:
            manifest = Manifest(**{name: values[name] for name in kinds})
            manifest = replace(  # JSON knows no tuples
                manifest,
                argv=tuple(manifest.argv),
                data=tuple(manifest.data),
                mix=tuple(manifest.mix),
                attempts=tuple(manifest.attempts),
                resumed=tuple(manifest.resumed),
                signs=tuple(manifest.signs),
            )
            if not all(isinstance(row, Mapping) for name in _TABLES for row in getattr(manifest, name)):
                raise TypeError(f"{', '.join(_TABLES)} are lists of objects")
            if not all(isinstance(getattr(manifest, name), Mapping) for name in _OBJECTS):
                raise TypeError(f"{', '.join(_OBJECTS)} are objects")
        except TypeError as error:
            raise UsageError(Problem(place, f"is damaged: {error}")) from error
        if manifest.status in ("planned", "running") and not self.locked():
            if self.recorded() != text:  # it came to its end between the two looks
                return self.read()
            message = manifest.message or "the launcher is gone (killed, or the machine stopped)"
            manifest = replace(manifest, status="interrupted", message=message, pid=None)
        return manifest

    def recorded(self) -> bytes:
        """The manifest as it lies there; empty when there is none. Equal bytes: nobody has written it since."""
        try:
            return self.manifest_path.read_bytes() if os.path.isfile(self.manifest_path) else b""
        except OSError:
            return b""

    def locked(self) -> bool:
        """Whether a launcher holds this run now, or something that it started still runs."""
        return is_held(self._lock)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run, and with it all that is started meanwhile; what a dead launcher of it left is ended before.

        Raises UsageError when another launcher holds it.
        """
        self.kit.mkdir(parents=True, exist_ok=True)
        with hold(self._lock):
            for folder in (self.kit, self.data):
                remove_unfinished(folder)
            yield

    @property
    def _lock(self) -> Path:
        return self.kit / "lock"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(value: Any, fits: Callable[[Any], bool] = lambda _: True) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "str": _is_text,
    "str | None": lambda value: value is None or _is_text(value),
    "int | None": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "float | None": lambda value: value is None or _is_number(value),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "Mapping[str, str]": lambda value: _is_mapping(value, _is_text),
    "Mapping[str, float]": lambda value: _is_mapping(value, _is_number),
    "Mapping[str, Any]": _is_mapping,
    "Sequence[Mapping[str, Any]]": lambda value: isinstance(value, list) and all(map(_is_mapping, value)),
}
"""Whether a value of JSON is one of the manifest's fields, by the words of its type."""


def run_around(checkpoint: Path) -> RunDirectory | None:
    """The run of ours in whose directory `checkpoint` lies."""
    run = RunDirectory(checkpoint.absolute().parent)
    return run if run.manifest_path.is_file() else None


def next_run_path(output_dir: Path, *, now: datetime.datetime | None = None) -> Path:
    """The name the next run gets: ms-swift's own `v<N>-<YYYYmmdd-HHMMSS>`, N one above the highest there."""
    numbers = [int(match[1]) for match in map(RUN_NAME.match, names_in(output_dir)) if match]
    stamp = (now or datetime.datetime.now()).strftime("%Y%m%d-%H%M%S")
    return output_dir.resolve() / f"v{max(numbers, default=-1) + 1}-{stamp}"


def create_run(output_dir: Path, *, versioned: bool) -> RunDirectory:
    """Make the directory of a new run below `output_dir` (or `output_dir` itself when not `versioned`).

    Raises UsageError when it cannot be written or, unversioned, already holds a run; nothing of it is left then.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if not versioned:
            run = RunDirectory(output_dir.resolve())
            check_output_dir(output_dir, versioned=False)
            run.kit.mkdir(exist_ok=True)  # one that was killed here, or is as far as this: the lock decides
            _furnish(run, run.kit)
            return run
        with _alone_in(output_dir):  # or two launchers take the same number
            run = RunDirectory(next_run_path(output_dir))
            run.path.mkdir()
            _furnish(run, run.path)
            return run
    except (FileExistsError, NotADirectoryError):
        raise UsageError(Problem(str(output_dir), "output_dir is a file", "give a directory")) from None
    except PermissionError:
        fix = "give another one with --set output_dir=..."
        raise UsageError(Problem(str(output_dir), "output_dir cannot be written (no permission)", fix)) from None
    except OSError as error:
        raise not_written(output_dir, error, _RESERVE_BYTES) from error


def _furnish(run: RunDirectory, made: Path) -> None:
    """Put into a new run what every run has; where that fails, `made` is gone again, unless others use it."""
    try:
        run.data.mkdir(parents=True, exist_ok=True)
        _fill(run.reserve)
    except BaseException:
        if not run.locked() and not run.recorded():
            shutil.rmtree(made, ignore_errors=True)
        raise


def _fill(reserve: Path) -> None:
    try:
        with reserve.open("wb") as file:
            file.write(os.urandom(_RESERVE_BYTES))  # zeros may take no room on a disk that compresses
    except BaseException:
        with suppress(OSError):
            reserve.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8 beside `path`, flush it to the disk, then put it in place.

    Raises NotWritten: what was at `path` is there still, and nothing is beside it.
    """
    content = text.encode("utf-8")
    try:
        put_in_place(path, content)
    except OSError as error:
        raise not_written(path, error, len(content)) from error


def check_output_dir(target: Path, *, versioned: bool) -> None:
    """Whether a run could be created below `target`, seen from its nearest parent that exists.

    Writes nothing. Raises UsageError; an unversioned `target` must not hold a run yet.
    """
    taken = [name for name in sorted(names_in(target)) if _OF_A_RUN.match(name)]
    if taken == ["sft-kit"] and _never_begun(RunDirectory(target)):
        taken = []
    if taken and not versioned:
        fix = "remove add_version: false, or give another output_dir"
        raise UsageError(Problem("", f"{target} already holds a run ({taken[0]})", fix))
    # os.path.exists, since Path.exists raises for a folder that may not be read
    nearest = next((path for path in (target, *target.absolute().parents) if os.path.exists(path)), Path("/"))
    if not nearest.is_dir():
        raise UsageError(Problem("", f"{nearest} is a file", "give a directory"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        fix = "give another one with --set output_dir=..."
        room = room_at(nearest)
        if room and room.read_only:
            raise UsageError(Problem("", f"the file system at {room.mount} is read-only", fix))
        raise UsageError(Problem("", f"no permission to write below {nearest}", fix))


def names_in(directory: Path) -> list[str]:
    """What lies in `directory`; nothing where it is none. Raises UsageError, exit 5 where the disk is at fault."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise not_read(directory, error) from error


def _never_begun(run: RunDirectory) -> bool:
    """Whether `run` is what a launcher leaves that was killed before its first manifest."""
    there = {name for name in names_in(run.kit) if not name.startswith(UNFINISHED)}
    return there <= {"config.yaml", "data", "lock", "reserve"} and not names_in(run.data) and not run.locked()


def now_iso() -> str:
    """The present moment for a manifest."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other process is in this block for `directory`. File systems without locks do without."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    """`value` with NaN and infinities as None: JSON has neither, and a diverged run has both."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
