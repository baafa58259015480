"""One gate in one process: all its parts put together, started, reloaded, drained, stopped."""

import asyncio
from collections.abc import Callable, Iterator, Sequence, Set

from smtpgate.config import Config
from smtpgate.control import ReloadAnswer
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.crew import no_restarts
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.host import Host
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.outbox import new_carriers
from smtpgate.gate.reloading import Reloader
from smtpgate.gate.service import Bounds, SmtpService, Surroundings, time_to_finish_s
from smtpgate.gate.succession import Succession
from smtpgate.gate.upstream_switch import UpstreamSwitch
from smtpgate.log import JsonLog
from smtpgate.pacing import Pacer
from smtpgate.ports import Clock, Reading
from smtpgate.relay import RoutedUpstream
from smtpgate.smtp.listener import Listener
from smtpgate.tasks import TaskOwner


class Gate:
    """A running gate that is one process: the work of the host, and SMTP."""

    def __init__(
        self,
        config: Config,
        store: DirectoryStore,
        sockets: ListeningSockets,
        log: JsonLog,
        clock: Clock,
    ) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.log = log
        self.host = host = Host(config, store, Certificates(config), log, clock)
        self.metrics, self.readiness = host.metrics, host.readiness
        self.journal, self.message_store = host.stores.journal, host.stores.of_messages
        self.ledger, self.ledger_watch = host.stores.ledger, host.stores.ledger_watch
        service = SmtpService(
            config,
            store,
            sockets,
            Surroundings(
                clock=clock,
                log=log,
                metrics=host.metrics,
                sinks=host.sinks,
                uses=host.uses,
                readiness=host.readiness,
                certificates=host.certificates,
                stores=host.stores,
                bounds=Bounds.of_one_process(),
                routes=host.routes,
                tokens=host.tokens.of,
            ),
        )
        self._own_upstream = upstream = UpstreamSwitch(service.upstream)
        self._succession = Succession(service, upstream.is_using)
        self.directory, self.watch = service.directory, service.watch
        self.spool, self.client_sockets = service.spool, service.client_sockets
        self.sessions, self.tasks = service.sessions, service.tasks
        host.carry(new_carriers(config, upstream, self.directory, host.sns, clock, log))
        if config.feedback.enabled:
            host.take_feedback(sockets["feedback"], upstream, self.directory)
        host.take_records(self.directory)
        self._reloader = Reloader(host, self, service.tasks)
        self._reloader.answer_requests(host.routes)
        self.http = host.serve_http(sockets["http"]) if config.http.enabled else None
        self.metrics.watch(self._readings)
        self._for_life = TaskOwner()
        self.failed = asyncio.Event()  # never set: what fails here ends the process

    @property
    def service(self) -> SmtpService:
        """The service that takes connections: that of the configuration in use."""
        return self._succession.current

    @property
    def listeners(self) -> dict[str, Listener]:
        """The listeners that take connections."""
        return self.service.listeners

    @property
    def upstream(self) -> RoutedUpstream:
        """The connections to the upstreams."""
        return self.service.upstream

    @property
    def pacer(self) -> Pacer:
        """The lines of messages that wait for their rate."""
        return self.service.pacer

    @property
    def is_draining(self) -> bool:
        """True once it takes no more connections."""
        return self.service.is_draining

    @property
    def is_answering(self) -> bool:
        """True while its event loop runs, and so whenever something asks."""
        return True

    def _readings(self) -> Iterator[Reading]:
        yield Reading("smtpgate_workers", 0 if self.is_draining else 1)
        yield from no_restarts()

    async def start(
        self, when_open: Callable[[], object] = lambda: None, apply: Apply = apply_here
    ) -> None:
        """Open the stores, ``apply`` the documents, call ``when_open``, and take connections.

        Raises OpenError or DirectoryError, and nothing of the directory has been changed then.
        """
        await self.host.open(apply)
        await self.service.open()
        when_open()
        self.metrics.pauses.start()
        await self.service.listen()
        await self.host.start()
        _ = self._for_life.start(self._reloader.watch_certificates(), name="certificates")
        self.log.note(
            "info",
            "started",
            listeners={name: listener.port for name, listener in self.listeners.items()},
        )

    async def stop(self, drain_s: float | None = None, finish_s: float | None = None) -> None:
        """Drain: no new connections, 421 to idle sessions, running transactions finish.

        After ``drain_s`` those whose message is not complete are cut short; complete ones get
        ``finish_s``, by default as long as its rate and the upstream may take.
        """
        if self.is_draining:
            return
        self._reloader.stop()
        self._succession.release()
        cut = await self.service.drain(
            self.host.config.gate.drain_s if drain_s is None else drain_s,
            time_to_finish_s(self.host.config) if finish_s is None else finish_s,
        )
        await self.host.stop_deliveries()
        await self._succession.close()
        await self.service.close()
        await self.host.stop(cut)

    async def reload(self, apply: Apply = apply_here) -> ReloadAnswer:
        """Load the configuration, the certificates and the documents again.

        Whatever cannot be used stays as it is, and is logged and answered.
        """
        return await self._reloader.reload(apply)

    # -- a reload, as the Reloader has it done -------------------------------------------------

    async def prepare(self, config: Config, certificates: Certificates) -> Sequence[str]:
        """Make the next service. Raises OpenError."""
        self.host.tokens.prepare(config)
        self._succession.prepare(config, certificates)
        return ()

    async def abandon(self) -> None:
        """Forget it."""
        self._succession.abandon()

    async def switch(self, config: Config, _certificates: Certificates) -> Sequence[str]:
        """Let it take over."""
        self.config = config
        self.host.tokens.use(config)
        self._succession.switch()
        self._own_upstream.newest = self.service.upstream
        return ()

    async def renew_certificates(self) -> Sequence[str]:
        """The service has those of the host."""
        return ()

    async def catch_up(self) -> Sequence[str]:
        """Obey what has changed in the directory."""
        await self.service.catch_up()
        return ()

    async def directory_changed(self, keys: Set[str], accounts: Set[str]) -> None:
        """End the sessions of those access keys and accounts that may no longer send.

        Call it after the directory has read the change.
        """
        await self.service.directory_changed(keys, accounts)
