"""Publishing: the tasks that follow from a message, each an event to one destination.

Destinations are looked up before the message is relayed, so that a directory that cannot be
reached defers the message instead of losing an event. Nothing is made where nobody wants it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.events import SubmissionDone
from smtpgate.core.message.headers import HeaderBlock
from smtpgate.core.outbox.event import (
    BounceDetail,
    Detail,
    EventRecipient,
    SendDetail,
    SendingEvent,
    SentMail,
    sending_event,
)
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.outbox.refusals import bounce, to_report, without_reports
from smtpgate.core.outbox.relayed import relayed, wanting_success
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.core.reply import reject
from smtpgate.core.suppression.withheld import is_answered, withheld_events
from smtpgate.core.upstream import Answered, RecipientReply
from smtpgate.ports import Subscribers

# Of the header block in a report.
_MAX_ORIGINAL_OCTETS: Final = 32_768


class EventPublisher:
    """Makes the tasks of messages, by the settings that the subscribers have."""

    def __init__(self, subscribers: Subscribers, hostname: str) -> None:
        self._subscribers = subscribers
        self._hostname = hostname

    def wants_sends(self, done: SubmissionDone, identity: str) -> bool:
        """False if nobody gets the event that this message is sent.

        ``identity`` is the ARN that serves From.
        """
        if done.intent is not None and done.intent.configuration_set:
            return True
        account_id = done.submission.principal.account.id
        return self._subscribers.want_sends(account_id, identity)

    async def sends(self, done: SubmissionDone, now: datetime) -> tuple[Task, ...]:
        """The tasks of a message once the upstream accepts it.

        Raises DirectoryUnavailableError, or Reject when its configuration set is paused.
        """
        mail = await self.mail(done)
        if mail.configuration_set:
            its = mail.account_id, mail.configuration_set
            why = await self._subscribers.pause_of(*its)
            if why is not None:
                reject("configuration-set-paused", why, set_name=its[1])
            done.configuration_set = mail.configuration_set
        event = sending_event(now, mail, map(EventRecipient, mail.destination), SendDetail())
        return tuple(Task(event, to) for to in await self._subscribers.destinations(event))

    async def refusals(
        self, done: SubmissionDone, refused: Sequence[RecipientReply], now: datetime
    ) -> tuple[tuple[SendingEvent, ...], tuple[Task, ...]]:
        """The bounces of recipients that are refused while others get the message, and tasks.

        One report by mail is about all of them. Raises DirectoryUnavailableError.
        """
        mail, recipients = await self.mail(done), done.submission.envelope.recipients
        events: list[SendingEvent] = []
        tasks: list[Task] = []
        reports: dict[Destination, None] = {}
        for one in refused:
            event = bounce(mail, recipients, [one], now, self._hostname)
            events.append(event)
            for to in await self._subscribers.destinations(event):
                if is_report(to):
                    reports[to] = None
                else:
                    tasks.append(Task(event, to))
        reported = to_report(recipients, refused)
        if reports and reported:
            event = bounce(mail, recipients, reported, now, self._hostname)
            tasks += [self._report(done, event, to) for to in reports]
        return tuple(events), tuple(tasks)

    async def withheld(
        self, done: SubmissionDone, now: datetime
    ) -> tuple[tuple[SendingEvent, ...], tuple[Task, ...]]:
        """The events of recipients that an accepted message is not sent to, and their tasks.

        One report by mail is about all recipients with the same fate. Raises
        DirectoryUnavailableError.
        """
        mail, recipients = await self.mail(done), done.submission.envelope.recipients
        events = tuple(withheld_events(mail, recipients, done.withheld, now, self._hostname))
        tasks: list[Task] = []
        reports: dict[tuple[Destination, Detail], list[EventRecipient]] = {}
        for event in events:
            for to in await self._subscribers.destinations(event):
                if is_report(to):
                    reports.setdefault((to, event.detail), []).extend(event.recipients)
                else:
                    tasks.append(Task(event, to))
            if is_answered(event, done.withheld):
                answer = Destination("mail", mail.source, mail.account_id, "answer")
                tasks.append(Task(event, answer))
        silent = without_reports(recipients)
        for (to, detail), of_them in reports.items():
            is_bounce = isinstance(detail, BounceDetail)
            known = [one for one in of_them if not is_bounce or one.address not in silent]
            if known:
                tasks.append(self._report(done, sending_event(now, mail, known, detail), to))
        return events, tuple(tasks)

    def add_relayed(self, done: SubmissionDone, taken: Answered, now: datetime) -> None:
        """Add the report that its sender asked for when the next server has no DSN.

        The sender learns that no more will be known (RFC 3461 §5.2.2).
        """
        submission = done.submission
        recipients, to = submission.envelope.recipients, submission.envelope.reverse_path
        if taken.has_dsn or to.is_null:
            return
        recipients = wanting_success(recipients, taken.recipients)
        if not recipients:
            return
        mail = sent_mail(submission, done.from_identity, done.header, done.intent)
        event = relayed(mail, recipients, taken, now)
        report = self._report(done, event, Destination("mail", str(to), mail.account_id))
        done.tasks = (*(done.tasks or ()), report)

    async def lists(self, events: Iterable[SendingEvent]) -> tuple[Task, ...]:
        """The tasks that put recipients on suppression lists, and no others.

        Raises DirectoryUnavailableError.
        """
        return tuple(
            [Task(event, to) for event in events for to in await self._subscribers.lists(event)]
        )

    async def mail(self, done: SubmissionDone) -> SentMail:
        """The message as its events have it. Raises DirectoryUnavailableError."""
        account_id, identity = done.submission.principal.account.id, done.from_identity
        default_set = ""
        if self._subscribers.want_sends(account_id, identity):
            default_set = await self._subscribers.default_set(account_id, identity)
        return sent_mail(done.submission, identity, done.header, done.intent, default_set)

    def _report(self, done: SubmissionDone, event: SendingEvent, to: Destination) -> Task:
        envelope = done.submission.envelope
        # RFC 8689 §5: what required TLS is in no report that may go without.
        header = None if envelope.require_tls else done.header
        original = b"" if header is None else _beginning(header)
        return Task(event, to, original, envelope.envelope_id)


def is_report(destination: Destination) -> bool:
    """True if the destination gets a report by mail, and no notification."""
    return destination.kind == "mail" and not destination.form


def _beginning(block: HeaderBlock) -> bytes:
    """The fields from the first on, as many as fit."""
    found: list[bytes] = []
    octets = 0
    for raw in block.raw_parts:
        octets += len(raw)
        if octets > _MAX_ORIGINAL_OCTETS:
            break
        found.append(raw)
    return b"".join(found)
