"""An adapter becomes a directory that any tool loads and that keeps the identity: merged, prompted, proven, packaged.

`swift export` merges into a hidden folder beside the target. There its weights are checked tensor by tensor
(`run.merged_weights`), its chat template may get the trained system prompt as default (`msswift.chat_template`), and
plain transformers must answer with it as ms-swift does with the adapter (`run.parity`). Only then it is quantised if
asked, given its card, and moved into place by one rename: what is at the target is whole and proven, or nothing.

Owns that order, what is shipped and what is not. A full fine-tune goes the same way with a copy in place of the merge.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sft_kit.console import is_terminal, person_is_typing, say, warn, working
from sft_kit.errors import GateError, MsSwiftError, Problem, UsageError
from sft_kit.models.directory import read_directory
from sft_kit.msswift.chat_template import (
    ChatTemplate,
    NotEditable,
    default_system,
    difference,
    read_chat_template,
    takes_system,
    with_default_system,
)
from sft_kit.msswift.checkpoints import kind_of, missing_weights, read_json
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.hub import cached_model, is_hub_id, looks_like_path, uses_hugging_face
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.msswift.templates import templates
from sft_kit.plan.gpus import gpu_environment
from sft_kit.resources import user_path
from sft_kit.run.directory import run_around
from sft_kit.run.disk import require_room_for_model
from sft_kit.run.merged_weights import WeightReport, check_merge, check_weights
from sft_kit.run.model_card import CardFacts, model_card
from sft_kit.run.parity import (
    PROMPTS,
    Asked,
    Parity,
    compare_answers,
    conversations,
    parity_prompts,
    trained_answers,
    usable,
)
from sft_kit.run.process import start, supervise
from sft_kit.run.quantise import Method, check_method, described, quantise
from sft_kit.run.signals import signals_as_interrupts
from sft_kit.run.swift_log import swift_failed, temporary_log
from sft_kit.run.targets import UNTRUSTED, Target, Trust, resolve_adapter
from sft_kit.writes import not_written

# What a model directory is made of; anything else (pickles, optimizer state, logs) is not shipped.
_SHIPPED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".vocab", ".py")
_NOT_SHIPPED = ("trainer_state.json", "additional_config.json", "adapter_config.json")
# What ms-swift reads again from a model's args.json (BaseArguments.load_args_from_ckpt); the rest is of the run and of
# the machine that it ran on.
_ARGS = ("model_type", "template", "system", "torch_dtype", "swift_version", "task_type", "use_chat_template")
_SHOWN_DIFFERENCES = 5


@dataclass(frozen=True)
class Wishes:
    """What the user asked for. `default_system` is trained, keep or a text; None leaves it to be asked. `trust` lets
    the model run its own code."""

    out: Path | None = None
    default_system: str | None = None
    quant: Method | None = None
    ollama: bool = False
    verify: bool = True
    yes: bool = False
    trust: bool = False


def export(adapter: str, wishes: Wishes, output_dir: Path, ask: Callable[[str], bool]) -> Path:
    """The directory of the exported model, which did not exist before.

    `ask` puts a yes-or-no question to a person at a terminal. Raises UsageError when the target exists or `adapter` is
    none, MissingError for what `--quant` lacks or a disk without room, MsSwiftError when ms-swift fails, GateError when
    what came out is not what was trained; nothing is left at the target then, nor beside it.
    """
    target = _resolve(adapter, output_dir, Trust(wishes.trust))
    installation, env = find_installation(), {**gpu_environment(1), **target.env}
    job = _Job(target, installation, env, _run_of(target), _trained_system(target, installation))
    rows = check_method(wishes.quant, job.run, env) if wishes.quant else []
    made_of = "merged" if target.kind == "adapter" else "export"
    out = (wishes.out or Path(f"{target.path}-{wishes.quant or made_of}")).expanduser().absolute()
    if target.note:
        say(f"exporting {target.note}")
    of_base = job.base_and_folder()[1] if target.kind == "adapter" else None
    require_room_for_model(Path(target.path), of_base, out, wishes.quant)
    with signals_as_interrupts(), _work_folder(out) as work:
        merged = work / "merged"
        job.merge(merged) if target.kind == "adapter" else _copy_model(Path(target.path), merged)
        _tidy(merged)
        if wishes.verify:
            job.check_weights(merged)
        default = job.choose_default_system(merged, wishes, ask)
        proof = "Its answers were not compared with the trained model's (--no-verify)."
        if wishes.verify:
            proof = _proof(job.check_answers(merged, default), wishes.quant)
        made = merged
        if wishes.quant:
            made = work / "quantised"
            with working(f"quantising ({described(wishes.quant)})"):
                quantise(installation, wishes.quant, merged, made, rows, env=env)
            _tidy(made)
            if wishes.verify:
                job.check_quantised(made, default)
        kind = described(wishes.quant) if wishes.quant else ""
        base, folder = job.base_and_folder()
        card = CardFacts(
            out.name, base, folder, job.run, job.system, default, proof, kind,
            merged=target.kind == "adapter", modelfile=wishes.ollama,
        )  # fmt: skip
        (made / "README.md").write_text(model_card(card), encoding="utf-8")
        if wishes.ollama:
            from sft_kit.run.ollama import write_modelfile  # a part of its own, needed for this flag only

            system = job.system if wishes.default_system in (None, "trained") else default
            say(f"wrote {write_modelfile(made, system=system).name}")
        _put_in_place(made, out)
    return out


@dataclass(frozen=True)
class _Job:
    """What is exported, with what; `run` is its run directory and `system` what it was trained under, where known."""

    target: Target
    installation: Installation
    env: Mapping[str, str]
    run: Path | None
    system: str | None

    def merge(self, merged: Path) -> None:
        """`swift export --merge_lora`, which skips the merge in silence where the output directory exists."""
        values = {**self.target.values, "merge_lora": True, "output_dir": str(merged)}
        command = swift_command(self.installation, "export", values, env=self.env)
        with temporary_log("export") as log:
            with (
                working("merging the adapter into its base model"),
                start(command.argv, log=log, env=command.environment()) as process,
            ):
                exit_ = supervise(process, tick=lambda: None)
            if not exit_.ok:
                raise swift_failed(exit_, log)
            lost = [*missing_weights(merged)]
            lost += [name for name in ("config.json", "tokenizer_config.json") if not (merged / name).is_file()]
            if lost:
                problem = Problem("", f"ms-swift ended well but wrote no {', '.join(lost)}", f"its whole output: {log}")
                raise MsSwiftError(problem, returncode=0)

    def check_weights(self, merged: Path) -> None:
        """Raise GateError for weights that are not what base and adapter make."""
        base = self.base_and_folder()[1]
        adapter = Path(self.target.path)
        with working("checking the weights"):
            if self.target.kind == "adapter" and base is not None and adapter.is_dir():
                report = check_merge(merged, base, adapter)
            else:
                report = check_weights(merged)
        refuse_faulty(report)
        changed = f", {report.changed} of them changed" if report.changed else ""
        say(f"weights: {report.tensors} tensors{changed}, all finite; compared with {report.compared}")

    def choose_default_system(self, merged: Path, wishes: Wishes, ask: Callable[[str], bool]) -> str | None:
        """What the chat template of `merged` puts in where a conversation brings no system message, after the edit
        that the user wants. Shows the edit; what cannot be done is said, and the template is left as it is."""
        template = read_chat_template(merged)
        try:
            if template is None:
                raise NotEditable("there is none")
            current = default_system(template) or None
        except NotEditable as error:
            _warn_of_template(str(error), wishes.default_system)
            return None
        wanted = self.system if wishes.default_system in (None, "trained") else wishes.default_system or None
        if wishes.default_system == "keep" or wanted == current:
            if wanted != current:
                say(f"the chat template keeps its default system prompt: {_shown(current)}")
            return current
        try:
            edited = with_default_system(template, wanted)
        except NotEditable as error:
            _warn_of_template(str(error), wishes.default_system)
            return current
        say(f"Without a system message the chat template says: {_shown(current)}; trained was: {_shown(self.system)}.")
        say(difference(template, edited))
        if _agreed(wishes, ask):
            edited.write()
            _check_written(merged, edited, wanted)
            say(f"the chat template's default system prompt is now {_shown(wanted)}")
            return wanted
        return current

    def check_answers(self, merged: Path, default: str | None) -> Parity:
        """Raise GateError where plain transformers with `merged` does not answer as ms-swift does."""
        asked = self._asked(merged, default)
        if all(one.context != "none" for one in asked):
            problem = (
                "prompts without a system prompt are not compared: the chat template's default is not the trained one"
            )
            warn(Problem("", problem, "--default-system trained makes it so"))
        with temporary_log("parity") as log:
            expected = trained_answers(self.installation, self.target.values, asked, log=log, env=self.env)
            parity = compare_answers(self.installation, merged, asked, expected, log=log, env=self.env)
        refuse_different(parity)
        say(f"parity: {parity}")
        for tie in parity.ties:
            say(f"  tie: {tie}")
        return parity

    def check_quantised(self, model: Path, default: str | None) -> None:
        """Raise GateError when plain transformers cannot load the quantised model or it says nothing. Its answers may
        be others than before: that is what quantising costs."""
        asked = self._asked(model, default, prompts=4)
        with temporary_log("quantised") as log:
            answered = usable(self.installation, model, asked, log=log, env=self.env)
        if not answered:
            raise GateError(Problem("", "the quantised model answers nothing at all", "try another --quant"))
        say(f"quantised: loads in plain transformers and answers ({answered} of {len(asked)} questions)")

    def _asked(self, model: Path, default: str | None, prompts: int = PROMPTS) -> list[Asked]:
        """Raises GateError where the chat template can say nothing that the model was trained on."""
        template = read_chat_template(model)
        takes = template is None or takes_system(template)
        questions = parity_prompts(self.run, prompts)
        asked = conversations(questions, self.system, default_agrees=default == self.system, takes_system=takes)
        if not asked:
            message = "its chat template takes no system prompt, but the model was trained with one"
            raise GateError(Problem("", message, "train without `system`; --no-verify exports it as it is"))
        return asked

    def base_and_folder(self) -> tuple[str, Path | None]:
        """The base model's name for people, and its folder if it is here."""
        named = self.target.base or str(self.target.values.get("model") or "")
        manifest = read_json(self.run / "sft-kit" / "manifest.json") if self.run else {}
        shown = str(manifest.get("model") or named)
        folder = user_path(named)
        if not folder.is_dir():
            use_hf = uses_hugging_face(bool(self.target.values.get("use_hf")), os.environ)
            cached = cached_model(named, hugging_face=use_hf)
            return shown, cached
        return (shown if is_hub_id(shown) and not looks_like_path(shown) else folder.resolve().name), folder


def refuse_faulty(report: WeightReport) -> None:
    """Raise GateError with every fault of the weights."""
    if report.faults:
        fix = "nothing was written; merge again, and report it if it stays so"
        raise GateError(*(Problem("exported weights", fault, fix) for fault in report.faults))


def refuse_different(parity: Parity) -> None:
    """Raise GateError with the first answers that differ by more than rounding, or by rounding too often."""
    if not parity.different and not parity.too_many_ties:
        return
    first = [Problem("", str(each)) for each in (parity.different or parity.ties)[:_SHOWN_DIFFERENCES]]
    cause = "its chat template is not the one that it was trained with" if any(
        each.prompts for each in parity.different
    ) else "nothing was written; --no-verify exports without this check"  # fmt: skip
    raise GateError(Problem("", f"the exported model does not answer as the trained one: {parity}", cause), *first)


def _trained_system(target: Target, installation: Installation) -> str | None:
    """What ms-swift puts in where a conversation brings no system message: the run's `system`, else the default of its
    template, which need not be that of the model's own chat template."""
    arguments = read_json(Path(target.path) / "args.json")
    given = arguments.get("system")
    if isinstance(given, str):
        return given or None
    template = templates(installation).get(str(arguments.get("template")))
    return (template.default_system or None) if template else None


def _resolve(name: str, output_dir: Path, trust: Trust = UNTRUSTED) -> Target:
    """What `--adapter name` means, a full checkpoint or an exported model too: it is copied and not merged."""
    path = user_path(name)
    if path.is_dir() and kind_of(path) == "model":
        trust.vet(path)
        return trust.target("model", str(path), {"model": str(path)})
    return resolve_adapter(name, output_dir, trust)


def _run_of(target: Target) -> Path | None:
    """The run directory that a checkpoint lies in, if sft-kit made it."""
    run = run_around(Path(target.path))
    return run.path if run else None


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, gone when the block ends. Raises UsageError when `out` is taken."""
    if os.path.lexists(out):
        raise UsageError(Problem(str(out), "is already there", "give another --out, or remove it"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise not_written(out.parent, error) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_in_place(made: Path, out: Path) -> None:
    try:
        out.mkdir()  # fails where somebody made it meanwhile; a rename would replace an empty folder
        try:
            os.replace(made, out)
        except BaseException:
            out.rmdir()
            raise
    except OSError as error:
        raise UsageError(Problem(str(out), f"cannot be put there: {error.strerror}", "give another --out")) from error


def _copy_model(checkpoint: Path, merged: Path) -> None:
    """The files of a full checkpoint that make a model. Raises UsageError for links out of it: what they point to would
    be published with the model."""
    for name, there in read_directory(checkpoint).links_out.items():
        if _is_shipped(checkpoint / name):
            fix = "put the file itself in its place, if it belongs to the model"
            raise UsageError(Problem(str(checkpoint / name), f"is a link to {there}", fix, "link-outside"))
    merged.mkdir()
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and _is_shipped(file):
            shutil.copy2(file, merged / file.name)


def _tidy(model: Path) -> None:
    """Take out what must not be shipped, and of args.json all but what ms-swift needs to load the model again."""
    for file in model.iterdir():
        if file.is_file() and not _is_shipped(file):
            file.unlink()
    arguments = read_json(model / "args.json")
    if arguments:
        kept = {key: arguments[key] for key in _ARGS if arguments.get(key) is not None}
        (model / "args.json").write_text(json.dumps(kept, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for file in model.glob("*.safetensors"):
        file.chmod(file.stat().st_mode | 0o044 & (model / "config.json").stat().st_mode)  # written for the owner only


def _is_shipped(file: Path) -> bool:
    return file.suffix in _SHIPPED and file.name not in _NOT_SHIPPED


def _agreed(wishes: Wishes, ask: Callable[[str], bool]) -> bool:
    """Whether the edit is wanted: by a flag, or by a person; a script without a flag keeps what is there."""
    if wishes.default_system is not None or wishes.yes:
        return True
    if person_is_typing() and is_terminal():
        return ask("change the default system prompt of the chat template?")
    warn(Problem("", "the chat template keeps its default system prompt", "--default-system trained changes it"))
    return False


def _check_written(merged: Path, edited: ChatTemplate, wanted: str | None) -> None:
    """Raise GateError unless what was written renders as what was shown."""
    there = read_chat_template(merged)
    if there is None or (default_system(there) or None) != wanted or there.source != edited.source:
        raise GateError(Problem(str(edited.file), "the chat template was not written as it was shown"))


def _warn_of_template(why: str, asked: str | None) -> None:
    message = f"the default system prompt of the chat template cannot be changed: {why}"
    if asked not in (None, "trained", "keep"):
        raise UsageError(Problem("--default-system", message, "send it as a system message instead"))
    warn(Problem("", message, "send the trained system prompt as a system message"))


def _shown(system: str | None) -> str:
    return "none" if not system else repr(system)


def _proof(parity: Parity, quant: Method | None) -> str:
    when = "Before it was quantised, plain" if quant else "Plain"
    return f"{when} transformers answered with it as ms-swift does with the trained model: {parity}."
