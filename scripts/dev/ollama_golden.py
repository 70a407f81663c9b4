#!/usr/bin/env python3
"""Write tests/run/data/ollama.json: what Go renders of the TEMPLATE that sft-kit writes for each chat template.

    python scripts/dev/ollama_golden.py        # needs `go` (any version since 1.18), no network

It fails where Go and transformers (`apply_chat_template`) do not render the same. Run it when `Pieces.go_template`, the
conversations or the chat templates under tests/run/data change; the test compares its output with what the chat
templates render.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.run.chat_templates import chat_templates  # noqa: E402

from sft_kit.msswift.chat_template import ChatTemplate  # noqa: E402
from sft_kit.run.ollama import learn, tried  # noqa: E402

GOLDEN = ROOT / "tests" / "run" / "data" / "ollama.json"


def main() -> None:
    tasks: dict[str, dict[str, Any]] = {}
    templates = chat_templates()
    for name, template in templates.items():
        pieces = learn(template)
        if pieces is None:
            sys.exit(f"{name}: cannot be learned")
        tasks[name] = {"template": pieces.go_template(), "conversations": tried(pieces)}
    program = str(Path(__file__).with_name("render_template.go"))
    ran = subprocess.run(["go", "run", program], input=json.dumps(tasks), capture_output=True, text=True, check=True)
    rendered = json.loads(ran.stdout)
    for name, template in templates.items():
        if rendered[name] != [by_transformers(template, messages) for messages in tasks[name]["conversations"]]:
            sys.exit(f"{name}: Go and transformers differ")
    golden = {name: {"template": tasks[name]["template"], "rendered": rendered[name]} for name in sorted(tasks)}
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def by_transformers(template: ChatTemplate, messages: list[dict[str, str]]) -> str:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **template.tokens)
    options = {"chat_template": template.source, "tokenize": False, "add_generation_prompt": True}
    return str(tokenizer.apply_chat_template(messages, **options))


if __name__ == "__main__":
    main()
