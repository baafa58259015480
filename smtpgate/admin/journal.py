"""The journal: what was submitted, what came of it, and why; each account sees its own view.

An account sees its own submissions and those that used its identities, without what is for the
other side alone (:func:`smtpgate.core.history.story.as_seen_by`). An operator sees everything,
or what an account would see.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from smtpgate.admin.errors import AmbiguousIdError, InvalidQuestionError, NotFoundError
from smtpgate.admin.paging import in_pages
from smtpgate.admin.session import CallerSession
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.history.story import as_seen_by
from smtpgate.core.history.usage import Grain, UsageRow, start_of, unit_of
from smtpgate.core.message_id import is_beginning, times_of
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.schema import HEAD
from smtpgate.journal.store import SCHEMA, JournalStore
from smtpgate.journal.terms import TermKeyError
from smtpgate.journal.usage_query import UsageQuery, usage_with_events
from smtpgate.ports import JournalUnavailableError
from smtpgate.sql import upgrade as tables

# Errors of the journal that a use case may raise on purpose, beside those of all use cases.
JOURNAL_ERRORS: Final = (JournalUnavailableError, TermKeyError)

_PAGE: Final = 100
_CANDIDATES: Final = 10
# Usage over a longer time is added up by day.
_LONG: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSession(CallerSession):
    """One person at work in an open journal."""

    reader: JournalReader

    def viewer(self, operation: str, account_id: str | None) -> str | None:
        """The account whose view it is: ``None`` if an operator asks for no account's.

        Raises NotAuthorizedError.
        """
        return self.account_to_list(operation, account_id, self.account_arn)


def _seen(record: Record, viewer: str | None) -> Record:
    return record if viewer is None else as_seen_by(record, viewer)


async def search(
    session: JournalSession, wanted: Search, *, limit: int | None = None
) -> AsyncIterator[Sequence[Record]]:
    """Submissions and refused logins in pages, the newest first."""
    viewer = session.viewer("SearchJournal", wanted.account_id)
    found = session.reader.search(replace(wanted, account_id=viewer), session.now())
    seen = (_seen(record, viewer) async for record in found)
    async for page in in_pages(seen, _PAGE, limit):
        yield page


async def follow(
    session: JournalSession, wanted: Search, pause: Callable[[], Awaitable[None]]
) -> AsyncIterator[Record]:
    """Submissions and refused logins from now on, each once it has its verdict; endless."""
    viewer = session.viewer("SearchJournal", wanted.account_id)
    wanted = replace(wanted, account_id=viewer)
    follower = await session.reader.follower()
    while True:
        for record in await follower.poll():
            if wanted.fits(record):
                yield _seen(record, viewer)
        await pause()


async def get(
    session: JournalSession, message_id: str, account_id: str | None = None
) -> Record:
    """The record of a message, by its id or a unique beginning of it.

    Raises NotFoundError, or AmbiguousIdError with the ids that begin so.
    """
    viewer = session.viewer("GetMessage", account_id)
    wanted = message_id.strip().lower()
    found: list[Record] = []
    if is_beginning(wanted):
        since, until = times_of(wanted)
        search = Search(account_id=viewer, since=since, until=until)
        async for record in session.reader.search(search, session.now()):
            if record.id.startswith(wanted):
                found.append(record)
            if len(found) > _CANDIDATES:
                break
    if not found:
        days = session.config.journal.max_age_days
        raise NotFoundError(
            f"the journal has no message {message_id}; it keeps {days} days at most"
        )
    if len(found) > 1:
        ids = [record.id for record in found]
        raise AmbiguousIdError(message_id, ids[:_CANDIDATES], are_all=len(ids) <= _CANDIDATES)
    return _seen(found[0], viewer)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePeriod:
    """Messages and recipients by units of the grain; ``viewer`` is the account that asks."""

    grain: Grain
    first: int
    units: int
    rows: Sequence[UsageRow]
    viewer: str | None

    @property
    def since(self) -> datetime:
        """The begin of the first unit."""
        return start_of(self.grain, self.first)

    @property
    def sent(self) -> Sequence[UsageRow]:
        """The rows that the viewer sent; all if no account asks."""
        return [row for row in self.rows if self.viewer in (None, row.key.account_id)]

    @property
    def sent_by_others(self) -> Sequence[UsageRow]:
        """The rows that other accounts sent with the viewer's identities."""
        return [row for row in self.rows if self.viewer not in (None, row.key.account_id)]


async def usage(
    session: JournalSession,
    *,
    since: datetime,
    account_id: str | None = None,
    user: str | None = None,
    identity: str | None = None,
    grain: Grain | None = None,
) -> UsagePeriod:
    """Messages and recipients since a moment, added up by sender, identity and reason.

    Bounces, complaints, deliveries and delays are beside the accepted messages. Without a grain
    a long time is added up by day. Raises InvalidQuestionError.
    """
    viewer, now = session.viewer("GetUsage", account_id), session.now()
    if since > now:
        raise InvalidQuestionError("usage has a begin that is in the future")
    if grain is None:
        grain = Grain.DAY if now - since > _LONG else Grain.POINT
    asked = UsageQuery(
        grain=grain, since=since, until=now, account_id=viewer, user=user, identity=identity
    )
    first = unit_of(grain, since)
    return UsagePeriod(
        grain=grain,
        first=first,
        units=unit_of(grain, now) - first + 1,
        rows=await usage_with_events(session.reader.store, asked),
        viewer=viewer,
    )


async def status(session: JournalSession) -> Mapping[str, Any]:
    """Its database, about how much is in it, and how long that stays."""
    session.must_be_allowed("GetJournalStatus", "*")
    database, settings = session.reader.store.database, session.config.journal
    return {
        "database": database.name,
        "kind": "sqlite" if database.is_sqlite else "postgresql",
        "revision": HEAD,
        **await session.reader.extent(),
        "max_age_days": settings.max_age_days,
        "max_octets": settings.max_octets,
    }


async def upgrade(session: CallerSession, store: JournalStore) -> tuple[str | None, str]:
    """Make the tables of a journal, or bring them to this version.

    The revisions before and after.
    """
    session.must_be_allowed("UpgradeJournal", "*")
    revisions = await tables.upgrade(store.database, SCHEMA)
    _ = await store.open(may_upgrade=False)
    return revisions
