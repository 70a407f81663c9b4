"""What tests with real processes share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.run.watching import Marked


@pytest.fixture
def marked() -> Iterator[Marked]:
    """Nothing with this test's mark is left when it ends."""
    marked = Marked()
    yield marked
    for pid in marked.living():
        os.kill(pid, signal.SIGKILL)
