"""The typed keys of a run config.

The flat keys are ms-swift's own argument names (4.x spelling), so a ms-swift YAML is a valid config; sft-kit's own
are the sections `identity`, `eval` and `launch`, and the flat keys `replay` and `effective_batch_size`. A key left
out stays out of the command: its default is ms-swift's own. Keys that are not listed here are kept in `model_extra`
and are judged by the installed ms-swift (see `load.KeyRules`). The descriptions feed the JSON Schema and the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Lang = Literal["zh", "en"]
LANGUAGES: tuple[Lang, ...] = ("zh", "en")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


Texts = Annotated[
    list[str],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One text or a list of texts."""

_LANGUAGES_SCHEMA = {
    "anyOf": [{"enum": list(LANGUAGES)}, {"type": "array", "minItems": 1, "items": {"enum": list(LANGUAGES)}}]
}

OwnKeys = frozenset({"identity", "eval", "launch", "replay", "effective_batch_size"})
"""Keys that sft-kit acts on itself; ms-swift never sees them."""


def _kinds(annotation: Any) -> set[Any]:
    """Every plain type that an annotation is made of: {int, NoneType, ...}."""
    parts = getattr(annotation, "__args__", ())
    return set().union(*map(_kinds, parts)) if parts else {annotation}


Slot = Annotated[str, Field(pattern=r"^(VERSION|DATE|CAPABILITIES|LIMITS|LICENSE)(\.(zh|en))?$")]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes `true` for the number 1; whoever writes `lora_rank: true` does not mean rank 1."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise PydanticCustomError("int_type" if int in kinds else "float_type", "must be a number")
        return value


class _Section(_Checked):
    model_config = ConfigDict(extra="forbid")


class PerLanguage(_Section):
    """One text for each language."""

    zh: str | None = Field(default=None, description="The text in Chinese rows and answers.")
    en: str | None = Field(default=None, description="The text in English rows and answers.")


NameText = str | PerLanguage


class IdentitySection(_Section):
    """Who the model shall say it is. The rows are written from templates before training."""

    name: NameText = Field(description="The model's name: one text, or `{zh: ..., en: ...}`.")
    author: NameText = Field(description="Who made it: one text, or `{zh: ..., en: ...}`.")
    languages: Annotated[list[Lang], BeforeValidator(_as_list), WithJsonSchema(_LANGUAGES_SCHEMA)] = Field(
        default=["zh", "en"], min_length=1, description="Languages of the rows and of the held-out questions."
    )
    rows: int = Field(default=120, ge=1, le=100_000, description="Identity rows to train on, all languages together.")
    seed: int = Field(default=42, description="Chooses the rows; the same seed gives the same rows.")
    template: str | None = Field(default=None, description="A template file of your own instead of the shipped ones.")
    slots: dict[Slot, str] = Field(
        default={},
        description="Facts for the templates that need them: VERSION, DATE, CAPABILITIES, LIMITS, LICENSE, or of one "
        "language: CAPABILITIES.zh. Rows about a fact that is not given are left out.",
    )
    system_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the identity rows that stand under a system prompt (generic, a vendor's, unrelated), so "
        "that the identity also holds under others than yours.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of an epoch's rows that are identity rows; they are repeated to "
        "reach it. Needs the other sources counted: `#N` behind hub ids.",
    )
    force: bool = Field(default=False, description="Accept a name that equals the author.")

    @model_validator(mode="after")
    def _every_language_has_both(self) -> IdentitySection:
        keys = [f"{key}.{lang}" for key in ("name", "author") for lang in self.languages
                if self.text(getattr(self, key), lang) is None]  # fmt: skip
        if keys:
            raise ValueError(f"has no {' and no '.join(keys)}; add it, or set languages to the ones you have")
        return self

    @staticmethod
    def text(value: NameText, lang: Lang) -> str | None:
        """The text of `value` in `lang`; one plain text serves every language."""
        if isinstance(value, str):
            return value
        return value.zh if lang == "zh" else value.en

    def per_language(self, key: Literal["name", "author"]) -> dict[Lang, str]:
        """`{lang: text}` for every language of the run."""
        return {lang: self.text(getattr(self, key), lang) or "" for lang in self.languages}


EvalContext = Literal["trained", "none", "vendor", "custom"]
CONTEXTS: tuple[EvalContext, ...] = ("trained", "none", "vendor", "custom")


class EvalSection(_Section):
    """What is asked before and after, and what has to come out. A threshold that is written down and missed ends in
    exit code 3; the usual ones are judged too, but only told."""

    gate: bool = Field(
        default=False,
        description="true: the usual thresholds count too where none is written (identity 0.95, category 0.85, "
        "old 0.02, leakage 0, forgetting 0.05).",
    )
    identity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least share (0 to 1) of held-out questions answered with the new identity.",
    )
    category: float | None = Field(
        default=None, ge=0, le=1, description="Least such share (0 to 1) in every single category."
    )
    old: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest share (0 to 1) of identity answers that may affirm the identity of another model.",
    )
    leakage: float | None = Field(
        default=None, ge=0, le=1, description="Largest share (0 to 1) of general answers that may contain the identity."
    )
    forgetting: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Significance level (0 to 1): fewer right answers than before are missed where the exact McNemar "
        "test of the flips gives a smaller p.",
    )
    questions: int = Field(
        default=60,
        ge=1,
        description="Held-out identity questions to ask in each language; each is asked once more in another of "
        "`contexts`.",
    )
    general: int = Field(default=100, ge=0, description="General questions to ask in each language.")
    contexts: Annotated[list[EvalContext], BeforeValidator(_as_list)] = Field(
        default=list(CONTEXTS),
        min_length=1,
        description="System prompts that identity questions are asked under: the trained one, none, the base model's "
        "own default (vendor), an unrelated one (custom).",
    )
    likelihood: bool = Field(
        default=True, description="Measure how likely both models find a bundled text (nats per token)."
    )
    max_new_tokens: int = Field(default=96, ge=8, description="Longest answer, in tokens.")
    file: str | None = Field(
        default=None,
        description="Questions of your own to ask before and after: YAML, JSON, JSONL, or a text with one a line.",
    )


class LaunchSection(_Section):
    """How the ms-swift process is started."""

    gpus: int = Field(
        default=1,
        ge=0,
        description="GPUs to use. 1 takes the one with most free memory unless CUDA_VISIBLE_DEVICES is set; "
        "more start that many processes (torchrun); 0 hides every GPU.",
    )
    env: dict[str, str] = Field(default={}, description="Environment variables for ms-swift, such as `USE_HF: '1'`.")
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="GPU memory (GiB) to plan for instead of what the card has: 24 for an RTX 4090.",
    )
    on_out_of_memory: Literal["smaller", "stop"] = Field(
        default="smaller",
        description="What to do when memory runs out while training: go on once with the next smaller micro-batch and "
        "the same effective batch, or stop.",
    )
    on_nan: Literal["stop", "warn"] = Field(
        default="stop",
        description="What to do when there is nothing but NaN, which never heals: stop with exit code 3 and keep the "
        "checkpoints from before; or only warn.",
    )


Auto = Literal["auto"]


class RunConfig(_Checked):
    """One training run. Every flat key is an argument of `swift sft`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    # --- sft-kit's own -------------------------------------------------------------------------------------------
    identity: IdentitySection | None = Field(default=None, description="Builds identity rows and proves the result.")
    eval: EvalSection = Field(default=EvalSection(), description="The before/after evaluation of an identity run.")
    launch: LaunchSection = Field(default=LaunchSection(), description="GPUs and environment of the ms-swift process.")
    replay: int = Field(
        default=0,
        ge=0,
        description="Rows in which the base model itself answers general prompts; mixed in against forgetting.",
    )
    effective_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows per optimizer step. With it, `per_device_train_batch_size` and "
        "`gradient_accumulation_steps` may be `auto`.",
    )

    # --- model ---------------------------------------------------------------------------------------------------
    model: str | None = Field(
        default=None,
        description="Hub id (`Qwen/Qwen2.5-7B-Instruct`), directory, or one of sft-kit's own small models "
        "(`sft-kit/smollm2-135m`, `sft-kit/tiny-qwen2`).",
    )
    model_type: str | None = Field(default=None, description="ms-swift's name of the architecture; usually found.")
    template: str | None = Field(default=None, description="ms-swift's chat template; usually follows from the model.")
    model_revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    use_hf: bool | None = Field(default=None, description="Hugging Face instead of ModelScope.")
    torch_dtype: Literal["bfloat16", "float16", "float32"] | None = Field(
        default=None, description="Type of the weights. bfloat16 on a GPU of 2020 or later; float32 on a CPU."
    )
    attn_impl: str | None = Field(default=None, description="Attention kernel: sdpa, flash_attn, eager.")
    adapters: Texts | None = Field(default=None, description="Adapters to go on training from.")
    quant_method: str | None = Field(default=None, description="Load the base quantised: bnb, hqq, eetq.")
    quant_bits: int | None = Field(default=None, description="Bits of the quantised base: 4 or 8 for bnb.")
    rope_scaling: str | dict[str, Any] | None = Field(
        default=None, description="Longer context: linear, dynamic, yarn."
    )
    hub_token: str | None = Field(default=None, description="Better: MODELSCOPE_API_TOKEN or HF_TOKEN.")
    check_model: bool | None = Field(
        default=None, description="Ask the hub for newer files. sft-kit turns it off for local directories."
    )

    # --- data ----------------------------------------------------------------------------------------------------
    dataset: Texts | None = Field(
        default=None, description="Files, folders or hub ids; `id:subset#N` takes N rows. Identity rows are added."
    )
    val_dataset: Texts | None = Field(default=None, description="Validation data: files, folders or hub ids.")
    split_dataset_ratio: float | None = Field(default=None, ge=0, le=1, description="Share kept for validation.")
    data_seed: int | None = Field(default=None, description="Seed of the data order; `seed` when left out.")
    dataset_num_proc: int | None = Field(default=None, ge=1, description="Processes that prepare the data.")
    dataset_shuffle: bool | None = Field(default=None, description="Shuffle the data set once when loading.")
    load_from_cache_file: bool | None = Field(default=None, description="Reuse data prepared by an earlier run.")
    strict: bool | None = Field(default=None, description="Stop at a bad row instead of dropping it.")
    streaming: bool | None = Field(default=None, description="Read the data while training; needs `max_steps`.")
    model_name: Texts | None = Field(default=None, description="Fills {{NAME}} in `swift/self-cognition`: zh, en.")
    model_author: Texts | None = Field(default=None, description="Fills {{AUTHOR}} in `swift/self-cognition`: zh, en.")
    system: str | None = Field(default=None, description="System prompt of rows that bring none.")
    max_length: int | None = Field(default=None, ge=1, description="Longest row in tokens; longer ones are dropped.")
    truncation_strategy: Literal["delete", "left", "right", "split"] | None = Field(
        default=None, description="What to do with rows over `max_length`; ms-swift deletes them."
    )
    packing: bool | None = Field(default=None, description="Pack short rows together; needs flash attention.")
    padding_free: bool | None = Field(default=None, description="No padding inside a batch; needs flash attention.")
    loss_scale: str | None = Field(default=None, description="Which tokens count in the loss, and how much.")

    # --- tuner ---------------------------------------------------------------------------------------------------
    tuner_type: str | None = Field(default=None, description="lora, full, ... (`train_type` in ms-swift 3.x).")
    lora_rank: int | None = Field(default=None, ge=1, description="Rank of the LoRA matrices; ms-swift: 8.")
    lora_alpha: int | None = Field(default=None, ge=1, description="LoRA scale is alpha / rank; ms-swift: 32.")
    lora_dropout: float | None = Field(default=None, ge=0, le=1, description="Dropout on the LoRA input.")
    lora_dtype: str | None = Field(default=None, description="Type of the LoRA weights; float32 when left out.")
    use_rslora: bool | None = Field(default=None, description="Scale by alpha / sqrt(rank).")
    use_dora: bool | None = Field(default=None, description="Weight-decomposed LoRA.")
    target_modules: Texts | None = Field(default=None, description="Modules with LoRA: all-linear, or names.")
    modules_to_save: Texts | None = Field(default=None, description="Modules trained in full beside LoRA.")
    freeze_llm: bool | None = Field(default=None, description="Multimodal models: leave the language model as it is.")
    freeze_vit: bool | None = Field(default=None, description="Multimodal models: leave the vision tower as it is.")

    # --- optimisation --------------------------------------------------------------------------------------------
    num_train_epochs: float | None = Field(default=None, gt=0, description="Passes over the data; ms-swift: 3.")
    max_steps: int | None = Field(default=None, description="Optimizer steps; beats `num_train_epochs`.")
    per_device_train_batch_size: Annotated[int, Field(ge=1)] | Auto | None = Field(
        default=None, description="Rows a GPU takes at once (micro-batch), or auto."
    )
    per_device_eval_batch_size: int | None = Field(default=None, ge=1, description="The same for validation.")
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | Auto | None = Field(
        default=None, description="Micro-batches per optimizer step, or auto; ms-swift aims at 16 rows a step."
    )
    group_by_length: bool | None = Field(
        default=None, description="Rows of like length in one batch: less padding, a little less random."
    )
    gradient_checkpointing: bool | None = Field(default=None, description="Recompute activations to save memory.")
    learning_rate: float | None = Field(default=None, gt=0, description="ms-swift: 1e-4 for LoRA, 1e-5 for full.")
    lr_scheduler_type: str | None = Field(default=None, description="cosine, linear, constant, ...")
    warmup_ratio: float | None = Field(default=None, ge=0, le=1, description="Share of steps that warm up.")
    warmup_steps: float | None = Field(default=None, ge=0, description="Steps that warm up.")
    weight_decay: float | None = Field(default=None, ge=0, description="AdamW weight decay; ms-swift: 0.1.")
    max_grad_norm: float | None = Field(default=None, ge=0, description="Gradients are clipped to this norm.")
    optim: str | None = Field(default=None, description="Optimizer, such as adamw_torch_fused.")
    adam_beta1: float | None = Field(default=None, ge=0, lt=1, description="AdamW beta 1.")
    adam_beta2: float | None = Field(default=None, ge=0, lt=1, description="AdamW beta 2; ms-swift: 0.95.")
    neftune_noise_alpha: float | None = Field(default=None, ge=0, description="Noise on the embeddings.")
    use_liger_kernel: bool | None = Field(default=None, description="Fused kernels; needs liger-kernel and CUDA.")
    deepspeed: str | dict[str, Any] | None = Field(default=None, description="zero2, zero3, ... or a JSON file.")
    seed: int | None = Field(default=None, description="Seed of everything; ms-swift: 42.")
    use_cpu: bool | None = Field(default=None, description="Train on the CPU even where there is a GPU.")

    # --- saving, validating, logging -----------------------------------------------------------------------------
    output_dir: str = Field(default="output", description="Each run gets its own `v<N>-<date>` below it.")
    add_version: bool | None = Field(default=None, description="false: `output_dir` itself is the run directory.")
    resume_from_checkpoint: str | None = Field(default=None, description="A checkpoint with optimizer state.")
    save_strategy: Literal["no", "steps", "epoch", "best"] | None = Field(default=None, description="When to save.")
    save_steps: float | None = Field(default=None, gt=0, description="Steps between checkpoints; ms-swift: 500.")
    save_total_limit: int | None = Field(default=None, ge=1, description="Checkpoints to keep.")
    save_only_model: bool | None = Field(default=None, description="No optimizer state: smaller, not resumable.")
    eval_strategy: Literal["no", "steps", "epoch"] | None = Field(default=None, description="When to validate.")
    eval_steps: float | None = Field(default=None, gt=0, description="Steps between validations.")
    metric_for_best_model: str | None = Field(default=None, description="What `best` means; loss.")
    logging_steps: float | None = Field(default=None, gt=0, description="Steps between log lines; ms-swift: 5.")
    logging_first_step: bool | None = Field(default=None, description="Log the first step too.")
    report_to: Texts | None = Field(default=None, description="tensorboard, wandb, swanlab, none.")
    run_name: str | None = Field(default=None, description="Name shown by the tracker.")
    dataloader_num_workers: int | None = Field(default=None, ge=0, description="Processes that feed the GPU.")

    def swift_values(self) -> Mapping[str, Any]:
        """What ms-swift is told: every key that was given and is not sft-kit's own, 4.x names, in the file's order."""
        given = {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}
        given |= self.model_extra or {}
        return {key: value for key, value in given.items() if key not in OwnKeys and value is not None}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a config, for editors; unknown keys are left to the installed ms-swift."""
    schema = RunConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sft-kit run config"} | schema
