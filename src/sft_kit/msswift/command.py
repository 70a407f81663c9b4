"""The command line and the environment with which an ms-swift verb is started.

Owns how a value becomes an argument and how the verb is called without the `swift` parent (which would import
torch only to start a second Python: 11.5 s against 8.8 s for a two-step run of a tiny model, see
scripts/bench/launch_cost.py). Does not decide what the values are.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_kit.msswift.arguments import Verb, arguments, words
from sft_kit.msswift.dialect import emit_name
from sft_kit.msswift.install import Installation

TORCHRUN_VARIABLES = ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Command:
    """A process to start: `argv` in full, and what is added to this process's environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def shell(self) -> str:
        """The command as one line that a POSIX shell runs just so."""
        assignments = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*assignments, shlex.join(self.argv)])

    def environment(self) -> dict[str, str]:
        """The whole environment of the child."""
        return {**os.environ, **self.env}


def swift_command(
    installation: Installation, verb: Verb, values: Mapping[str, Any], *, processes: int = 1, env: Mapping[str, str]
) -> Command:
    """`python -m swift.cli.<verb>` (3.x and 4.x alike) with `values` (4.x names) in their order.

    `processes` > 1, or torchrun's variables in the environment, start `torch.distributed.run` as the `swift`
    parent would.
    """
    module = f"swift.cli.{verb}"
    argv = [installation.python, "-m"]
    torchrun = _torchrun(processes) if verb == "sft" else []
    argv += ["torch.distributed.run", *torchrun, "-m", module] if torchrun else [module]
    return Command((*argv, *swift_argv(installation, verb, values)), dict(env))


def swift_argv(installation: Installation, verb: Verb, values: Mapping[str, Any]) -> list[str]:
    """`values` as ms-swift's arguments: `--name value ...`, in the installed generation's spelling.

    Booleans are `true`/`false`, lists several words, mappings JSON, 50.0 is 50; None is left out. A key that the
    verb does not have raises KeyError: whoever builds `values` has checked them.
    """
    table = arguments(installation, verb)
    argv: list[str] = []
    for key, value in values.items():
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        argv += words(table[emit_name(key, table, verb)], whole)
    return argv


def _torchrun(processes: int) -> list[str]:
    given = {name: os.environ[name] for name in TORCHRUN_VARIABLES if os.environ.get(name)}
    if not given and processes <= 1:
        return []
    given.setdefault("NPROC_PER_NODE", str(processes))
    return [word for name, value in given.items() for word in (f"--{name.lower()}", value)]
