"""Group commit: the entries that arrive while a transaction runs are written by the next one.

A lone record does not wait for others, and many at once cost little more than one. A caller
that waits for a record learns when it is committed, or why it is not.

While the journal cannot be written, no caller waits: records that must not be lost are owed,
and written when the journal can be written again. A retry runs twice a second, and writes
something.

The state consists of ``problem`` and the owed records. The first write that succeeds ends the
problem. ``on_change`` reports the end of an outage only when there is no problem and no record
is owed. Both are checked again after each wait, since records may become owed during any wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from msgspec.structs import replace

from smtpgate.journal.file import Commits, Errors
from smtpgate.journal.groups import Groups
from smtpgate.journal.statements import Entry, write_meta
from smtpgate.journal.terms import TermKeyError
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.batches import UnfitRowsError, Work
from smtpgate.sql.upgrade import SchemaError
from smtpgate.tasks import TaskOwner

_MAX_GROUP: Final = 500
_MAX_OWED: Final = 10_000
_MAX_WAITING: Final = 10_000
_RETRY_S: Final = 0.5
_COMMIT_S: Final = 10.0

T = TypeVar("T")
Waiter = asyncio.Future[None] | None
Waiting = tuple[Entry, Waiter]


@dataclass(slots=True)
class Tally:
    """Counts of written records and of failures, for the metrics."""

    written: Commits
    failures: int = 0
    lost: int = 0
    left_out: int = 0
    in_doubt: int = 0

    @property
    def records(self) -> int:
        """The number of written records; of one message there are two."""
        return self.written.records

    @property
    def commits(self) -> int:
        """The number of transactions."""
        return self.written.commits

    @property
    def commit_s(self) -> float:
        """The seconds that they took."""
        return self.written.commit_s


class RecordWriter:
    """Writes entries in groups.

    ``open_again`` checks the tables before a retry.
    ``on_change`` is called with the problem and the number of owed records when an outage
    begins, and with ``None`` and the number of records that were written late when it ends.
    ``on_lost`` is called with the number of records that are lost for good, and the reason.
    ``on_owed`` is called with the number of owed records each time when it changes.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        open_again: Callable[[], Awaitable[None]],
        clock: Clock,
        on_change: Callable[[str | None, int], None],
        on_lost: Callable[[int, str], None],
        on_error: Callable[[BaseException], None],
        on_owed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.tally = Tally(groups.commits)
        self.problem: str | None = None
        self._open_again = open_again
        self._groups = groups
        self._clock = clock
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_error = on_error
        self._on_owed = on_owed
        self._waiting: deque[Waiting] = deque()
        self._group: Sequence[Waiting] = ()  # the entries that are being written
        self._owed: dict[str, Entry] = {}
        self._piece = _MAX_GROUP  # the number of owed entries in one transaction
        self._written_late = 0
        self._is_reported = False  # the beginning of an outage was reported, its end was not
        self._turn = asyncio.Lock()
        self._tasks = TaskOwner()
        self._is_pumping = False
        self._in_trouble = asyncio.Event()

    @property
    def owed(self) -> int:
        """The number of records that wait until the journal can be written again."""
        return len(self._owed)

    async def put(self, entry: Entry) -> None:
        """Write the entry; returns when it is committed. Raises JournalUnavailableError.

        A final entry is owed then.
        """
        entry = self.admit(entry)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        self._start()
        await future

    def admit(self, entry: Entry) -> Entry:
        """The entry as it is to be written now. Raises JournalUnavailableError.

        A final entry is owed then.
        """
        if self.problem is not None:
            if entry.is_final:
                self.owe(entry)
            raise JournalUnavailableError(self.problem)
        if self._owed.pop(entry.row.id, None) is not None:
            # Another verdict of it is owed, or being written now; this one is written after it.
            entry = replace(entry, may_be_there=True)
            self._on_owed(len(self._owed))
        return entry

    def not_written(self, entry: Entry, error: Exception) -> None:
        """Take back an entry that was admitted, and could not be written."""
        if entry.is_final:
            self._owe_or_lose(entry, error)
        if isinstance(error, UnfitRowsError):
            self._on_error(error)
        elif isinstance(error, JournalUnavailableError) and self.problem is None:
            self.fail(str(error))

    def add(self, entry: Entry) -> None:
        """Write the entry soon, without a caller that waits for it."""
        if self.problem is not None:
            self.owe(entry)
        elif len(self._waiting) >= _MAX_WAITING:
            self.lose(1, "too many records at once")
        else:
            self._waiting.append((entry, None))
            self._start()

    def owe(self, entry: Entry) -> None:
        """Write the entry when that is possible again; with too many the oldest is lost."""
        # The latest entry of a submission counts.
        self._owed.pop(entry.row.id, None)
        if len(self._owed) >= _MAX_OWED:
            del self._owed[next(iter(self._owed))]
            self.lose(1, "too many records waited for the journal to be writable again")
        self._owed[entry.row.id] = replace(entry, may_be_there=True)
        self._in_trouble.set()
        self._on_owed(len(self._owed))

    async def run(self, work: Work[T]) -> T:
        """Do other work in a transaction, between two groups.

        Raises JournalUnavailableError.
        """
        async with self._turn:
            return await self._groups.run(work, _COMMIT_S)

    async def mend(self) -> None:
        """Retry for ever, while there is a problem or a record is owed."""
        while True:
            await self._in_trouble.wait()
            await asyncio.sleep(_RETRY_S)
            try:
                await self.retry()
            except JournalUnavailableError as error:
                self.fail(str(error))
            except Exception as error:  # noqa: BLE001 - the retries must not end
                self._on_error(error)

    async def retry(self) -> None:
        """Write the owed records, or a sign of life when there are none.

        Raises JournalUnavailableError.
        """
        async with self._turn:
            if self.problem is not None:
                await self._look_at_tables()
                await (self._pay() if self._owed else self._write_sign_of_life())
                self.problem = None  # from here on records are taken again
            while self._owed:
                await self._pay()
            self._rest()

    def _rest(self) -> None:
        """End the outage: no problem, no owed record, and no wait since both were checked."""
        self._in_trouble.clear()
        if self._is_reported:
            self._is_reported = False
            written, self._written_late = self._written_late, 0
            self._on_change(None, written)

    async def _pay(self) -> None:
        """Write some of the owed records; they stay owed when that fails.

        Fewer records may fit on a disk that is almost full, so the next attempt has fewer.
        """
        entries = list(islice(self._owed.values(), self._piece))
        try:
            errors = await self._commit(entries)
        except JournalUnavailableError:
            self._piece = max(1, len(entries) // 4)
            raise
        self._piece = min(_MAX_GROUP, 2 * self._piece)
        for entry in entries:
            if self._owed.get(entry.row.id) is entry:
                del self._owed[entry.row.id]
        self._on_owed(len(self._owed))
        unfit = [error for error in errors if error is not None]
        self._written_late += len(entries) - len(unfit)
        for error in unfit:
            self.lose(1, str(error))

    async def finish(self) -> None:
        """Write the entries that wait or are owed, if that is possible."""
        await self._tasks.drain(_COMMIT_S)
        left, self._group = (*self._group, *self._waiting), ()
        self._waiting.clear()
        self._answer(left, JournalUnavailableError("the gate ended before it was written"))
        if self._owed:
            await self._pay_at_last()

    async def close(self) -> None:
        """Close the file."""
        await self._groups.close()

    async def _pay_at_last(self) -> None:
        try:
            async with asyncio.timeout(_COMMIT_S):
                while self._owed:
                    await self._retry_while_smaller()
        except Exception as error:  # noqa: BLE001 - for any error they are lost
            if not isinstance(error, JournalUnavailableError | TimeoutError):
                self._on_error(error)
            self.lose(len(self._owed), str(error) or "no answer")
            self._owed.clear()
            self._on_owed(0)

    async def _retry_while_smaller(self) -> None:
        """Retry; raise the error when fewer records would fail too."""
        piece = self._piece
        try:
            await self.retry()
        except JournalUnavailableError:
            if self._piece >= piece:
                raise

    # -- groups --------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._is_pumping:
            self._is_pumping = True
            _ = self._tasks.start(self._pump(), name="journal")

    async def _pump(self) -> None:
        try:
            while self._waiting:
                # Each group takes a turn, so that other work gets turns too under any load.
                async with self._turn:
                    number = min(_MAX_GROUP, len(self._waiting))
                    self._group = [self._waiting.popleft() for _ in range(number)]
                    await self._carry_out(self._group)
                    self._group = ()
        finally:
            self._is_pumping = False

    async def _carry_out(self, group: Sequence[Waiting]) -> None:
        try:
            errors = await self._commit([entry for entry, _ in group])
        except JournalUnavailableError as error:
            self._answer(group, error)
            self.fail(str(error))
        except Exception as error:  # noqa: BLE001 - for the callers; the next group goes on
            self._answer(group, error)
        else:
            for one, unfit in zip(group, errors, strict=True):
                self._answer([one], unfit)

    def _answer(self, group: Iterable[Waiting], error: Exception | None) -> None:
        for entry, future in group:
            if error is not None and entry.is_final:
                self._owe_or_lose(entry, error)
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _owe_or_lose(self, entry: Entry, error: Exception) -> None:
        if isinstance(error, JournalUnavailableError):
            self.owe(entry)
        else:
            self.lose(1, str(error))

    async def _commit(self, entries: Sequence[Entry]) -> Errors:
        errors = await self._groups.write(entries, _COMMIT_S)
        for unfit in filter(None, errors):
            self._on_error(unfit)
        return errors

    # -- trouble -------------------------------------------------------------------------------

    async def _look_at_tables(self) -> None:
        """Check the tables: the file may be another one now."""
        try:
            async with asyncio.timeout(_COMMIT_S):
                await self._open_again()
        except (SchemaError, TermKeyError, OSError, TimeoutError) as error:
            raise JournalUnavailableError(str(error) or "no answer") from None

    async def _write_sign_of_life(self) -> None:
        now = f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}"
        try:
            await self._groups.run(
                lambda connection: write_meta(connection, "sign_of_life", now), _COMMIT_S
            )
        except UnfitRowsError as error:
            raise JournalUnavailableError(str(error)) from None

    def fail(self, problem: str) -> None:
        """Begin an outage: nothing is written until a retry succeeds."""
        self.tally.failures += 1
        self.problem = problem
        self._in_trouble.set()
        if not self._is_reported:
            self._is_reported = True
            self._on_change(problem, self.owed)

    def lose(self, records: int, why: str) -> None:
        """Count records that are lost, and report the reason."""
        self.tally.lost += records
        self._on_lost(records, why)
