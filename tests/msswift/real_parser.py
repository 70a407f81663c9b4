"""Run as a child: what the real ms-swift says of its arguments and model types, as JSON on stdout.

Reads `[[verb, [word, ...]], ...]` on stdin and answers for each whether the real parser takes those words.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from enum import Enum


def main() -> None:
    import swift

    if int(swift.__version__.split(".")[0]) >= 4:
        from swift.arguments import DeployArguments, ExportArguments, InferArguments, SftArguments
        from swift.model import MODEL_MAPPING
    else:
        from swift.llm import MODEL_MAPPING, DeployArguments, ExportArguments, InferArguments
        from swift.llm import TrainArguments as SftArguments
    from swift.utils import utils
    from transformers import HfArgumentParser

    classes = {"sft": SftArguments, "infer": InferArguments, "export": ExportArguments, "deploy": DeployArguments}
    with utils._patch_get_type_hints():  # as swift.utils.parse_args builds it
        parsers = {verb: HfArgumentParser([cls]) for verb, cls in classes.items()}
    answer = {
        "arguments": {verb: [row(a) for a in parser._actions if stores(a)] for verb, parser in parsers.items()},
        "accepted": [accepts(parsers[verb], words) for verb, words in json.load(sys.stdin)],
        "model_types": {name: model_type(meta) for name, meta in MODEL_MAPPING.items()},
        "words": word_tables(int(swift.__version__.split(".")[0])),
    }
    print("\n" + json.dumps(answer))


def stores(action) -> bool:
    return type(action).__name__ == "_StoreAction"


def row(action) -> list:
    """name, kind, choices, many: what sft-kit's Argument says of it."""
    names = {"string_to_bool": "bool", "int": "int", "float": "float", "str": "str", "Path": "str", "<lambda>": "str"}
    choices = None if action.choices is None else [str(choice) for choice in action.choices]
    kind = names.get(getattr(action.type, "__name__", ""), "object")
    if isinstance(action.type, type) and issubclass(action.type, Enum):
        kind, choices = "str", [member.value for member in action.type]
    return [action.dest, kind, choices, action.nargs == "+"]


def accepts(parser, words: list) -> bool:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            _, rest = parser.parse_known_args(words)
    except SystemExit:
        return False
    return not rest


def model_type(meta) -> list:
    templates = meta.candidate_templates if hasattr(meta, "candidate_templates") else [meta.template]  # 4.x, 3.x
    models = [
        [model.ms_model_id, model.hf_model_id, getattr(group, "template", None) or meta.template]
        for group in meta.model_groups
        for model in group.models
    ]
    return [templates, meta.architectures, models]


def word_tables(generation: int) -> dict:
    """The words that arguments take which the parser takes as any text; an empty list: this generation has none."""
    if generation >= 4:
        from swift.agent_template import agent_template_map as agent
        from swift.arguments.base_args.base_args import get_supported_tuners
        from swift.callbacks import callbacks_map as callbacks
        from swift.loss import loss_map as loss
        from swift.loss_scale.base import ALL_BASE_STRATEGY as bases
        from swift.loss_scale.mapping import loss_scale_map as scales
        from swift.metrics import eval_metrics_map as metrics
        from swift.optimizers.mapping import optimizers_map as optimizers
        from swift.template import TEMPLATE_MAPPING as templates
    else:
        from swift.llm import TEMPLATE_MAPPING as templates
        from swift.llm.argument.base_args.base_args import get_supported_tuners
        from swift.plugin.agent_template import agent_templates as agent
        from swift.plugin.loss import loss_mapping as loss
        from swift.plugin.loss_scale.loss_scale import ALL_BASE_STRATEGY as bases
        from swift.plugin.loss_scale.loss_scale import loss_scale_map as scales
        from swift.plugin.metric import metric_mapping as metrics
        from swift.plugin.optimizer import optimizers_map as optimizers

        callbacks = {}
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.trainer_utils import SchedulerType

    return {
        "agent_template": list(agent),
        "attn_impl": ["flash_attn", "eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()],
        "callbacks": list(callbacks),
        "eval_metric": list(metrics),
        "loss_scale": list(scales),
        "loss_scale_base": list(bases),
        "loss_type": list(loss),
        "lr_scheduler_type": [each.value for each in SchedulerType],
        "optimizer": list(optimizers),
        "report_to": [*INTEGRATION_TO_CALLBACK, "all", "none"],
        "template": list(templates),
        "tuner_type": list(get_supported_tuners()),
    }


if __name__ == "__main__":
    main()
