"""The exact live bytes of one fine-tuning step, of transformers' real modules. A program, for a process of its own.

Reads a JSON list of cases from stdin, `{"config": config.json, "tuning": Tuning's fields, "micro": Micro's}`, and
prints the peak (bytes) of each on a line; without `micro` the parameters of the base and of what is trained.

Weights and activations are fake tensors, which have a storage and no memory, so any machine traces a 7B model. A
storage counts from the first operation that returns it until Python or autograd lets go of it, as in
torch.distributed._tools.MemTracker, which hooks every module besides, for figures that we have no use for. Fake tensors
are the CPU's (a build without CUDA has no others), whose attention keeps what CUDA's flash and efficient kernels keep.
"""

from __future__ import annotations

import json
import sys
import weakref
from typing import Any

import torch
import transformers.masking_utils
from accelerate.utils.operations import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AutoConfig, AutoModelForCausalLM

# Asks a tensor's values, which a fake one has not. This is its answer for rows that are not packed.
transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            size = storage.nbytes()
            self._seen[storage] = weakref.finalize(storage, self._drop, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _drop(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return result


def build(config: dict[str, Any], tuning: dict[str, Any]) -> torch.nn.Module:
    """The model as ms-swift trains it, on the meta device."""
    wanted = AutoConfig.for_model(**config)
    wanted.use_cache = False  # ms-swift, trainers/mixin.py _prepare_gradient_checkpointing
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            wanted,
            dtype=torch.float32 if tuning.get("base_bits", 16) == 32 else torch.bfloat16,
            attn_implementation=tuning.get("attention", "sdpa"),
        )
        if tuning["kind"] == "lora":
            targets = tuning.get("targets", "all-linear")
            adapter = LoraConfig(
                task_type="CAUSAL_LM",
                r=tuning.get("rank", 8),
                lora_dropout=tuning["dropout"],
                use_dora=tuning.get("dora", False),
                target_modules=targets if targets == "all-linear" else list(targets),
                modules_to_save=tuning.get("modules_to_save") or None,
            )
            model = get_peft_model(model, adapter)
    return model.train()


def trace(config: dict[str, Any], tuning: dict[str, Any], micro: dict[str, int]) -> int:
    """The peak of forward, backward and update, with Adam's state and the gradients of an earlier micro-batch."""
    model = build(config, tuning)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _make_fake(model)
        if tuning.get("checkpointing", True):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
            model.enable_input_require_grads()
        if tuning.get("base_bits", 16) != 32:  # accelerate's prepare_model for bf16
            model.forward = convert_outputs_to_fp32(torch.autocast("cpu", dtype=torch.bfloat16)(model.forward))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and not tuning.get("cpu"):  # CUDA's: a mask of one byte an element
                module.forward = lambda x, p=module.p: torch.native_dropout(x, p, True)[0]
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        fused = tuning.get("optimizer") != "adamw_torch"
        optimizer = torch.optim.AdamW(parameters, fused=fused, foreach=not fused)
        optimizer.step()
        rows, length = micro["rows"], micro["padded"]
        kept = micro["kept"] // rows
        tokens, labels = torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows, kept, dtype=torch.long)
        mask = torch.ones(rows, length, dtype=torch.long) if rows > 1 else None
        live = LiveBytes()
        for tensor in (*model.parameters(), *model.buffers()):
            live.add(tensor)
        for parameter in parameters:
            live.add(parameter.grad)
            for value in optimizer.state[parameter].values():
                live.add(value)
        with live:
            loss = model(input_ids=tokens, attention_mask=mask, labels=labels, logits_to_keep=kept).loss
            loss.backward()
            optimizer.step()
    return live.peak


def _make_fake(model: torch.nn.Module) -> None:
    """Meta tensors to fake ones (of the CPU), a tied one to one."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    made[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, torch.nn.Parameter):
                        made[id(tensor)] = torch.nn.Parameter(made[id(tensor)], requires_grad=tensor.requires_grad)
                tensors[name] = made[id(tensor)]


def counts(config: dict[str, Any], tuning: dict[str, Any]) -> list[int]:
    """Parameters of the model, and those that are trained."""
    model = build(config, tuning)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    every = sum(parameter.numel() for parameter in model.parameters())
    return [every - trained if tuning["kind"] == "lora" else every, trained]


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    for case in cases:
        print(json.dumps(trace(**case) if "micro" in case else counts(**case)), flush=True)
