"""Runs a call as a user without rights, so that a refused permission is the system's own even when root runs tests."""

from __future__ import annotations

import os
from collections.abc import Callable

from sft_kit.errors import SftKitError

_NOBODY = 65534


def refusal_without_rights(call: Callable[[], object]) -> str:
    """The message of the SftKitError that `call` raises in a forked child without root's rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "nothing was refused"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            call()
        except SftKitError as error:
            answer = f"{error.exit_code:d} {error}"
        except BaseException as error:
            answer = f"escaped: {error!r}"
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return text
