"""Hubs and the environment: what will be downloaded from where, and variables that do not do what they look like.

Asks no network: `prepare` does, where a run is to start.
"""

from __future__ import annotations

import difflib
import errno
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from sft_kit.checks.facts import Facts
from sft_kit.findings import Finding
from sft_kit.msswift.hub import is_set
from sft_kit.msswift.model_types import model_types

_GATED = ("meta-llama/", "google/gemma", "mistralai/", "CohereForAI/", "CohereLabs/", "bigcode/starcoder")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_KNOWN_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "NPROC_PER_NODE",
    "MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "HF_TOKEN",
    "PYTORCH_HIP_ALLOC_CONF", "USE_HF", "MODELSCOPE_CACHE", "MODELSCOPE_API_TOKEN", "WANDB_API_KEY", "SWANLAB_API_KEY",
)  # fmt: skip
_ALLOCATOR_OPTIONS = (  # torch/csrc/cuda/CUDAAllocatorConfig.cpp: any other ends in "Unrecognized ... option"
    "backend", "expandable_segments", "garbage_collection_threshold", "max_non_split_rounding_mb", "max_split_size_mb",
    "pinned_num_register_threads", "pinned_use_cuda_host_register", "release_lock_on_cudamalloc",
    "roundup_power2_divisions",
)  # fmt: skip
_TORCHRUN_PORT = 29500


def hub_findings(facts: Facts) -> Iterator[Finding]:
    """Offline, the wrong hub, no token, a proxy without its package."""
    if facts.config.use_hf is False and is_set(facts.environment.environ, "USE_HF"):
        # base_args: `if self.use_hf or use_hf_hub(): self.use_hf = True`
        message = "false has no effect while USE_HF is set: Hugging Face is used"
        yield Finding("use-hf-contradicted", "warning", "use_hf", message, "unset USE_HF, or set USE_HF=0")
    if facts.model and not facts.model.local and facts.directory is None:
        yield from _model_to_download(facts, facts.model.name)


def variable_findings(facts: Facts) -> Iterator[Finding]:
    """Environment variables that are spelt wrong, or have no effect here; a port that is taken."""
    environ = facts.environment.environ
    yield from _misspelt(environ)
    if "TRANSFORMERS_CACHE" in environ and (facts.environment.release("transformers") or ()) >= (5,):
        message = "TRANSFORMERS_CACHE is not read by transformers 5 any more"
        yield Finding("unused-variable", "warning", "", message, "set HF_HOME or HF_HUB_CACHE")
    if "HF_ENDPOINT" in environ and not facts.hugging_face and facts.model and not facts.model.local:
        message = "HF_ENDPOINT is set, but the model comes from ModelScope"
        yield Finding("unused-variable", "note", "", message, "USE_HF=1 takes Hugging Face")
    endpoint = environ.get("HF_ENDPOINT", "https://")
    if facts.hugging_face and not endpoint.startswith(("http://", "https://")):  # requests: MissingSchema
        message = f"HF_ENDPOINT is {endpoint}, which is no address: every download ends in an error"
        yield Finding("bad-endpoint", "error", "", message, f"HF_ENDPOINT=https://{endpoint.lstrip('/')}")
    yield from _port(facts)


def _model_to_download(facts: Facts, name: str) -> Iterator[Finding]:
    environ = facts.environment.environ
    offline = next((key for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if is_set(environ, key)), "")
    if facts.hugging_face and offline:
        # huggingface_hub/constants.py takes either for HF_HUB_OFFLINE
        fix = "unset it, or give a local directory"
        yield Finding("offline", "error", "model", f"{name} is not cached and {offline} is set", fix)
        return
    other = _name_on_the_other_hub(facts, name)
    if other:
        here, there = ("Hugging Face", "ModelScope") if facts.hugging_face else ("ModelScope", "Hugging Face")
        message = f"{name} is its name on {there}; on {here}, which is used, it is {other}"
        yield Finding("other-hubs-name", "warning", "model", message, f"write {other}, or change use_hf")
    elif facts.hugging_face and name.startswith(_GATED) and not _has_hf_token(facts):
        message = (
            f"{name} is given out by Hugging Face only to accounts that accepted its licence, and there is no token"
        )
        yield Finding("gated-model", "warning", "model", message, "accept the licence there and set HF_TOKEN")
    old_hub = (facts.environment.release("huggingface-hub") or (1,)) < (1,)
    fast = facts.hugging_face and old_hub and is_set(environ, "HF_HUB_ENABLE_HF_TRANSFER")
    if fast and not facts.environment.has("hf_transfer"):  # 0.x, file_download.http_get: ValueError
        message = "HF_HUB_ENABLE_HF_TRANSFER needs hf_transfer, which is not installed; downloads refuse to start"
        yield Finding("missing-package", "error", "", message, "pip install hf_transfer, or unset it")
    proxy = next((key for key in _proxy_names() if environ.get(key, "").startswith("socks")), "")
    if proxy and not facts.environment.has("socks" if not _by_httpx(facts) else "socksio"):
        package = "httpx[socks]" if _by_httpx(facts) else "PySocks"
        message = f"{proxy} is a SOCKS proxy, which downloads cannot use without {package}"
        yield Finding("socks-proxy", "warning", "", message, f'pip install "{package}", or give an http:// proxy')


def _by_httpx(facts: Facts) -> bool:
    """huggingface_hub 1.x works by httpx; 0.x and modelscope by requests."""
    return facts.hugging_face and (facts.environment.release("huggingface-hub") or ()) >= (1,)


def _proxy_names() -> list[str]:
    return [each for name in _PROXIES for each in (name, name.upper())]


def _name_on_the_other_hub(facts: Facts, name: str) -> str | None:
    """What the hub in use calls a registered model whose name is the other hub's alone."""
    here, others = set(), None
    for info in model_types(facts.installation).values():
        for model in info.models:
            own, other = (model.hf_id, model.ms_id) if facts.hugging_face else (model.ms_id, model.hf_id)
            here.add((own or "").lower())
            if other and own and other.lower() == name.lower() and own.lower() != name.lower():
                others = own
    return None if name.lower() in here else others


def _has_hf_token(facts: Facts) -> bool:
    environ = facts.environment.environ
    if facts.config.hub_token or environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    home = Path(environ.get("HF_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".cache/huggingface")
    return Path(environ.get("HF_TOKEN_PATH") or home / "token").is_file()


def _misspelt(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in environ:
        if name in _KNOWN_VARIABLES or not _like_ours(name):
            continue
        close = difflib.get_close_matches(name, _KNOWN_VARIABLES, n=1, cutoff=0.9)
        if close and close[0] not in environ:
            message = f"the variable {name} is read by nothing; did you mean {close[0]}?"
            yield Finding("misspelt-variable", "warning", "", message, f"set {close[0]}")
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        for option in re.findall(r"(?:^|,)\s*(\w+)\s*:", environ.get(name, "")):
            close = difflib.get_close_matches(option, _ALLOCATOR_OPTIONS, n=1, cutoff=0.8)
            if option not in _ALLOCATOR_OPTIONS and close:
                message = f"{name} has the option {option}, which torch refuses at the first use of a GPU; "
                message += f"did you mean {close[0]}?"
                yield Finding("misspelt-variable", "warning", "", message, f"write {close[0]}:")


def _like_ours(name: str) -> bool:
    """Compared only where the beginning is right: a machine has hundreds of variables."""
    return name[:3] in ("CUD", "PYT", "NPR", "MAS", "NNO", "HF_", "USE", "MOD", "WAN", "SWA")


def _port(facts: Facts) -> Iterator[Finding]:
    """torchrun's rendezvous; the second of two runs on one machine ends with EADDRINUSE."""
    environ = facts.environment.environ
    given = environ.get("MASTER_PORT", "")
    if facts.processes < 2 or environ.get("NODE_RANK", "0") != "0" or (given and not given.isdigit()):
        return
    port = int(given or _TORCHRUN_PORT)
    if 0 < port < 65536 and _taken(port):
        message = f"port {port} is taken (another run on this machine?); torchrun cannot start"
        yield Finding("port-taken", "error", "launch.gpus", message, "set MASTER_PORT to a free one")


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
