"""The command line and the environment with which an ms-swift verb is started.

Owns how a value becomes an argument, how a secret is handed over without being one, and how the verb is called without
the `swift` parent (which would import torch only to start a second Python: 11.5 s against 8.8 s for a two-step run of a
tiny model, see scripts/bench/launch_cost.py). Does not decide what the values are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_kit.data.text import shell_command, shell_word
from sft_kit.errors import Problem, UsageError
from sft_kit.msswift import swanlab_entry
from sft_kit.msswift.arguments import Verb, arguments, words
from sft_kit.msswift.dialect import emit_name
from sft_kit.msswift.install import Installation
from sft_kit.secrets import hide_in_argv, hide_in_env, is_secret

VARIABLES = {
    "swanlab_token": "SWANLAB_API_KEY",
    "swanlab_secret": "SWANLAB_SECRET",
    "swanlab_webhook_url": "SWANLAB_WEBHOOK_URL",
}
"""Where a secret argument is looked for when it is not in a config: by swanlab itself, and the other two by us."""
TORCHRUN_VARIABLES = ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Command:
    """A process to start: `argv` in full, and what is added to this process's environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def shell(self) -> str:
        """The command as one line that a POSIX shell runs just so; secrets are shown as ***."""
        assignments = [f"{name}={shell_word(value)}" for name, value in hide_in_env(self.env).items()]
        return " ".join([*assignments, shell_command(hide_in_argv(self.argv))])

    def environment(self) -> dict[str, str]:
        """The whole environment of the child."""
        return {**os.environ, **self.env}


def swift_command(
    installation: Installation, verb: Verb, values: Mapping[str, Any], *, processes: int = 1, env: Mapping[str, str]
) -> Command:
    """The verb's own file with `values` (4.x names) in their order, as the `swift` parent starts it.

    A file and not `-m`, which would put the current directory before ms-swift's own modules. `processes` > 1, or
    torchrun's variables in the environment, start `torch.distributed.run`, as the parent would. Secrets go by
    environment: arguments are read by every user of the machine, and ms-swift writes them into args.json,
    training_args.bin and its log. Raises UsageError for a secret that it takes in no other way.
    """
    public = {key: value for key, value in values.items() if not is_secret(key)}
    private = _private(values, {**os.environ, **env})
    file = [str(installation.package / "cli" / f"{verb}.py")]
    if swanlab_entry.VARIABLE in private:
        file = [swanlab_entry.__file__, *file]
    torchrun = _torchrun(processes, {**os.environ, **env}) if verb == "sft" else []
    start = ["-m", "torch.distributed.run", *torchrun, *file] if torchrun else file
    return Command((installation.python, *start, *swift_argv(installation, verb, public)), {**env, **private})


def _private(values: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables in which ms-swift, or our entry for SwanLab's notifications, finds the secrets of `values`."""
    secrets = {key: str(value) for key, value in values.items() if is_secret(key) and value is not None}
    for key in secrets.keys() - VARIABLES.keys():
        message = "ms-swift takes this secret only on its command line, which every user of the machine can read"
        raise UsageError(Problem(key, message, "remove it"))
    variables = {VARIABLES[key]: value for key, value in secrets.items() if key not in swanlab_entry.ARGUMENTS}
    if values.get("swanlab_notification_method"):
        given = {key: secrets.get(key) or environ.get(VARIABLES[key]) for key in swanlab_entry.ARGUMENTS}
        variables[swanlab_entry.VARIABLE] = json.dumps({key: value for key, value in given.items() if value})
    return variables


def processes_of(environ: Mapping[str, str], gpus: int) -> int:
    """Training processes in all: torchrun's own variables where they are set, else one for each of `gpus`."""
    nodes = environ.get("NNODES", "")
    return processes_here(environ, gpus) * (int(nodes) if nodes.isdigit() else 1)


def processes_here(environ: Mapping[str, str], gpus: int) -> int:
    """Those of this machine, of which each takes a card."""
    per_node = environ.get("NPROC_PER_NODE", "")
    return int(per_node) if per_node.isdigit() else max(1, gpus)


def swift_argv(installation: Installation, verb: Verb, values: Mapping[str, Any]) -> list[str]:
    """`values` as ms-swift's arguments: `--name value ...`, in the installed generation's spelling.

    Booleans are `true`/`false`, lists several words, mappings JSON, 50.0 is 50; None is left out. A key that the
    verb does not have raises KeyError: whoever builds `values` has checked them.
    """
    table = arguments(installation, verb)
    argv: list[str] = []
    for key, value in values.items():
        whole = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
        argv += words(table[emit_name(key, table, verb)], whole)
    return argv


def _torchrun(processes: int, environ: Mapping[str, str]) -> list[str]:
    given = {name: environ[name] for name in TORCHRUN_VARIABLES if environ.get(name)}
    if not given and processes <= 1:
        return []
    given.setdefault("NPROC_PER_NODE", str(processes))
    return [word for name, value in given.items() for word in (f"--{name.lower()}", value)]
