"""Where the files that ship with sft-kit lie: `data/` and `configs/`, in a checkout or in an installed wheel.

Owns the two folders' places, the place of sft-kit's own cache, and how JSON is kept there: a file that is not as it was
written, or is no file, is as good as none. Owns nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

_PACKAGE = Path(__file__).resolve().parent
_LARGEST_KEPT = 64 << 20  # bytes; the largest that is kept has 1 MB
_HEAD = b'{"sha256":"%s","value":'
_HEAD_LENGTH = len(_HEAD) - 2 + 64


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
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sft-kit"


def open_regular(file: Path) -> BinaryIO:
    """A regular file, to be read. Raises OSError, also for a pipe, which would be waited on for ever, and a device,
    which may never end."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file", str(file))
    return open(descriptor, "rb")


def read_bounded(file: Path, most: int) -> bytes:
    """The content of a regular file of up to `most` bytes. Raises OSError, as `open_regular`, and for a larger file."""
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
        return stream.read(size)


def keep_in_cache(file: Path, content: object) -> None:
    """Write `content` as JSON, whole or not at all, with its SHA-256. A cache that cannot be written is no error."""
    value = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    # a name that nobody can know before, and no link is followed: the cache may lie where others can write
    temporary = file.with_name(f"{file.name}.{os.urandom(6).hex()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as stream:
            stream.write(_HEAD % sha256(value).hexdigest().encode() + value + b"}")
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def kept_in_cache(file: Path) -> object:
    """What `keep_in_cache` wrote. Raises OSError where there is no such file, and ValueError for one that is not as it
    was written."""
    content = read_bounded(file, _LARGEST_KEPT)
    value = content[_HEAD_LENGTH:-1]
    if content[:_HEAD_LENGTH] != _HEAD % sha256(value).hexdigest().encode():
        raise ValueError(f"{file}: is not as it was written")
    try:
        return json.loads(value)
    except RecursionError:
        raise ValueError(f"{file}: is nested too deeply") from None
