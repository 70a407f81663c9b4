"""What people see: the only user of rich's widgets.

Results go to stdout, progress, warnings and errors to stderr. Off a terminal every widget becomes plain lines, one
a record, and NO_COLOR is honoured (by rich itself). Everything that is printed goes through `data.text.safe`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sft_kit.data.text import STEERING, safe
from sft_kit.errors import InterruptedRun, Problem, SftKitError
from sft_kit.findings import Finding
from sft_kit.secrets import hide

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

_PLAIN_WIDTH = 200  # columns of a table that goes to a file or a pipe
_LONGEST_SHOWN = 2_000  # characters of each part of an error, a warning or a finding
_LEAST_WIDTH = 20  # columns of a text beside its heading, however narrow the terminal is
_WORD = re.compile(r"(?:`[^`]*`|\S)+\s*")  # what stands in backquotes is to be copied: no line ends inside it


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)

ARROWS = {"falling": "↓", "flat": "→", "rising": "↑", "unknown": " "}
_PLAIN_EVERY_S = 2.0


def say(text: str, *, secrets: bool = False) -> None:
    """One line of progress; with `secrets` those in it are shown, for the one place that makes one and tells it."""
    err.print(Text(safe(text if secrets else hide(text))))


def result(text: str) -> None:
    """A line of a result to stdout; like `ls` and `git`, to the letter unless a terminal shows it."""
    result_piece(text + "\n")


def result_piece(text: str) -> None:
    """A piece of a streamed answer to stdout, at once; as `result`."""
    write_out(safe(text) if sys.stdout.isatty() else text)


def result_words(text: str) -> None:
    """A line of a result for people: on a terminal it is broken between words."""
    _print_words(out, Text(safe(text)))


def say_words(text: str) -> None:
    """One line of progress that may be long: on a terminal it is broken between words."""
    _print_words(err, Text(safe(hide(text))))


def _print_words(console: Console, text: Text, *, under: int = 2, indent: int = 0) -> None:
    """`text`, `indent` columns in; on a terminal broken between words, its further lines `under` columns in. A word
    that is longer than a line (a path) stays whole, for the terminal to fold."""
    lines = text.divide(_breaks(text.plain, console.width, under, indent)) if console.is_terminal else [text]
    for index, line in enumerate(lines):
        if index + 1 < len(lines):
            line.rstrip()
        console.print(Text.assemble(" " * (under if index else indent), line))


def _breaks(text: str, width: int, under: int, indent: int) -> list[int]:
    """Where the lines of `text` after the first begin."""
    breaks, column = [], indent
    for word in _WORD.finditer(text):
        if column + cell_len(word[0].rstrip()) > width and column > indent:
            breaks.append(word.start())
            column = indent = under
        column += cell_len(word[0])
        if "\n" in word[0]:
            column = cell_len(word[0].rpartition("\n")[2])
    return breaks


def print_lines(lines: Sequence[tuple[str, str]], *, indent: int = 0) -> None:
    """Lines of `what  value` on stdout, the values under each other. On a terminal a long value is broken between words
    and goes on under itself; what is to be copied (a command, a path) belongs in `result`."""
    width = max((cell_len(what) for what, _ in lines), default=0)
    start = indent + width + 2 * bool(width)
    for what, value in lines:
        head = f"{'':<{indent}}{what}{'':<{start - indent - cell_len(what)}}"
        if not out.is_terminal:
            result(f"{head}{value}".rstrip())
            continue
        for line in Text(safe(value)).wrap(out, max(_LEAST_WIDTH, out.width - start)):
            line.rstrip()
            out.print(Text.assemble((head, "bold"), line))
            head = " " * start


def result_json(value: Any) -> None:
    """A result for scripts, as one line of JSON on stdout. What could steer or reorder a terminal is escaped, which
    leaves the value what it is, and so are bytes of a file name that are no text."""
    write_out(STEERING.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(value, ensure_ascii=False)) + "\n")


def warn(problem: Problem | str) -> None:
    """One warning; on a terminal what to do about it stands on a line of its own, as that of an error does."""
    head = ("warning: ", "yellow")
    if isinstance(problem, Problem) and err.is_terminal:
        _show_problem(head, problem)
    else:
        _print_words(err, Text.assemble(head, _short(str(problem))))


def show_error(error: SftKitError) -> None:
    """Every problem of `error`, each with its place and its fix."""
    for problem in error.problems:
        _show_problem(("error: ", "bold red"), problem)


def _show_problem(head: tuple[str, str], problem: Problem) -> None:
    place = f"{_short(problem.place)}: " if problem.place else ""
    _print_words(err, Text.assemble(head, (place, "bold"), _short(problem.message)), under=4)
    if problem.fix:
        _print_words(err, Text(_short(problem.fix), style="cyan"), indent=2)


_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show_finding(finding: Finding) -> None:
    """One finding of a check on stdout, its fix on a line of its own."""
    style = _SEVERITY_STYLES[finding.severity]
    place, message, fix = (_short(text).replace("\n", " ") for text in (finding.place, finding.message, finding.fix))
    head = (f"{finding.severity} ", style), (f"{place}: ", "bold"), message
    _print_words(out, Text.assemble(*head, (f"  [{finding.code}]", "dim")), under=4)
    more = f"lines {', '.join(map(str, finding.lines))}" if len(finding.lines) > 1 else ""
    rest = "; ".join(part for part in (more, fix) if part)
    if rest:
        _print_words(out, Text(rest, style="cyan"), indent=2)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    whole: int = 0,
    numbers: Collection[int] = (),
) -> None:
    """A table on stdout; cells are plain text: nothing in them is read as markup or as a control code.

    The first `whole` columns are never broken over lines, nor are those of `numbers`, which stand to the right. A table
    that is wider than the terminal goes without its frame.
    """
    table = Table(title=Text(safe(title)) if title else None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        is_number = index in numbers
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(Text(safe(column)), overflow="fold", no_wrap=index < whole or is_number, justify=justify)
    for row in rows:
        table.add_row(*(Text(safe(hide(cell))) for cell in row))
    if not out.is_terminal:
        table.box = box.SIMPLE
        with out.capture() as captured:
            out.print(table)
        write_out("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        return
    if out.measure(table, options=out.options.update(max_width=_PLAIN_WIDTH)).maximum > out.width:
        table.box, table.pad_edge, table.padding = None, False, (0, 2, 0, 0)
    out.print(table)


Mark = Literal["plain", "heading", "trained", "special", "bracket", "faint"]
_STYLES: dict[Mark, str] = {
    "plain": "", "heading": "bold", "faint": "dim",
    "trained": "bold green", "special": "cyan", "bracket": "bold yellow",
}  # fmt: skip


def print_marked(lines: Iterable[Sequence[tuple[str, Mark]]]) -> None:
    """Lines on stdout, each made of stretches of text with what they are; without colour the text alone is shown."""
    for line in lines:
        out.print(Text.assemble(*((safe(text), _STYLES[mark]) for text, mark in line)))


def _short(text: str) -> str:
    """`safe`, and no longer than a screen: a path or a value of 100,000 characters would bury what is said about it."""
    more = len(text) - _LONGEST_SHOWN
    return safe(text) if more <= 0 else f"{safe(text[:_LONGEST_SHOWN])}... ({more:,} more characters)"


def write_out(text: str) -> None:
    """Text to stdout as it is, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def person_is_typing() -> bool:
    """Whether a person is typing: stdin and stdout are both a terminal."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())


def is_terminal() -> bool:
    """Whether a person is watching stderr."""
    return err.is_terminal


class StepRecord(Protocol):
    """What a training view needs of `msswift.logs.StepLog`."""

    @property
    def step(self) -> int: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def seconds_per_step(self) -> float | None: ...
    @property
    def memory_gib(self) -> float | None: ...


class _LiveBar:
    """A bar on stderr while its block runs, `figures` being the text beside it; off a terminal nothing is drawn."""

    def __init__(self, figures: str) -> None:
        self._live = err.is_terminal
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn(figures), TimeElapsedColumn(), console=err, transient=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()


class TrainingView(_LiveBar):
    """Live progress of a training run: step, loss and its trend, rate, ETA, memory.

    A context manager. `waiting` shows a phase before the first step; `step` shows one record.
    """

    def __init__(self) -> None:
        super().__init__("{task.fields[detail]}")
        self._last_line = 0.0
        self._last_step = -1
        self._task = self._progress.add_task("starting ms-swift", total=None, detail="")

    def waiting(self, phase: str) -> None:
        """Nothing to count yet: show the phase ms-swift is in."""
        if self._live:
            self._progress.update(self._task, description=escape(safe(phase))[:60])

    def step(self, record: StepRecord, trend: str, *, final: bool = False) -> None:
        """Show one log record; off a terminal at most one line every two seconds, and the last one always."""
        text = step_line(record, trend)
        if self._live:
            total = record.max_steps or None
            self._progress.update(self._task, description="training", total=total, completed=record.step, detail=text)
            return
        now = time.monotonic()
        if record.step != self._last_step and (final or now - self._last_line >= _PLAIN_EVERY_S):
            self._last_line, self._last_step = now, record.step
            say(text)


def step_line(record: StepRecord, trend: str) -> str:
    """`step 10/47  loss 1.234 ↓  lr 9.8e-05  0.51 s/step  ETA 0:19  18.3 GiB`, leaving out what is not known."""
    parts = [f"step {record.step}/{record.max_steps}" if record.max_steps else f"step {record.step}"]
    if record.loss is not None:
        parts.append(f"loss {record.loss:.4g} {ARROWS.get(trend, ' ')}".rstrip())
    if record.learning_rate is not None:
        parts.append(f"lr {record.learning_rate:.2g}")
    if record.seconds_per_step:
        parts.append(f"{record.seconds_per_step:.2f} s/step")
        if record.max_steps:
            parts.append(f"ETA {duration((record.max_steps - record.step) * record.seconds_per_step)}")
    if record.memory_gib:
        parts.append(f"{record.memory_gib:.1f} GiB")
    return "  ".join(parts)


class AnswerView(_LiveBar):
    """Progress of a batch of answers: a bar on a terminal; elsewhere a line at the start, now and then, at the end."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__("{task.completed}/{task.total}")
        self._what, self._total, self._started = what, total, time.monotonic()
        self._last_line = self._started
        self._task = self._progress.add_task(escape(safe(what)), total=total)

    def __enter__(self) -> Self:
        if not self._live:
            say(f"{self._what}: {self._total} to make")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            say(f"{self._what}: {self._total} in {duration(time.monotonic() - self._started)}")

    def done(self, completed: int, _total: int) -> None:
        """`completed` answers are there."""
        now = time.monotonic()
        if self._live:
            self._progress.update(self._task, completed=completed)
        elif completed < self._total and now - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = now
            say(f"{self._what}: {completed} of {self._total}")


class RowView(_LiveBar):
    """A bar over the rows of a data file that is being read; off a terminal there is nothing to see."""

    EVERY = 5_000  # rows

    def __init__(self, name: str, total: int) -> None:
        super().__init__("{task.completed:,}/{task.total:,} rows")
        self._live = self._live and total > self.EVERY
        self._task = self._progress.add_task(escape(safe(name))[-60:], total=total)

    def done(self, rows: int) -> None:
        """`rows` rows were read; cheap enough to be called for every row."""
        if self._live and rows % self.EVERY == 0:
            self._progress.update(self._task, completed=rows)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner beside `text` while the block runs; off a terminal the text as a line."""
    if not err.is_terminal:
        say(text)
        yield
        return
    with err.status(escape(safe(text))):
        yield


def duration(seconds: float) -> str:
    """`0:07`, `12:34` or `1:02:03`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def ask_to_go_on(notes: Sequence[Problem], doubts: Sequence[Problem], *, yes: bool) -> None:
    """Show the warnings of a run. With doubts a person at a terminal is asked whether to go on; scripts go on."""
    for note in (*notes, *doubts):
        warn(note)
    if doubts and not yes and sys.stdin and sys.stdin.isatty() and is_terminal() and not confirm("go on?"):
        raise InterruptedRun("stopped before anything was written")


def confirm(question: str, *, default: bool = False) -> bool:
    """Ask yes or no on a terminal, where Enter alone is `default`; off a terminal, and at its end, the answer is no."""
    if not (sys.stdin and sys.stdin.isatty() and err.is_terminal):
        return False
    err.print(Text(f"{safe(question)} {'[Y/n]' if default else '[y/N]'} "), end="")
    answer = sys.stdin.readline()
    return default if answer == "\n" else answer.strip().lower() in ("y", "yes", "是")


def ask_text(question: str) -> str:
    """Ask for a line of text until there is one; the end of input ends the command."""
    while True:
        err.print(Text(f"{safe(question)} "), end="")
        line = sys.stdin.readline()
        if not line:
            raise InterruptedRun("no answer")
        if line.strip():
            return line.strip()
