"""How a secret reaches ms-swift: never as an argument."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sft_kit.errors import UsageError
from sft_kit.msswift import swanlab_entry
from sft_kit.msswift.command import swift_command
from sft_kit.msswift.install import find_installation

LARK = {"swanlab_notification_method": "lark"}


def test_a_key_of_swanlab_goes_by_its_own_variable() -> None:
    command = swift_command(find_installation(), "sft", {"model": "m", "swanlab_token": "s3"}, env={"A": "b"})
    assert command.argv[1].endswith("swift/cli/sft.py") and command.argv[2:] == ("--model", "m")
    assert command.env == {"A": "b", "SWANLAB_API_KEY": "s3"}


@pytest.mark.parametrize("source", ["config", "environment"])
def test_the_secrets_of_notifications_go_by_our_entry(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"swanlab_secret": "s3", "swanlab_webhook_url": "https://hook"}
    if source == "environment":
        for name, value in given.items():
            monkeypatch.setenv(name.upper(), value)
    values = LARK | (given if source == "config" else {})
    command = swift_command(find_installation(), "sft", values, env={})
    assert command.argv[1] == swanlab_entry.__file__ and command.argv[2].endswith("swift/cli/sft.py")
    assert command.argv[3:] == ("--swanlab_notification_method", "lark")
    assert json.loads(command.env[swanlab_entry.VARIABLE]) == given
    assert "s3" not in command.shell() and "https://hook" not in command.shell()


def test_several_processes_are_started_through_the_entry_too() -> None:
    values = LARK | {"swanlab_secret": "s3"}
    argv = swift_command(find_installation(), "sft", values, processes=2, env={}).argv
    assert argv[1:5] == ("-m", "torch.distributed.run", "--nproc_per_node", "2")
    assert argv[5] == swanlab_entry.__file__ and argv[6].endswith("swift/cli/sft.py")


def test_a_secret_that_only_an_argument_could_carry_is_refused() -> None:
    with pytest.raises(UsageError, match="api_key: ms-swift takes this secret only on its command line"):
        swift_command(find_installation(), "deploy", {"api_key": "s3"}, env={})


def test_arguments_hold_the_lent_secrets_only_while_swanlab_is_set_up() -> None:
    seen: list[dict[str, Any]] = []

    class Arguments(SimpleNamespace):
        def _init_swanlab(self) -> None:
            seen.append(dict(vars(self)))

    swanlab_entry.lend(Arguments, {"swanlab_secret": "s3"})
    arguments = Arguments(swanlab_secret=None, model="m")
    arguments._init_swanlab()
    assert seen == [{"swanlab_secret": "s3", "model": "m"}]
    assert vars(arguments) == {"swanlab_secret": None, "model": "m"}
