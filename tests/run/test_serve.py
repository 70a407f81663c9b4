"""What a server is called, which key and port it has, and the command that starts it. No ms-swift is started."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from sft_kit.errors import UsageError
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.serve_worker import KEY_VARIABLE, listen
from sft_kit.run.serve import Endpoint, HealthCheck, Names, choose_key, choose_names, free_port, serve_command
from sft_kit.run.targets import Target

SECRET = "a-secret-key"
EVERYWHERE = "0.0.0.0"  # noqa: S104 (nothing listens there)


def adapter(folder: Path, *, identity: str = "", base: str = "/models/tiny-qwen2-5", **config: object) -> Target:
    """A checkpoint; with `identity`, YAML of that section, it lies in a run."""
    checkpoint = folder / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    (checkpoint / "args.json").write_text(json.dumps({"model": base}))
    if identity:
        (folder / "sft-kit").mkdir()
        (folder / "sft-kit" / "manifest.json").write_text(json.dumps({"model": "sft-kit/tiny-qwen2"}))
        (folder / "sft-kit" / "config.yaml").write_text(f"model: x\n{identity}\n", encoding="utf-8")
    return Target("adapter", str(checkpoint), {"adapters": [str(checkpoint)]})


@pytest.mark.parametrize(
    ("identity", "tuned"),
    [
        ("identity: {name: {zh: 精衡, en: Jingheng}, author: Ye}", "Jingheng"),
        ("identity: {name: {zh: 精衡}, author: Ye}", "精衡"),
        ("identity: {name: Ada 2, author: Ye}", "Ada 2"),
        ("identity: {name: a=b, author: Ye}", "v0-20260101-000000"),
        ("system: no identity", "v0-20260101-000000"),
        ("tiny: [broken", "v0-20260101-000000"),
    ],
)
def test_the_tuned_model_is_called_as_its_run_calls_it(identity: str, tuned: str, tmp_path: Path) -> None:
    target = adapter(tmp_path / "v0-20260101-000000", identity=identity)
    assert choose_names(target, None) == Names(tuned, "tiny-qwen2")
    assert choose_names(target, "mine") == Names("mine", "tiny-qwen2")


def test_without_a_run_folders_and_hub_ids_give_the_names(tmp_path: Path) -> None:
    assert choose_names(adapter(tmp_path, base="Qwen/Qwen2.5-7B-Instruct"), None) == Names(
        "checkpoint-2", "Qwen2.5-7B-Instruct"
    )
    assert choose_names(Target("model", str(tmp_path / "merged"), {}), None) == Names("merged")
    assert choose_names(Target("model", "org/name", {}), "mine") == Names("mine")


def test_two_models_never_share_a_name(tmp_path: Path) -> None:
    target = adapter(tmp_path / "run", identity="identity: {name: tiny-qwen2, author: Ye}")
    assert choose_names(target, None) == Names("tiny-qwen2-tuned", "tiny-qwen2")
    with pytest.raises(UsageError, match="is the name of the base model"):
        choose_names(target, "tiny-qwen2")


@pytest.mark.parametrize("name", ["", " ", "a=b", "-x", "two\nlines"])
def test_a_name_that_no_request_can_use_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        choose_names(adapter(tmp_path), name)


def test_an_adapter_that_cannot_be_switched_off_is_served_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = adapter(tmp_path, use_dora=True)
    names = choose_names(target, "mine")
    assert names == Names("mine")
    assert "only plain LoRA" in capfd.readouterr().err
    argv = serve_command(find_installation(), target, names, Endpoint("127.0.0.1", 8000, None), 64, log=tmp_path).argv
    assert argv[argv.index("--adapters") + 1] == target.path


def test_the_command_names_both_models_and_holds_no_key(tmp_path: Path) -> None:
    target = adapter(tmp_path / "run")
    endpoint = Endpoint("127.0.0.1", 8123, SECRET)
    installation = find_installation()
    command = serve_command(installation, target, Names("Ada", "base"), endpoint, 64, log=tmp_path / "serve.log")
    assert command.argv[0] == installation.python
    assert command.argv[3:] == (
        "127.0.0.1", "8123",
        "--adapters", f"Ada={target.path}",
        "--served_model_name", "base",
        "--max_new_tokens", "64",
        "--verbose", "false",
        "--log_interval=-1",
        "--result_path", str(tmp_path / "serve.jsonl"),
    )  # fmt: skip
    assert SECRET not in " ".join(command.argv)
    assert command.env[KEY_VARIABLE] == SECRET
    assert SECRET not in command.shell()


def test_a_server_without_a_key_does_not_inherit_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    target = adapter(tmp_path)
    open_door = Endpoint("127.0.0.1", 8000, None)
    command = serve_command(find_installation(), target, Names("a", "b"), open_door, 64, log=tmp_path / "log")
    assert command.environment()[KEY_VARIABLE] == ""


def test_a_path_that_ms_swift_would_take_apart_is_refused(tmp_path: Path) -> None:
    target = adapter(tmp_path / "lr=1e-4")
    endpoint = Endpoint("127.0.0.1", 8000, SECRET)
    with pytest.raises(UsageError, match="has a ="):
        serve_command(find_installation(), target, Names("a", "b"), endpoint, 64, log=tmp_path / "log")


def test_a_key_is_random_unless_given() -> None:
    first, second = choose_key(None, EVERYWHERE), choose_key(None, "127.0.0.1")
    assert first and second and first != second
    assert len(first) > 30
    assert choose_key(SECRET, EVERYWHERE) == SECRET


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_no_key_at_all_is_for_this_machine_only(host: str) -> None:
    assert choose_key("none", host) is None
    for reachable in (EVERYWHERE, "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(UsageError, match="anyone who reaches this machine"):
            choose_key("none", reachable)


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\n"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="ASCII"):
        choose_key(key, "127.0.0.1")


def test_a_taken_port_is_named_and_a_free_one_found() -> None:
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1: is taken by another program"):
            free_port("127.0.0.1", port)
        assert free_port("127.0.0.1", 0) not in (0, port)
    assert free_port("127.0.0.1", port) == port


@pytest.mark.parametrize(
    ("host", "message"), [("203.0.113.7", "cannot be listened on"), ("no.such.host.invalid", "no such address")]
)
def test_an_address_of_another_machine_is_refused(host: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        free_port(host, 0)


def test_urls_are_those_that_a_client_on_this_machine_uses() -> None:
    hosts = ["127.0.0.1", EVERYWHERE, "::1", "::", "192.168.0.7"]
    assert [Endpoint(host, 80, None).url for host in hosts] == [
        "http://127.0.0.1:80/v1",
        "http://127.0.0.1:80/v1",
        "http://[::1]:80/v1",
        "http://[::1]:80/v1",
        "http://192.168.0.7:80/v1",
    ]


def answer_once(door: socket.socket, status: str) -> None:
    connection, _ = door.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def wait_for(check: HealthCheck) -> bool:
    done = threading.Event()
    return any(check.passes_now() or done.wait(0.01) for _ in range(300))


def test_the_health_check_passes_once_and_only_when_it_was_answered_well() -> None:
    with listen("127.0.0.1", 0) as door:
        check = HealthCheck(Endpoint("127.0.0.1", door.getsockname()[1], None))
        assert not check.passes_now()  # it listens, and does not answer yet
        answer_once(door, "503 Busy")
        for _ in range(300):  # the bad answer is read, and the next request sent
            assert not check.passes_now()
        answer_once(door, "200 OK")
        assert wait_for(check)
        assert not check.passes_now()


def test_the_health_check_waits_for_a_server_that_does_not_listen_yet() -> None:
    port = free_port("127.0.0.1", 0)
    check = HealthCheck(Endpoint("127.0.0.1", port, None))
    assert not check.passes_now()
    with listen("127.0.0.1", port) as door:
        assert not check.passes_now()
        answer_once(door, "200 OK")
        assert wait_for(check)
