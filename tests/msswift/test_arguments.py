"""The argument tables against the real parser, the check of values, and the cache."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from sft_kit.msswift.arguments import Argument, Verb, _tables, arguments, check_value, suggest, words
from sft_kit.msswift.install import find_installation
from tests.msswift.pairs import pairs

INT = Argument("max_length", "Optional[int]", "int", None, False, True, "None")
FLOAT = Argument("learning_rate", "Optional[float]", "float", None, False, True, "None")
TEXT = Argument("system", "Optional[str]", "str", None, False, True, "None")
LIST = Argument("dataset", "List[str]", "str", None, True, False, "[]")
JSON = Argument("model_kwargs", "Optional[Union[dict, str]]", "json", None, False, True, "None")
DTYPE = Argument("torch_dtype", "Literal[...]", "str", ("bfloat16", "float16", "None"), False, True, "None")


@pytest.mark.real
@pytest.mark.parametrize("verb", get_args(Verb))
def test_every_argument_is_the_real_parsers(verb: Verb, real_ms_swift: dict[str, Any]) -> None:
    # A JSON argument is text to the parser; ms-swift parses it later.
    ours = [
        [a.name, "str" if a.kind == "json" else a.kind, None if a.choices is None else list(a.choices), a.many]
        for a in arguments(find_installation(), verb).values()
    ]
    real = real_ms_swift["arguments"][verb]
    assert len(real) > 100
    assert ours == real


@pytest.mark.real
def test_a_value_is_refused_exactly_when_the_real_parser_refuses_it(real_ms_swift: dict[str, Any]) -> None:
    ours = [(a.name, value, check_value(a, value) is None) for a, value in pairs() if value != []]
    real = [
        (a.name, value, accepted)
        for (a, value), accepted in zip(pairs(), real_ms_swift["accepted"], strict=True)
        if value != []
    ]
    assert len(real) > 1000
    assert [row for row, expected in zip(ours, real, strict=True) if repr(row) != repr(expected)] == []


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        (INT, "x", "takes a whole number, not 'x'"),
        (INT, 0.5, "takes a whole number, not '0.5'"),
        (FLOAT, True, "takes a number, not 'true'"),
        (FLOAT, [1e-4], "takes one value, not a list: [0.0001]"),
        (TEXT, {"a": 1}, "takes text, not a mapping"),
        (LIST, [], "is an empty list; leave the key out instead"),
        (LIST, ["a", None], "has an empty item"),
        (LIST, ["a", ["b"]], "takes text, not ['b']; put it in quotes"),
        (LIST, ["a", "-b"], "has an item that begins with a dash, which ms-swift takes for an option: '-b'"),
        (JSON, [1], "takes a mapping, a JSON text or the path of a JSON file, not a list: [1]"),
        (JSON, {"a": {1}}, "cannot be written as JSON: Object of type set is not JSON serializable"),
        (DTYPE, "bf16", "takes one of bfloat16, float16, None, not 'bf16'; did you mean bfloat16?"),
        (DTYPE, "float61", "takes one of bfloat16, float16, None, not 'float61'; did you mean float16?"),
        (DTYPE, "x", "takes one of bfloat16, float16, None, not 'x'"),
        (INT, None, None),
        (INT, 2048.0, None),
        (FLOAT, 1, None),
        (FLOAT, "1e-4", None),
        (LIST, "one.jsonl", None),
        (JSON, {"a": 1}, None),
    ],
)
def test_a_problem_says_what_is_taken(argument: Argument, value: object, problem: str | None) -> None:
    assert check_value(argument, value) == problem


def test_an_argument_that_no_command_line_can_express_is_refused() -> None:
    argument = arguments(find_installation(), "sft")["parallelism_config"]
    assert argument.kind == "object"
    assert "which cannot be given in a config" in str(check_value(argument, "x"))


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        (INT, None, []),
        (INT, 2048.0, ["--max_length", "2048"]),
        (FLOAT, 1e-4, ["--learning_rate", "0.0001"]),
        (FLOAT, -1e-4, ["--learning_rate=-0.0001"]),
        (TEXT, "-v 你好", ["--system=-v 你好"]),
        (TEXT, True, ["--system", "true"]),
        (LIST, ["a#500", "b c"], ["--dataset", "a#500", "b c"]),
        (JSON, {"键": [1, None]}, ["--model_kwargs", '{"键": [1, null]}']),
    ],
)
def test_a_value_becomes_command_line_words(argument: Argument, value: object, expected: list[str]) -> None:
    assert words(argument, value) == expected


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("learnig_rate", "learning_rate"),
        ("--lora-rank", "lora_rank"),
        ("Max_Length", "max_length"),
        ("lr", "learning_rate"),
        ("model_id_or_path", "model"),
        ("lora_target_modules", "target_modules"),
        ("use_flash_attn", "attn_impl"),
        ("completely_unrelated", None),
    ],
)
def test_a_wrong_name_is_met_with_the_one_that_was_meant(wrong: str, meant: str | None) -> None:
    assert suggest(wrong, arguments(find_installation(), "sft")) == meant


def test_a_renamed_argument_is_suggested_in_the_installed_spelling() -> None:
    assert suggest("sft_type", {"train_type", "model"}) == "train_type"
    assert suggest("train_type", {"tuner_type", "model"}) == "tuner_type"


def test_tables_come_back_from_the_cache_as_they_were_read(own_cache: Path) -> None:
    read = dict(_tables(find_installation()))
    assert [path.suffix for path in (own_cache / "arguments").iterdir()] == [".json"]
    _tables.cache_clear()
    assert dict(_tables(find_installation())) == read


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sources": 3}', "\x00"])
def test_a_corrupt_cache_is_built_anew(own_cache: Path, content: str) -> None:
    read = dict(_tables(find_installation()))
    (file,) = (own_cache / "arguments").iterdir()
    whole = file.read_text()
    file.write_text(content)
    _tables.cache_clear()
    assert dict(_tables(find_installation())) == read
    assert file.read_text() == whole


@pytest.mark.parametrize("field", ["value", "sources", "readers"])
def test_a_cache_with_something_else_in_a_field_is_built_anew(own_cache: Path, field: str) -> None:
    read = dict(_tables(find_installation()))
    (file,) = (own_cache / "arguments").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), field: {"sft": [["model"]]}}))
    _tables.cache_clear()
    assert dict(_tables(find_installation())) == read


def test_a_changed_source_file_is_read_again(own_cache: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    source = site / "swift" / "arguments" / "__init__.py"
    for name in ("swift/cli/sft.py", "swift/__init__.py", "transformers/__init__.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    (site / "swift" / "version.py").write_text("__version__ = '4.0.0'\n")
    source.parent.mkdir()
    classes = "\n".join(
        f"@dataclass\nclass {name}Arguments:\n    model: str = None\n" for name in ("Sft", "Infer", "Export", "Deploy")
    )
    source.write_text(classes)
    assert list(arguments(find_installation(site), "sft")) == ["model"]
    source.write_text(classes.replace("model: str", "adapters: str"))
    _tables.cache_clear()
    assert list(arguments(find_installation(site), "sft")) == ["adapters"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert "model" in arguments(find_installation(), "sft")
    assert own_cache.read_text() == "a file where the folder should be"


def test_reading_is_fast_and_the_cache_faster(own_cache: Path) -> None:
    installation = find_installation()
    uncached, cached = [], []
    for _ in range(3):
        for file in own_cache.glob("arguments/*"):
            file.unlink()
        for took in (uncached, cached):
            _tables.cache_clear()
            start = time.process_time()
            for verb in get_args(Verb):
                arguments(installation, verb)
            took.append(time.process_time() - start)
    # Processor time, so that a busy machine does not matter: 0.08 s and 0.002 s were measured.
    assert min(uncached) < 0.3
    assert min(cached) < 0.015


def test_reading_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from sft_kit.msswift.install import find_installation;"
        "from sft_kit.msswift.arguments import arguments; arguments(find_installation(), 'sft');"
        "print([m for m in ('swift', 'transformers', 'torch', 'pydantic') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "SFT_KIT_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
