"""Why ms-swift failed: a cause, a fix and the log's own lines for each log of `failures/`, and no cause where none is.

A file there holds YAML (where the log comes from, how ms-swift ended, what is to be found), a line `----`, and the end
of a log: of a real ms-swift with paths made general and calls in the middle of long tracebacks left out, or, where that
could not be had (a GPU, several machines), in the format of the source or thread that it names.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sft_kit.errors import MsSwiftError
from sft_kit.msswift.failure import CODES, Diagnosis, diagnose, ms_swift_error

FAILURES = sorted((Path(__file__).parent / "failures").glob("*.log"))
TABLE = Path(__file__).resolve().parents[2] / "docs" / "failures.md"
TRACEBACK = """\
[INFO:swift] Loading the model using model_dir: /models/x
Train:  50%|█████     | 1/2 [00:03<00:03,  3.02s/it]\rTrain: 100%|██████████| 2/2 [00:06<00:00,  3.01s/it]
Traceback (most recent call last):
  File "/env/lib/python3.11/site-packages/swift/cli/sft.py", line 20, in <module>
    sft_main()
  File "/env/lib/python3.11/site-packages/torch/nn/x.py", line 9, in forward
    return f(x)
"""
FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


def parts(file: Path) -> tuple[dict[str, Any], str]:
    head, _, log = file.read_text(encoding="utf-8").partition("----\n")
    return yaml.safe_load(head), log


def told(folder: Path, text: str, **exit_: int) -> Diagnosis:
    log = folder / "train.log"
    log.write_text(text, encoding="utf-8")
    return diagnose(log, **(exit_ or {"returncode": 1}))


@pytest.mark.parametrize("file", FAILURES, ids=lambda file: file.stem)
def test_each_log_of_the_corpus_has_its_cause_and_its_lines(file: Path, tmp_path: Path) -> None:
    expected, log = parts(file)
    found = told(tmp_path, log, **{name: expected[name] for name in ("returncode", "signal") if name in expected})
    assert (found.code, found.cause, found.line, list(found.lines)) == (
        expected["code"],
        expected["cause"],
        expected["line"],
        expected["lines"],
    )
    assert found.fix, "something to do about it"


def test_the_corpus_is_there_and_its_logs_are_short_and_of_no_machine() -> None:
    assert len(FAILURES) >= 160
    for file in FAILURES:
        expected, log = parts(file)
        assert expected["from"] and expected["code"] in CODES, file
        assert len(log.splitlines()) <= 70, file
        assert not re.search(r"/(?:tmp|root|work)/", log), file


def test_every_code_has_a_log() -> None:
    assert {parts(file)[0]["code"] for file in FAILURES} == CODES


def test_every_code_has_a_row_in_the_table_for_people() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(CODES)


@pytest.mark.parametrize(
    "row",
    [
        f"{{'content': '{FULL} No space left on device'}}",
        FULL,
        f'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    x()\n{FULL}',
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "/a/b.cu:1: f: block: [0,0,0], thread: [0,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
        "sft.py: error: CUDA out of memory",
    ],
)
def test_words_of_a_row_that_ms_swift_shows_are_no_cause(row: str, tmp_path: Path) -> None:
    shown = (
        f"[INFO:swift] [INPUT] <|im_start|>user\n{row}<|im_end|>\n{row}\n[INFO:swift] [LABELS] [-100 * 9]{row}\n{row}\n"
    )
    log = f"{shown}[INFO:swift] The logging file will be saved in: /out\nTrain:   0%|          | 0/2 [00:00<?, ?it/s]\n"
    assert told(tmp_path, log).code == "unknown"
    assert told(tmp_path, log, signal=9).code == "killed"
    assert (
        told(tmp_path, f"{log}{TRACEBACK}KeyError: 'x'\n").cause == "sft-kit does not know this failure: KeyError: 'x'"
    )


def test_a_dropped_row_s_traceback_is_no_cause(tmp_path: Path) -> None:
    """swift/dataset/utils.py logs it and takes another row."""
    dropped = f"[INFO:swift] {TRACEBACK.partition(chr(10))[2].partition(chr(10))[2]}{FULL}\n"
    log = f"{dropped}[WARNING:swift] There are errors in the template.encode\n{TRACEBACK}KeyError: 'x'\n"
    assert told(tmp_path, log).cause == "sft-kit does not know this failure: KeyError: 'x'"
    assert told(tmp_path, log.partition(TRACEBACK)[0]).code == "unknown"


@pytest.mark.parametrize(
    ("exit_", "code"),
    [
        ({"signal": 9}, "killed"),
        ({"returncode": 137}, "killed"),
        ({"returncode": 247}, "killed"),
        ({"signal": 11}, "segmentation-fault"),
        ({"returncode": 139}, "segmentation-fault"),
        ({"returncode": 245}, "segmentation-fault"),
        ({"returncode": 134}, "aborted"),
        ({"returncode": 250}, "aborted"),
        ({"returncode": 135}, "bus-error"),
        ({"signal": 4}, "illegal-instruction"),
        ({"returncode": 143}, "stopped"),
        ({"signal": 2}, "interrupted"),
        ({"signal": 1}, "stopped"),
        ({"returncode": 255}, "unknown"),
        ({"returncode": 1}, "unknown"),
        ({"returncode": 200}, "unknown"),
        ({"signal": 40}, "unknown"),
    ],
)
def test_an_exit_without_words_tells_its_signal(exit_: dict[str, int], code: str, tmp_path: Path) -> None:
    assert told(tmp_path, "Train:   0%|          | 0/2 [00:00<?, ?it/s]\n", **exit_).code == code


@pytest.mark.parametrize(
    ("link", "cause"),
    [
        ("The above exception was the direct cause of the following exception:", "KeyError: 'first'"),
        ("During handling of the above exception, another exception occurred:", "RuntimeError: second"),
    ],
)
def test_of_linked_exceptions_the_cause_is_the_one_that_python_calls_so(link: str, cause: str, tmp_path: Path) -> None:
    log = f"{TRACEBACK}KeyError: 'first'\n\n{link}\n\n{TRACEBACK}RuntimeError: second\n"
    assert told(tmp_path, log).cause == f"sft-kit does not know this failure: {cause}"


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_known_exception_is_the_cause_wherever_it_stands_in_its_chain(known: int, tmp_path: Path) -> None:
    raised = ["KeyError: 1", "ValueError: 2", "datasets.exceptions.DatasetGenerationError: 3"]
    raised[known] = "OSError: [Errno 28] No space left on device"
    link = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert told(tmp_path, link.join(TRACEBACK + each for each in raised) + "\n").code == "disk-full"


def test_what_a_thread_or_a_destructor_says_at_the_end_hides_nothing(tmp_path: Path) -> None:
    aside = f"Exception ignored in: <function f>\n{TRACEBACK.partition(chr(10))[2]}TypeError: late\n"
    assert told(tmp_path, f"{TRACEBACK}KeyError: 'x'\n{aside}").cause.endswith("KeyError: 'x'")
    assert told(tmp_path, aside).cause.endswith("TypeError: late"), "where nothing else is said"


def test_of_a_loader_s_exception_the_one_inside_of_it_is_the_cause(tmp_path: Path) -> None:
    inside = """\
Original Traceback (most recent call last):
  File "d.py", line 3, in __getitem__
    row['x']
KeyError: 'x'
"""
    log = f"{TRACEBACK}KeyError: Caught KeyError in DataLoader worker process 0.\n{inside}"
    found = told(tmp_path, log)
    assert found.cause == "sft-kit does not know this failure: KeyError: 'x'"
    assert found.lines == ('  File "d.py", line 3, in __getitem__', "    row['x']", "KeyError: 'x'")


def test_ranks_that_print_into_each_other_are_told_apart(tmp_path: Path) -> None:
    one = [f"[rank0]: {line}" for line in f"{TRACEBACK.partition('s/it]' + chr(10))[2]}KeyError: 'zero'".splitlines()]
    two = [line.replace("rank0", "rank1").replace("KeyError: 'zero'", FULL) for line in one]
    mixed = "\n".join(line for pair in zip(one, two, strict=True) for line in pair)
    found = told(tmp_path, f"{mixed}\n")
    assert (found.code, found.lines[-1]) == ("gpu-out-of-memory", FULL)


def test_an_earlier_start_in_the_same_log_is_past(tmp_path: Path) -> None:
    first = f"{TRACEBACK}{FULL}\n"
    again = f"\n{'=' * 20} sft-kit: memory ran out; starting over {'=' * 20}\n\n"
    assert told(tmp_path, f"{first}{again}{TRACEBACK}KeyError: 'x'\n").cause.endswith("KeyError: 'x'")
    log = tmp_path / "train.log"
    log.write_text(f"{first}later\n", encoding="utf-8")
    found = diagnose(log, returncode=1, since=len(first.encode()))
    assert found == Diagnosis("unknown", "it printed no error", found.fix, ("later",), first.count("\n") + 1)


def test_control_characters_are_written_out_long_lines_cut_and_secrets_hidden(tmp_path: Path) -> None:
    message = f"KeyError: '\x1b[31mred\u202e\x9b\x07' https://me:secret@example.com/ {'x' * 5000}"
    found = told(tmp_path, f"{TRACEBACK}{message}\n")
    assert found.lines[-1].startswith("KeyError: '\\x1b[31mred<U+202E>\\x9b\\x07' https://***@example.com/ xxx")
    assert [len(line) <= 200 for line in (*found.lines, found.cause)] == [True] * (len(found.lines) + 1)


def test_a_missing_log_is_an_unknown_failure(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.log", tmp_path):
        found = diagnose(path, returncode=1)
        assert (found.code, found.cause, found.lines, found.line) == ("unknown", "it printed no error", (), 0)


def test_a_huge_log_of_odd_bytes_is_read_in_no_time(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    end = f"{TRACEBACK}ValueError: 模型\n".encode() + b"\xff\xfe\x00\n"
    log.write_bytes(
        b"Traceback (most recent call last):\n" * 9 + b"Train: 1%\r" * 1_000_000 + b"(" * 900_000 + b"\n" + end
    )
    began = time.monotonic()
    found = diagnose(log, returncode=1)
    assert time.monotonic() - began < 3
    assert (found.cause, found.line) == ("sft-kit does not know this failure: ValueError: 模型", 14)


def test_the_error_shows_cause_fix_lines_and_the_rest_s_place_and_says_it_in_one_line(tmp_path: Path) -> None:
    found = told(tmp_path, f"{TRACEBACK}{FULL}\n")
    error = ms_swift_error("ms-swift exit code 1", found, tmp_path / "train.log", returncode=1)
    assert isinstance(error, MsSwiftError)
    (problem,) = error.problems
    assert problem.message == "ms-swift exit code 1: the GPU is full"
    assert problem.fix.splitlines() == [
        found.fix,
        '  |   File "/env/lib/python3.11/site-packages/swift/cli/sft.py", line 20, in <module>',
        "  |     sft_main()",
        '  |   File "/env/lib/python3.11/site-packages/torch/nn/x.py", line 9, in forward',
        "  |     return f(x)",
        f"  | {FULL}",
        f"  its whole output: {tmp_path / 'train.log'} (line 4)",
    ]
    assert str(error) == f"{problem.message}; {found.fix}; its whole output: {tmp_path / 'train.log'} (line 4)"
    assert error.failure == {
        "code": "gpu-out-of-memory",
        "cause": "the GPU is full",
        "fix": found.fix,
        "lines": list(found.lines),
        "line": 4,
    }
