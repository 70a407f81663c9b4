"""Why ms-swift failed, where what it was given is at fault: arguments, packages, model, data, checkpoints.

A table like `causes_machine`, and read after it. Beside each stands where its message is made.
"""

from __future__ import annotations

from sft_kit.msswift.cause import cause

_PLACE = r"swift/.*(?:loader|dataset|preprocessor|sft)\w*\.py"
_READING = r"Failed to (?:load JSON from|read) file '(?P<file>[^']+)'.*"  # datasets/packaged_modules
_COPY_AGAIN = "copy or download it again (compare size and sha256 with those of the hub)"

RUN = (
    # Arguments. swift/pipelines/base.py, swift/llm/base.py; argparse
    cause(
        "unknown-argument",
        r"remaining_argv: \[(?P<words>.*)\]",
        "this ms-swift has no such argument: {words}",
        "see the spelling, and the version in which it came or went (`sft-kit check` names the nearest)",
    ),
    cause(
        "wrong-value",
        r"^argparse: (?P<what>.*)",
        "ms-swift does not take this value: {what}",
        "correct the key in the config; `sft-kit check` finds it before a start",
    ),
    # transformers/training_args.py, accelerate/accelerator.py, torch/amp
    cause(
        "no-bf16",
        r"[Yy]our setup doesn't support bf16|bf16 mixed precision requires"
        r"|Current CUDA Device does not support bfloat16|not support bfloat16",
        "no GPU with bf16 here",
        "set torch_dtype: float16 on a card before Ampere (V100, T4, RTX 20), float32 on a CPU",
    ),
    cause(
        "no-fp16",
        r"fp16 mixed precision requires a (?:GPU|CUDA)|Attempting to unscale FP16 gradients",
        "fp16 cannot be trained like this",
        "set torch_dtype: float32 on a CPU; on a GPU torch_dtype: bfloat16, or fp16 with LoRA over a float32 model",
    ),
    # Packages. transformers/utils/import_utils.py, modeling_utils.py; flash-attention #975, bitsandbytes #1522
    cause(
        "flash-attention-broken",
        r"(?:flash_attn|flash_attn_2_cuda|rotary_emb|dropout_layer_norm)\S*(?:: undefined symbol|.*(?:GLIBC"
        r"|cannot open shared object))",
        "flash-attn was built for another torch or CUDA",
        "pip uninstall flash-attn, then install the wheel for this torch (`sft-kit doctor` shows it), or set "
        "attn_impl: sdpa",
    ),
    cause(
        "flash-attention-missing",
        r"FlashAttention\S* (?:has been toggled on|.*cannot be used)|package flash_attn seems"
        r"|No module named 'flash_attn|requires a flash attention implementation|flash-attn v?\S* is not installed"
        r"|flash_attn.* not (?:installed|available)",
        "flash-attn is not installed, or not for this machine",
        "set attn_impl: sdpa, or pip install flash-attn --no-build-isolation (CUDA cards from Ampere on)",
    ),
    cause(
        "bitsandbytes-broken",
        r"CUDA Setup failed despite|bitsandbytes.*(?:CUDA|GPU|compiled|libbitsandbytes|backend)|libbitsandbytes\S*"
        r"|None of the available devices `available_devices = None`|8-bit optimizer is not available",
        "bitsandbytes finds no GPU that it can use",
        "python -m bitsandbytes tells why; pip install -U bitsandbytes; on a CPU set no quant_method",
    ),
    cause(
        "bitsandbytes-missing",
        r"(?:requires|install|No package metadata was found for|No module named) .{0,60}bitsandbytes",
        "bitsandbytes is not installed, or too old",
        'pip install -U "bitsandbytes>=0.46.1"',
    ),
    cause(
        "deepspeed-missing",
        r"DeepSpeed is not installed|No module named 'deepspeed|requires DeepSpeed"
        r"|No package metadata was found for .*deepspeed",
        "deepspeed is not installed",
        "pip install deepspeed, or leave deepspeed out of the config (one GPU rarely needs it)",
    ),
    cause(
        "deepspeed-broken",
        r"(?:CUDA_HOME|nvcc|cpu_adam|fused_adam|async_io|op_builder|deepspeed).*(?:does not exist|not found"
        r"|undefined symbol|unable to compile|mismatch|error)|Error building extension '\w+'|MissingCUDAException"
        r"|CUDAMismatchException",
        "deepspeed cannot build its CUDA parts",
        "set CUDA_HOME to a CUDA toolkit of torch's version, and install gcc and ninja; or use deepspeed: zero2 "
        "without offload",
        where=r"deepspeed",
    ),
    cause(
        "liger-missing",
        r"liger[-_]kernel|No module named 'liger",
        "liger-kernel is not installed, or not for this torch and transformers",
        "pip install -U liger-kernel, or set use_liger_kernel: false",
    ),
    cause(
        "triton-broken",
        r"Triton Error|triton\.\S*(?:CompilationError|Error)|Failed to find C compiler|gcc.*(?:failed with exit code"
        r"|non-zero exit status)|Python\.h: No such file",
        "Triton cannot build its kernels here",
        "install gcc and the headers of Python (python3-dev); or set use_liger_kernel: false and no torch_compile",
    ),
    cause(
        "tracker-login",
        r"(?:wandb|swanlab).*(?:UsageError|AuthenticationError|api_key not configured|KeyFileError|not logged in|login)"
        r"|No API key configured",
        "the experiment tracker has no login",
        "set WANDB_API_KEY or SWANLAB_API_KEY, or report_to: tensorboard",
    ),
    # transformers/dynamic_module_utils.py, check_imports
    cause(
        "remote-code-missing",
        r"This modeling file requires the following packages.*: (?P<names>[\w, -]+?)\. Run",
        "the model's own code needs packages: {names}",
        "pip install {names}",
    ),
    cause(
        "missing-package",
        r"No module named '(?P<module>[\w.]+)'|requires (?:the )?[`']?(?P<package>[\w-]+)[`']? (?:to be|library"
        r"|package)[\w ]*installed|\b(?P<wanted>[\w-]{1,60}) is not installed"
        r"|No package metadata was found for (?:The ')?(?P<metadata>[\w-]+)"
        r"|not found in your environment: (?P<modules>[\w, ]+)|import of (?P<halted>[\w.]+) halted"
        r"|[Pp]lease `?pip install (?P<asked>[\w-]+)",
        "a Python package is missing: {module}{package}{wanted}{metadata}{modules}{halted}{asked}",
        "install it into ms-swift's own environment (`sft-kit doctor` names its Python): pip install "
        "{module}{package}{wanted}{metadata}{modules}{halted}{asked}",
    ),
    cause(
        "broken-package",
        r"^ImportError: (?P<what>cannot import name .*|.*: undefined symbol: .*|.*cannot open shared object file.*"
        r"|.*GLIBC\S* not found.*)|^AttributeError: (?P<lacks>(?:partially initialized )?module '[\w.]+' has no "
        r"attribute .*)|Failed to import (?P<failed>[\w.]+) because",
        "two packages do not fit each other: {what}{lacks}{failed}",
        "bring both to versions that ms-swift names (`pip check`; `sft-kit doctor` lists them); reinstall the one "
        "that is named",
    ),
    # Model. transformers: modeling_utils.py, configuration_auto.py; swift: model/model_meta.py, llm/model/register.py
    cause(
        "checkpoint-broken",
        r"JSONDecodeError|EOFError|UnpicklingError|PytorchStreamReader failed|SafetensorError: (?P<what>.*)",
        "a file of the checkpoint is cut or empty: {what}",
        "`sft-kit train --resume` takes the last complete checkpoint and sets this one aside",
        where=r"trainer_state|load_from_json|_load_optimizer_and_scheduler|_load_rng_state|_load_from_checkpoint",
    ),
    cause(
        "pickle-refused",
        r"Weights only load failed|Unsupported (?:global|operand)|vulnerability issue in `torch\.load`"
        r"|upgrade torch to at least v2\.6|weights_only",
        "a pickle file was refused: it could run code",
        "convert the model to safetensors (or take a copy that has it); load pickles only of those you trust, with "
        "torch 2.6 or later",
    ),
    cause(
        "weights-broken",
        r"SafetensorError: (?P<what>.*)|PytorchStreamReader failed|unexpected EOF, expected"
        r"|invalid load key, '(?P<key>.*)'\.|Unable to load weights from pytorch checkpoint file|not a ZIP archive"
        r"|header too large",
        "a file of weights is cut, or is no such file: {what}",
        f"{_COPY_AGAIN}; a file that begins with `version https://git-lfs` or `<html` is only its place: `git lfs "
        "pull`",
    ),
    cause(
        "model-too-new",
        r"model type `(?P<type>[^`]+)` but Transformers does not recognize|Unrecognized model in"
        r"|does not recognize this architecture|Unrecognized configuration class",
        "this transformers does not know the model's architecture {type}",
        "pip install -U transformers (in the range that ms-swift takes), or use a newer ms-swift; see model_type "
        "in config.json",
    ),
    cause(
        "ambiguous-template",
        r"match `template_type`|explicitly (?:pass|set|specify) the `?template",
        "several templates fit the model, or none",
        "set template to one of those that the log lists",
    ),
    cause(
        "ambiguous-model-type",
        r"Multiple possible types found|explicitly pass the `model_type`",
        "several model types fit the model",
        "set model_type to one of those that the log lists",
    ),
    cause(
        "unknown-model-type",
        r"model_type: '(?P<type>[^']+)' not in|is not supported because no suitable `model_type`",
        "this ms-swift has no model_type {type}",
        "`sft-kit check` names those that fit; 3.x and 4.x call some differently; a new model needs a newer ms-swift",
    ),
    cause(
        "unknown-template",
        r"template_type: '(?P<type>[^']+)' not in",
        "this ms-swift has no template {type}",
        "leave template out, or take one that ms-swift lists for the model",
    ),
    cause(
        "unknown-template",
        r"KeyError: '(?P<type>[^']+)'",
        "this ms-swift has no template {type}",
        "leave template out, or take one that ms-swift lists for the model",
        where=r"TEMPLATE_MAPPING\[",
    ),
    cause(
        "weights-missing",
        r"Error no file named|does not appear to have (?:a file|files) named .*(?:safetensors|bin)|checkpoint shard"
        r"|FileNotFoundError.*\.(?:safetensors|bin)'",
        "files of the model's weights are missing",
        "download the rest of the model (interrupted?); see model.safetensors.index.json for what belongs to it",
    ),
    cause(
        "tokenizer-missing",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|not a string.*vocab|(?:vocab_file"
        r"|tokenizer\.json|vocab\.json|tokenizer\.model).*(?:No such file|NoneType|not found)"
        r"|Unable to load vocabulary|'NoneType' object has no attribute 'endswith'",
        "the model's tokenizer is missing or incomplete",
        "copy tokenizer.json, tokenizer_config.json and what else is there from the base model into its directory",
    ),
    cause(
        "tokenizer-missing",
        r"^TypeError: (?:expected str, bytes or os\.PathLike object|stat: path should be string).*NoneType",
        "the model's tokenizer is missing or incomplete",
        "copy tokenizer.json, tokenizer_config.json and what else is there from the base model into its directory",
        where=r"tokenization_\w+\.py|vocab_file",
    ),
    cause(
        "tokenizer-broken",
        r"data did not match any variant of untagged enum|Tokenizer class (?P<class>\w+) does not exist|ModelWrapper"
        r"|Error while initializing BPE|'list' object has no attribute 'keys'",
        "this version cannot read the model's tokenizer {class}",
        "a tokenizer saved by transformers 5 needs transformers 5: take the one of the base model, or bring "
        "tokenizers and transformers up to date",
    ),
    cause(
        "tokenizer-broken",
        r"JSONDecodeError"
        r"|(?:Error|Exception): (?:EOF|expected|missing|trailing|invalid|unknown).* at line \d+ column \d+",
        "the model's tokenizer.json is cut or broken",
        f"{_COPY_AGAIN}",
        where=r"tokeniz",
    ),
    cause(
        "config-broken",
        r"not a valid JSON file|It looks like the config file at|JSONDecodeError",
        "a JSON file of the model is broken",
        f"{_COPY_AGAIN}",
        where=r"transformers/(?:configuration|tokenization|modeling|utils)|swift/.*model",
    ),
    cause(
        "no-target-modules",
        r"Target modules (?P<names>.*?) not found in the base model",
        "target_modules names no layer of this model: {names}",
        "set target_modules: all-linear, or names of `sft-kit check`",
    ),
    # models/trust.py: where transformers would put the code, there is a file
    cause(
        "remote-code",
        r"own-code-of-models-needs--trust-remote-code",
        "the model brings code of its own, and nobody has let it run",
        "read the model's *.py; then --trust-remote-code shows what will run, and lets it",
    ),
    # Data. swift/dataset/*.py, swift/llm/dataset/*.py; datasets/packaged_modules/json/json.py
    cause(
        "no-dataset",
        r"local path does not exist, dataset_id: `(?P<path>[^`]+)`|Couldn't find (?:a dataset script"
        r"|any data file) at (?P<hub>\S+)",
        "there is no data set {path}{hub}",
        "correct the path in dataset: it counts from the directory of the start; a hub's id is owner/name",
    ),
    cause(
        "no-rows",
        r"^ZeroDivisionError",
        "no row of the data was left: ms-swift knows none of its columns, or dropped every row",
        "rows need messages, or query and response; `sft-kit check` says what is wrong with each",
        where=r"sample_dataset|dataset_sample // len",
    ),
    cause(
        "no-rows",
        r"SchemaInferenceError",
        "a file of data has no rows",
        "write rows into it, or leave it out of dataset",
    ),
    cause(
        "rows-too-long",
        r"^AssertionError",
        "every row is longer than max_length, or cannot be encoded",
        "raise max_length, or truncation_strategy: left or right; `sft-kit check` counts; the log may warn of more",
        where=r"n_try_fetch >= 1",
    ),
    cause(
        "rows-too-long",
        r"'NoneType' object is not iterable|Failed to retrieve the dataset",
        "every row is longer than max_length, or cannot be encoded",
        "raise max_length, or truncation_strategy: left or right; `sft-kit check` counts; the log may warn of more",
        where=r"_show_dataset|_post_process_datasets|dataset/utils\.py",
    ),
    cause(
        "rows-too-long",
        r"MaxLengthError|Current length of row\((?P<length>\d+)\) is larger than the max_length\((?P<limit>\d+)\)",
        "a row is longer than max_length ({length} tokens, {limit} allowed)",
        "raise max_length, or truncation_strategy: left or delete",
    ),
    cause(
        "mixed-types",
        r"(?P<what>Column\(.*\) changed from .*)|ArrowInvalid: (?P<arrow>(?:Could not convert|cannot mix"
        r"|JSON .* type).*)|Couldn't cast|ArrowTypeError|CastError",
        "a column has values of different types: {file}: {what}{arrow}",
        "write each column as one type in every row (texts as texts); `sft-kit check` names the rows",
        beside=_READING,
    ),
    cause(
        "broken-json",
        r"JSON parse error: (?P<what>.*)|^(?:json\.decoder\.)?JSONDecodeError: (?P<row>.*)|Failed to read file .*",
        "a file of data is not JSON: {file}: {what}{row}",
        "`sft-kit check` names the file and the line; .jsonl has one object in each line, without commas between",
        where=r"datasets/|dataset|pyarrow",
        beside=_READING,
    ),
    cause(
        "broken-csv",
        r"Error tokenizing data\. C error: (?P<what>.*)|ParserError",
        "a CSV file has rows of different lengths: {file}: {what}",
        "put texts with commas into double quotes, or write .jsonl",
        beside=_READING,
    ),
    cause(
        "not-utf8",
        r"'utf-8' codec can't decode|UnicodeDecodeError|Invalid UTF8|invalid utf-8",
        "a text file is not UTF-8: {file}",
        "convert it: iconv -f gbk -t utf-8 OLD > NEW (Windows' editors write GBK or UTF-16)",
        beside=_READING,
    ),
    cause(
        "unknown-columns",
        r"^KeyError: '(?P<column>messages|query|response|instruction|output|conversations|images)'",
        "the data has no column {column}",
        "`sft-kit check` shows the columns and what ms-swift makes of them; rename with columns",
        where=_PLACE,
    ),
    cause(
        "bad-row",
        r"^AssertionError: (?:messages?|query|response|role|content)\b(?P<what>.*)|^(?:ValueError"
        r"|AssertionError): (?:rejected_response|Unsupported content)|^KeyError: '(?P<key>role|content)'",
        "a row is no conversation: {what}{key}",
        "`sft-kit check` names the row",
        where=_PLACE,
    ),
    # Checkpoints and output. torch/nn/modules/module.py, peft, transformers/trainer.py, swift/pipelines/export
    cause(
        "checkpoint-mismatch",
        r"size mismatch for (?P<name>\S+?):|ignore_mismatched_sizes|parameter group that doesn't match the size"
        r"|Missing key\(s\) in state_dict|Unexpected key\(s\) in state_dict|different number of parameter groups",
        "the weights do not fit the model: {name}",
        "use the same model, lora_rank and target_modules as the run that wrote them (`sft-kit train --resume` "
        "does), or start anew",
    ),
    cause(
        "checkpoint-missing",
        r"Can't find a valid checkpoint at (?P<path>.*)|No valid checkpoint found"
        r"|Can't find 'adapter_config\.json' at '(?P<adapter>[^']+)'|path: '(?P<other>[^']+)'(?: not found|$)",
        "there is no checkpoint at {path}{adapter}{other}",
        "give a checkpoint-N folder; `sft-kit runs show RUN` names the last one",
    ),
    cause(
        "output-exists",
        r"(?:save_path|output_dir|ckpt)\S*.*already exist|\[Errno 17\] File exists(?:: '(?P<path>[^']+)')?"
        r"|args\.save_path.*exist",
        "the output is there already {path}",
        "give another output_dir, or move the old one away",
    ),
    cause(
        "not-a-number",
        r"contains? (?:either `inf`, `nan`|nan|NaN|inf)|(?:returned|detected) nan values|[Ll]oss is nan"
        r"|Function '\w+' returned nan|probability tensor contains|Found inf/nan|non-?finite",
        "a value became NaN or infinite",
        "lower learning_rate, set max_grad_norm: 1.0 and torch_dtype: bfloat16; look for empty answers in the data",
    ),
    # torch/csrc/autograd
    cause(
        "nothing-trained",
        r"element 0 of tensors does not require grad",
        "no weight that the loss depends on is trained",
        "lower freeze_parameters_ratio, see trainable_parameters and target_modules; with gradient checkpointing try "
        "gradient_checkpointing_kwargs: '{{\"use_reentrant\": false}}'",
    ),
    cause(
        "not-supported",
        r"Template `(?P<template>[^`]+)` does not support (?P<what>padding free or packing)"
        r"|(?P<lazy>Packing and lazy_tokenize are incompatible)",
        "this does not go together: {template} {what}{lazy}",
        "leave packing (or padding_free, lazy_tokenize) out of the config",
    ),
    cause(
        "no-file",
        r"^(?:FileNotFoundError: )?\[Errno 2\] No such file or directory: '(?P<path>[^']+)'"
        r"|^FileNotFoundError: \[Errno 2\].*'(?P<named>[^']+)'",
        "there is no file {path}{named}",
        "correct the path; relative ones count from the directory of the start",
    ),
    cause(
        "interrupted",
        r"^KeyboardInterrupt",
        "it was interrupted (SIGINT, Ctrl-C)",
        "start it again; `sft-kit train --resume` goes on from the last checkpoint",
    ),
)
