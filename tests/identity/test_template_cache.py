"""The shipped templates from sft-kit's cache: the same as from their files, and never a reason to fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sft_kit.identity.templates import load_templates
from sft_kit.resources import shipped


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "identity_templates"


def test_templates_come_back_from_the_cache_as_they_were_read(own_cache: Path) -> None:
    read = load_templates()
    assert [path.suffix for path in own_cache.iterdir()] == [".json"]
    assert load_templates() == read == load_templates(shipped("data") / "identity")


def test_templates_from_the_cache_need_no_yaml(own_cache: Path) -> None:
    load_templates()
    program = "import sys, sft_kit.identity.templates as t; t.load_templates(); print('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"answers": 3}', '{"answers": [], "expects": [], "groups": [[]]}'])
def test_a_corrupt_cache_is_written_anew(own_cache: Path, content: str) -> None:
    read = load_templates()
    (file,) = own_cache.iterdir()
    whole = file.read_text("utf-8")
    file.write_text(content)
    assert load_templates() == read
    assert file.read_text("utf-8") == whole


def test_a_cache_that_cannot_be_written_is_no_error(own_cache: Path) -> None:
    own_cache.parent.write_text("a file where the folder should be")
    assert load_templates().groups


def test_templates_of_a_user_are_not_kept(own_cache: Path) -> None:
    load_templates(shipped("data") / "identity")
    assert not own_cache.exists()
