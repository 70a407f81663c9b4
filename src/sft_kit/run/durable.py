"""Has each checkpoint on the disk as soon as it is whole: ms-swift and transformers leave that to the kernel.

Owns when. The kernel begins to write by itself after 30 s (`vm.dirty_expire_centisecs`), and promises no order; a
machine that loses its power before has files of the right length with zeros inside. What is done about those,
`msswift.contents` says.

In a thread of its own, one at a time, and not in the loop that watches the run: fsync cannot be interrupted, and for a
full fine-tune it takes as long as the disk needs for many GB. Whoever waits for it neither sees a step, nor that the
trainer has ended, nor a Ctrl-C.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from sft_kit.console import warn
from sft_kit.msswift.checkpoints import checkpoint_folders, is_complete
from sft_kit.writes import NotWritten, flush_to_disk, not_written


class Durable:
    """The checkpoints of one start of ms-swift in the folder `run`; those that lie there already are passed over."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._seen = set(checkpoint_folders(run))
        self._thread: threading.Thread | None = None
        self._failed: list[NotWritten] = []
        self._told = 0

    def look(self) -> None:
        """Begin with one that has become whole since the last look, and tell of one that could not be flushed."""
        for error in self._failed[self._told :]:
            self._told += 1
            warn(error.problems[0])
        if self._thread is not None and self._thread.is_alive():
            return
        with suppress(OSError):  # a disk that is gone; whoever writes to it says so
            new = (each for each in checkpoint_folders(self._run) if each not in self._seen)
            if whole := next((each for each in new if is_complete(each)), None):
                self._seen.add(whole)
                self._thread = threading.Thread(target=self._flush, args=(whole,), daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Wait for the last one. Raises NotWritten for what could not be flushed: the kernel reports that only once, so
        that nobody who flushes it again would hear of it."""
        if self._thread is not None:
            self._thread.join()
        if self._failed:
            raise self._failed[-1]

    def _flush(self, checkpoint: Path) -> None:
        try:
            flush_to_disk([checkpoint])
        except FileNotFoundError:  # save_total_limit has removed it
            pass
        except OSError as error:
            self._failed.append(not_written(checkpoint, error))
