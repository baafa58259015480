"""Configuration sets: which events of an account's mail are published, and to which topics."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from smtpgate.admin import notices
from smtpgate.admin.errors import NotFoundError
from smtpgate.admin.paging import pages_of
from smtpgate.admin.refs import ConfigurationSetRef
from smtpgate.admin.session import Session
from smtpgate.admin.topics import named, place_of
from smtpgate.core.suppression.lists import Reasons, read_reasons
from smtpgate.core.tag import read_tags
from smtpgate.directory import configuration_sets as rows
from smtpgate.directory.change import Change
from smtpgate.directory.configuration_sets import ConfigurationSetRow, EventDestinationRow
from smtpgate.directory.reputations import resume_set
from smtpgate.directory.rows import refusing
from smtpgate.directory.tags import Tagged, put_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDestinationDetails:
    """An event destination; ``types`` are spelled as version 2 of SES's API does."""

    name: str
    types: tuple[str, ...]
    topic: str
    is_enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSetDetails:
    """A configuration set; ``suppressed_reasons`` are the account's if they are ``None``."""

    arn: str
    account_id: str
    name: str
    is_sending: bool
    suppressed_reasons: Reasons | None
    created_at: datetime | None
    destinations: tuple[EventDestinationDetails, ...]


async def create(
    session: Session, ref: ConfigurationSetRef, tags: Mapping[str, str] | None = None
) -> ConfigurationSetDetails:
    """Make a configuration set, with those tags."""
    arn = session.configuration_set_arn(ref)
    session.must_be_allowed("CreateConfigurationSet", arn)
    if tags:
        session.must_be_allowed("TagResource", arn)
        with refusing("Tags"):
            read_tags(tags.items())
    new = ConfigurationSetRow(account_id=ref.account_id, region=session.region, name=ref.name)
    async with session.changing() as change:
        row = await rows.create_configuration_set(change, new)
        if tags:
            await put_tags(change, Tagged(row.account_id, row.region, "set", row.name), tags)
        return _details(session, row, ())


async def pages(
    session: Session,
    account_id: str | None = None,
    *,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> AsyncIterator[Sequence[ConfigurationSetDetails]]:
    """Configuration sets by account and name, behind ``after``."""
    account_id = session.account_to_list(
        "ListConfigurationSets",
        account_id,
        lambda own: session.configuration_set_arn(ConfigurationSetRef(own, "*")),
    )

    async def read(
        after: tuple[str, str], size: int
    ) -> list[tuple[ConfigurationSetRow, list[EventDestinationRow]]]:
        async with session.store.reading() as connection:
            found = await rows.configuration_set_page(
                connection, session.region, account_id=account_id, after=after, limit=size
            )
            return [
                (
                    row,
                    await rows.destinations_of(
                        connection, session.region, row.account_id, row.name
                    ),
                )
                for row in found
            ]

    async for page in pages_of(
        read, after, lambda found: (found[0].account_id, found[0].name), limit
    ):
        yield [_details(session, row, destinations) for row, destinations in page]


async def get(session: Session, ref: ConfigurationSetRef) -> ConfigurationSetDetails:
    """A configuration set with its event destinations."""
    session.must_be_allowed("GetConfigurationSet", session.configuration_set_arn(ref))
    async with session.store.reading() as connection:
        row = await rows.configuration_set(connection, ref.account_id, session.region, ref.name)
        found = await rows.destinations_of(connection, session.region, ref.account_id, ref.name)
    return _details(session, row, found)


async def set_sending(session: Session, ref: ConfigurationSetRef, *, is_sending: bool) -> None:
    """Let mail with a configuration set be sent, or refuse it.

    A set that is resumed makes a fresh start, as at SES: what it sent before does not count in
    its rates any more.
    """
    session.must_be_allowed("UpdateConfigurationSetSending", session.configuration_set_arn(ref))
    async with session.changing() as change:
        row = await _row(session, change, ref)
        if is_sending and not row.is_sending:
            await resume_set(change, row.region, row.account_id, row.name)
        await rows.update_configuration_set(change, row, {"is_sending": is_sending})


async def delete(session: Session, ref: ConfigurationSetRef) -> None:
    """Delete a configuration set. Raises ConflictError while it is an identity's default."""
    session.must_be_allowed("DeleteConfigurationSet", session.configuration_set_arn(ref))
    async with session.changing() as change:
        await rows.delete_configuration_set(change, await _row(session, change, ref))


async def add_destination(
    session: Session,
    ref: ConfigurationSetRef,
    name: str,
    types: Sequence[str],
    topic: str,
    *,
    is_enabled: bool = True,
) -> None:
    """Publish events of those types to a topic, named as in settings of notifications.

    The topic gets a message, as from SES. Raises NoticeNotKeptError if that is not kept.
    """
    session.must_be_allowed("CreateEventDestination", session.configuration_set_arn(ref))
    async with session.changing() as change:
        row = await _row(session, change, ref)
        new = EventDestinationRow(
            account_id=row.account_id,
            region=row.region,
            configuration_set=row.name,
            name=name,
            types=tuple(types),
            topic=named(session, row.account_id, topic),
            is_enabled=is_enabled,
        )
        await rows.create_destination(change, new)
    await notices.try_topic_of_events(
        session, ref.account_id, place_of(ref.account_id, new.topic)
    )


async def update_destination(
    session: Session,
    ref: ConfigurationSetRef,
    name: str,
    *,
    types: Sequence[str] | None = None,
    topic: str | None = None,
    is_enabled: bool | None = None,
) -> None:
    """Change an event destination; what is ``None`` stays as it is.

    Another topic gets a message, as with a new destination.
    """
    session.must_be_allowed("UpdateEventDestination", session.configuration_set_arn(ref))
    if topic is not None:
        topic = named(session, ref.account_id, topic)
    wanted = {"types": types, "topic": topic, "is_enabled": is_enabled}
    changes = {column: value for column, value in wanted.items() if value is not None}
    async with session.changing() as change:
        before = await _destination(session, change, ref, name)
        await rows.update_destination(change, before, changes)
    if topic not in (None, before.topic):
        used = place_of(ref.account_id, topic or "")
        await notices.try_topic_of_events(session, ref.account_id, used)


async def delete_destination(session: Session, ref: ConfigurationSetRef, name: str) -> None:
    """Delete an event destination."""
    session.must_be_allowed("DeleteEventDestination", session.configuration_set_arn(ref))
    async with session.changing() as change:
        row = await _destination(session, change, ref, name)
        await rows.remove_destinations(change, [row])


async def _row(
    session: Session, change: Change, ref: ConfigurationSetRef
) -> ConfigurationSetRow:
    return await rows.configuration_set(
        change.connection, ref.account_id, session.region, ref.name
    )


async def _destination(
    session: Session, change: Change, ref: ConfigurationSetRef, name: str
) -> EventDestinationRow:
    row = await _row(session, change, ref)
    found = await rows.destinations_of(change.connection, row.region, row.account_id, row.name)
    for one in found:
        if one.name == name:
            return one
    raise NotFoundError(f"{row.subject} has no event destination {name}")


def _details(
    session: Session, row: ConfigurationSetRow, destinations: Sequence[EventDestinationRow]
) -> ConfigurationSetDetails:
    reasons = row.suppressed_reasons
    return ConfigurationSetDetails(
        arn=session.configuration_set_arn(ConfigurationSetRef(row.account_id, row.name)),
        account_id=row.account_id,
        name=row.name,
        is_sending=row.is_sending,
        suppressed_reasons=None if reasons is None else read_reasons(reasons),
        created_at=row.created_at,
        destinations=tuple(
            EventDestinationDetails(
                name=one.name,
                types=tuple(one.types),
                topic=one.topic,
                is_enabled=one.is_enabled,
            )
            for one in destinations
        ),
    )
