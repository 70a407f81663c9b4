"""`sft-kit gen-identity` as its user sees it: files, tables, warnings and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sft_kit
from sft_kit.cli.gen_identity import gen_identity
from sft_kit.data.formats import read_rows
from sft_kit.errors import UsageError
from sft_kit.identity.generate import read_held_out

NAMES = ["--name", "精衡", "--author", "叶博韬", "--name-en", "Jingheng", "--author-en", "Ye Botao"]


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> tuple[str, str]:
    """(stdout, stderr) of a run that must succeed; what the command raises is raised here."""
    app = typer.Typer()
    app.command()(gen_identity)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.stderr


def files() -> Sequence[str]:
    return sorted(path.name for path in Path().iterdir())


def test_two_names_give_rows_questions_and_their_sidecar() -> None:
    stdout, stderr = run(*NAMES)
    assert files() == ["identity.held_out.jsonl", "identity.jsonl", "identity.jsonl.meta.json"]
    assert len(read_rows(Path("identity.jsonl"))) == 120
    questions = read_held_out(Path("identity.held_out.jsonl"))
    assert stdout.splitlines()[-2:] == [
        "120 rows: identity.jsonl",
        f"{len(questions)} held-out questions: identity.held_out.jsonl",
    ]
    assert stderr == ""


def test_the_table_counts_rows_and_held_out_questions_of_each_category() -> None:
    stdout, _ = run(*NAMES)
    head, *lines, _, _ = stdout.splitlines()
    assert head.split()[:3] == ["category", "zh", "en"]
    cells = [line.split() for line in lines]
    assert sum(int(trained) for _, *numbers in cells for trained in numbers[::3]) == 120
    assert all(plus == "+" for _, *numbers in cells for plus in numbers[1::3])


def test_one_language_rows_seed_and_out_are_obeyed() -> None:
    run(
        "--name",
        "Jingheng",
        "--author",
        "Ye Botao",
        "--lang",
        "en",
        "--rows",
        "60",
        "--seed",
        "7",
        "--out",
        "a/b.jsonl",
    )
    assert len(read_rows(Path("a/b.jsonl"))) == 60
    assert {q.lang for q in read_held_out(Path("a/b.held_out.jsonl"))} == {"en"}
    meta = json.loads(Path("a/b.jsonl.meta.json").read_text("utf-8"))
    assert (meta["seed"], meta["languages"], meta["name"]) == (7, ["en"], {"en": "Jingheng"})


@pytest.mark.parametrize("form", ["alpaca", "sharegpt"])
def test_the_other_formats_are_written_as_json_lists(form: str) -> None:
    run(*NAMES, "--format", form)
    assert files() == ["identity.held_out.jsonl", "identity.json", "identity.json.meta.json"]
    assert len(json.loads(Path("identity.json").read_text("utf-8"))) == 120


def test_slots_add_their_categories() -> None:
    stdout, _ = run(*NAMES, "--slot", "VERSION=2.1", "--slot", "LICENSE=MIT")
    categories = [line.split()[0] for line in stdout.splitlines()]
    assert ("version" in categories, "open_source" in categories) == (True, True)


def test_an_existing_file_is_refused_and_left_alone_unless_forced() -> None:
    Path("identity.jsonl").write_text("mine", "utf-8")
    with pytest.raises(UsageError) as caught:
        run(*NAMES)
    assert str(caught.value) == "identity.jsonl: is already there; choose another --out, or --force"
    assert (files(), Path("identity.jsonl").read_text("utf-8")) == (["identity.jsonl"], "mine")
    run(*NAMES, "--force")
    assert len(read_rows(Path("identity.jsonl"))) == 120


def test_a_folder_as_out_is_refused_even_when_forced() -> None:
    Path("here").mkdir()
    with pytest.raises(UsageError, match="here: cannot be written: Is a directory"):
        run(*NAMES, "--out", "here", "--force")
    assert files() == ["here"]


def test_a_refused_name_writes_nothing() -> None:
    with pytest.raises(UsageError, match=r"name\.zh: has <\|im_end\|>"):
        run("--name", "<|im_end|>", "--author", "Ye Botao")
    assert files() == []


def test_warnings_go_to_stderr_and_results_to_stdout() -> None:
    stdout, stderr = run("--name", "精衡", "--author", "叶博韬", "--rows", "30")
    assert "warning" not in stdout
    assert stderr.splitlines() == [
        "warning: name.en is Chinese and will be used as it is in English text;"
        " give an English one (name.en; --name-en)",
        "warning: author.en is Chinese and will be used as it is in English text;"
        " give an English one (author.en; --author-en)",
        "warning: rows: 15 in zh; under 20 a model rarely takes the identity on",
        "warning: rows: 15 in en; under 20 a model rarely takes the identity on",
    ]


def test_a_users_own_template_is_used_and_its_errors_are_told() -> None:
    Path("own.yaml").write_text(
        'groups: [{id: a, category: motto, lang: en, expect: {must: [dare]}, questions: [Motto?, "Your slogan?"],'
        " answers: [We dare.]}]",
        "utf-8",
    )
    run("--name", "J", "--author", "B", "--lang", "en", "--template", "own.yaml")
    assert [m.content for m in read_rows(Path("identity.jsonl"))[0].messages][1] == "We dare."
    Path("own.yaml").write_text("groups: []\nrows: 1\n", "utf-8")
    with pytest.raises(UsageError, match=r"own\.yaml:2:1: rows: a template file has no such key"):
        run("--name", "J", "--author", "B", "--template", "own.yaml", "--force")


@pytest.mark.parametrize(("flag", "value"), [("--lang", "fr"), ("--format", "csv"), ("--slot", "COLOUR=red")])
def test_an_unknown_value_is_refused(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match=value.partition("=")[0]):
        run(*NAMES, flag, value)
    assert files() == []


def test_the_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, sft_kit.cli.gen_identity; "
        "print([m for m in ('yaml', 'ruamel', 'pydantic', 'torch', 'sft_kit.identity') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(sft_kit.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "[]\n"
