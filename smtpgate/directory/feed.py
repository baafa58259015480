"""The change feed: audit entries, read within half a second of their commit.

Every process reads for itself from where it left off. PostgreSQL wakes the reader when there is
something; it reads without being woken too, since a connection can die without a word.
A SQLite file is read when its version says that something was committed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import select

from smtpgate.directory.change import AuditSubject
from smtpgate.directory.schema import audit_log
from smtpgate.directory.store import CHANNEL
from smtpgate.ports import Clock, DirectoryUnavailableError
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.database import Database
from smtpgate.sql.sqlite_version import SqliteVersion
from smtpgate.tasks import Rhythm

# At most so many are reported one by one; after more (an import) all is read again.
_MAX_CHANGES: Final = 1000
_READ_S: Final = 5
# A file that is overwritten in its place has the same version as before.
_READ_ANYWAY_S: Final = 5
# A server that refuses listeners is not asked again for each reading.
_LISTEN_AGAIN_S: Final = 1


@dataclass(frozen=True, slots=True)
class Changes:
    """Changed subjects; ``everything`` says that all cached answers may be outdated.

    ``as_of_s`` is when the reading began: it knows of nothing that was committed later.
    """

    subjects: frozenset[AuditSubject]
    everything: bool = False
    as_of_s: float = 0.0


OnReading: TypeAlias = Callable[[Changes | DirectoryUnavailableError], None]


class _Entry(NamedTuple):
    """Identifies an entry of the audit log, also among several databases.

    ``at`` is ``None`` for the place before the first one.
    """

    seq: int
    at: datetime | None


_LAST: Final = select(audit_log.c.seq, audit_log.c.at).order_by(audit_log.c.seq.desc()).limit(1)
_ADDED: Final = (
    select(
        audit_log.c.seq,
        audit_log.c.at,
        audit_log.c.kind,
        audit_log.c.account_id,
        audit_log.c.name,
    )
    .order_by(audit_log.c.seq)
    .limit(_MAX_CHANGES + 2)
)


class Feed:
    """Reads the entries that were added to the audit log since the last reading."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._position: _Entry | None = None
        self._version: SqliteVersion | None = None
        self._read_at_s = 0.0
        self._turn = asyncio.Lock()
        self._rhythm = Rhythm()

    async def read(self) -> Changes:
        """The changes since the last reading. Raises DirectoryUnavailableError.

        The first reading says that everything did, as does one that misses the entry it had
        read last: then this is another database, such as one from a backup.
        """
        async with self._turn:
            as_of_s = self._clock.monotonic()
            try:
                async with asyncio.timeout(_READ_S):
                    # Asked first: a commit in between is read again, and not missed.
                    version = await self._database.version()
                    if self._is_unchanged(version, as_of_s):
                        return Changes(frozenset(), as_of_s=as_of_s)
                    async with self._database.reading() as connection:
                        changes, position = await self._added(connection, as_of_s)
            except TimeoutError:
                raise DirectoryUnavailableError(
                    f"{self._database.name}: no answer within {_READ_S} s"
                ) from None
            # Only now: changes that were read and not returned would be lost.
            self._position, self._version, self._read_at_s = position, version, as_of_s
            return changes

    def _is_unchanged(self, version: SqliteVersion | None, now_s: float) -> bool:
        """True if nothing was committed since the last reading."""
        is_recent = 0 <= now_s - self._read_at_s < _READ_ANYWAY_S
        return version is not None and version == self._version and is_recent

    async def _added(
        self, connection: AsyncConnection, as_of_s: float
    ) -> tuple[Changes, _Entry]:
        before = self._position
        if before is not None:
            query = _ADDED.where(audit_log.c.seq >= before.seq)
            rows = (await connection.execute(query)).all()
            if before.at is not None:
                is_there = bool(rows) and (rows[0].seq, rows[0].at) == before
                rows = rows[1:]
            else:
                is_there = True  # there was nothing before
            if is_there and len(rows) <= _MAX_CHANGES:
                subjects = frozenset(
                    AuditSubject(row.kind, row.account_id, row.name) for row in rows
                )
                position = _Entry(rows[-1].seq, rows[-1].at) if rows else before
                return Changes(subjects, as_of_s=as_of_s), position
        last = (await connection.execute(_LAST)).one_or_none()
        position = _Entry(0, None) if last is None else _Entry(last.seq, last.at)
        return Changes(frozenset(), everything=True, as_of_s=as_of_s), position

    async def follow(self, on_reading: OnReading, every_s: float) -> None:
        """Read until stopped; each reading is reported, also one that failed."""
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(), name="feed: listen")
            try:
                await self._read_on(on_reading, every_s)
            finally:
                listening.cancel()

    def stop(self) -> None:
        """Follow no longer, once the reading that may be going on is done."""
        self._rhythm.end()

    async def _read_on(self, on_reading: OnReading, every_s: float) -> None:
        while await self._rhythm.goes_on(every_s):
            try:
                found: Changes | DirectoryUnavailableError = await self.read()
            except DirectoryUnavailableError as error:
                found = error
            except Exception as error:  # noqa: BLE001 - the feed must not end
                found = DirectoryUnavailableError(f"the change feed: {error!r}")
            try:
                on_reading(found)
            except Exception as error:  # noqa: BLE001 - and so would one that its reader ended
                _report_to_loop("what reads the change feed failed", error)

    async def _listen(self) -> None:
        """Have the reading woken by commits, as long as and whenever the database can."""
        while True:
            try:
                async with self._database.listening(CHANNEL, self._rhythm.wake) as listening:
                    self._rhythm.wake()  # by what was committed before it listened
                    await listening.ended()
            except DirectoryUnavailableError:
                pass  # the reading will say so
            except Exception as error:  # noqa: BLE001 - it must not end the reading
                _report_to_loop("what listens for changes failed", error)
            await asyncio.sleep(_LISTEN_AGAIN_S)


def _report_to_loop(message: str, error: Exception) -> None:
    context = {"message": message, "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
