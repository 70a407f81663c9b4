"""Paths, hub ids, caches, and hubs that answer, refuse, hang or are not there: each on this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sft_kit.msswift.hub import cached_model, hub_problem, is_hub_id, looks_like_path, uses_hugging_face


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/models/qwen", True),
        ("./qwen", True),
        ("../qwen", True),
        ("~/qwen", True),
        (".", True),
        ("..", True),
        ("C:\\models\\qwen", True),
        ("data/mine.jsonl", True),
        ("mine.JSON", True),
        ("rows.parquet", True),
        ("models/qwen/", True),
        ("a/b/c", True),
        ("there/qwen", True),  # a folder of that name exists
        ("Qwen/Qwen2.5-7B-Instruct", False),
        ("AI-ModelScope/alpaca-gpt4-data-zh", False),
        ("gpt2", False),
        ("there", False),
    ],
)
def test_a_path_is_told_from_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert looks_like_path(name) is path


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", True),
        ("01-ai/Yi-6B", True),
        ("a/b_c.d-e", True),
        ("AI-ModelScope/数据", True),
        ("gpt2", False),
        ("a/b/c", False),
        ("a/..", False),
        ("a/.hidden", False),
        ("-a/b", False),
        ("a/b\n", False),
        ("a b/c", False),
        ("a/b?c", False),
        ("a/", False),
        ("", False),
    ],
)
def test_a_hub_id_is_owner_and_name(name: str, hub_id: bool) -> None:
    assert is_hub_id(name) is hub_id


@pytest.mark.parametrize(
    ("use_hf", "variable", "hugging_face"),
    [
        (True, None, True),
        (None, "1", True),
        (None, "true", True),
        (False, "1", True),
        (None, "0", False),
        (None, None, False),
        (False, "", False),
    ],
)
def test_hugging_face_is_used_when_asked_for(use_hf: bool | None, variable: str | None, hugging_face: bool) -> None:
    assert uses_hugging_face(use_hf, {} if variable is None else {"USE_HF": variable}) is hugging_face


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"),
        ({"HF_HOME": "hf"}, "hf/hub"),
        ({"HF_HOME": "hf", "HF_HUB_CACHE": "hub"}, "hub"),
    ],
)
def test_a_model_in_the_hugging_face_cache_is_found(tmp_path: Path, environ: dict[str, str], folder: str) -> None:
    environ = {"HOME": str(tmp_path / "home"), **{key: str(tmp_path / value) for key, value in environ.items()}}
    snapshot = tmp_path / folder / "models--Qwen--Qwen2.5-7B" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=True, environ=environ) is None  # a download that was cut off
    (snapshot / "config.json").write_text("{}")
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=True, environ=environ) == snapshot
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=False, environ=environ) is None


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, "home/.cache/modelscope/hub/models/Qwen/Qwen2___5-7B"),
        ({}, "home/.cache/modelscope/hub/models/Qwen/Qwen2.5-7B"),
        ({}, "home/.cache/modelscope/hub/Qwen/Qwen2___5-7B"),
        ({"MODELSCOPE_CACHE": "ms"}, "ms/models/Qwen/Qwen2___5-7B"),
        ({"MODELSCOPE_CACHE": "ms"}, "ms/hub/models/Qwen/Qwen2.5-7B"),
    ],
)
def test_a_model_in_the_modelscope_cache_is_found(tmp_path: Path, environ: dict[str, str], folder: str) -> None:
    environ = {"HOME": str(tmp_path / "home"), **{key: str(tmp_path / value) for key, value in environ.items()}}
    (tmp_path / folder).mkdir(parents=True)
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=False, environ=environ) is None
    (tmp_path / folder / "config.json").write_text("{}")
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=False, environ=environ) == tmp_path / folder
    assert cached_model("Qwen/Qwen2.5-7B", hugging_face=True, environ=environ) is None


# --- asking the hub ----------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """Answers with the number in the requested name and notes what was asked; 0 is no HTTP at all."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["User-Agent"]))
        status = int(self.path.rpartition("-")[2])
        if status == 0:
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub on this machine."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(name: str, endpoint: str) -> str | None:
    problem = hub_problem(name, "models", hugging_face=True, environ={"HF_ENDPOINT": endpoint})
    return str(problem) if problem else None


def test_a_model_that_the_hub_has_is_no_problem(hub: str) -> None:
    assert ask("a/b-200", f"{hub}/") is None
    assert Hub.asked == [("/api/models/a/b-200", "sft-kit")]


def test_a_data_set_is_asked_for_as_one(hub: str) -> None:
    problem = hub_problem("a/b-404", "datasets", hugging_face=True, environ={"HF_ENDPOINT": hub})
    assert str(problem) == "Hugging Face has no dataset a/b-404; check the spelling, or give a local directory"
    assert Hub.asked == [("/api/datasets/a/b-404", "sft-kit")]


def test_a_model_that_the_hub_does_not_have_is_named(hub: str) -> None:
    assert ask("a/b-404", hub) == "Hugging Face has no model a/b-404; check the spelling, or give a local directory"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_any_other_answer_is_left_to_ms_swift(hub: str, status: int) -> None:
    assert ask(f"a/b-{status}", hub) is None


WAY_OUT = "set HF_ENDPOINT to a mirror or HTTPS_PROXY, use ModelScope (USE_HF=0), or give a local directory"


def test_an_answer_that_is_not_http_counts_as_unreachable(hub: str) -> None:
    assert ask("a/b-0", hub) == f"Hugging Face cannot be reached for a/b-0 (SSH-2.0-OpenSSH); {WAY_OUT}"


def test_a_closed_port_is_unreachable_with_the_variables_to_set() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert ask("a/b", endpoint) == (
            f"Hugging Face cannot be reached for a/b ([Errno 111] Connection refused); {WAY_OUT}"
        )


def test_an_endpoint_that_is_no_address_is_unreachable() -> None:
    assert ask("a/b", "mirror") == (
        f"Hugging Face cannot be reached for a/b (unknown url type: 'mirror/api/models/a/b'); {WAY_OUT}"
    )


def test_a_hub_that_never_answers_is_given_up_within_six_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        said = ask("a/b", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 6
    assert said is not None and said.startswith("Hugging Face cannot be reached for a/b (")


@pytest.mark.parametrize(
    ("hugging_face", "environ", "said"),
    [
        (True, {"HF_ENDPOINT": "https://hub.invalid"}, ("Hugging Face", "HF_ENDPOINT")),
        (False, {"MODELSCOPE_DOMAIN": "hub.invalid"}, ("ModelScope", "USE_HF=1")),
    ],
)
def test_a_hub_whose_name_does_not_resolve_fails_within_six_seconds(
    hugging_face: bool, environ: dict[str, str], said: tuple[str, str]
) -> None:
    began = time.monotonic()
    problem = str(hub_problem("a/b", "models", hugging_face=hugging_face, environ=environ))
    assert time.monotonic() - began < 6
    assert problem.startswith(f"{said[0]} cannot be reached for a/b (") and said[1] in problem.rpartition(";")[2]


def test_offline_mode_asks_nobody(hub: str) -> None:
    environ = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub}
    assert str(hub_problem("a/b-200", "models", hugging_face=True, environ=environ)) == (
        "a/b-200 is not cached and HF_HUB_OFFLINE is set; unset it, or give a local directory"
    )
    assert Hub.asked == []
