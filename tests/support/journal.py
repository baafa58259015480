"""A real journal in a SQLite file or a PostgreSQL database, and submissions to put into it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

from msgspec import structs
from sqlalchemy import text

from smtpgate.clock import SystemClock
from smtpgate.config.sections import JournalConfig
from smtpgate.core.arn import IdentityArn
from smtpgate.core.events import Event, RetentionChanged, SubmissionDone
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import Counts, Grain, UsageKey, usage_of
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.message_id import message_id
from smtpgate.core.policy import Caller, Decision, Policy, Request, evaluate, parse_policy
from smtpgate.journal.event_query import EventQuery, event_counts_by
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.retention import Retention
from smtpgate.journal.rows import Row
from smtpgate.journal.store import JournalStore
from smtpgate.journal.usage_query import UsageQuery, usage_rows
from smtpgate.ports import Clock, JournalUnavailableError
from smtpgate.sql.database import Database, parse_url, sqlite_url
from tests.support.clock import MovableClock
from tests.support.events import done
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, grant, may_send, sent_as

_IDS: Final = count(1)
# The ids that terms lead to.
WITH_TERMS: Final = """
SELECT id FROM journal_terms UNION SELECT id FROM journal_records WHERE digests IS NOT NULL
"""

IDENTITY_POLICY: Final = parse_policy(
    grant(Sid="AuthorizeMarketer", Condition=sent_as(f"marketing@{DOMAIN_NAME}")),
    kind="identity",
    name="marketing",
)
USER_POLICY: Final = parse_policy(may_send("ses:*"), kind="user", name="send")


class Received:
    """An event sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: list[BaseException] = []

    def publish(self, event: Event) -> None:
        """Remember the event."""
        self.events.append(event)


def new_id(at: datetime) -> str:
    """An id that no other test submission has, as the gate makes them; they sort as made."""
    return message_id(at, next(_IDS).to_bytes(8) + os.urandom(8))


def decision_for(
    address: str,
    *,
    identity_policies: tuple[Policy, ...] = (IDENTITY_POLICY,),
    user_policies: tuple[Policy, ...] = (USER_POLICY,),
) -> Decision:
    """The decision when the delegate's user sends with that address."""
    user = f"arn:aws:iam::{DELEGATE}:user/mailer"
    return evaluate(
        Request(
            Caller(DELEGATE, user, False),
            "ses:SendRawEmail",
            IDENTITY,
            {"ses:fromaddress": (address,)},
        ),
        identity_policies=identity_policies,
        user_policies=user_policies,
    )


def submission(
    clock: Clock, outcome: str = "accepted", reason: str = "accepted", **more: object
) -> SubmissionDone:
    """A submission of this moment, with a decision, as the pipeline leaves it."""
    event = done(outcome, reason, **more)  # type: ignore[arg-type]
    now = clock.now()
    event.submission = structs.replace(
        event.submission, message_id=new_id(now), received_at=now
    )
    event.done_at = now
    if event.from_identity:
        event.intent = SendingIntent(source_arn=IdentityArn.parse(event.from_identity))
    event.decision = decision_for("marketing@ses-example.com")
    event.signing_domain, event.selectors = "ses-example.com", ("s1",)
    return event


def store_of(url: str, folder: Path) -> JournalStore:
    """A store that is not opened yet, its key in the folder."""
    database = Database(parse_url(url), JournalUnavailableError)
    return JournalStore(database=database, key_file=folder / "journal.key")


@asynccontextmanager
async def open_store(url: str, folder: Path) -> AsyncIterator[JournalStore]:
    """A store with current tables, its key in the folder."""
    store = store_of(url, folder)
    try:
        await store.open(may_upgrade=True)
        yield store
    finally:
        await store.close()


def journal_in(folder: Path) -> str:
    """The URL of a file that may be made there."""
    return sqlite_url(folder / "journal.sqlite")


async def event_counts(store: JournalStore, asked: EventQuery) -> EventCounts:
    """The sums of all events that are selected."""
    found = await event_counts_by(store, asked)
    return found.get((), EventCounts())


async def store_with_tables(url: str, folder: Path) -> JournalStore:
    """A store; a server's tables are made as `smtpgate journal upgrade' makes them."""
    store = store_of(url, folder)
    if not store.database.is_sqlite:
        await store.open(may_upgrade=True)
    return store


@asynccontextmanager
async def open_journal(
    url: str,
    folder: Path,
    *,
    clock: Clock | None = None,
    settings: JournalConfig | None = None,
    received: Received | None = None,
) -> AsyncIterator[LiveJournal]:
    """A journal that is written to; ``received`` gets its events."""
    received = received or Received()
    journal = LiveJournal(
        await store_with_tables(url, folder),
        settings or JournalConfig(),
        clock=clock or MovableClock(),
        events=received,
        on_error=received.errors.append,
    )
    try:
        await journal.start()
        yield journal
    finally:
        await journal.stop()


def retention_of(
    journal: LiveJournal,
    clock: Clock,
    received: Received | None = None,
    *,
    max_age: timedelta = timedelta(days=30),
    max_octets: int = 10**9,
) -> Retention:
    """The retention of a journal, to be called in the test's own time."""
    received = received or Received()
    return Retention(
        journal.writer,
        journal.store.key(),
        max_age=max_age,
        max_octets=max_octets,
        clock=clock,
        on_change=lambda problem: received.publish(RetentionChanged(problem, clock.now())),
        on_error=received.errors.append,
    )


async def all_rows(store: JournalStore) -> list[Row]:
    """Every record, in the order of writing."""
    async with store.reading() as connection:
        names = ", ".join(Row.__struct_fields__)
        found = await connection.execute(
            text(f"SELECT {names} FROM journal_records ORDER BY seq")
        )
        return [Row(*row) for row in found]


async def must_add_up(store: JournalStore, now: datetime | None = None) -> None:
    """Usage is exactly what follows from the records that are there, all of them of today."""
    sums: dict[UsageKey, Counts] = {}
    for row in await all_rows(store):
        counted = usage_of(row)
        if counted is not None:
            sums[counted[0]] = sums.get(counted[0], Counts()) + counted[1]
    now = now or SystemClock().now()
    for grain in Grain:
        since, until = now - timedelta(days=1), now + timedelta(days=1)
        output: dict[UsageKey, Counts] = {}
        for one in await usage_rows(store, UsageQuery(grain=grain, since=since, until=until)):
            output[one.key] = output.get(one.key, Counts()) + one.counts
        assert output == sums


class Breakable:
    """A SQLite journal that can be taken out of its place, and put back.

    Each is done in one step: the gate's threads may look there at any moment, and make a new
    file where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_suffix(".aside")

    def break_(self) -> None:
        """A folder is in its place: nothing can be written."""
        self._aside.hardlink_to(self.path)
        folder = self.path.with_suffix(".folder")
        folder.symlink_to(self.path.parent)
        folder.replace(self.path)

    def mend(self) -> None:
        """It is back."""
        self._aside.replace(self.path)
