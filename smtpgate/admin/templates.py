"""Templates of messages, of an account in this gate's region."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Final, TypeAlias

from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import TemplateRef
from smtpgate.admin.session import Session
from smtpgate.core.api.handlebars import TemplateSyntaxError
from smtpgate.core.api.rendering import MAX_TEMPLATE_OCTETS, Parts, check_parts
from smtpgate.directory import templates as rows
from smtpgate.directory.templates import TemplateRow

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
NameAndTime: TypeAlias = tuple[str, datetime]


class InvalidTemplateError(RefusedChangeError):
    """A template that cannot be read, or is too large."""


async def create(session: Session, ref: TemplateRef, parts: Parts) -> None:
    """Keep a new template. Raises InvalidTemplateError, ConflictError, RefusedChangeError."""
    session.must_be_allowed("CreateTemplate", session.template_arn(ref))
    row = await _checked(session, ref, parts)
    async with session.changing() as change:
        await rows.create_template(change, row)


async def update(session: Session, ref: TemplateRef, parts: Parts) -> None:
    """Replace a template. Raises InvalidTemplateError or NotFoundError."""
    session.must_be_allowed("UpdateTemplate", session.template_arn(ref))
    row = await _checked(session, ref, parts)
    async with session.changing() as change:
        await rows.update_template(change, row)


async def delete(session: Session, ref: TemplateRef) -> None:
    """Delete a template. Raises NotFoundError."""
    session.must_be_allowed("DeleteTemplate", session.template_arn(ref))
    async with session.changing() as change:
        row = await rows.template(change.connection, ref.account_id, session.region, ref.name)
        await rows.delete_template(change, row)


async def get(session: Session, ref: TemplateRef) -> Parts:
    """The parts of a template. Raises NotFoundError."""
    session.must_be_allowed("GetTemplate", session.template_arn(ref))
    return await _parts(session, ref)


async def to_render(session: Session, ref: TemplateRef) -> Parts:
    """The parts of a template, for a test. Raises NotFoundError."""
    session.must_be_allowed("TestRenderTemplate", session.template_arn(ref))
    return await _parts(session, ref)


async def to_send(session: Session, ref: TemplateRef) -> Parts:
    """The parts of a template, for messages of it. Raises NotFoundError."""
    session.must_be_allowed("SendTemplate", session.template_arn(ref))
    return await _parts(session, ref)


async def pages(
    session: Session, account_id: str, *, after: str = "", limit: int | None = None
) -> AsyncIterator[Sequence[NameAndTime]]:
    """The names and times of an account's templates, by name, behind ``after``."""
    arn = session.template_arn(TemplateRef(account_id, "*"))
    session.must_be_allowed("ListTemplates", arn)

    read = partial(rows.template_page, account_id=account_id, region=session.region)
    async for page in rows_in_pages(session, read, after, itemgetter(0), limit):
        yield page


async def _parts(session: Session, ref: TemplateRef) -> Parts:
    async with session.store.reading() as connection:
        row = await rows.template(connection, ref.account_id, session.region, ref.name)
    return Parts(row.subject_part, row.text_part, row.html_part)


async def _checked(session: Session, ref: TemplateRef, parts: Parts) -> TemplateRow:
    if not _NAME.fullmatch(ref.name):
        raise RefusedChangeError(
            "TemplateName has 1 to 64 letters, digits, dashes and underscores."
        )
    await _check(parts)
    return TemplateRow(
        account_id=ref.account_id,
        region=session.region,
        name=ref.name,
        subject_part=parts.subject,
        text_part=parts.text,
        html_part=parts.html,
    )


async def _check(parts: Parts) -> None:
    """Read a template, in a thread: it may take milliseconds. Raises InvalidTemplateError."""
    if parts.subject is None or (parts.text is None and parts.html is None):
        raise InvalidTemplateError("A template needs a subject, and a text or an HTML part.")
    if parts.octets > MAX_TEMPLATE_OCTETS:
        raise InvalidTemplateError(f"A template has {MAX_TEMPLATE_OCTETS} octets at most.")
    try:
        await asyncio.to_thread(check_parts, parts)
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(str(error)) from None
