"""Where the files that ship with sft-kit lie: `data/` and `configs/`, in a checkout or in an installed wheel.

Owns the two folders' places and the place of sft-kit's own cache, and nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """The shipped top-level folder `data` or `configs`.

    A wheel carries them inside the package (`_shipped/`, see pyproject.toml); a checkout has them beside `src/`.
    """
    for root in (_PACKAGE / "_shipped", _PACKAGE.parents[1]):
        if (root / folder).is_dir():
            return root / folder
    raise FileNotFoundError(f"sft-kit is installed without its {folder}/ folder; reinstall it with pip install .")


def user_path(text: str) -> Path:
    """A path as a user wrote it, `~` expanded; `~nobody/x` stays as it is instead of failing."""
    return Path(os.path.expanduser(text))


def cache_dir() -> Path:
    """`$SFT_KIT_CACHE`, else `$XDG_CACHE_HOME/sft-kit`, else `~/.cache/sft-kit`. Not created here."""
    own = os.environ.get("SFT_KIT_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sft-kit"


def keep_in_cache(file: Path, content: object) -> None:
    """Write `content` as JSON, whole or not at all. A cache that cannot be written is no error."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
