"""What made ms-swift fail, as far as its log and its exit tell: the cause, what to do about it, and the lines of it.

Owns the choice among all that a log says: which exception is the real one, what an exit code or a signal means. Does
not own the reading of tracebacks (`tracebacks`), nor what the exceptions mean (`causes_machine`, `causes_run`).
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sft_kit.data.text import safe
from sft_kit.errors import MsSwiftError, Problem
from sft_kit.msswift.cause import Cause, codes_of
from sft_kit.msswift.causes_machine import MACHINE, NATIVE, SIGNALS
from sft_kit.msswift.causes_run import RUN
from sft_kit.msswift.tracebacks import (
    Chain,
    Frame,
    LogLine,
    Raised,
    fatal_chains,
    last_words,
    numbered,
    root_of,
    rows_shown,
    torchrun_says,
)
from sft_kit.secrets import hide

UNKNOWN = "unknown"
MEMORY = ("gpu-out-of-memory", "out-of-memory")
_CAUSES: tuple[Cause, ...] = (*MACHINE, *RUN)
CODES = codes_of(MACHINE, RUN) | {code for code, _, _ in SIGNALS.values()} | {UNKNOWN}
"""Every code that a diagnosis can have; docs/failures.md has a row for each. Never renamed, never reused."""

_TAIL_BYTES = 1_000_000
_ENDS_BYTES = 200_000
_ARGPARSE = re.compile(r"^(?:\S+\.py|\S*python\S* -m \S+): error: (?P<message>.*)$")
_INSTALLED = re.compile(r"site-packages|dist-packages|/lib/python|^<|\.px[di]$")  # no file of the user's own
# c10/cuda/CUDAException.cpp puts these below each of its errors
_ALWAYS_SAID = re.compile(
    r"CUDA kernel errors might be async|For debugging consider passing CUDA|Compile with `TORCH_USE"
)
_STARTED_OVER = re.compile(r"={20} sft-kit: ")  # run.train, between two starts in one log
_WORD = re.compile(r"\w")
_MOST_LINES = 6
_LONGEST_LINE = 200  # characters
_SEARCH = "search the message in the issues of modelscope/ms-swift; `sft-kit doctor` shows the versions to tell there"
# One line each, from its beginning: a row of the data that ms-swift prints may hold the same words.
# torch: c10/cuda/CUDACachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp; numpy, pyarrow and Python end in MemoryError.
_NO_MEMORY = re.compile(
    r"^(?:\[rank\d+\]:\s*)?((?:torch\.)?(?:cuda\.)?OutOfMemoryError\b.*"
    r"|RuntimeError: .*(?:out of memory|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator: (?:can't|not enough)).*"
    r"|(?:[a-z_]\w*\.)*\w*MemoryError\b.*|OSError: \[Errno 12\].*"
    r"|terminate called after throwing an instance of 'std::bad_alloc')$",
    re.MULTILINE,
)
_KILLED_RANK = re.compile(r"Signal 9 \(SIGKILL\) received by PID")  # torchrun, of one of its processes
# ms-swift's progress bar, or the frames of transformers' Trainer: the model was loaded, the steps had begun
_TRAINING = re.compile(r"^Train: |\bin (?:_inner_training_loop|training_step)$", re.MULTILINE)
# ... and the validation between them or a checkpoint's writing was at work, by the frames or the last progress bar
_BETWEEN_STEPS = re.compile(r"\bin _maybe_log_save_evaluate$", re.MULTILINE)
_BAR = re.compile(r"^(Train|Val):\s+(\d+)%", re.MULTILINE)


@dataclass(frozen=True)
class Diagnosis:
    """Why ms-swift failed: a code of `CODES`, the cause in a few words, what to do about it, and at most six lines of
    the log, cut to 200 characters, without secrets and with control characters written out. `line` is the number of the
    first of them in the log; 0 where there is none.
    """

    code: str
    cause: str
    fix: str
    lines: tuple[str, ...] = ()
    line: int = 0


Ranked = tuple[tuple[bool, int], Diagnosis]
"""A diagnosis, whether it is but a consequence, and its place in the tables."""


def diagnose(log: Path, *, returncode: int | None = None, signal: int | None = None, since: int = 0) -> Diagnosis:
    """Why the ms-swift that wrote `log` from byte `since` on ended with `returncode`, or by `signal`.

    Never raises: an unreadable log is an empty one. Of a long log the last megabyte is read. What no table knows is
    `unknown`, with the last calls quoted: a guess would send people the wrong way.
    """
    lines = _read(log, since)
    again = max((at for at, line in enumerate(lines) if _STARTED_OVER.match(line.text)), default=-1)
    lines = lines[again + 1 :]
    root = torchrun_says(lines)
    ended_by = signal or _signal_of(returncode) or root.signal
    silent = ended_by in (signals.SIGKILL, signals.SIGTERM, signals.SIGHUP)  # who is killed prints no traceback
    chains = [] if silent and not root.rank else fatal_chains(lines)
    chains.sort(key=lambda chain: chain[0].rank != root.rank)
    known = sorted(_known(lines, chains), key=lambda each: each[0])
    own, consequences = ([each for rank, each in known if rank[0] is later] for later in (False, True))
    of_signal = [_diagnosis(*SIGNALS[ended_by], _last(lines))] if ended_by in SIGNALS else []
    strange = [
        _strange(chain) for chain in chains if not any(_in_tables(each.text, [], [], each.calls) for each in chain)
    ]
    if ended_by == signals.SIGABRT:  # NCCL's watchdog ends a process by it, torch one whose exception was the reason
        candidates = [*own, *strange, *consequences, *of_signal]
    else:
        candidates = [*own, *of_signal, *strange, *consequences, *_refused_argument(lines)]
    return next(iter(candidates), _diagnosis(UNKNOWN, "it printed no error", f"see its end; {_SEARCH}", _last(lines)))


def _strange(chain: Chain) -> Diagnosis:
    root, last = root_of(chain), chain[-1]
    lines = _quoted(root) if root is last else [*_quoted(root)[: _MOST_LINES - 1], last.message[0]]
    return _diagnosis(UNKNOWN, f"sft-kit does not know this failure: {root.message[0].text}", _SEARCH, lines)


def _known(lines: Sequence[LogLine], chains: Sequence[Chain]) -> Iterator[Ranked]:
    """What the tables know of the log, each with its rank, of which the lowest is the best."""
    for raised in (raised for chain in chains for raised in chain):
        yield from _in_tables(raised.text, _quoted(raised), lines, raised.calls)
    spoke = last_words(lines)
    after = _quoted(root_of(chains[0])) if chains else []
    for at, line in enumerate(lines):
        if line.number > spoke and NATIVE.search(line.text):
            these = lines[at : at + 3]
            yield from _in_tables("\n".join(each.text for each in these), [line, *(after or these[1:])], lines)


def _in_tables(text: str, quoted: Sequence[LogLine], lines: Sequence[LogLine], calls: str = "") -> list[Ranked]:
    """What the first cause that fits says, with its rank; nothing where none fits."""
    for index, each in enumerate(_CAUSES):
        if found := each.found_in(text, calls, lines):
            shown = [found.beside, *quoted] if found.beside else quoted
            return [((each.consequence, index), _diagnosis(each.code, found.cause, found.fix, shown))]
    return []


def _refused_argument(lines: Sequence[LogLine]) -> list[Diagnosis]:
    """The last words of argparse, which ends in exit code 2 without a traceback."""
    refusal = next(each for each in RUN if each.code == "wrong-value")
    spoke = last_words(lines)
    for line in reversed(lines):
        if line.number > spoke and (refused := _ARGPARSE.match(line.text)):
            found = refusal.found_in(f"argparse: {refused['message']}")
            return [_diagnosis(refusal.code, found.cause, found.fix, [line])] if found else []
    return []


def _signal_of(returncode: int | None) -> int | None:
    """The signal behind an exit code: a shell's 128+N, or the 256-N of a Python parent that passes -N on."""
    if returncode is None or not 128 < returncode < 255:
        return None
    number = returncode - 128 if returncode < 160 else 256 - returncode
    return number if number in SIGNALS else None


def _quoted(raised: Raised) -> list[LogLine]:
    """The calls of `raised` that matter, the user's own or else ms-swift's and the innermost, and what it says."""
    frames = raised.frames
    own = [frame for frame in frames if not _INSTALLED.search(frame.file)]
    swift = [frame for frame in frames if "/swift/" in frame.file]
    chosen: list[Frame] = []
    for frame in (*(own or swift)[-1:], *frames[-1:]):
        if frame not in chosen:
            chosen.append(frame)
    said = [line for line in raised.message if line.text.strip() and not _ALWAYS_SAID.match(line.text)]
    if len(said) > _MOST_LINES - 4:
        chosen = chosen[-1:]
    calls = [line for frame in chosen for line in (frame.line, frame.source) if line]
    return [*calls, *said[: _MOST_LINES - len(calls)]]


def _last(lines: Sequence[LogLine]) -> list[LogLine]:
    """The last lines that say something."""
    return [line for line in lines[-20:] if _WORD.search(line.text)][-3:]


def _diagnosis(code: str, cause: str, fix: str, lines: Sequence[LogLine]) -> Diagnosis:
    quoted = [line for line in lines if line.text.strip()][:_MOST_LINES]
    shown = tuple(_shown(line.text) for line in quoted)
    return Diagnosis(code, _shown(cause), _shown(fix, longest=400), shown, quoted[0].number if quoted else 0)


def _shown(text: str, longest: int = _LONGEST_LINE) -> str:
    """`text` as it may stand on a terminal and in a manifest: no secrets, and control characters written out."""
    start = text.expandtabs(4).rstrip()[: 10 * longest]  # far beyond what is shown, so that no secret is cut and missed
    whole = safe(hide(start).replace("\n", "\\n"))
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def _read(log: Path, since: int) -> list[LogLine]:
    """The last megabyte of `log` from byte `since` on, as numbered lines."""
    try:
        with log.open("rb") as file:
            start = max(since, file.seek(0, 2) - _TAIL_BYTES)
            file.seek(0)
            before = 0
            while (here := file.tell()) < start and (block := file.read(min(1 << 20, start - here))):
                before += block.count(b"\n")
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return numbered(text, before + 1)


@dataclass(frozen=True)
class Ending:
    """What the end of a log tells about memory.

    `no_memory` is the line that says that there was none left ("" if none does), `killed` whether torchrun says that
    the system killed one of its processes, `training` whether a training step was at work: while the model is loaded,
    in validation and in saving a smaller batch is no help.
    """

    no_memory: str
    killed: bool
    training: bool


def ending(log: Path, since: int = 0) -> Ending:
    """What `log` says from byte `since` on; of a long one the first and the last 200 kB are read."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            text = file.read(_ENDS_BYTES)
            here = file.tell()
            file.seek(0, 2)
            file.seek(max(here, file.tell() - _ENDS_BYTES))
            text += file.read()
    except OSError:
        return Ending("", killed=False, training=False)
    lines = text.decode("utf-8", "replace").replace("\r", "\n")
    split = [LogLine(number, line) for number, line in enumerate(lines.split("\n"))]
    rows = rows_shown(split)  # which may hold these very words
    found = _NO_MEMORY.search("\n".join(line.text for line in split if line.number not in rows))
    return Ending(found[1][:500] if found else "", bool(_KILLED_RANK.search(lines)), training=_in_a_step(lines))


def _in_a_step(lines: str) -> bool:
    if not _TRAINING.search(lines) or _BETWEEN_STEPS.search(lines):
        return False
    bars = _BAR.findall(lines)
    return not bars or bars[-1][0] == "Train" or bars[-1][1] == "100"


def ms_swift_error(what: str, found: Diagnosis, log: Path, *, returncode: int) -> MsSwiftError:
    """The error that shows a diagnosis: what failed and the cause, the fix, the lines of the log, where the rest is."""
    lines = [f"  | {line}" for line in found.lines]
    place = f"  its whole output: {log}"
    fix = "\n".join((found.fix, *lines, f"{place} (line {found.line})" if found.line else place))
    values = {**asdict(found), "lines": list(found.lines)}
    return MsSwiftError(Problem("", f"{what}: {found.cause}", fix), returncode=returncode, failure=values)


def of_memory(message: str) -> Diagnosis:
    """The diagnosis of a process that had no memory left, as `message` says: its own last words, or the kernel's."""
    for _, found in _in_tables(message, [], []):
        if found.code in MEMORY:
            return replace(found, lines=(_shown(message),))
    fix = next(each.fix for each in MACHINE if each.code == "out-of-memory")
    return _diagnosis("out-of-memory", message, fix, [])
