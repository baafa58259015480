"""SQLite's statements without threads: to wake a thread takes longer than most statements do.

aiosqlite runs each call of a connection in a thread of its own, so that a statement that waits
for the disk, or for another change, does not block the event loop. In a test no statement waits
for the disk. A change that must wait for another one is still begun in a thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, Final

import aiosqlite

_Call = Callable[[], Any]
_Future = asyncio.Future[Any]
_CHANGE: Final = "BEGIN IMMEDIATE"


def run_statements_at_once() -> None:
    """Run the statements of connections that are opened from now on in the event loop."""
    aiosqlite.connect = _connect  # type: ignore[assignment]


def run_statements_in_threads() -> None:
    """Run them in threads, as the program does."""
    aiosqlite.connect = aiosqlite.core.connect


def _connect(database: str, *, factory: object = None, **named: Any) -> aiosqlite.Connection:  # noqa: ANN401 - sqlite3's
    # The factory notes the thread that calls it, to wait for the end of that thread.
    del factory
    named["check_same_thread"] = False
    return _AtOnce(partial(sqlite3.connect, database, **named), iter_chunk_size=64)


class _AtOnce(aiosqlite.Connection):
    """A connection that makes each call where aiosqlite puts it into the queue of a thread."""

    def __init__(
        self, connector: Callable[[], sqlite3.Connection], iter_chunk_size: int
    ) -> None:
        super().__init__(connector, iter_chunk_size)
        self._thread = _NoThread()  # type: ignore[assignment]
        self._tx = self  # type: ignore[assignment]

    def put_nowait(self, asked: tuple[_Future | None, _Call]) -> None:
        """Make a call; its result is there when the caller awaits it."""
        future, call = asked
        if isinstance(call, partial) and call.args[:1] == (_CHANGE,):
            self._begin(future, call)
        else:
            _make(future, call)

    def _begin(self, future: _Future | None, call: _Call) -> None:
        """Begin a change; in a thread, if it has to wait for another one."""
        connection = self._conn
        (busy_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            result = call()
        except sqlite3.OperationalError:
            connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
            Thread(target=_make_elsewhere, args=(future, call), daemon=True).start()
            return
        connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
        if future:
            # Other tasks run here, as they do while a thread works.
            future.get_loop().call_soon(aiosqlite.core.set_result, future, result)


class _NoThread:
    """The stand-in for a connection's thread."""

    daemon = True

    def start(self) -> None:
        """There is nothing to start."""


def _make(future: _Future | None, call: _Call) -> None:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - raised where the call is awaited
        if future:
            aiosqlite.core.set_exception(future, error)
    else:
        if future:
            aiosqlite.core.set_result(future, result)


def _make_elsewhere(future: _Future, call: _Call) -> None:
    loop = future.get_loop()
    try:
        result = call()
    except Exception as error:  # noqa: BLE001
        loop.call_soon_threadsafe(aiosqlite.core.set_exception, future, error)
    else:
        loop.call_soon_threadsafe(aiosqlite.core.set_result, future, result)
