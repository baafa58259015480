"""Events that come after the verdict on a message: kept, and passed on to their destinations.

Reports of bounces and complaints, records of mail servers and the mailbox simulator all end
here. Events that follow at once from a verdict are in its transaction (see publishing.py).
"""

from collections.abc import Awaitable, Callable, Collection, Sequence

from smtpgate.core.events import EventsRecorded
from smtpgate.core.history.record import Record
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.ports import EventSink, Outbox, Subscribers

FindRecipients = Callable[[Record, Collection[str]], Awaitable[Record]]
"""A record with those of the addresses that it proves, if it keeps no recipients."""


class EventRecorder:
    """Keeps events with the tasks that follow from them, in one transaction."""

    def __init__(self, subscribers: Subscribers, outbox: Outbox, events: EventSink) -> None:
        self._subscribers = subscribers
        self._outbox = outbox
        self._events = events

    async def record(self, events: Sequence[SendingEvent]) -> tuple[SendingEvent, ...]:
        """Keep events, with or without destinations; those that were not known before.

        An event that is known already is ignored. Raises DirectoryUnavailableError or
        JournalUnavailableError, and perhaps they are kept then; the same call again is safe.
        """
        if not events:
            return ()
        whole = [await self._with_set(event) for event in events]
        tasks = [
            Task(event, to)
            for event in whole
            for to in await self._subscribers.destinations(event)
        ]
        added = await self._outbox.add(tasks, whole)
        new = {event.id: event for event in whole if event.id in added.events}
        if new:
            self._events.publish(EventsRecorded(tuple(new.values())))
        return tuple(new.values())

    async def _with_set(self, event: SendingEvent) -> SendingEvent:
        """The event with the configuration set that its message had by default."""
        mail = event.mail
        if mail.configuration_set:
            return event
        name = await self._subscribers.default_set(mail.account_id, mail.identity)
        return event.with_set(name) if name else event
