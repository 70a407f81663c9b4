"""Which ms-swift verb a command line starts: by `swift`, python, torchrun, accelerate or deepspeed.

Owns the options of those launchers, and the variables with which ms-swift is told the same. Does not know what the
verb's own words mean (`pasted`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

RLHF_VERBS = ("rlhf", "dpo", "orpo", "simpo", "kto", "cpo", "ppo", "grpo", "gkd", "rm")
OTHER_VERBS = ("infer", "export", "merge-lora", "eval", "app", "web-ui", "deploy", "rollout", "sample")
_LAUNCHERS = {"torchrun", "accelerate", "deepspeed"}
# Options of the launchers that take no value.
_SWITCHES = (
    "standalone", "no_python", "use_env", "m", "module", "multi_gpu", "cpu", "debug", "mps", "tpu", "use_deepspeed",
    "use_fsdp", "quiet", "force_multi", "no_local_rank", "no_ssh",
)  # fmt: skip
# Options of the launchers, and the variables with which ms-swift is told the same.
_LAUNCH_VARIABLES = {
    "nproc_per_node": "NPROC_PER_NODE", "num_processes": "NPROC_PER_NODE", "num_gpus": "NPROC_PER_NODE",
    "nnodes": "NNODES", "num_machines": "NNODES", "num_nodes": "NNODES",
    "node_rank": "NODE_RANK", "machine_rank": "NODE_RANK",
    "master_addr": "MASTER_ADDR", "main_process_ip": "MASTER_ADDR",
    "master_port": "MASTER_PORT", "main_process_port": "MASTER_PORT",
}  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """An argument or variable that is not carried over, without its secret. `doubt`: it may change what is trained."""

    shown: str
    reason: str
    doubt: bool = False


def file_name(path: str) -> str:
    """The last part of a path of either system."""
    return re.sub(r".*[/\\]", "", path)


@dataclass(frozen=True)
class Started:
    """An ms-swift verb, where its own words begin in the argv, and what its launcher was told."""

    verb: str
    at: int
    script: str
    env: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def find_verb(argv: Sequence[str], at: int = 0) -> Started | None:
    """The ms-swift verb that the command starting at `argv[at]` runs, or None."""
    if at >= len(argv):
        return None
    name = file_name(argv[at]).removesuffix(".exe")
    following = list(argv[at + 1 : at + 2])
    if name in ("uv", "poetry", "pipenv", "pdm") and following == ["run"]:
        return find_verb(argv, at + 2)
    if name == "swift":
        return Started(_verb(argv, at + 1), at + 2, "swift") if following else Started("", at + 1, "swift")
    if name == "megatron":
        return Started(f"megatron {' '.join(following)}".strip(), at + 2, "megatron")
    if name in _LAUNCHERS:
        return _launched(argv, at + 1 + (name == "accelerate" and following == ["launch"]))
    if re.fullmatch(r"(python|pypy)[\d.]*w?", name):
        return _python(argv, at + 1)
    return None


def _verb(argv: Sequence[str], at: int) -> str:
    return argv[at].replace("_", "-") if at < len(argv) else ""


def _python(argv: Sequence[str], at: int) -> Started | None:
    while at < len(argv) and argv[at].startswith("-"):
        if argv[at] == "-m" and at + 1 < len(argv):
            module = argv[at + 1]
            if re.fullmatch(r"torch\.distributed\.(run|launch)|deepspeed(\.launcher\.\w+)?", module):
                return _launched(argv, at + 2)
            if module.startswith("accelerate"):
                return _launched(argv, at + 2 + (_verb(argv, at + 2) == "launch"))
            return _script(argv, at + 1, module.replace(".", "/") + ".py")
        if argv[at] == "-c":
            return None
        at += 2 if argv[at] in ("-W", "-X") else 1
    return _script(argv, at, argv[at]) if at < len(argv) else None


def _script(argv: Sequence[str], at: int, path: str) -> Started | None:
    """The verb of a Python file of ms-swift's: `swift/cli/sft.py`, 2.x's `llm_sft.py`, `swift/cli/main.py sft`."""
    stem = file_name(path).removesuffix(".py").replace("_", "-")
    if re.search(r"swift[/\\]cli[/\\](main|__main__)\.py$", path):
        return Started(_verb(argv, at + 1), at + 2, "swift")
    if "megatron" in path.lower():
        return Started(f"megatron {stem}", at + 1, path)
    for prefix in ("llm-", "swift-", "run-"):
        stem = stem.removeprefix(prefix)
    known = stem in ("sft", "pt", *RLHF_VERBS, *OTHER_VERBS)
    return Started(stem, at + 1, path) if known and path.endswith(".py") else None


def _launched(argv: Sequence[str], at: int) -> Started | None:
    """Reads torchrun's, accelerate's or deepspeed's own options, up to the script."""
    env: dict[str, str] = {}
    left_out: list[LeftOut] = []
    module = False
    while at < len(argv) and argv[at].startswith("-"):
        flag, joined, value = argv[at].partition("=")
        name = flag.lstrip("-").replace("-", "_")
        at += 1
        if name in _SWITCHES:
            module = module or name in ("m", "module")
            continue
        if not joined and at < len(argv):
            value = argv[at]
            at += 1
        local = re.fullmatch(r"localhost:([\d,]+)", value)
        if name in _LAUNCH_VARIABLES:
            env[_LAUNCH_VARIABLES[name]] = value
        elif name == "include" and local:
            env |= {"CUDA_VISIBLE_DEVICES": local[1], "NPROC_PER_NODE": str(len(local[1].split(",")))}
        else:
            reason = "an option of the launcher: sft-kit starts torchrun"
            left_out.append(LeftOut(f"{flag} {value}", reason, doubt=True))
    if at >= len(argv):
        return None
    nodes, processes = count(env.get("NNODES", "1")), count(env.get("NPROC_PER_NODE", ""))
    if any(word.lstrip("-").startswith("num_processes") for word in argv) and nodes and processes:
        env["NPROC_PER_NODE"] = str(processes // nodes)  # accelerate counts those of all machines
    path = argv[at].replace(".", "/") + ".py" if module else argv[at]
    started = _script(argv, at, path) or (find_verb(argv, at) if not module else None)
    return replace(started, env=env, left_out=tuple(left_out)) if started else None


def count(text: str) -> int | None:
    """A number of rows, processes or machines; None for any other text."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
