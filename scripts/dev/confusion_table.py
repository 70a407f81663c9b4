"""Prints how the scorer's labels compare with a reader's, as Markdown; tests/evaluate/golden/README.md.

    python scripts/dev/confusion_table.py [--errors]

First precision and recall of each label on the held-back answers, whose errors nobody looks at, then which label the
scorer gave in place of the reader's. `--errors` lists the errors among the development answers instead: those are the
ones to write rules for. Needs sft-kit on the path; takes about two seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from sft_kit.evaluate.score import Label

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.evaluate.golden import answers, confusion, precision_and_recall

LABELS: tuple[Label, ...] = get_args(Label)
PARTS = ("development", "held-back")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", action="store_true", help="list the errors among the development answers")
    print("\n".join(errors() if parser.parse_args().errors else table()))


def table() -> list[str]:
    pairs = confusion("held-back")
    lines = ["| label | development | held-back | precision | recall |", "|---|---:|---:|---:|---:|"]
    figures = [precision_and_recall(pairs, label) for label in LABELS]
    for label, (precision, recall) in zip(LABELS, figures, strict=True):
        counts = [sum(one.label == label and one.part == part for one in answers()) for part in PARTS]
        lines.append(f"| {label} | {counts[0]} | {counts[1]} | {precision:.3f} | {recall:.3f} |")
    totals = [sum(one.part == part for one in answers()) for part in PARTS]
    means = [sum(values) / len(values) for values in zip(*figures, strict=True)]
    lines.append(f"| all, mean | {totals[0]} | {totals[1]} | {means[0]:.3f} | {means[1]:.3f} |")
    wrong = {pair: count for pair, count in sorted(pairs.items()) if pair[0] != pair[1]}
    lines += ["", f"{sum(wrong.values())} of {totals[1]} held-back answers are judged otherwise than by a reader:", ""]
    return lines + [f"- {read} taken for {scored}: {count}" for (read, scored), count in wrong.items()]


def errors() -> list[str]:
    judged = [(one, one.judged()) for one in answers() if one.part == "development"]
    return [
        f"- {one.id}: {one.question} -> {one.answer!r}: {one.label}, judged {verdict.label} {verdict.detail}".rstrip()
        for one, verdict in judged
        if one.label != verdict.label
    ]


if __name__ == "__main__":
    main()
