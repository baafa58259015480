"""Writes lines in batches, in a thread, so that a full pipe or a slow disk delays no mail.

Lines wait at most a twentieth of a second, because a change of threads costs more than a line.
The lines that wait are bounded: when the reader of the log has stopped reading, further lines
are dropped, and a line gives their number as soon as it can be written. ``lost`` and
``problem`` report a target that takes nothing any more (a closed pipe, a full disk), and so
does a line on standard error when that is not the target.

No thread blocks in a full pipe: the end of the gate waits only a few seconds, and the remaining
lines are lost.
"""

import asyncio
import contextlib
import os
import select
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smtpgate.tasks import TaskOwner, Threads

_STANDARD: Final = {"stdout": 1, "stderr": 2}
_WAIT_S: Final = 0.05
_MAX_WAITING_OCTETS: Final = 8 * 1024 * 1024
_CLOSE_S: Final = 5.0
# The time between two checks whether the writer must end, while a pipe is full.
_LOOK_MS: Final = 100


class LineWriter:
    """Appends lines to ``stderr``, ``stdout`` or a file, in their order.

    A file that was renamed or removed (logrotate) is made again.
    """

    def __init__(
        self,
        target: str,
        *,
        on_dropped: Callable[[int], bytes],
        on_failed: Callable[[str], bytes] | None = None,
        max_waiting_octets: int = _MAX_WAITING_OCTETS,
        close_s: float = _CLOSE_S,
    ) -> None:
        """Open the target; ``close_s`` is the longest wait for a full target at the end.

        ``on_dropped`` makes the line with the number of dropped lines, ``on_failed`` the line
        on standard error with the reason why the target takes nothing.

        Raises OSError.
        """
        self.lost = 0  # for good: never written, or perhaps only in part
        self.problem: str | None = None
        self._target = target
        self._on_failed = on_failed
        self._path = None if target in _STANDARD else Path(target)
        self._descriptor = _STANDARD.get(target, -1)
        self._state: os.stat_result | None = None  # of what is open
        self._on_dropped = on_dropped
        self._max_waiting_octets = max_waiting_octets
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._dropped = 0
        self._unwritten = 0
        self._is_torn = False
        self._is_closed = False
        self._close_s = close_s
        self._waits_no_more = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._writing = threading.Lock()
        self._turn = asyncio.Lock()
        self._tasks = TaskOwner()
        self._threads = Threads("log")
        self._open()

    def add(self, line: bytes) -> None:
        """Write a line soon, or at once when no event loop runs."""
        if self._waiting_octets + len(line) > self._max_waiting_octets:
            self._dropped += 1
            self.lost += 1
            return
        self._waiting.append(line)
        self._waiting_octets += len(line)
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or self._is_closed:
            self._write(*self._take())
        else:
            self._timer = loop.call_later(_WAIT_S, self._start_flush)

    async def flush(self) -> None:
        """Write all lines that wait."""
        async with self._turn:
            if self._waiting or self._dropped:
                await self._threads.run(self._write, *self._take())

    async def close(self) -> None:
        """Write all lines that wait and close the file; a later line is written at once.

        Lines that the target does not take in time are lost.
        """
        self._is_closed = True
        loop = asyncio.get_running_loop()
        patience = loop.call_later(self._close_s, self._waits_no_more.set)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.flush()
        patience.cancel()
        self._waits_no_more.set()
        with self._writing:
            if self._path is not None and self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _start_flush(self) -> None:
        _ = self._tasks.start(self._flush_in_turn())

    async def _flush_in_turn(self) -> None:
        try:
            await self.flush()
        finally:
            # Not before: while the target takes nothing, flushes must not queue up.
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WAIT_S, self._start_flush)

    def _take(self) -> tuple[list[bytes], int]:
        taken = self._waiting, self._dropped
        self._waiting, self._waiting_octets, self._dropped = [], 0, 0
        return taken

    def _write(self, lines: list[bytes], dropped: int) -> None:
        with self._writing:
            dropped += self._unwritten
            notice = [self._on_dropped(dropped)] if dropped else []
            # A write that failed may have left half a line behind.
            torn = [b"\n"] if self._is_torn else []
            try:
                self._open()
                self._write_all(b"".join((*torn, *lines, *notice)))
            except OSError as error:  # a full disk, a closed pipe
                self._unwritten = dropped + len(lines)
                self.lost += len(lines)
                self._fail(f"{self._target}: {error.strerror or error}")
            else:
                self._unwritten = 0
                self.problem = None

    def _fail(self, problem: str) -> None:
        is_new, self.problem = self.problem is None, problem
        if is_new and self._on_failed is not None and self._descriptor != _STANDARD["stderr"]:
            with contextlib.suppress(OSError):
                _ = self._write_some(_STANDARD["stderr"], self._on_failed(problem))

    def _write_all(self, octets: bytes) -> None:
        written = 0
        try:
            while written < len(octets):
                written += self._write_some(self._descriptor, memoryview(octets)[written:])
        finally:
            if written:
                self._is_torn = octets[written - 1 : written] != b"\n"

    def _write_some(self, descriptor: int, octets: bytes | memoryview) -> int:
        """Write a part, once the reader of a pipe has made room. Raises OSError.

        Others may write to the pipe too, so it cannot be made one that never blocks.
        """
        state = self._state if descriptor == self._descriptor else None
        if stat.S_ISREG((state or os.fstat(descriptor)).st_mode):
            return os.write(descriptor, octets)
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        while not poller.poll(_LOOK_MS):
            if self._waits_no_more.is_set():
                raise TimeoutError("its reader takes nothing")
        # A pipe with any room takes so much without blocking.
        return os.write(descriptor, octets[: select.PIPE_BUF])

    def _open(self) -> None:
        """Open the file unless it is open, and still the one of that name."""
        if self._path is None:
            return
        if self._descriptor >= 0:
            if self._state is not None and _is_there(self._path, self._state):
                return
            os.close(self._descriptor)
            self._descriptor, self._state = -1, None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        # Kept: each question releases the interpreter's lock, for which the thread then waits.
        self._state = os.fstat(self._descriptor)


def _is_there(path: Path, state: os.stat_result) -> bool:
    """True if the path leads to the file with that state."""
    try:
        return os.path.samestat(path.stat(), state)
    except FileNotFoundError:
        return False
