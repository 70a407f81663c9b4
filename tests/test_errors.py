"""What an error says, and the exit code that it ends in: a contract with scripts."""

from __future__ import annotations

import pytest

from sft_kit.errors import (
    ConfigError,
    ExitCode,
    GateError,
    InterruptedRun,
    MissingError,
    MsSwiftError,
    Problem,
    SftKitError,
    UsageError,
)


def test_the_exit_codes_are_the_ones_that_scripts_know() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0, "BUG": 1, "USAGE": 2, "GATE": 3, "MS_SWIFT": 4, "MISSING": 5, "INTERRUPTED": 130,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SftKitError("a"), 1),
        (UsageError("a"), 2),
        (ConfigError("a"), 2),
        (GateError("a"), 3),
        (MsSwiftError("a", returncode=7), 4),
        (MissingError("a"), 5),
        (InterruptedRun("a"), 130),
    ],
)
def test_every_error_ends_in_its_exit_code(error: SftKitError, code: int) -> None:
    assert (error.exit_code, str(error)) == (code, "a")


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("c.yaml:1:2", "is wrong", "right it"), "c.yaml:1:2: is wrong; right it"),
        (Problem("c.yaml", "is wrong"), "c.yaml: is wrong"),
        (Problem("", "is wrong", "right it"), "is wrong; right it"),
    ],
)
def test_a_problem_says_where_what_and_what_to_do(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_an_error_holds_and_shows_every_problem() -> None:
    error = ConfigError.of([Problem("a", "b"), Problem("c", "d", "e")])
    assert (error.problems, str(error)) == ((Problem("a", "b"), Problem("c", "d", "e")), "a: b\nc: d; e")


def test_the_exit_code_of_ms_swift_itself_is_kept() -> None:
    assert MsSwiftError("a", returncode=-9).returncode == -9
