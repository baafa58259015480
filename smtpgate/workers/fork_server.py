"""A process that forks workers: it has no threads and no event loop, so it can, at any time.

The parent has both once it serves, and a fork of such a process may copy a lock in the middle
of its use. The fork server is forked from the parent before that. A worker is forked from it:
it begins in milliseconds with the parent's configuration and sockets, and shares its memory.
The fork server does nothing else: it forks, waits for its children, and reports their ends.

It outlives the parent by a few seconds: workers have so long to end by themselves.
"""

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from smtpgate.workers.line import PacketLine

# What the parent asks: a letter, and the number or the process id of the worker.
_REQUEST: Final = struct.Struct("!cI")
_FORK: Final = b"f"
_RELEASE: Final = b"r"
_KILL: Final = b"k"
# The answer: a letter, the worker's number or exit status, and its process id.
_REPORT: Final = struct.Struct("!ciI")
_FORKED: Final = b"f"
_FAILED: Final = b"e"
_ENDED: Final = b"x"
_ORPHANS_S: Final = 10.0
_LOOK_S: Final = 0.05
_ANSWER_S: Final = 10.0
_IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_SOCKETS: Final = 2

RunWorker = Callable[[int, socket.socket, socket.socket], int]
"""Runs the worker of that number, with its ends of channel and line; returns its status."""


class ForkServerError(Exception):
    """The fork server has ended, or cannot fork."""


class ForkServer:
    """The parent's side. ``fork`` and the callbacks belong to the parent's event loop."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._asked: asyncio.Future[int] | None = None
        self._late = 0  # answers for which nobody waits any more
        self._on_end: Callable[[int, int], None] = lambda _pid, _status: None
        self._on_lost: Callable[[], None] = lambda: None
        self._is_lost = False

    @classmethod
    def start(cls, run: RunWorker, release: Callable[[], None]) -> "ForkServer":
        """Fork the fork server; ``release`` closes what only workers need there.

        It must be the only thread of its process.
        """
        if threading.active_count() != 1:
            raise ForkServerError("another thread runs already")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _flush_standard_streams()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _end_with(lambda: _Server(theirs, run, release).serve())
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid)

    def listen(self, on_end: Callable[[int, int], None], on_lost: Callable[[], None]) -> None:
        """Report ends of workers: process id and exit status, as ``os.waitstatus_to_exitcode``.

        ``on_lost`` is called when the fork server itself has ended.
        """
        self._on_end, self._on_lost = on_end, on_lost
        asyncio.get_running_loop().add_reader(self._connection, self._read)

    async def fork(self, number: int) -> tuple[int, socket.socket, socket.socket]:
        """Fork a worker: its process id, and the parent's ends of its channel and its line.

        One at a time. Raises ForkServerError.
        """
        if self._is_lost:
            raise ForkServerError("the fork server has ended")
        ours: list[socket.socket] = []
        theirs: list[socket.socket] = []
        asked = self._asked = asyncio.get_running_loop().create_future()
        try:
            for new_pair in (_new_channel, PacketLine.new_pair):
                one, other = new_pair()
                ours.append(one)
                theirs.append(other)
            self._ask_for(number, theirs)
            async with asyncio.timeout(_ANSWER_S):
                pid = await asked
        except BaseException as error:
            for one in ours:
                one.close()
            if isinstance(error, OSError | TimeoutError):
                raise ForkServerError(f"no worker was forked: {error!r}") from None
            raise
        finally:
            for one in theirs:
                one.close()
            self._asked = None
            self._late += asked.cancelled()
        channel, line = ours
        return pid, channel, line

    def _ask_for(self, number: int, sockets: list[socket.socket]) -> None:
        """Pass the worker's sockets on. Raises OSError."""
        request = _REQUEST.pack(_FORK, number)
        socket.send_fds(self._connection, [request], [one.fileno() for one in sockets])
        for one in sockets:
            one.close()

    def release(self) -> None:
        """Let it close what only workers need; it forks no more."""
        with contextlib.suppress(OSError):
            self._connection.send(_REQUEST.pack(_RELEASE, 0))

    def kill(self, pid: int) -> None:
        """Kill a worker: only its parent process knows that the id is still its own."""
        with contextlib.suppress(OSError):
            self._connection.send(_REQUEST.pack(_KILL, pid))

    async def close(self) -> None:
        """Let it end, and wait for that; workers that still run are killed soon."""
        if not self._is_lost:
            asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        with contextlib.suppress(ChildProcessError):
            _ = await asyncio.to_thread(os.waitpid, self.pid, 0)

    def _read(self) -> None:
        try:
            report = self._connection.recv(_REPORT.size)
        except BlockingIOError:
            return
        except OSError:
            report = b""
        if not report:
            self._lose()
            return
        what, value, pid = _REPORT.unpack(report)
        if what == _ENDED:
            self._on_end(pid, value)
        elif self._late:
            self._late -= 1  # its worker has lost its channel, and ends
        elif self._asked is not None and not self._asked.done():
            if what == _FORKED:
                self._asked.set_result(pid)
            else:
                self._asked.set_exception(ForkServerError(os.strerror(value)))

    def _lose(self) -> None:
        self._is_lost = True
        asyncio.get_running_loop().remove_reader(self._connection)
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(ForkServerError("the fork server has ended"))
        self._on_lost()


# -- in the fork server ----------------------------------------------------------------------


class _Server:
    """The fork server itself: forks and reports until the parent has closed its end."""

    def __init__(
        self, requests: socket.socket, run: RunWorker, release: Callable[[], None]
    ) -> None:
        self._requests = requests
        self._run = run
        self._release = release
        self._children: set[int] = set()
        self._wakeup, self._woken = socket.socketpair()

    def serve(self) -> int:
        """Run until the parent is gone, and its workers are too."""
        for number in _IGNORED:
            _ = signal.signal(number, signal.SIG_IGN)
        for one in (self._wakeup, self._woken):
            one.setblocking(False)
        _ = signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        _ = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        poller = select.poll()
        poller.register(self._requests, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        has_parent = True
        while has_parent:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._wakeup.fileno() in ready:
                _ = self._wakeup.recv(4096)
                self._report_ends()
            if self._requests.fileno() in ready:
                has_parent = self._obey()
        self._wait_for_orphans()
        return 0

    def _obey(self) -> bool:
        """Carry out one request; false when the parent is gone."""
        try:
            request, descriptors, _, _ = socket.recv_fds(
                self._requests, _REQUEST.size, _SOCKETS
            )
        except ConnectionError:  # it was killed before it had read every report
            return False
        if not request:
            return False
        what, number = _REQUEST.unpack(request)
        if what == _RELEASE:
            self._release()
        elif what == _FORK:
            self._fork(number, descriptors)
            for one in descriptors:
                os.close(one)
        elif number in self._children:
            os.kill(number, signal.SIGKILL)
        return True

    def _fork(self, number: int, descriptors: list[int]) -> None:
        if len(descriptors) < _SOCKETS:  # this process has no free ones for it
            self._report(_FAILED, errno.EMFILE, 0)
            return
        try:
            pid = os.fork()
        except OSError as error:
            self._report(_FAILED, error.errno or 0, 0)
            return
        if pid == 0:
            _ = signal.set_wakeup_fd(-1)
            _ = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self._requests, self._wakeup, self._woken):
                one.close()
            channel, line = (socket.socket(fileno=one) for one in descriptors)
            _end_with(lambda: self._run(number, channel, line))
        self._children.add(pid)
        self._report(_FORKED, number, pid)

    def _report(self, what: bytes, value: int, pid: int) -> None:
        with contextlib.suppress(OSError):  # the next request shows that the parent is gone
            _ = self._requests.send(_REPORT.pack(what, value, pid))

    def _report_ends(self) -> None:
        for pid, status in self._ended():
            self._report(_ENDED, status, pid)

    def _ended(self) -> list[tuple[int, int]]:
        """The children that have ended since the last time, with their exit status."""
        found = []
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            self._children.discard(pid)
            found.append((pid, os.waitstatus_to_exitcode(status)))
        return found

    def _wait_for_orphans(self) -> None:
        """Let workers end by themselves; after a while they are killed, frozen ones too."""
        self._release()
        looks = int(_ORPHANS_S / _LOOK_S)
        while self._children and looks:
            _ = self._ended()
            time.sleep(_LOOK_S)
            looks -= 1
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)


def _new_channel() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _end_with(run: Callable[[], int]) -> NoReturn:
    """Run in a forked process, and end it: nothing of the parent's may run at its end."""
    status = 1
    try:
        status = run()
    except BaseException:  # noqa: BLE001 - written to standard error; there is no caller
        sys.excepthook(*sys.exc_info())
    finally:
        _flush_standard_streams()
        os._exit(status)


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
