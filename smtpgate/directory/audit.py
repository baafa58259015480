"""Queries of the audit log: who made which change, when, and from where.

It is written by :meth:`smtpgate.directory.change.Change.note` alone, and never changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select

from smtpgate.directory.change import AuditSubject, AuditSubjectKind, NotFoundError
from smtpgate.directory.rows import columns_of
from smtpgate.directory.schema import audit_log
from smtpgate.sql.asynchronous import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One step of a change; ``before`` and ``after`` are facts of its subject."""

    seq: int
    at: datetime
    actor: str
    origin: str
    action: str
    kind: AuditSubjectKind
    account_id: str
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def subject(self) -> AuditSubject:
        """The object that was changed."""
        return AuditSubject(self.kind, self.account_id, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """A selection of entries; a field of ``None`` selects all."""

    account_id: str | None = None
    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select[Any]) -> Select[Any]:
        """The query for those entries alone."""
        for key in ("account_id", "actor", "action", "kind", "name"):
            value = getattr(self, key)
            if value is not None:
                query = query.where(audit_log.c[key] == value)
        if self.since is not None:
            query = query.where(audit_log.c.at >= self.since)
        if self.until is not None:
            query = query.where(audit_log.c.at < self.until)
        return query


_COLUMNS: Final = columns_of(audit_log, AuditEntry)


async def audit_page(
    connection: AsyncConnection,
    wanted: AuditFilter,
    *,
    after: int | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[AuditEntry]:
    """Entries in their order, or the newest first; those behind ``after`` in that order."""
    seq = audit_log.c.seq
    query = wanted.apply(select(*_COLUMNS))
    if after is not None:
        query = query.where(seq < after if newest_first else seq > after)
    query = query.order_by(seq.desc() if newest_first else seq).limit(limit)
    return [AuditEntry(**row._mapping) for row in await connection.execute(query)]


async def audit_entry(connection: AsyncConnection, seq: int) -> AuditEntry:
    """The entry of that number. Raises NotFoundError."""
    found = await connection.execute(select(*_COLUMNS).where(audit_log.c.seq == seq))
    row = found.one_or_none()
    if row is None:
        raise NotFoundError(f"the audit log has no entry {seq}")
    return AuditEntry(**row._mapping)


async def last_entry(connection: AsyncConnection) -> int:
    """The number of the newest entry, 0 when there is none."""
    return (await connection.execute(select(func.max(audit_log.c.seq)))).scalar() or 0
