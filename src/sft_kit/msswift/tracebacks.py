"""The exceptions in a log, as Python prints them, and which of them ended the process.

Owns the reading of tracebacks: their frames, chains (`The above exception was the direct cause ...`), the processes
(`[rank1]:`) that print into each other's lines, and what torchrun says of them. Does not know what any exception means
(`causes`). A row of data that ms-swift prints may hold a whole traceback: see `fatal_chains`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# A progress bar, or another process's line, may stand before the header: neither ends in a newline of its own.
_HEADER = re.compile(r"(?:^|[\]\s)])(?<!swift\] )(?:Original )?Traceback \(most recent call last\):$")
_RANK = re.compile(r"\[(rank\d+)\]: ?")
_FRAME = re.compile(r'^\s+File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_RAISED = re.compile(r"^(?P<kind>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?P<message>:(?: .*)?)?$")
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_NOT_THE_MESSAGE = re.compile(
    r"^(\[(?:INFO|WARNING|ERROR|DEBUG):|\[?[EWI]\d{3,4} \d\d:|\[\d{4}-\d\d-\d\d |\w+:\s+\d+%\||=={20}|\"\"\"$"
    r"|Exception ignored in)"
)
# Said of an exception that ends a thread, a destructor or nothing at all.
_ASIDE = re.compile(r"^(Exception ignored |Exception in thread |Error in atexit|--- Logging error ---)")
# Of torchrun's own process: it only repeats that one of its processes failed.
_TORCHRUN_S_OWN = re.compile(r"(ChildFailedError|SignalException)$")
# ms-swift's words mean that it went on, except those that it prints from a `finally` (pipelines/train/sft.py).
_WENT_ON = re.compile(
    r"(?:^|\])\[(?:INFO|WARNING):swift\] (?!last_model_checkpoint|best_model_checkpoint|images_dir|End time)"
)
_SAID = re.compile(r"\[(?:INFO|WARNING|ERROR):swift\] ")
_ROW = re.compile(r"\[[A-Z0-9_]+\] ?")
_LONGEST_MESSAGE = 40  # lines
_LONGEST_LINE = 4000  # characters of the beginning and of the end of a line
_MOST_NOISE = 20  # lines of other processes between two of one traceback


@dataclass(frozen=True)
class LogLine:
    """A line of the log without the name of its rank; `number` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Frame:
    """One call: the line that names its file, and what is shown of its source."""

    line: LogLine
    source: LogLine | None
    file: str


@dataclass(frozen=True)
class Raised:
    """One exception: where it came from, outermost call first, and what it says, on one line or several.

    `link` tells how it follows the one before it in its chain: raised from it ("cause"), while that was handled
    ("context"), or inside a worker process whose words that one repeats ("inside").
    """

    kind: str
    frames: tuple[Frame, ...]
    message: tuple[LogLine, ...]
    rank: str
    link: Literal["", "cause", "context", "inside"] = ""
    aside: bool = False

    @property
    def text(self) -> str:
        """`KeyError: 'messages'`, with all lines of the message."""
        return "\n".join(line.text for line in self.message)

    @property
    def calls(self) -> str:
        """The lines that name the files of its frames, and their source."""
        return "\n".join(f"{frame.line.text}\n{frame.source.text if frame.source else ''}" for frame in self.frames)


Chain = tuple[Raised, ...]


def root_of(chain: Chain) -> Raised:
    """The exception that the last one of `chain` comes from, as far as Python says so.

    What was raised from another stands for it; what was raised while another was handled is a failure of its own.
    """
    at = len(chain) - 1
    while at and chain[at].link == "cause":
        at -= 1
    return chain[at]


def numbered(text: str, first: int) -> list[LogLine]:
    """The lines of `text`; of one that a progress bar overwrote, what it shows in the end."""
    lines = []
    for number, line in enumerate(text.split("\n"), first):
        shown = next((part for part in reversed(line.split("\r")) if part), "")
        short = shown if len(shown) <= 2 * _LONGEST_LINE else f"{shown[:_LONGEST_LINE]}…{shown[-_LONGEST_LINE:]}"
        lines.append(LogLine(number, short))
    return lines


def last_words(lines: Iterable[LogLine]) -> int:
    """The number of the last line in which ms-swift says something that it would not say when it fails; 0: none."""
    return max((line.number for line in lines if _WENT_ON.search(line.text)), default=0)


def fatal_chains(lines: Sequence[LogLine]) -> list[Chain]:
    """Of each process the exceptions that may have ended it, with those that they come from; the earliest first.

    A traceback after which the same process still spoke as ms-swift does was printed of a dropped row, or stood in one:
    it ended nothing. Below torchrun (its summary names a root) another rank may have spoken, so those outside of rows
    count there if there is no other.
    """
    several = bool(torchrun_says(lines).rank)
    found: list[Chain] = []
    for rank, own in _processes(lines).items():
        chains = [chain for chain in _chains(own, rank) if not _TORCHRUN_S_OWN.search(chain[-1].kind)]
        spoke = last_words(own)
        late = [chain for chain in chains if rank or chain[-1].message[0].number > spoke]
        if several and not late:
            rows = rows_shown(own)
            late = [chain for chain in chains if chain[-1].message[0].number not in rows]
        main = [chain for chain in late if not chain[0].aside] or late
        found += main[-1:]
    return sorted(found, key=lambda chain: chain[-1].message[0].number)


def rows_shown(lines: Iterable[LogLine]) -> set[int]:
    """The numbers of the lines that are the text of a row which ms-swift shows: `[INFO:swift] [INPUT] ...`."""
    found: set[int] = set()
    inside = False
    for line in lines:
        if said := _SAID.search(line.text):
            inside = bool(_ROW.match(line.text, said.end()))
        if inside:
            found.add(line.number)
    return found


def _processes(lines: Sequence[LogLine]) -> dict[str, list[LogLine]]:
    """The lines of each rank that says its name, and under "" those of nobody."""
    own: dict[str, list[LogLine]] = {}
    for line in lines:
        rank = _RANK.match(line.text) or (_HEADER.search(line.text) and _RANK.search(line.text))
        name, text = (rank[1], line.text[rank.end() :]) if rank else ("", line.text)
        own.setdefault(name, []).append(LogLine(line.number, text))
    return own


def _chains(lines: Sequence[LogLine], rank: str) -> list[Chain]:
    chains: list[Chain] = []
    for raised in _raised(lines, rank):
        if raised.link and chains:
            chains[-1] = (*chains[-1], raised)
        else:
            chains.append((raised,))
    return chains


def _raised(lines: Sequence[LogLine], rank: str) -> Iterator[Raised]:
    link: Literal["", "cause", "context", "inside"] = ""
    aside = False
    at = 0
    while at < len(lines):
        text = lines[at].text
        if text == _CAUSE:
            link = "cause"
        elif text == _CONTEXT:
            link = "context"
        elif _ASIDE.match(text):
            aside = True
        elif _HEADER.search(text):
            frames, message, after = _block(lines, at + 1)
            if message:
                kind = _RAISED.match(message[0].text)
                inside = "Original Traceback" in text
                yield Raised(kind["kind"] if kind else "", frames, message, rank, "inside" if inside else link, aside)
                link, aside, at = "", False, after
                continue
        at += 1


def _block(lines: Sequence[LogLine], at: int) -> tuple[tuple[Frame, ...], tuple[LogLine, ...], int]:
    """Frames and message of the traceback whose header stands before `at`, and where the log goes on."""
    frames: list[Frame] = []
    noise = 0
    while at < len(lines) and noise < _MOST_NOISE:
        line = lines[at]
        if frame := _FRAME.match(line.text):
            frames.append(Frame(line, None, frame["file"]))
        elif frames and line.text.startswith("    "):
            if frames[-1].source is None and line.text.strip("~^ "):
                frames[-1] = Frame(frames[-1].line, line, frames[-1].file)
        elif frames and _is_raised(line.text):
            message = _message(lines, at)
            return tuple(frames), message, at + len(message)
        elif _HEADER.search(line.text) or line.text in (_CAUSE, _CONTEXT):
            break
        else:
            noise += 1
        at += 1
    return tuple(frames), (), at


def _is_raised(text: str) -> bool:
    found = _RAISED.match(text)
    if found is None or _NOT_THE_MESSAGE.match(text):
        return False
    return bool(found["message"]) or "." in text or text != text.lower()


def _message(lines: Sequence[LogLine], at: int) -> tuple[LogLine, ...]:
    """The lines of an exception's message from `at` on, without what is printed after it."""
    message = [lines[at]]
    for line in lines[at + 1 : at + _LONGEST_MESSAGE]:
        ended = _HEADER.search(line.text) or line.text in (_CAUSE, _CONTEXT) or _NOT_THE_MESSAGE.match(line.text)
        if ended or _RANK.match(line.text):
            break
        message.append(line)
    while not message[-1].text.strip():
        message.pop()
    return tuple(message)


@dataclass(frozen=True)
class Torchrun:
    """What torchrun says of the process that failed first: `rank1`, its exit code or its signal; "" and None where it
    says nothing."""

    rank: str = ""
    returncode: int | None = None
    signal: int | None = None


# torch/distributed/elastic/multiprocessing/errors/__init__.py, _format_failure
_ROOT = re.compile(r"^Root Cause \(first observed failure\):$")
_ROOT_RANK = re.compile(r"^\s+rank\s+: (\d+) ")
_ROOT_EXIT = re.compile(r"^\s+exitcode\s+: (-?\d+) ")


def torchrun_says(lines: Sequence[LogLine]) -> Torchrun:
    """torchrun's summary of the failure, at the end of the log."""
    roots = [index for index, line in enumerate(lines) if _ROOT.match(line.text)]
    if not roots:
        return Torchrun()
    rank, code = "", 0
    for line in lines[roots[-1] : roots[-1] + 10]:
        if found := _ROOT_RANK.match(line.text):
            rank = f"rank{found[1]}"
        elif found := _ROOT_EXIT.match(line.text):
            code = int(found[1])
    return Torchrun(rank, code if code > 0 else None, -code if code < 0 else None)
