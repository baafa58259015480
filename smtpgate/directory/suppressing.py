"""The use of suppression lists, by the settings of senders and of owners.

The list of the account that sends is for all of its mail. The list of an identity's owner is
for the mail of delegates too where the owner has set that.
"""

from collections.abc import Iterable, Sequence

from smtpgate.core.account import Account
from smtpgate.core.address import Mailbox
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.identity import Identity
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Destination
from smtpgate.core.suppression.lists import Reasons, listed, reason_of
from smtpgate.directory.live import LiveDirectory


class DirectoryLists:
    """Implements the SuppressionLists port over a directory."""

    def __init__(self, directory: LiveDirectory) -> None:
        self._directory = directory

    async def suppressed(
        self,
        sender: Account,
        configuration_set: str,
        identity: Identity | None,
        mailboxes: Iterable[Mailbox],
    ) -> frozenset[Mailbox]:
        """The mailboxes that a message must not be sent to."""
        by_address = {mailbox: listed(mailbox) for mailbox in mailboxes}
        addresses = tuple(dict.fromkeys(by_address.values()))
        found: set[str] = set()
        if sender.has_suppressed:
            reasons = await _reasons_of_sender(self._directory, sender.id, configuration_set)
            found |= await self._on_list(sender.id, addresses, reasons)
        owner_id = "" if identity is None else owner_to_ask(identity, sender.id)
        if owner_id:
            settings = await self._directory.suppression(owner_id)
            if settings.has_addresses:
                found |= await self._on_list(owner_id, addresses, settings.reasons)
        return frozenset(mailbox for mailbox, one in by_address.items() if one in found)

    async def _on_list(
        self, account_id: str, addresses: Sequence[str], reasons: Reasons
    ) -> set[str]:
        if not reasons:
            return set()
        found = await self._directory.suppressed(account_id, addresses)
        return {address for address, reason in found.items() if reason in reasons}


def owner_to_ask(identity: Identity, sender_id: str) -> str:
    """The owner whose list is used for mail of that sender with an identity, or empty."""
    is_asked = identity.suppresses_delegates and identity.owner_id != sender_id
    return identity.owner_id if is_asked else ""


async def lists_fed_by(
    directory: LiveDirectory, event: SendingEvent
) -> tuple[Destination, ...]:
    """The lists that an event puts its recipients on. Raises DirectoryUnavailableError."""
    reason = reason_of(event)
    if reason is None:
        return ()
    mail = event.mail
    found = []
    if reason in await _reasons_of_sender(directory, mail.account_id, mail.configuration_set):
        found.append(mail.account_id)
    owner_id = await _owner_of_list(directory, mail.identity, mail.account_id)
    if owner_id and reason in (await directory.suppression(owner_id)).reasons:
        found.append(owner_id)
    return tuple(Destination("list", account_id, account_id) for account_id in found)


async def _reasons_of_sender(
    directory: LiveDirectory, account_id: str, configuration_set: str
) -> Reasons:
    """The reasons of an account for its list, which a configuration set may override."""
    if configuration_set:
        its_set = await directory.configuration_set(account_id, configuration_set)
        if its_set is not None and its_set.suppressed_reasons is not None:
            return its_set.suppressed_reasons
    return (await directory.suppression(account_id)).reasons


async def _owner_of_list(directory: LiveDirectory, identity: str, sender_id: str) -> str:
    try:
        arn = IdentityArn.parse(identity)
    except ArnError:
        return ""
    if arn.account_id == sender_id:
        return ""
    for one in await directory.identities(arn.name):
        if one.owner_id == arn.account_id:
            return owner_to_ask(one, sender_id)
    return ""
