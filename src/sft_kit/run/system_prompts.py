"""The system prompts under which identity questions are asked: the vendor's own default, and the trained one.

Owns where they are looked for: the chat template that comes with a model, and gives its users their default everywhere,
before what ms-swift registers for it. Does not own how a template is read (`msswift.chat_template`, `templates`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sft_kit.msswift.chat_template import NotEditable, default_system, read_chat_template
from sft_kit.msswift.hub import cached_model, uses_hugging_face
from sft_kit.msswift.install import Installation
from sft_kit.msswift.model_choice import template_of
from sft_kit.msswift.templates import dated, templates
from sft_kit.resources import user_path


def prompts_of(installation: Installation, base: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """(vendor's default, trained) system prompts of a model trained on `base`, which is what `swift infer` is given to
    load that. The vendor's is None where there is none; the trained one "" for none, None where it is not known."""
    name = str(base.get("model") or "")
    folder: Path | None = user_path(name) if name else None
    if folder is not None and not folder.is_dir():
        folder = cached_model(name, hugging_face=uses_hugging_face(base.get("use_hf"), os.environ))
    registered = _registered(installation, base, folder)
    given = base.get("system")
    return (_own(folder) if folder else None) or registered or None, registered if given is None else str(given)


def _own(folder: Path) -> str | None:
    """The default of the model's own chat template."""
    template = read_chat_template(folder)
    try:
        return default_system(template) if template else None
    except NotEditable:  # it takes no system prompt, or cannot be rendered here
        return None


def _registered(installation: Installation, base: Mapping[str, Any], folder: Path | None) -> str | None:
    """The default of the template that ms-swift gives the model; None where it is not known which that is."""
    model, kind = str(base.get("model") or ""), base.get("model_type")
    name = template_of(installation, model, model_type=kind, template=base.get("template"), folder=folder)
    template = templates(installation).get(str(name))
    return dated(template.default_system or "", datetime.now()) if template else None
