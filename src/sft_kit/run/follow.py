"""Follows a training while it runs: shows its steps, tells and records its signs, ends it where the config says so.

Owns what happens on each look. What a sign is, `watch` and `stall` decide; what ends a process, `process`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from sft_kit.config.schema import RunConfig
from sft_kit.console import TrainingView, say_words, warn
from sft_kit.errors import GateError, Problem
from sft_kit.msswift.checkpoints import checkpoints, read_json
from sft_kit.msswift.logs import LogFollower, StepLog, is_lost, trend
from sft_kit.msswift.schedule import schedule_of
from sft_kit.run.aside import GIVES_NAN, Unfit, set_aside
from sft_kit.run.directory import RunDirectory
from sft_kit.run.durable import Durable
from sft_kit.run.stall import Limits, Stall
from sft_kit.run.watch import FATAL, Sign, Watch

_TREND_ROWS = 200


class Following:
    """One start of ms-swift in `run`, seen from its first new record on; those of an earlier start are passed over.

    Make it before the process starts. `record` takes the values of new signs for the manifest. `look` and `end` raise
    GateError where there is nothing but NaN any more and `launch.on_nan` is `stop`; `end` NotWritten for a checkpoint
    that could not be flushed to the disk.
    """

    def __init__(
        self, run: RunDirectory, config: RunConfig, record: Callable[[Sequence[dict[str, Any]]], None]
    ) -> None:
        self._run = run
        self._config = config
        self._record = record
        self._follower = LogFollower(run.logging_jsonl)
        self._follower.poll()
        self._durable = Durable(run.path)
        self._watch: Watch | None = None
        self._stall: Stall | None = None
        self._losses: list[float] = []
        self._last: StepLog | None = None

    def started(self, pid: int, *, limits: Limits | None = None) -> None:
        """From now on the process `pid` is watched for silence."""
        self._stall = Stall(pid, self._run.log, limits=limits)

    def look(self, view: TrainingView) -> None:
        """Show and judge what is new, and have it on the disk."""
        self._durable.look()
        signs: list[Sign] = []
        step = None
        for record in self._follower.poll():
            self._watch = self._watch or self._new_watch()
            signs += self._watch.see(record)
            if record.loss is not None and not is_lost(record):
                self._losses.append(record.loss)
                del self._losses[:-_TREND_ROWS]
            self._last, step = record, record.step
            view.step(record, trend(self._losses))
        if self._stall:
            signs += self._stall.look(time.monotonic(), step=step)
        self._tell(signs)

    def end(self, view: TrainingView, *, ended_well: bool) -> None:
        """The same for the last time, after the end of the process."""
        self._stall = None
        self.look(view)
        if self._last:
            view.step(self._last, trend(self._losses), final=True)
        if ended_well and self._watch:
            self._tell(self._watch.end(self._last))
        if ended_well:
            self._durable.end()

    def set_aside(self) -> None:
        """Move the checkpoints of a model that gives NaN to `sft-kit/broken/`, where nobody takes them for good."""
        broken_from = self._watch.broken_from if self._watch else None
        if broken_from is None:
            return
        broken = [each for each in checkpoints(self._run.path) if each.step >= broken_from]
        set_aside(self._run, [Unfit(each, "broken", GIVES_NAN) for each in broken])

    def _tell(self, signs: Sequence[Sign]) -> None:
        if not signs:
            return
        self._record([sign.values() for sign in signs])
        for sign in signs:
            problem = Problem(f"step {sign.step}" if sign.step else "", f"{sign.message} [{sign.code}]", sign.fix)
            if sign.code in FATAL and self._config.launch.on_nan == "stop":
                raise self._stopped(sign)
            if sign.severity == "note":
                say_words(str(problem))
            else:
                warn(problem)

    def _stopped(self, sign: Sign) -> GateError:
        broken_from = self._watch.broken_from if self._watch else None
        good = [each for each in checkpoints(self._run.path) if each.complete and each.step < (broken_from or 0)]
        kept = f"{good[-1].path.name} is from before" if good else "there is no checkpoint from before"
        message = f"{sign.message}; training was stopped ({kept})"
        return GateError(Problem(f"step {sign.step}", message, f"{sign.fix}; launch.on_nan: warn goes on all the same"))

    def _new_watch(self) -> Watch:
        given, written = self._config.swift_values(), read_json(self._run.path / "args.json")
        from_checkpoint = re.search(r"checkpoint-(\d+)/*$", self._config.resume_from_checkpoint or "")
        scaled = (given.get("torch_dtype") or written.get("torch_dtype")) != "bfloat16"
        start = int(from_checkpoint[1]) if from_checkpoint else 0
        return Watch(schedule_of(given, written), scaled=scaled, start=start)
