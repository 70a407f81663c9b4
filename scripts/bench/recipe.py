"""Which settings make the identity take, without a leak and without forgetting, in the least time: one table.

    .venv/bin/python scripts/bench/recipe.py [VARIANT]... [--work FOLDER] [--questions 60] [--general 100]
                                             [--out scripts/bench/results/recipe.json]

Each variant is configs/quickstart.yaml (SmolLM2-135M, English, CPU) with the overrides below; "shipped" has none. It is
trained by `sft-kit train --no-eval` and asked by `sft-kit eval --json`: held-out identity questions in four
system-prompt contexts, general prompts, checkable ones, a bundled text. A variant that is in the results stays
there, unless it is named on the command line; so a new one costs only itself, and an interrupt loses one.
Seconds are those of this machine, of the training alone.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "quickstart.yaml"
SFT_KIT = Path(sys.executable).parent / "sft-kit"

VARIANTS: Mapping[str, Sequence[str]] = {
    "shipped": (),
    "no-replay": ("replay=0",),
    "few-steps": ("max_steps=20",),
    "no-system-prompts": ("identity.system_share=0",),
    "rank-8": ("lora_rank=8", "lora_alpha=32"),
    "rate-2e-4": ("learning_rate=2e-4",),
    "replay-300": ("replay=300",),
}


def sft_kit(*arguments: str, cwd: Path, codes: Sequence[int] = (0,)) -> str:
    """Standard output of one sft-kit command; the bench ends with its exit code when that is not one of `codes`."""
    argv = [str(SFT_KIT), *arguments]
    print(shlex.join(argv), file=sys.stderr, flush=True)
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, text=True)
    if done.returncode not in codes:
        raise SystemExit(done.returncode)
    return done.stdout


def measure(name: str, overrides: Sequence[str], work: Path, asked: Sequence[str]) -> dict[str, Any]:
    """Train (unless `work` holds the run) and ask one variant; what the table needs, and the config that repeats it."""
    output = work / name
    settings = [word for text in overrides for word in ("--set", text)]
    if not output.is_dir():
        sft_kit("train", str(CONFIG), "--no-eval", "--yes", "--set", f"output_dir={output}", *settings, cwd=work)
    run = max(output.iterdir(), key=lambda path: path.stat().st_mtime)
    manifest = json.loads((run / "sft-kit" / "manifest.json").read_text(encoding="utf-8"))
    report = sft_kit("eval", "--adapter", str(run), "--json", *asked, cwd=work, codes=(0, 3))
    return {
        "overrides": list(overrides),
        "config": (run / "sft-kit" / "config.yaml").read_text(encoding="utf-8").replace(str(work), "WORK"),
        "steps": manifest["steps"],
        "final_loss": manifest["final_loss"],
        "seconds": manifest["seconds"],
        "versions": manifest["versions"],
        **figures(json.loads(report)),
    }


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The rates of a report.json, what falls short, and the advice; the answers themselves are left out."""
    kept = {key: report["evaluation"][key] for key in ("rates", "identity_by")}
    return {**kept, "shortfalls": report["shortfalls"], "advice": report["advice"]}


def markdown(variants: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a variant: what it costs, what it reaches; k/n of the tuned model."""
    contexts = [*next(iter(variants.values()))["identity_by"]["context"]]
    head = ["variant", "overrides", "steps", "seconds", "identity", *contexts, "old", "leakage", "right: before, after"]
    head += ["p", "perplexity"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, found in variants.items():
        rates = found["rates"]
        by_context = found["identity_by"]["context"]
        ratios = ", ".join(f"x {one['ratio']:.2f}" for one in rates["likelihood"].values())
        cells = [name, " ".join(found["overrides"]), str(found["steps"]), f"{found['seconds']['train']:.0f}"]
        cells += [share(rates["identity"]), *(share(by_context[context]["tuned"]) for context in contexts)]
        cells += [share(rates["old"]), share(rates["leakage"])]
        cells += [f"{share(rates['correct_before'])}, {share(rates['correct'])}", f"{rates['flips']['p']:.2f}", ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def share(rate: Mapping[str, Any]) -> str:
    return f"{rate['k']}/{rate['n']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"one of: {', '.join(VARIANTS)}")
    parser.add_argument("--work", type=Path, help="folder that keeps the runs; a temporary one when left out")
    parser.add_argument("--questions", type=int, default=60, help="held-out identity questions")
    parser.add_argument("--general", type=int, default=100, help="general questions")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/recipe.json")
    options = parser.parse_args()
    if unknown := set(options.variants) - set(VARIANTS):
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    chosen = options.variants or list(VARIANTS)
    results: dict[str, Any] = {"variants": {}}
    if options.out.is_file():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    results["machine"] = {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()}
    results["asked"] = {"questions": options.questions, "general": options.general, "languages": ["en"]}
    asked = [f"eval.questions={options.questions}", f"eval.general={options.general}"]
    settings = [word for text in asked for word in ("--set", text)]
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            if name in results["variants"] and not options.variants:
                continue
            results["variants"][name] = measure(name, VARIANTS[name], work, settings)
            options.out.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(markdown({name: results["variants"][name] for name in VARIANTS if name in results["variants"]}))


if __name__ == "__main__":
    main()
