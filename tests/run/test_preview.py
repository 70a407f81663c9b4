"""How preview draws rows, from values as ms-swift's encoding gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sft_kit.config.schema import RunConfig
from sft_kit.msswift.encode import EncodedModel, EncodedRow, Piece
from sft_kit.run.preview import Sample, Summary, drawn, marked_lines, notes_of, summary_of, table_row


def piece(text: str, *, trained: bool = False, special: bool = False, weight: float | None = None) -> Piece:
    return Piece(text, trained, special, 1 if special else 3, float(trained) if weight is None else weight)


def row_of(*pieces: Piece, **values: object) -> EncodedRow:
    """An encoded row of these pieces; ids and labels have their numbers of tokens."""
    ids = tuple(range(sum(each.tokens for each in pieces)))
    labels = tuple(7 if each.trained else -100 for each in pieces for _ in range(each.tokens))
    row = EncodedRow(length=len(ids), input_ids=ids, labels=labels, pieces=pieces, without_system=4)
    return replace(row, **values)  # type: ignore[arg-type]


START, END = piece("<|im_start|>", special=True), piece("<|im_end|>", special=True)
ROW = row_of(
    START, piece("system\nYou are Qwen."), END, piece("\n"), START, piece("user\n你是谁？"), END, piece("\n"),
    START, piece("assistant\n"), piece("我是精衡。", trained=True), replace(END, trained=True, weight=1.0),
    piece("\n", trained=True),
)  # fmt: skip
MODEL = EncodedModel(
    model="/models/q", model_type="qwen2", template="qwen2_5", template_default="You are Qwen.", system="You are Qwen.",
    takes_system=True, empty_thought="", max_length=2048, truncation_strategy="delete", loss_scale="default",
    rows=(ROW,),
)  # fmt: skip
SAMPLE = Sample("identity", "row 1 of 60", (("user", "你是谁？"), ("assistant", "我是精衡。")), shown=True)
CONFIG = RunConfig(model="Qwen/Q")


def text_of(lines: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def test_a_row_is_drawn_with_its_trained_part_in_brackets() -> None:
    assert text_of(drawn("Qwen/Q", MODEL, [SAMPLE], CONFIG)) == (
        """
Qwen/Q  template qwen2_5

identity, row 1 of 60: 27 tokens, 7 trained
system prompt: the template's own, 23 tokens; without it the row has 4
  <|im_start|>system⏎
  You are Qwen.<|im_end|>⏎
  <|im_start|>user⏎
  你是谁？<|im_end|>⏎
  <|im_start|>assistant⏎
  ⟦我是精衡。<|im_end|>⏎⟧

1 row counted: 27/27/27 tokens (least/median/most), 26% trained
over max_length 2,048: none"""
    )


def test_what_is_trained_and_special_has_colours_of_its_own() -> None:
    *_, last = marked_lines(ROW.pieces)
    assert last == [
        ("⟦", "bracket"), ("我是精衡。", "trained"), ("<|im_end|>", "special"), ("⏎", "trained"), ("⟧", "bracket")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([piece("a\n"), piece(" b \nc\t\n", trained=True)], "a⏎\n⟦␣b␣⏎⟧\n⟦c⇥⏎⟧"),
        ([piece("ask "), piece("answer", trained=True), piece(" more")], "ask␣⟦answer⟧ more"),
        ([piece("\n\n"), piece("x", trained=True)], "⏎\n⏎\n⟦x⟧"),
        ([piece("a", trained=True), piece("call", trained=True, weight=2.0)], "⟦a⟧⟦×2 call⟧"),
        ([piece("a\u2028b\x0bc", trained=True)], "⟦a\u2028b\x0bc⟧"),
        ([piece("a\u202eb\u200bc")], "a⟨U+202E⟩b⟨U+200B⟩c"),
        ([piece("x" * 1000)], "x" * 400 + " … 200 characters … " + "x" * 400),
    ],
)
def test_line_ends_edges_and_weights_are_visible(pieces: list[Piece], expected: str) -> None:
    assert text_of(marked_lines(pieces)) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            replace(ROW, fate="dropped", length=9000),
            "9,000 tokens, over max_length 2,048: DROPPED, nothing of it is trained",
        ),
        (
            replace(ROW, fate="truncated", length=9000),
            "9,000 tokens, 7 trained, over max_length 2,048: cut, 27 tokens stay",
        ),
        (EncodedRow(error="AssertionError: no"), "ms-swift cannot encode it and will leave it out: AssertionError: no"),
    ],
)
def test_what_becomes_of_a_row_is_said_beside_it(row: EncodedRow, expected: str) -> None:
    lines = drawn("Qwen/Q", replace(MODEL, rows=(row,)), [SAMPLE], CONFIG)
    assert text_of([lines[3]]) == f"identity, row 1 of 60: {expected}"
    assert ("⟦" in text_of(lines)) == (row.fate == "truncated")


@pytest.mark.parametrize(
    ("own", "config", "model", "expected"),
    [
        (None, None, MODEL, "the template's own, 23 tokens; without it the row has 4"),
        (None, "Be brief.", replace(MODEL, system="Be brief."), "the config's, 23 tokens; without it the row has 4"),
        ("Row's.", "Be brief.", MODEL, "the row's own, 23 tokens; without it the row has 4"),
        ("", None, MODEL, "none (the row's own is empty)"),
        (None, "", replace(MODEL, system=""), "none (the config's is empty)"),
        (None, None, replace(MODEL, system=None), "none"),
        (None, None, replace(MODEL, system=None, takes_system=False), "none: the template has no place for one"),
    ],
)
def test_the_system_prompt_in_force_is_named_with_its_cost(
    own: str | None, config: str | None, model: EncodedModel, expected: str
) -> None:
    talk = SAMPLE.messages if own is None else (("system", own), *SAMPLE.messages)
    lines = drawn("Qwen/Q", model, [replace(SAMPLE, messages=talk)], RunConfig(model="Qwen/Q", system=config))
    assert text_of([lines[4]]) == f"system prompt: {expected}"


def test_rows_that_are_only_counted_are_in_the_summary() -> None:
    rows = (ROW, replace(ROW, length=5), replace(ROW, length=3000, fate="dropped"), EncodedRow(error="E: x"))
    assert summary_of(rows) == Summary(
        (5, 27, 3000), 14 / 54, {"kept": 2, "dropped": 1, "truncated": 0, "split": 0}, failed=1
    )


def test_models_are_compared_in_a_line_each() -> None:
    model = replace(MODEL, rows=(ROW, replace(ROW, length=3000, fate="dropped")))
    samples = [SAMPLE, replace(SAMPLE, shown=False)]
    assert table_row("Qwen/Q", model, samples, CONFIG) == (
        "Qwen/Q",
        "qwen2_5",
        "own +23",
        "27/1,514/3,000",
        "26%",
        "1 dropped",
    )
    without = replace(MODEL, system=None)
    assert table_row("Qwen/Q", without, [SAMPLE], CONFIG) == ("Qwen/Q", "qwen2_5", "none", "27/27/27", "26%", "none")


def test_notes_tell_of_empty_thoughts_foreign_system_prompts_and_lost_rows() -> None:
    identity = RunConfig.model_validate({"model": "Q", "identity": {"name": "A", "author": "B"}})
    hybrid = replace(
        MODEL, empty_thought="<think>\n\n</think>\n\n", loss_scale="default+ignore_empty_think",
        rows=(ROW, EncodedRow(error="AssertionError: two systems")),
    )  # fmt: skip
    assert notes_of(hybrid, identity) == [
        "puts <think>⏎⏎</think>⏎⏎ before answers without a thought (not trained)",
        "trains under the template's own system prompt; set system: for yours",
        "1 row cannot be encoded and will be left out: AssertionError: two systems",
    ]
    assert notes_of(replace(MODEL, system="Mine."), identity) == []
    assert notes_of(replace(MODEL, takes_system=False), RunConfig(system="x")) == [
        "its template has no place for a system prompt"
    ]
