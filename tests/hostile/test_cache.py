"""sft-kit's own cache as an input: an entry that is damaged, or is no file, is passed over or made anew, never followed
out of the cache, and never waited for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from sft_kit.models.cached import build_once
from sft_kit.models.trust import without_own_code
from sft_kit.plan.device import CALIBRATED, calibrated, cpu_device, store
from sft_kit.resources import keep_in_cache, kept_in_cache, read_bounded
from sft_kit.run.answer_cache import (
    Given,
    append_answers,
    append_likelihoods,
    question,
    read_answers,
    read_likelihoods,
)
from tests.models.test_cached import build

VALID = "model: sft-kit/tiny-qwen2\nidentity: {name: Jingheng, author: Ye Botao, languages: [en], rows: 40}\n"


def rewritten(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text("utf-8") if path.exists() else "{}"), "utf-8")


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def trap(path: Path) -> None:
        path.unlink(missing_ok=True)
        make(path)

    return trap


TRAPS: dict[str, Callable[[Path], object]] = {
    "nothing": rewritten(lambda text: ""),
    "half of it": rewritten(lambda text: text[: len(text) // 2]),
    "one letter changed": rewritten(lambda text: text.replace("e", "f", 1)),
    "another kind of JSON": rewritten(lambda text: "[[], 3, null]"),
    "100,000 brackets": rewritten(lambda text: '{"value":' + "[" * 100_000),
    "a number of 5,000 digits": rewritten(lambda text: '{"sha256": "a", "value": ' + "9" * 5_000 + "}"),
    "a pickle": instead(lambda path: path.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch ran'\ntR.")),
    "a pipe": instead(os.mkfifo),
    "/dev/zero": instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": instead(lambda path: path.symlink_to(path)),
    "a folder": instead(lambda path: path.mkdir()),
    "50 GB of nothing": instead(lambda path: (path.touch(), os.truncate(path, 50 << 30))),
}


def checked(folder: Path, cache: Path) -> tuple[int, object, str]:
    """Exit code, findings and stderr of `check` in a process of its own: this one has read the files already."""
    argv = [sys.executable, "-m", "sft_kit", "check", "c.yaml", "--json"]
    env = {**os.environ, "SFT_KIT_CACHE": str(cache)}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    return done.returncode, [report[key] for key in ("errors", "findings", "ms_swift", "model", "mix")], done.stderr


def test_check_says_the_same_whatever_its_cache_holds(tmp_path: Path) -> None:
    folder, cache = tmp_path / "f", tmp_path / "cache"
    folder.mkdir()
    (folder / "c.yaml").write_text(VALID, encoding="utf-8")
    expected = checked(folder, cache)
    files = sorted(cache.rglob("*.json"))
    assert {path.parent.name for path in files} >= {"arguments", "identity_templates"}
    assert expected[::2] == (0, "")
    whole = {path: path.read_bytes() for path in files}
    # each reader of the cache meets one; what reads them all the same meets all of them below
    for path, name in zip(
        files, cycle(("a pipe", "100,000 brackets", "another kind of JSON", "/dev/zero")), strict=False
    ):
        TRAPS[name](path)
    assert checked(folder, cache) == expected
    assert {path: path.read_bytes() for path in files} == whole  # made anew
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_kept_is_read_as_it_was_written_or_not_at_all(name: str, tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    keep_in_cache(file, {"weights": [1.5, "精衡"]})
    assert kept_in_cache(file) == {"weights": [1.5, "精衡"]}
    TRAPS[name](file)
    with pytest.raises((OSError, ValueError)):
        kept_in_cache(file)
    keep_in_cache(file, {})
    if not file.is_dir():
        assert kept_in_cache(file) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_nothing_is_written_through_a_link(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    private = tmp_path / "private"
    private.write_text("mine\n", encoding="utf-8")
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("kept.json", "answers.jsonl", ".lock-model", "calibration.json"):
        (cache / name).symlink_to(private)
    keep_in_cache(cache / "kept.json", {})
    append_answers(cache / "answers.jsonl", {question("a"): Given("b", ended=True)})
    assert "answers.jsonl: is a link or no file, so answers are not kept in it; remove it" in capfd.readouterr().err
    with pytest.raises(Exception, match="cannot keep the model"):
        build_once(cache / "model", build, say=print)
    assert private.read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("name", TRAPS)
def test_answers_that_are_none_are_passed_over(name: str, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    append_answers(file, {question("a"): Given("b", ended=True)})
    append_likelihoods(file, {"key": (1.0, 2)})
    TRAPS[name](file)
    assert set(read_answers(file)) <= {question("a")}
    assert set(read_likelihoods(file)) <= {"key"}
    append_answers(file, {question("c"): Given("d", ended=True)})  # no pipe is waited for
    if file.is_fifo():
        assert read_answers(file) == {}


def test_figures_that_are_none_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "likelihood.jsonl"
    figures = [
        ("1e999", "1"),
        ("1", "1e999"),
        ("9" * 400, "1"),
        ("1", "9" * 400),
        ("1", "-1"),
        ('"x"', "1"),
        ("2", "3"),
    ]
    lines = (f'{{"sha256":"{n}","nats":{nats},"tokens":{tokens}}}\n' for n, (nats, tokens) in enumerate(figures))
    file.write_text("".join(lines), encoding="utf-8")
    assert read_likelihoods(file) == {"0": (float("inf"), 1), "6": (2.0, 3)}  # a broken model's is infinite


@pytest.mark.parametrize("name", TRAPS)
def test_a_calibration_that_is_none_leaves_the_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    path = store(cpu_device())
    assert cpu_device().source == CALIBRATED
    TRAPS[name](path)
    assert cpu_device().source != CALIBRATED or name == "one letter changed"


@pytest.mark.parametrize(
    ("key", "value"),
    [("tflops", True), ("tflops", 0), ("memory_gib", "24"), ("memory_gib", -1), ("asynchronous", "no"),
     ("overhead_s", 1e300), ("bandwidth_gb_s", None)],
)  # fmt: skip
def test_figures_of_a_calibration_are_figures(
    key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    path = store(cpu_device())
    kept = json.loads(path.read_text("utf-8"))
    kept[cpu_device().name][key] = value
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert calibrated(cpu_device().name) is None


BLOCKS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a link to nothing": lambda path: path.symlink_to(path.parent.parent / "made"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_file_that_keeps_code_from_running_is_never_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path))
    place = Path(without_own_code()["HF_MODULES_CACHE"])
    assert (place / "transformers_modules").is_file()
    instead(BLOCKS[name])(place / "transformers_modules")
    place = Path(without_own_code()["HF_MODULES_CACHE"])
    with pytest.raises(OSError):
        (place / "transformers_modules" / "model").mkdir(parents=True)
    assert not (tmp_path / "made").exists()


def planted(name: str, content: str = "import os; os.system('touch ran')\n") -> Callable[[Path], object]:
    return lambda model: (model / name).write_text(content, encoding="utf-8")


MODELS: dict[str, Callable[[Path], object]] = {
    "cut weights": lambda model: os.truncate(model / "model.safetensors", 20),
    "a pickle as weights": planted("model.safetensors"),
    "a config that is none": planted("config.json", "{"),
    "code of its own": planted("config.json", '{"auto_map": {"AutoModel": "x.X"}}'),
    "a Python file": planted("modeling.py"),
    "arguments of ms-swift": planted("args.json", '{"external_plugins": ["x.py"]}'),
    "an adapter": planted("adapter_config.json", "{}"),
    "a pipe": lambda model: (os.unlink(model / "tokenizer.json"), os.mkfifo(model / "tokenizer.json")),
    "a link out": lambda model: (os.unlink(model / "config.json"), (model / "config.json").symlink_to("/etc/passwd")),
    "a file": lambda model: (shutil.rmtree(model), model.write_text("")),
    "a link to a folder": lambda model: (model.rename(f"{model}-moved"), planted("x.py")(Path(f"{model}-moved")),
                                         model.symlink_to(f"{model}-moved")),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_kept_model_that_is_not_as_it_was_made_is_made_anew(name: str, tmp_path: Path) -> None:
    model = build_once(tmp_path / "model", build, say=print)
    made = {path.name: path.read_bytes() for path in model.iterdir()}
    MODELS[name](model)
    build_once(model, build, say=print)
    assert {path.name: read_bounded(path, 1_000) for path in model.iterdir()} == made
    assert not model.is_symlink()
    runs: list[Path] = []
    build_once(model, runs.append, say=print)
    assert runs == []
