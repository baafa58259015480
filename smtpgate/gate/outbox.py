"""The outbox of a gate: its queue beside the journal, and its sender."""

from collections.abc import Mapping
from random import SystemRandom
from typing import Final

from smtpgate.config import Config
from smtpgate.core.notification.mail_text import mail_of_notification
from smtpgate.core.outbox.task import DestinationKind
from smtpgate.directory.list_carrier import ListCarrier
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.errors import OpenError
from smtpgate.gate.live import new_live_directory
from smtpgate.gate.notifications import new_webhooks
from smtpgate.gate.sinks import OnError
from smtpgate.gate.stores import Stores
from smtpgate.gate.upstream import TokensOf, new_upstream
from smtpgate.gate.upstream_switch import UpstreamSwitch
from smtpgate.journal.live import LiveJournal
from smtpgate.log import JsonLog
from smtpgate.outbox.mail import MailCarrier
from smtpgate.outbox.queue import TaskQueue
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import Carrier, Clock, DirectoryUnavailableError, EventSink, Upstream
from smtpgate.relay import RoutedUpstream
from smtpgate.tasks import Rhythm, TaskOwner
from smtpgate.webhooks.carrier import SnsFace

_DRAIN_S: Final = 1.0
_LOOK_S: Final = 0.5
# The upstream ends a delivery itself, so that none is cut off after the final dot.
_BESIDE_UPSTREAM_S: Final = 5.0


def mail_timeout_s(config: Config) -> float:
    """The time that an attempt by mail may take; the upstream ends it first."""
    return config.deadline_s + _BESIDE_UPSTREAM_S


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
        TaskQueue(
            journal.writer.run,
            journal.store,
            lambda: journal.number,
            keeps_recipients=config.journal.recipients,
        ),
        carriers,
        config.outbox,
        mail_timeout_s=mail_timeout_s(config),
        clock=clock,
        events=events,
        random=SystemRandom().random,
        on_error=on_error,
    )
    sender.queue.on_added = sender.wake
    return sender


def new_carriers(
    config: Config,
    upstream: Upstream,
    directory: LiveDirectory,
    sns: SnsFace | None,
    clock: Clock,
    log: JsonLog,
) -> Mapping[DestinationKind, Carrier]:
    """The carriers, by an upstream and a directory that others open and close."""
    mail = MailCarrier(
        upstream,
        directory,
        config.hostname,
        clock=clock,
        on_error=log.error,
        notification=mail_of_notification,
    )
    return {
        "mail": mail,
        "webhook": new_webhooks(config, directory.subscriptions, sns, clock),
        "list": ListCarrier(directory.store, config.hostname),
    }


class OwnPath:
    """The upstreams and the directory of a parent, whose workers have the others.

    One connection to each upstream, and a directory that is only asked for the key of the
    gate's own domain.
    """

    def __init__(
        self,
        config: Config,
        store: DirectoryStore,
        clock: Clock,
        events: EventSink,
        tokens: TokensOf,
    ) -> None:
        """Put it together; nothing is opened yet. Raises OpenError."""
        self._clock, self._tokens = clock, tokens
        self._tasks, self._looks = TaskOwner(), Rhythm()
        self._upstreams = (config.upstreams, config.routes)
        self._pool = self._new_pool(config)
        self._prepared: RoutedUpstream | None = None
        self.upstream = UpstreamSwitch(self._pool)
        self.directory = new_live_directory(config, store, clock, events=events)

    def _new_pool(self, config: Config) -> RoutedUpstream:
        share = {"max_connections": 1, "max_connections_per_account": 1}
        upstreams = tuple(one.model_copy(update=share) for one in config.upstreams)
        own = config.model_copy(update={"upstreams": upstreams})
        return new_upstream(own, self._clock, self._tasks, tokens=self._tokens)

    def prepare(self, config: Config) -> None:
        """Make the upstreams of another configuration; nothing changes. Raises OpenError."""
        is_other = (config.upstreams, config.routes) != self._upstreams
        self._prepared = self._new_pool(config) if is_other else None

    def use(self, config: Config) -> None:
        """Use the upstreams of the configuration that was prepared.

        Those before are closed when their deliveries have ended.
        """
        if self._prepared is None:
            return
        self._upstreams = (config.upstreams, config.routes)
        before, self._pool, self._prepared = self._pool, self._prepared, None
        self.upstream.newest = self._pool
        _ = self._tasks.start(self._retire(before), name="retire")

    async def _retire(self, pool: RoutedUpstream) -> None:
        while self.upstream.is_using(pool) and await self._looks.goes_on(_LOOK_S):
            pass
        await pool.close()

    async def open(self) -> None:
        """Follow the directory. Raises OpenError."""
        try:
            await self.directory.start()
        except DirectoryUnavailableError as error:
            raise OpenError(f"directory: {error}") from None

    async def close(self) -> None:
        """Close both."""
        self._looks.end()
        await self._pool.close()
        await self.directory.stop()
        _ = await self._tasks.drain(_DRAIN_S)
