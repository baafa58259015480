"""The reputations of senders in the directory, and the settings of owners that judge them.

A sender without a row is healthy. A pause of an account is in the answers about its access
keys, one of a delegate in those about the identity, and one of a configuration set in that
about the set: :mod:`smtpgate.directory.load` reads them there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import insert, or_, select, tuple_

from smtpgate.core.naming import pause_reason
from smtpgate.core.reputation.judgement import Reputation, SendingPause, fresh_start, resumed
from smtpgate.core.reputation.sender import RatedObject, RatedSender, RatingSettings
from smtpgate.core.reputation.volume import Volume
from smtpgate.directory.change import AuditSubject, Change
from smtpgate.directory.rows import delete_by_key, refusing, selects
from smtpgate.directory.schema import reputation_settings, reputations
from smtpgate.sql.asynchronous import AsyncConnection
from smtpgate.sql.steps import in_steps

_Row: TypeAlias = Any  # of a query: its columns are the query's


def _key(sender: RatedSender, region: str) -> dict[str, str]:
    return {
        "account_id": sender.account_id,
        "kind": sender.kind,
        "region": region,
        "owner_id": sender.owner_id,
        "name": sender.name,
    }


def _subject(sender: RatedSender) -> AuditSubject:
    """The subject of its audit entries: the object whose cached answers have its pause."""
    if sender.kind == "account":
        return AuditSubject("account", sender.account_id)
    if sender.kind == "set":
        return AuditSubject("set", sender.account_id, sender.name)
    return AuditSubject("identity", sender.owner_id, sender.name)


def _reputation(row: _Row) -> Reputation:
    pause = None
    if row.paused_by is not None:
        pause = SendingPause(row.paused_by, row.paused_reason, row.paused_at)
    return Reputation(
        sender=RatedSender(row.kind, row.account_id, row.owner_id, row.name),
        bounce=row.bounce,
        complaint=row.complaint,
        volume=Volume(row.since, row.sent, row.bounces, row.complaints),
        changed_at=row.changed_at,
        fresh_start_at=row.fresh_start_at,
        pause=pause,
    )


def _values(reputation: Reputation) -> dict[str, Any]:
    volume, pause = reputation.volume, reputation.pause
    return {
        "bounce": reputation.bounce,
        "complaint": reputation.complaint,
        "since": volume.since,
        "sent": volume.sent,
        "bounces": volume.bounces,
        "complaints": volume.complaints,
        "changed_at": reputation.changed_at,
        "fresh_start_at": reputation.fresh_start_at,
        "paused_by": pause.by if pause else None,
        "paused_reason": pause.reason if pause else None,
        "paused_at": pause.at if pause else None,
    }


def facts(reputation: Reputation) -> Mapping[str, Any]:
    """The facts of a reputation, for the audit log."""
    found: dict[str, Any] = {"status": reputation.status}
    if reputation.sender.kind == "delegate":
        found = {"delegate": reputation.sender.account_id} | found
    found |= {"bounce": reputation.bounce, "complaint": reputation.complaint}
    found |= {
        f"{measure}_rate": round(reputation.volume.rate(measure), 5)
        for measure in ("bounce", "complaint")
        if reputation.volume.sent
    }
    if reputation.pause is not None:
        found |= {"paused_by": reputation.pause.by, "paused_reason": reputation.pause.reason}
    return found


# -- reputations -------------------------------------------------------------------------------


async def reputation(
    connection: AsyncConnection, region: str, sender: RatedSender
) -> Reputation:
    """The reputation of a sender; without a row a healthy one."""
    query = select(reputations).where(selects(reputations, _key(sender, region)))
    row = (await connection.execute(query)).one_or_none()
    return Reputation(sender=sender) if row is None else _reputation(row)


async def reputations_of(
    connection: AsyncConnection,
    region: str,
    *,
    account_id: str | None = None,
    owner_id: str | None = None,
    identity: str | None = None,
    only_troubled: bool = False,
    after: RatedSender | None = None,
    limit: int | None = None,
) -> list[Reputation]:
    """Reputations in the order of their senders, behind ``after``.

    With ``account_id`` those of the account and of delegates on its identities, with
    ``owner_id`` and ``identity`` those of the delegates on one. ``only_troubled``: those that
    are not healthy, or paused.
    """
    table = reputations.c
    order = (table.kind, table.account_id, table.owner_id, table.name)
    query = select(reputations).where(table.region == region).order_by(*order).limit(limit)
    if account_id is not None:
        query = query.where(or_(table.account_id == account_id, table.owner_id == account_id))
    if owner_id is not None and identity is not None:
        query = query.where(
            table.kind == "delegate", table.owner_id == owner_id, table.name == identity
        )
    if only_troubled:
        is_troubled = or_(
            table.bounce != "healthy",
            table.complaint != "healthy",
            table.paused_by.is_not(None),
        )
        query = query.where(is_troubled)
    if after is not None:
        query = query.where(
            tuple_(*order) > (after.kind, after.account_id, after.owner_id, after.name)
        )
    return [_reputation(row) async for row in in_steps(connection, query)]


async def put_reputation(
    change: Change, region: str, before: Reputation, after: Reputation, *, action: str
) -> None:
    """Write a reputation that was read in this transaction, with its audit entry."""
    if after == before:
        return
    if after.pause is not None:
        with refusing(str(after.sender)):
            pause_reason(after.pause.reason)
    key = _key(after.sender, region)
    await delete_by_key(change, reputations, [key])
    await change.connection.execute(insert(reputations).values(key | _values(after)))
    await change.note(action, _subject(after.sender), before=facts(before), after=facts(after))


async def resume_set(change: Change, region: str, account_id: str, name: str) -> None:
    """Let a configuration set that is resumed make a fresh start; a part of that change."""
    before = await reputation(change.connection, region, RatedSender.with_set(account_id, name))
    resume = fresh_start if before.pause is None else resumed
    after = resume(before, change.now)
    await put_reputation(change, region, before, after, action="resume")


# -- pauses as the path of a message sees them -------------------------------------------------


async def paused_delegates(
    connection: AsyncConnection, region: str, name: str, owner_ids: Iterable[str]
) -> Mapping[str, Mapping[str, str]]:
    """By the owner of an identity of that name: the paused accounts, and why they are."""
    table = reputations.c
    query = select(table.owner_id, table.account_id, table.paused_reason).where(
        table.region == region,
        table.kind == "delegate",
        table.name == name,
        table.owner_id.in_(tuple(owner_ids)),
        table.paused_by.is_not(None),
    )
    found: dict[str, dict[str, str]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.owner_id, {})[row.account_id] = row.paused_reason
    return found


async def pause_of(connection: AsyncConnection, region: str, sender: RatedSender) -> str | None:
    """The reason for the pause of a sender, or ``None``."""
    query = select(reputations.c.paused_reason).where(
        selects(reputations, _key(sender, region))
    )
    return cast("str | None", (await connection.execute(query)).scalar())


# -- settings ----------------------------------------------------------------------------------


def _settings_key(kind: RatedObject, account_id: str, region: str, name: str) -> dict[str, str]:
    return {"account_id": account_id, "kind": kind, "region": region, "name": name}


async def rating_settings(
    connection: AsyncConnection, region: str, kind: RatedObject, account_id: str, name: str
) -> RatingSettings | None:
    """The settings of a configuration set or identity; ``None`` if it is not judged."""
    key = _settings_key(kind, account_id, region, name)
    query = select(reputation_settings).where(selects(reputation_settings, key))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else RatingSettings(kind, account_id, name, row.auto_pause)


async def all_rating_settings(
    connection: AsyncConnection, region: str, account_id: str | None = None
) -> list[RatingSettings]:
    """The settings of sets and identities that are judged, of one account or all."""
    table = reputation_settings.c
    query = select(reputation_settings).where(table.region == region)
    if account_id is not None:
        query = query.where(table.account_id == account_id)
    return [
        RatingSettings(row.kind, row.account_id, row.name, row.auto_pause)
        async for row in in_steps(connection, query.order_by(table.kind, table.account_id))
    ]


async def put_rating_settings(
    change: Change,
    region: str,
    before: RatingSettings | None,
    after: RatingSettings | None,
) -> None:
    """Write settings that were read in this transaction; ``None`` judges no longer."""
    known = after or before
    if before == after or known is None:
        return
    key = _settings_key(known.kind, known.account_id, region, known.name)
    await delete_by_key(change, reputation_settings, [key])
    if after is not None:
        values = key | {"auto_pause": after.auto_pause}
        await change.connection.execute(insert(reputation_settings).values(values))
    await change.note(
        "rate",
        AuditSubject(*known.key),
        before=_settings_facts(before),
        after=_settings_facts(after),
    )


def _settings_facts(settings: RatingSettings | None) -> dict[str, bool]:
    if settings is None:
        return {"is_rated": False}
    return {"is_rated": True, "auto_pause": settings.auto_pause}


# -- with their objects ------------------------------------------------------------------------


async def drop_account_reputations(change: Change, account_ids: Sequence[str]) -> None:
    """Delete those of accounts that are deleted; an owner's pause of a delegate stays."""
    for kind in ("account", "set"):
        keys = [{"account_id": account_id, "kind": kind} for account_id in account_ids]
        await delete_by_key(change, reputations, keys)
    settings = [{"account_id": account_id} for account_id in account_ids]
    await delete_by_key(change, reputation_settings, settings)


async def drop_identity_reputations(
    change: Change, identities: Sequence[tuple[str, str, str]]
) -> None:
    """Delete those of delegates on identities that are deleted: owner, region and name."""
    columns = ("kind", "owner_id", "region", "name")
    keys = [dict(zip(columns, ("delegate", *one), strict=True)) for one in identities]
    await delete_by_key(change, reputations, keys)
    await _drop_settings(change, "identity", identities)


async def drop_set_reputations(change: Change, sets: Sequence[tuple[str, str, str]]) -> None:
    """Delete those of configuration sets that are deleted: account, region and name."""
    columns = ("kind", "account_id", "region", "name")
    keys = [dict(zip(columns, ("set", *one), strict=True)) for one in sets]
    await delete_by_key(change, reputations, keys)
    await _drop_settings(change, "set", sets)


async def _drop_settings(
    change: Change, kind: RatedObject, objects: Sequence[tuple[str, str, str]]
) -> None:
    columns = ("kind", "account_id", "region", "name")
    keys = [dict(zip(columns, (kind, *one), strict=True)) for one in objects]
    await delete_by_key(change, reputation_settings, keys)
