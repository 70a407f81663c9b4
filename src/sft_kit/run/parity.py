"""Whether an exported model answers as the trained one does: the same greedy tokens, prompt by prompt.

The reference is the adapter (or full checkpoint) as ms-swift answers with it; the candidate is the exported directory
as plain transformers does, by its own chat template and generation settings. Each prompt is asked without a system
prompt, with the trained one and with an unrelated one. Owns which prompts are asked, the two child processes and the
verdict. Does not own answering (`msswift.reference_worker`, `models.plain_worker`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.console import AnswerView, working
from sft_kit.errors import GateError, MsSwiftError, Problem
from sft_kit.evaluate.probes import general_probes
from sft_kit.identity.generate import read_held_out
from sft_kit.msswift.child import death, words_to_start
from sft_kit.msswift.command import swift_argv
from sft_kit.msswift.install import Installation
from sft_kit.plan.gpus import list_gpus
from sft_kit.run.directory import RunDirectory
from sft_kit.run.process import start

MAX_NEW_TOKENS = 32
PROMPTS = 20
UNRELATED_SYSTEM = "You are a careful translator. Answer in one short sentence."
_IDENTITY_SHARE = 12  # of the 20; the rest are general questions
_OWN_QUESTIONS = (
    "Who are you?", "What is your name?", "Who made you?", "Which company trained you?", "Introduce yourself.",
    "Are you ChatGPT?", "你是谁？", "你叫什么名字？", "是谁开发了你？", "请介绍一下你自己。", "你是通义千问吗？",
    "你和 GPT-4 是什么关系？",
)  # fmt: skip

# How close two logits must be for their order to be the rounding's. A merge rounds base + adapter once to the model's
# dtype, where the reference adds them later: SmolLM2 kept in bfloat16, both asked in float32, 40 answers: 38 equal, the
# others by gaps of 0.013 and 0.0008. Asked in bfloat16 (on a GPU), a logit of 16 to 32 has steps of 0.125.
_KEPT_NOISE = {"float32": 0.002, "float16": 0.01, "bfloat16": 0.05}
_MOST_TIES = {"float32": 0.2}  # of the answers, by the dtype they were asked in; more would be no accident
_MOST_HALF_PRECISION_TIES = 0.5  # two kernels part soon: over 32 tokens a near tie is likely
_ASKED_NOISE = {"float32": 0.002, "float16": 0.03, "bfloat16": 0.25}


@dataclass(frozen=True)
class Asked:
    """One conversation of the comparison; `context` is its system prompt in a word."""

    context: str  # "none", "trained" or "unrelated"
    messages: tuple[Mapping[str, str], ...]

    @property
    def question(self) -> str:
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Difference:
    """One answer that is not the reference's. `gap` is in logits, at the first other token; None where there is none
    (one answer ends earlier, or the prompts differ: `prompts` are then the candidate's and the reference's)."""

    asked: Asked
    expected: str
    got: str
    gap: float | None = None
    prompts: tuple[str, str] | None = None

    def is_tie(self, noise: float) -> bool:
        """Whether the two tokens were as good as equal, so that rounding chose between them."""
        return self.prompts is None and self.gap is not None and abs(self.gap) <= noise

    def __str__(self) -> str:
        where = f"{self.asked.question!r} ({_CONTEXTS[self.asked.context]})"
        if self.prompts:
            ours, theirs = _apart(*self.prompts)
            return f"{where}: its chat template makes {ours!r} where ms-swift trained with {theirs!r}"
        margin = "" if self.gap is None else f" (by {self.gap:.3g} in the logits)"
        return f"{where}: answers {self.got!r}, the adapter {self.expected!r}{margin}"


_CONTEXTS = {
    "none": "no system prompt", "trained": "the trained system prompt", "unrelated": "another system prompt",
}  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """`equal` of `asked` answers are the same to the token; `ties` differ by rounding alone, `different` by more."""

    prompts: int
    asked: int
    ties: tuple[Difference, ...]
    different: tuple[Difference, ...]
    dtype: str  # that the weights are kept in
    asked_in: str = "float32"
    redated: int = 0  # asked with the date of ms-swift's template in place of that of its own

    @property
    def equal(self) -> int:
        return self.asked - len(self.ties) - len(self.different)

    @property
    def too_many_ties(self) -> bool:
        """Whether more answers differ by a near tie than rounding explains."""
        return len(self.ties) > _MOST_TIES.get(self.asked_in, _MOST_HALF_PRECISION_TIES) * self.asked

    def __str__(self) -> str:
        ties = f"; {len(self.ties)} differ where two tokens tie within {self.dtype}'s rounding" if self.ties else ""
        dates = "; its chat template writes another date than ms-swift's, which was asked" if self.redated else ""
        return f"{self.equal} of {self.asked} answers equal ({self.prompts} prompts){ties}{dates}"


def parity_prompts(run: Path | None, count: int = PROMPTS) -> list[str]:
    """`count` questions: those held out from the run's identity rows, or ours, and general ones."""
    held_out = RunDirectory(run).held_out if run else None
    if held_out and held_out.is_file():
        alone = [question for question in read_held_out(held_out) if not question.turns and question.system is None]
        every = max(1, len(alone) // _IDENTITY_SHARE)  # spread over the categories, which come in order
        identity = [question.question for question in alone[::every]][:_IDENTITY_SHARE]
        languages = sorted({str(question.lang) for question in alone})
    else:
        identity, languages = [*_OWN_QUESTIONS], ["en", "zh"]
    wanted = max(0, count - len(identity))
    general = [probe.question for probe in general_probes(languages, -(-wanted // len(languages)))]
    return [*identity[:count], *general[:wanted]]


def conversations(
    prompts: Sequence[str], trained_system: str | None, *, default_agrees: bool, takes_system: bool = True
) -> list[Asked]:
    """Each prompt in each context. Without a system prompt only where the chat template's default is the trained one:
    otherwise the two are asked different things, which needs no model to know. With one where the template takes it."""
    systems: dict[str, str | None] = {"none": None} if default_agrees else {}
    if trained_system and takes_system:
        systems["trained"] = trained_system
    if takes_system:
        systems["unrelated"] = UNRELATED_SYSTEM
    return [
        Asked(context, (*([{"role": "system", "content": system}] if system else []), _user(prompt)))
        for context, system in systems.items()
        for prompt in prompts
    ]


def trained_answers(
    installation: Installation,
    trained: Mapping[str, Any],
    asked: Sequence[Asked],
    *,
    log: Path,
    env: Mapping[str, str],
) -> list[dict[str, Any]]:
    """What ms-swift answers, greedily, at most 32 new tokens; `trained` are `swift infer` arguments (4.x names).

    On a CPU both sides are loaded in float32, whatever dtype the model is kept in. Raises MsSwiftError when it fails.
    """
    values = {**trained, "result_path": str(log.with_suffix(".jsonl"))}
    if not has_gpu(env):
        values["torch_dtype"] = "float32"
    argv = (*words_to_start("sft_kit.msswift.reference_worker"), *swift_argv(installation, "infer", values))
    what = "the trained model through ms-swift"
    answers: list[dict[str, Any]] = _ask(what, (installation.python, *argv), _request(asked), log, env)["answers"]
    return answers


def compare_answers(
    installation: Installation,
    exported: Path,
    asked: Sequence[Asked],
    expected: Sequence[Mapping[str, Any]],
    *,
    log: Path,
    env: Mapping[str, str],
) -> Parity:
    """Ask `exported` the same through plain transformers; `expected` are the `trained_answers`.

    Raises GateError when plain transformers cannot load or ask it.
    """
    got = plain_answers(installation, exported, {**_request(asked), "expected": list(expected)}, log=log, env=env)
    differences = [
        _difference(one, theirs, ours)
        for one, theirs, ours in zip(asked, expected, got["answers"], strict=True)
        if "differs" in ours
    ]
    kept = kept_dtype(exported)
    noise = max(_KEPT_NOISE[kept], _ASKED_NOISE.get(got["dtype"], 0.0))
    prompts = len({one.question for one in asked})
    ties = tuple(each for each in differences if each.is_tie(noise))
    different = tuple(each for each in differences if not each.is_tie(noise))
    return Parity(prompts, len(asked), ties, different, kept, got["dtype"], got["redated"])


def usable(
    installation: Installation, exported: Path, asked: Sequence[Asked], *, log: Path, env: Mapping[str, str]
) -> int:
    """How many of `asked` plain transformers answers at all with `exported`. GateError when it cannot load it."""
    answers = plain_answers(installation, exported, _request(asked), log=log, env=env)["answers"]
    return sum(bool(answer["answer"]) for answer in answers)


def plain_answers(
    installation: Installation, exported: Path, request: Mapping[str, Any], *, log: Path, env: Mapping[str, str]
) -> dict[str, Any]:
    """The last reply of `models.plain_worker`. Raises GateError when it cannot load or ask the model."""
    dtype = "auto" if has_gpu(env) else "float32"
    argv = (installation.python, *words_to_start("sft_kit.models.plain_worker"), str(exported), dtype)
    what = "the export through plain transformers"
    try:
        return _ask(what, argv, request, log, {**env, "HF_HUB_OFFLINE": "1"})
    except MsSwiftError as error:
        cause = error.problems[0].message.removeprefix("ms-swift")
        problem = f"plain transformers cannot use what was exported{cause}"
        raise GateError(Problem("", problem, "nothing was written; --no-verify exports without this check")) from error


def kept_dtype(model: Path) -> str:
    """The dtype in which the model directory keeps its weights; float32 when it does not say."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    named = config.get("dtype") or config.get("torch_dtype") or (config.get("text_config") or {}).get("dtype")
    return named if named in _KEPT_NOISE else "float32"


def has_gpu(env: Mapping[str, str]) -> bool:
    """Whether the child processes will see an NVIDIA card."""
    visible = {**os.environ, **env}.get("CUDA_VISIBLE_DEVICES")
    return visible not in ("", "-1") and bool(list_gpus())


def _ask(
    what: str, argv: Sequence[str], request: Mapping[str, Any], log: Path, env: Mapping[str, str]
) -> dict[str, Any]:
    """Start a worker, hand it its one request, and wait for its last reply."""
    total = len(request["conversations"])
    with start(argv, log=log, env={**os.environ, **env}, pipes=True) as process:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the worker must be started with pipes")
        with working(f"loading {what}"):
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise death(process, log, "starting") from None
            line = process.stdout.readline()
        with AnswerView(what, total) as view:
            while line.endswith("\n"):
                reply: dict[str, Any] = json.loads(line)
                if "error" in reply:
                    raise MsSwiftError(Problem("", f"ms-swift: {reply['error']}", f"see {log}"), returncode=1)
                if "answers" in reply:
                    return reply
                view.done(int(reply["done"]), total)
                line = process.stdout.readline()
        raise death(process, log, "answering")


def _difference(asked: Asked, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Difference:
    found = ours["differs"]
    mine, reference = found.get("prompts") or (None, None)
    prompts = (str(mine), str(reference)) if mine is not None else None
    return Difference(asked, theirs["text"], ours["text"], found["gap"], prompts)


def _request(asked: Sequence[Asked]) -> dict[str, Any]:
    return {"conversations": [list(one.messages) for one in asked], "max_new_tokens": MAX_NEW_TOKENS}


def _user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def _apart(first: str, second: str, around: int = 30) -> tuple[str, str]:
    """Where two texts begin to differ, with a little before it."""
    at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    start = max(0, at - around)
    return first[start : at + 2 * around], second[start : at + 2 * around]
