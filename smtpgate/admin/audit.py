"""The audit log: who changed what in the directory, when, and from where."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, TypeAlias

from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.session import Session
from smtpgate.directory import audit as rows
from smtpgate.directory.change import AuditSubjectKind

AuditEntry: TypeAlias = rows.AuditEntry
AuditFilter: TypeAlias = rows.AuditFilter
AuditKind: TypeAlias = AuditSubjectKind
_PAGE: Final = 500


async def pages(
    session: Session, wanted: AuditFilter, *, limit: int | None = None
) -> AsyncIterator[Sequence[AuditEntry]]:
    """Entries in pages, the newest last; with a limit the newest ones."""
    session.must_be_allowed("ReadAuditLog", "*")

    first = 0 if limit is None else await _position_before(session, wanted, limit)
    read = partial(rows.audit_page, wanted=wanted)
    async for page in rows_in_pages(session, read, first, attrgetter("seq"), limit):
        yield page


async def follow(
    session: Session,
    wanted: AuditFilter,
    pause: Callable[[], Awaitable[None]],
    *,
    newest: int = 0,
) -> AsyncIterator[AuditEntry]:
    """The newest entries, so many, and then each that is added; endless."""
    session.must_be_allowed("ReadAuditLog", "*")
    after = await _position_before(session, wanted, newest)
    while True:
        async with session.store.reading() as connection:
            entries = await rows.audit_page(connection, wanted, after=after, limit=_PAGE)
        for entry in entries:
            yield entry
            after = entry.seq
        if len(entries) < _PAGE:
            await pause()


async def _position_before(session: Session, wanted: AuditFilter, number: int) -> int:
    """The position after which there are at most so many entries."""
    async with session.store.reading() as connection:
        if number == 0:
            return await rows.last_entry(connection)
        newest = await rows.audit_page(connection, wanted, newest_first=True, limit=number)
    return newest[-1].seq - 1 if newest else 0


async def get(session: Session, seq: int) -> AuditEntry:
    """The entry of that number. Raises NotFoundError."""
    session.must_be_allowed("ReadAuditLog", "*")
    async with session.store.reading() as connection:
        return await rows.audit_entry(connection, seq)
