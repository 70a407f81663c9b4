"""Model directories of the shapes that matter, without weights: a tokenizer trained on the spot and two config files.

Written by `tokenizers` alone, as the hubs' directories are: nothing in them is of one version of transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from sft_kit.msswift.lengths import _QWEN2_SPLIT

Shape = Literal["qwen2", "qwen3", "llama3", "internlm2"]

QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN3_TOKENS = ("<think>", "</think>")  # tokens of their own, but not special
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
INTERNLM2_TOKENS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_LLAMA3_SPLIT = _QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

_FILES = {
    "qwen2": ("Qwen2ForCausalLM", "qwen2", "Qwen2Tokenizer", None, "<|im_end|>"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3", "Qwen2Tokenizer", None, "<|im_end|>"),
    "llama3": ("LlamaForCausalLM", "llama", "PreTrainedTokenizerFast", "<|begin_of_text|>", "<|eot_id|>"),
    "internlm2": ("InternLM2ForCausalLM", "llama", "PreTrainedTokenizerFast", "<s>", "</s>"),
}


def build(folder: Path, shape: Shape, texts: Iterable[str]) -> Path:
    """Write config.json, tokenizer.json and tokenizer_config.json of `shape` into `folder`, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture, model_type, tokenizer_class, bos, eos = _FILES[shape]
    _tokenizer(shape, texts).save(str(folder / "tokenizer.json"))
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 128}
    config = {"architectures": [architecture], "model_type": model_type, "max_position_embeddings": 700, **sizes}
    tokenizer_config = {"tokenizer_class": tokenizer_class, "bos_token": bos, "eos_token": eos, "pad_token": eos}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    return folder


def _tokenizer(shape: Shape, texts: Iterable[str]) -> Tokenizer:
    if shape == "internlm2":  # as SentencePiece: spaces are part of words, unknown characters become bytes
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))  # noqa: S106
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special, alphabet = INTERNLM2_TOKENS, []
        extra = [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        tokenizer = Tokenizer(models.BPE())
        split = _LLAMA3_SPLIT if shape == "llama3" else _QWEN2_SPLIT
        tokenizer.normalizer = None if shape == "llama3" else normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        special = LLAMA3_TOKENS if shape == "llama3" else QWEN_TOKENS
        alphabet, extra = pre_tokenizers.ByteLevel.alphabet(), []
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=[*special, *extra], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if shape == "qwen3":
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in QWEN3_TOKENS])
    bos = _FILES[shape][3]
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer
