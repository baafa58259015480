"""Checkpoints of SQLite files in WAL mode, beside the transactions and not within them.

A commit appends pages to the file's write-ahead log. A checkpoint copies them into the file and
syncs both. By default SQLite does this within a commit, whenever the log has 1,000 pages, and
that commit waits for the disk (https://www.sqlite.org/wal.html, "Checkpointing"). Here a thread
does it every few seconds while there are commits. The writer does it only when the log has
grown long: it must, for the log to begin again. Few pages are then left to be copied.
"""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

# A log of 64 MiB.
PAGES: Final = 16_384
_PERIOD_S: Final = 4.0


def checkpoint(path: Path) -> None:
    """Copy the log's pages into the file, if there is one; no writer waits for it.

    It raises nothing: what could not be copied is copied at the next attempt.
    """
    with suppress(sqlite3.Error):
        # Not kept open: the path may lead to another file by now. It makes no file.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()


class Checkpointer:
    """Copies the log of one file now and then, in a thread that ends with the process."""

    def __init__(
        self,
        path: Path,
        *,
        period_s: float = _PERIOD_S,
        copy: Callable[[Path], object] = checkpoint,
    ) -> None:
        self._path = path
        self._period_s = period_s
        self._copy = copy
        self._thread: threading.Thread | None = None
        self._commits = threading.Event()
        self._is_closed = threading.Event()

    def note_commit(self) -> None:
        """Have what was committed copied soon."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"checkpoints of {self._path.name}", daemon=True
            )
            self._thread.start()
        if not self._commits.is_set():  # to set it takes a lock, each time
            self._commits.set()

    def close(self) -> None:
        """End the thread, and wait for a checkpoint that it makes."""
        self._is_closed.set()
        self._commits.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._commits.wait() and not self._is_closed.wait(self._period_s):
            self._commits.clear()
            self._copy(self._path)
