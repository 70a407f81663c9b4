"""What preview shows and what `Lengths` counts, against the rows that ms-swift's own training pipeline encodes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from sft_kit.errors import MsSwiftError
from sft_kit.msswift.encode import EncodedModel, EncodedRow, Piece, encode
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.lengths import lengths_of
from tests.msswift.encoded_rows import models, previewed_and_real
from tests.msswift.rows_to_encode import RUNS, rows

# ---------------------------------------------------------------- without ms-swift

MODEL = {
    "model": "m", "model_type": "qwen2", "template": "qwen2_5", "template_default": "You are Qwen.", "system": "Hi.",
    "takes_system": True, "empty_thought": "", "max_length": 9, "truncation_strategy": "delete",
    "loss_scale": "default",
}  # fmt: skip
ROW = {"fate": "kept", "length": 3, "input_ids": [1, 2, 3], "labels": [-100, 2, 3], "loss_scale": None}


def stand_in(tmp_path: Path, body: str, *, text: bool = True) -> tuple[subprocess.Popen[Any], Path]:
    """A process that answers as `body` says, and its log."""
    log = tmp_path / "encode.log"
    script = f"import json, sys\nrequest = json.loads(sys.stdin.readline())\nMODEL, ROW = {MODEL!r}, {ROW!r}\n"
    script += "def send(**reply): print(json.dumps(reply), flush=True)\n" + textwrap.dedent(body)
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=text
        )
    return process, log


@pytest.mark.parametrize("text", [True, False])
def test_rows_and_arguments_reach_the_worker_and_come_back_as_values(tmp_path: Path, text: bool) -> None:
    echo = """
        piece = dict(text=json.dumps(request, ensure_ascii=False), trained=True, special=False, tokens=2, weight=1.0)
        send(model=MODEL, rows=[dict(ROW, pieces=[piece], without_system=1), dict(error="ValueError: no")])
    """
    process, log = stand_in(tmp_path, echo, text=text)
    row = {"role": "user", "content": "你好"}
    (model,) = encode(process, [["--model", "m"]], [[row], [row]], [0], log=log)
    asked = json.dumps({"models": [["--model", "m"]], "rows": [[row], [row]], "show": [0]}, ensure_ascii=False)
    shown = EncodedRow("kept", 3, (1, 2, 3), (-100, 2, 3), None, (Piece(asked, True, False, 2, 1.0),), without_system=1)
    assert model == EncodedModel(**MODEL, rows=(shown, EncodedRow(error="ValueError: no")))  # type: ignore[arg-type]
    assert shown.trained == 2


def test_a_model_without_a_template_is_an_error_in_its_place_and_the_next_one_follows(tmp_path: Path) -> None:
    process, log = stand_in(tmp_path, "send(error='OSError: no tokenizer'); send(model=MODEL, rows=[])")
    first, second = encode(process, [["a"], ["b"]], [], [], log=log)
    assert isinstance(first, MsSwiftError)
    assert str(first) == f"ms-swift: OSError: no tokenizer; its whole output: {log}"
    assert second == EncodedModel(**MODEL, rows=())  # type: ignore[arg-type]


def test_a_worker_that_dies_is_told_with_its_exception(tmp_path: Path) -> None:
    process, log = stand_in(tmp_path, "send(model=MODEL, rows=[]); raise ValueError('torn')")
    with pytest.raises(MsSwiftError) as death:
        list(encode(process, [["a"], ["b"]], [], [], log=log))
    how = "ms-swift failed while encoding rows for model 2 of 2 (exit code 1)"
    assert death.value.problems[0].message == f"{how}: sft-kit does not know this failure: ValueError: torn"
    assert death.value.problems[0].fix.endswith(f"| ValueError: torn\n  its whole output: {log} (line 2)")


# ---------------------------------------------------------------- with the real ms-swift


@pytest.mark.real
@pytest.mark.parametrize("run", RUNS)
def test_preview_encodes_every_row_as_training_does(run: str) -> None:
    previewed, real = previewed_and_real()
    ours = [
        [list(row.input_ids), list(row.labels), None if row.loss_scale is None else list(row.loss_scale)]
        for row in previewed[run].rows
        if not row.error and row.fate in ("kept", "truncated")
    ]
    assert len(ours) > 50
    assert ours == real["runs"][run]


@pytest.mark.real
@pytest.mark.parametrize("run", RUNS)
def test_lengths_without_ms_swift_are_those_of_every_row(run: str) -> None:
    shape, model_type, options = RUNS[run]
    given = {
        key: {"false": False}.get(value, int(value) if value.isdigit() else value) for key, value in options.items()
    }
    folder = models()[shape]
    lengths = lengths_of(find_installation(), str(folder), folder, {"model_type": model_type, **given})
    talks = [[(message["role"], message["content"]) for message in row] for row in rows()]
    model = previewed_and_real()[0][run]
    encoded = [(talk, row) for talk, row in zip(talks, model.rows, strict=True) if not row.error]
    assert (lengths.exact, lengths.why, lengths.max_length) == (True, "", model.max_length)
    assert all(lengths.covers(talk) for talk, _ in encoded)
    counted = lengths.count_many([talk for talk, _ in encoded], options.get("system"))
    assert counted == [row.length for _, row in encoded]
    assert lengths.count(encoded[0][0], options.get("system")) == counted[0]


@pytest.mark.real
def test_the_rows_are_many_and_meet_every_fate() -> None:
    previewed, _ = previewed_and_real()
    assert len(rows()) * len(RUNS) > 1500
    fates = {row.fate for model in previewed.values() for row in model.rows}
    assert fates == {"kept", "dropped", "truncated"}


@pytest.mark.real
def test_the_pieces_of_a_row_are_its_text_with_trained_and_special_parts_apart() -> None:
    model = previewed_and_real()[0]["qwen2.5"]
    assert [(piece.text, piece.trained, piece.special) for piece in model.rows[0].pieces] == [
        ("<|im_start|>", False, True),
        ("system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.", False, False),
        ("<|im_end|>", False, True),
        ("\n", False, False),
        ("<|im_start|>", False, True),
        ("user\n你是谁？", False, False),
        ("<|im_end|>", False, True),
        ("\n", False, False),
        ("<|im_start|>", False, True),
        ("assistant\n", False, False),
        ("我是精衡，由叶博韬开发。", True, False),
        ("<|im_end|>", True, True),
        ("\n", True, False),
    ]
    assert sum(piece.tokens for piece in model.rows[0].pieces) == model.rows[0].length


@pytest.mark.real
def test_the_description_tells_which_system_prompt_is_in_force() -> None:
    model = previewed_and_real()[0]["qwen2.5 to the left"]
    default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    told = (model.template, model.template_default, model.system, model.max_length, model.truncation_strategy)
    assert told == ("qwen2_5", default, "Be\nbrief.", 200, "left")
