"""The run directory: its name, its manifest and the truth about its status.

Owns `<output_dir>/v<N>-<YYYYmmdd-HHMMSS>/sft-kit/`. ms-swift's own files lie beside that folder and are never
touched. A run is alive for as long as its launcher holds the lock file; the lock dies with its owner, so a run
whose launcher was killed is never shown as running, whatever its manifest says.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sft_kit.errors import Problem, UsageError

Status = Literal["planned", "running", "succeeded", "failed", "interrupted"]
SCHEMA_VERSION = 1
_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)
RUN_NAME = re.compile(r"^v(\d+)-\d{8}-\d{6}$")
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

    def attempt(self, number: int) -> Path:
        """ms-swift's step records of a start (from 1) that ran out of memory."""
        return self.kit / f"attempt-{number}.jsonl"

    @property
    def logging_jsonl(self) -> Path:
        """ms-swift's own step records."""
        return self.path / "logging.jsonl"

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest in one step: a reader sees the old or the new one, never half of it."""
        text = json.dumps(_finite(asdict(manifest)), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        # a path that is not UTF-8 becomes the JSON escape of its bytes
        write_atomic(self.manifest_path, text.encode("utf-8", "backslashreplace").decode())

    def read(self) -> Manifest:
        """The manifest with its true status: one that says running without a live launcher is interrupted.

        Raises UsageError when there is none, it is not one of ours, or a newer sft-kit wrote it.
        """
        place = str(self.manifest_path)
        try:
            values = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(Problem(str(self.path), "is not a run of sft-kit (no sft-kit/manifest.json)")) from None
        except OSError as error:
            raise UsageError(Problem(place, f"cannot be read: {error.strerror}")) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(Problem(place, f"is damaged: {error}")) from error
        if not isinstance(values, dict) or values.get("status") not in get_args(Status):
            raise UsageError(Problem(place, "is not a manifest of sft-kit"))
        if values.get("schema") != SCHEMA_VERSION:
            message = f"has schema {values.get('schema')!r}, this sft-kit knows {SCHEMA_VERSION}"
            raise UsageError(Problem(place, message, "was it written by a newer sft-kit? pip install -U sft-kit"))
        try:
            manifest = Manifest(**{key: values[key] for key in Manifest.__dataclass_fields__ if key in values})
            manifest = replace(  # JSON knows no tuples
                manifest,
                argv=tuple(manifest.argv),
                data=tuple(manifest.data),
                mix=tuple(manifest.mix),
                attempts=tuple(manifest.attempts),
            )
            if not all(isinstance(getattr(manifest, name), str) for name in ("created", "model", "message")):
                raise TypeError("created, model and message are texts")
        except TypeError as error:
            raise UsageError(Problem(place, f"is damaged: {error}")) from error
        if manifest.status in ("planned", "running") and not self.locked():
            message = manifest.message or "the launcher is gone (killed, or the machine stopped)"
            manifest = replace(manifest, status="interrupted", message=message, pid=None)
        return manifest

    def locked(self) -> bool:
        """Whether a launcher holds this run now."""
        try:
            descriptor = os.open(self.kit / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process. Raises UsageError when another launcher holds it."""
        self.kit.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.kit / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _flock_exclusively(descriptor)
            except OSError:
                fix = "wait for it, or give another output_dir"
                raise UsageError(Problem(str(self.path), "another sft-kit is using this run directory", fix)) from None
            yield
        finally:
            os.close(descriptor)  # closing releases the lock


def run_around(checkpoint: Path) -> RunDirectory | None:
    """The run of ours in whose directory `checkpoint` lies."""
    run = RunDirectory(checkpoint.absolute().parent)
    return run if run.manifest_path.is_file() else None


def next_run_path(output_dir: Path, *, now: datetime.datetime | None = None) -> Path:
    """The name the next run gets: ms-swift's own `v<N>-<YYYYmmdd-HHMMSS>`, N one above the highest there."""
    numbers = [int(match[1]) for match in map(RUN_NAME.match, _names(output_dir)) if match]
    stamp = (now or datetime.datetime.now()).strftime("%Y%m%d-%H%M%S")
    return output_dir.resolve() / f"v{max(numbers, default=-1) + 1}-{stamp}"


def create_run(output_dir: Path, *, versioned: bool) -> RunDirectory:
    """Make the directory of a new run below `output_dir` (or `output_dir` itself when not `versioned`).

    Raises UsageError when it cannot be written or, unversioned, already holds a run.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if not versioned:
            run = RunDirectory(output_dir.resolve())
            check_output_dir(output_dir, versioned=False)
            try:
                run.kit.mkdir()
            except FileExistsError:  # another launcher was faster
                check_output_dir(output_dir, versioned=False)
            run.data.mkdir()
            return run
        with _alone_in(output_dir):  # or two launchers take the same number
            run = RunDirectory(next_run_path(output_dir))
            run.data.mkdir(parents=True)
            return run
    except (FileExistsError, NotADirectoryError):
        raise UsageError(Problem(str(output_dir), "output_dir is a file", "give a directory")) from None
    except PermissionError:
        fix = "give another one with --set output_dir=..."
        raise UsageError(Problem(str(output_dir), "output_dir cannot be written (no permission)", fix)) from None
    except OSError as error:
        raise UsageError(Problem(str(output_dir), f"output_dir cannot be used: {error.strerror}")) from error


def list_runs(output_dir: Path) -> list[RunDirectory]:
    """The runs below `output_dir` (or `output_dir` itself if it is one), newest first."""
    candidates = [output_dir, *(output_dir / name for name in _names(output_dir))]
    # os.path.isfile, since Path.is_file raises for a folder that may not be read
    found = [path for path in candidates if os.path.isfile(path / "sft-kit" / "manifest.json")]
    runs = [RunDirectory(path.resolve()) for path in found]
    return sorted(runs, key=_age, reverse=True)


def find_run(name: str, output_dir: Path) -> RunDirectory:
    """The run called `name`: `latest`, a path, a name below `output_dir`, or the start of one such as `v3`.

    Raises UsageError naming what there is.
    """
    if (Path(name) / "sft-kit" / "manifest.json").is_file():
        return RunDirectory(Path(name).resolve())
    runs = list_runs(output_dir)
    if name == "latest" and runs:
        return runs[0]
    matches = [run for run in runs if run.name == name] or [run for run in runs if run.name.split("-")[0] == name]
    if matches:
        return matches[0]
    there = ", ".join(run.name for run in runs[:5]) or "none yet"
    fix = f"runs below {output_dir}: {there}; --output-dir looks elsewhere"
    raise UsageError(Problem(name, "no such run", fix))


def write_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8 beside `path`, flush it to the disk, then put it in place."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_output_dir(target: Path, *, versioned: bool) -> None:
    """Whether a run could be created below `target`, seen from its nearest parent that exists.

    Writes nothing. Raises UsageError; an unversioned `target` must not hold a run yet.
    """
    taken = [name for name in sorted(_names(target)) if _OF_A_RUN.match(name)]
    if taken and not versioned:
        fix = "remove add_version: false, or give another output_dir"
        raise UsageError(Problem("", f"{target} already holds a run ({taken[0]})", fix))
    nearest = next((path for path in (target, *target.absolute().parents) if path.exists()), Path("/"))
    if not nearest.is_dir():
        raise UsageError(Problem("", f"{nearest} is a file", "give a directory"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        fix = "give another one with --set output_dir=..."
        raise UsageError(Problem("", f"no permission to write below {nearest}", fix))


def now_iso() -> str:
    """The present moment for a manifest."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(Problem(str(directory), f"cannot be read: {error.strerror}")) from error


def _age(run: RunDirectory) -> tuple[float, int]:
    """When a run was created (seconds since 1970; 0 when its manifest does not say) and its number."""
    number = RUN_NAME.match(run.name)
    try:
        text = json.loads(run.manifest_path.read_text(encoding="utf-8"))["created"]
        created = datetime.datetime.fromisoformat(text).timestamp()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        created = 0.0
    return created, int(number[1]) if number else -1


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


def _flock_exclusively(descriptor: int) -> None:
    """Take the lock; tries for 0.2 s, since `locked()` of another process holds it for a moment."""
    for last in (*[False] * 9, True):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if last:
                raise
            time.sleep(0.02)


def _finite(value: Any) -> Any:
    """`value` with NaN and infinities as None: JSON has neither, and a diverged run has both."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
