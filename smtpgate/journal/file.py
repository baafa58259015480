"""The journal's SQLite file, written by one thread: a group of entries is one transaction.

A verdict is promised: it is synced, so that it survives a power cut before a client gets it. A
beginning only survives the end of every process, and does not wait for the disk: after a power
cut no client has a verdict of that message, and sends it again.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace

from smtpgate.journal import term_sorting
from smtpgate.journal.statements import Entry, RecordStatements, RowsChangedError
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.batches import SqliteBatches, UnfitRowsError, Work
from smtpgate.sql.database import Database
from smtpgate.sql.thread import IsAbandoned


@dataclass(slots=True)
class Commits:
    """Counts of written records, for the metrics."""

    records: int = 0
    commits: int = 0
    commit_s: float = 0.0

    def note(self, records: int, seconds: float) -> None:
        """Count a commit."""
        self.commits += 1
        self.records += records
        self.commit_s += seconds


@dataclass(frozen=True, slots=True)
class Write:
    """Write the entries; the answer has the error of each, or ``None``."""

    entries: Sequence[Entry]

    @property
    def has_verdict(self) -> bool:
        """True if an entry is to survive a power cut."""
        return any(entry.is_final for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Do:
    """Do other work in a transaction of its own; the answer is its result."""

    work: Work[Any]


Request = Write | Do
Errors = list[Exception | None]


class Attempts:
    """The transactions that write entries: all at once, or in halves when one spoils it.

    ``errors`` has the error of each entry in the end, or ``None``.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.errors: Errors = []
        self._left = [entries]  # the last one is next

    @property
    def group(self) -> Sequence[Entry] | None:
        """The entries of the next transaction; ``None`` after the last one."""
        return self._left[-1] if self._left else None

    def note(self, error: Exception | None) -> None:
        """Note the error of that transaction, or ``None`` if it is committed."""
        entries = self._left.pop()
        if isinstance(error, RowsChangedError) and not all(one.may_be_there for one in entries):
            self._left.append([replace(entry, may_be_there=True) for entry in entries])
        elif error is None or isinstance(error, JournalUnavailableError) or len(entries) < 2:
            self.errors += [error] * len(entries)
        else:
            half = len(entries) // 2
            self._left += [entries[half:], entries[:half]]


class JournalFile:
    """Owns the file; for one thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.commits = Commits()
        self._batches = SqliteBatches(database)
        self._statements = RecordStatements()
        self._clock = clock
        self._unsorted = 0  # terms that were written since some were sorted in

    def write(self, entries: Sequence[Entry]) -> Errors:
        """Write them together, or in halves when one of them spoils it for the others.

        Returns the error of each, or ``None``.
        """
        attempts = Attempts(entries)
        while (group := attempts.group) is not None:
            attempts.note(self._commit(group))
        return attempts.errors

    def sync(self) -> None:
        """Have the verdicts survive a power cut. Raises JournalUnavailableError."""
        started = self._clock.monotonic()
        self._batches.sync()
        self.commits.commit_s += self._clock.monotonic() - started

    def tidy(self) -> None:
        """Sort the terms of the last records in, if there are enough of them."""
        if self._unsorted < term_sorting.SORTED_AFTER:
            return
        self._unsorted = 0
        # A journal that cannot be written fails the next entries, which report it.
        with suppress(JournalUnavailableError, UnfitRowsError):
            _ = self._batches.write(term_sorting.sort_some_in, promised=False)

    def do(self, work: Work[Any]) -> Any:  # noqa: ANN401 - whatever the work returns
        """The result of other work, or its exception."""
        try:
            return self._batches.run(work)
        except Exception as error:  # noqa: BLE001 - for the caller; the thread goes on
            return error

    def close(self) -> None:
        """Close the file."""
        self._batches.close()

    def _commit(self, entries: Sequence[Entry]) -> Exception | None:
        started = self._clock.monotonic()
        try:
            self._write(entries)
        except Exception as error:  # noqa: BLE001 - a defect too is that of one entry
            return error
        self.commits.note(len(entries), self._clock.monotonic() - started)
        return None

    def _write(self, entries: Sequence[Entry]) -> None:
        work = partial(self._statements.write, entries=entries)
        try:
            promised = True in [one.is_final for one in entries]
            terms = self._batches.write(work, promised=promised)
        except BaseException:
            self._statements.forget()
            raise
        self._statements.committed()
        self._unsorted += terms


class JournalWork:
    """The work of a thread that has the journal's file alone."""

    wait_s = None

    def __init__(self, file: JournalFile) -> None:
        self.file = file

    def run(self, requests: Sequence[Request], _: IsAbandoned) -> list[Any]:
        """Carry the requests out in order; successive writes are one transaction."""
        return in_order(requests, self.file, self._write)

    def _write(self, requests: Sequence[Any], _: int) -> list[Any]:
        entries = [entry for request in requests for entry in request.entries]
        errors = iter(self.file.write(entries) if entries else ())
        return [[next(errors) for _ in request.entries] for request in requests]

    def promises(self, requests: Sequence[Request]) -> list[bool]:
        """True for each that has a verdict."""
        return [isinstance(one, Write) and one.has_verdict for one in requests]

    def sync(self) -> None:
        """Have the verdicts survive a power cut. Raises the error if one may not."""
        self.file.sync()

    def unkept(self, request: Request, answer: Any, error: Exception) -> Any:  # noqa: ANN401 - any request's
        """The answer to a write whose verdicts may not survive a power cut."""
        return unkept_write(answer, error) if isinstance(request, Write) else answer

    def answered(self, request: Request, answer: object, *, is_abandoned: bool) -> None:
        """Nothing is undone: the caller of a write knows what may be there."""

    def tidy(self) -> None:
        """Do what no caller waits for."""
        self.file.tidy()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def unkept_write(answer: Errors | Exception, error: Exception) -> Errors | Exception:
    """The answer to a write that could not be synced."""
    if isinstance(answer, Exception):
        return answer
    return [one or error for one in answer]


def in_order(
    requests: Sequence[Any],
    file: JournalFile,
    together: Callable[[Sequence[Any], int], list[Any]],
) -> list[Any]:
    """The answers, with other work of the journal in its place between the others.

    ``together`` is called with requests that follow each other, and the place of the first.
    """
    answers: list[Any] = []
    begin = 0
    for at, request in enumerate(requests):
        if isinstance(request, Do):
            if begin < at:
                answers += together(requests[begin:at], begin)
            answers.append(file.do(request.work))
            begin = at + 1
    if begin < len(requests) or not requests:
        answers += together(requests[begin:], begin)
    return answers
