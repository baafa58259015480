"""Identities with their proofs and DKIM keys, as verification reads and saves them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, func, or_, select

from smtpgate.core.proof.dkim_stages import RETIRING, StagedKey
from smtpgate.core.proof.mail_code import MailCode
from smtpgate.core.proof.recheck import LONGEST_WAIT
from smtpgate.core.proof.registered import IdentityTroubles, Registered, RegisteredKey
from smtpgate.core.proof.verification import Verification
from smtpgate.directory.change import Actor, Change, NotFoundError
from smtpgate.directory.dkim import DkimKeyRow, dkim_keys_of, update_dkim_key
from smtpgate.directory.identities import IdentityRow, identity, update_identity
from smtpgate.directory.mail_from import MailFromRow, mail_from_of, put_mail_from
from smtpgate.directory.schema import dkim_keys, identities, mail_from_domains
from smtpgate.directory.store import DirectoryStore
from smtpgate.sql.asynchronous import AsyncConnection

Pair = tuple[Registered, Registered]


class DirectoryIdentities:
    """Implements the RegisteredIdentities port over a store; one actor makes all changes."""

    def __init__(self, store: DirectoryStore, actor: Actor, action: str) -> None:
        self._store = store
        self._actor = actor
        self._action = action

    async def one(self, account_id: str, name: str) -> Registered:
        """The identity of that account and name. Raises NotFoundError."""
        async with self._store.reading() as connection:
            return await self._read(connection, account_id, name)

    async def due(self, now: datetime, limit: int) -> Sequence[Registered]:
        """Identities with a check that is due, or with a key whose stage ends."""
        region = self._store.region
        by_identity = (
            select(identities.c.account_id, identities.c.name)
            .where(identities.c.region == region, _is_due(identities.c.next_check_at, now))
            .limit(limit)
        )
        by_key = (
            select(dkim_keys.c.account_id, dkim_keys.c.domain)
            .where(
                dkim_keys.c.region == region,
                or_(
                    _is_due(dkim_keys.c.next_check_at, now),
                    (dkim_keys.c.stage == "retiring")
                    & (or_(dkim_keys.c.since <= now - RETIRING, dkim_keys.c.since > now)),
                ),
            )
            .distinct()
            .limit(limit)
        )
        mail_from = mail_from_domains.c
        by_mail_from = (
            select(mail_from.account_id, mail_from.identity)
            .where(mail_from.region == region, _is_due(mail_from.next_check_at, now))
            .limit(limit)
        )
        found = list[tuple[str, str]]()
        async with self._store.reading() as connection:
            for query in (by_identity, by_key, by_mail_from):
                found += [(row[0], row[1]) for row in await connection.execute(query)]
            names = list(dict.fromkeys(found))[:limit]
            return [await self._read(connection, *name) for name in names]

    async def save(self, changes: Sequence[Pair]) -> Sequence[Pair]:
        """Save changed identities; those that were changed meanwhile are left out."""
        if not changes:
            return ()
        async with self._store.changing(self._actor) as change:
            return [pair for pair in changes if await self._keep(change, *pair)]

    async def troubles(self) -> IdentityTroubles:
        """The number of identities and keys that need attention."""
        missing = select(func.count()).where(
            identities.c.region == self._store.region, identities.c.missing_since.is_not(None)
        )
        alarms = select(func.count()).where(
            dkim_keys.c.region == self._store.region, dkim_keys.c.alarm_since.is_not(None)
        )
        async with self._store.reading() as connection:
            return IdentityTroubles(
                (await connection.execute(missing)).scalar() or 0,
                (await connection.execute(alarms)).scalar() or 0,
            )

    async def _read(
        self, connection: AsyncConnection, account_id: str, name: str
    ) -> Registered:
        row = await identity(connection, account_id, self._store.region, name)
        region = self._store.region
        keys = await dkim_keys_of(connection, account_id, region, row.name)
        mail_from = await mail_from_of(connection, account_id, region, row.name)
        return registered(row, keys, self._store.partition, mail_from)

    async def _keep(self, change: Change, before: Registered, after: Registered) -> bool:
        connection, region = change.connection, self._store.region
        try:
            row = await identity(connection, before.account_id, region, before.name)
        except NotFoundError:
            return False
        keys = await dkim_keys_of(connection, before.account_id, region, before.name)
        mail_from = await mail_from_of(connection, before.account_id, region, before.name)
        if registered(row, keys, self._store.partition, mail_from) != before:
            return False
        noted = len(change.steps)
        await update_identity(change, row, _identity_values(after), action=self._action)
        if _is_another_code(before, after) and len(change.steps) == noted:
            # No fact has changed, but a mail is sent to a stranger.
            await change.note(self._action, row.subject, after=row.facts())
        for key, kept in zip(keys, after.keys, strict=True):
            await update_dkim_key(change, key, asdict(kept.staged), action=self._action)
        if after.mail_from is not None:
            await put_mail_from(change, row, after.mail_from, action=self._action)
        return True


def registered(
    row: IdentityRow,
    keys: Iterable[DkimKeyRow],
    partition: str,
    mail_from: MailFromRow | None = None,
) -> Registered:
    """The identity in rows."""
    code = None
    if row.code_digest is not None and row.code_sent_at is not None:
        code = MailCode(row.code_digest, row.code_sent_at, row.code_failures)
    return Registered(
        account_id=row.account_id,
        name=row.name,
        arn=row.arn(partition),
        token=row.token,
        verification=Verification(**_columns(row, Verification)),
        code=code,
        keys=tuple(RegisteredKey(staged=_staged(key), record=key.record) for key in keys),
        dkim_origin=row.dkim_origin,
        mail_from=None if mail_from is None else mail_from.value,
        soa=row.soa,
    )


def _staged(row: DkimKeyRow) -> StagedKey:
    if row.since is None:
        raise ValueError("a key that is kept has a stage since some moment")
    return StagedKey(**_columns(row, StagedKey))


def _is_another_code(before: Registered, after: Registered) -> bool:
    sent_at = before.code.sent_at if before.code else None
    return after.code is not None and after.code.sent_at != sent_at


def _columns(
    row: IdentityRow | DkimKeyRow, kind: type[Verification | StagedKey]
) -> dict[str, Any]:
    """The fields of a value, from the columns with their names."""
    return {field.name: getattr(row, field.name) for field in fields(kind)}


def _identity_values(after: Registered) -> dict[str, Any]:
    code = after.code
    return {
        **asdict(after.verification),
        "dkim_origin": after.dkim_origin,
        "soa": after.soa,
        "code_digest": code.digest if code else None,
        "code_sent_at": code.sent_at if code else None,
        "code_failures": code.wrong_attempts if code else 0,
    }


def _is_due(column: ColumnElement[DateTime], now: datetime) -> ColumnElement[bool]:
    # One planned further ahead than any interval was planned by a clock that was wrong.
    return or_(column <= now, column > now + LONGEST_WAIT)
