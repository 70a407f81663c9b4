"""What is wrong with a config, collected while it is checked, so that one run reports all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from sft_kit.config.load import LoadedConfig, line_order
from sft_kit.errors import ConfigError, MissingError, Problem, UsageError


@dataclass
class Found:
    """Problems by what follows from them; places are added from key names."""

    loaded: LoadedConfig
    problems: list[Problem] = field(default_factory=list)  # of the config: exit 2
    missing: list[Problem] = field(default_factory=list)  # outside it: exit 5
    notes: list[Problem] = field(default_factory=list)  # shown
    doubts: list[Problem] = field(default_factory=list)  # shown, and a person is asked whether to go on

    @classmethod
    def of(cls, loaded: LoadedConfig) -> Found:
        """With what is wrong with single keys of `loaded` already."""
        return cls(loaded, list(loaded.problems))

    def add(self, where: list[Problem], key: str, problem: Problem, *, index: int | None = None) -> None:
        """Append `problem`, found at the dotted `key` (its list item `index`), to `where`."""
        parts: tuple[str | int, ...] = (*key.split("."), *([] if index is None else [index]))
        if problem.place in ("", key):
            place = self.loaded.source.place(parts)
            problem = Problem(place, f"{key}: {problem.message}", problem.fix, problem.code)
        where.append(problem)

    @contextmanager
    def at(self, key: str, code: str, *, index: int | None = None) -> Iterator[None]:
        """Collect the errors of this block under `key` (its list item `index`); those without a code of their own get
        `code`. A path that cannot be looked at (no permission, a name too long) is one of them."""
        try:
            yield
        except MissingError as error:
            for problem in error.problems:
                self.add(self.missing, key, _coded(problem, code), index=index)
        except UsageError as error:
            for problem in error.problems:
                self.add(self.problems, key, _coded(problem, code), index=index)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            self.add(self.problems, key, Problem("", what, "give a path that can be read", code), index=index)

    def raise_if_any(self) -> None:
        """ConfigError with everything if the config is wrong, else MissingError if something else is not there."""
        if self.problems:
            raise ConfigError(*sorted(self.problems, key=line_order), *self.missing)
        if self.missing:
            raise MissingError(*self.missing)


def _coded(problem: Problem, code: str) -> Problem:
    return problem if problem.code else replace(problem, code=code)
