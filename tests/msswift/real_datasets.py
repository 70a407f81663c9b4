"""Run as a child: what the real ms-swift makes of data files, as JSON on stdout.

Reads `{"model": a directory, "sources": [[path, columns], ...]}` on stdin. Answers for each source in turn with
`{"failed": "Type: message"}`, or with `{"rows": [...]}`: the rows that its own `load_dataset` keeps, each as
`{"messages": [...], "refused": why its template does not encode it, or "", "trained": how many tokens carry loss}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    import datasets
    import swift

    asked = json.load(sys.stdin)
    if int(swift.__version__.split(".")[0]) >= 4:
        from swift import get_model_processor, get_template
        from swift.dataset import load_dataset

        _, processor = get_model_processor(asked["model"], model_type="qwen2", load_model=False)
        template = get_template(processor, template_type="qwen2_5")
    else:
        from swift.llm import get_model_tokenizer, get_template, load_dataset

        _, processor = get_model_tokenizer(asked["model"], model_type="qwen2", load_model=False)
        template = get_template("qwen2_5", processor)
    template.set_mode("train")
    # One process is what `sft` uses too; 4.x starts a pool of one for it, which takes most of the time here.
    processes = {"num_proc": None} if int(swift.__version__.split(".")[0]) >= 4 else {}
    datasets.disable_progress_bars()
    answers = []
    for path, columns in asked["sources"]:
        try:
            rows, _ = load_dataset(path, columns=columns, load_from_cache_file=False, **processes)
        except Exception as error:
            cause = f" <- {type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else ""
            answers.append({"failed": f"{type(error).__name__}: {error}{cause}"})
        else:
            answers.append({"rows": [{**encoded(template, row), "messages": row.get("messages")} for row in rows]})
    print("\n" + json.dumps(answers, default=str))  # ms-swift 3.x can keep a date as a message


def encoded(template: Any, row: dict[str, Any]) -> dict[str, Any]:
    try:
        labels = template.encode(row)["labels"]
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}", "trained": 0}
    return {"refused": "", "trained": sum(label >= 0 for label in labels)}


if __name__ == "__main__":
    main()
