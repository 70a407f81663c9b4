"""What a pasted command would have ms-swift do, in the keys of a config, whatever generation it was written for.

Owns which commands train, how argparse would take their words, and what 2.x, 3.x and 4.x mean by them (with the tables
of `dialect`). Everything that is not carried over unchanged has a comment, and what cannot be decided a `todo`: nothing
is lost without a word. Does not read shells (`config.shell`) or how a verb is started (`launchers`), and writes nothing
(`run.pasted_config`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sft_kit.config.shell import ShellCommand
from sft_kit.config.source import Value, read_source
from sft_kit.data.personal import personal_data
from sft_kit.errors import SftKitError
from sft_kit.msswift.arguments import FALSE, TRUE, Argument, arguments
from sft_kit.msswift.command import VARIABLES
from sft_kit.msswift.dialect import (
    canonical,
    dataset_of_2,
    emit_name,
    removed,
    spoken_in,
    translate,
    translate_model_type,
)
from sft_kit.msswift.hub import looks_like_path, uses_hugging_face
from sft_kit.msswift.install import Installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.msswift.launchers import RLHF_VERBS, LeftOut, Started, count, file_name, find_verb
from sft_kit.msswift.model_types import ModelTypeInfo, model_types, suggest_model_id
from sft_kit.resources import user_path
from sft_kit.secrets import HIDDEN, hide_in_argv, hide_in_env, is_secret


@dataclass(frozen=True)
class Entry:
    """One key of the config. `written` is a number as it was typed; `comment` says what was changed, `todo` what the
    user has to decide before this can train."""

    key: str
    value: Value
    comment: str = ""
    todo: str = ""
    written: str = ""


@dataclass(frozen=True)
class Training:
    """A command that trains. `generation` is the ms-swift it was written for, `why` what that was seen from."""

    line: int
    generation: str
    why: str
    entries: tuple[Entry, ...]
    env: Mapping[str, str]
    gpus: int
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()
    env_todo: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NotTraining:
    """A command of which no config is made: `refused` is training of a kind that sft-kit does not do, `elsewhere` has
    a command of its own, `ignored` is no ms-swift at all."""

    line: int
    kind: Literal["refused", "elsewhere", "ignored"]
    shown: str
    message: str
    fix: str = ""


# --- which command it is ---------------------------------------------------------------------------------------------

_VERBS = {
    "infer": "`sft-kit infer --adapter latest` asks the trained model",
    "export": "`sft-kit export --adapter latest` does it after training",
    "merge-lora": "`sft-kit export --adapter latest` does it after training",
    "eval": "`sft-kit train` asks an identity run before and after; for benchmarks run `swift eval` itself",
    "app": "`sft-kit infer --adapter latest` asks the trained model; for a page in the browser run `swift app` itself",
    "web-ui": "a config replaces the form; run `swift web-ui` itself if you want the page",
    "deploy": "run `swift deploy` itself; `sft-kit export --adapter latest` merges the model for it",
    "rollout": "it serves `swift rlhf`",
    "sample": "run `swift sample` itself",
}
_OTHER_TOOLS = {
    "llamafactory-cli": "LLaMA-Factory", "llamafactory-train": "LLaMA-Factory", "lmf": "LLaMA-Factory",
    "xtuner": "XTuner", "axolotl": "Axolotl", "tune": "torchtune", "unsloth": "Unsloth", "mlx_lm.lora": "MLX",
}  # fmt: skip
_MOST_FLAGS = 400  # ms-swift has some 330 arguments


def read_pasted(command: ShellCommand, installation: Installation) -> Training | NotTraining:
    """`command` as a training run in the words of `installation`, or why it is none."""
    shown = " ".join(hide_in_argv([HIDDEN if _holds_secret(word) else word for word in command.argv[:2]]))
    tool = _OTHER_TOOLS.get(file_name(command.argv[0]))
    if tool:
        fix = "its keys differ: start from `sft-kit init`, and name the same model and data there"
        return NotTraining(command.line, "refused", shown, f"is {tool}, not ms-swift", fix)
    started = find_verb(command.argv)
    if started is None:
        return NotTraining(command.line, "ignored", shown, "is not done")
    verb = started.verb
    if verb.startswith("megatron"):
        fix = "use `swift sft` (with deepspeed: zero3 on several GPUs), or run megatron itself"
        return NotTraining(
            command.line, "refused", verb, "trains in Megatron's own format, which sft-kit does not", fix
        )
    if verb in RLHF_VERBS:
        fix = "sft-kit does supervised fine-tuning; run `swift rlhf` itself"
        return NotTraining(command.line, "refused", f"swift {verb}", "is preference or reinforcement training", fix)
    if verb not in ("sft", "pt"):
        message = _VERBS.get(verb, "`swift --help` lists its commands")
        if verb == "infer":
            message = _asking(command.argv[started.at :], installation)
        return NotTraining(command.line, "elsewhere", f"swift {verb}".strip(), message)
    if sum(map(_is_flag, command.argv)) > _MOST_FLAGS:
        message = f"has more than {_MOST_FLAGS} arguments, which no command has"
        return NotTraining(command.line, "refused", f"swift {verb}", message, "paste the command by itself")
    if command.inside:
        message = f"stands inside {command.inside}, which is not decided here"
        return NotTraining(command.line, "refused", f"swift {verb}", message, "paste the command by itself, filled in")
    return _Reader(command, started, installation).training()


def _asking(words: Sequence[str], installation: Installation) -> str:
    """What asks the model that `swift infer` would: the trained one, or a base model given by --model."""
    given = {option.name: option.texts for option in _options(words, 0, lambda name: True)[0]}
    model = (given.get("model") or given.get("model_id_or_path") or ("",))[0]
    if not model or any(given.get(key) for key in ("adapters", "ckpt_dir")):
        return "`sft-kit infer --adapter latest` asks the trained model"
    known = None if _is_here(model) else suggest_model_id(model, model_types(installation))
    return f"`sft-kit infer --model {known if known and '/' not in model else model}` asks the model"


# --- what its words mean ---------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NO_CARRY = {
    "PYTHONPATH": "the installed ms-swift is run",
    "PATH": "ms-swift runs with the PATH of this shell",
    "SWIFT_CONFIG_FILE": "ms-swift sets it itself",
}
_DEFAULTS_OF_2 = {  # (value there, value of today) where leaving an argument out means another run
    "num_train_epochs": ("1", "3"),
    "target_modules": ("the attention's query, key and value", "all-linear"),
    "split_dataset_ratio": ("0.01", "0"),
}
_ELLIPSES = ("...", "…", "……")  # a tutorial's "and so on"

_ELLIPSIS, _STRAY = "the page left arguments out here", "a word that belongs to no argument"


@dataclass(frozen=True)
class _Option:
    """A flag as it was written, and the words behind it. `at` is the flag's place in the argv, -1 in a YAML file."""

    flag: str
    texts: tuple[str, ...]
    at: int

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


class _Reader:
    """Turns one training command into entries."""

    def __init__(self, command: ShellCommand, started: Started, installation: Installation) -> None:
        self.command, self.started, self.installation = command, started, installation
        self.table = arguments(installation, "sft")
        self.keys = SwiftKeys(installation)
        self.entries: dict[str, Entry] = {}
        self.left_out: list[LeftOut] = list(started.left_out)
        self.remarks: list[str] = []
        self.env = {**command.env, **started.env}

    def training(self) -> Training:
        words = self.command.argv[self.started.at :]
        options, stray = _options(words, self.started.at, lambda name: bool(self.argument(name)))
        options = [*self.from_file(stray, options), *options]
        for word in stray:
            self.left_out.append(LeftOut(word, _ELLIPSIS if word in _ELLIPSES else _STRAY, doubt=True))
        generation, why = self.generation(options)
        if self.started.verb == "pt":
            for key, value in (("use_chat_template", False), ("loss_scale", "all")):
                self.entries[key] = Entry(key, value, "what swift pt sets")
        taken = self.last_ones(options)
        for option in taken:
            self.take(option)
        self.fit_model()
        self.fit_data(generation)
        if generation == "2.x":
            self.fit_2()
        if not self.entries:
            todo = "the command names no model; write its hub id or directory"
            self.entries["model"] = Entry("model", None, todo=todo)
        env, gpus, env_todo = self.launch()
        doubts = self.doubts(taken)
        entries = tuple(
            replace(entry, todo="; ".join(filter(None, (entry.todo, doubts.get(entry.key)))))
            for entry in self.entries.values()
        )
        return Training(self.command.line, generation, why, entries, env, gpus, tuple(self.left_out),
                        tuple(self.remarks), env_todo)  # fmt: skip

    def last_ones(self, options: Sequence[_Option]) -> list[_Option]:
        """Each flag once: argparse lets the last one count."""
        last: dict[str, _Option] = {}
        for option in options:
            if option.name in last:
                gone = _shown(last[option.name])
                self.left_out.append(LeftOut(gone, "given again later, and the last one counts", doubt=True))
            last[option.name] = option
        return list(last.values())

    def argument(self, name: str) -> Argument | None:
        """What the installed ms-swift knows under this or another of its names."""
        return self.table.get(emit_name(name, self.table))

    # --- the words -----------------------------------------------------------------------------------------------

    def from_file(self, stray: list[str], options: list[_Option]) -> list[_Option]:
        """The options in `swift sft config.yaml` or `--config config.yaml`, which the command line overrides."""
        named = stray[:1] if stray and re.search(r"\.(ya?ml|json)$", stray[0]) else []
        named += [option.texts[0] for option in options if option.name == "config" and option.texts]
        options[:] = [option for option in options if option.name != "config"]
        if not named:
            return []
        if stray and named[0] == stray[0]:
            stray.pop(0)
        path = named[0]
        try:
            values = dict(read_source(user_path(path)).values)
        except SftKitError as error:
            why = error.problems[0].message
            todo = f"{path}, which holds the arguments, is not read ({why}); write its keys here"
            self.entries["model"] = Entry("model", None, todo=todo)
            return []
        self.remarks.append(f"the keys of {path} are taken over; the command line comes after them")
        own = values.pop("ENV", None)
        self.env = {**({name: str(value) for name, value in own.items()} if isinstance(own, dict) else {}), **self.env}
        given = {option.name for option in options}
        return [_Option(f"--{key}", _words(value), -1) for key, value in values.items()
                if value is not None and key not in given]  # fmt: skip

    def generation(self, options: list[_Option]) -> tuple[str, str]:
        for wanted in ("2.x", "3.x", "4.x"):
            for option in options:
                if spoken_in(option.name) == wanted:
                    return wanted, option.flag
        if re.search(r"llm_\w+\.py$", self.started.script):
            return "2.x", file_name(self.started.script)
        model_type = next((option.texts[0] for option in options if option.name == "model_type" and option.texts), "")
        if "-" in model_type and model_type not in model_types(self.installation):
            return "2.x", f"--model_type {model_type}"
        return "3.x or 4.x", "arguments that both have"

    def take(self, option: _Option) -> None:
        """Enter one argument, or leave it out with the reason."""
        name = option.name
        if not name.isidentifier():
            self.left_out.append(LeftOut(_shown(option), "is no argument", doubt=True))
            return
        if any(map(_holds_secret, option.texts)) and not is_secret(name):
            reason = "it holds a secret, which is not written into a file"
            self.left_out.append(LeftOut(f"{option.flag} {HIDDEN}", reason, doubt=True))
            return
        if is_secret(name):
            variable = {**VARIABLES, "hub_token": "HF_TOKEN or MODELSCOPE_API_TOKEN"}.get(canonical(name))
            where = f" ({variable})" if variable else ""
            reason = f"a secret is not written into a file: set it in the environment{where}"
            self.left_out.append(LeftOut(f"{option.flag} {HIDDEN}", reason))
            return
        target, comment = self.resolve(option)
        argument = self.argument(target)
        if argument is None:
            if not self.of_another_time(option):
                self.unknown(option)
            return
        if not option.texts and argument.kind != "bool":
            self.left_out.append(LeftOut(option.flag, "it has no value", doubt=True))
            return
        entry = _entry(canonical(target), argument, option.texts, comment)
        if comment == "no_":
            entry = replace(entry, value=False, comment=f"was {option.flag}")
        self.enter(self.today(entry, option))

    def resolve(self, option: _Option) -> tuple[str, str]:
        """The argument that a flag means, and what to say about it."""
        name = option.name
        if self.argument(name) is not None:
            old = spoken_in(name)
            return name, f"was {option.flag}{f' in {old}' if old else ''}" if canonical(name) != name else ""
        if removed(name) is None and name.startswith("no_") and not option.texts:
            switch = self.table.get(name[3:])
            if switch is not None and switch.kind == "bool":
                return name[3:], "no_"
        longer = [known for known in self.table if known.startswith(name)]
        if len(longer) == 1 and removed(name) is None:
            return longer[0], f"was {option.flag}, which ms-swift takes for it"
        return name, ""

    def of_another_time(self, option: _Option) -> bool:
        """Whether an argument that is no more was translated or, with its reason, left out."""
        text = option.texts[0] if len(option.texts) == 1 else None
        value: Value = True if not option.texts else list(option.texts) if text is None else _plain_value(text)
        for today in translate(option.name, value, self.table):
            if today.key is None:
                self.left_out.append(LeftOut(_shown(option), today.note))
            else:
                was = f"was {option.flag} {' '.join(option.texts)}".rstrip()
                self.enter(Entry(canonical(today.key), today.value, was))  # type: ignore[arg-type]
            return True
        reason = removed(option.name)
        if reason is None:
            return False
        rows = count(text or "")
        if option.name in ("self_cognition_sample", "train_dataset_sample") and rows is not None:
            self.entries[f"2.x {option.name}"] = Entry(option.name, rows)
        else:
            self.left_out.append(LeftOut(_shown(option), reason, doubt=True))
        return True

    def unknown(self, option: _Option) -> None:
        values = [_plain_value(text) for text in option.texts]
        value: Value = True if not values else values[0] if len(values) == 1 else list(values)
        problem = self.keys.problem(option.name, value)
        reason = f"{problem.message}; {problem.fix}" if problem else "not known"
        self.enter(Entry(option.name, value, todo=reason, written=" ".join(option.texts[:1])))

    def today(self, entry: Entry, option: _Option) -> Entry | None:
        """`entry` with today's word for an old value; None (and noted) where leaving it out means the same."""
        name = emit_name(entry.key, self.table)
        for now in translate(name, entry.value, self.table):
            if now.key is None:
                self.left_out.append(LeftOut(_shown(option), now.note))
                return None
            if now.value != entry.value and self.keys.value(entry.key, entry.value) != entry.value:
                was = _listed(entry.value)
                comment = f"{entry.comment}, {was}" if entry.comment else f"was {was}"
                return replace(entry, value=now.value, comment=comment)  # type: ignore[arg-type]
        problem = self.keys.problem(entry.key, entry.value)
        return replace(entry, todo=f"{problem.message}; {problem.fix}".rstrip("; ")) if problem else entry

    def enter(self, entry: Entry | None) -> None:
        """Keep `entry`; two spellings of one argument are one list for data, else the later one counts."""
        if entry is None:
            return
        before = self.entries.get(entry.key)
        if before is not None and before.comment != "what swift pt sets" and before.value is not None:
            if entry.key in ("dataset", "val_dataset", "modules_to_save"):
                items = [*_as_list(before.value), *_as_list(entry.value)]
                entry = replace(entry, value=items, comment=before.comment or entry.comment)
            else:
                gone = LeftOut(f"{entry.key} {_listed(before.value)}", "given again under another name", doubt=True)
                self.left_out.append(gone)
        self.entries[entry.key] = entry

    def doubts(self, taken: Sequence[_Option]) -> dict[str, str]:
        """What the shell could not work out, by the keys of the entries that it became part of."""
        reasons: dict[str, dict[str, None]] = {}
        for option in taken:
            words = range(option.at, option.at + len(option.texts) + 1) if option.at >= 0 else ()
            if found := [self.command.doubts[at] for at in words if at in self.command.doubts]:
                for key in {canonical(option.name), self.resolve(option)[0]}:
                    reasons.setdefault(key, {}).update(dict.fromkeys(found))
        return {key: f"{', '.join(found)}; write the value" for key, found in reasons.items()}

    # --- model and data ------------------------------------------------------------------------------------------

    def fit_model(self) -> None:
        """The model by its id on the hub, where the command has only a part of it or a 2.x model type."""
        types = model_types(self.installation)
        use_hf = self.entries.get("use_hf")
        hugging_face = uses_hugging_face(bool(use_hf and use_hf.value), {**os.environ, **self.env})
        model = self.entries.get("model")
        self.fit_model_type(types, model, hugging_face=hugging_face)
        if model and isinstance(model.value, str) and not _is_here(model.value):
            meant = suggest_model_id(model.value, types, use_hf=hugging_face)
            if meant and ("/" not in model.value or meant.lower() == model.value.lower()):
                what = "the hub needs the owner" if "/" not in model.value else "its owner's name changed"
                was = f"{model.comment}, {model.value}" if model.comment else f"was {model.value}"
                self.entries["model"] = replace(model, value=meant, comment=f"{was}: {what}")
        template = self.entries.get("template")
        known = {name for info in types.values() for name in info.templates}
        if template and isinstance(template.value, str):
            other = translate_model_type(None, template.value, self.installation.generation).template
            if template.value == "AUTO" or (template.value not in known and other not in known):
                del self.entries["template"]
                reason = "AUTO is what happens without it" if template.value == "AUTO" else "a name that is no more"
                gone = LeftOut(
                    f"template {template.value}", f"{reason}; the model brings its own", template.value != "AUTO"
                )
                self.left_out.append(gone)

    def fit_model_type(self, types: Mapping[str, ModelTypeInfo], model: Entry | None, *, hugging_face: bool) -> None:
        entry = self.entries.get("model_type")
        if entry is None or not isinstance(entry.value, str) or entry.value in types:
            return
        other = translate_model_type(entry.value, None, self.installation.generation)
        if other.note:
            self.entries["model_type"] = replace(entry, comment=other.note)
            return
        del self.entries["model_type"]
        if model is not None:
            reason = "no model type of the installed ms-swift; it is found from the model"
            self.left_out.append(LeftOut(f"--model_type {entry.value}", reason))
            return
        found = model_of_2(entry.value, types, use_hf=hugging_face)
        if found:
            self.entries["model"] = Entry("model", found, f"was --model_type {entry.value} in 2.x")
        else:
            todo = f"2.x found the model by --model_type {entry.value}; write its hub id or directory"
            self.entries["model"] = Entry("model", None, todo=todo)

    def fit_data(self, generation: str) -> None:
        """Data sets under the names that 2.x had for them, and its two arguments for numbers of rows."""
        for key in ("dataset", "val_dataset"):
            entry = self.entries.get(key)
            if entry is None:
                continue
            items = [str(item) for item in _as_list(entry.value)]
            if generation == "2.x" and len(items) == 1 and "," in items[0] and not _is_here(items[0]):
                items = items[0].split(",")
            renamed, unknown = [], []
            for index, item in enumerate(items):
                name, mark, rows = item.partition("#")
                found = None if _is_here(name) else dataset_of_2(name)
                if found:
                    renamed.append(item)
                    items[index] = f"{found}{mark}{rows}"
                elif generation == "2.x" and not ("/" in name or looks_like_path(name) or _is_here(name)):
                    unknown.append(item)
            comment = f"was {', '.join(renamed)} in 2.x" if renamed else ""
            comment = f"{entry.comment}; {comment}" if entry.comment and comment else entry.comment or comment
            todo = (
                f"{', '.join(unknown)}: a data set's name in 2.x; write its hub id or a file" if unknown else entry.todo
            )
            value: Value = items[0] if len(items) == 1 and not isinstance(entry.value, list) else list(items)
            self.entries[key] = replace(entry, value=value, comment=comment, todo=todo)
        self.fit_samples()

    def fit_samples(self) -> None:
        rows = self.entries.pop("2.x train_dataset_sample", None)
        dataset = self.entries.get("dataset")
        if rows is not None and dataset is not None:
            items = [str(item) for item in _as_list(dataset.value)]
            if len(items) == 1 and "#" not in items[0]:
                comment = "; ".join(filter(None, (dataset.comment, f"#{rows.value} was --train_dataset_sample")))
                dataset = replace(dataset, value=f"{items[0]}#{rows.value}", comment=comment)
                self.entries["dataset"] = dataset
            else:
                reason = "2.x took so many rows of all sets together: write `#N` behind each"
                self.left_out.append(LeftOut(f"--train_dataset_sample {rows.value}", reason, doubt=True))
        rows = self.entries.pop("2.x self_cognition_sample", None)
        if rows is not None:
            with_own: list[Value] = [*_as_list(dataset.value if dataset else []), f"swift/self-cognition#{rows.value}"]
            before = f"{dataset.comment}; " if dataset and dataset.comment else ""
            comment = f"{before}self-cognition was --self_cognition_sample {rows.value}"
            self.entries["dataset"] = Entry("dataset", with_own, comment, dataset.todo if dataset else "")

    def fit_2(self) -> None:
        """What else 2.x meant by its values, and what it did without being told."""
        modules = self.entries.get("target_modules")
        if modules and modules.value in ("DEFAULT", "AUTO"):
            del self.entries["target_modules"]
            reason = (
                "2.x meant the attention's query, key and value; now it is all-linear: for the same, write "
                "target_modules: [q_proj, k_proj, v_proj], or what they are called in this model"
            )
            self.left_out.append(LeftOut(f"--lora_target_modules {modules.value}", reason, doubt=True))
        deepspeed = self.entries.get("deepspeed")
        if deepspeed and isinstance(deepspeed.value, str):
            shipped = re.fullmatch(r"(?:.*/)?ds_config/(zero[0-3](?:_offload)?)\.json", deepspeed.value)
            if shipped and not _is_here(deepspeed.value):
                comment = f"was {deepspeed.value}, a file of 2.x"
                self.entries["deepspeed"] = replace(deepspeed, value=shipped[1], comment=comment)
        for key, (then, now) in _DEFAULTS_OF_2.items():
            if key not in self.entries and not (key == "target_modules" and modules):
                self.remarks.append(f"{key} is not in the command: 2.x took {then}, now it is {now}")

    # --- how it is started ---------------------------------------------------------------------------------------

    def launch(self) -> tuple[dict[str, str], int, dict[str, str]]:
        """(variables for launch.env, launch.gpus, {variable: what to decide})."""
        env: dict[str, str] = {}
        for name, value in self.env.items():
            if is_secret(name) or _holds_secret(value):
                reason = "a secret is not written into a file: set it in the environment"
                self.left_out.append(LeftOut(f"{name}={HIDDEN}", reason))
            elif name in _NO_CARRY:
                self.left_out.append(LeftOut(f"{name}={value}", _NO_CARRY[name]))
            else:
                env[name] = value
        gpus = 1
        processes = count(env.get("NPROC_PER_NODE", ""))
        visible = env.get("CUDA_VISIBLE_DEVICES", "").count(",") + 1
        if processes is not None and env.get("NNODES", "1") == "1" and (processes > 1 or visible == 1):
            gpus = max(1, processes)
            del env["NPROC_PER_NODE"]
            env.pop("NNODES", None)
            if gpus == 1:
                alone = ("MASTER_PORT", "MASTER_ADDR", "NODE_RANK")
                env = {name: value for name, value in env.items() if name not in alone}
        doubts = {name: f"{reason}; write the value" for name, reason in self.command.doubts.items() if name in env}
        return env, gpus, {str(name): reason for name, reason in doubts.items()}


def model_of_2(model_type: str, types: Mapping[str, ModelTypeInfo], *, use_hf: bool = False) -> str | None:
    """The hub id of a 2.x model type (`qwen2_5-7b-instruct`), None where it is not certain.

    2.x made its names of the hub's: dots became underscores, and some families were called otherwise. Compared with the
    456 types of 2.6.1: 0 wrong, see tests/msswift/test_pasted.py for the families.
    """
    ids: dict[str, str | None] = {}
    for info in types.values():
        for model in info.models:
            best = (model.hf_id or model.ms_id) if use_hf else (model.ms_id or model.hf_id)
            for name in filter(None, (model.ms_id, model.hf_id)):
                ids.setdefault(_folded(name.rpartition("/")[2]), best)
    return next((found for spelled in _spellings(model_type) if (found := ids.get(_folded(spelled)))), None)


def _folded(name: str) -> str:
    return name.lower().replace("_", ".").replace("-", "")


def _spellings(model_type: str) -> Iterator[str]:
    """The names that the hub may have for a 2.x type."""
    name = model_type.replace("1half", "1.5")
    name = re.sub(r"^llama3(_\d)?-", lambda found: f"meta-llama-3{found[1] or ''}-", name)
    name = re.sub(r"^(internlm2?)-([\d_]+b)-chat", r"\1-chat-\2", name)
    name = re.sub(r"^gemma(2?)-([\d_]+b)-instruct", lambda m: f"gemma-{m[1] and '2-'}{m[2]}-it", name)
    name = re.sub(r"^llama2-(\d+b(-chat)?)$", r"llama-2-\1-ms", name)
    name = re.sub(r"^deepseek-(\d+b)-chat$", r"deepseek-llm-\1-chat", name)
    name = re.sub(r"^(baichuan2?-\d+b)$", r"\1-base", name)
    if name.startswith(("internlm2-math", "meta-llama-3_1-405b")):
        return
    yield name
    yield re.sub(r"-(int[48])$", r"-gptq-\1", name)


def _options(words: Sequence[str], first: int, known: Callable[[str], bool]) -> tuple[list[_Option], list[str]]:
    """The flags among `words`, which begin at place `first` of the argv, and the words before the first flag.

    `known` says of a name whether it is an argument: `--system=a b` is one, `--no such=a b` is a text.
    """
    options: list[_Option] = []
    stray: list[str] = []
    for at, word in enumerate(words, start=first):
        joined = re.match(r"--?[A-Za-z][\w-]*=", word)
        if joined and (" " not in word or known(joined.group().strip("-=").replace("-", "_"))):
            options.append(_Option(joined.group()[:-1], (word[joined.end() :],), at))
        elif _is_flag(word):
            options.append(_Option(word, (), at))
        elif word in _ELLIPSES and options and options[-1].texts:
            stray.append(word)
        elif options and (options[-1].at + len(options[-1].texts) + 1 == at):
            options[-1] = replace(options[-1], texts=(*options[-1].texts, word))
        else:
            stray.append(word)
    return options, stray


def _is_flag(word: str) -> bool:
    """argparse's rule: a dash first, no space, no negative number."""
    return len(word) > 1 and word[0] == "-" and " " not in word and not re.fullmatch(r"-\d+|-\d*\.\d+", word)


def _entry(key: str, argument: Argument, texts: Sequence[str], comment: str) -> Entry:
    """The words behind an argument as the value a config has for it; what does not fit stays text."""
    if argument.kind == "bool" and not texts:
        return Entry(key, True, comment)
    values = [_value(argument, text) for text in texts]
    if argument.many and len(values) > 1:
        return Entry(key, values, comment)
    if len(values) > 1:
        if argument.kind == "str" and argument.choices is None:
            missing = "its quotes were missing"
            return Entry(key, " ".join(texts), f"{comment}; {missing}" if comment else missing)
        todo = f"takes one value, not {' '.join(texts)}"
        return Entry(key, values[0], comment, todo)
    return Entry(key, values[0], comment, written=texts[0])


def _value(argument: Argument, text: str) -> Value:
    if argument.kind == "bool" and text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    if argument.kind == "int" and re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if argument.kind == "float":
        return _number(text)
    return _mapping(text) or text if argument.kind == "json" else text


def _mapping(text: str) -> dict[str, Value] | None:
    """The mapping that a JSON text is, if a config can say the same: no key twice or empty, every number finite."""

    def once(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
        if len(dict(pairs)) < len(pairs) or not all(key.strip() for key, _ in pairs):
            raise ValueError
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=once, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _number(text: str) -> Value:
    try:
        value = float(text)
    except ValueError:
        return text
    if not math.isfinite(value) or "_" in text:
        return text
    return int(text) if re.fullmatch(r"-?\d+", text) else value


def _plain_value(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _number(text) if _NUMBER.fullmatch(text) else text


def _words(value: Value) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(word for item in value for word in _words(item))
    if isinstance(value, bool):
        return (str(value).lower(),)
    return (json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value),)


def _as_list(value: Value) -> list[Value]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _listed(value: Value) -> str:
    return " ".join(str(item) for item in _as_list(value))


def _shown(option: _Option) -> str:
    return " ".join(hide_in_argv([f"--{option.name}", *option.texts]))


def _is_here(path: str) -> bool:
    return os.path.exists(user_path(path))  # False for what is too long for a path, where Path.exists raises


def _holds_secret(text: str) -> bool:
    """Whether a word is, or has in it, a key, a password in a URL, or a secret's place in a JSON mapping."""
    if hide_in_env({"": text})[""] != text or any(code == "secret" for code, _ in personal_data(text)):
        return True
    return any(
        is_secret(key) and isinstance(value, str) and bool(re.fullmatch(r"\S{16,}", value))
        for key, value in _pairs(_mapping(text))
    )


def _pairs(value: Value) -> Iterator[tuple[str, Value]]:
    """Every key with its value, of a mapping and of those in it."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _pairs(inner)


def is_local_identity(entries: Iterable[Entry]) -> bool:
    """Whether a data file of the command is called like the tutorials' typed identity rows."""
    data = [item for entry in entries if entry.key == "dataset" for item in _as_list(entry.value)]
    return any(re.search(r"(self[_-]?cognition|identity)[^/]*\.(jsonl?|csv)$", Path(str(item)).name) for item in data)
