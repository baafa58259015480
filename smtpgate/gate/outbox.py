"""The outbox of a gate: its queue beside the journal, and its sender."""

from collections.abc import Mapping
from random import SystemRandom

from smtpgate.config import Config
from smtpgate.core.outbox.task import DestinationKind
from smtpgate.gate.sinks import OnError
from smtpgate.gate.stores import Stores
from smtpgate.journal.live import LiveJournal
from smtpgate.outbox.queue import TaskQueue
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import Carrier, Clock, EventSink


def new_outbox(
    config: Config,
    stores: Stores,
    carriers: Mapping[DestinationKind, Carrier],
    clock: Clock,
    events: EventSink,
    on_error: OnError,
) -> OutboxSender | None:
    """The sender of the outbox, or ``None`` if the configuration has no outbox."""
    journal = stores.journal
    if not config.has_outbox or not isinstance(journal, LiveJournal):
        return None
    sender = OutboxSender(
        TaskQueue(journal.writer.run, lambda: journal.number),
        carriers,
        config.outbox,
        clock=clock,
        events=events,
        random=SystemRandom().random,
        on_error=on_error,
    )
    sender.queue.on_added = sender.wake
    return sender
