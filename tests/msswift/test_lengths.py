"""Token counts on small tokenizers; that they are ms-swift's own is proven in test_encode."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_kit.msswift.install import find_installation
from sft_kit.msswift.lengths import Lengths, lengths_of
from tests.msswift.chat_tokenizers import Shape, build
from tests.msswift.rows_to_encode import rows

TALK = (("user", "Who are you?"), ("assistant", "I'm Jingheng."))
QWEN = {"model_type": "qwen2", "template": "qwen2_5"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    texts = [message["content"] for row in rows() for message in row]
    shapes: tuple[Shape, ...] = ("qwen2", "qwen3", "internlm2")
    return {shape: build(tmp_path_factory.mktemp(shape), shape, texts) for shape in shapes}


def counter(folder: Path, **values: object) -> Lengths:
    return lengths_of(find_installation(), str(folder), folder, {**QWEN, **values})


def tokens(folder: Path, text: str) -> int:
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids)


def test_a_row_is_its_rendered_text_in_tokens(folders: dict[str, Path]) -> None:
    rendered = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    expected = tokens(folders["qwen2"], rendered) + tokens(folders["qwen2"], "I'm Jingheng.<|im_end|>\n")
    lengths = counter(folders["qwen2"])
    assert lengths.count(TALK, "Be brief.") == expected
    assert lengths.count((("system", "Be brief."), *TALK)) == expected
    assert lengths.count((("system", "Be brief."), *TALK), "another one") == expected


def test_an_empty_system_prompt_leaves_the_templates_own_out(folders: dict[str, Path]) -> None:
    lengths = counter(folders["qwen2"])
    own = tokens(folders["qwen2"], "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
                                   "assistant.<|im_end|>\n")  # fmt: skip
    assert lengths.count(TALK) - lengths.count(TALK, "") == own


def test_the_configs_system_may_be_a_text_file(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be\nbrief.", encoding="utf-8")
    lengths = counter(folders["qwen2"])
    assert lengths.count(TALK, str(tmp_path / "system.txt")) == lengths.count(TALK, "Be\\nbrief.")


def test_rows_of_a_batch_are_counted_as_each_on_its_own(folders: dict[str, Path]) -> None:
    talks = [tuple((message["role"], message["content"]) for message in row) for row in rows()] * 4
    together = counter(folders["qwen2"]).count_many(iter(talks))
    assert together == [counter(folders["qwen2"]).count(talk) for talk in talks[:20]] + together[20:]
    assert together[: len(rows())] * 4 == together


def test_tool_calls_are_counted_but_not_to_the_token(folders: dict[str, Path]) -> None:
    lengths = counter(folders["qwen2"])
    tools = (TALK[0], ("tool_call", '{"name": "f"}'), ("tool_response", "1"), ("assistant", "One."))
    assert (lengths.covers(TALK), lengths.covers(tools), lengths.covers(TALK[:1])) == (True, False, False)
    assert lengths.count(tools) > lengths.count(TALK)


@pytest.mark.parametrize(
    ("values", "files", "why"),
    [
        ({}, {}, ""),
        ({"template": "deepseek_v3_1"}, {}, "template deepseek_v3_1 has rules of its own (DeepseekV3_1Template)"),
        ({"template": None}, {}, "it is not known which template FOLDER gets; set template"),
        ({"loss_scale": "react"}, {}, "loss_scale react splits texts in a way of its own"),
        ({"new_special_tokens": ["<x>"]}, {}, "new_special_tokens change the tokenizer"),
        ({}, {"tokenizer.json": None}, "the model's tokenizer.json is not on this machine"),
        (
            {},
            {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["a.B", None]}}},
            "the tokenizer is Python code of the model's own",
        ),
        (
            {"template": "internlm2"},
            {"tokenizer_config.json": {"add_bos_token": True}},
            "tokenizer_config.json and tokenizer.json disagree about bos and eos",
        ),
    ],
)
def test_what_makes_counts_estimates_is_told(
    folders: dict[str, Path], tmp_path: Path, values: dict[str, object], files: dict[str, object], why: str
) -> None:
    for file in folders["qwen2"].iterdir():
        content: object = json.loads(file.read_text(encoding="utf-8"))
        if file.name in files:
            changed = files[file.name]
            content = {**content, **changed} if isinstance(content, dict) and isinstance(changed, dict) else None
        if content is not None:
            (tmp_path / file.name).write_text(json.dumps(content), encoding="utf-8")
    lengths = counter(tmp_path, **values)
    assert (lengths.why, lengths.exact) == (why.replace("FOLDER", str(tmp_path)), not why)
    assert lengths.count(TALK) > 10


def test_max_length_is_the_configs_else_the_models(folders: dict[str, Path]) -> None:
    given = counter(folders["qwen2"], max_length=100).max_length
    assert (given, counter(folders["qwen2"]).max_length) == (100, 700)
    assert lengths_of(find_installation(), "my/own", None, QWEN).max_length is None


def test_a_counter_reads_no_tokenizer_before_it_counts(folders: dict[str, Path]) -> None:
    program = f"""
import sys
from pathlib import Path
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.lengths import lengths_of
folder = Path({str(folders["qwen2"])!r})
lengths = lengths_of(find_installation(), str(folder), folder, {QWEN!r})
print(lengths.max_length, "tokenizers" in sys.modules)
lengths.count([("user", "a"), ("assistant", "b")])
print([name for name in ("torch", "transformers", "swift") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "700 False\n[]\n"


def test_ten_thousand_identity_rows_are_counted_in_a_moment(folders: dict[str, Path]) -> None:
    words = random.Random(7)  # noqa: S311
    talks = [
        (
            ("user", f"Who are you, number {n}?"),
            ("assistant", " ".join(words.choices(("I'm", "我是", "made", "by"), k=20))),
        )
        for n in range(10_000)
    ]
    lengths = counter(folders["qwen2"])
    assert lengths.exact
    start = time.process_time()
    counted = lengths.count_many(talks)
    assert (len(counted), time.process_time() - start < 4) == (10_000, True)
