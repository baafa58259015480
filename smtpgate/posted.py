"""The way of the records that a mail server posts about mail that the gate sent.

The server has a credential, so its word counts for its own deliveries. It repeats strangers in
records of bounces and complaints that arrived there; for these the evidence is the same as for
mail that comes back. A record about a message that the gate does not know is counted, and
nothing else happens: the server may carry other mail too.

All events of a post are kept before its answer, in one transaction, or none is: then the server
posts it again. An event has the id of its fact, so a record that comes twice changes nothing.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from smtpgate.core.events import PostedOutcome, RecordsPosted
from smtpgate.core.feedback.record import FeedbackRecord
from smtpgate.core.feedback.records import ReadLine
from smtpgate.core.feedback.return_path import PathTagger
from smtpgate.core.history.record import Record
from smtpgate.core.history.reported import reported_events
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.ports import Clock, EventSink
from smtpgate.recording import EventRecorder, FindRecipients

ReadRecords = Callable[[bytes], Awaitable[Sequence[ReadLine]]]
FindRecords = Callable[[Collection[str]], Awaitable[Mapping[str, Record]]]


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """The records of a post by their outcome, and what is wrong with those that are unread."""

    accepted: int
    ignored: int
    unknown: int
    problems: tuple[tuple[int, str], ...]

    @property
    def has_any(self) -> bool:
        """True if a record was read."""
        return bool(self.accepted or self.ignored or self.unknown)


class PostedRecords:
    """Takes posts of records."""

    def __init__(
        self,
        tagger: PathTagger | None,
        *,
        read: ReadRecords,
        records_of: FindRecords,
        with_recipients: FindRecipients,
        recorder: EventRecorder,
        clock: Clock,
        events: EventSink,
    ) -> None:
        """``tagger`` knows the gate's own return paths, if it makes any."""
        self._tagger = tagger
        self._read = read
        self._records_of = records_of
        self._with_recipients = with_recipients
        self._recorder = recorder
        self._clock = clock
        self._events = events

    async def take(self, octets: bytes) -> PostAnswer:
        """Take the records of a post.

        Raises RecordError if the whole cannot be read, and DirectoryUnavailableError or
        JournalUnavailableError if nothing of it was kept.
        """
        lines = await self._read(octets)
        read = [one.record for one in lines if one.record is not None]
        ids = {one.report.original.message_id for one in read}
        records = await self._records_of([one for one in ids if one is not None])
        now = self._clock.now()
        found = [await self._events_of(one, records, now) for one in read]
        _ = await self._recorder.record([event for events in found for event in events or ()])
        outcomes = [_outcome(one, events) for one, events in zip(read, found, strict=True)]
        answer = PostAnswer(
            accepted=outcomes.count("accepted"),
            ignored=outcomes.count("ignored"),
            unknown=outcomes.count("unknown"),
            problems=tuple((one.number, one.problem) for one in lines if one.record is None),
        )
        self._events.publish(
            RecordsPosted(
                answer.accepted,
                answer.ignored,
                answer.unknown,
                len(answer.problems),
                now,
            )
        )
        return answer

    async def _events_of(
        self, one: FeedbackRecord, records: Mapping[str, Record], now: datetime
    ) -> Sequence[SendingEvent] | None:
        """The events of a record; ``None`` if it is about no message that is known."""
        record = records.get(one.report.original.message_id or "")
        if record is None or not self._is_evident(one, record):
            return None
        record = await self._with_recipients(record, one.report.addresses)
        at = min(max(one.at or now, record.received_at), now)
        return reported_events(one.report, record, at)

    def _is_evident(self, one: FeedbackRecord, record: Record) -> bool:
        """True if the record is about that message, as far as it can be known."""
        path, tag = record.return_path, one.report.original.tag
        if tag:
            if self._tagger is None or path is None:
                return False
            return self._tagger.made(record.id, tag, path.domain)
        if one.is_hearsay and path is not None:
            return False
        senders = {
            str(address).casefold() for address in (path, record.reverse_path) if address
        }
        return not one.sender or one.sender.casefold() in senders


def _outcome(one: FeedbackRecord, events: Sequence[SendingEvent] | None) -> PostedOutcome:
    if one.report.kind in {"none", "answer"}:
        return "ignored"
    if events is None:
        return "unknown"
    return "accepted" if events else "ignored"
