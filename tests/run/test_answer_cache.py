"""The kept answers of models: what makes two models the same, and files that several runs write and spoil."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_kit.run.answer_cache import (
    Asked,
    Given,
    answers_file,
    append_answers,
    append_likelihoods,
    model_digest,
    question,
    read_answers,
    read_likelihoods,
    text_key,
)

SETTINGS = {"max_new_tokens": 64.0}
TENSOR_BYTES = 4096


def write_model(folder: Path, *tensors: bytes, config: str = '{"hidden_size": 8}') -> Path:
    """A model's folder with one safetensors file, its tensors filled with the given bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_text("{}")
    header = {
        f"layer.{n}": {
            "dtype": "U8",
            "shape": [TENSOR_BYTES],
            "data_offsets": [n * TENSOR_BYTES, (n + 1) * TENSOR_BYTES],
        }
        for n in range(len(tensors))
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    content = len(text).to_bytes(8, "little") + text + b"".join(tensor * TENSOR_BYTES for tensor in tensors)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def test_a_copy_of_a_model_is_the_same_model(tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "a", b"x", b"y"), write_model(tmp_path / "b", b"x", b"y")
    os.utime(other / "model.safetensors", (1, 1))
    assert model_digest(one) == model_digest(other)


@pytest.mark.parametrize(("first", "second"), [(b"z", b"y"), (b"x", b"z")])
def test_one_trained_tensor_of_the_same_size_makes_another_model(tmp_path: Path, first: bytes, second: bytes) -> None:
    before = model_digest(write_model(tmp_path, b"x", b"y"))
    state = (tmp_path / "model.safetensors").stat()
    write_model(tmp_path, first, second)
    os.utime(tmp_path / "model.safetensors", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (tmp_path / "model.safetensors").stat().st_size == state.st_size
    assert model_digest(tmp_path) != before


def test_another_config_or_chat_template_makes_another_model(tmp_path: Path) -> None:
    before = model_digest(write_model(tmp_path, b"x"))
    reconfigured = model_digest(write_model(tmp_path, b"x", config='{"hidden_size": 9}'))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert len({before, reconfigured, model_digest(tmp_path)}) == 3


def test_weights_that_are_no_safetensors_count_by_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"12345678")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    os.utime(tmp_path / "pytorch_model.bin", (1, 1))
    before = model_digest(tmp_path)
    assert model_digest(tmp_path) == before
    os.utime(tmp_path / "pytorch_model.bin", (2, 2))
    assert model_digest(tmp_path) != before


def test_a_large_model_is_told_by_milliseconds_of_reading(tmp_path: Path) -> None:
    with (write_model(tmp_path, b"x") / "model.safetensors").open("r+b") as file:
        file.truncate(8 << 30)  # a sparse file
    began = time.perf_counter()
    model_digest(tmp_path)
    assert time.perf_counter() - began < 0.5


def test_another_adapter_is_another_model_and_the_state_of_its_training_is_no_part_of_it(tmp_path: Path) -> None:
    before = model_digest(write_model(tmp_path, b"x"))
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin"):
        (tmp_path / name).write_text("anything")
    assert model_digest(tmp_path) == before
    (tmp_path / "args.json").write_text('{"system": "Be brief."}')
    assert model_digest(tmp_path) != before


def test_every_setting_and_every_argument_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    hub = {"model": "Qwen/Qwen2.5-7B-Instruct", "torch_dtype": "bfloat16"}
    one, other = write_model(tmp_path / "m", b"x"), write_model(tmp_path / "n", b"y")
    files = [
        answers_file(hub, SETTINGS, "4.6.0", "replay"),
        answers_file({**hub, "model_revision": "v2"}, SETTINGS, "4.6.0", "replay"),
        answers_file({**hub, "system": "Be brief."}, SETTINGS, "4.6.0", "replay"),
        answers_file(hub, {"max_new_tokens": 32.0}, "4.6.0", "replay"),
        answers_file(hub, SETTINGS, "3.12.6", "replay"),
        answers_file({**hub, "model": str(one)}, SETTINGS, "4.6.0", "replay"),
        answers_file({**hub, "adapters": [str(one)]}, SETTINGS, "4.6.0", "replay"),
        answers_file({**hub, "adapters": [str(other)]}, SETTINGS, "4.6.0", "replay"),
        answers_file({**hub, "adapters": ["owner/adapter"]}, SETTINGS, "4.6.0", "replay"),
        answers_file(hub, SETTINGS, "4.6.0", "evaluation"),
    ]
    assert len(set(files)) == len(files)
    assert answers_file(dict(reversed(hub.items())), SETTINGS, "4.6.0", "replay") == files[0]
    assert [file.parent for file in files[:9]] == [tmp_path / "replay"] * 9
    one.rename(tmp_path / "moved")
    assert answers_file({**hub, "adapters": [str(tmp_path / "moved")]}, SETTINGS, "4.6.0", "replay") == files[6]


LATER: Asked = (("system", ""), ("user", "a"), ("assistant", "b"), ("user", "c"))


def test_answers_are_read_back_whatever_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "replay" / "a.jsonl"
    given = {
        question("你好\n"): Given('line\nline\u2028 "q" \ud800', False),
        question("b"): Given("", True),
        LATER: Given("d", True),
    }
    append_answers(path, given)
    append_answers(path, {question("b"): Given("again", True), question("c"): Given("new", True)})
    assert read_answers(path) == {**given, question("c"): Given("new", True)}  # what was said first is kept


def test_answers_to_lone_questions_of_earlier_versions_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"prompt": "a", "text": "A", "ended": true}')
    assert read_answers(tmp_path / "a.jsonl") == {question("a"): Given("A", True)}


def test_likelihoods_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    found = {text_key("春天\n"): (12.5, 7), text_key("x"): (0.0, 0)}
    append_likelihoods(path, found)
    with path.open("a") as file:
        file.write('\n{"sha256": "c", "nats": null, "tokens": 3}\n[]')
    assert read_likelihoods(path) == found


def test_a_spoiled_file_costs_only_the_spoiled_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_answers(path, {question("a"): Given("A", True), question("b"): Given("B", True)})
    path.write_bytes(path.read_bytes()[:-9] + b"\xff\x00")  # a writer was killed, the disk was full
    append_answers(path, {question("c"): Given("C", True)})
    with path.open("a") as file:
        file.write('\n[]\n{"prompt": 5}\n{"prompt": "d", "text": null, "ended": true}\n{"messages": [["user"]]}\n')
        file.write('{"messages": [["user", 5]], "text": "e", "ended": true}\n' + "[" * 100_000)
    assert read_answers(path) == {question("a"): Given("A", True), question("c"): Given("C", True)}


def test_no_cache_is_an_empty_one_and_one_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert read_answers(tmp_path / "file" / "a.jsonl") == {}
    append_answers(tmp_path / "file" / "a.jsonl", {question("a"): Given("A", True)})


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    script = (
        "import sys; from pathlib import Path; from sft_kit.run.answer_cache import Given, append_answers, question\n"
        "for n in range(200):\n"
        "    append_answers(Path(sys.argv[1]), {question(f'{sys.argv[2]} {n}'): Given('x' * 2000, True)})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert read_answers(path) == {
        question(f"{name} {n}"): Given("x" * 2000, True) for name in "abc" for n in range(200)
    }
