"""Suppression lists of accounts, and what they are used for."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TypeAlias

from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.suppression.lists import (
    Reasons,
    SuppressedAddress,
    SuppressionReason,
    read_address,
)
from smtpgate.directory import configuration_sets, identities
from smtpgate.directory import suppression as rows
from smtpgate.directory.accounts import account
from smtpgate.directory.change import Facts
from smtpgate.directory.rows import refusing
from smtpgate.directory.suppression import EVERY, ListKey

AddressFilter: TypeAlias = rows.ListFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressionDetails:
    """The settings of an account, and the number of its addresses by their reasons.

    ``configuration_sets`` are those with other reasons, ``for_delegates`` the identities for
    which the list is used for all senders.
    """

    account_id: str
    reasons: Reasons
    addresses: Mapping[SuppressionReason, int]
    configuration_sets: Mapping[str, Reasons]
    for_delegates: Sequence[str]


async def put(
    session: Session, account_id: str, address: str, reason: SuppressionReason
) -> SuppressedAddress:
    """Add an address to an account's list, or change its reason. Raises RefusedChangeError."""
    session.must_be_allowed("PutSuppressedDestination", session.list_arn(account_id))
    entry = SuppressedAddress(_listed(address), reason, session.now())
    async with session.changing() as change:
        await rows.put_addresses(change, _key(session, account_id), [entry])
    return entry


async def put_all(
    session: Session, account_id: str, entries: Sequence[SuppressedAddress], source: str
) -> None:
    """Add many addresses in one change, which come from that file."""
    session.must_be_allowed("ImportSuppressedDestinations", session.list_arn(account_id))
    note: Facts = {"addresses": len(entries), "source": source}
    async with session.changing() as change:
        await rows.put_addresses(
            change, _key(session, account_id), entries, action="import", note=note
        )


async def remove(session: Session, account_id: str, address: str) -> None:
    """Remove an address from an account's list. Raises NotFoundError."""
    session.must_be_allowed("DeleteSuppressedDestination", session.list_arn(account_id))
    async with session.changing() as change:
        await rows.remove_address(change, _key(session, account_id), _listed(address))


async def remove_all(session: Session, account_id: str, addresses: Sequence[str]) -> int:
    """Remove those addresses that are there, in one change; the number of them.

    The addresses are in the spelling of lists.
    """
    session.must_be_allowed("ImportSuppressedDestinations", session.list_arn(account_id))
    async with session.changing() as change:
        return await rows.remove_addresses(change, _key(session, account_id), addresses)


async def get(session: Session, account_id: str, address: str) -> SuppressedAddress:
    """The entry of an address. Raises NotFoundError."""
    session.must_be_allowed("GetSuppressedDestination", session.list_arn(account_id))
    key = _key(session, account_id)
    async with session.store.reading() as connection:
        return await rows.suppressed(connection, key, _listed(address))


async def pages(
    session: Session,
    account_id: str,
    wanted: AddressFilter = EVERY,
    *,
    after: str = "",
    limit: int | None = None,
) -> AsyncIterator[Sequence[SuppressedAddress]]:
    """The entries of an account's list by their addresses, behind ``after``."""
    session.must_be_allowed("ListSuppressedDestinations", session.list_arn(account_id))
    key = _key(session, account_id)

    read = partial(rows.suppressed_page, key=key, wanted=wanted)
    async for page in rows_in_pages(session, read, after, attrgetter("address"), limit):
        yield page


# -- settings ----------------------------------------------------------------------------------


async def settings(session: Session, account_id: str) -> SuppressionDetails:
    """The settings of an account. Raises NotFoundError."""
    session.must_be_allowed("GetAccountSuppression", session.account_arn(account_id))
    key = _key(session, account_id)
    async with session.store.reading() as connection:
        _ = await account(connection, account_id)
        found = await rows.suppression(connection, key)
        numbers = await rows.count_suppressed(connection, key)
        sets = await rows.sets_that_differ(connection, key)
        names = await rows.identities_for_delegates(connection, key)
    return SuppressionDetails(
        account_id=account_id,
        reasons=found.reasons,
        addresses=numbers,
        configuration_sets=sets,
        for_delegates=names,
    )


async def set_reasons(session: Session, account_id: str, reasons: Reasons) -> None:
    """Set for which reasons addresses are put on an account's list, and not sent to."""
    session.must_be_allowed("SetAccountSuppression", session.account_arn(account_id))
    async with session.changing() as change:
        await rows.set_reasons(change, _key(session, account_id), reasons)


async def set_reasons_of_set(
    session: Session, ref: ConfigurationSetRef, reasons: Reasons | None
) -> None:
    """Set the reasons for mail with a configuration set; ``None`` are the account's."""
    resource = session.configuration_set_arn(ref)
    session.must_be_allowed("SetConfigurationSetSuppression", resource)
    async with session.changing() as change:
        row = await configuration_sets.configuration_set(
            change.connection, ref.account_id, session.region, ref.name
        )
        changes = {"suppressed_reasons": None if reasons is None else list(reasons)}
        await configuration_sets.update_configuration_set(change, row, changes)


async def set_for_delegates(
    session: Session, ref: IdentityRef, *, suppresses_delegates: bool
) -> None:
    """Use the owner's list for all mail with an identity, or only for the owner's."""
    session.must_be_allowed("SetIdentitySuppression", session.identity_arn(ref))
    async with session.changing() as change:
        row = await identities.identity(
            change.connection, ref.account_id, session.region, ref.name
        )
        await identities.update_identity(
            change,
            row,
            {"suppresses_delegates": suppresses_delegates},
            action="set-suppression",
        )


def _key(session: Session, account_id: str) -> ListKey:
    return ListKey(account_id, session.region)


def _listed(address: str) -> str:
    with refusing(f"`{address}'"):
        return read_address(address)
