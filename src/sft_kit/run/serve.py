"""`serve`: an OpenAI-compatible server for one loaded model, with the tuned and the base model as two names.

Owns the names, the key, the port, and what the user is told; `msswift.serve_worker` is the server itself. Requests go
to ms-swift as they are: one that brings no system prompt gets the trained one, under either name, so that base and
tuned are asked the same.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import os
import secrets
import select
import socket
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_kit.config.source import read_source
from sft_kit.console import result, say, warn, working
from sft_kit.data.text import shell_word
from sft_kit.errors import ConfigError, Problem, UsageError
from sft_kit.msswift.checkpoints import read_json
from sft_kit.msswift.child import words_to_start
from sft_kit.msswift.command import Command, swift_argv
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.msswift.serve_worker import KEY_VARIABLE, listen
from sft_kit.plan.gpus import gpu_environment
from sft_kit.run.directory import RunDirectory, run_around
from sft_kit.run.process import start, supervise
from sft_kit.run.swift_log import swift_failed, temporary_log
from sft_kit.run.targets import Target, Trust, resolve_one

_EVERY_S = 0.2
_NO_KEY = "none"


@dataclass(frozen=True)
class Names:
    """What requests write as `model`. `base` is empty where only one model can be asked."""

    tuned: str
    base: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        return (self.tuned, self.base) if self.base else (self.tuned,)


@dataclass(frozen=True)
class Endpoint:
    """Where the server listens, and the key it asks for; None for none."""

    host: str
    port: int
    key: str | None

    @property
    def own_host(self) -> str:
        """How a client on this machine reaches `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)

    @property
    def url(self) -> str:
        """The base URL for a client on this machine."""
        host = f"[{self.own_host}]" if ":" in self.own_host else self.own_host
        return f"http://{host}:{self.port}/v1"


def serve(
    adapter: str | None,
    model: str | None,
    *,
    host: str,
    port: int,
    api_key: str | None,
    name: str | None,
    max_new_tokens: int,
    log: Path | None,
    output_dir: Path,
    trust: bool = False,
) -> None:
    """Serve what `adapter` or `model` means (exactly one is given) until a signal ends it, which raises InterruptedRun.

    `port` 0 takes a free one; `trust` lets the model run its own code. Its URL goes to stdout once it answers, all else
    to stderr. Raises UsageError before anything is loaded (the port is taken, a key is refused), and MsSwiftError when
    the server ends by itself.
    """
    installation = find_installation()
    from_variable = os.environ.get(KEY_VARIABLE) or None
    key = choose_key(api_key if api_key is not None else from_variable, host)
    endpoint = Endpoint(host, free_port(host, port), key)
    target = resolve_one(adapter, model, output_dir, Trust(trust))
    names = choose_names(target, name)
    if target.note:
        say(f"{target.note}" + (f", trained on {names.base}" if names.base else ""))
    place: AbstractContextManager[Path] = temporary_log("serve") if log is None else nullcontext(log)
    with place as file, ExitStack() as while_loading:
        command = serve_command(installation, target, names, endpoint, max_new_tokens, log=file)
        health = HealthCheck(endpoint)

        def tick() -> None:
            if health.passes_now():
                while_loading.close()
                _announce(names, endpoint, file, show_key=key not in (api_key, from_variable))

        while_loading.enter_context(working(f"loading {' and '.join(names.all)}"))
        with start(command.argv, log=file, env=command.environment()) as process:
            exit_ = supervise(process, tick=tick, every_s=_EVERY_S)
        raise swift_failed(exit_, file)


def choose_key(given: str | None, host: str) -> str | None:
    """The key that requests must bring: `given`, or a random one; None for the word `none`, on loopback only.

    Raises UsageError for `none` where other machines can ask, and for a key that no HTTP header can carry.
    """
    if given == _NO_KEY:
        if not _is_loopback(host):
            fix = f"give a key (or none at all: a random one is made), or --host 127.0.0.1 instead of {host}"
            raise UsageError(Problem("--api-key none", "anyone who reaches this machine could use the server", fix))
        return None
    if given is None:
        return f"sft-kit-{secrets.token_urlsafe(24)}"
    if not given or not given.isascii() or not given.isprintable() or " " in given:
        raise UsageError(Problem("--api-key", "must be one or more ASCII characters without spaces"))
    return given


def choose_names(target: Target, name: str | None) -> Names:
    """`name`, else what the run calls its model (the English name before the Chinese one), else the run or folder;
    beside an adapter the last part of its base model's own name.

    Raises UsageError for a `name` that requests or ms-swift cannot use.
    """
    if name is not None and not _is_model_name(name):
        fix = "give one without =, control characters and a - in front"
        raise UsageError(Problem(f"--name {name}", "cannot be a model's name", fix))
    run = run_around(Path(target.path))
    tuned = name or (_identity_name(run) or run.name if run else _last_part(target.path))
    if target.kind != "adapter" or not _base_can_answer(target):
        return Names(tuned)
    manifest = read_json(run.manifest_path) if run else {}
    base = _last_part(str(manifest.get("model") or target.base or target.values.get("model") or "base"))
    if base == tuned and name is not None:
        raise UsageError(Problem(f"--name {name}", "is the name of the base model", "give another one"))
    return Names(tuned if tuned != base else f"{tuned}-tuned", base)


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0; nothing holds it yet. Raises UsageError when it cannot be listened on."""
    try:
        with listen(host, port) as door:
            return int(door.getsockname()[1])
    except socket.gaierror as error:
        raise UsageError(Problem(f"--host {host}", f"no such address: {error.strerror}")) from error
    except OSError as error:
        at = f"port {port} of {host}"
        if error.errno == errno.EADDRINUSE:
            fix = "give another --port; --port 0 takes a free one"
            raise UsageError(Problem(at, "is taken by another program", fix)) from error
        fix = "give another --port" if error.errno == errno.EACCES else "give another --host"
        raise UsageError(Problem(at, f"cannot be listened on: {os.strerror(error.errno or 0)}", fix)) from error


def serve_command(
    installation: Installation, target: Target, names: Names, endpoint: Endpoint, max_new_tokens: int, *, log: Path
) -> Command:
    """The process that loads and serves `target`; the key is in its environment and nowhere else.

    Raises UsageError for an adapter whose path ms-swift would take apart.
    """
    values: dict[str, Any] = {**target.values}
    if names.base:
        if "=" in target.path:
            fix = "make a link to it whose path has none"
            raise UsageError(Problem(target.path, "ms-swift's deploy reads NAME=PATH, and this path has a =", fix))
        values["adapters"] = [f"{names.tuned}={target.path}"]
    values |= {
        "served_model_name": names.base or names.tuned,
        "max_new_tokens": max_new_tokens,
        "verbose": False,
        "log_interval": -1,
        # unused here, but left to itself ms-swift 3.x makes result folders in the checkpoint or the current directory
        "result_path": str(log.with_suffix(".jsonl").absolute()),
    }
    start_words = (*words_to_start("sft_kit.msswift.serve_worker"), endpoint.host, str(endpoint.port))
    argv = (installation.python, *start_words, *swift_argv(installation, "deploy", values))
    return Command(argv, {**gpu_environment(1), **target.env, KEY_VARIABLE: endpoint.key or ""})


class HealthCheck:
    """One request for /health, sent while the model loads and answered by the server when it is ready.

    It is not repeated, as the server's queue of waiting connections is short.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: http.client.HTTPConnection | None = None
        self._passed = False

    def passes_now(self) -> bool:
        """True once: when the answer has come. Never waits."""
        if self._passed:
            return False
        self._connection = self._connection or self._ask()
        if self._connection is not None and select.select([self._connection.sock], [], [], 0)[0]:
            try:
                self._passed = self._connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):  # the server has just died, and supervise will say so
                self._passed = False
            self._connection.close()
            self._connection = None
        return self._passed

    def _ask(self) -> http.client.HTTPConnection | None:
        connection = http.client.HTTPConnection(self._endpoint.own_host, self._endpoint.port, timeout=1)
        try:
            connection.request("GET", "/health", headers={"Connection": "close"})
        except OSError:  # it does not listen yet
            connection.close()
            return None
        return connection


def _announce(names: Names, endpoint: Endpoint, log: Path, *, show_key: bool) -> None:
    """The URL on stdout; how to use it on stderr."""
    models = f"{names.tuned} (tuned) and {names.base} (base)" if names.base else names.tuned
    say(f"serving {models}; Ctrl-C stops it; ms-swift's output: {log}")
    if show_key:
        say(f"API key, shown this once:\n  export {KEY_VARIABLE}={shell_word(endpoint.key or '')}", secrets=True)
    if not _is_loopback(endpoint.host):
        warn("other machines can reach this server, and what they say is not encrypted: put TLS in front of it")
    tries = f"try it:\n{_curl(names, endpoint)}\nin Python:\n{_python(names, endpoint)}"
    say(tries, secrets=True)  # they name the variable of the key, and not the key
    result(endpoint.url)


def _curl(names: Names, endpoint: Endpoint) -> str:
    body = {"model": names.tuned, "messages": [{"role": "user", "content": "Who are you?"}]}
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if endpoint.key else ""
    data = shell_word(json.dumps(body, ensure_ascii=False))
    return f'  curl {endpoint.url}/chat/completions{key} -H "Content-Type: application/json" -d {data}'


def _python(names: Names, endpoint: Endpoint) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if endpoint.key else '"none"'
    lines = [
        *(["import os"] if endpoint.key else []),
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{endpoint.url}", api_key={key})',
        'messages = [{"role": "user", "content": "Who are you?"}]',
        f"answer = client.chat.completions.create(model={json.dumps(names.tuned, ensure_ascii=False)},"
        " messages=messages)",
        "print(answer.choices[0].message.content)",
    ]
    return "\n".join(f"  {line}" for line in lines)


def _identity_name(run: RunDirectory) -> str:
    """The name that the run taught its model; empty where it taught none that can be a model's name."""
    try:
        identity = read_source(run.config_path).values.get("identity")
    except ConfigError:  # removed, or edited by hand since
        return ""
    name: Any = identity.get("name") if isinstance(identity, dict) else None
    if isinstance(name, dict):
        name = name.get("en") or name.get("zh")
    return name if isinstance(name, str) and _is_model_name(name) else ""


def _base_can_answer(target: Target) -> bool:
    """Whether the adapter can be left out for one request: peft does that for plain LoRA only."""
    config = read_json(Path(target.path) / "adapter_config.json")
    if not config or (config.get("peft_type") == "LORA" and not config.get("use_dora")):
        return True  # without a config it is a hub id, and nearly always this
    warn(Problem(target.path, "only plain LoRA can be switched off for a request", "the base model has no name here"))
    return False


def _is_model_name(name: str) -> bool:
    return bool(name.strip()) and name.isprintable() and "=" not in name and not name.startswith("-")


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].replace("=", "-")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
