"""What is wrong with a model before it is loaded: its type and template, its weights, its tokenizer, what it would run.

Judges the values of `models.directory` and `msswift.model_choice`; reads nothing itself but transformers' list of
architectures, for one that ms-swift does not know. The adapters are in `adapters`, what only keys of the config
say in `rules`. A directory that is no model at all is refused before (`base_model`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sft_kit.checks.adapters import adapter_findings, resumed_findings
from sft_kit.checks.base_model import BaseModel
from sft_kit.checks.facts import Facts
from sft_kit.checks.trust import FLAG, in_words, names_of
from sft_kit.findings import Finding
from sft_kit.models.directory import ModelDirectory, WeightFile
from sft_kit.models.trust import own_code
from sft_kit.msswift.model_choice import (
    Choice,
    architecture_of,
    choose,
    fits,
    likely_type,
    model_name,
    registered_type,
    special_words,
)
from sft_kit.msswift.model_types import model_types
from sft_kit.msswift.templates import templates

_FEW_ROWS = 2_000
_NEVER_STORED = ("lm_head.weight", "inv_freq", "masked_bias", "attn.bias")
"""Ends of tensors that an index may name although they are tied to others or made anew."""
_DOWNLOAD = "download or export the model again"


def model_findings(facts: Facts) -> Iterator[Finding]:
    """What is wrong; `place` is a dotted config key, or "" or a path where no key is to blame."""
    model, directory = facts.model, facts.directory
    if model is None:
        return
    yield from _purpose(facts, model)
    yield from adapter_findings(facts)
    yield from resumed_findings(facts)
    if directory is None:
        yield from _choice(facts, model, None)
        return
    yield from _broken(directory)
    yield from _weights(facts, directory, local=model.local)
    yield from _tokenizer(facts, directory, local=model.local)
    yield from _quantised(facts, directory)
    yield from _code(facts, directory, local=model.local)
    if "config.json" not in directory.broken:
        yield from _choice(facts, model, directory)


# ---- type and template ----


def _choice(facts: Facts, model: BaseModel, directory: ModelDirectory | None) -> Iterator[Finding]:
    choice = choose(
        facts.installation,
        model.source,
        directory.config if directory else None,
        directory.args if directory else {},
        model.model_type,
        model.template,
        chat_template=directory.tokenizer.chat_template if directory else "",
    )
    yield from _undecided(facts, model, choice)
    if not choice.trouble and not choice.model_type and directory is not None:
        yield from _unregistered(facts, model, directory)
    if directory is None or choice.trouble:
        return
    if choice.model_type and not fits(facts.installation, choice.model_type, directory.config):
        named = architecture_of(directory.config)
        own = likely_type(facts.installation, directory.config, directory.tokenizer.chat_template)
        message = f"config.json says {named}, which ms-swift does not load as {choice.model_type} (by {choice.why})"
        fix = f"set model_type: {own}" if own else "check that it is the model you mean"
        yield Finding("model-type-mismatch", "warning", "model_type" if model.model_type else "model", message, fix)
    yield from _foreign_template(facts, directory, choice)


def _undecided(facts: Facts, model: BaseModel, choice: Choice) -> Iterator[Finding]:
    """Where ms-swift raises after its imports. Words the user gave that it does not have are not looked at here."""
    several, likely = ", ".join(choice.candidates[:6]), choice.likely
    if len(choice.candidates) > 6:
        several += f" and {len(choice.candidates) - 6} more"
    if choice.trouble == "ambiguous-type" and likely:
        message = f"{len(choice.candidates)} model types fit {choice.why}: {several}; ms-swift refuses to choose"
        template = f" and template: {likely[1]}" if likely[1] and not model.template else ""
        yield Finding("ambiguous-model-type", "error", "model", message, f"add model_type: {likely[0]}{template}")
    elif choice.trouble == "ambiguous-template" and likely:
        message = f"model type {choice.model_type} has several templates: {several}; ms-swift refuses to choose"
        yield Finding("ambiguous-template", "error", "model", message, f"add template: {likely[1]}")
    elif choice.trouble == "no-template":
        message = f"model type {choice.model_type} has no template of its own, and ms-swift refuses to go on"
        yield Finding("ambiguous-template", "error", "model", message, "add template:, the one it was trained with")
    elif choice.trouble == "no-type":
        message = f"no model type of ms-swift {facts.installation.version} loads {choice.why or 'this architecture'}"
        yield Finding("unknown-model-type", "error", "model", message, "add model_type:, or take another model")
    elif choice.trouble == "unknown-type" and choice.why == "its args.json":
        message = f"its args.json names the model type {several}, which this ms-swift does not have"
        fix = "add model_type:, or delete args.json"
        yield Finding("unknown-model-type", "error", "model", message, fix)


def _unregistered(facts: Facts, model: BaseModel, directory: ModelDirectory) -> Iterator[Finding]:
    """ms-swift makes up a model type whose template is `dummy`: text without any marks of who speaks."""
    named = architecture_of(directory.config) or "its architecture"
    kind = directory.config.get("model_type")
    known = _known_to_transformers(facts.installation.transformers_package, str(kind))
    if known is False and not directory.remote:
        message = f"neither ms-swift nor the installed transformers knows {named} ({kind})"
        fix = "install a newer transformers, or take another model"
        yield Finding("unknown-model-type", "error", "model", message, fix)
    elif not model.template:
        message = f"ms-swift does not know {named} and trains it without a chat template (dummy)"
        yield Finding("unknown-model-type", "warning", "model", message, "add template:, the one it was trained with")


def _known_to_transformers(package: Path, model_type: str) -> bool | None:
    """Whether AutoConfig has this `model_type` of config.json; None where its source is not laid out as 4.57's, 5.19's.

    ms-swift only falls back to the bare JSON for the type; AutoConfig.from_pretrained raises when it loads the model.
    """
    texts = []
    for name in ("auto_mappings.py", "configuration_auto.py"):
        try:
            texts.append((package / "models" / "auto" / name).read_text(encoding="utf-8"))
        except OSError:
            continue
    if not any('("qwen2", "Qwen2Config")' in text for text in texts):
        return None
    return any(f'"{model_type}"' in text for text in texts)


def _foreign_template(facts: Facts, directory: ModelDirectory, choice: Choice) -> Iterator[Finding]:
    """A template that the type does not have, and none of whose special words is a token of this tokenizer."""
    own = model_types(facts.installation).get(choice.model_type or "")
    template = templates(facts.installation).get(choice.template or "")
    added = directory.tokenizer.added
    if template is None or not added or (own is not None and template.name in own.templates):
        return
    words = [word for word in special_words(template) if re.fullmatch(r"<[|｜].+[|｜]>|<(start|end)_of_\w+>", word)]
    if not words or any(word in added or word in directory.tokenizer.chat_template for word in words):
        return
    words = list(dict.fromkeys(words))
    message = f"{template.name} writes {', '.join(words[:3])}, which are no tokens of this model but split into pieces"
    fix = f"use {own.templates[0]}" if own and own.templates else "use the template the model was trained with"
    yield Finding("template-mismatch", "warning", "template" if facts.config.template else "model", message, fix)


# ---- what the model is for ----


def _purpose(facts: Facts, model: BaseModel) -> Iterator[Finding]:
    directory, config = facts.directory, facts.config
    if "task_type" in config.swift_values():
        return
    registered = registered_type(facts.installation, model.source)
    kind = model.model_type or registered or ""
    if kind.endswith(("_emb", "_reranker")) or "reward" in kind.split("_"):
        message = f"{kind} is a model for embeddings or scores, not for conversations"
        fix = "take a chat model, or set task_type: to what you train"
        yield Finding("not-a-chat-model", "error", "model", message, fix)
        return
    few = facts.rows is not None and facts.rows < _FEW_ROWS
    # whoever names a template knows that the model has none of its own
    if (config.identity is None and not few) or config.template or model.name.startswith("sft-kit/"):
        return
    name = model_name(model.source, facts.installation.generation)
    chat = _chat_version(facts, name)
    if chat:
        message = "is a base model: it has not learnt to converse, nor to stop, and few rows do not teach it"
        yield Finding("base-model", "warning", "model", message, f"use {chat}, or train on many more rows")
    elif directory is not None and not _made_for_chat(directory, name):
        message = "brings no chat template, as base models do: few rows do not teach it to converse, nor to stop"
        yield Finding("base-model", "warning", "model", message, "use its chat version, or train on many more rows")


def _made_for_chat(directory: ModelDirectory, name: str) -> bool:
    words = re.split(r"[-_.]", name.lower())
    return directory.is_chat or bool(directory.code) or any(word in words for word in ("chat", "instruct", "it"))


def _chat_version(facts: Facts, name: str) -> str | None:
    """The registered id of the chat model that was made from the base model `name`; None where that is not known."""
    last = name.lower()
    bare = re.sub(r"-(base|pt)$", "", last)
    if registered_type(facts.installation, name) is None or re.search(r"-(chat|instruct|it)$", last):
        return None
    wanted = {f"{bare}-instruct", f"{bare}-chat", f"{bare}-it"} | ({bare} if bare != last else set())
    for info in model_types(facts.installation).values():
        for model in info.models:
            for each in (model.hf_id, model.ms_id) if facts.hugging_face else (model.ms_id, model.hf_id):
                if each and each.rsplit("/", 1)[-1].lower() in wanted:
                    return each
    return None


# ---- files ----


def _broken(directory: ModelDirectory) -> Iterator[Finding]:
    """JSON files that transformers reads; it passes over a broken generation_config.json."""
    for name, why in directory.broken.items():
        if name in ("generation_config.json", "args.json"):
            continue
        code = "lfs-pointer" if "Git LFS" in why else "broken-config"
        yield _of_file(code, directory, name, why, "run `git lfs pull`" if code == "lfs-pointer" else _DOWNLOAD)


def _weights(facts: Facts, directory: ModelDirectory, *, local: bool) -> Iterator[Finding]:
    """Files of a hub's model that are not in its cache yet are fetched when the run starts: nothing is said of them."""
    half = f" ({', '.join(directory.leftovers[:2])} is left of a download)" if directory.leftovers else ""
    if not directory.weights and local:
        index = next((name for name in directory.broken if name.endswith(".index.json")), None)
        if directory.gguf:
            fix = "give the original model in safetensors; GGUF is made from a trained one"
            yield _of_file("gguf-only", directory, "", "holds GGUF files only, which ms-swift does not train", fix)
        elif index is None:
            message = f"has no model.safetensors, nor an index of several{half}: there is nothing to load"
            yield _of_file("no-weights", directory, "", message, _DOWNLOAD)
    missing = [file for file in directory.weights if file.state == "missing"]
    if missing and local:
        message = (
            f"{names_of([file.name for file in missing])} of {len(directory.weights)} weight files not there{half}"
        )
        yield _of_file("missing-shard", directory, "", message, _DOWNLOAD)
    for file in directory.weights:
        yield from _weight_file(directory, file, half)
    if directory.whole and not directory.quantization:
        yield from _weights_of_another_config(directory)
    pickles = [file.name for file in directory.weights if file.is_pickle and file.state == "whole"]
    if pickles:
        yield _pickled(facts, directory, pickles)
    lacking = [name for name in directory.not_in_files if not name.endswith(_NEVER_STORED)]
    if lacking:
        message = f"the index names {len(lacking)} tensors that their files lack ({lacking[0]}): they start at random"
        yield _of_file("broken-weights", directory, "", message, _DOWNLOAD)


def _weight_file(directory: ModelDirectory, file: WeightFile, half: str) -> Iterator[Finding]:
    if file.state == "pointer":
        message = f"is a Git LFS pointer of {file.size} bytes, not the weights"
        yield _of_file("lfs-pointer", directory, file.name, message, "run `git lfs pull`, or download the model again")
    elif file.state == "empty":
        yield _of_file("broken-weights", directory, file.name, f"is empty{half}", _DOWNLOAD)
    elif file.state == "cut":
        message = file.damage.removeprefix(f"{file.name} ")
        yield _of_file("broken-weights", directory, file.name, f"{message}{half}", _DOWNLOAD)


def _weights_of_another_config(directory: ModelDirectory) -> Iterator[Finding]:
    """transformers refuses shapes that differ from config.json's, and fills layers that are not there at random."""
    config, tensors = directory.config, directory.tensors
    embedding = tensors.get("model.embed_tokens.weight")
    wanted = (config.get("vocab_size"), config.get("hidden_size"))
    if embedding is not None and all(isinstance(size, int) for size in wanted) and embedding.shape != wanted:
        there, said = (" x ".join(map(str, sizes)) for sizes in (embedding.shape, wanted))
        message = f"says an embedding of {said}, and the weights have {there}: transformers refuses them"
        fix = "put back the config.json that belongs to these weights"
        yield _of_file("weights-mismatch", directory, "config.json", message, fix)
    layers = {int(match[1]) for name in tensors if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    said_layers = config.get("num_hidden_layers")
    if layers and isinstance(said_layers, int) and max(layers) + 1 < said_layers:
        message = f"says {said_layers} layers, and the weights have {max(layers) + 1}: the others start at random"
        fix = "put back the config.json that belongs to these weights, or download them all"
        yield _of_file("weights-mismatch", directory, "config.json", message, fix)


def _pickled(facts: Facts, directory: ModelDirectory, names: list[str]) -> Finding:
    """transformers 4.57 and 5.19 read them with `weights_only`, and not at all with torch before 2.6
    (`check_torch_load_is_safe`)."""
    torch = re.match(r"(\d+)\.(\d+)", facts.environment.versions.get("torch", ""))
    fix = "convert them to safetensors (save_pretrained), or download them as such"
    if torch and (int(torch[1]), int(torch[2])) < (2, 6):
        message = f"{names_of(names)}: transformers refuses pickled weights with torch {torch[0]}"
        return _of_file("pickled-weights", directory, "", message, f"{fix}; or install torch 2.6 or newer")
    message = f"{names_of(names)}: weights in a pickle, which can hold code; transformers reads only tensors of it"
    return Finding("pickled-weights", "warning", str(directory.path), message, fix)


# ---- tokenizer ----


def _tokenizer(facts: Facts, directory: ModelDirectory, *, local: bool) -> Iterator[Finding]:
    tokenizer = directory.tokenizer
    if not tokenizer.files and local and not directory.code and not directory.remote:
        message = "has no tokenizer (tokenizer.json, tokenizer.model, vocab.json ...)"
        yield _of_file("no-tokenizer", directory, "", message, "copy the tokenizer's files from its base model")
    read = ("tokenizer.json",) if "tokenizer.json" in tokenizer.files else tokenizer.files
    for name, why in tokenizer.damaged.items():
        if name in read:
            code = "lfs-pointer" if "Git LFS" in why else "broken-tokenizer"
            yield _of_file(code, directory, name, why, "run `git lfs pull`" if code == "lfs-pointer" else _DOWNLOAD)
    yield from _too_new(facts, directory)
    yield from _beyond_the_embedding(facts, directory)


def _beyond_the_embedding(facts: Facts, directory: ModelDirectory) -> Iterator[Finding]:
    """The embedding is looked up by id: one beyond its rows is an IndexError, on a GPU a device-side assert.

    `new_special_tokens` makes ms-swift enlarge it. Text models carry placeholders for pictures that nothing writes
    (Gemma 3 1B: `<image_soft_token>`).
    """
    rows, tokenizer = directory.config.get("vocab_size"), directory.tokenizer
    if not isinstance(rows, int) or "new_special_tokens" in facts.config.swift_values():
        return
    beyond = {word: number for word, number in tokenizer.added.items() if number >= rows}
    fix = "use the tokenizer that belongs to this model, or add the tokens by new_special_tokens"
    ends = tokenizer.token("eos_token")
    if ends in beyond:
        message = f"its {ends} has id {beyond[ends]}, and the model's embedding has {rows} rows: the first row fails"
        yield _of_file("vocabulary-too-small", directory, "", message, fix)
        return
    words = [word for word in beyond if not re.search("image|audio|video|vision", word)]
    if words:
        message = f"{names_of(words)}: ids beyond the {rows} rows of the model's embedding; a row that has one fails"
        yield Finding("vocabulary-too-small", "warning", str(directory.path), message, fix)


def _too_new(facts: Facts, directory: ModelDirectory) -> Iterator[Finding]:
    """What transformers 5 writes and 4 cannot read (ran with 5.19 and 4.57)."""
    transformers = facts.environment.versions.get("transformers", "")
    tokenizer = directory.tokenizer
    fix = ""
    if transformers.startswith("4.") and tokenizer.class_name == "TokenizersBackend":
        fix = "set tokenizer_class to PreTrainedTokenizerFast there"  # "Tokenizer class ... does not exist"
    elif transformers.startswith("4.5") and isinstance(tokenizer.config.get("extra_special_tokens"), list):
        fix = "take extra_special_tokens out of it"  # "'list' object has no attribute 'keys'"
    if fix:
        message = f"was saved by transformers 5, and transformers {transformers} cannot load it"
        yield _of_file("tokenizer-too-new", directory, "tokenizer_config.json", message, f"{fix}, or install 5")


# ---- quantisation ----

_FROZEN = ("gptq", "awq", "bitsandbytes", "aqlm", "hqq", "eetq")
"""Methods that transformers never trains in full: "You cannot perform fine-tuning on purely quantized models" (4.57's
Trainer, 5.19's `validate_quantization_for_training`). fp8 and others are turned back into floats on some GPUs."""


def _quantised(facts: Facts, directory: ModelDirectory) -> Iterator[Finding]:
    method = str(directory.quantization.get("quant_method") or "")
    if facts.config.tuner_type == "full" and method in _FROZEN:
        message = (
            f"full tuning, but the model's weights are quantised ({method}): transformers refuses after loading it"
        )
        yield Finding(
            "full-tuning-of-quantised", "error", "tuner_type", message, "use tuner_type: lora, or the original model"
        )


# ---- what would run ----


def _code(facts: Facts, directory: ModelDirectory, *, local: bool) -> Iterator[Finding]:
    """ms-swift hard-codes trust_remote_code=True (`swift/model/model_meta.py`, 3.x `swift/llm/model/register.py`)."""
    code = own_code(directory)
    if code:
        message = f"ms-swift trusts the model's own code: {in_words(code)} would run"
        fix = f"read them; {FLAG}, or `# sft-kit: ignore remote-code` in the config, lets them run"
        yield Finding("remote-code", "error", "model", message, fix)
    if local and ".mdl" in directory.names and facts.config.check_model:
        message = "modelscope unpickles the model's .mdl, which can hold code, to ask its hub for a newer version"
        yield Finding("mdl-pickle", "error", "check_model", message, "leave check_model out, or delete .mdl")
    if local and directory.links_out:
        shown = names_of([f"{name} -> {target}" for name, target in directory.links_out.items()])
        yield Finding("link-outside", "note", str(directory.path), f"links to files elsewhere: {shown}")


def _of_file(code: str, directory: ModelDirectory, name: str, message: str, fix: str) -> Finding:
    return Finding(code, "error", str(directory.path / name) if name else str(directory.path), message, fix)
