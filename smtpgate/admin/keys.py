"""Access keys: the credentials that senders log in with."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Literal, TypedDict

from smtpgate.admin.errors import NotAuthorizedError, NotFoundError, RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import OwnerRef, UserRef
from smtpgate.admin.session import Operator, Session
from smtpgate.admin.users import must_be_allowed_for_user
from smtpgate.core.account import Principal
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.directory import keys as rows
from smtpgate.directory.keys import AccessKeyRow, WatchState

KeyStatus = Literal["active", "disabled", "expired", "slowed", "suspended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDetails:
    """An access key without its secret; a root's has no ``user_name``.

    ``watch_state`` is set while an alarm about its use is open, with what differs.
    """

    id: str
    account_id: str
    user_name: str | None
    status: KeyStatus
    expires_at: datetime | None
    networks: Sequence[str]
    certificates: Sequence[str]
    created_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str | None
    watch_state: WatchState | None
    watch_reason: str | None
    watch_since: datetime | None

    @property
    def owner(self) -> OwnerRef:
        """The user, or the account for its root."""
        return OwnerRef(self.account_id, self.user_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new access key with its secret and the SMTP password made of it, shown only once."""

    key: KeyDetails
    secret: Secret = field(repr=False)
    smtp_password: Secret = field(repr=False)


class KeySettings(TypedDict, total=False):
    """The settings of an access key that can be changed."""

    expires_at: datetime | None
    networks: Sequence[str]
    certificates: Sequence[str]


def _details(session: Session, row: AccessKeyRow) -> KeyDetails:
    status: KeyStatus = "active" if row.is_active else "disabled"
    if row.is_active and row.expires_at is not None and row.expires_at <= session.now():
        status = "expired"
    elif row.is_active and row.watch_state in ("slowed", "suspended"):
        status = row.watch_state
    return KeyDetails(
        id=row.id,
        account_id=row.account_id,
        user_name=row.user_name,
        status=status,
        expires_at=row.expires_at,
        networks=tuple(row.networks),
        certificates=tuple(row.certificates),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        last_used_from=row.last_used_from,
        watch_state=row.watch_state,
        watch_reason=row.watch_reason,
        watch_since=row.watch_since,
    )


async def _must_be_allowed(session: Session, verb: str, owner: OwnerRef) -> None:
    """Check the right to an owner's access keys; there are other rights to a root's."""
    if owner.user_name is None:
        session.must_be_allowed(f"{verb}RootAccessKey", session.account_arn(owner.account_id))
    else:
        ref = UserRef(owner.account_id, owner.user_name)
        _ = await must_be_allowed_for_user(session, ref, [f"{verb}AccessKey"])


async def own_access_key(session: Session, operation: str, key_id: str) -> AccessKeyRow:
    """The access key of that id, whose account the caller may act for.

    A key of another account is as unknown to the caller as one that does not exist. The right
    to the operation on this very key is for the caller of this function to check. Raises
    NotFoundError, or NotAuthorizedError if the caller has the right to no key at all.
    """
    async with session.store.reading() as connection:
        try:
            row = await rows.access_key(connection, key_id)
        except NotFoundError:
            row = None
    if row is None or not session.owns(row.account_id):
        session.must_be_allowed_somewhere(operation)
        raise NotFoundError(f"there is no access key {key_id}")
    return row


async def found(session: Session, verb: str, key_id: str) -> AccessKeyRow:
    """The access key of that id, with the caller's right to it checked."""
    row = await own_access_key(session, f"{verb}AccessKey", key_id)
    await _must_be_allowed(session, verb, OwnerRef(row.account_id, row.user_name))
    return row


async def create(session: Session, owner: OwnerRef, settings: KeySettings) -> NewKey:
    """Make an access key for a user, or for an account's root."""
    await _must_be_allowed(session, "Create", owner)
    _must_end_later(session, settings)
    secret = rows.new_secret()
    new = AccessKeyRow(
        id="", account_id=owner.account_id, user_name=owner.user_name, **settings
    )
    async with session.changing() as change:
        row = await rows.create_access_key(change, session.store.master_keys, new, secret)
    return NewKey(
        key=_details(session, row),
        secret=secret,
        smtp_password=smtp_password(secret, session.region),
    )


async def pages(
    session: Session,
    account_id: str | None = None,
    user_name: str | None = None,
    *,
    is_active: bool | None = None,
    unused_since: datetime | None = None,
    is_watched: bool = False,
    after: str = "",
    limit: int | None = None,
) -> AsyncIterator[Sequence[KeyDetails]]:
    """Access keys by id: all, of one account, or of one of its users.

    ``is_watched`` leaves those with an open alarm about their use.
    ``unused_since`` leaves those that are older than that moment and were not used after it.
    Keys that the caller has no right to are left out of a list of all.
    """
    if user_name is not None and isinstance(session.caller, Principal):
        account_id = account_id or session.caller.account.id
    if account_id is not None and user_name is not None:
        await _must_be_allowed(session, "Read", OwnerRef(account_id, user_name))
    else:
        account_id = session.account_to_list(
            "ReadAccessKey", account_id, lambda own: session.user_arn(own, "*")
        )

    read = partial(
        rows.access_key_page,
        account_id=account_id,
        user_name=user_name,
        is_active=is_active,
        unused_since=unused_since,
        is_watched=is_watched,
    )
    async for page in rows_in_pages(session, read, after, attrgetter("id"), limit):
        owners = {OwnerRef(row.account_id, row.user_name) for row in page}
        listed = {owner for owner in owners if await _may_list(session, owner)}
        yield [
            _details(session, row)
            for row in page
            if OwnerRef(row.account_id, row.user_name) in listed
        ]


async def _may_list(session: Session, owner: OwnerRef) -> bool:
    if isinstance(session.caller, Operator) or session.caller.is_root:
        return True
    try:
        await _must_be_allowed(session, "Read", owner)
    except (NotAuthorizedError, NotFoundError):  # the user may be gone by now
        return False
    return True


async def get(session: Session, key_id: str) -> KeyDetails:
    """An access key; its secret cannot be read again."""
    return _details(session, await found(session, "Read", key_id))


async def enable(session: Session, key_id: str) -> None:
    """Let a disabled key be used again."""
    await _update(session, key_id, {"is_active": True}, "enable")


async def disable(session: Session, key_id: str) -> None:
    """Revoke a key at once, in open sessions too."""
    await _update(session, key_id, {"is_active": False}, "disable")


async def update(session: Session, key_id: str, settings: KeySettings) -> KeyDetails:
    """Change when a key expires, or all its networks, or all its certificates."""
    _must_end_later(session, settings)
    return await _update(session, key_id, dict(settings), "change")


def _must_end_later(session: Session, settings: KeySettings) -> None:
    expires_at = settings.get("expires_at")
    if expires_at is not None and expires_at <= session.now():
        raise RefusedChangeError(f"an access key cannot expire at {expires_at}: it has passed")


async def _update(
    session: Session, key_id: str, columns: dict[str, object], action: str
) -> KeyDetails:
    await found(session, "Update", key_id)
    async with session.changing() as change:
        row = await rows.update_access_key(change, key_id, columns, action=action)
    return _details(session, row)


async def delete(session: Session, key_id: str) -> None:
    """Delete an access key for good."""
    await found(session, "Delete", key_id)
    async with session.changing() as change:
        await rows.delete_access_key(change, key_id)
