"""The limits of an account, and of its users, keys and identities, in the directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.directory.accounts import account
from smtpgate.directory.quotas import (
    QuotaKey,
    QuotaKind,
    account_limits,
    limits_in,
    quota_at,
    quotas_about,
)
from smtpgate.sql.asynchronous import AsyncConnection

_UNLIMITED: Final = SendingLimits(UNLIMITED, UNLIMITED)
_ORDER: Final[tuple[QuotaKind, ...]] = ("account", "user", "key", "identity")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits, with temporary limits if there are any, and their key."""

    key: QuotaKey
    limits: SendingLimits


async def allowance_at(
    connection: AsyncConnection, key: QuotaKey, default: SendingLimits
) -> Allowance:
    """The limits of one key. Without limits it is unlimited, and an account has ``default``.

    Raises NotFoundError for an account.
    """
    quota = await quota_at(connection, key)
    if key.kind == "account":
        row = await account(connection, key.account_id)
        return Allowance(key, account_limits(row, quota, default))
    return Allowance(key, limits_in(quota) or _UNLIMITED)


async def allowances_of(
    connection: AsyncConnection, account_id: str, region: str, default: SendingLimits
) -> Sequence[Allowance]:
    """The account's limits, those of users and keys, and caps by its identities and on itself.

    Raises NotFoundError.
    """
    own = QuotaKey.of_account(account_id)
    found = await quotas_about(connection, account_id, region=region)
    within = [
        Allowance(key, limits)
        for key, quota in found
        if key.kind != "account" and (limits := limits_in(quota)) is not None
    ]
    within.sort(key=lambda one: _ORDER.index(one.key.kind))
    return [await allowance_at(connection, own, default), *within]
