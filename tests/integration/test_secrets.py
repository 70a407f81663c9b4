"""A real training and evaluation with a secret in every entrance: none of them is in anything that the run leaves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sft_kit.resources import cache_dir
from tests.integration.conftest import SMOKE

pytestmark = pytest.mark.real

CONFIG = """
use_hf: true
hub_token: canary-hub
report_to: [swanlab, tensorboard]
swanlab_mode: local
swanlab_token: canary-swanlab
swanlab_secret: canary-notification
swanlab_webhook_url: https://open.example.invalid/hook/canary-webhook
swanlab_notification_method: lark
external_plugins: [plugin.py]
"""
LAUNCH = 'launch: {gpus: 0, env: {OPENAI_API_KEY: canary-openai, ALL_PROXY: "http://me:canary-proxy@localhost:1"}}'
ENV = {
    "WANDB_API_KEY": "canary-wandb",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "HTTPS_PROXY": "http://me:canary-https@localhost:3128",
}
# What the user's own code prints lands in ms-swift's log.
PLUGIN = "import os\nprint(dict(os.environ))\n"
# The part of swanlab that ms-swift calls; it says what it was given by a digest, so that the secret is in no file.
SWANLAB = {
    "__init__.py": """
import json, os
__version__ = "0.7.0"
def login(*_, **__): pass
def register_callbacks(callbacks):
    with open(os.environ["SWANLAB_SEEN"], "w") as file:
        json.dump([callback.given for callback in callbacks], file)
""",
    "integration/__init__.py": "",
    "integration/transformers.py": """
from transformers import TrainerCallback
class SwanLabCallback(TrainerCallback):
    def __init__(self, **_): pass
""",
    "plugin/__init__.py": "",
    "plugin/notification.py": """
import hashlib
class LarkCallback:
    def __init__(self, **given):
        self.given = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in given.items()}
DingTalkCallback = DiscordCallback = EmailCallback = SlackCallback = WXWorkCallback = LarkCallback
""",
}


def command_lines(of: int, seen: set[str], over: threading.Event) -> None:
    """Collect the arguments of every process below `of` until `over`."""
    while not over.wait(0.05):
        try:
            family = [psutil.Process(of), *psutil.Process(of).children(recursive=True)]
            seen |= {" ".join(process.cmdline()) for process in family}
        except psutil.Error:
            continue


def with_canaries(folder: Path, since: float) -> list[str]:
    """The files below `folder`, changed since then, that hold a canary."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime >= since]
    return sorted(str(path.relative_to(folder)) for path in paths if b"canary" in path.read_bytes())


def test_no_secret_is_left_anywhere(tmp_path: Path) -> None:
    work, stub, temporary = (tmp_path / name for name in ("work", "stub", "tmp"))
    for folder in (work, temporary):
        folder.mkdir()
    for name, text in SWANLAB.items():
        file = stub / "swanlab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    config = SMOKE.read_text(encoding="utf-8").replace("launch: {gpus: 0}", LAUNCH)
    (work / "config.yaml").write_text(config + CONFIG, encoding="utf-8")
    (work / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    own = {"PYTHONPATH": str(stub), "SWANLAB_SEEN": str(tmp_path / "seen.json"), "TMPDIR": str(temporary)}
    since, seen, over = time.time(), set[str](), threading.Event()
    launcher = subprocess.Popen(
        [sys.executable, "-m", "sft_kit", "train", "config.yaml", "--yes"],
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **ENV, **own},
    )
    watcher = threading.Thread(target=command_lines, args=(launcher.pid, seen, over))
    watcher.start()
    try:
        shown, _ = launcher.communicate(timeout=600)
    finally:
        over.set()
        watcher.join()
    assert launcher.returncode == 0, shown
    (run,) = (work / "output").iterdir()

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    webhook = "https://open.example.invalid/hook/canary-webhook"
    given = {"webhook_url": digest(webhook), "secret": digest("canary-notification")}
    assert json.loads((tmp_path / "seen.json").read_text(encoding="utf-8")) == [given]
    log = (run / "sft-kit" / "train.log").read_text(encoding="utf-8")
    assert "'WANDB_API_KEY': '************'" in log  # the plugin did print it

    assert any("swift/cli/sft.py" in words for words in seen)
    assert [words for words in seen if "canary" in words] == []
    assert "canary" not in shown
    for folder in (work, temporary, cache_dir()):
        assert with_canaries(folder, since) == []
    for name in (
        "checkpoint-2/args.json",
        "checkpoint-2/training_args.bin",
        "sft-kit/report.html",
        "sft-kit/config.yaml",
    ):
        assert (run / name).is_file()  # they were looked at
