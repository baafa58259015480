"""Sending limits: set, raised for a time, and shown with what is left of them.

An account's own limits are the operators'. Within them an account's root limits its users and
access keys, and caps what other accounts send by its identities.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeAlias, TypedDict

from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.keys import own_access_key
from smtpgate.admin.refs import AccessKeyRef, CapRef, IdentityRef, OwnerRef
from smtpgate.admin.session import Session
from smtpgate.core.account import UNLIMITED, SendingLimits, TemporaryLimits
from smtpgate.core.arn import IdentityArn
from smtpgate.core.limits import Charge, LimitStatus, Subject, SubjectKind
from smtpgate.core.naming import user_key
from smtpgate.directory import accounts, identities, keys, users
from smtpgate.directory.allowances import Allowance, allowance_at, allowances_of
from smtpgate.directory.change import Change
from smtpgate.directory.keys import AccessKeyRow
from smtpgate.directory.quotas import QuotaKey, QuotaKind, set_quota
from smtpgate.ports import Ledger

# Whose limits are set: an account's, a user's, an access key's, or another account's.
QuotaRef: TypeAlias = OwnerRef | AccessKeyRef | CapRef

_KINDS: Final[Mapping[QuotaKind, SubjectKind]] = {
    "account": "account",
    "user": "user",
    "key": "access-key",
    "identity": "identity",
}
_AT_ONCE: Final = 200


class LimitSettings(TypedDict, total=False):
    """The limits to set: ``None`` is the configured one for an account, and none for others."""

    max_24h_send: int | None
    max_send_rate_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaDetails:
    """The limits of one; without ``limit_status`` it is not known what is left of them.

    ``usual`` holds but for a raise, ``limits`` holds now.
    """

    name: str
    subject: Subject
    usual: SendingLimits
    limits: SendingLimits
    raised: TemporaryLimits | None
    limit_status: LimitStatus | None = None

    @property
    def wait(self) -> timedelta | None:
        """The time until something may be sent again, if nothing may be now."""
        if self.limit_status is None:
            return None
        waits = (self.limit_status.quota_free_in, self.limit_status.rate_free_in)
        return max((wait for wait in waits if wait is not None), default=None)


def _details(session: Session, allowance: Allowance) -> QuotaDetails:
    key, now, raised = allowance.key, session.now(), allowance.limits.raised
    account_id, name, title = key.account_id, key.shown, str(key.audit_subject)
    if key.kind == "identity":
        account_id = key.delegate_id
        arn = IdentityArn(session.partition, key.region, key.account_id, key.subject)
        name, title = str(arn), f"account {key.delegate_id} by {arn}"
    return QuotaDetails(
        name=title,
        subject=Subject(account_id, _KINDS[key.kind], name),
        usual=allowance.limits.usual,
        limits=allowance.limits.at(now),
        raised=raised if raised is not None and raised.until > now else None,
    )


# -- show --------------------------------------------------------------------------------------


async def of(
    session: Session, ref: OwnerRef | AccessKeyRef | IdentityRef
) -> Sequence[QuotaDetails]:
    """The limits of an account, with those within it and those by which others cap it.

    Of a user or an access key: those that its messages are counted against. Of an identity:
    those of the accounts that its owner caps. Raises NotFoundError.
    """
    account_id, wanted = await _wanted(session, ref)
    default = session.config.default_limits
    async with session.store.reading() as connection:
        found = await allowances_of(connection, account_id, session.region, default)
    return [
        _details(session, one)
        for one in found
        if not wanted or _is_wanted(one, account_id, wanted)
    ]


async def _wanted(
    session: Session, ref: OwnerRef | AccessKeyRef | IdentityRef
) -> tuple[str, set[tuple[str, str]]]:
    """The account, and the kinds and subjects of the limits; all of the account if none."""
    if isinstance(ref, AccessKeyRef):
        key = await _access_key(session, "GetQuota", ref.id)
        user = user_key(key.user_name or "")
        return key.account_id, {("account", ""), ("user", user), ("key", key.id)}
    if isinstance(ref, IdentityRef):
        session.must_be_here(ref)
    session.must_be_allowed("GetQuota", session.account_arn(ref.account_id))
    async with session.store.reading() as connection:
        if isinstance(ref, IdentityRef):
            row = await identities.identity(
                connection, ref.account_id, session.region, ref.name
            )
            return row.account_id, {("identity", row.name)}
        if ref.user_name is None:
            return ref.account_id, set()
        user_row = await users.user(connection, ref.account_id, ref.user_name)
        owned = await keys.access_key_page(
            connection, user_row.account_id, user_name=user_row.name
        )
    of_keys = {("key", one.id) for one in owned}
    return user_row.account_id, {("account", ""), ("user", user_row.key), *of_keys}


def _is_wanted(allowance: Allowance, account_id: str, wanted: set[tuple[str, str]]) -> bool:
    key = allowance.key
    if key.account_id == account_id:
        return (key.kind, key.subject) in wanted
    return ("account", "") in wanted  # what others cap the account at


async def with_limit_statuses(
    ledger: Ledger, quotas: Sequence[QuotaDetails], now: datetime
) -> Sequence[QuotaDetails]:
    """The same with what the ledger says is left. Raises LedgerUnavailableError."""
    by_account: dict[str, list[Charge]] = {}
    for one in quotas:
        charges = by_account.setdefault(one.subject.account_id, [])
        charges.append(Charge(one.subject, one.limits))
    found: dict[Subject, LimitStatus] = {}
    for charges in by_account.values():
        for some in _parts(charges):
            for limit_status in await ledger.limit_statuses(some, now):
                found[limit_status.charge.subject] = limit_status
    return [replace(one, limit_status=found[one.subject]) for one in quotas]


def _parts(charges: Sequence[Charge]) -> Iterator[list[Charge]]:
    rest = iter(charges)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


# -- set and raise -----------------------------------------------------------------------------


async def set_limits(session: Session, ref: QuotaRef, settings: LimitSettings) -> QuotaDetails:
    """Set limits; within those of the account also limits of a user, a key or a delegate."""
    key = await _key(session, ref)
    async with session.changing() as change:
        if key.delegate_id and set(settings.values()) != {None}:
            # A cap on a misspelt account would cap nobody.
            await accounts.account(change.connection, key.delegate_id)
        if key.kind == "account":
            await accounts.update_account(change, key.account_id, settings, action="limit")
        else:
            await set_quota(change, key, settings)
        return _details(session, await _allowance(session, change, key))


async def raise_limits(
    session: Session,
    ref: QuotaRef,
    *,
    max_24h_send: int | None = None,
    max_send_rate_per_s: float | None = None,
    until: datetime,
) -> QuotaDetails:
    """Raise limits until a moment, in place of an earlier raise.

    Raises RefusedChangeError for a raise that raises nothing, or ends in the past.
    """
    key = await _key(session, ref)
    raised = (max_24h_send, max_send_rate_per_s)
    async with session.changing() as change:
        usual = (await _allowance(session, change, key)).limits
        _must_be_more(key, usual, *raised)
        return await _write_raise(session, change, key, (*raised, until), "raise")


async def end_raise(session: Session, ref: QuotaRef) -> QuotaDetails:
    """End a raise now."""
    key = await _key(session, ref)
    async with session.changing() as change:
        return await _write_raise(session, change, key, (None, None, None), "end-raise")


async def _write_raise(
    session: Session,
    change: Change,
    key: QuotaKey,
    raised: tuple[int | None, float | None, datetime | None],
    action: str,
) -> QuotaDetails:
    columns: tuple[str, ...] = ("raised_24h_send", "raised_send_rate_per_s", "raised_until")
    values: dict[str, Any] = dict(zip(columns, raised, strict=True))
    await set_quota(change, key, values, action=action)
    return _details(session, await _allowance(session, change, key))


def _must_be_more(
    key: QuotaKey, usual: SendingLimits, day: int | None, a_second: float | None
) -> None:
    """A raise that raises nothing is a mistake. Raises RefusedChangeError."""
    if day is None and a_second is None:
        raise RefusedChangeError(f"{key.audit_subject}: a raise needs a limit")
    for column, limit, raised in (
        ("max_24h_send", usual.max_24h_send, day),
        ("max_send_rate_per_s", usual.max_send_rate_per_s, a_second),
    ):
        if raised is None:
            continue
        if limit == UNLIMITED:
            raise RefusedChangeError(
                f"{key.audit_subject}: {column}: there is no limit to raise"
            )
        if raised != UNLIMITED and raised <= limit:
            raise RefusedChangeError(
                f"{key.audit_subject}: {column}: {raised:.15g} is no more than the usual "
                f"{limit:.15g}"
            )


async def _allowance(session: Session, change: Change, key: QuotaKey) -> Allowance:
    return await allowance_at(change.connection, key, session.config.default_limits)


async def _key(session: Session, ref: QuotaRef) -> QuotaKey:
    """The key of limits, with the caller's right to set them checked. Raises NotFoundError."""
    if isinstance(ref, AccessKeyRef):
        key = await _access_key(session, "SetAccessKeyQuota", ref.id)
        return QuotaKey.of_key(key.account_id, key.id)
    if isinstance(ref, CapRef):
        session.must_be_allowed("SetIdentityQuota", session.identity_arn(ref.identity))
    elif ref.user_name is None:
        session.must_be_allowed("SetAccountQuota", session.account_arn(ref.account_id))
    else:
        arn = session.user_arn(ref.account_id, ref.user_name)
        session.must_be_allowed("SetUserQuota", arn)
    async with session.store.reading() as connection:
        if isinstance(ref, CapRef):
            row = await identities.identity(
                connection, ref.identity.account_id, session.region, ref.identity.name
            )
            return QuotaKey.of_grant(row.account_id, row.region, row.name, ref.delegate_id)
        if ref.user_name is None:
            return QuotaKey.of_account((await accounts.account(connection, ref.account_id)).id)
        user = await users.user(connection, ref.account_id, ref.user_name)
        return QuotaKey.of_user(user.account_id, user.name)


async def _access_key(session: Session, operation: str, key_id: str) -> AccessKeyRow:
    """An access key, with the caller's right to an operation on it."""
    row = await own_access_key(session, operation, key_id)
    session.must_be_allowed(operation, session.account_arn(row.account_id))
    return row
