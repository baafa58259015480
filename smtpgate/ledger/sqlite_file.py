"""The ledger's SQLite file: its schema, and usage as rows. Every method blocks.

Each row is the usage of one subject. The counts of its minutes are packed into a few octets,
because a row for each minute would be written and deleted a thousand times a day. An open
reservation is a row too, so that it is settled once, by any process.

The file is in WAL mode: several processes share it, and a transaction costs no wait for the
disk. Committed transactions survive the end of any process at any moment. A power cut may take
the last seconds with it, never the file's consistency.

Rows that were written last are assumed to be the same, and not read again: a change is made
only where the row is the one that it was computed from, so that other processes' changes are
noticed. To read a row takes as many steps of the driver as all changes of a transaction.
"""

import os
import sqlite3
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import (
    Charge,
    Subject,
    Usage,
    Window,
    idle_at_us,
    minute_of,
    over_before_us,
)
from smtpgate.core.made_once import made_once, made_once_with
from smtpgate.core.moments import microseconds
from smtpgate.sql import many, transaction
from smtpgate.sql.adapters import register_adapters
from smtpgate.sql.wal import enter_wal_mode

SCHEMA_VERSION: Final = 2
_APPLICATION_ID: Final = 0x736D7467  # "smtg": distinguishes this file from other SQLite files
_SCHEMA: Final = (
    """
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        account TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        as_of_us INTEGER NOT NULL,
        idle_at_us INTEGER NOT NULL,
        used INTEGER NOT NULL,
        tokens INTEGER,
        reported TEXT,
        counts BLOB NOT NULL,
        UNIQUE (account, kind, name)
    )
    """,
    """
    CREATE TABLE reservation (
        id INTEGER PRIMARY KEY,
        at_us INTEGER NOT NULL,
        account TEXT NOT NULL,
        recipients INTEGER NOT NULL
    )
    """,
)
# An error ends the transaction in any case; so SQLite need not keep pages to undo this alone.
_RESERVATION: Final = "INSERT OR ROLLBACK INTO reservation VALUES (?, ?, ?, ?)"
_NEW: Final = """
INSERT OR ROLLBACK INTO usage
    (as_of_us, used, tokens, reported, counts, idle_at_us, account, kind, name)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ: Final = """
SELECT as_of_us, used, tokens, reported, counts FROM usage
WHERE account = ? AND kind = ? AND name = ?
"""
_CHANGE: Final = """
UPDATE OR ROLLBACK usage
SET as_of_us = v.column1, used = v.column2, tokens = v.column3, reported = v.column4,
    counts = v.column5, idle_at_us = v.column6
FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) AS v
WHERE account = v.column7 AND kind = v.column8 AND name = v.column9
    AND usage.as_of_us = v.column10 AND usage.used = v.column11
    AND usage.tokens IS v.column12 AND usage.reported IS v.column13
    AND usage.counts = v.column14
"""
# The counts of a subject are up to 1,440.
_MOST_ASSUMED: Final = 64
_LAST_ID: Final = 2**63 - 1
# Array type codes by the octets of an item, narrowest first.
_CODES: Final = {array(code).itemsize: code for code in "BHIQ"}
_SIZES: Final = (1, 1, 2, 4, 4, 8, 8, 8, 8)  # for numbers of so many octets


Values: TypeAlias = tuple[int, int, int | None, str | None, bytes]
"""The columns that usage is computed from, in the order of ``_READ``."""


class LedgerFileError(Exception):
    """The file cannot be used; the text says what to do."""


class RowChangedError(Exception):
    """Another process has changed a row that was assumed to be the same."""


@dataclass(slots=True, eq=False)
class _SubjectRow:
    """A subject of a transaction: its row, and its usage with all changes.

    ``values`` are ``None`` if there is no row. ``limits`` are those of the last change.
    """

    values: Values | None
    usage: Usage | None
    is_read: bool
    limits: SendingLimits | None = None


class LedgerFile:
    """One connection to the file, and the rows that a transaction has read or will write."""

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        """Open the file, made when it is missing.

        ``busy_timeout_s`` is how long a transaction waits for other processes' to end. Raises
        LedgerFileError, sqlite3.Error or OSError.
        """
        self._path, self._name = path, str(path)
        self._busy_timeout_s = busy_timeout_s
        self._assumed: dict[Subject, _SubjectRow] = {}  # as the last transactions left them
        self._rows: dict[Subject, _SubjectRow] = {}
        self._added: list[tuple[int, int, str, int]] = []
        self._swept_usage = self._swept_reservation = 0
        # Only the service's user may read the counts; SQLite gives its other files the same
        # mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._identity = _identity(self._name)
        register_adapters()
        self._connection = sqlite3.connect(
            path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_current(self) -> bool:
        """True if the path still leads to the file that is open."""
        return _identity(self._name) == self._identity

    def set_busy_timeout(self, seconds: float) -> None:
        """Wait so long, from now on, for other processes' transactions to end."""
        self._connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self._connection.close()

    # -- transactions --------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to write. No other process can write until the end, so reads stay true."""
        self._forget()
        if len(self._assumed) > _MOST_ASSUMED:
            self._assumed.clear()
        transaction.begin_to_write(self._connection)

    def begin_again(self) -> None:
        """Undo all, and begin to write; this time nothing is assumed."""
        self._connection.rollback()
        self._assumed.clear()
        self.begin()

    def begin_to_read(self) -> None:
        """Begin to read one moment's state; neither this nor any writer waits for the other."""
        self._forget()
        self._assumed.clear()
        transaction.begin_to_read(self._connection)

    def _forget(self) -> None:
        self._rows.clear()
        self._added.clear()

    def commit(self) -> None:
        """Write the changed usage, and commit.

        Raises RowChangedError when it is computed from rows that have been changed.
        """
        self._write_usage()
        _ = many.execute(self._connection, _RESERVATION, self._added)
        self._connection.commit()
        for subject, row in self._rows.items():
            if row.limits is not None:
                row.is_read, row.limits = False, None
                self._assumed[subject] = row

    def touch(self) -> None:
        """Write a value that is there already: as every write, it needs the lock and room."""
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    # -- usage ---------------------------------------------------------------------------------

    def rows(self, charges: Sequence[Charge]) -> tuple[list[_SubjectRow], list[Usage | None]]:
        """The row of each subject and its usage, with the changes of this transaction."""
        rows: list[_SubjectRow] = []
        usages: list[Usage | None] = []
        for charge in charges:
            row = self._rows.get(charge.subject) or self._row(charge.subject)
            rows.append(row)
            usages.append(row.usage)
        return rows, usages

    def keep(
        self,
        rows: Sequence[_SubjectRow],
        charges: Sequence[Charge],
        usages: Sequence[Usage | None],
    ) -> None:
        """At the end of the transaction, write those that changed."""
        for at, row in enumerate(rows):
            usage = usages[at]
            if usage is not None and usage is not row.usage:
                row.usage, row.limits = usage, charges[at].limits

    def _row(self, subject: Subject) -> _SubjectRow:
        row = self._assumed.get(subject)
        if row is None:
            values = self._read(subject)
            usage = None if values is None else _usage(*values)
            row = _SubjectRow(values, usage, is_read=True)
        self._rows[subject] = row
        return row

    def _read(self, subject: Subject) -> Values | None:
        found: Values | None = self._connection.execute(_READ, _key(subject)).fetchone()
        return found

    def _write_usage(self) -> None:
        """Write the changed usage; what was not changed must be as it was assumed."""
        new: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        for subject, row in self._rows.items():
            usage, limits, before = row.usage, row.limits, row.values
            if usage is None or limits is None:
                if not row.is_read and self._read(subject) != before:
                    raise RowChangedError
                continue
            row.values = values = _values(usage)
            columns = (*values, idle_at_us(usage, limits), *_key(subject))
            if before is None:
                new.append(columns)
            else:
                changed.append((*columns, *before))
        _ = many.execute(self._connection, _NEW, new)
        if many.execute(self._connection, _CHANGE, changed) != len(changed):
            raise RowChangedError

    # -- open reservations ---------------------------------------------------------------------

    def add_reservation(
        self, reservation_id: int, at_us: int, account_id: str, recipients: int
    ) -> None:
        """Record an open reservation at the end of the transaction."""
        self._added.append((reservation_id, at_us, account_id, recipients))

    def take_reservation(self, reservation_id: int) -> int | None:
        """Close it; the moment of its lease's beginning, or ``None`` when it is not open."""
        found = self._connection.execute(
            "SELECT at_us FROM reservation WHERE id = ?", (reservation_id,)
        ).fetchone()
        if found is None:
            return None
        self.close_reservations([reservation_id])
        at_us: int = found[0]
        return at_us

    def close_reservations(self, reservation_ids: Sequence[int]) -> None:
        """Close them; whether they were open does not matter."""
        many.delete(self._connection, "reservation", reservation_ids)

    # -- old rows ------------------------------------------------------------------------------

    def sweep(self, now: datetime, lease: timedelta, rows: int) -> None:
        """Look at so many further rows, and forget those that matter no longer."""
        self._sweep_usage(microseconds(now), rows)
        self._sweep_reservations(now, lease, rows)

    def _sweep_usage(self, now_us: int, rows: int) -> None:
        after, self._swept_usage = (
            self._swept_usage,
            self._last("usage", self._swept_usage, rows),
        )
        self._connection.execute(
            "DELETE FROM usage WHERE id > ? AND id <= ? AND idle_at_us <= ?",
            (after, self._swept_usage or _LAST_ID, now_us),
        )

    def _sweep_reservations(self, now: datetime, lease: timedelta, rows: int) -> None:
        after = self._swept_reservation
        self._swept_reservation = self._last("reservation", after, rows)
        self._connection.execute(
            "DELETE FROM reservation WHERE id > ? AND id <= ? AND at_us < ?",
            (after, self._swept_reservation or _LAST_ID, over_before_us(now, lease)),
        )

    def _last(self, table: str, after: int, rows: int) -> int:
        """The id of the row that many rows further on, or 0 when there is none."""
        found = self._connection.execute(
            f"SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?",  # noqa: S608 - a name of ours
            (after, rows - 1),
        ).fetchone()
        return 0 if found is None else found[0]

    # -- schema --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("BEGIN")  # both answers are of one moment
        is_current = self._version() == SCHEMA_VERSION
        execute("COMMIT")
        if not enter_wal_mode(self._connection, busy_timeout_s=self._busy_timeout_s):
            raise LedgerFileError(f"{self._path} cannot be in WAL mode; put it on a local disk")
        execute("PRAGMA synchronous = NORMAL")
        if not is_current:
            execute("BEGIN IMMEDIATE")
            version = self._version()  # another process may have been faster
            if version == 0:
                self._make()
            elif version < SCHEMA_VERSION:
                self._upgrade()
            execute("COMMIT")

    def _version(self) -> int:
        """The schema's version; 0 for an empty file. Raises LedgerFileError."""
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        kind: int = self._connection.execute("PRAGMA application_id").fetchone()[0]
        tables = self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        if kind != _APPLICATION_ID and (kind or version or tables):
            raise LedgerFileError(f"{self._path} is a database of something else")
        if version > SCHEMA_VERSION:
            raise LedgerFileError(
                f"{self._path} has schema {version}, and this version of smtpgate knows "
                f"{SCHEMA_VERSION}; run the newer one, or move the file away to count from 0"
            )
        return version

    def _make(self) -> None:
        for statement in _SCHEMA:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _upgrade(self) -> None:
        """Rename the one column that has another name in version 1."""
        columns = self._connection.execute("SELECT name FROM pragma_table_info('usage')")
        names = [name for (name,) in columns]
        if "reported" not in names:
            old = names[names.index("tokens") + 1]
            self._connection.execute(f"ALTER TABLE usage RENAME COLUMN {old} TO reported")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _key(subject: Subject) -> tuple[str, str, str]:
    return subject.account_id, subject.kind, subject.name


def _values(usage: Usage) -> Values:
    reported = None if usage.reported is None else ",".join(map(str, usage.reported))
    window = usage.window
    return usage.as_of_us, window.used, usage.tokens, reported, _packed(window)


def _usage(
    as_of_us: int, _used: int, tokens: int | None, reported: str | None, counts: bytes
) -> Usage:
    unpacked = _unpacked(counts)
    window = Window(minute_of(as_of_us), unpacked[:-1], sum(unpacked))
    return Usage(
        as_of_us,
        window,
        tokens,
        None if reported is None else tuple(map(int, reported.split(","))),
    )


def _packed(window: Window) -> bytes:
    """The counts in the fewest octets that hold the largest; the first octet says how many."""
    earlier = window.earlier
    total, largest = _sum_and_largest(earlier)
    last = window.used - total
    size = _SIZES[(max(largest, last).bit_length() + 7) // 8]
    return _packed_earlier(earlier, size) + last.to_bytes(size, "little")


# The earlier counts are the same for a minute, and up to 1,440.
@made_once
def _sum_and_largest(counts: tuple[int, ...]) -> tuple[int, int]:
    return sum(counts), max(counts, default=0)


@made_once_with
def _packed_earlier(counts: tuple[int, ...], size: int) -> bytes:
    packed = array(_CODES[size], counts)
    if sys.byteorder == "big":
        packed.byteswap()
    return bytes((size,)) + packed


def _unpacked(octets: bytes) -> tuple[int, ...]:
    counts = array(_CODES[octets[0]], octets[1:])
    if sys.byteorder == "big":
        counts.byteswap()
    return tuple(counts)
