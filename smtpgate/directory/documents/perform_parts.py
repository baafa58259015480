"""Takes the steps of a plan that are about topics, configuration sets and settings of mail.

Each function takes some steps of one kind: keys, and the fields that are to be there.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from smtpgate.core.proof.mail_from import MailFromDomain
from smtpgate.core.proof.verification import NOT_STARTED, begin
from smtpgate.core.reputation.sender import RatedObject, RatingSettings
from smtpgate.core.suppression.lists import ALL_REASONS
from smtpgate.directory import configuration_sets as sets
from smtpgate.directory import notifications, topics
from smtpgate.directory.change import Change, MissingSetError, NotFoundError
from smtpgate.directory.configuration_sets import ConfigurationSetRow, EventDestinationRow
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.parts import NO_NOTIFICATIONS
from smtpgate.directory.identities import IdentityRow, identity, update_identity
from smtpgate.directory.mail_from import mail_from_of, put_mail_from, remove_mail_from
from smtpgate.directory.notifications import NotificationRow
from smtpgate.directory.reputations import put_rating_settings, rating_settings, resume_set
from smtpgate.directory.suppression import ListKey, set_reasons
from smtpgate.directory.tags import Tagged, TaggedKind, drop_tags, put_tags, tags_of
from smtpgate.directory.topic_grants import (
    TopicGrantRow,
    allow_topic,
    grantees_of,
    remove_grants,
)
from smtpgate.directory.topics import TopicRow

Item: TypeAlias = tuple[ObjectKey, Fields]


# -- topics ------------------------------------------------------------------------------------


async def put_topics(change: Change, items: Sequence[Item]) -> None:
    """Create topics or change them, and the accounts that they are open to."""
    for key, fields in items:
        place = key.account_id, key.region, key.subject
        columns = {name: fields[name] for name in ("display_name", "signature_version")}
        try:
            row = await topics.topic(change.connection, *place)
        except NotFoundError:
            row = await topics.create_topic(
                change,
                TopicRow(
                    account_id=key.account_id,
                    region=key.region,
                    name=key.subject,
                    **columns,
                ),
            )
        if any(getattr(row, name) != value for name, value in columns.items()):
            _ = await topics.update_topic(change, row, columns)
        there, wanted = set(await grantees_of(change.connection, *place)), fields["open_to"]
        gone = [_grant(key, one) for one in sorted(there.difference(wanted))]
        await remove_grants(change, gone)
        for one in wanted:
            if one not in there:
                await allow_topic(change, _grant(key, one))


def _grant(key: ObjectKey, grantee_id: str) -> TopicGrantRow:
    return TopicGrantRow(
        account_id=key.account_id, region=key.region, topic=key.subject, grantee_id=grantee_id
    )


async def remove_topics(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Delete topics that nothing uses, with their subscriptions. Raises ConflictError."""
    for key in keys:
        place = key.account_id, key.region, key.subject
        row = await topics.topic(change.connection, *place)
        await topics.delete_topic(change, row)


# -- configuration sets ------------------------------------------------------------------------


async def put_sets(change: Change, items: Sequence[Item]) -> None:
    """Create configuration sets, or change them."""
    for key, fields in items:
        place = key.account_id, key.region, key.subject
        try:
            row = await sets.configuration_set(change.connection, *place)
        except MissingSetError:
            new = ConfigurationSetRow(
                account_id=key.account_id, region=key.region, name=key.subject, **_set(fields)
            )
            _ = await sets.create_configuration_set(change, new)
            continue
        if fields.get("is_sending") and not row.is_sending:
            await resume_set(change, key.region, key.account_id, key.subject)
        _ = await sets.update_configuration_set(change, row, _set(fields))


def _set(fields: Fields) -> dict[str, Any]:
    reasons = fields["suppressed_reasons"]
    return {**fields, "suppressed_reasons": None if reasons is None else list(reasons)}


async def remove_sets(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Delete configuration sets that no identity has by default. Raises ConflictError."""
    for key in keys:
        place = key.account_id, key.region, key.subject
        row = await sets.configuration_set(change.connection, *place)
        await sets.delete_configuration_set(change, row)


async def put_destinations(change: Change, items: Sequence[Item]) -> None:
    """Add event destinations, or change them."""
    for key, fields in items:
        row = await _destination(change, key)
        if row is not None:
            _ = await sets.update_destination(change, row, fields)
            continue
        new = EventDestinationRow(
            account_id=key.account_id,
            region=key.region,
            configuration_set=key.subject,
            name=key.name,
            **fields,
        )
        _ = await sets.create_destination(change, new)


async def remove_destinations(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Delete event destinations."""
    found = [await _destination(change, key) for key in keys]
    await sets.remove_destinations(change, [row for row in found if row is not None])


async def _destination(change: Change, key: ObjectKey) -> EventDestinationRow | None:
    place = key.region, key.account_id, key.subject
    there = await sets.destinations_of(change.connection, *place)
    return next((row for row in there if row.name == key.name), None)


# -- settings of identities --------------------------------------------------------------------


async def _identity(change: Change, key: ObjectKey) -> IdentityRow:
    return await identity(change.connection, key.account_id, key.region, key.subject)


async def put_default_sets(change: Change, items: Sequence[Item]) -> None:
    """Give identities a default configuration set."""
    for key, fields in items:
        _ = await update_identity(
            change, await _identity(change, key), fields, action="set-configuration-set"
        )


async def remove_default_sets(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Leave identities without a default configuration set."""
    await put_default_sets(change, [(key, {"configuration_set": None}) for key in keys])


async def put_mail_from_domains(change: Change, items: Sequence[Item]) -> None:
    """Set MAIL FROM domains; another domain is checked from its beginning."""
    for key, fields in items:
        row = await _identity(change, key)
        before = await mail_from_of(change.connection, *row.key)
        current = NOT_STARTED
        if before is not None and before.domain == fields["domain"]:
            current = before.value.verification
        if current.state in ("not-started", "failed"):
            current = begin(NOT_STARTED, change.now)
        value = MailFromDomain(
            domain=fields["domain"],
            on_mx_failure=fields["on_mx_failure"],
            verification=current,
        )
        _ = await put_mail_from(change, row, value, action="mail-from")


async def remove_mail_from_domains(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Remove MAIL FROM domains."""
    for key in keys:
        row = await mail_from_of(change.connection, key.account_id, key.region, key.subject)
        if row is not None:
            await remove_mail_from(change, row, action="mail-from")


async def put_notifications(change: Change, items: Sequence[Item]) -> None:
    """Set the notifications that accounts want of mail with identities."""
    for key, fields in items:
        place = NotificationRow(
            account_id=key.account_id,
            region=key.region,
            owner_id=key.name,
            identity=key.subject,
        )
        before = await notifications.notifications_at(change.connection, place)
        _ = await notifications.set_notifications(change, before, fields)


async def reset_notifications(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Let accounts have no notifications but the mail to the return path."""
    await put_notifications(change, [(key, NO_NOTIFICATIONS) for key in keys])


# -- settings of accounts and sets -------------------------------------------------------------


async def put_suppression(change: Change, items: Sequence[Item]) -> None:
    """Set the reasons for which the lists of accounts are used."""
    for key, fields in items:
        await set_reasons(change, ListKey(key.account_id, key.region), fields["reasons"])


async def reset_suppression(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Let lists be used for all reasons."""
    await put_suppression(change, [(key, {"reasons": ALL_REASONS}) for key in keys])


async def put_ratings(change: Change, items: Sequence[Item]) -> None:
    """Have the mail with sets, or the delegates on identities, judged."""
    await _put_ratings(change, [(key, fields["auto_pause"]) for key, fields in items])


async def remove_ratings(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Have them judged no longer."""
    await _put_ratings(change, [(key, None) for key in keys])


async def _put_ratings(change: Change, items: Sequence[tuple[ObjectKey, bool | None]]) -> None:
    for key, auto_pause in items:
        kind: RatedObject = "set" if key.name == "set" else "identity"
        place = kind, key.account_id, key.subject
        before = await rating_settings(change.connection, key.region, *place)
        after = None if auto_pause is None else RatingSettings(*place, auto_pause)
        await put_rating_settings(change, key.region, before, after)


async def put_all_tags(change: Change, items: Sequence[Item]) -> None:
    """Let identities, sets and topics have those tags and no others."""
    for key, fields in items:
        resource = _tagged(key)
        there = await tags_of(change.connection, resource)
        await drop_tags(change, resource, there.keys() - fields["tags"].keys())
        await put_tags(change, resource, fields["tags"])


async def remove_all_tags(change: Change, keys: Sequence[ObjectKey]) -> None:
    """Let identities, sets and topics have no tags."""
    await put_all_tags(change, [(key, {"tags": {}}) for key in keys])


def _tagged(key: ObjectKey) -> Tagged:
    kinds: dict[str, TaggedKind] = {"identity": "identity", "set": "set", "topic": "topic"}
    return Tagged(key.account_id, key.region, kinds[key.name], key.subject)
