"""Peak memory of one fine-tuning step, as a sum of named terms.

Owns the formulas: what the weights, the optimizer and autograd hold at each moment at which memory can be highest,
read from transformers 5.19 (modeling_*.py), peft 0.20 (tuners/lora) and torch, and held to the exact live bytes of the
real modules by tests/plan/test_memory.py (docs/memory.md says where each term comes from). Does not know the shapes of
models (`shape`) nor what a card has (`device`), and never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sft_kit.plan.shape import AllLinear, Linear, ModelShape

CONTEXT_GIB = 0.5
"""What the CUDA context of a process takes outside torch's allocator."""

PROCESS_GIB = 0.6
"""On a CPU: a training process without its model (the peak of ms-swift 4.6.0 on sft-kit's tiny model, VmHWM)."""

_STATE_BYTES = {
    "adafactor": 0.0,  # one row and one column of sums a matrix
    "sgd": 0.0,
    "adamw_8bit": 2.03,  # two moments of one byte, and a float32 scale a block of 256 of each (bitsandbytes)
    "adamw_bnb_8bit": 2.03,
    "paged_adamw_8bit": 2.03,
    "lion_8bit": 1.02,
    "paged_lion_8bit": 1.02,
}
"""Optimizer state, bytes a parameter, where it is not moments in the parameter's own type."""

_ONE_MOMENT = frozenset({"lion", "lion_32bit", "paged_lion_32bit", "adagrad", "rmsprop"})


Moment = Literal["loss", "layer", "forward", "head", "embedding", "optimizer"]

_READS = ("attention", "context", "mlp", "product")


@dataclass(frozen=True)
class Tuning:
    """How a model is trained, as far as memory depends on it. The defaults are ms-swift's own (LoRA's dropout too)."""

    kind: Literal["lora", "full"]
    rank: int = 8
    rslora: bool = False
    """Scales the same adapter differently: no byte more."""
    dora: bool = False
    targets: tuple[str, ...] | AllLinear = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    dropout: float = 0.05
    adapter_bytes: int = 4
    """Of an adapter's parameter: peft keeps adapters in float32 unless lora_dtype says otherwise."""
    base_bits: Literal[32, 16, 8, 4] = 16
    optimizer: str = "adamw_torch_fused"
    checkpointing: bool = True
    attention: Literal["sdpa", "flash_attn", "eager"] = "sdpa"
    liger: bool = False
    cpu: bool = False
    """Dropout masks are float32 on a CPU, one byte an element on a GPU."""


@dataclass(frozen=True)
class Micro:
    """One micro-batch: `rows` x `padded` tokens, of which `kept` rows of logits are computed, over the whole batch.

    ms-swift keeps the labelled tokens of a single row, and of several rows the end from the first label of any row
    (trainers/mixin.py `prepare_logits_to_keep`). Several rows are taken to differ in length, which gives sdpa a mask.
    """

    rows: int
    padded: int
    kept: int

    @property
    def tokens(self) -> int:
        """With padding."""
        return self.rows * self.padded


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes that are alive when most are, by what holds them; `moment` says when that is."""

    terms: Mapping[str, int]
    moment: Moment = "loss"
    cpu: bool = False

    @property
    def allocated(self) -> int:
        """Bytes: torch.cuda.max_memory_allocated."""
        return sum(self.terms.values())

    @property
    def needed_gib(self) -> float:
        """What must be free: allocated, 5 % for what the allocator cannot reuse, and what the process takes itself."""
        return self.allocated / 2**30 * 1.05 + self._process_gib

    @property
    def expected_gib(self) -> float:
        """What nvidia-smi will show: rows of changing length leave the allocator 10 to 20 % more than is alive."""
        return self.allocated / 2**30 * 1.15 + self._process_gib

    @property
    def _process_gib(self) -> float:
        return PROCESS_GIB if self.cpu else CONTEXT_GIB


def memory_plan(shape: ModelShape, tuning: Tuning, micro: Micro) -> MemoryPlan:
    """The peak of one optimizer step on one device, gradients of earlier micro-batches included."""
    static = _static(shape, tuning)
    width = 4 if tuning.base_bits == 32 else 2
    stream = width * shape.hidden * micro.tokens
    layer = _Layer(shape, tuning, micro, width)
    kept = (
        {"checkpoints": shape.layers * stream}
        if tuning.checkpointing
        else {"activations": layer.all_layers - layer.unneeded}
    )
    trained = _trained_vocabulary(shape, tuning) * width
    # The gradient of a tied weight waits for that of the embedding, and both for their sum (autograd's input buffer)
    waiting = {"head gradient": trained} if trained and shape.tied else {}
    end = {"norm": layer.norms(shape.hidden, 1) + (stream if trained else 0)}
    logits = _logits(shape, tuning, micro, width)
    moments: dict[Moment, dict[str, int]] = {
        "loss": {**kept, **end, "logits": logits},
        "layer": {**kept, **waiting, "layer": layer.extra + (layer.recomputed if tuning.checkpointing else 0)},
        "optimizer": {"update": _update(shape, tuning, width)},
    }
    if tuning.checkpointing and layer.casts:
        last = max(layer.forward_only, layer.norms(shape.hidden, 1) + logits - logits // 6)
        moments["forward"] = {**kept, "casts": layer.casts * shape.layers, "last": last}
    if trained:
        moments["head"] = {**kept, **end, "logits": width * shape.vocab * micro.kept, "head gradient": trained}
        moments["embedding"] = {"embedding gradient": trained * (3 if waiting else 1), "stream": stream}
    moment, terms = max(moments.items(), key=lambda item: sum(item[1].values()))
    mask = layer.mask
    return MemoryPlan({**static, **terms, **({"mask": mask} if mask else {})}, moment, tuning.cpu)


def trainable_parameters(shape: ModelShape, tuning: Tuning) -> int:
    """Those with a gradient: all, or the adapter's and the copies that `modules_to_save` makes."""
    if tuning.kind == "full":
        return shape.parameters
    return shape.lora_parameters(tuning.targets, tuning.rank, dora=tuning.dora) + _saved_modules(shape, tuning)


def _saved_modules(shape: ModelShape, tuning: Tuning) -> int:
    names = {name.rsplit(".", 1)[-1] for name in tuning.modules_to_save}
    return shape.vocab * shape.hidden * len(names & {shape.embedding, shape.head.name})


def _trained_vocabulary(shape: ModelShape, tuning: Tuning) -> int:
    """Parameters of an embedding or head whose gradient is computed whole before it is added to the one of before."""
    return shape.vocab * shape.hidden if tuning.kind == "full" or _saved_modules(shape, tuning) else 0


def _static(shape: ModelShape, tuning: Tuning) -> dict[str, int]:
    """What lives through the whole step. Quantised: only the layers' Linears are."""
    width = 4 if tuning.base_bits == 32 else 2
    # NF4, double quantisation (ms-swift's default): one byte a block of 64, and 4 bytes for 256 such blocks
    bits = {32: 4.0, 16: 2.0, 8: 1.0, 4: 0.5 + 1 / 64 + 4 / 64 / 256}[tuning.base_bits]
    linears = shape.linear_parameters
    weights = round(linears * bits) + (shape.parameters - linears) * width
    trainable = trainable_parameters(shape, tuning)
    saved = _saved_modules(shape, tuning)
    if tuning.kind == "full":
        own = trainable * width
        return {"weights": weights, "gradients": own, "optimizer": _state(tuning, trainable, own)}
    own = (trainable - saved) * tuning.adapter_bytes + saved * width
    return {"weights": weights, "adapter": own, "gradients": own, "optimizer": _state(tuning, trainable, own)}


def _state(tuning: Tuning, parameters: int, own: int) -> int:
    """`own` bytes hold the parameters themselves, and as many each moment of an optimizer that is not 8-bit."""
    if tuning.optimizer in _STATE_BYTES:
        return round(parameters * _STATE_BYTES[tuning.optimizer])
    return own if tuning.optimizer in _ONE_MOMENT else 2 * own


def _update(shape: ModelShape, tuning: Tuning, width: int) -> int:
    """adamw_torch takes the root of every second moment at once (torch/optim/adamw.py `_multi_tensor_adamw`)."""
    if tuning.optimizer != "adamw_torch" or tuning.cpu:
        return 0
    return trainable_parameters(shape, tuning) * (width if tuning.kind == "full" else tuning.adapter_bytes)


def _logits(shape: ModelShape, tuning: Tuning, micro: Micro, width: int) -> int:
    """The loss is computed in float32: log-probabilities, their gradient and that of the logits, 4 bytes each.

    Liger multiplies and reduces a chunk of rows at a time (ops/fused_linear_cross_entropy.py) and keeps the gradient of
    the hidden states.
    """
    if tuning.liger:
        chunks = -(-shape.vocab // shape.hidden)
        chunk = 1 << (max(1, -(-micro.kept // chunks)) - 1).bit_length()
        return width * (chunk * shape.vocab + micro.kept * shape.hidden)
    return (12 + (width if shape.logit_softcap else 0)) * shape.vocab * micro.kept


class _Layer:
    """What one layer keeps for its backward pass, and what stands beside it for a moment: bytes of a micro-batch.

    `width` is that of an activation. LoRA in float32 beside 16-bit activations (ms-swift's default, under autocast)
    casts the input of every target by itself, so each keeps its own 16-bit copy (tuners/lora/layer.py `forward`).
    """

    def __init__(self, shape: ModelShape, tuning: Tuning, micro: Micro, width: int) -> None:
        self.shape, self.tuning, self.micro, self.width = shape, tuning, micro, width
        self.full = tuning.kind == "full"
        targeted = () if self.full else shape.targeted(tuning.targets)
        self.targets: tuple[Linear, ...] = tuple(linear for linear in targeted if linear.reads != "final")
        self.copies = not self.full and width == 2 and tuning.adapter_bytes == 4
        self.eager = tuning.attention == "eager"
        parameters = shape.lora_parameters(tuning.targets, tuning.rank) if self.targets else 0
        self.casts = 2 * parameters // shape.layers if self.copies else 0
        sdpa = tuning.attention == "sdpa"
        masked = sdpa and micro.rows > 1
        windowed = sdpa and not masked and shape.window is not None and micro.padded >= shape.window
        self.masked_layers = shape.layers if masked else shape.window_layers * windowed
        self.saved = self._saved(self.masked_layers > 0)
        """By the layer that keeps most: a window shorter than the row gives its layers a mask."""

    @property
    def all_layers(self) -> int:
        """What is kept without checkpointing."""
        others = self.shape.layers - self.masked_layers
        return self.masked_layers * self._saved(True) + others * self._saved(False)

    def norms(self, features: int, count: int) -> int:
        """RMSNorm: its input in float32 (in a float32 model the input itself); where it is trained, the normed too."""
        if self.tuning.liger:
            return self.micro.tokens * count * self.width * features
        trained = (4 if self.shape.fp32_norms else self.width) * self.full
        return self.micro.tokens * count * features * (4 + trained)

    @property
    def unneeded(self) -> int:
        """What the first layer does not keep without checkpointing, as LoRA trains nothing before it: its norm and
        dropout, and all of its attention where only the MLP is adapted."""
        if self.full or self.tuning.modules_to_save:
            return 0
        tokens = self.micro.tokens
        if not any(linear.reads in ("attention", "context") for linear in self.targets):
            return tokens * (2 * 4 * self.shape.hidden + self._attention(self.masked_layers > 0))
        number = sum(linear.reads == "attention" for linear in self.targets)
        masks = number * (4 if self.tuning.cpu else 1) if self.tuning.dropout else 0
        return tokens * (4 + masks) * self.shape.hidden + self._weight_copies("attention")

    @property
    def mask(self) -> int:
        """One mask for all layers: true or false for sdpa, a number for eager."""
        square = self.micro.rows * self.micro.padded**2
        return square * (self.width if self.eager else 1) if self.masked_layers or self.eager else 0

    @property
    def recomputed(self) -> int:
        """With checkpointing: all that the last layer keeps. In float32 the checkpoint is what its first norm keeps."""
        return self.saved - (self._stream if self.width == 4 else 0)

    @property
    def extra(self) -> int:
        """The most that stands beside what the layer keeps, in its forward or its backward pass.

        Forward: with checkpointing the gradient of its output waits, without it the embedded tokens and the layer's
        input are variables of the model's loop. Backward: the gradient of the output, and the output recomputed.
        """
        streams = (1, 2) if self.tuning.checkpointing else (2, 1)
        forward = self._forward_extra() + streams[0] * self._stream
        backward = self._backward_extra() + streams[1] * self._stream
        last_norm = self.norms(self.shape.hidden, 1) if self.shape.sandwich_norms else 0  # after `down_proj`
        return max(forward, backward) - last_norm + self._dequantised()

    @property
    def forward_only(self) -> int:
        """A layer's forward pass that keeps nothing: around the input of `down_proj`."""
        product = 12 if self.tuning.dropout else 8
        return self.micro.tokens * (product * self.shape.intermediate + 10 * self.shape.hidden)

    def _saved(self, masked: bool) -> int:
        shape, width = self.shape, self.width
        tokens = self.micro.tokens
        total = self.norms(shape.hidden, 4 if shape.sandwich_norms else 2)
        if shape.qk_norms:
            total += self.norms(shape.q_dim + shape.kv_dim, 1) + tokens * 4 * (shape.heads + shape.kv_heads)
        total += self._inputs("attention", shape.hidden) + self._inputs("mlp", shape.hidden)
        total += self._inputs("context", shape.q_dim, kept=not (self.eager or shape.joined_rotary))
        total += self._inputs("product", shape.intermediate)
        total += tokens * (self._attention(masked) + (2 if self.tuning.liger else 3) * width * shape.intermediate)
        if self.tuning.dora:  # what the Linear and the adapter give, both multiplied by the magnitude
            total += tokens * sum(2 * width * linear.outputs for linear in self.targets)
        return total + self.casts + self._weight_copies(*_READS)

    def _weight_copies(self, *reads: str) -> int:
        """With dropout DoRA multiplies its own input by the weight, cast to float32 and back: each target's backward
        pass then keeps a 16-bit copy of the weight (tuners/lora/variants.py `DoraLinearVariant.forward`)."""
        if not (self.tuning.dora and self.tuning.dropout and self.copies):
            return 0
        return sum(2 * linear.inputs * linear.outputs for linear in self.targets if linear.reads in reads)

    def _inputs(self, reads: str, features: int, *, kept: bool = False) -> int:
        """What the Linears that read one activation keep of it; `kept`: something else keeps it anyway."""
        if self.full:
            return 0 if kept else self.micro.tokens * self.width * features
        number = sum(linear.reads == reads for linear in self.targets)
        each = self.width * self.tuning.rank * number
        if self.tuning.dropout:
            each += number * features * (4 if self.tuning.cpu else 1)
        if self.copies or self.tuning.dropout:
            each += number * features * self.width
        elif number and not kept:
            each += features * self.width
        if self.tuning.base_bits == 8 and not kept:  # bitsandbytes autograd/_functions.py MatMul8bitLt
            each += features * self.width
        return self.micro.tokens * each

    def _attention(self, masked: bool) -> int:
        """Bytes a token. Queries, keys, values, and what comes out, with its logarithms of sums."""
        shape, width = self.shape, self.width
        grouped = shape.heads > shape.kv_heads
        # integrations/sdpa_attention.py: beside a mask keys and values are repeated for each query; one head is a view
        repeated = grouped and shape.kv_heads > 1 and (masked or self.eager)
        total = width * (shape.q_dim + 2 * (shape.q_dim if repeated else shape.kv_dim))
        if shape.fused_qkv and not repeated:  # the values are a view of all that the fused Linear gives
            total += width * (shape.q_dim + shape.kv_dim)
        if self.eager:
            scores = 4 + (width if width == 2 else 0) + (width if shape.attention_softcap else 0)
            return total + scores * shape.heads * self.micro.padded
        return total + width * shape.q_dim + 4 * shape.heads + (width * self.micro.padded if masked else 0)

    def _forward_extra(self) -> int:
        """At `down_proj`: its input, in LoRA's float32 too, with dropout twice; the residual and the normed input."""
        hidden, product = self.shape.hidden * self.width, self.shape.intermediate
        targeted = any(linear.reads == "product" for linear in self.targets)
        each = 0 if self.full or (targeted and not self.copies and not self.tuning.dropout) else self.width * product
        each += 2 * hidden
        if targeted and self.copies:
            dropped = 4 * product + hidden if self.tuning.dropout else 0
            each += 4 * product + max(3 * hidden, dropped)
        else:
            each += (3 if targeted else 1) * hidden
        if not self.tuning.dora:
            return self.micro.tokens * each
        later = self.micro.tokens * (self.width * (product + self.tuning.rank) + 2 * hidden) if targeted else 0
        later += self._weight_copies("product")
        inputs = (8 if self.tuning.dropout else 4) * product if targeted and self.copies else 0
        before = self.width * product + inputs + 3 * hidden
        return max(self.micro.tokens * each, self.micro.tokens * before - later + self._magnitudes())

    @property
    def _stream(self) -> int:
        return self.width * self.shape.hidden * self.micro.tokens

    def _backward_extra(self) -> int:
        """At gate x up: the gradients of the product and of both factors, the product itself gone by then; before it,
        where `down_proj` is trained, the gradient of its weight. Of eager attention: the gradients of its scores."""
        tokens, width = self.micro.tokens, self.width
        product = width * self.shape.intermediate
        kept = self._inputs("product", self.shape.intermediate)
        gradients = product * (1 if self.tuning.liger else 3) * tokens - kept
        if self.full:
            weight = max(linear.inputs * linear.outputs for linear in self.shape.linears if linear.reads == "mlp")
            after = width * weight - 2 * product * tokens  # `gate_up_proj`, after all that the product needed
            gradients = max(gradients, tokens * product + product * self.shape.hidden, after)
        if self.eager:
            gone = kept + 3 * product * tokens + self.norms(self.shape.hidden, 1)
            gone += self._inputs("mlp", self.shape.hidden) + self._inputs("context", self.shape.q_dim)
            scores = (8 if width == 4 else 6) * self.shape.heads * self.micro.padded + width * self.shape.q_dim
            gradients = max(gradients, tokens * scores - gone)
        return gradients

    def _magnitudes(self) -> int:
        """DoRA adds the adapter to a copy of the weight to measure its columns, from an identity matrix on
        (tuners/lora/dora.py `get_lora_weight`, `get_weight_norm`)."""
        sizes = [(linear.inputs**2, linear.inputs * linear.outputs) for linear in self.targets]
        if not self.copies:
            return max((self.width * (square + 3 * weight) for square, weight in sizes), default=0)
        return max((max(6 * square + 2 * weight, 2 * square + 16 * weight) for square, weight in sizes), default=0)

    def _dequantised(self) -> int:
        """The largest weight of a quantised base, in 16 bits for as long as it is multiplied."""
        if self.tuning.base_bits > 8:
            return 0
        return max(2 * linear.inputs * linear.outputs for linear in self.shape.linears)
