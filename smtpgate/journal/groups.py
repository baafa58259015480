"""Groups of entries as transactions: in a SQLite file's thread, or on a server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from smtpgate.journal.file import (
    Attempts,
    Commits,
    Do,
    Errors,
    JournalFile,
    JournalWork,
    Request,
    Write,
)
from smtpgate.journal.statements import Entry, RecordStatements
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.batches import Batches, ServerBatches, Work
from smtpgate.sql.database import Database
from smtpgate.sql.thread import BatchThread, Closed

_STOP_S: Final = 10.0

T = TypeVar("T")
Ask = Callable[[Request, float], "asyncio.Future[Any]"]
"""Has a request carried out within so many seconds; raises Closed."""


class Groups(Protocol):
    """Writes groups of entries. Raises JournalUnavailableError, also after ``timeout_s``."""

    commits: Commits

    async def write(self, entries: Sequence[Entry], timeout_s: float) -> Errors:
        """Commit them together, or in halves when one of them spoils it for the others.

        Returns the error of each, or ``None``.
        """

    async def run(self, work: Work[T], timeout_s: float) -> T:
        """Do other work in a transaction."""

    async def close(self) -> None:
        """Close the connections that are its own."""


def groups_of(database: Database, clock: Clock) -> Groups:
    """The Groups for a database, with connections of their own."""
    if not database.is_sqlite:
        return ServerGroups(ServerBatches(database), database.name, clock)
    file = JournalFile(database, clock)
    thread = BatchThread(JournalWork(file), "smtpgate-journal")
    return FileGroups(file, thread.ask, database.name, thread)


class FileGroups:
    """Implements Groups by a thread that has the file."""

    def __init__(
        self,
        file: JournalFile,
        ask: Ask,
        name: str,
        thread: BatchThread[Request] | None = None,
    ) -> None:
        """``thread`` is given if it is stopped with this."""
        self.commits = file.commits
        self._ask = ask
        self._name = name
        self._thread = thread

    async def write(self, entries: Sequence[Entry], timeout_s: float) -> Errors:
        """Write the entries; the error of each."""
        errors: Errors = await self._do(Write(entries), timeout_s)
        for error in errors:
            if isinstance(error, JournalUnavailableError):
                raise error
        return errors

    async def run(self, work: Work[T], timeout_s: float) -> T:
        """Do other work in a transaction."""
        done: T = await self._do(Do(work), timeout_s)
        return done

    async def close(self) -> None:
        """Stop the thread, if it has nothing else to do."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.stop, _STOP_S)

    async def _do(self, request: Request, timeout_s: float) -> Any:  # noqa: ANN401 - whatever it is answered
        try:
            return await self._ask(request, timeout_s)
        except Closed:
            raise JournalUnavailableError(f"{self._name}: closed") from None
        except TimeoutError:
            raise not_in_time(self._name, timeout_s) from None


class ServerGroups:
    """Implements Groups over a server."""

    def __init__(self, batches: Batches, name: str, clock: Clock) -> None:
        self.commits = Commits()
        self._batches = batches
        self._name = name
        self._clock = clock
        self._statements = RecordStatements()

    async def write(self, entries: Sequence[Entry], timeout_s: float) -> Errors:
        """Write the entries; the error of each."""
        attempts = Attempts(entries)
        while (group := attempts.group) is not None:
            attempts.note(await self._commit(group, timeout_s))
        return attempts.errors

    async def run(self, work: Work[T], timeout_s: float) -> T:
        """Do other work in a transaction."""
        return await self._in_time(self._batches.run(work), timeout_s)

    async def close(self) -> None:
        """Close its own connections."""
        await self._batches.close()

    async def _commit(self, entries: Sequence[Entry], timeout_s: float) -> Exception | None:
        started = self._clock.monotonic()
        try:
            await self._write(entries, timeout_s)
        except JournalUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect too is that of one entry
            return error
        self.commits.note(len(entries), self._clock.monotonic() - started)
        return None

    async def _write(self, entries: Sequence[Entry], timeout_s: float) -> None:
        statements = self._statements
        try:
            work = self._batches.run(lambda connection: statements.write(connection, entries))
            await self._in_time(work, timeout_s)
        except BaseException:
            statements.forget()
            raise
        statements.committed()

    async def _in_time(self, work: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            raise not_in_time(self._name, timeout_s) from None


def not_in_time(name: str, timeout_s: float) -> JournalUnavailableError:
    """The error of a transaction that takes too long; it may still be committed."""
    return JournalUnavailableError(f"{name}: not written within {timeout_s:g} s")
