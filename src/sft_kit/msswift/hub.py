"""Model and data set names: is it a path or a hub id, is it cached, does the hub answer.

ms-swift takes any path that does not exist for a hub id and only fails after imports and retries (22 to 52 s
without a network); here that is found in milliseconds, or in one request of at most `TIMEOUT_S`.
"""

from __future__ import annotations

import difflib
import os
import queue
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sft_kit.errors import Problem

TIMEOUT_S = 5.0
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".tsv")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*")
_TRUE = ("1", "true", "yes", "on")


def looks_like_path(name: str) -> bool:
    """Whether a person who wrote `name` meant a file or folder, there or not."""
    if name.startswith(("/", "./", "../", "~", ".\\")) or "\\" in name or name in (".", ".."):
        return True
    if name.lower().endswith(DATA_SUFFIXES) or name.endswith("/") or name.count("/") > 1:
        return True
    return "/" in name and os.path.isdir(name.split("/", 1)[0])


def only_shares_a_folder(name: str) -> bool:
    """Whether `owner/name` is a hub id although a folder `owner/` is here: nothing in it is called like `name`.

    An ms-swift clone makes `swift/self-cognition` look like a path.
    """
    owner, _, rest = name.partition("/")
    return is_hub_id(name) and os.path.isdir(owner) and not difflib.get_close_matches(rest, os.listdir(owner), n=1)


def is_hub_id(name: str, *, hugging_face: bool = False) -> bool:
    """Whether `name` has the form `owner/name`; on Hugging Face old ids such as `gpt2` have no owner."""
    if hugging_face and re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) and not name.endswith(DATA_SUFFIXES):
        return True
    return bool(_HUB_ID.fullmatch(name))


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable that is a switch is on, as huggingface_hub and ms-swift read it."""
    return environ.get(name, "").lower() in _TRUE


def uses_hugging_face(use_hf: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Hugging Face when asked for by `use_hf` or `USE_HF=1`, else ModelScope: ms-swift's own rule."""
    return bool(use_hf) or is_set(environ, "USE_HF")


def is_offline(environ: Mapping[str, str] = os.environ, *, hugging_face: bool) -> bool:
    """Whether the user has said that everything is on this machine already (HF_HUB_OFFLINE)."""
    return hugging_face and is_set(environ, "HF_HUB_OFFLINE")


def cached_model(name: str, *, hugging_face: bool, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder in the hub's own cache that holds model `name` (its config.json at least), or None."""
    owner, _, model = name.partition("/")
    home = Path(environ.get("HOME", "~")).expanduser()
    if hugging_face:
        cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
        hub = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
        snapshots = Path(hub) / f"models--{owner}--{model}" / "snapshots"
        found = sorted(path.parent for path in snapshots.glob("*/config.json"))
        return found[-1] if found else None
    root = Path(environ.get("MODELSCOPE_CACHE") or home / ".cache/modelscope/hub")
    for folder in (root / "models" / owner, root / "hub" / "models" / owner, root / owner):
        for spelled in (model, model.replace(".", "___")):  # modelscope writes dots as three underscores
            if (folder / spelled / "config.json").is_file():
                return folder / spelled
    return None


def hub_problem(
    name: str, kind: Literal["models", "datasets"], *, hugging_face: bool, environ: Mapping[str, str] = os.environ
) -> Problem | None:
    """Why `name` cannot be had from the hub: offline, unreachable, or not there. One request of at most 5 s.

    Proxies of the environment are used. Any other answer, such as 401 for a gated model, is left to ms-swift.
    """
    if is_offline(environ, hugging_face=hugging_face):
        message = f"{name} is not cached and HF_HUB_OFFLINE is set"
        return Problem("", message, "unset it, or give a local directory", "offline")
    if hugging_face:
        endpoint = environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        address, hub = f"{endpoint}/api/{kind}/{name}", "Hugging Face"
        way_out = "set HF_ENDPOINT to a mirror or HTTPS_PROXY, use ModelScope (USE_HF=0), or give a local directory"
    else:
        domain = environ.get("MODELSCOPE_DOMAIN", "www.modelscope.cn")
        address, hub = f"https://{domain}/api/v1/{kind}/{name}", "ModelScope"
        way_out = "set USE_HF=1 for Hugging Face, MODELSCOPE_DOMAIN or HTTPS_PROXY, or give a local directory"
    answer = _status(address, environ)
    if answer == 404:
        return Problem(
            "", f"{hub} has no {kind[:-1]} {name}", "check the spelling, or give a local directory", "not-on-hub"
        )
    if isinstance(answer, str):
        return Problem("", f"{hub} cannot be reached for {name} ({answer})", way_out, "hub-unreachable")
    return None


def _status(address: str, environ: Mapping[str, str]) -> int | str:
    """The HTTP status of `address`, or why there is none, within TIMEOUT_S.

    In a thread, because urllib's own timeout covers neither name look-ups nor the sum of several addresses.
    """
    import http.client  # with ssl 0.03 s to import, and most commands ask no hub
    import urllib.error
    import urllib.request

    answers: queue.SimpleQueue[int | str] = queue.SimpleQueue()
    names = {scheme: (f"{scheme}_proxy", f"{scheme.upper()}_PROXY") for scheme in ("http", "https")}
    own = {scheme: environ[name] for scheme, both in names.items() for name in both if environ.get(name)}
    proxies = {**urllib.request.getproxies(), **own}

    def ask() -> None:
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "sft-kit"})  # noqa: S310 (the user's own)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
            with opener.open(request, timeout=TIMEOUT_S) as response:
                answers.put(int(response.status or 200))
        except urllib.error.HTTPError as error:
            answers.put(error.code)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
            answers.put(reason or type(error).__name__)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=TIMEOUT_S)
    except queue.Empty:
        return f"no answer in {TIMEOUT_S:g} s"
