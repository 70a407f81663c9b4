"""Where shipped files and sft-kit's own cache lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_kit.resources import cache_dir, shipped


@pytest.mark.parametrize(("folder", "holds"), [("data", "identity/README.md"), ("configs", "quickstart.yaml")])
def test_the_shipped_folders_are_found(folder: str, holds: str) -> None:
    assert (shipped(folder) / holds).is_file()


def test_a_folder_that_is_not_shipped_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"without its weights/ folder; reinstall it"):
        shipped("weights")


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({"SFT_KIT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"SFT_KIT_CACHE": "~/a"}, "/home/me/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/sft-kit"),
        ({"SFT_KIT_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/sft-kit"),
        ({}, "/home/me/.cache/sft-kit"),
    ],
)
def test_the_cache_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], cache: str
) -> None:
    for name in ("SFT_KIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environ}.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(cache)
