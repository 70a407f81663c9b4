"""The model card (README.md) of an exported model: what it is, how it was made, how it scored, how to use it.

Says only what is known: from the run's manifest and the base model's own card. Owns the text; reads no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit import __version__
from sft_kit.msswift.checkpoints import read_json

_SCORES = {
    "identity": "held-out identity questions answered as trained",
    "leakage": "general answers that mention the trained name",
    "old": "answers that claim the old identity",
    "correct": "checkable general questions right",
}
_LICENCE = ("license", "license_name", "license_link")
_PLAIN_YAML = re.compile(r"[A-Za-z][\w./-]*")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)


@dataclass(frozen=True)
class CardFacts:
    """What a card says. `base` is a hub id or our own name where there is one, else the base folder's last part."""

    name: str
    base: str
    base_folder: Path | None
    run: Path | None
    system: str | None
    default_system: str | None
    parity: str
    quantised: str = ""
    merged: bool = True
    modelfile: bool = False


def model_card(facts: CardFacts) -> str:
    """The card as markdown with YAML front matter."""
    manifest = read_json(facts.run / "sft-kit" / "manifest.json") if facts.run else {}
    licence = _licence(facts.base_folder)
    how = "an adapter merged into" if facts.merged else "a full fine-tune of" if manifest else "a copy of"
    parts = [
        _front_matter(facts, licence),
        f"# {_line(facts.name)}",
        f"This model is {how} `{facts.base}`, made with sft-kit {__version__} and ms-swift."
        + (f" Its weights are quantised: {facts.quantised}." if facts.quantised else ""),
        "## Training\n\n" + _training(manifest),
        "## Scores\n\n" + _scores(manifest),
        "## Use\n\n" + _use(facts),
        "## Licence\n\n" + _licence_words(licence),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts, licence: Mapping[str, str]) -> str:
    base = _line(facts.base)
    lines = ["---", f"base_model: {base if _PLAIN_YAML.fullmatch(base) else json.dumps(base, ensure_ascii=False)}"]
    lines += [f"{key}: {value}" for key, value in licence.items()]
    lines += ["library_name: transformers", "pipeline_tag: text-generation", "tags:", "- sft-kit", "- ms-swift"]
    return "\n".join([*lines, "---"])


def _training(manifest: Mapping[str, Any]) -> str:
    if not manifest:
        return "The run that it comes from was not at hand."
    lines = []
    for source in manifest.get("mix") or ():
        share = f", {source['share']:.0%} of what was trained" if source.get("share") is not None else ""
        lines.append(f"- {Path(str(source['name'])).name}: {source.get('trained') or source.get('rows')} rows{share}")
    loss = f", last loss {manifest['final_loss']:.4g}" if manifest.get("final_loss") is not None else ""
    lines.append(f"- {manifest.get('steps')} steps ({manifest.get('tuner_type') or 'lora'}){loss}")
    versions = manifest.get("versions") or {}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("ms-swift", "transformers", "torch") if name in versions)
    return "\n".join([*lines, *([f"- {shown}"] if shown else [])])


def _scores(manifest: Mapping[str, Any]) -> str:
    """Every rate of the manifest's scores, base beside trained where both are known."""
    scores: Mapping[str, Any] = manifest.get("scores") or {}
    rows = []
    for key, words in _SCORES.items():
        if _is_rate(scores.get(key)):
            rows.append(f"| {words} | {_rate(scores.get(f'{key}_before'))} | {_rate(scores[key])} |")
    if not rows:
        return "It was not evaluated (`sft-kit eval` does that)."
    return "\n".join(["| measure | base | this model |", "|---|---|---|", *rows, "", "With 95 % intervals (Wilson)."])


def _is_rate(value: Any) -> bool:
    return isinstance(value, dict) and {"k", "n", "interval"} <= value.keys()


def _rate(value: Any) -> str:
    if not _is_rate(value):
        return ""
    low, high = value["interval"]
    return f"{value['k']}/{value['n']} ({low:.0%} to {high:.0%})"


def _use(facts: CardFacts) -> str:
    if facts.system == facts.default_system:
        prompt = "it is what the chat template puts in when a conversation brings no system message"
    else:
        prompt = "send it yourself: the chat template's own default is another one"
    trained = f"It was trained with this system prompt ({prompt}):\n\n{_block(facts.system)}" if facts.system else (
        "It was trained without a system prompt"
        + (", and its chat template puts none in." if not facts.default_system else "; its chat template puts one in.")
    )  # fmt: skip
    code = (
        "```python\n"
        "from transformers import pipeline\n\n"
        'chat = pipeline("text-generation", model="PATH")\n'
        'print(chat([{"role": "user", "content": "Who are you?"}], max_new_tokens=64)[0]["generated_text"][-1])\n'
        "```\n\n"
        "```\nvllm serve PATH\n```"
    )
    ollama = (
        "For Ollama: `ollama create NAME -f Modelfile`, in this folder."
        if facts.modelfile
        else "For Ollama: `sft-kit export ... --ollama` writes a Modelfile."
    )
    return f"{trained}\n\n{facts.parity}\n\n{code}\n\n{ollama}"


def _block(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _line(text: str) -> str:
    return " ".join(text.split())


def _licence(base: Path | None) -> dict[str, str]:
    """The licence lines of the base model's own card, as they are written there: `license: other` says nothing without
    its name and its link."""
    try:
        text = (base / "README.md").read_text(encoding="utf-8") if base else ""
    except (OSError, ValueError):
        return {}
    found = _FRONT_MATTER.match(text)
    lines: Sequence[str] = found[1].splitlines() if found else ()
    pairs = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {key: pairs[key] for key in _LICENCE if pairs.get(key)}


def _licence_words(licence: Mapping[str, str]) -> str:
    if "license" not in licence:
        return "See the base model."
    name, link = (licence.get(key, "").strip("\"'") for key in ("license_name", "license_link"))
    return f"As its base model: {name or licence['license']}" + (f" ({link})." if link else ".")
