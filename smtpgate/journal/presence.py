"""Records which gates write to the journal, and completes the records of dead gates.

Each record without a verdict names its gate, and each gate writes a sign of life every ten
seconds, by the database's clock. When a gate has died, its records are in doubt. A gate on the
same host finds that out at its next start, since the system releases a dead process's lock at
once; gates on other hosts when there was no sign of life for a minute. A gate that could not
reach the database for a minute itself declares no other gate dead, because the others could not
reach it either.

A gate that was declared dead and goes on (its host was frozen) writes signs of life again, and
its verdicts replace the doubt.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from smtpgate.core.moments import microseconds
from smtpgate.journal.doubt import Doubt
from smtpgate.journal.marker import Left, Marker, is_alive, left_behind
from smtpgate.journal.retention import Size, size_of
from smtpgate.journal.schema import records, writers
from smtpgate.journal.terms import TermKey
from smtpgate.journal.writer import RecordWriter
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.insert import insert_into

LEASE_S: Final = 60.0
_EVERY_S: Final = 10.0
_KILLED: Final = "a gate was killed while they waited for the journal to be writable again"


class Presence:
    """The signs of life of one gate, and its handling of dead gates.

    ``on_doubt`` is called with the number of records that are in doubt now, ``on_lost`` with
    the number that a dead gate had only in memory.
    """

    def __init__(
        self,
        writer: RecordWriter,
        folder: Path,
        *,
        clock: Clock,
        on_doubt: Callable[[int], None],
        on_lost: Callable[[int, str], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.size = Size()
        self._writer = writer
        self._folder = folder
        self._clock = clock
        self._on_doubt = on_doubt
        self._on_lost = on_lost
        self._on_error = on_error
        self._marker = Marker(folder)
        self._doubt: Doubt | None = None
        self._since_s: float | None = None  # since when the database was reached each time
        self._failures = 0
        self._found: list[Exception] = []  # what was in the way of this beat
        self._logged: set[str] = set()  # what of it was in the way of the last one too

    @property
    def number(self) -> int:
        """The number that the gate's records have."""
        return self._marker.writer

    def owes(self, records_: int) -> None:
        """Write the number of records that are only in memory, should the gate be killed."""
        try:
            self._marker.owes(records_)
        except OSError as error:
            self._on_error(error)

    async def start(self, key: TermKey) -> None:
        """Complete the records of this host's dead gates, if the database can be reached."""
        self._doubt = Doubt(key)
        await self.attempt()

    async def run(self) -> None:
        """Write a sign of life every ten seconds, for ever."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.attempt()

    async def attempt(self) -> None:
        """Write a sign of life; a failure is the writer's problem, so that mail notices it."""
        if self._writer.problem is not None:
            return  # the writer tries again by itself
        self._found = []
        try:
            await self.beat()
        except JournalUnavailableError as error:
            # Nobody would notice before the next message.
            self._writer.fail(str(error))
            return
        except Exception as error:  # noqa: BLE001 - the next time may fare better
            self._found.append(error)
        self._log_found()

    def _log_found(self) -> None:
        """Log new errors only: an error may last for days."""
        for error in self._found:
            if str(error) not in self._logged:
                self._on_error(error)
        self._logged = set(map(str, self._found))

    def _note_closed(self, error: OSError) -> None:
        """Note a file that another user's gate made."""
        words = (error.strerror or type(error).__name__).lower()
        text = f"{error.filename}: cannot be opened ({words}); "
        cure = "remove it, unless a gate of another user runs with this gate.state_dir"
        self._found.append(OSError(text + cure))

    async def beat(self) -> None:
        """Write a sign of life, and complete the records of dead gates.

        Raises JournalUnavailableError or OSError.
        """
        self.size, silent = await self._writer.run(self._say)
        for left in left_behind(self._folder, self._note_closed):
            if await self._writer.run(partial(_is_of, left)):
                await self._bury(left.writer)
            if left.owed:
                self._on_lost(left.owed, _KILLED)
        now_s, failures = self._clock.monotonic(), self._writer.tally.failures
        if self._since_s is None or failures != self._failures:
            self._since_s, self._failures = now_s, failures
        if now_s - self._since_s >= LEASE_S:
            for number in silent:
                if not is_alive(self._folder, number):
                    await self._bury(number)

    async def end(self) -> None:
        """End the presence; without the database the next gate completes the records."""
        try:
            if self._doubt is not None and self._writer.problem is None:
                await self._bury(self.number)
                self._marker.remove()
                return
        except JournalUnavailableError:
            pass
        self._marker.leave()

    async def _bury(self, number: int) -> None:
        """Give its records the outcome ``in-doubt``, and delete it."""
        is_its, in_doubt = records.c.writer == number, 0
        while some := await self._writer.run(partial(self._give_up, is_its, self._clock.now())):
            in_doubt += some
        if in_doubt:
            self._on_doubt(in_doubt)
        gone = delete(writers).where(writers.c.id == number)
        await self._writer.run(lambda connection: connection.execute(gone).rowcount)

    def _give_up(self, is_its: Any, now: datetime, connection: Connection) -> int:  # noqa: ANN401 - SQLAlchemy's
        assert self._doubt is not None  # noqa: S101 - for mypy; it is started first
        return self._doubt.give_up(connection, is_its, now)

    def _say(self, connection: Connection) -> tuple[Size, list[int]]:
        """Write a sign of life; the journal's size, and the gates without one for too long."""
        now_us = self._now_us(connection)
        row = {"id": self.number, "mark": self._marker.mark, "seen_us": now_us}
        said = insert_into(writers, connection.dialect).values(row)
        changed = {"mark": said.excluded.mark, "seen_us": said.excluded.seen_us}
        connection.execute(said.on_conflict_do_update(index_elements=["id"], set_=changed))
        is_silent = writers.c.seen_us < now_us - int(LEASE_S * 1_000_000)
        silent = connection.execute(select(writers.c.id).where(is_silent))
        return size_of(connection), [row.id for row in silent]

    def _now_us(self, connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            seconds = connection.execute(
                select(func.extract("epoch", func.clock_timestamp()))
            ).scalar_one()
            return int(seconds * 1_000_000)
        return microseconds(self._clock.now())


def _is_of(left: Left, connection: Connection) -> bool:
    """True if it is the gate of that file, and not one whose folder was copied here."""
    query = select(writers.c.mark).where(writers.c.id == left.writer)
    mark = connection.execute(query).scalar()
    return mark is None or mark == left.mark
