"""Documents applied by a process of its own: ``python -m smtpgate.gate.apply_alone``.

A change of 50,000 steps takes minutes of computing and hundreds of megabytes. In the gate's own
process it would delay every message, and the memory would stay the gate's; so the gate only
reads the changes, from the change feed.

For a start the process is forked, before the gate has a thread: a new interpreter would need
half a second. For a reload it is a new one, which reads the configuration from its standard
input, pickled by the gate. It writes what it did as JSON, and is killed when the gate ends.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.directory import open_directory
from smtpgate.gate.documents import Applied, Apply, apply_here
from smtpgate.gate.errors import OpenError
from smtpgate.tasks import Threads

_NICE: Final = 5  # mail goes first
_PR_SET_PDEATHSIG: Final = 1  # prctl(2), on Linux


@contextmanager
def applying_at_start(config: Config) -> Iterator[Apply]:
    """A function that applies the documents at the start; enter it before there is a thread."""
    if config.directory.apply is None:
        yield apply_here
        return
    forked = _Forked(config)
    try:
        yield forked.apply
    finally:
        forked.close()


class _Forked:
    """A process that applies the documents when it is asked to."""

    def __init__(self, config: Config) -> None:
        self._ours, theirs = socket.socketpair()
        gate = os.getpid()
        self._process_id: int | None = os.fork()
        if not self._process_id:
            self._ours.close()
            _apply_when_asked(config, theirs, gate)
        theirs.close()

    async def apply(self, _config: Config, _store: DirectoryStore) -> Applied:
        """Have them applied. Raises OpenError."""
        loop, output = asyncio.get_running_loop(), bytearray()
        self._ours.setblocking(False)
        with contextlib.suppress(OSError):  # it has ended: its output is empty
            await loop.sock_sendall(self._ours, b"\n")
            while received := await loop.sock_recv(self._ours, 65536):
                output += received
        status = self._reap()
        if status:
            raise OpenError(f"directory.apply: its process ended with {status}")
        return _read(json.loads(output))

    def close(self) -> None:
        """End the process, if it has not."""
        self._ours.close()
        if self._process_id is not None:
            os.kill(self._process_id, signal.SIGKILL)
            _ = self._reap()

    def _reap(self) -> int:
        """Its exit status, as of :class:`subprocess.Popen`."""
        process_id, self._process_id = self._process_id, None
        assert process_id is not None  # noqa: S101 - for mypy; it is asked once
        return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def _apply_when_asked(config: Config, connection: socket.socket, gate: int) -> NoReturn:
    """Apply the documents in a forked process, which ends then."""
    status = 1
    try:
        _ = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gate ends it
        _end_with(gate)
        if connection.recv(1):
            connection.sendall(json.dumps(asyncio.run(_apply(config))).encode())
            status = 0
    finally:
        if (error := sys.exc_info()[1]) is not None:
            traceback.print_exception(error)
        os._exit(status)


async def apply_alone(config: Config, _store: DirectoryStore) -> Applied:
    """Apply what the documents changed, in another process. Raises OpenError."""
    threads = Threads("documents")
    process = await threads.run(_begin)
    try:
        output, _ = await threads.run(process.communicate, pickle.dumps(config))
    finally:
        if process.returncode is None:  # the gate stops
            process.kill()
    if process.returncode:
        raise OpenError(f"directory.apply: its process ended with {process.returncode}")
    return _read(json.loads(output))


def _begin() -> subprocess.Popen[bytes]:
    # It uses vfork(2). uvloop's fork(2) copies the page tables, which takes 15 ms with 500 MB.
    return subprocess.Popen(  # noqa: S603 - this very program
        # -P: without it Python would import modules from the working directory.
        (sys.executable, "-P", "-m", __spec__.name, str(os.getpid())),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a signal to the gate's group is the gate's to obey
    )


def _read(found: dict[str, Any]) -> Applied:
    if (problem := found.get("problem")) is not None:
        raise OpenError(problem)
    differences = tuple((what, how) for what, how in found["differences"])
    return Applied(found["steps"], found["drift"], differences, tuple(found["warnings"]))


async def _apply(config: Config) -> dict[str, Any]:
    try:
        async with open_directory(config, SystemClock(), [], use="connect") as store:
            applied = await apply_here(config, store)
    except (OpenError, DirectoryError) as error:
        return {"problem": str(error)}
    return {
        "steps": applied.steps,
        "drift": applied.drift,
        "differences": applied.differences,
        "warnings": applied.warnings,
    }


def _end_with(gate: int) -> None:
    """Have the kernel kill this process when the gate of that process id ends.

    A gate that is killed must not leave it behind: the next gate applies the documents too.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != gate:  # it has ended before
        sys.exit(1)


def main() -> None:
    """Apply the documents of the configuration on standard input."""
    with contextlib.suppress(OSError):  # a filter of system calls may refuse it
        _ = os.nice(_NICE)
    config: Config = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - by the gate that began it
    _ = sys.stdout.write(json.dumps(asyncio.run(_apply(config))))


if __name__ == "__main__":
    _end_with(int(sys.argv[1]))
    main()
