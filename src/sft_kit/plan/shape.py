"""The shape of a decoder-only language model, from its config.json alone: every Linear of it, its parameters, and what
decides how much a training step remembers.

Owns what the architectures have in common and where they differ. Does not plan memory (`memory`), and never imports
transformers: the module names are those of transformers 5.19's modelling files (InternLM2 and ChatGLM: of their own
remote code), and tests hold parameter counts to the real modules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sft_kit.resources import shipped

AllLinear = Literal["all-linear"]


@dataclass(frozen=True)
class Linear:
    """One kind of Linear: the last part of its module name, its features in and out, how many the model has."""

    name: str
    inputs: int
    outputs: int
    count: int
    bias: bool = False
    reads: Literal["attention", "context", "mlp", "product", "final"] = "attention"
    """Which activation is its input: the normed input of attention or MLP, what attention gives, gate x up, the end."""

    @property
    def parameters(self) -> int:
        """Of all `count` of them."""
        return self.count * self.outputs * (self.inputs + self.bias)


@dataclass(frozen=True)
class ModelShape:
    """A model's sizes. `linears` are those of its layers; `head` and the embedding stand apart."""

    model_type: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    linears: tuple[Linear, ...]
    head: Linear
    embedding: str
    norm_parameters: int
    sandwich_norms: bool = False
    """Four norms a layer instead of two (Gemma 2 and 3, GLM-4-0414)."""
    qk_norms: bool = False
    fp32_norms: bool = False
    """Gemma's norm multiplies by its weight in float32."""
    fused_qkv: bool = False
    joined_rotary: bool = False
    """Rotated and unrotated parts of a head are joined, so what attention gives is copied for `o_proj`."""
    logit_softcap: bool = False
    attention_softcap: bool = False
    window: int | None = None
    """Tokens that the attention of `window_layers` sees; None: all of them."""
    window_layers: int = 0

    @property
    def q_dim(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Parameters of the layers' Linears: what a 4-bit or 8-bit base quantises."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def layer_parameters(self) -> int:
        """Of the Linears of one layer."""
        return self.linear_parameters // self.layers

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding and, where it has its own weight, the head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All of the model's."""
        return self.linear_parameters + self.embedding_parameters + self.norm_parameters

    def targeted(self, targets: Sequence[str] | AllLinear) -> tuple[Linear, ...]:
        """The Linears that `target_modules` name, by the last part of the name; `all-linear` leaves the head out, as
        ms-swift does (model/utils.py `find_all_linears`)."""
        if targets == "all-linear" or "all-linear" in targets:
            return self.linears
        names = {target.rsplit(".", 1)[-1] for target in targets}
        return tuple(linear for linear in (*self.linears, self.head) if linear.name in names)

    def lora_parameters(self, targets: Sequence[str] | AllLinear, rank: int, *, dora: bool = False) -> int:
        """Trainable parameters of a LoRA: `rank x (in + out)` for each Linear; DoRA adds one magnitude per output."""
        linears = self.targeted(targets)
        return sum(
            linear.count * (rank * (linear.inputs + linear.outputs) + linear.outputs * dora) for linear in linears
        )


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json describes; None for an architecture that is not known here (mixtures of experts and
    multimodal models among them) and for a config that lacks a size."""
    if config.get("text_config") or config.get("vision_config"):
        return None
    model_type = config.get("model_type")
    try:
        if model_type == "chatglm":
            return _possible(_chatglm(config))
        if model_type in _FAMILIES:
            return _possible(_decoder(config, **_FAMILIES[str(model_type)]))
    except (ArithmeticError, KeyError, TypeError, ValueError):
        pass
    return None


def _possible(shape: ModelShape) -> ModelShape | None:
    """None for sizes that no model has (0 or less, a fraction): nothing can be planned with them."""
    sizes = (shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab)
    return shape if all(isinstance(size, int) and 0 < size < 2**40 for size in sizes) else None


def known_shape(model_id: str) -> ModelShape | None:
    """The shape of a common model by its id on a hub, whichever hub's spelling and case; None when it is not listed in
    data/models/shapes.json."""
    config = _known_configs().get(model_id.strip("/").lower())
    return shape_of(config) if config else None


@cache
def _known_configs() -> dict[str, Mapping[str, Any]]:
    entries = json.loads((shipped("data") / "models" / "shapes.json").read_text(encoding="utf-8"))["models"]
    return {model_id.lower(): entry["config"] for entry in entries for model_id in entry["ids"]}


# What config.json leaves to the class: transformers' configuration_*.py of each model_type.
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"kv_heads": 8, "window": 4096},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norms": True, "head_dim": 128},
    "smollm3": {"tied": True},
    "internlm2": {"fused": "internlm2"},
    "internlm3": {},
    "gemma": {"tied": True, "head_dim": 256, "fp32_norms": True},
    "gemma2": {
        "tied": True,
        "head_dim": 256,
        "fp32_norms": True,
        "sandwich_norms": True,
        "window": 4096,
        "window_every": 2,
    },
    "gemma3_text": {
        "tied": True,
        "head_dim": 256,
        "fp32_norms": True,
        "sandwich_norms": True,
        "qk_norms": True,
        "window": 4096,
        "window_every": 6,
    },
    "phi3": {"fused": "phi3", "windowed": True},
    "glm": {"fused": "glm", "head_dim": 128, "kv_heads": 2, "attention_bias": True},
    "glm4": {"fused": "glm", "head_dim": 128, "kv_heads": 2, "attention_bias": True, "sandwich_norms": True},
}


def _decoder(
    config: Mapping[str, Any],
    *,
    tied: bool = False,
    head_dim: int | None = None,
    kv_heads: int | None = None,
    qkv_bias: bool = False,
    fused: str = "",
    attention_bias: bool = False,
    windowed: bool = False,
    window: int | None = None,
    window_every: int = 1,
    qk_norms: bool = False,
    sandwich_norms: bool = False,
    fp32_norms: bool = False,
) -> ModelShape:
    hidden, intermediate = int(config["hidden_size"]), int(config["intermediate_size"])
    layers, heads, vocab = (
        int(config["num_hidden_layers"]),
        int(config["num_attention_heads"]),
        int(config["vocab_size"]),
    )
    kv = int(config.get("num_key_value_heads") or kv_heads or heads)
    dim = int(config.get("head_dim") or head_dim or hidden // heads)
    query, key = heads * dim, kv * dim
    everywhere = bool(config.get("bias") or config.get("attention_bias", attention_bias))
    of_qkv = qkv_bias or everywhere or bool(config.get("qkv_bias"))
    of_output = everywhere and fused != "glm"
    of_mlp = bool(config.get("mlp_bias") or (config.get("bias") and fused != "internlm2"))

    qkv = {
        "internlm2": (Linear("wqkv", hidden, query + 2 * key, layers, everywhere),),
        "phi3": (Linear("qkv_proj", hidden, query + 2 * key, layers),),
    }.get(fused) or (
        Linear("q_proj", hidden, query, layers, of_qkv),
        Linear("k_proj", hidden, key, layers, of_qkv),
        Linear("v_proj", hidden, key, layers, of_qkv),
    )
    names = {"internlm2": ("wo", "w1", "w3", "w2")}.get(fused, ("o_proj", "gate_proj", "up_proj", "down_proj"))
    output = Linear(names[0], query, hidden, layers, of_output, "context")
    gates = (
        (Linear("gate_up_proj", hidden, 2 * intermediate, layers, of_mlp, "mlp"),)
        if fused in ("phi3", "glm")
        else tuple(Linear(name, hidden, intermediate, layers, of_mlp, "mlp") for name in names[1:3])
    )
    down = Linear(names[3], intermediate, hidden, layers, of_mlp, "product")

    norms = ((4 if sandwich_norms else 2) * layers + 1) * hidden + (2 * dim * layers if qk_norms else 0)
    limit = config.get("sliding_window", window) if windowed or window else None
    every = int(config.get("sliding_window_pattern") or window_every)
    return ModelShape(
        str(config["model_type"]),
        hidden,
        intermediate,
        layers,
        heads,
        kv,
        dim,
        vocab,
        bool(config.get("tie_word_embeddings", tied)),
        (*qkv, output, *gates, down),
        Linear("output" if fused == "internlm2" else "lm_head", hidden, vocab, 1, reads="final"),
        "tok_embeddings" if fused == "internlm2" else "embed_tokens",
        norms,
        sandwich_norms=sandwich_norms,
        qk_norms=qk_norms,
        fp32_norms=fp32_norms,
        fused_qkv=fused in ("internlm2", "phi3"),
        joined_rotary=fused in ("phi3", "glm"),
        logit_softcap=bool(config.get("final_logit_softcapping")),
        attention_softcap=bool(config.get("attn_logit_softcapping")),
        window=int(limit) if limit else None,
        window_layers=(layers - layers // every if every > 1 else layers) if limit else 0,
    )


def _chatglm(config: Mapping[str, Any]) -> ModelShape:
    """GLM-4-9B's first release and ChatGLM3, whose config has its own key names (modeling_chatglm.py beside it)."""
    hidden, intermediate, layers = int(config["hidden_size"]), int(config["ffn_hidden_size"]), int(config["num_layers"])
    heads, dim, vocab = int(config["num_attention_heads"]), int(config["kv_channels"]), int(config["padded_vocab_size"])
    kv = int(config["multi_query_group_num"]) if config.get("multi_query_attention") else heads
    bias = bool(config.get("add_bias_linear"))
    qkv = Linear("query_key_value", hidden, (heads + 2 * kv) * dim, layers, bias or bool(config.get("add_qkv_bias")))
    return ModelShape(
        "chatglm",
        hidden,
        intermediate,
        layers,
        heads,
        kv,
        dim,
        vocab,
        bool(config.get("tie_word_embeddings")),
        (
            qkv,
            Linear("dense", heads * dim, hidden, layers, bias, "context"),
            Linear("dense_h_to_4h", hidden, 2 * intermediate, layers, bias, "mlp"),
            Linear("dense_4h_to_h", intermediate, hidden, layers, bias, "product"),
        ),
        Linear("output_layer", hidden, vocab, 1, reads="final"),
        "word_embeddings",
        (2 * layers + 1) * hidden,
        fused_qkv=True,
        joined_rotary=True,
    )
