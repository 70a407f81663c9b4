"""The evaluation of a model: what is asked of base and tuned, in how many loads, and what is kept of it.

Owns the plan and the asking. Every answer is kept as soon as its batch is done (`answer_cache`), so an interrupted
evaluation goes on where it stopped, a second one loads no model, and runs on one base share its answers. Does not own
the questions (`evaluate.probes`), the scores (`evaluate.compare`), or what becomes of them (`reporting`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sft_kit.config.schema import LANGUAGES, EvalSection, IdentitySection
from sft_kit.console import AnswerView, say
from sft_kit.evaluate.compare import Evaluation, Likelihood, compare
from sft_kit.evaluate.probes import Probe, general_probes, identity_probes, likelihood_texts, user_probes
from sft_kit.identity.generate import HeldOutQuestion
from sft_kit.msswift.chat import Chat
from sft_kit.msswift.checkpoints import kind_of, read_json
from sft_kit.msswift.install import Installation
from sft_kit.resources import user_path
from sft_kit.run.answer_cache import (
    Asked,
    Given,
    answers_file,
    append_likelihoods,
    read_answers,
    read_likelihoods,
    text_key,
)
from sft_kit.run.chats import GREEDY, ask_and_keep, open_chat

# What decides how a model answers, of the arguments that args.json of a checkpoint holds; `swift infer` takes the same
# ones from there itself.
_LOADED_WITH = ("model", "model_type", "model_revision", "use_hf", "torch_dtype", "attn_impl", "quant_method",
                "quant_bits", "rope_scaling", "max_model_len", "new_special_tokens", "template", "system",
                "response_prefix")  # fmt: skip
_QUANTISED_WITH = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "hqq_axis")


@dataclass(frozen=True)
class Identity:
    """The identity that is looked for: its names and authors in every language, and the questions held out for it."""

    names: tuple[str, ...]
    held_out: tuple[HeldOutQuestion, ...]

    @classmethod
    def of(cls, section: IdentitySection, held_out: Sequence[HeldOutQuestion]) -> Identity:
        """That of a config; names in a language that is not trained must not leak either."""
        given = (section.text(value, lang) for value in (section.name, section.author) for lang in LANGUAGES)
        return cls(tuple(sorted({text for text in given if text})), tuple(held_out))


@dataclass(frozen=True)
class Models:
    """The two models of an evaluation, as `swift infer` is told of them (4.x names). A `tuned` one that is an adapter
    is loaded once for both: it is switched off for the base."""

    tuned: Mapping[str, Any]
    base: Mapping[str, Any]

    @property
    def one_load(self) -> bool:
        return "adapters" in self.tuned


@dataclass(frozen=True)
class Questions:
    """All that is asked, and the plain texts that are measured, by language."""

    probes: tuple[Probe, ...]
    names: tuple[str, ...]
    texts: Mapping[str, str]


def base_values(checkpoint: Path, generation: int) -> dict[str, Any]:
    """The base model of a checkpoint and how it is loaded, as its args.json tells; empty where there is none.

    A model type that another `generation` of ms-swift wrote is left for this one to find.
    """
    told = read_json(checkpoint / "args.json")
    if str(told.get("swift_version", generation)).partition(".")[0] != str(generation):
        told.pop("model_type", None)
    wanted = [*_LOADED_WITH, *(_QUANTISED_WITH if told.get("quant_method") else ())]
    wanted += ["use_chat_template"] if told.get("use_chat_template") is False else []
    return {key: told[key] for key in wanted if told.get(key) not in (None, [])}


def models_of(checkpoint: Path, generation: int) -> Models:
    """A checkpoint that ms-swift wrote and the base it was trained on, as its args.json tells."""
    kind = "adapters" if kind_of(checkpoint) == "adapter" else "model"
    tuned = {kind: [str(checkpoint)] if kind == "adapters" else str(checkpoint)}
    return Models(tuned, base_values(checkpoint, generation))


def plan(
    section: EvalSection,
    languages: Sequence[str],
    identity: Identity | None,
    *,
    prompts: tuple[str | None, str | None],
) -> Questions:
    """What `section` asks for in `languages`; `prompts` are the vendor's and the trained one (`system_prompts`).

    Raises UsageError for a file of questions that cannot be read.
    """
    vendor, trained = prompts
    probes: list[Probe] = []
    if identity is not None:
        probes += identity_probes(
            identity.held_out, identity.names, section.questions,
            contexts=section.contexts, vendor_system=vendor, trained_system=trained,
        )  # fmt: skip
    probes += general_probes(languages, section.general)
    if section.file:
        probes += user_probes(user_path(section.file))
    texts = likelihood_texts(languages) if section.likelihood else {}
    return Questions(tuple(probes), identity.names if identity else (), texts)


def evaluate(
    installation: Installation,
    models: Models,
    questions: Questions,
    *,
    max_new_tokens: int,
    log: Path,
    env: Mapping[str, str],
) -> Evaluation:
    """Ask both models all that is not known yet, greedily, and score the answers.

    One load serves both sides when the tuned one is an adapter; else two, one after the other. Raises MsSwiftError when
    a model cannot be loaded or a question is longer than it takes.
    """
    tuned, base = _sides(installation, models, questions, max_new_tokens)
    wanted, missing = tuned.wanted + base.wanted, tuned.missing + base.missing
    if not missing:
        say(f"evaluation: all {wanted} answers are known; no model is loaded")
    elif missing < wanted:
        say(f"evaluation: {wanted - missing} of {wanted} answers are known")
    loads = {"both models": (tuned, base)} if models.one_load else {"the tuned model": (tuned,), "the base": (base,)}
    for name, sides in loads.items():
        if any(side.missing for side in sides):
            with open_chat(installation, sides[0].values, log=log, env=env) as chat:
                _ask(chat, name, sides, max_new_tokens)
    likelihoods = {}
    for lang, text in questions.texts.items():
        (nats, tokens), (tuned_nats, _) = base.measured[text_key(text)], tuned.measured[text_key(text)]
        if tokens and math.isfinite(nats + tuned_nats):  # JSON has no NaN; the answers tell of a model that is broken
            likelihoods[lang] = Likelihood(tokens, nats / tokens, tuned_nats / tokens)
    before, after = ([side.answers[_asked(probe)].text for probe in questions.probes] for side in (base, tuned))
    return compare(questions.probes, before, after, questions.names, likelihoods)


def _ask(chat: Chat, name: str, sides: Sequence[_Side], max_new_tokens: int) -> None:
    """Ask the loaded model, and after it its base with the adapter switched off, under one bar."""
    total = sum(side.missing for side in sides)
    with AnswerView(f"answers of {name}", total) as view:
        for side in sides:
            before = total - sum(each.missing for each in sides)
            progress = partial(_advance, view, before, total)
            side.ask(chat, max_new_tokens, progress, switch_off=side is not sides[0])


def _advance(view: AnswerView, before: int, total: int, done: int) -> None:
    view.done(before + done, total)


class _Side:
    """One model's answers: those that are known, those that are missing, and the files that keep them."""

    def __init__(self, values: Mapping[str, Any], questions: Questions, answers: Path, likelihoods: Path) -> None:
        self.values = values
        self._files = answers, likelihoods
        self._texts = {text_key(text): text for text in questions.texts.values()}
        asked = dict.fromkeys(map(_asked, questions.probes))
        self.answers: dict[Asked, Given] = read_answers(answers)
        self.measured = read_likelihoods(likelihoods)
        self._new = [one for one in asked if one not in self.answers]
        self._unmeasured = [key for key in self._texts if key not in self.measured]
        self.wanted = len(asked) + len(self._texts)

    @property
    def missing(self) -> int:
        """How many answers and measures are not known yet."""
        return len(self._new) + len(self._unmeasured)

    def ask(
        self, chat: Chat, max_new_tokens: int, on_progress: Callable[[int], None], *, switch_off: bool = False
    ) -> None:
        """Ask what is missing; `on_progress` is told how many of it are there."""
        answers, likelihoods = self._files
        self.answers |= ask_and_keep(chat, self._new, answers, max_new_tokens, base=switch_off, on_progress=on_progress)
        for place, key in enumerate(self._unmeasured, len(self._new) + 1):
            (self.measured[key],) = chat.likelihood([self._texts[key]], base=switch_off)
            append_likelihoods(likelihoods, {key: self.measured[key]})
            on_progress(place)
        self._new, self._unmeasured = [], []


def _sides(
    installation: Installation, models: Models, questions: Questions, max_new_tokens: int
) -> tuple[_Side, _Side]:
    # thoughts would use up the tokens of an answer, and are not what is scored; models that cannot choose still think
    no_thoughts = {"enable_thinking": False}
    settings = {"max_new_tokens": max_new_tokens, **GREEDY}

    def side(values: Mapping[str, Any], key: Mapping[str, Any]) -> _Side:
        answers = answers_file({**key, **no_thoughts}, settings, installation.version, "evaluation")
        likelihoods = answers_file(key, {}, installation.version, "likelihood")
        return _Side({**values, **no_thoughts}, questions, answers, likelihoods)

    given = {name: value for name, value in models.tuned.items() if value is not None}
    return side(models.tuned, {**models.base, **given}), side(models.base, models.base)


def _asked(probe: Probe) -> Asked:
    return tuple((message["role"], message["content"]) for message in probe.messages())
