"""Run as a child: the model type and template that the real ms-swift gives, or how it refuses, as JSON on stdout.

Reads `[[directory, model_type or null, template or null], ...]` on stdin; no weights are needed. Each answer is
`[model_type, template, trouble, candidates]`, `trouble` in the words of `sft_kit.msswift.model_choice`.
"""

from __future__ import annotations

import json
import re
import sys


def main() -> None:
    import swift

    if int(swift.__version__.split(".")[0]) >= 4:
        from swift.model.model_meta import get_model_info_meta
        from swift.template import get_template_meta

        def template_of(info, meta, given):
            return get_template_meta(info, meta, template_type=given).template_type
    else:
        from swift.llm import TEMPLATE_MAPPING
        from swift.llm.model.register import get_model_info_meta

        def template_of(info, meta, given):
            name = given or meta.template  # TemplateArguments.__post_init__
            if name not in TEMPLATE_MAPPING:
                raise ValueError(f"template_type: '{name}' not in")
            return name

    answers = []
    for directory, model_type, template in json.load(sys.stdin):
        kind = None
        try:
            info, meta = get_model_info_meta(directory, model_type=model_type)
            kind = info.model_type
            answers.append([kind, template_of(info, meta, template), "", []])
        except Exception as error:
            answers.append([kind, None, *trouble(str(error))])
    print("\n" + json.dumps(answers))


def trouble(message: str) -> tuple[str, list[str]]:
    listed = re.search(r"(?:types found|`model_types` include): \[(.*?)\]", message)
    candidates = sorted(re.findall(r"'([^']+)'", listed[1])) if listed else []
    for said, name in (
        ("match `model_type`", "ambiguous-type"),
        ("no suitable `model_type`", "no-type"),
        ("match `template_type`", "ambiguous-template" if candidates else "no-template"),
    ):
        if said in message:
            return name, candidates
    unknown = re.match(r"(model|template)_type: '([^']+)' not in", message)
    return (f"unknown-{unknown[1].replace('model', 'type')}", [unknown[2]]) if unknown else (message, [])


if __name__ == "__main__":
    main()
