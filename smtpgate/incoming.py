"""The way of a message that comes back: to the gate's own return path, or as a complaint.

It is accepted only for an address that the gate made itself, so nobody else's mail is taken
and no bounce goes to a stranger. A report becomes events in the outbox before its sender gets
250. Any other message, such as a vacation note, goes on to the address that the message was
sent from, in the same breath: its sender gets the upstream's answer. So does mail to the
postmaster, to the address that the operator has for it (RFC 5321 §4.5.1).
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.events import FeedbackOutcome, FeedbackTaken
from smtpgate.core.feedback.report import NO_REPORT, FeedbackReport
from smtpgate.core.feedback.return_path import PathTagger
from smtpgate.core.history.record import Record
from smtpgate.core.history.reported import reported_events
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.reply import Reply
from smtpgate.core.upstream import LACKING, Answered, NotSent
from smtpgate.ports import (
    Clock,
    DeliveryAttempt,
    DirectoryUnavailableError,
    EventSink,
    JournalUnavailableError,
    Upstream,
)
from smtpgate.recording import EventRecorder, FindRecipients

ReadReport = Callable[[bytes], Awaitable[FeedbackReport]]
FindRecord = Callable[[str], Awaitable[Record | None]]
Answers = Literal["forward", "drop"]

TAKEN: Final = Reply(250, "2.0.0", "Ok")
LATER: Final = Reply(451, "4.3.0", "Report cannot be kept now, try again later")
UNKNOWN: Final = Reply(550, "5.1.1", "No such address here: only bounces of our mail are taken")
NO_POSTMASTER: Final = Reply(
    550,
    "5.1.1",
    "Postmaster has no mailbox here, where only bounces of our mail are taken: write to the "
    "postmaster of the domain in its From field",
)
UNFIT: Final = Reply(554, "5.6.3", "Message has octets that the next server does not take")
LOOPING: Final = Reply(554, "5.4.6", "Message has passed too many servers")
_HOPS: Final = 50
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_HEADER_OCTETS: Final = 64 * 1024
_POSTMASTER: Final = "postmaster"
_NEEDS: Final = frozenset(LACKING.values())


@dataclass(frozen=True, slots=True)
class IntakeAddresses:
    """The addresses beside return paths.

    ``domain`` is the listener's own, and ``complaints`` the local part there that takes
    complaints. Mail to the postmaster there, at ``hostname`` or without a domain goes to
    ``postmaster``, and is refused without one.
    """

    domain: str
    complaints: str
    hostname: str
    postmaster: Mailbox | None = None

    def is_for_complaints(self, address: str) -> bool:
        """True for the address of complaints."""
        return address.casefold() == f"{self.complaints}@{self.domain}".casefold()

    def is_postmaster(self, address: str) -> bool:
        """True for an address of the postmaster."""
        local_part, _, domain = address.casefold().rpartition("@")
        if not local_part:
            return domain == _POSTMASTER
        return local_part == _POSTMASTER and domain in (
            self.domain.casefold(),
            self.hostname.casefold(),
        )


class FeedbackIntake:
    """Takes reports and answers to the mail that the gate sent."""

    def __init__(
        self,
        tagger: PathTagger,
        addresses: IntakeAddresses,
        *,
        read: ReadReport,
        record_of: FindRecord,
        with_recipients: FindRecipients,
        recorder: EventRecorder,
        upstream: Upstream,
        answers: Answers,
        clock: Clock,
        events: EventSink,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._tagger = tagger
        self._addresses = addresses
        self._read = read
        self._record_of = record_of
        self._with_recipients = with_recipients
        self._recorder = recorder
        self._upstream = upstream
        self._answers = answers
        self._clock = clock
        self._events = events
        self._on_error = on_error

    def refusal(self, address: str) -> Reply | None:
        """The reply to an address whose mail is not taken, or ``None``."""
        is_ours = self._tagger.message_of(address) is not None
        if is_ours or self._addresses.is_for_complaints(address):
            return None
        if not self._addresses.is_postmaster(address):
            return UNKNOWN
        return NO_POSTMASTER if self._addresses.postmaster is None else None

    async def take(self, address: str, octets: bytes) -> Reply:
        """Take a message to an address that is taken; the reply to its sender."""
        to = self._addresses.postmaster
        if to is not None and self._addresses.is_postmaster(address):
            reply = await self._forward(to, octets)
            self._note(NO_REPORT, None, "forwarded", reply)
            return reply
        report = await self._read(octets)
        record: Record | None = None
        outcome: FeedbackOutcome = "refused"
        try:
            record = await self._evident_record(self._tagger.message_of(address), report)
            outcome, reply = await self._carry(report, record, octets)
        except (DirectoryUnavailableError, JournalUnavailableError) as error:
            self._on_error(error)
            reply = LATER
        self._note(report, record, outcome, reply)
        return reply

    def _note(
        self,
        report: FeedbackReport,
        record: Record | None,
        outcome: FeedbackOutcome,
        reply: Reply,
    ) -> None:
        self._events.publish(
            FeedbackTaken(
                kind=report.kind,
                outcome=outcome if reply.code == TAKEN.code else "refused",
                message_id="" if record is None else record.id,
                account_id="" if record is None else record.account_id,
                recipients=tuple(one.address for one in report.recipients),
                reply=reply,
                at=self._clock.now(),
            )
        )

    async def _carry(
        self, report: FeedbackReport, record: Record | None, octets: bytes
    ) -> tuple[FeedbackOutcome, Reply]:
        """Publish a report; send other mail on, or drop it."""
        if record is None:
            return "unknown", TAKEN  # mail of others is meant, or the record is gone
        record = await self._with_recipients(record, report.addresses)
        events = reported_events(report, record, self._clock.now())
        if events:
            _ = await self._recorder.record(events)
            return "published", TAKEN
        to = record.reverse_path
        if to is None or report.kind == "complaint" or self._answers == "drop":
            return "dropped", TAKEN
        return "forwarded", await self._forward(to, octets)

    async def _evident_record(
        self, message_id: str | None, report: FeedbackReport
    ) -> Record | None:
        """The record of the message, if the address or a tag in the report proves it."""
        if message_id is not None:
            return await self._record_of(message_id)
        claimed = report.original
        if report.kind != "complaint" or claimed.message_id is None:
            return None
        record = await self._record_of(claimed.message_id)
        if record is None or record.return_path is None:
            return None
        domain = record.return_path.domain
        return record if self._tagger.made(record.id, claimed.tag, domain) else None

    async def _forward(self, to: Mailbox, octets: bytes) -> Reply:
        """Send it on with the null reverse-path, unless it goes round in circles."""
        header = octets[:_HEADER_OCTETS].partition(b"\r\n\r\n")[0].lower()
        if (b"\r\n" + header).count(b"\r\nreceived:") > _HOPS:
            return LOOPING
        # A bare CR or LF could end the message early at a server behind the upstream.
        parts: list[Body] = [_LINE_END.sub(b"\r\n", octets)]
        envelope = Envelope.of(
            ReversePath(None),
            [to],
            smtputf8=not (header.isascii() and to.text.isascii()),  # RFC 6531 §3.4
            body_8bit=not octets.isascii(),
        )
        delivery = await self._upstream.deliver(envelope, parts, DeliveryAttempt())
        if isinstance(delivery, Answered):
            return delivery.reply
        if isinstance(delivery, NotSent) and delivery.reason in _NEEDS:
            return UNFIT  # it will be the same at the next try
        return LATER
