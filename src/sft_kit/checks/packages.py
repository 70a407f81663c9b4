"""Packages that a config makes ms-swift, transformers or a tracker import, and that are not installed.

Every row of the tables ends in an exception where the package is missing, most of them after the model was loaded; the
sources are those of ms-swift 3.12.6 with transformers 4.57 and 4.6.0 with 5.19, and differ only where it says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_kit.checks.environment import Environment, release
from sft_kit.checks.facts import Facts
from sft_kit.findings import Finding
from sft_kit.msswift.model_types import model_types


@dataclass(frozen=True)
class _Need:
    """One of `modules` has to be there; `install` is what pip is told."""

    modules: tuple[str, ...]
    install: str


def _needs(module: str, install: str | None = None) -> _Need:
    return _Need((module,), install or module.replace("_", "-"))


_FLASH = _Need(("flash_attn", "kernels"), "flash-attn --no-build-isolation")
"""Without it transformers (4.56 and later) takes the kernel from the hub by `kernels`, where that is installed."""
_BITSANDBYTES = _needs("bitsandbytes")
_ATTENTION = {
    "flash_attn": _FLASH,
    "flash_attention_2": _FLASH,
    "flash_attention_3": _Need(("flash_attn_interface", "kernels"), "flash-attn-3"),
}
_OPTIM_BEGINS = (  # transformers/trainer_optimizer.py (5.x), Trainer.get_optimizer_cls_and_kwargs (4.x)
    ("galore_", _needs("galore_torch")),
    ("apollo_", _needs("apollo_torch")),
    ("schedule_free_", _needs("schedulefree")),
    ("adamw_torch_4bit", _needs("torchao")),
    ("adamw_torch_8bit", _needs("torchao")),
    ("lomo", _needs("lomo_optim")),
    ("adalomo", _needs("lomo_optim")),
    ("grokadamw", _needs("grokadamw")),
    ("stable_adamw", _needs("optimi", "torch-optimi")),
    ("adamw_apex_fused", _needs("apex")),
    ("adamw_anyprecision", _needs("torchdistx")),
    ("adamw_bnb", _BITSANDBYTES), ("adamw_8bit", _BITSANDBYTES), ("paged_", _BITSANDBYTES),
    ("ademamix", _BITSANDBYTES), ("lion_", _BITSANDBYTES), ("rmsprop_bnb", _BITSANDBYTES),
)  # fmt: skip
_TRACKERS = {  # integrations/integration_utils.py: each callback's __init__; swanlab: sft_args._init_swanlab
    "wandb": _needs("wandb"),
    "swanlab": _needs("swanlab"),
    "tensorboard": _Need(("tensorboard", "tensorboardX"), "tensorboard"),
    "mlflow": _needs("mlflow"),
    "comet_ml": _needs("comet_ml"),
    "neptune": _needs("neptune"),
    "clearml": _needs("clearml"),
    "trackio": _needs("trackio"),
}
_GPTQ = _Need(("gptqmodel",), "gptqmodel optimum")
_METHODS = {  # transformers/quantizers/*: validate_environment; by the generation of transformers
    "bnb": (_BITSANDBYTES, _BITSANDBYTES),
    "bitsandbytes": (_BITSANDBYTES, _BITSANDBYTES),
    "hqq": (_needs("hqq"), _needs("hqq")),
    "eetq": (_needs("eetq"), _needs("kernels")),
    "gptq": (_Need(("auto_gptq", "gptqmodel"), "gptqmodel optimum"), _GPTQ),
    "awq": (_needs("awq", "autoawq"), _needs("gptqmodel")),
    "aqlm": (_needs("aqlm"), _needs("aqlm")),
    "compressed-tensors": (_needs("compressed_tensors"), _needs("compressed_tensors")),
}
_QWEN_VL = _needs("qwen_vl_utils")
_ARCHITECTURES = {  # swift/model/models/qwen.py (4.x), swift/llm/model/model/qwen.py (3.x): imported with the processor
    "Qwen2VLForConditionalGeneration": _QWEN_VL,
    "Qwen2_5_VLForConditionalGeneration": _QWEN_VL,
    "Qwen3VLForConditionalGeneration": _QWEN_VL,
    "Qwen3VLMoeForConditionalGeneration": _QWEN_VL,
}
_LOGINS = {"wandb": (("WANDB_API_KEY",), ".netrc"), "swanlab": (("SWANLAB_API_KEY",), ".swanlab/.netrc")}


def package_findings(facts: Facts) -> Iterator[Finding]:
    """Missing packages, each once; trackers that nobody is logged in to."""
    said: set[str] = set()
    for key, value, need in _needed(facts):
        if need.install not in said and not any(map(facts.environment.has, need.modules)):
            said.add(need.install)
            message = f"{value} needs {' or '.join(need.modules)}, which is not installed"
            yield Finding("missing-package", "error", key, message, f"pip install {need.install}")
    yield from _old_bitsandbytes(facts)
    yield from _not_logged_in(facts)


def _needed(facts: Facts) -> Iterator[tuple[str, str, _Need]]:
    """(key, what is asked for, what it needs)."""
    given = facts.config.swift_values()
    text = {key: value for key, value in given.items() if isinstance(value, str)}
    if text.get("attn_impl") in _ATTENTION:
        yield "attn_impl", text["attn_impl"], _ATTENTION[text["attn_impl"]]
    for start, need in _OPTIM_BEGINS:
        if text.get("optim", "").startswith(start):
            yield "optim", text["optim"], need
    if given.get("deepspeed"):
        yield "deepspeed", "it", _needs("deepspeed")  # sft_args._init_deepspeed: require_version
    if given.get("use_liger_kernel"):
        yield "use_liger_kernel", "it", _needs("liger_kernel")  # trainers/arguments.py: assert is_liger_available()
    if given.get("galore_quantization"):
        yield "galore_quantization", "it", _needs("q_galore_torch")
    if text.get("tuner_backend") == "unsloth":
        yield "tuner_backend", "unsloth", _needs("unsloth")
    if facts.config.tuner_type == "reft":
        yield "tuner_type", "reft", _needs("pyreft")
    if given.get("predict_with_generate") or text.get("eval_metric") == "nlg":
        yield (
            "eval_metric",
            "the metric nlg",
            _needs("jieba"),
        )  # sft_args._init_metric; 3.12 requires the package itself
    if given.get("eval_use_evalscope"):
        yield "eval_use_evalscope", "it", _needs("evalscope")  # trainers/arguments.py; in 3.12 at the first evaluation
    for tracker in facts.config.report_to or ["tensorboard"]:
        if tracker in _TRACKERS:
            yield "report_to", tracker, _TRACKERS[tracker]
    yield from _of_the_model(facts, text.get("quant_method"))


def _of_the_model(facts: Facts, method: str | None) -> Iterator[tuple[str, str, _Need]]:
    transformers = facts.environment.release("transformers") or ()
    new = transformers >= (5,)
    if method in _METHODS:
        yield "quant_method", method or "", _METHODS[method or ""][new]
    config = facts.directory.config if facts.directory else {}
    own = config.get("quantization_config")
    named = str(own.get("quant_method")) if isinstance(own, dict) else ""
    if named in _METHODS and not method:
        yield "model", f"a model quantised by {named}", _METHODS[named][new]
    for each in _architectures(facts):
        if each in _ARCHITECTURES:
            yield "model", each, _ARCHITECTURES[each]


def _architectures(facts: Facts) -> tuple[str, ...]:
    """Of the model's config.json; for one that is still on its hub those that ms-swift registers for its id."""
    if facts.directory:
        listed = facts.directory.config.get("architectures")
        return tuple(map(str, listed)) if isinstance(listed, list) else ()
    name = facts.model.name.lower() if facts.model else ""
    for info in model_types(facts.installation).values():
        if any(name in ((model.ms_id or "").lower(), (model.hf_id or "").lower()) for model in info.models):
            return info.architectures
    return ()


def _old_bitsandbytes(facts: Facts) -> Iterator[Finding]:
    """transformers 5 takes an old bitsandbytes for none (import_utils.BITSANDBYTES_MIN_VERSION)."""
    environment: Environment = facts.environment
    version = environment.versions.get("bitsandbytes")
    used = [(key, need) for key, _, need in _needed(facts) if need is _BITSANDBYTES]
    if used and version and (environment.release("transformers") or ()) >= (5,) and release(version) < (0, 46, 1):
        message = f"bitsandbytes {version} is too old for transformers {environment.versions['transformers']}"
        yield Finding("missing-package", "error", used[0][0], message, 'pip install -U "bitsandbytes>=0.46.1"')


def _not_logged_in(facts: Facts) -> Iterator[Finding]:
    """A tracker asks for its key on a terminal; the training process has none, so it ends there."""
    environ, given = facts.environment.environ, facts.config.swift_values()
    for tracker in facts.config.report_to or []:
        if tracker not in _LOGINS or not facts.environment.has(tracker):
            continue
        variables, file = _LOGINS[tracker]
        local = environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun") if tracker == "wandb" else (
            given.get("swanlab_mode") == "local" or given.get("swanlab_token")
        )  # fmt: skip
        if local or any(environ.get(name) for name in variables) or _names(Path.home() / file, tracker):
            continue
        way_out = "set WANDB_MODE=offline" if tracker == "wandb" else "set swanlab_mode: local"
        message = f"{tracker} has no key here ({variables[0]} is not set), and training cannot ask for one"
        yield Finding("tracker-login", "warning", "report_to", message, f"run {tracker} login, or {way_out}")


def _names(file: Path, tracker: str) -> bool:
    try:
        return tracker in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
