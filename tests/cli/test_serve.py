"""`sft-kit serve` as far as it gets without loading a model."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.cli.conftest import Run

EVERYWHERE = "0.0.0.0"  # noqa: S104 (nothing listens there)


def test_a_taken_port_is_said_before_a_model_is_looked_for(sft_kit: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refused = sft_kit("serve", "--adapter", "no/such/adapter", "--port", port)
    assert refused.returncode == 2
    assert f"port {port} of 127.0.0.1" in refused.stderr
    assert "--port 0 takes a free one" in refused.stderr
    assert refused.stdout == ""


def test_a_server_for_other_machines_has_a_key(sft_kit: Run) -> None:
    refused = sft_kit("serve", "--adapter", "latest", "--host", EVERYWHERE, "--port", "0", "--api-key", "none")
    assert refused.returncode == 2
    assert "--api-key none: anyone who reaches this machine could use the server" in refused.stderr


def test_one_of_adapter_and_model_is_given(sft_kit: Run) -> None:
    for given in ([], ["--adapter", "latest", "--model", "x/y"]):
        refused = sft_kit("serve", "--port", "0", *given)
        assert refused.returncode == 2
        assert "give either --adapter or --model" in refused.stderr


def test_a_log_that_cannot_be_written_is_said(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter" / "args.json").write_text(json.dumps({"model": str(tmp_path / "base")}))
    refused = sft_kit("serve", "--adapter", str(tmp_path / "adapter"), "--port", "0", "--log", "nowhere/serve.log")
    assert refused.returncode == 2
    assert "its folder does not exist" in refused.stderr
