"""Suppression lists in a store, filled in a line."""

from smtpgate.core.suppression.lists import SuppressedAddress, SuppressionReason
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppression import ListKey, put_addresses
from tests.support.directory import ACTOR
from tests.support.tenants import ACME
from tests.support.world import REGION

LIST = ListKey(ACME, REGION)


async def suppress(
    store: DirectoryStore,
    *addresses: str,
    account_id: str = ACME,
    reason: SuppressionReason = "BOUNCE",
) -> None:
    """Put addresses on the list of an account, as an import does."""
    entries = [SuppressedAddress(one, reason, store.now()) for one in addresses]
    async with store.changing(ACTOR) as change:
        key = ListKey(account_id, REGION)
        await put_addresses(change, key, entries, note={"addresses": len(entries)})
