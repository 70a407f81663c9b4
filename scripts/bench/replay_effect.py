"""What `replay` is worth: the same model trained for the same number of steps with replay rows and without.

    .venv/bin/python scripts/bench/replay_effect.py [--set KEY=VALUE]... [--questions 40]
                                                    [--out scripts/bench/results/replay_effect.json]

Trains configs/quickstart.yaml (SmolLM2-135M, English, CPU) twice through `sft-kit train --no-eval`: as it is, and with
`replay=0` and `max_steps` set to the steps of the first, so that the identity rows are repeated in place of the replay
rows. Then the base model and both adapters are asked, greedily: held-out identity questions, general prompts (does the
new identity turn up in the answers?) and general questions that a rule can check (is the answer still right?). None of
them was trained on. `--set` changes both trainings; `--questions` is how many of each sort are asked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_kit.evaluate.compare import Evaluation, Pair, SideName, compare
from sft_kit.evaluate.probes import Probe, general_probes, identity_probes
from sft_kit.evaluate.statistics import Rate
from sft_kit.msswift.chat import Chat
from sft_kit.run.chats import ask_greedily, open_chat
from sft_kit.run.job import Job
from sft_kit.run.prepare import prepare

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "quickstart.yaml"
SFT_KIT = Path(sys.executable).parent / "sft-kit"
MAX_NEW_TOKENS = 64
WITHOUT, WITH = "without replay", "with replay"


def train(work: Path, name: str, overrides: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """Train CONFIG below `work`; the run's last checkpoint, and what is worth telling of its manifest."""
    output = work / name.replace(" ", "-")
    settings = [*overrides, f"output_dir={output}"]
    argv = [str(SFT_KIT), "train", str(CONFIG), "--no-eval", *(word for text in settings for word in ("--set", text))]
    print(f"{name}: {shlex.join(argv)}", flush=True)
    if subprocess.run(argv, cwd=work).returncode:
        raise SystemExit(f"failed: {shlex.join(argv)}")
    (run,) = output.iterdir()
    manifest = json.loads((run / "sft-kit" / "manifest.json").read_text(encoding="utf-8"))
    told = {key: manifest[key] for key in ("steps", "final_loss", "seconds", "versions")}
    told["rows"] = {path.name: count_lines(path) for path in sorted((run / "sft-kit" / "data").glob("*.jsonl"))}
    told["config"] = (run / "sft-kit" / "config.yaml").read_text(encoding="utf-8").replace(str(work), "WORK")
    return run / manifest["last_checkpoint"], told


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def probes_of(job: Job, count: int) -> list[Probe]:
    """`count` held-out identity questions, `count` general prompts and as many questions that can be checked."""
    assert job.identity is not None
    general = general_probes(job.identity.spec.languages, 10_000)
    return [
        *identity_probes(job.identity.held_out, names_of(job), count, contexts=["trained"]),
        *[probe for probe in general if probe.check is None][:count],
        *[probe for probe in general if probe.check is not None][:count],
    ]


def names_of(job: Job) -> list[str]:
    assert job.identity is not None
    return sorted({*job.identity.spec.name.values(), *job.identity.spec.author.values()})


def ask(chat: Chat, probes: Sequence[Probe], *, base: bool = False) -> list[str]:
    answers = ask_greedily(chat, [probe.messages() for probe in probes], MAX_NEW_TOKENS, base=base)
    return [answer.text for answer in answers]


def rates(evaluation: Evaluation, side: SideName) -> dict[str, Rate]:
    """The figures of one model."""

    def leaks(pairs: Sequence[Pair]) -> Rate:
        return Rate(sum(bool(pair.side(side).leaked) for pair in pairs), len(pairs))

    general = evaluation.of("general")
    return {
        "held-out identity questions answered with the new identity": evaluation.identity(side),
        "general prompts whose answer contains the identity": leaks([p for p in general if p.probe.check is None]),
        "checkable questions whose answer contains the identity": leaks([p for p in general if p.probe.check]),
        "checkable questions answered right": evaluation.correct(side),
    }


def markdown(columns: dict[str, dict[str, Rate]]) -> str:
    """One row a figure, one column a model; k/n, the share and its 95 % Wilson interval."""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | {' | '.join(str(figures[name]) for figures in columns.values())} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for both trainings")
    parser.add_argument("--questions", type=int, default=40, help="of each sort")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/replay_effect.json")
    options = parser.parse_args()
    began = time.perf_counter()
    job = prepare(CONFIG, options.set, ask_hub=False)
    probes, names = probes_of(job, options.questions), names_of(job)
    told: dict[str, dict[str, Any]] = {}
    answers: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with_replay, told[WITH] = train(work, WITH, options.set)
        same_steps = ["replay=0", f"max_steps={told[WITH]['steps']}"]
        without_replay, told[WITHOUT] = train(work, WITHOUT, [*options.set, *same_steps])
        assert told[WITH]["steps"] == told[WITHOUT]["steps"]
        for name, checkpoint in ((WITH, with_replay), (WITHOUT, without_replay)):
            asked = time.perf_counter()
            log = work / f"{checkpoint.parent.parent.name}.log"
            with open_chat(job.installation, {"adapters": [str(checkpoint)]}, log=log, env=job.env) as chat:
                answers[name] = ask(chat, probes)
                if "base" not in answers:
                    answers["base"] = ask(chat, probes, base=True)
            seconds[f"asking {name}"] = round(time.perf_counter() - asked, 1)
    scored = {name: compare(probes, answers["base"], answers[name], names) for name in (WITHOUT, WITH)}
    columns = {"base": rates(scored[WITH], "base"), **{name: rates(found, "tuned") for name, found in scored.items()}}
    result = {
        "command": shlex.join(["scripts/bench/replay_effect.py", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "model": job.model.name,
        "names": names,
        "seconds": {**seconds, "in all": round(time.perf_counter() - began, 1)},
        "runs": told,
        "rates": {
            name: {what: {"k": rate.k, "n": rate.n, "interval": rate.interval} for what, rate in figures.items()}
            for name, figures in columns.items()
        },
        "answers": [
            {"id": probe.id, "question": probe.question, **{name: answers[name][index] for name in columns}}
            for index, probe in enumerate(probes)
        ],
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"\n{told[WITH]['steps']} steps each\n\n{markdown(columns)}")


if __name__ == "__main__":
    main()
