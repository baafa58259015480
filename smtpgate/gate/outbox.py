"""The outbox of a gate: its queue beside the journal, and its sender."""

from collections.abc import Mapping, Sequence
from random import SystemRandom
from typing import Final

from smtpgate.config import Config
from smtpgate.core.notification.fan_out import destinations_of
from smtpgate.core.notification.settings import EventSettings
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Destination, DestinationKind
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.errors import OpenError
from smtpgate.gate.live import new_live_directory
from smtpgate.gate.sinks import OnError
from smtpgate.gate.stores import Stores
from smtpgate.gate.upstream import new_upstream
from smtpgate.journal.live import LiveJournal
from smtpgate.log import JsonLog
from smtpgate.outbox.mail import MailCarrier
from smtpgate.outbox.queue import TaskQueue
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import (
    Carrier,
    Clock,
    Directory,
    DirectoryUnavailableError,
    EventSink,
    Upstream,
)
from smtpgate.tasks import TaskOwner

_DRAIN_S: Final = 1.0


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


def new_mail_carrier(
    config: Config, upstream: Upstream, directory: Directory, clock: Clock, log: JsonLog
) -> Carrier:
    """The carrier of mail, by an upstream and a directory that others open and close."""
    return MailCarrier(upstream, directory, config.hostname, clock=clock, on_error=log.error)


class OwnPath:
    """The upstream and the directory of a parent, whose workers have the others.

    One connection, and a directory that is only asked for the key of the gate's own domain.
    """

    def __init__(
        self, config: Config, store: DirectoryStore, clock: Clock, events: EventSink
    ) -> None:
        """Put it together; nothing is opened yet. Raises OpenError."""
        upstream = config.sole_upstream
        share = {"max_connections": 1, "max_connections_per_account": 1}
        own = config.model_copy(update={"upstreams": (upstream.model_copy(update=share),)})
        self._tasks = TaskOwner()
        self.upstream = new_upstream(own, clock, self._tasks)
        self.directory = new_live_directory(config, store, clock, events=events)

    async def open(self) -> None:
        """Follow the directory. Raises OpenError."""
        try:
            await self.directory.start()
        except DirectoryUnavailableError as error:
            raise OpenError(f"directory: {error}") from None

    async def close(self) -> None:
        """Close both."""
        await self.upstream.close()
        await self.directory.stop()
        _ = await self._tasks.drain(_DRAIN_S)


class ReturnPaths:
    """Implements the Subscribers port without any settings: bounces go to the return path."""

    def want_sends(self, account_id: str, identity: str) -> bool:
        """Nobody asked for them."""
        return False

    async def destinations(self, event: SendingEvent) -> Sequence[Destination]:
        """The return path, of a bounce or complaint about a message that has one."""
        return destinations_of(event, EventSettings())
