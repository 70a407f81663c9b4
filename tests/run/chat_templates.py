"""Chat templates of the forms that the families of models use, with the special tokens they name."""

from __future__ import annotations

from pathlib import Path

from sft_kit.models.tiny import chatml_template
from sft_kit.msswift.chat_template import ChatTemplate

_FOLDER = Path(__file__).parent / "data" / "chat_templates"
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>"}
_TOKENS = {
    "chatml": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    "deepseek": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
    "gemma2": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "internlm2": _LLAMA,
    "llama2": _LLAMA,
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral": _LLAMA,
    "phi3": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    "qwen2": {"eos_token": "<|im_end|>"},
}


def of(source: str, **tokens: str) -> ChatTemplate:
    """A template that lies in no file."""
    return ChatTemplate(Path(), source, tokens)


def chat_templates() -> dict[str, ChatTemplate]:
    """By name: the files of data/chat_templates, and those of sft-kit's own models, one with a name full of quotes."""
    found = {path.stem: of(path.read_text("utf-8"), **_TOKENS[path.stem]) for path in _FOLDER.glob("*.jinja")}
    for name, system in {
        "tiny-llama": None,
        "trained": '你是“精衡”，由叶博韬开发。\\nA "tool"　{{ of }} Ada\'s',
    }.items():
        found[name] = of(chatml_template(system.replace("'", "\\'") if system else None))
    return found
