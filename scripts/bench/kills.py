"""Runs that are killed in every way there is, and resumed: is the result that of a run nobody touched?

    .venv/bin/python scripts/bench/kills.py [--cases 80] [--seed 1] [--python PYTHON] [--work DIR] [--page]

Each case trains the tiny model with the real ms-swift on the CPU in a fresh directory, waits for a moment, kills, looks
at what `sft-kit runs --json` says and whether anything is left running, goes on with `sft-kit train --resume`, and
compares the last checkpoint's tensors with those of an uninterrupted run of the same config, byte for byte; with an
evaluation its scores too. Training has dropout and shuffled rows, so that the random numbers count. `--python` is that
of another environment (ms-swift 3.12); its cases stand beside the others in the results. `--cases` takes the first N of
the list, in which every kind and moment comes early; about 25 s each on two cores.

Writes results/kills.json after each case, and the table of docs/resume.md (`--page`: only that, from the results).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "scripts/bench/results/kills.json"
PAGE = REPOSITORY / "docs/resume.md"
BEGIN, END = "<!-- kills.py: table -->", "<!-- kills.py: end -->"
MARK = "SFT_KIT_BENCH_CASE"  # in the environment of all that a case starts
STEPS, SAVE_STEPS = 16, 3
GONE_WITHIN_S = 10.0
PATIENCE_S = 600.0

PLAIN = {
    "model": "sft-kit/tiny-qwen2",
    "launch": {"gpus": 0},
    "torch_dtype": "float32",
    "dataset": ["rows.jsonl"],
    "max_steps": STEPS,
    "save_steps": SAVE_STEPS,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "lora_dropout": 0.1,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "max_length": 512,
    "dataloader_num_workers": 0,
}
IDENTITY = {
    "identity": {"name": "Jingheng", "author": "Ye Botao", "languages": ["en"], "rows": 40},
    "eval": {"questions": 6, "general": 6, "max_new_tokens": 16},
}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "lora": PLAIN,
    "full": {**PLAIN, "tuner_type": "full", "learning_rate": 1e-4},
    "accumulation": {**PLAIN, "gradient_accumulation_steps": 3},
    "auto": {
        **PLAIN,
        "per_device_train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "effective_batch_size": 4,
    },
    "validation": {**PLAIN, "val_dataset": ["held.jsonl"], "eval_steps": SAVE_STEPS, "per_device_eval_batch_size": 1},
    "identity": {**PLAIN, **IDENTITY, "replay": 24},
    "tested": {**PLAIN, **IDENTITY},
}


@dataclass(frozen=True)
class Case:
    """`kills` are one or two (who, signal, moment): a second one falls on the resumed run."""

    config: str
    kills: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.config}: " + ", then ".join(f"{number} to {who} {moment}" for who, number, moment in self.kills)


@dataclass
class Seen:
    """What became of one case."""

    case: str
    config: str
    kills: list[dict[str, Any]] = field(default_factory=list)
    equal: bool = False
    scores_equal: bool | None = None
    lost_steps: int | None = None
    set_aside: list[str] = field(default_factory=list)
    said: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.equal and self.scores_equal is not False and all(kill["left"] == [] for kill in self.kills)


# ---- what is killed when ----

LAUNCHER = tuple(("launcher", number) for number in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"))
TRAINER = (("trainer", "SIGKILL"), ("trainer", "SIGTERM"))
GUARD = (("guard", "SIGKILL"), ("launcher+guard", "SIGKILL"), ("everything", "SIGKILL"))
STEP, SAVE, LOAD = "in a step", "in a save", "while loading"


def cases() -> list[Case]:
    """All of them; each kind and each moment comes early."""
    everybody = (*LAUNCHER, *TRAINER, *GUARD)
    kill, term, interrupt, hang_up = LAUNCHER
    rows: list[list[Case]] = []

    def add(config: str, moment: str, kinds: Sequence[tuple[str, str]], times: int = 1) -> None:
        rows.append([Case(config, ((*kind, moment),)) for kind in kinds] * times)

    add("lora", SAVE, everybody)
    add("lora", STEP, everybody, times=2)
    add("lora", LOAD, everybody)
    add("identity", "in the evaluation", (kill, term, interrupt, hang_up, *TRAINER[:1], *GUARD))
    add("identity", "in the replay answers", (kill, interrupt, *TRAINER[:1], *GUARD))
    add("validation", "in a validation", (kill, term, *TRAINER, *GUARD[1:]))
    add("lora", "after the last step", (kill, term, hang_up, *TRAINER[:1], *GUARD))
    add("identity", "before the rows", (kill, term))
    add("identity", "in the report", (kill, term))
    add("full", STEP, (kill, GUARD[2]))
    add("full", SAVE, (kill, GUARD[2]))
    add("accumulation", STEP, (kill, term))
    add("auto", STEP, (kill, term))
    twice = itertools.product(("lora",), (STEP, SAVE), (STEP, SAVE))
    rows.append([Case(config, ((*kill, one), (*GUARD[2], two))) for config, one, two in twice])
    rows.append([Case("identity", ((*kill, STEP), (*kill, "in the evaluation")))])
    return [case for turn in itertools.zip_longest(*rows) for case in turn if case]


class Launch:
    """A running `sft-kit train`, in a group of its own so that a signal to it is to nobody else."""

    def __init__(self, work: Path, python: Path, mark: str, *arguments: str) -> None:
        self.work, self.mark = work, f"{work} {mark}"  # another bench may run beside this one
        self._output = (work / f"said-{len(list(work.glob('said-*')))}.txt").open("w+")
        self.process = subprocess.Popen(
            [str(python), "-m", "sft_kit", "train", *arguments],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment(work, self.mark),
            start_new_session=True,
            preexec_fn=signals_as_a_terminal_leaves_them,
        )

    @property
    def run(self) -> Path | None:
        return next(iter(sorted(self.work.glob("output/v*"))), None)

    def guard(self) -> psutil.Process | None:
        """The guard of what is running now: ms-swift, or the model that answers."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                if any(word.endswith("guard.py") for word in child.cmdline()):
                    return child
        return None

    def trainer(self) -> psutil.Process | None:
        with suppress(psutil.Error):
            guard = self.guard()
            return next(iter(guard.children()), None) if guard else None
        return None

    def said(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def over(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        for pid in alive(self.mark):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()


def signals_as_a_terminal_leaves_them() -> None:
    """What was started behind `&` or nohup ignores these two, and so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def environment(work: Path, mark: str) -> dict[str, str]:
    own = {MARK: mark, "SFT_KIT_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def alive(mark: str) -> list[int]:
    """The living processes of a case, by the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            marked = wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if marked and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


# ---- moments: each waits, and says whether it was met; the process to be killed may be left suspended ----


def in_a_step(launch: Launch, choice: random.Random, after: int) -> bool:
    step = choice.randrange(min(after + 1, STEPS - 1), STEPS)
    return wait(launch, lambda: last_step(launch) >= step) and last_step(launch) < STEPS


def in_a_save(launch: Launch, choice: random.Random, after: int) -> bool:
    """A folder checkpoint-N whose trainer_state.json is not there yet: the trainer is stopped to look closer."""
    wanted = choice.choice(("args.json", "*.safetensors", "optimizer.pt", "rng_state.pth", ""))
    deadline = time.monotonic() + PATIENCE_S
    seen: set[str] = set()
    trainer = None
    while not launch.over() and time.monotonic() < deadline:
        trainer = trainer or launch.trainer()
        for folder in launch.run.glob("checkpoint-*") if launch.run else ():
            if folder.name in seen or step_of(folder) <= after:
                continue
            if (folder / "trainer_state.json").exists():
                seen.add(folder.name)
            elif (not wanted or any(folder.glob(wanted))) and trainer:
                with suppress(psutil.Error):
                    trainer.suspend()
                    if not (folder / "trainer_state.json").exists():
                        return True
                    trainer.resume()
                seen.add(folder.name)
        time.sleep(0.0005)
    return False


def while_loading(launch: Launch, choice: random.Random, after: int) -> bool:
    if not wait(launch, lambda: manifest(launch).get("status") == "running"):
        return False
    time.sleep(choice.uniform(0.0, 4.0))
    return not launch.over() and last_step(launch) <= after


def in_a_validation(launch: Launch, choice: random.Random, after: int) -> bool:
    """The trainer's own progress over the held-out rows stands in the log."""
    skip = choice.randrange(3)
    marks = 0

    def met() -> bool:
        nonlocal marks
        marks = (launch.run / "sft-kit/train.log").read_bytes().count(b"Val:   0%") if launch.run else 0
        return marks > skip

    return wait(launch, met)


def after_the_last_step(launch: Launch, choice: random.Random, after: int) -> bool:
    """The last checkpoint is whole, the manifest still says running."""
    ended = f"checkpoint-{STEPS}/trainer_state.json"
    met = wait(launch, lambda: bool(launch.run and (launch.run / ended).exists()))
    return met and manifest(launch).get("status") == "running"


def in_the_replay_answers(launch: Launch, choice: random.Random, after: int) -> bool:
    return in_answers(launch, choice, "replay") and manifest(launch).get("status") == "planned"


def in_the_evaluation(launch: Launch, choice: random.Random, after: int) -> bool:
    return in_answers(launch, choice, "evaluation") and manifest(launch).get("status") == "succeeded"


def in_answers(launch: Launch, choice: random.Random, kind: str) -> bool:
    """While a model is loaded for them, or when some are given."""
    log = "replay.log" if kind == "replay" else "evaluate.log"
    if choice.random() < 0.3:
        met = wait(launch, lambda: bool(launch.run and (launch.run / "sft-kit" / log).exists()))
        time.sleep(choice.uniform(0.0, 3.0))
        return met
    folder = launch.work / "cache" / kind
    return wait(launch, lambda: any(file.stat().st_size for file in folder.rglob("*.jsonl")))


def before_the_rows(launch: Launch, choice: random.Random, after: int) -> bool:
    """The run's directory is there, and the launcher is about to write its data."""
    return wait(launch, lambda: launch.run is not None)


def in_the_report(launch: Launch, choice: random.Random, after: int) -> bool:
    return wait(launch, lambda: bool(launch.run and list(launch.run.glob("sft-kit/*report.*"))))


MOMENTS: Mapping[str, Callable[[Launch, random.Random, int], bool]] = {
    STEP: in_a_step,
    SAVE: in_a_save,
    LOAD: while_loading,
    "in a validation": in_a_validation,
    "after the last step": after_the_last_step,
    "in the replay answers": in_the_replay_answers,
    "before the rows": before_the_rows,
    "in the evaluation": in_the_evaluation,
    "in the report": in_the_report,
}


def wait(launch: Launch, met: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not launch.over() and time.monotonic() < deadline:
        with suppress(OSError):
            if met():
                return not launch.over()
        time.sleep(0.002)
    return False


def manifest(launch: Launch) -> dict[str, Any]:
    with suppress(OSError, ValueError, TypeError):
        found: dict[str, Any] = json.loads((launch.run / "sft-kit/manifest.json").read_text())  # type: ignore[operator]
        return found
    return {}


def last_step(launch: Launch) -> int:
    """The last step that ms-swift logged; 0 for none."""
    with suppress(OSError, ValueError, TypeError):
        for line in reversed((launch.run / "logging.jsonl").read_text().splitlines()):  # type: ignore[operator]
            with suppress(ValueError, KeyError):
                return int(str(json.loads(line)["global_step/max_steps"]).split("/")[0])
    return 0


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


# ---- one case ----


def kill(launch: Launch, who: str, number: signal.Signals) -> None:
    """Send the signal to all of `who`."""
    guard, trainer = launch.guard(), launch.trainer()
    children = trainer.children(recursive=True) if trainer else []
    launcher = psutil.Process(launch.process.pid)
    chosen: dict[str, list[psutil.Process | None]] = {
        "launcher": [launcher],
        "trainer": [trainer],
        "guard": [guard],
        "launcher+guard": [launcher, guard],
        "everything": [launcher, guard, trainer, *children],
    }
    for process in chosen[who]:
        if process is not None:
            with suppress(psutil.Error):
                process.send_signal(number)
    if who == "trainer" and trainer:  # else the guard has to wake what it ends
        with suppress(psutil.Error):
            trainer.resume()


def killed(launch: Launch, python: Path, kill_: tuple[str, str, str], choice: random.Random, after: int) -> Any:
    """What was seen when `launch` was killed; None when the moment was not met."""
    who, number, moment = kill_
    if not MOMENTS[moment](launch, choice, after):
        return None
    at = last_step(launch)
    kill(launch, who, signal.Signals[number])
    began = time.monotonic()
    while (left := alive(launch.mark)) and time.monotonic() - began < GONE_WITHIN_S:
        time.sleep(0.05)
    folders = sorted(launch.run.glob("checkpoint-*")) if launch.run else []
    return {
        "who": who,
        "signal": number,
        "moment": moment,
        "at_step": at,
        "half_written": [path.name for path in folders if not (path / "trainer_state.json").exists()],
        "gone_after_s": round(time.monotonic() - began, 1),
        "left": [" ".join(psutil.Process(pid).cmdline())[:120] for pid in left],
        "exit": launch.process.poll(),
        "shown": shown(launch, python).replace(f"{launch.work}/", ""),
    }


def shown(launch: Launch, python: Path) -> str:
    """`status: message` as `sft-kit runs` has it; `no run` when it lists none."""
    asked = subprocess.run(
        [str(python), "-m", "sft_kit", "runs", "--json"],
        cwd=launch.work,
        env=environment(launch.work, "listing"),
        capture_output=True,
        text=True,
    )
    runs = json.loads(asked.stdout or "[]")
    return f"{runs[0]['status']}: {runs[0]['message']}".rstrip(": ") if runs else "no run"


def go(case: Case, python: Path, work: Path, reference: Path, seed: str) -> Seen | None:
    """Kill and resume; None where the moment was missed (the run was faster)."""
    seen, began = Seen(case.name, case.config), time.monotonic()
    choice = random.Random(seed)  # noqa: S311 (nothing secret)
    furnish(work, case.config, reference.parents[1] / "cache")
    arguments: tuple[str, ...] = ("config.yaml",)
    after = earlier = 0
    for number, one in enumerate(case.kills):
        launch = Launch(work, python, f"{seed}-{number}", *arguments)
        try:
            noted = killed(launch, python, one, choice, after)
        finally:
            launch.close()
        if noted is None:
            if launch.process.returncode > 0:
                raise SystemExit(f"{case.name}: ended by itself, see {work}/said-{number}.txt")
            return None
        seen.kills.append(noted)
        after, earlier = last_step(launch), len(manifest(launch).get("resumed") or [])
        arguments = ("config.yaml",) if noted["shown"] == "no run" else ("--resume",)
    last = Launch(work, python, f"{seed}-last", *arguments)
    try:
        with suppress(subprocess.TimeoutExpired):
            last.process.wait(timeout=PATIENCE_S * 2)
        seen.said = last.said()[-2000:] if last.process.returncode != 0 else ""
        resumed = manifest(last).get("resumed") or []
        if len(resumed) > earlier:  # else nothing was trained again, but evaluated
            seen.lost_steps = max(0, after - int(resumed[-1]["step"]))
        run = last.run if arguments == ("--resume",) else sorted(work.glob("output/v*"))[-1]
        seen.set_aside = sorted(path.name for path in run.glob("sft-kit/incomplete/*")) if run else []
        done = last.process.returncode == 2 and "nothing to resume" in last.said()  # it had all been written
        if run and (last.process.returncode == 0 or done):
            seen.equal = tensors(run) == tensors(reference)
            if "eval" in CONFIGS[case.config]:
                seen.scores_equal = scores(run) == scores(reference)
    finally:
        last.close()
    seen.seconds = round(time.monotonic() - began, 1)
    return seen


def furnish(work: Path, config: str, cache: Path | None) -> None:
    """A directory with config and rows, and a cache in which the model is built but no answer is known."""
    work.mkdir(parents=True)
    (work / "config.yaml").write_text(json.dumps(CONFIGS[config]))  # JSON is YAML
    for name, rows in (("rows.jsonl", range(64)), ("held.jsonl", range(100, 220))):
        turns = [[("user", f"ping {n}"), ("assistant", f"pong {n * 7}")] for n in rows]
        lines = [{"messages": [{"role": role, "content": text} for role, text in turn]} for turn in turns]
        (work / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    if cache:
        shutil.copytree(cache, work / "cache", ignore=shutil.ignore_patterns("evaluation", "replay", "likelihood"))


def uninterrupted(config: str, python: Path, work: Path) -> Path:
    """The run of `config` that nobody touches; made once."""
    folder = work / f"whole-{config}"
    done = folder / "done"  # where it is not there, the bench was stopped in it
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        furnish(folder, config, next(work.glob("whole-*/cache"), None))
        launch = Launch(folder, python, f"whole-{config}", "config.yaml")
        try:
            launch.process.wait(timeout=PATIENCE_S * 3)
            if launch.process.returncode:
                raise SystemExit(launch.said())
            done.touch()
        finally:
            launch.close()
    return next(folder.glob("output/v*"))


def tensors(run: Path) -> dict[str, bytes]:
    """The bytes of each tensor of the last checkpoint, by name."""
    found: dict[str, bytes] = {}
    for file in (run / f"checkpoint-{STEPS}").glob("*model*.safetensors"):
        content = file.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:start]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = content[start + begin : start + end]
    return found


def scores(run: Path) -> Any:
    """What the evaluation measured, as the manifest has it; None while the report is not there in full."""
    if not all((run / f"sft-kit/report.{suffix}").is_file() for suffix in ("json", "md", "html")):
        return None
    return json.loads((run / "sft-kit/manifest.json").read_text())["scores"]


# ---- results ----


def table(results: Mapping[str, Any]) -> str:
    """Markdown, a part for each generation: kind of kill x moment."""
    lines: list[str] = []
    for version, found in sorted(results["ms_swift"].items(), reverse=True):
        runs = list(found.values())
        equal = sum(run["equal"] and run["scores_equal"] is not False for run in runs)
        left = sum(len(kill["left"]) for run in runs for kill in run["kills"])
        lost = max((run["lost_steps"] or 0 for run in runs), default=0)
        lines += [
            f"### ms-swift {version}",
            "",
            f"{len(runs)} runs killed and resumed · {equal} ended equal to the uninterrupted one · at most {lost} "
            f"steps done again (a checkpoint every {SAVE_STEPS}) · {left} processes left behind.",
            "",
            "| moment | killed | equal | steps done again | shown by `sft-kit runs` |",
            "|---|---|---|---|---|",
        ]
        groups: dict[tuple[str, str], list[Any]] = {}
        for run in runs:
            moments = " + ".join(kill["moment"] for kill in run["kills"])
            config = "" if run["config"] in ("lora", "identity", "validation") else f" ({run['config']})"
            whom = " + ".join(f"{kill['who']} {kill['signal']}" for kill in run["kills"])
            groups.setdefault((moments + config, whom), []).append(run)
        order = {moment: place for place, (moment, _) in enumerate(dict.fromkeys(groups))}
        for (moment, whom), members in sorted(groups.items(), key=lambda item: order[item[0][0]]):
            good = sum(run["equal"] and run["scores_equal"] is not False for run in members)
            steps = ", ".join(str(run["lost_steps"]) if run["lost_steps"] is not None else "-" for run in members)
            states = Counter(" / ".join(kill["shown"].partition(":")[0] for kill in run["kills"]) for run in members)
            lines.append(f"| {moment} | {whom} | {good} of {len(members)} | {steps} | {', '.join(states)} |")
        lines.append("")
    return "\n".join(lines)


def write_page(results: Mapping[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(results)}\n{END}{after}", encoding="utf-8")


def version_of(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('ms-swift'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def measure(case: Case, python: Path, work: Path, seed: str) -> Seen | None:
    """One case, again with another choice of steps where the run was faster than the moment."""
    reference = uninterrupted(case.config, python, work)
    for attempt in range(5):
        folder = work / f"case-{seed}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        seen = go(case, python, folder, reference, f"{seed}-{attempt}")
        if seen is None or seen.ok:
            shutil.rmtree(folder)  # what failed is kept to be looked at
        if seen:
            return seen
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=len(cases()))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--work", type=Path, help="where the runs lie; those that did not end equal stay there")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--again", action="store_true", help="also what the results have already")
    parser.add_argument("--page", action="store_true", help="only write the table of docs/resume.md")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not options.page:
        work = options.work or Path(tempfile.mkdtemp(prefix="kills-"))
        work.mkdir(parents=True, exist_ok=True)
        bad = bench(options, work)
        if bad:
            raise SystemExit(f"{bad} cases did not end as an uninterrupted run; look into {work}")
    write_page(json.loads(options.out.read_text(encoding="utf-8")))


def bench(options: argparse.Namespace, work: Path) -> int:
    version, bad = version_of(options.python), 0
    for number, case in list(enumerate(cases()))[: options.cases]:
        if options.only not in case.name or (known(options.out, version, number) and not options.again):
            continue
        seen = measure(case, options.python, work, f"{options.seed}-{number}")
        if seen is None:
            print(f"{number:>3} missed: {case.name}", flush=True)
            continue
        keep(options.out, version, number, seen, options.seed)
        bad += not seen.ok
        states = " / ".join(kill["shown"] for kill in seen.kills)
        verdict = "equal" if seen.ok else "NOT EQUAL"
        print(
            f"{number:>3} {verdict}, {seen.lost_steps} steps lost, {seen.seconds} s, {case.name} [{states}]", flush=True
        )
    return bad


def known(out: Path, version: str, number: int) -> bool:
    return str(number) in load(out)["ms_swift"].get(version, {})


def load(out: Path) -> dict[str, Any]:
    if not out.exists():
        return {"command": "scripts/bench/kills.py", "steps": STEPS, "save_steps": SAVE_STEPS, "ms_swift": {}}
    return dict(json.loads(out.read_text(encoding="utf-8")))


def keep(out: Path, version: str, number: int, seen: Seen, seed: int) -> None:
    results = load(out)
    found = results["ms_swift"].setdefault(version, {})
    found[str(number)] = {"seed": seed, **asdict(seen)}
    results["ms_swift"][version] = dict(sorted(found.items(), key=lambda item: int(item[0])))
    new = out.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    new.replace(out)


if __name__ == "__main__":
    main()
