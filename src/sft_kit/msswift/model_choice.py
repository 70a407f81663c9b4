"""Which model type and template ms-swift gives a model, by its own order of looking, and which was probably meant.

Owns that order (4.x: `swift/model/model_meta.py` and `swift/template/register.py`; 3.x: `swift/llm/model/register.py`
and `swift/llm/argument/base_args/template_args.py`) without importing any of it. The caller gives what the model's
files hold, only `template_of` reads them. tests/msswift/test_model_choice.py compares every outcome with the real
functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.install import Generation, Installation
from sft_kit.msswift.model_types import ModelTypeInfo, model_types
from sft_kit.msswift.templates import Template, templates

Trouble = Literal[
    "ambiguous-type", "unknown-type", "no-type", "ambiguous-template", "no-template", "unknown-template", ""
]
"""Where ms-swift refuses: several types or templates fit, it has no such type or template, or (no-type) a model that
reads pictures fits none."""


@dataclass(frozen=True)
class Choice:
    """What ms-swift settles on. `model_type` None: no type fits, or it is not known yet (a hub id without its files).

    Where `trouble` is not empty ms-swift raises; `candidates` are then the types or templates it cannot choose
    between, the likely one first, and `likely` the model type and template to write. `why` says what decided.
    """

    model_type: str | None
    template: str | None
    trouble: Trouble = ""
    candidates: tuple[str, ...] = ()
    likely: tuple[str, str | None] | None = None
    why: str = ""


def choose(
    installation: Installation,
    model: str,
    config: Mapping[str, Any] | None,
    args: Mapping[str, Any],
    model_type: str | None,
    template: str | None,
    *,
    chat_template: str = "",
) -> Choice:
    """The choice for `model`, a directory or hub id, given its config.json (None: not here) and args.json.

    `model_type` and `template` are those the user gives, in the words of this generation. `chat_template` is the
    model's own, and only helps to name the likely one of several.
    """
    types = model_types(installation)
    registered = _by_name(installation).get(model_name(model, installation.generation).lower())
    told = _told(args, installation.generation)
    kind, why = model_type, "model_type"
    if not kind and registered:
        kind, why = registered[0], "the name of the directory" if config is not None else "the id"
    if not kind and config is not None:
        kind, why = told.get("model_type"), "its args.json"
    name = _plain(model_name(model, installation.generation))
    clues = _Clues(name, config or {}, chat_template)
    if kind and kind not in types:
        return Choice(None, template, "unknown-type", (kind,), why=why)
    if not kind:
        if config is None:
            return Choice(None, template)
        named = architecture_of(config)
        fitting = [name for name, info in types.items() if (named or "null") in (info.architectures or ("null",))]
        if len(fitting) > 1:
            ranked = _ranked(installation, types, fitting, clues, template)
            return Choice(
                None,
                template,
                "ambiguous-type",
                tuple(name for name, _ in ranked),
                ranked[0],
                named or "no architecture",
            )
        kind, why = (fitting[0], named or "") if fitting else (None, "")
    if kind is None:
        if _reads_pictures(config or {}, installation.generation):
            return Choice(None, template, "no-type", why=architecture_of(config or {}) or "")
        own: tuple[str, ...] = ("dummy",)
        group = "dummy"
    else:
        own = types[kind].templates
        group = (registered[1] if registered and registered[0] == kind else None) or ""
    return _with_template(installation, kind, template, told.get("template"), group, own, why, clues)


def template_of(
    installation: Installation, model: str, *, model_type: str | None, template: str | None, folder: Path | None
) -> str | None:
    """The name of the template that `model` gets, a hub id or a directory; None where ms-swift would refuse to choose,
    or where it takes the files of `folder` (the model's own) to tell and they are not here."""
    here = folder is not None and (folder / "config.json").is_file()
    config, args = (read_json(folder / name) if folder else {} for name in ("config.json", "args.json"))
    return choose(installation, model, config if here else None, args, model_type, template).template


def fits(installation: Installation, model_type: str, config: Mapping[str, Any]) -> bool:
    """Whether `model_type` is registered for the architecture of `config`; true where either is silent about it."""
    info, named = model_types(installation).get(model_type), architecture_of(config)
    return info is None or named is None or not info.architectures or named in info.architectures


def likely_type(installation: Installation, config: Mapping[str, Any], chat_template: str = "") -> str | None:
    """The model type that the architecture of `config` speaks for, whatever anyone says; None where none does."""
    choice = choose(installation, "", config, {}, None, None, chat_template=chat_template)
    return choice.likely[0] if choice.likely else choice.model_type


def registered_type(installation: Installation, model: str) -> str | None:
    """The model type under which the last name of a hub id or directory is registered."""
    found = _by_name(installation).get(model_name(model, installation.generation).lower())
    return found[0] if found else None


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """`architectures[0]`, by which ms-swift tells model types apart."""
    listed = config.get("architectures")
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], str) else None


def _with_template(
    installation: Installation,
    kind: str | None,
    given: str | None,
    told: str | None,
    group: str,
    own: tuple[str, ...],
    why: str,
    clues: _Clues,
) -> Choice:
    """4.x: the argument, args.json, the matched group, the type's only one. 3.x: the argument, the type's one."""
    if installation.generation == 3:
        wanted = given or own[0]
    else:
        wanted = given or told or group or (own[0] if len(own) == 1 or kind in _WITH_DEFAULT else "")
    known = templates(installation)
    if wanted and wanted not in known:
        return Choice(kind, None, "unknown-template", (wanted,), why=why)
    if not wanted:
        info = model_types(installation).get(kind or "", ModelTypeInfo((), (), ()))
        ranked = sorted(own, key=lambda name: -_template_score(known.get(name), info, clues))
        trouble: Trouble = "ambiguous-template" if own else "no-template"
        likely = (kind, ranked[0]) if kind and ranked else None
        return Choice(kind, None, trouble, tuple(ranked), likely, why)
    return Choice(kind, wanted, why=why)


_WITH_DEFAULT = ("deepseek_v4", "mistral3")
"""Types of 4.x that have a template of their own (`ModelMeta.template`) beside those of their groups."""


def _told(args: Mapping[str, Any], generation: Generation) -> dict[str, str]:
    """What args.json says: 4.x leaves the type names of older generations alone, 3.x reads no template there."""
    written = {key: args[key] for key in ("model_type", "template") if isinstance(args.get(key), str)}
    if generation == 3:
        written.pop("template", None)
    elif not re.match(r"([4-9]|\d\d)\.", str(args.get("swift_version") or "")):
        written.pop("model_type", None)
    return written


@lru_cache(maxsize=4)
def _by_name(installation: Installation) -> Mapping[str, tuple[str, str | None]]:
    """Last name of an id, in small letters -> its model type and template; of two the one registered first."""
    found: dict[str, tuple[str, str | None]] = {}
    for kind, info in model_types(installation).items():
        for model in info.models:
            for each in filter(None, (model.ms_id, model.hf_id)):
                found.setdefault(each.rsplit("/", 1)[-1].lower(), (kind, model.template))
    return MappingProxyType(found)


def model_name(model: str, generation: Generation) -> str:
    """ms-swift's `get_model_name`: in a hub's cache the model's name is above the revision; 4.x knows both hubs'."""
    path = model.rstrip("/")
    patterns = (r"/models--(?:.+?--)?(.+?)/snapshots/", r"/models/(?:.+?--)?(.+?)/snapshots/")
    for pattern in patterns if generation == 4 else (r"/models--.+?--(.+?)/snapshots/",):
        found = re.search(pattern, path)
        if found:
            return found[1]
    return path.rsplit("/", 1)[-1].replace("___", ".")


_PICTURES = ("vision_config", "vit_config", "audio_config", "language_config", "llm_config", "text_config")


def _reads_pictures(config: Mapping[str, Any], generation: Generation) -> bool:
    """`HfConfigFactory.is_multimodal`: keys that only such a config has."""
    return any(key in config for key in (*_PICTURES, *(("thinker_config",) if generation == 4 else ())))


# ---- which of several was meant ----


@dataclass(frozen=True)
class _Clues:
    name: str  # of the directory, see _plain
    config: Mapping[str, Any]
    chat_template: str


_SPECIAL_USES = ("emb", "reranker", "reward", "gte", "vl", "audio", "guard", "gme")
# Sizes of vocabularies that tell families of one architecture apart (config.json of the models on their hubs).
_VOCABULARIES: Mapping[int, tuple[str, ...]] = {
    32000: ("llama", "mistral", "mixtral"),
    32768: ("mistral", "mixtral"),
    64000: ("yi",),
    128256: ("llama3", "llama3_1", "llama3_2"),
    131072: ("mistral_nemo", "mistral_2501"),
}
_COMMON = "chatml"
"""A template of no type in particular that many models are trained with."""


def _ranked(
    installation: Installation,
    types: Mapping[str, ModelTypeInfo],
    fitting: list[str],
    clues: _Clues,
    given: str | None,
) -> list[tuple[str, str | None]]:
    """The types that fit, each with its likeliest template, the likeliest type first."""
    known = templates(installation)
    scored = []
    for order, kind in enumerate(fitting):
        info = types[kind]
        if given:
            template: str | None = given
            score = float(given in info.templates and given != _COMMON)
        else:
            of_each = {
                name: _template_score(known.get(name), info, clues) + 0.3 * (name == kind) for name in info.templates
            }
            if _COMMON in known and clues.chat_template:
                of_each.setdefault(_COMMON, _template_score(known[_COMMON], info, clues) - 0.25)
            template = max(of_each, key=lambda name: of_each[name], default=None)
            score = of_each.get(template or "", 0.0)
        scored.append((-score - _type_score(kind, clues), order, kind, template))
    return [(kind, template) for _, _, kind, template in sorted(scored)]


def _type_score(kind: str, clues: _Clues) -> float:
    score = 0.35 * (kind == clues.config.get("model_type"))
    vocabulary = clues.config.get("vocab_size")
    score += isinstance(vocabulary, int) and kind in _VOCABULARIES.get(vocabulary, ())
    return score + sum(1.0 if use in clues.name else -2.0 for use in _SPECIAL_USES if use in kind.split("_"))


def _template_score(template: Template | None, info: ModelTypeInfo, clues: _Clues) -> float:
    """How much of a template's fixed text stands in the model's own chat template, and of its models' names in its."""
    if template is None:
        return 0.0
    models = (model.hf_id or model.ms_id or "" for model in info.models if model.template == template.name)
    alike = [_common(clues.name, _plain(each.rpartition("/")[2])) for each in models]
    most = max(alike, default=0)
    score = 0.1 * most + (0.02 * min(alike.count(most), 5) if most else 0.0)
    if not clues.chat_template:
        return score
    words = set(special_words(template))
    found = sum(word in clues.chat_template for word in words)
    if words:
        score += 3.0 * found / len(words) + 0.1 * min(found, 10)
    if template.default_system:
        said = template.default_system in clues.chat_template
        score += 0.3 + len(template.default_system) / 100 if said else -0.5
    switchable = "enable_thinking" in clues.chat_template
    thinks = "<think>" in clues.chat_template
    return score + 0.5 * (switchable == bool(template.non_thinking_prefix) and thinks == template.is_thinking)


def special_words(template: Template) -> Iterator[str]:
    """The words by which a template marks who speaks: `<|im_start|>`, `[INST]`, `Human:`."""
    for part in (*template.prefix, *(template.system_prefix or ()), *template.prompt, *template.suffix):
        if isinstance(part, str):
            yield from re.findall(r"<[^\s<>]+>|\[/?[A-Z]+\]|\w{4,}:", re.sub(r"{{[^}]*}}", "", part))


def _common(name: str, other: str) -> int:
    """Letters of the longest text that both names hold; 0 below four."""
    length = SequenceMatcher(None, name, other, autojunk=False).find_longest_match().size
    return length if length >= 4 else 0


def _plain(name: str) -> str:
    """A name without what people write in several ways; the dot of 2.5 is kept, it tells Qwen2.5-7B from Qwen2-57B."""
    return re.sub(r"[^a-z0-9.]", "", re.sub(r"(?<=\d)_(?=\d)", ".", name.lower()))
