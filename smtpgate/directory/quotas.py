"""Limits of users, access keys and grants, and temporary limits of these and of accounts.

An account's own limits are columns of the account. A quota has the limits within them, the caps
of an identity's owner on other accounts, and larger limits until some moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import func, insert, or_, select

from smtpgate.core.account import UNLIMITED, SendingLimits, TemporaryLimits, quota, rate
from smtpgate.core.arn import is_account_id
from smtpgate.core.naming import user_key
from smtpgate.directory.change import AuditSubject, Change, Note, RefusedChangeError
from smtpgate.directory.rows import columns_of, delete_by_key, refusing, selects
from smtpgate.directory.schema import quotas, users
from smtpgate.sql.asynchronous import AsyncConnection

QuotaKind: TypeAlias = Literal["account", "user", "key", "identity"]
_Row: TypeAlias = Any  # of a query with a quota's columns

# How many other accounts an identity may cap.
MAX_CAPS: Final = 1000
_KEY_COLUMNS: Final = ("kind", "account_id", "region", "subject", "delegate_id")
_RAISE: Final = ("raised_24h_send", "raised_send_rate_per_s", "raised_until")
_CHECKS: Final = {
    "max_24h_send": quota,
    "max_send_rate_per_s": rate,
    "raised_24h_send": quota,
    "raised_send_rate_per_s": rate,
}


@dataclass(frozen=True, slots=True)
class QuotaKey:
    """The subject of limits: an account, user or access key, or a delegate of an identity.

    ``shown`` is the name of the subject in texts.
    """

    kind: QuotaKind
    account_id: str
    region: str = ""
    subject: str = ""
    delegate_id: str = ""
    shown: str = ""

    @classmethod
    def of_account(cls, account_id: str) -> "QuotaKey":
        """Raises of an account's limits."""
        return cls("account", account_id)

    @classmethod
    def of_user(cls, account_id: str, name: str) -> "QuotaKey":
        """The limits of a user."""
        return cls("user", account_id, subject=user_key(name), shown=name)

    @classmethod
    def of_key(cls, account_id: str, key_id: str) -> "QuotaKey":
        """The limits of an access key."""
        return cls("key", account_id, subject=key_id, shown=key_id)

    @classmethod
    def of_grant(cls, account_id: str, region: str, name: str, delegate_id: str) -> "QuotaKey":
        """The cap on another account that sends by an identity."""
        return cls("identity", account_id, region, name, delegate_id, name)

    @property
    def audit_subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject(self.kind, self.account_id, self.shown)

    def values(self) -> dict[str, str]:
        """The values of the key columns."""
        return {column: getattr(self, column) for column in _KEY_COLUMNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Limits and temporary limits; ``None`` is no limit and no raise."""

    max_24h_send: int | None = None
    max_send_rate_per_s: float | None = None
    raised_24h_send: int | None = None
    raised_send_rate_per_s: float | None = None
    raised_until: datetime | None = None

    def facts(self) -> dict[str, Any]:
        """The fields that are set, for the audit log."""
        until = self.raised_until
        said = asdict(self) | {"raised_until": until.isoformat() if until else None}
        return {column: value for column, value in said.items() if value is not None}

    def without_raise(self) -> "Quota":
        """The same, not raised."""
        return replace(self, **dict.fromkeys(_RAISE))


@dataclass(frozen=True, slots=True)
class QuotaWrite:
    """A quota before and after."""

    key: QuotaKey
    before: Quota
    after: Quota
    action: str = "limit"


_NONE: Final = Quota()
QUOTA_COLUMNS: Final = columns_of(quotas, Quota)
"""The columns that ``quota_in`` and ``limits_in`` need."""


def quota_in(row: _Row) -> Quota:
    """The quota in a row."""
    return Quota(**{column.name: getattr(row, column.name) for column in QUOTA_COLUMNS})


def _temporary_limits(row: _Row) -> TemporaryLimits | None:
    """The temporary limits in a row; they may have ended. ``None`` has none."""
    if row is None or row.raised_until is None:
        return None
    return TemporaryLimits(row.raised_24h_send, row.raised_send_rate_per_s, row.raised_until)


def limits_in(row: _Row) -> SendingLimits | None:
    """The limits in a row, or ``None`` when it limits nothing."""
    if row is None or (row.max_24h_send is None and row.max_send_rate_per_s is None):
        return None
    day, a_second = row.max_24h_send, row.max_send_rate_per_s
    return SendingLimits(
        UNLIMITED if day is None else day,
        UNLIMITED if a_second is None else a_second,
        _temporary_limits(row),
    )


def account_limits(account: _Row, quota: _Row, default: SendingLimits) -> SendingLimits:
    """An account's limits: its own where it has them, raised as its quota says."""
    day, a_second = account.max_24h_send, account.max_send_rate_per_s
    return SendingLimits(
        default.max_24h_send if day is None else day,
        default.max_send_rate_per_s if a_second is None else a_second,
        _temporary_limits(quota),
    )


async def quota_at(connection: AsyncConnection, key: QuotaKey) -> Quota:
    """The quota of a key; one without any has an empty one."""
    query = select(*QUOTA_COLUMNS).where(selects(quotas, key.values()))
    row = (await connection.execute(query)).one_or_none()
    return _NONE if row is None else quota_in(row)


async def quotas_about(
    connection: AsyncConnection, account_id: str | None = None, *, region: str | None = None
) -> list[tuple[QuotaKey, Quota]]:
    """All quotas, or an account's own and those that others cap it at; of a region or all."""
    shown = func.coalesce(users.c.name, quotas.c.subject).label("shown")
    is_user = (
        (quotas.c.kind == "user")
        & (users.c.account_id == quotas.c.account_id)
        & (users.c.key == quotas.c.subject)
    )
    query = (
        select(*(quotas.c[column] for column in _KEY_COLUMNS), shown, *QUOTA_COLUMNS)
        .select_from(quotas.outerjoin(users, is_user))
        .order_by(*(quotas.c[column] for column in ("account_id", *_KEY_COLUMNS)))
    )
    if account_id is not None:
        is_about = (quotas.c.account_id == account_id, quotas.c.delegate_id == account_id)
        query = query.where(or_(*is_about))
    if region is not None:
        query = query.where(quotas.c.region.in_(("", region)))
    found = []
    for row in await connection.execute(query):
        key = QuotaKey(**{column: getattr(row, column) for column in (*_KEY_COLUMNS, "shown")})
        found.append((key, quota_in(row)))
    return found


async def set_quota(
    change: Change, key: QuotaKey, changes: Mapping[str, Any], *, action: str = "limit"
) -> Quota:
    """Change columns of a quota whose subject was found in this transaction.

    Raises RefusedChangeError.
    """
    before = await quota_at(change.connection, key)
    after = replace(before, **changes)
    if after.raised_until is not None and after.raised_until <= change.now:
        if "raised_until" in changes:
            raise RefusedChangeError(f"{key.audit_subject}: a raise ends later than now")
        after = after.without_raise()
    _must_be_good(key, after)
    if key.delegate_id and limits_in(after) is not None and limits_in(before) is None:
        await _must_have_room(change, key)
    await write_quotas(change, [QuotaWrite(key, before, after, action)])
    return after


def _must_be_good(key: QuotaKey, wanted: Quota) -> None:
    for column, check in _CHECKS.items():
        value = getattr(wanted, column)
        if value is not None:
            with refusing(f"{key.audit_subject}: {column}"):
                check(value)
    if key.kind == "identity":
        if not is_account_id(key.delegate_id):
            raise RefusedChangeError(f"`{key.delegate_id}' is no account id: it has 12 digits")
        if key.delegate_id == key.account_id:
            raise RefusedChangeError(
                f"{key.audit_subject}: an owner does not cap itself; its account has limits"
            )


async def _must_have_room(change: Change, key: QuotaKey) -> None:
    its = {column: value for column, value in key.values().items() if column != "delegate_id"}
    query = select(func.count()).where(
        selects(quotas, its),
        or_(quotas.c.max_24h_send.is_not(None), quotas.c.max_send_rate_per_s.is_not(None)),
    )
    if ((await change.connection.execute(query)).scalar() or 0) >= MAX_CAPS:
        raise RefusedChangeError(
            f"{key.audit_subject} caps {MAX_CAPS} accounts, the most it may; "
            f"limit those accounts"
        )


async def write_quotas(change: Change, writes: Sequence[QuotaWrite]) -> None:
    """Write quotas that are known to be valid; unchanged ones get no audit entry."""
    writes = [write for write in writes if write.before != write.after]
    before = [one.key.values() for one in writes if one.before != _NONE]
    await delete_by_key(change, quotas, before)
    values = [one.key.values() | asdict(one.after) for one in writes if one.after != _NONE]
    if values:
        await change.connection.execute(insert(quotas), values)
    await change.note_all([_note(write) for write in writes])


def _note(write: QuotaWrite) -> Note:
    key = write.key
    delegate = {"delegate": key.delegate_id} if key.delegate_id else {}
    return Note(
        action=write.action,
        subject=key.audit_subject,
        before=delegate | write.before.facts(),
        after=delegate | write.after.facts(),
    )


async def drop_quotas(
    change: Change, kind: QuotaKind, subjects: Sequence[tuple[str, str, str]]
) -> None:
    """Delete the quotas of deleted subjects: each with account, region and subject."""
    columns = ("kind", "account_id", "region", "subject")
    keys = [dict(zip(columns, (kind, *one), strict=True)) for one in subjects]
    await delete_by_key(change, quotas, keys)
