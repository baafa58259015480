"""Replaces the master key: secrets under an older key are sealed again, while gates run.

Rows are taken some at a time, each time in a change of its own, so that it can be broken off
and begun again. At the end the older keys are forgotten, and may be deleted from the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Table, delete, func, select, update

from smtpgate.directory.change import Actor, AuditSubject, Change
from smtpgate.directory.dkim import private_key_context
from smtpgate.directory.keys import secret_context
from smtpgate.directory.schema import access_keys, dkim_keys, master_keys, subscriptions
from smtpgate.directory.sealed import must_be_known
from smtpgate.directory.sealing import MasterKeys, SealError
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.topics import credentials_context, webhook_secret_context

_Row: TypeAlias = Any  # of a query: its columns are the query's

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A column of sealed secrets, and the context that the secret of a row is sealed for."""

    what: str
    table: Table
    column: ColumnElement[bytes]
    context: Callable[[_Row], str]

    def is_older(self, keys: MasterKeys) -> ColumnElement[bool]:
        """The rows that are not sealed under the current master key."""
        prefix = keys.prefix
        return func.substr(self.column, 1, len(prefix)) != prefix


_SEALED: Final = (
    _Sealed(
        "access keys", access_keys, access_keys.c.secret, lambda row: secret_context(row.id)
    ),
    _Sealed("DKIM keys", dkim_keys, dkim_keys.c.private_key, private_key_context),
    _Sealed(
        "credentials of subscriptions",
        subscriptions,
        subscriptions.c.credentials,
        credentials_context,
    ),
    _Sealed(
        "secrets of subscriptions",
        subscriptions,
        subscriptions.c.secret,
        webhook_secret_context,
    ),
)


async def rekey(store: DirectoryStore, actor: Actor) -> dict[str, int]:
    """Seal everything under the current master key; how much of each kind that was.

    Raises SealError when something cannot be opened (nothing of its batch is changed),
    RefusedChangeError when the current key was replaced meanwhile, DirectoryUnavailableError.
    """
    counts = dict.fromkeys((sealed.what for sealed in _SEALED), 0)
    for sealed in _SEALED:
        while True:
            async with store.changing(actor) as change:
                done = await _some(change, store.master_keys, sealed, _AT_ONCE)
            counts[sealed.what] += done
            if done < _AT_ONCE:
                break
    async with store.changing(actor) as change:
        # Secrets that a gate with the older file has sealed since; it can seal no more after
        # this.
        for sealed in _SEALED:
            counts[sealed.what] += await _some(change, store.master_keys, sealed, None)
        await _forget_older(change, store.master_keys, counts)
    return counts


async def _some(change: Change, keys: MasterKeys, sealed: _Sealed, limit: int | None) -> int:
    await must_be_known(change, keys)
    found = await change.connection.execute(
        select(*sealed.table.primary_key.columns, sealed.column.label("sealed"))
        .where(sealed.is_older(keys))
        .limit(limit)
    )
    rows = found.all()
    for row in rows:
        context = sealed.context(row)
        try:
            resealed = keys.seal(keys.open(row.sealed, context), context)
        except SealError as error:
            raise SealError(f"{context} {error}") from None
        names = sealed.table.primary_key.columns
        its_row = [column == getattr(row, column.name) for column in names]
        await change.connection.execute(
            update(sealed.table).where(*its_row).values({sealed.column: resealed})
        )
    return len(rows)


async def _forget_older(change: Change, keys: MasterKeys, counts: Mapping[str, int]) -> None:
    is_older = master_keys.c.id != keys.current
    found = await change.connection.execute(select(master_keys.c.id).where(is_older))
    older = [row.id for row in found]
    if not older:
        return
    await change.connection.execute(delete(master_keys).where(is_older))
    await change.note(
        "rekey",
        AuditSubject("store", ""),
        before={"master_keys": older},
        after={"master_key": keys.current, **counts},
    )
