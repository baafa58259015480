"""Tasks that put the recipients of bounces and complaints on suppression lists."""

from smtpgate.core.outbox.task import Carried, GivenUp, LeasedTask, Result
from smtpgate.core.suppression.lists import SuppressedAddress, read_address, reason_of
from smtpgate.directory.change import Actor, RefusedChangeError
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppression import ListKey, put_addresses


class ListCarrier:
    """Implements the Carrier port over the directory's database."""

    def __init__(self, store: DirectoryStore, hostname: str) -> None:
        self._store = store
        self._actor = Actor("smtpgate serve", hostname)

    async def carry(self, leased: LeasedTask) -> Result:
        """Add the addresses. Raises DirectoryUnavailableError: another attempt may succeed."""
        event, destination = leased.task.event, leased.task.destination
        reason, message_id = reason_of(event), event.mail.message_id
        if reason is None:
            return GivenUp(f"a {event.kind} puts no address on a list")
        entries = []
        for one in event.recipients:
            try:
                address = read_address(one.address)
            except ValueError:
                continue  # a report may name what is no address
            entries.append(SuppressedAddress(address, reason, event.at, message_id))
        if not entries:
            return GivenUp("no recipient has an address")
        note = {"addresses": len(entries), "reason": reason, "message": message_id}
        key = ListKey(destination.name, self._store.region)
        try:
            async with self._store.changing(self._actor) as change:
                await put_addresses(
                    change, key, entries, keeps_complaints=True, action="suppress", note=note
                )
        except RefusedChangeError as error:  # the account was deleted meanwhile
            return GivenUp(str(error))
        return Carried(f"{len(entries)} on the suppression list")
