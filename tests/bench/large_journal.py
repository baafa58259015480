"""A journal of ten million records: how long the first page of a search takes.

    .venv/bin/python -m tests.bench.large_journal --records 10000000 --folder /var/tmp

Makes a SQLite journal of that size, and one of a hundredth of it beside which no time may have
grown, and takes both away again. The records are those of thirty days: a thousand accounts, a
few of which send most; one message in twenty is refused, and one in a hundred is deferred.
Figures are printed and not judged.
"""

import argparse
import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import structs

from smtpgate.core.history.record import Record, owner_of
from smtpgate.core.history.search import Search
from smtpgate.core.history.usage import Counts, Grain, UsageKey, unit_of, usage_of
from smtpgate.core.message_id import message_id
from smtpgate.core.moments import microseconds
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.rows import Row, Texts, hour_of, row_of, with_verdict
from smtpgate.journal.terms import TermKey
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from tests.support.clock import MovableClock
from tests.support.journal import journal_in, open_store, submission
from tests.support.records import submission_record

UNTIL: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
SPAN: Final = timedelta(days=30)
ACCOUNTS: Final = 1000
_PAGE: Final = 100
_TIMES: Final = 3
_SMALLER: Final = 100
_RECIPIENTS: Final = 1_000_000
_HOUR: Final = timedelta(hours=1)
_REFUSALS: Final = ("policy-denied", "sender-not-verified", "quota-exceeded")
_RARE: Final = "signing-failed"


@dataclass(frozen=True)
class Sample:
    """A record of which many are made: its row with the verdict, and its terms."""

    row: Row
    terms: frozenset[bytes]
    usage: tuple[UsageKey, Counts]


def account(number: int) -> str:
    """The id of an account."""
    return f"{100_000_000_000 + number}"


def identity(number: int) -> str:
    """The ARN of a domain of that account."""
    return f"arn:aws:ses:us-east-1:{account(number)}:identity/d{number}.example.com"


def recipient(number: int) -> str:
    """An address that mail went to."""
    return f"user{number}@example.net"


def _record(number: int, outcome: str, reason: str) -> tuple[Record, Texts, Row]:
    event = submission(
        MovableClock(UNTIL),
        outcome,
        reason,
        identity=identity(number // 2 * 2),  # every second account sends for the one before
        account=account(number),
    )
    record = submission_record(event, keep_recipients=False, keep_subject=False)
    row, texts = row_of(record)
    return record, texts, with_verdict(row, record.verdict)


def samples(key: TermKey) -> tuple[list[Sample], dict[str, str]]:
    """Samples by how often they are made, and the statements that they cite."""
    found: list[Sample] = []
    texts: dict[str, str] = {}
    for number in range(ACCOUNTS):
        for outcome, reason in (
            ("accepted", "accepted"),
            ("refused", _REFUSALS[number % len(_REFUSALS)]),
            ("deferred", "upstream-unavailable"),
        ):
            record, cited, row = _record(number, outcome, reason)
            texts |= cited
            parties = record.parties
            terms = key.before_relay(parties) | key.of_verdict(record.verdict, parties)
            usage = usage_of(row)
            assert usage is not None
            found.append(Sample(row, frozenset(terms), usage))
    return found, texts


def _weights() -> list[float]:
    """Few accounts send most messages."""
    return [share / (1 + number) for number in range(ACCOUNTS) for share in (0.94, 0.05, 0.01)]


def _usage_lines(start: datetime, sums: Counter[Sample]) -> Iterator[tuple[object, ...]]:
    """The sums of an hour, without those that a gate would forget as soon as it starts."""
    age = datetime.now(UTC) - start
    for sample, times in sums.items():
        key, counts = sample.usage
        for grain in (grain for grain in Grain if age < grain.kept):
            yield (
                int(grain), key.account_id, unit_of(grain, start), key.user_arn,
                key.identity, key.reason, owner_of(key.identity), times * counts.attempts,
                times * counts.messages, times * counts.recipients, times * counts.octets,
            )  # fmt: skip


class Filling:
    """Writes records to a journal, an hour at a time, as plainly as SQLite takes them."""

    def __init__(self, path: Path, key: TermKey, seed: int = 1) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous=OFF")
        self._key = key
        self._random = random.Random(seed)
        self._samples, texts = samples(key)
        day = hour_of(microseconds(UNTIL)) // 24
        self._many(
            "journal_statements", 3, [(digest, text, day) for digest, text in texts.items()]
        )
        self.an_id = ""

    def _many(self, table: str, columns: int, rows: Sequence[tuple[object, ...]]) -> None:
        marks = ",".join("?" * columns)
        self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _records(self, rows: Sequence[Row]) -> None:
        names = Row.__struct_fields__
        columns, marks = ", ".join(names), ",".join("?" * len(names))
        sql = f"INSERT INTO journal_records ({columns}) VALUES ({marks})"
        self._connection.executemany(sql, map(structs.astuple, rows))

    def hour(self, start: datetime, records: int) -> None:
        """Write the records of an hour that begins then."""
        chosen = self._random.choices(self._samples, _weights(), k=records)
        rows: list[Row] = []
        terms: list[tuple[int, bytes, str]] = []
        number = hour_of(microseconds(start))
        for at, sample in enumerate(chosen):
            received = start + _HOUR * at / records
            record_id = message_id(received, self._random.randbytes(16))
            us = microseconds(received)
            rows.append(
                structs.replace(sample.row, id=record_id, received_us=us, done_us=us + 9000)
            )
            to = self._key.address(recipient(self._random.randrange(_RECIPIENTS)))
            terms += ((number, term, record_id) for term in {*sample.terms, to})
        self.an_id = rows[-1].id if rows else self.an_id
        terms.sort()
        self._connection.execute("BEGIN")
        self._records(rows)
        self._many("journal_terms", 3, terms)
        for line in _usage_lines(start, Counter(chosen)):
            key, counts = line[:7], line[7:]
            self._add_usage(key, counts)
        self._connection.execute("COMMIT")

    def _add_usage(self, key: tuple[object, ...], counts: tuple[object, ...]) -> None:
        self._connection.execute(
            "INSERT INTO journal_usage (grain, account_id, start, user_arn, identity, reason, "
            "owner_id, attempts, messages, recipients, octets) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
            "attempts = attempts + excluded.attempts, messages = messages + excluded.messages, "
            "recipients = recipients + excluded.recipients, octets = octets + excluded.octets",
            (*key, *counts),
        )

    def one(self, reason: str, at: datetime) -> None:
        """Write one deferred record with that reason."""
        record, _, row = _record(0, "deferred", reason)
        row = structs.replace(row, id=message_id(at, bytes(16)), received_us=microseconds(at))
        key, parties = self._key, record.parties
        found = key.before_relay(parties) | key.of_verdict(record.verdict, parties)
        hour = hour_of(row.received_us)
        self._records([row])
        self._many("journal_terms", 3, [(hour, term, row.id) for term in found])

    def close(self) -> None:
        """Let SQLite look at the tables as the gate does, and close the file."""
        self._connection.execute(
            "INSERT INTO journal_meta (name, value) "
            "SELECT 'sorted', max(seq) FROM journal_records"
        )
        self._connection.execute("PRAGMA optimize")
        self._connection.close()


def fill(path: Path, key: TermKey, records: int) -> str:
    """Fill the journal; the id of one of its records."""
    filling = Filling(path, key)
    hours = int(SPAN / _HOUR)
    for hour in range(hours):
        part = records * (hour + 1) // hours - records * hour // hours
        filling.hour(UNTIL - SPAN + hour * _HOUR, part)
    filling.one(_RARE, UNTIL - SPAN + timedelta(days=2))
    filling.close()
    return filling.an_id


# -- searches ----------------------------------------------------------------------------------


def searches() -> dict[str, Search]:
    """Searches by each criterion: a frequent value, a rare one, and one that no record has."""
    busy, quiet = account(0), account(ACCOUNTS - 1)
    owned = identity(0).rpartition("/")[2]
    day = timedelta(days=1)
    return {
        "no criterion": Search(),
        "a day three weeks ago": Search(since=UNTIL - 21 * day, until=UNTIL - 20 * day),
        "account, busy": Search(account_id=busy),
        "account, quiet": Search(account_id=quiet),
        "account, unknown": Search(account_id="999999999999"),
        "user, of a busy account": Search(user=f"{busy}/mailer"),
        "user, unknown, of a busy account": Search(user=f"{busy}/nobody"),
        "address": Search(address=recipient(4711)),
        "address, unknown": Search(address="nobody@example.org"),
        "address of From, every record's": Search(address="marketing@ses-example.com"),
        "reason, frequent": Search(reason="policy-denied"),
        "reason, one record": Search(reason=_RARE),
        "reason, no record": Search(reason="message-too-large"),
        "outcome accepted": Search(outcome="accepted"),
        "outcome refused": Search(outcome="refused"),
        "outcome in-doubt, no record": Search(outcome="in-doubt"),
        "outcome relaying, no record": Search(outcome="relaying"),
        "identity, by name": Search(identity=owned),
        "identity, by ARN": Search(identity=identity(0)),
        "identity, unknown": Search(identity="unknown.example.org"),
        "identity of another owner, by ARN": Search(
            identity=f"arn:aws:ses:us-east-1:{quiet}:identity/{owned}"
        ),
        "busy account and one record's reason": Search(account_id=busy, reason=_RARE),
        "busy account and a reason that it never has": Search(
            account_id=busy, reason="quota-exceeded"
        ),
        "busy account and another's identity": Search(account_id=busy, identity=identity(500)),
        "frequent reason, of a day three weeks ago": Search(
            reason="policy-denied", since=UNTIL - 21 * day, until=UNTIL - 20 * day
        ),
    }


async def _first_page(records: AsyncIterator[Record]) -> int:
    found = 0
    async for _ in records:
        found += 1
        if found == _PAGE:
            break
    return found


async def _timed(work: Callable[[], Awaitable[int]]) -> tuple[float, float, int]:
    """The first and the median time in milliseconds, and the number found."""
    taken: list[float] = []
    found = 0
    for _ in range(_TIMES):
        started = time.perf_counter()
        found = await work()
        taken.append((time.perf_counter() - started) * 1000)
    return taken[0], statistics.median(taken), found


Figures = dict[str, tuple[float, float, int]]


async def measure(folder: Path, records: int) -> Figures:
    """The times of all searches in a journal of that size."""
    async with open_store(journal_in(folder), folder) as store:
        key = await store.look()
        started = time.perf_counter()
        an_id = await asyncio.to_thread(fill, folder / "journal.sqlite", key, records)
        octets = (folder / "journal.sqlite").stat().st_size
        print(
            f"{records:,} records, {octets / 1e9:.2f} GB, "
            f"made in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        reader = JournalReader(store, key)

        async def one() -> int:
            return int(await reader.get(an_id) is not None)

        figures = {"one record, by id": await _timed(one)}
        for name, wanted in searches().items():

            async def page(wanted: Search = wanted) -> int:
                return await _first_page(reader.search(wanted, UNTIL))

            figures[name] = await _timed(page)
        for name, asked in _questions().items():

            async def sums(asked: UsageQuery = asked) -> int:
                return len(await usage_rows(store, asked))

            figures[name] = await _timed(sums)
    return figures


def _questions() -> dict[str, UsageQuery]:
    since = UNTIL - timedelta(days=30)
    of_day = UsageQuery(grain=Grain.DAY, since=since, until=UNTIL)
    of_hours = UsageQuery(grain=Grain.POINT, since=UNTIL - timedelta(days=1), until=UNTIL)
    return {
        "usage of 30 days, quiet account": replace(of_day, account_id=account(ACCOUNTS - 1)),
        "usage of 30 days, unknown account": replace(of_day, account_id="999999999999"),
        "usage of a day, busy account": replace(of_hours, account_id=account(0)),
        "usage of 30 days, one identity": replace(of_day, identity=identity(998)),
    }


def show(sizes: dict[int, Figures]) -> None:
    """A table: a search a line, its first and median time by size."""
    first, *_ = sizes.values()
    heads = " | ".join(f"{records:,}: first, median ms (found)" for records in sizes)
    print(f"\n| first page of | {heads} |\n| --- |{' --- |' * len(sizes)}")
    for name in first:
        cells = (figures[name] for figures in sizes.values())
        text = " | ".join(f"{cold:.1f}, {warm:.1f} ({found})" for cold, warm, found in cells)
        print(f"| {name} | {text} |")


def main() -> None:
    """Make the journals, measure them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the files go")
    options = parser.parse_args()
    sizes: dict[int, Figures] = {}
    for records in (max(1, options.records // _SMALLER), options.records):
        with tempfile.TemporaryDirectory(prefix="smtpgate-", dir=options.folder) as name:
            sizes[records] = asyncio.run(measure(Path(name), records))
    show(sizes)


if __name__ == "__main__":
    main()
