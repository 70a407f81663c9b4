"""`serve` on a real adapter, asked by the official OpenAI client. One server answers all of these tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_kit.msswift.install import find_installation
from sft_kit.run.chats import open_chat
from tests.integration.conftest import FinishedRun

pytestmark = pytest.mark.real
TUNED, BASE = "Jingheng", "tiny-qwen2"
TRAINED_SYSTEM = "You are Jingheng, and you are brief."
QUESTION = [{"role": "user", "content": "Who made you?"}]
TOKENS = 6


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    stderr: str
    key: str
    adapter: Path
    log: Path

    def client(self, key: str | None = None) -> Any:
        from openai import OpenAI

        return OpenAI(base_url=self.url, api_key=key or self.key, max_retries=0, timeout=60)

    def ask(self, model: str, messages: list[dict[str, str]] | None = None) -> Any:
        """Greedily; the token limit is the server's own default."""
        return self.client().chat.completions.create(model=model, messages=messages or QUESTION, temperature=0)


def start_server(folder: Path, adapter: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "serve", "--adapter", str(adapter), "--port", "0", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def copied(run: Path, folder: Path) -> Path:
    """The checkpoint of a copy of `run`."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("optimizer.pt", "images", "runs"))
    return folder / "checkpoint-2"


@pytest.fixture(scope="module")
def broken(smoke_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A server whose adapter cannot be read, and its stderr; it fails while the other one loads."""
    folder = tmp_path_factory.mktemp("broken")
    adapter = copied(smoke_run.run, folder / "run")
    (adapter / "adapter_model.safetensors").write_bytes(b"not weights")
    process = start_server(folder, adapter)
    yield process, folder / "stderr"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def server(
    smoke_run: FinishedRun, broken: tuple[Any, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The finished run, as if it had been trained with a system prompt."""
    folder = tmp_path_factory.mktemp("serve")
    adapter = copied(smoke_run.run, folder / "run")
    arguments = json.loads((adapter / "args.json").read_text("utf-8"))
    (adapter / "args.json").write_text(json.dumps({**arguments, "system": TRAINED_SYSTEM}))
    process = start_server(folder, adapter, "--log", "serve.log", "--max-new-tokens", str(TOKENS))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    stderr = (folder / "stderr").read_text("utf-8")
    assert url, stderr
    found = re.search(r"export SFT_KIT_API_KEY=(\S+)", stderr)
    assert found, stderr
    yield Server(process, url, stderr, found[1], adapter, folder / "serve.log")
    process.terminate()
    process.wait()


def test_what_is_printed_is_all_that_a_user_needs(server: Server) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", server.url)
    assert f"serving {TUNED} (tuned) and {BASE} (base)" in server.stderr
    assert server.stderr.count(server.key) == 1
    (curl,) = re.findall(r"^  (curl .*)$", server.stderr, re.MULTILINE)
    environment = {**os.environ, "SFT_KIT_API_KEY": server.key}
    answer = subprocess.run(["bash", "-c", curl], env=environment, capture_output=True, text=True, timeout=60)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"], answer.stderr
    program = re.sub(r"^  ", "", server.stderr.partition("in Python:\n")[2], flags=re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout.strip(), answer.stderr


def test_both_models_are_listed_and_answer_as_in_a_chat(server: Server, tmp_path: Path) -> None:
    assert [model.id for model in server.client().models.list()] == [BASE, TUNED]
    with open_chat(find_installation(), {"adapters": [str(server.adapter)]}, log=tmp_path / "chat.log", env={}) as chat:
        expected = {
            name: chat.ask(QUESTION, base=name == BASE, max_new_tokens=TOKENS, temperature=0.0)
            for name in (TUNED, BASE)
        }
    assert expected[TUNED].text != expected[BASE].text  # so an adapter that is always on, or never, would be seen
    for name in (TUNED, BASE, TUNED):
        answer = server.ask(name)
        assert answer.choices[0].message.content == expected[name].text
        assert answer.usage.prompt_tokens == expected[name].prompt_tokens


def test_streamed_pieces_are_the_whole_answer(server: Server) -> None:
    for name in (TUNED, BASE):
        pieces = server.client().chat.completions.create(model=name, messages=QUESTION, temperature=0, stream=True)
        choices = [piece.choices[0] for piece in pieces]
        text = "".join(choice.delta.content or "" for choice in choices)
        # ms-swift 3.x cuts blanks off the front of a stream
        assert text.strip() == server.ask(name).choices[0].message.content.strip()
        assert choices[-1].finish_reason == "length"


def test_the_trained_system_prompt_stands_where_a_request_has_none(server: Server) -> None:
    asked = {
        system: server.ask(TUNED, [{"role": "system", "content": system}, *QUESTION])
        for system in (TRAINED_SYSTEM, "Be kind.")
    }
    without = server.ask(TUNED)
    assert without.usage.prompt_tokens == asked[TRAINED_SYSTEM].usage.prompt_tokens
    assert without.choices[0].message.content == asked[TRAINED_SYSTEM].choices[0].message.content
    assert without.usage.prompt_tokens != asked["Be kind."].usage.prompt_tokens


def test_a_wrong_key_is_refused_everywhere(server: Server) -> None:
    import httpx
    from openai import AuthenticationError

    stranger = server.client("wrong")
    with pytest.raises(AuthenticationError):
        stranger.models.list()
    with pytest.raises(AuthenticationError):
        stranger.chat.completions.create(model=TUNED, messages=QUESTION)
    for path, status in {"/health": 200, "/v1/models": 401, "/openapi.json": 401, "/nothing": 401}.items():
        assert httpx.get(server.url.removesuffix("/v1") + path).status_code == status


def test_a_request_that_fails_leaves_the_server_to_the_next_one(server: Server) -> None:
    from openai import BadRequestError

    long = [{"role": "user", "content": "Who " * 3000}]
    for options in ({}, {"stream": True}):
        with pytest.raises(BadRequestError, match="max_length"):
            server.client().chat.completions.create(model=TUNED, messages=long, **options)
    two_answers = {"n": 2, "temperature": 1.0}  # which ms-swift cannot give beside an adapter
    for options in (two_answers, {**two_answers, "stream": True}):
        with pytest.raises(BadRequestError):
            server.client().chat.completions.create(model=TUNED, messages=QUESTION, **options)
    assert server.ask(TUNED).choices[0].message.content


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HOSTILE: dict[str, bytes | dict[str, Any]] = {
    "null beside a tool call": {"messages": [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    "content that is a number": {"messages": [{"role": "user", "content": 3}]},
    "a part of no type": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    "a picture that is a number": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 3}]}]},
    "a wizard": {"messages": [{"role": "wizard", "content": "Hi"}]},
    "nobody": {"messages": [{"content": "Hi"}]},
    "no messages": {"messages": "Hi"},
    "no model": {"model": None, "messages": QUESTION},
    "another model": {"model": "gpt-9", "messages": QUESTION},
    "less than no tokens": {"messages": QUESTION, "max_tokens": -1},
    "tokens in words": {"messages": QUESTION, "max_tokens": "many"},
    "no number": {"messages": QUESTION, "temperature": float("nan")},
    "no number in words": {"messages": QUESTION, "temperature": "nan"},
    "tools that are none": {"messages": QUESTION, "tools": [{"type": "function"}], "tool_choice": {"function": 3}},
    "a stop that is none": {"messages": QUESTION, "stop": {"a": 1}},
    "half a character": {"messages": [{"role": "user", "content": "\ud800"}]},
    "ten megabytes": {"messages": [{"role": "user", "content": "word " * 2_000_000}]},
    "very deep": b'{"messages":' + b"[" * 100_000,
    "no UTF-8": b'{"messages": "\xff"}',
    "no JSON": b"{",
    "nothing": b"",
}


def test_a_hostile_request_gets_a_reason_and_the_server_stays(server: Server) -> None:
    import httpx

    began = time.monotonic()
    answers = {}
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    with httpx.Client(headers=headers, timeout=60) as client:
        for path in ("chat/completions", "completions", "embeddings"):
            for name, request in HOSTILE.items():
                body = request if isinstance(request, bytes) else json.dumps({"model": TUNED, **request}).encode()
                answers[path, name] = client.post(f"{server.url}/{path}", content=body)
    wrong = {key: (answer.status_code, answer.text[:200]) for key, answer in answers.items()
             if not 400 <= answer.status_code < 500 or not answer.json()}  # fmt: skip
    assert wrong == {}
    assert "messages[1].content" in answers["chat/completions", "null beside a tool call"].json()["error"]["message"]
    assert server.ask(TUNED).choices[0].message.content
    assert time.monotonic() - began < 60
    assert server.process.poll() is None


def test_requests_at_the_same_time_each_get_the_model_they_asked(server: Server) -> None:
    alone = {name: server.ask(name).choices[0].message.content for name in (TUNED, BASE)}
    names = [TUNED, BASE] * 3
    with ThreadPoolExecutor(len(names)) as pool:
        together = [answer.choices[0].message.content for answer in pool.map(server.ask, names)]
    assert together == [alone[name] for name in names]


def test_the_key_is_in_no_command_line_and_in_no_log_and_no_request_is_kept(server: Server) -> None:
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    assert len(family) >= 3  # sft-kit, its guard, the server
    assert all(server.key not in " ".join(process.cmdline()) for process in family)
    log = server.log.read_text("utf-8")
    assert "DeployArguments(" in log
    assert server.key not in log
    assert QUESTION[0]["content"] not in log
    assert sorted(path.name for path in server.log.parent.iterdir()) == ["run", "serve.log", "stderr"]
    assert not any("result" in path.name for path in server.adapter.iterdir())


def test_it_listens_on_loopback_only(server: Server) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    doors = [door for process in family for door in process.net_connections("inet") if door.status == "LISTEN"]
    assert {door.laddr.ip for door in doors} == {"127.0.0.1"}


def test_ctrl_c_ends_it_all_at_once(server: Server) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    started = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 130
    assert time.monotonic() - started < 5
    assert not any(process.is_running() for process in family)


def test_an_adapter_that_cannot_be_read_is_ms_swifts_failure_with_its_cause(broken: tuple[Any, Path]) -> None:
    process, stderr = broken
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 4
    assert stdout == ""  # it was never called ready
    assert "SafetensorError" in stderr.read_text("utf-8")
