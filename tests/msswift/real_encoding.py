"""Run as a child: rows as ms-swift's own training pipeline encodes them, and its template registry, as JSON.

Reads `{"runs": [ARGV of swift sft, ...]}` on stdin. For each run `SwiftSft` loads, preprocesses, filters and encodes
the data set as for training; only the model's weights, which the directories lack, are not loaded.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import swift

    new = int(swift.__version__.split(".")[0]) >= 4
    if new:
        from swift.model import MODEL_MAPPING
        from swift.model.model_meta import get_matched_model_meta
        from swift.pipelines.train.sft import SwiftSft
        from swift.template import TEMPLATE_MAPPING, get_template_meta
    else:
        from swift.llm import MODEL_MAPPING, TEMPLATE_MAPPING
        from swift.llm.model.register import get_matched_model_meta
        from swift.llm.train.sft import SwiftSft

    class WithoutWeights(SwiftSft):
        def _prepare_model_tokenizer(self, **kwargs) -> None:
            self.model, self.processor = self.args.get_model_processor(load_model=False)

    def encoded(argv: list) -> list:
        train, _ = WithoutWeights(argv)._prepare_dataset()
        rows = [train[index] for index in range(len(train))]
        return [[row["input_ids"], row["labels"], row.get("loss_scale")] for row in rows]

    def template_of(model: str) -> object:
        meta = get_matched_model_meta(model)
        if not new:
            return MODEL_MAPPING[meta.model_type].template
        try:
            return get_template_meta(None, meta).template_type
        except (ValueError, AttributeError):  # ambiguous; it looks for the directory's name to say so
            return None

    ids = [
        i for meta in MODEL_MAPPING.values() for g in meta.model_groups for m in g.models for i in [m.ms_model_id] if i
    ]
    answer = {
        "runs": [encoded(argv) for argv in json.load(sys.stdin)["runs"]],
        "templates": {name: template(meta) for name, meta in TEMPLATE_MAPPING.items()},
        "template_of": {model: template_of(model) for model in ids[::25]},
    }
    out.write(json.dumps(answer))
    out.close()


def template(meta) -> dict:
    names = ("prefix", "system_prefix", "prompt", "chat_sep", "suffix", "default_system", "auto_add_bos", "stop_words",
             "is_thinking", "non_thinking_prefix", "history_thinking_prefix")  # fmt: skip
    values = {name: getattr(meta, name) for name in names}
    values["system_prompt"] = meta.system_prompt if meta.is_post_system else None
    values["preserve_thinking"] = getattr(meta, "preserve_thinking", None)
    values["class_name"] = meta.template_cls.__name__
    return values


if __name__ == "__main__":
    main()
