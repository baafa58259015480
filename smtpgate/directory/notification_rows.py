"""Notification settings that go with the identity or account that they are of."""

from collections.abc import Sequence
from typing import Protocol

from smtpgate.directory.change import Change
from smtpgate.directory.rows import delete_by_key
from smtpgate.directory.schema import identity_notifications


class OwnedIdentity(Protocol):
    """An identity of an account."""

    @property
    def account_id(self) -> str:
        """The owner."""

    @property
    def region(self) -> str:
        """Its region."""

    @property
    def name(self) -> str:
        """The domain or address."""


async def drop_owner_notifications(change: Change, identities: Sequence[OwnedIdentity]) -> None:
    """Delete the owner's settings of identities that are deleted; a delegate's stay."""
    keys = [
        {
            "account_id": one.account_id,
            "region": one.region,
            "owner_id": one.account_id,
            "identity": one.name,
        }
        for one in identities
    ]
    await delete_by_key(change, identity_notifications, keys)


async def drop_notifications(change: Change, account_ids: Sequence[str]) -> None:
    """Delete all settings of accounts that are deleted."""
    keys = [{"account_id": account_id} for account_id in account_ids]
    await delete_by_key(change, identity_notifications, keys)
