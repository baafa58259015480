"""Requests to a store and its answers: plain values, for a queue or for a socket.

An entry is a row of texts and numbers with the digests of its terms. It is made where the
message is, so the store only writes.
"""

from typing import NamedTuple, TypeAlias

from msgspec import Struct

from smtpgate.core.limits import Crossing, Reservation
from smtpgate.journal.statements import Entry
from smtpgate.ledger.transactions import Reserve, Settle


class Begin(Struct, frozen=True, gc=False, array_like=True):
    """Count the recipients, and write the row of a message that will be relayed.

    What cannot be counted is not written either.
    """

    reserve: Reserve | None = None
    entry: Entry | None = None
    message_id: str = ""

    def with_entry(self, entry: Entry | None) -> "Begin":
        """The same with another entry."""
        return Begin(self.reserve, entry, self.message_id)


class BeginAnswer(NamedTuple):
    """The reservation or the ledger's refusal, and why the row is not there, or ``None``."""

    counted: Reservation | Exception | None = None
    not_written: Exception | None = None


class Finish(Struct, frozen=True, gc=False, array_like=True):
    """Settle the reservation, and write the verdict.

    Further rows that are promised with the verdict belong into the same transaction.
    """

    settle: Settle | None = None
    entry: Entry | None = None
    message_id: str = ""

    def with_entry(self, entry: Entry | None) -> "Finish":
        """The same with another entry."""
        return Finish(self.settle, entry, self.message_id)


class FinishAnswer(NamedTuple):
    """The thresholds that are announced now, and why the verdict is not written, or ``None``.

    ``not_counted`` is why it is not settled now; the store does it later.
    """

    crossings: tuple[Crossing, ...] = ()
    not_counted: Exception | None = None
    not_written: Exception | None = None


OfMessage: TypeAlias = Begin | Finish
"""A request about one message."""
