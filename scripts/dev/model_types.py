"""Writes src/sft_kit/msswift/model_types_3_to_4.json: what became of the model types that ms-swift 4 no longer has.

    python scripts/dev/model_types.py SITE_PACKAGES_OF_3 SITE_PACKAGES_OF_4

For every model type that only the ms-swift in the first folder registers, the hub ids of its models are looked up in
the second: the types and templates they have there are its successors, most models first. Successors whose
architecture the old type did not declare are left out if others remain (a misplaced model must not decide). Templates
that only the first has are matched in the same way. Needs sft-kit on the path, and imports neither ms-swift.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from sft_kit.msswift.install import find_installation
from sft_kit.msswift.model_types import ModelTypeInfo, RegisteredModel, model_types

OUT = Path(__file__).parents[2] / "src" / "sft_kit" / "msswift" / "model_types_3_to_4.json"


def main(old_site: str, new_site: str) -> None:
    old_installation, new_installation = find_installation(Path(old_site)), find_installation(Path(new_site))
    old, new = model_types(old_installation), model_types(new_installation)
    by_id = {key: place for place in places(new) for key in place[2]}
    successors: dict[str, dict[str, object]] = {}
    lost: list[str] = []
    template_votes: dict[str, Counter[str]] = {}
    new_templates = {template for info in new.values() for template in info.templates}
    for name, info in old.items():
        votes: Counter[tuple[str, str]] = Counter()
        for model in info.models:
            found = {by_id[key][:2] for key in ids(model) if key in by_id}
            votes.update(found)
            if model.template and model.template not in new_templates:
                template_votes.setdefault(model.template, Counter()).update(template for _, template in found)
        if name not in new:
            fitting = [k for k, _ in votes.most_common() if set(new[k[0]].architectures) & set(info.architectures)]
            chosen = fitting or [k for k, _ in votes.most_common()]
            became = [
                {"model_type": t, "template": template, "architectures": list(new[t].architectures)}
                for t, template in chosen
            ]
            successors[name] = {"architectures": list(info.architectures), "became": became}
            lost += [] if became else [name]
    content = {
        "about": {
            "what": "ms-swift 3.x model types and templates that 4.x does not have, and what they became",
            "made_by": "scripts/dev/model_types.py, by the hub ids that both versions register",
            "from": old_installation.version,
            "to": new_installation.version,
        },
        "only_in_3": successors,
        "only_in_4": [name for name in new if name not in old],
        "templates": {k: v.most_common(1)[0][0] for k, v in sorted(template_votes.items()) if len(v) == 1},
    }
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{OUT.name}: {len(successors)} model types, {len(lost)} without successor {lost}")


def places(types: Mapping[str, ModelTypeInfo]) -> Iterator[tuple[str, str, list[str]]]:
    for name, info in types.items():
        for model in info.models:
            yield name, model.template or "", ids(model)


def ids(model: RegisteredModel) -> list[str]:
    return [key for key in (model.ms_id, model.hf_id) if key]


if __name__ == "__main__":
    main(*sys.argv[1:])
