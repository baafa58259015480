"""Requests to a store and its answers: plain values, for a queue or for a socket.

An entry is a row of texts and numbers with the digests of its terms. It is made where the
message is, so the store only writes.
"""

from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from smtpgate.core.limits import Crossing, Reservation
from smtpgate.journal.events import EventRow
from smtpgate.journal.statements import Entry
from smtpgate.journal.tasks import TaskRow
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


class Completion(Struct, frozen=True, gc=False, array_like=True):
    """The part of a Finish that its message's Begin, and the reservation, do not have.

    ``settled`` has the accepted recipients, those that stay counted for the rate alone, and the
    moment.
    """

    message_id: str
    settled: tuple[int, int, datetime] | None
    done_us: int | None
    outcome: str
    reason: str
    verdict: str
    late_terms: bytes
    may_be_there: bool
    tasks: tuple[TaskRow, ...] | None
    events: tuple[EventRow, ...] | None
    configuration_set: str

    @staticmethod
    def of(request: Finish, entry: Entry) -> "Completion":
        """The rest of a request with that entry."""
        row, settle = entry.row, request.settle
        settled = None
        if settle is not None:
            settled = settle.accepted, settle.reservation.only_rate, settle.at
        return Completion(
            request.message_id,
            settled,
            row.done_us,
            row.outcome,
            row.reason,
            row.verdict,
            entry.late_terms,
            entry.may_be_there,
            entry.tasks,
            entry.events,
            entry.configuration_set,
        )

    def whole(self, begun: Entry, reservation: Reservation | None) -> Finish:
        """The request."""
        settle = None
        if self.settled is not None and reservation is not None:
            accepted, only_rate, at = self.settled
            if only_rate:
                reservation = reservation.with_only_rate(only_rate)
            settle = Settle(reservation, accepted, at)
        entry = Entry(
            row=begun.row.completed(self.done_us, self.outcome, self.reason, self.verdict),
            texts=begun.texts,
            early_terms=begun.early_terms,
            late_terms=self.late_terms,
            is_begun=True,
            may_be_there=self.may_be_there,
            tasks=self.tasks,
            events=self.events,
            configuration_set=self.configuration_set,
        )
        return Finish(settle, entry, self.message_id)


OfMessage: TypeAlias = Begin | Finish
"""A request about one message."""
