"""Pairs of an argument and a YAML value over which check_value is compared with the real parser."""

from __future__ import annotations

from itertools import product

from sft_kit.msswift.arguments import Argument, arguments, words
from sft_kit.msswift.install import find_installation

ONE = (
    *(True, False, 0, 1, 2, 3, -1, 10**20, 0.5, -0.5, 2.0, 1e-4, -1e-4, 1e30, float("inf"), float("nan")),
    *("1e-4", "3", "3.0", " 3 ", "1_000", "0x10", "yes", "No", "T", "f", "on", "None", "null", "nan", "", "text"),
    *(
        "bfloat16",
        "bf16",
        "steps",
        "lora",
        "4",
        "-1",
        "-x",
        "--system",
        "-",
        "-a b",
        "a b",
        "你是谁？",
        '{"a": 1}',
        "a=b",
    ),
)
LISTS = (["a"], ["a", "b"], [1, 2], [0.5, 0.5], ["1e-4", 1], [1, "x"], ["-x"], ["-x", "a"], ["-1", "-2"], [True], [])
MAPPINGS = ({}, {"a": {"b": [1, None]}}, {"键": "值"})


def representatives() -> list[Argument]:
    """One argument of `sft` for every combination of kind, choices, plurality and being optional."""
    table = arguments(find_installation(), "sft")
    found = {(a.kind, a.choices, a.many, a.optional): a for a in table.values() if a.kind != "object"}
    return list(found.values())


def pairs() -> list[tuple[Argument, object]]:
    chosen = representatives()
    one = list(product(chosen, ONE))
    lists = list(product([a for a in chosen if a.many], LISTS))
    return one + lists + list(product([a for a in chosen if a.kind == "json"], MAPPINGS))


def command_lines() -> list[tuple[str, list[str]]]:
    return [("sft", words(argument, value)) for argument, value in pairs()]
