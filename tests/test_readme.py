"""The READMEs show configs that work, and the two languages stay in step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sft_kit.run.prepare import prepare
from tests.cli.conftest import REPOSITORY

READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("readme", READMES)
def test_the_config_of_the_readme_is_accepted(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.jsonl").write_text('{"query": "1 + 1?", "response": "It is 2."}\n', encoding="utf-8")
    (tmp_path / "config.yaml").write_text(blocks(readme, "yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    job = prepare(Path("config.yaml"), ask_hub=False)
    batch = job.plan.batch
    assert (batch.micro_batch or 0) * (batch.accumulation or 0) == 16
    assert job.config.replay == 100


def test_both_readmes_have_the_same_sections_commands_and_code() -> None:
    texts = [(REPOSITORY / name).read_text(encoding="utf-8") for name in READMES]
    headings = [[line.split()[0] for line in text.splitlines() if line.startswith("#")] for text in texts]
    assert headings[0] == headings[1]
    tables = [sum(line.startswith("|") for line in text.splitlines()) for text in texts]
    assert tables[0] == tables[1]
    keys = [[line.split(":")[0] for line in blocks(name, "yaml")[0].splitlines()] for name in READMES]
    assert keys[0] == keys[1]


def test_every_command_is_in_the_table() -> None:
    from sft_kit.cli import app

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert [name for name in names if not re.search(rf"^\| `{name}[ `]", text, re.MULTILINE)] == []
