"""Templates of messages in the directory.

The audit log has no content of them, only its digest: a template may be half a megabyte.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select

from smtpgate.directory.accounts import account
from smtpgate.directory.change import AuditSubject, Change, NotFoundError, RefusedChangeError
from smtpgate.directory.rows import (
    columns_of,
    delete_rows,
    insert_rows,
    must_be_new,
    selects,
    update_row,
)
from smtpgate.directory.schema import email_templates
from smtpgate.sql.asynchronous import AsyncConnection

MAX_TEMPLATES: Final = 20_000  # of an account in a region, as SES


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A stored template; a part is ``None`` if it has none."""

    account_id: str
    region: str
    name: str
    subject_part: str | None = None
    text_part: str | None = None
    html_part: str | None = None
    created_at: datetime | None = None

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject("template", self.account_id, self.name)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return {"account_id": self.account_id, "region": self.region, "name": self.name}

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        parts = repr((self.subject_part, self.text_part, self.html_part))
        return {"sha256": hashlib.sha256(parts.encode()).hexdigest()}


_COLUMNS: Final = columns_of(email_templates, TemplateRow)


async def template(
    connection: AsyncConnection, account_id: str, region: str, name: str
) -> TemplateRow:
    """The template of that name. Raises NotFoundError."""
    key = {"account_id": account_id, "region": region, "name": name}
    query = select(*_COLUMNS).where(selects(email_templates, key))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError(f"Template {name} does not exist.")  # SES's words
    return TemplateRow(**row._mapping)


async def template_page(
    connection: AsyncConnection, account_id: str, region: str, *, after: str, limit: int
) -> list[tuple[str, datetime]]:
    """The names and times of an account's templates, by name, behind ``after``."""
    its = email_templates.c
    query = select(its.name, its.created_at).where(
        its.account_id == account_id, its.region == region, its.name > after
    )
    found = await connection.execute(query.order_by(its.name).limit(limit))
    return [(row.name, row.created_at) for row in found]


async def create_template(change: Change, row: TemplateRow) -> None:
    """Add a template. Raises NotFoundError, ConflictError, RefusedChangeError."""
    await account(change.connection, row.account_id)
    await must_be_new(change, email_templates, row.key, row.subject)
    place = {"account_id": row.account_id, "region": row.region}
    there = select(func.count()).where(selects(email_templates, place))
    if ((await change.connection.execute(there)).scalar() or 0) >= MAX_TEMPLATES:
        raise RefusedChangeError(
            f"account {row.account_id} has {MAX_TEMPLATES} templates, the most it may"
        )
    row = replace(row, created_at=change.now)
    await insert_rows(change, email_templates, [asdict(row)], [row])


async def update_template(change: Change, row: TemplateRow) -> None:
    """Replace the parts of a template that is there. Raises NotFoundError."""
    before = await template(change.connection, row.account_id, row.region, row.name)
    after = replace(row, created_at=before.created_at)
    await update_row(change, email_templates, row.key, before, after, action="change")


async def delete_template(change: Change, row: TemplateRow) -> None:
    """Delete a template that was read in this transaction."""
    await delete_rows(change, email_templates, [row.key], [row])
