"""One gate in one process: all its parts put together, started, reloaded, drained, stopped."""

import asyncio
from collections.abc import Callable, Iterator, Set

from smtpgate.config import Config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.crew import no_restarts
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.host import Host
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.outbox import new_carriers
from smtpgate.gate.service import Bounds, SmtpService, Surroundings, time_to_finish_s
from smtpgate.log import JsonLog
from smtpgate.ports import Clock, Reading


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
        self.service = service = SmtpService(
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
            ),
        )
        self.directory, self.watch = service.directory, service.watch
        self.spool = service.spool
        self.upstream, self.pacer = service.upstream, service.pacer
        self.listeners, self.client_sockets = service.listeners, service.client_sockets
        self.sessions, self.tasks = service.sessions, service.tasks
        host.carry(new_carriers(config, self.upstream, self.directory, host.sns, clock, log))
        if config.feedback.enabled:
            host.take_feedback(sockets["feedback"], self.upstream, self.directory)
        host.take_records(self.directory)
        host.take_reloads(self.reload)
        self.http = host.serve_http(sockets["http"]) if config.http.enabled else None
        self.metrics.watch(self._readings)
        self.failed = asyncio.Event()  # never set: what fails here ends the process

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
        cut = await self.service.drain(
            self.config.gate.drain_s if drain_s is None else drain_s,
            time_to_finish_s(self.config) if finish_s is None else finish_s,
        )
        await self.host.stop_deliveries()
        await self.service.close()
        await self.host.stop(cut)

    async def reload(self, apply: Apply = apply_here) -> list[str]:
        """Load the certificates again, and ``apply`` what the documents changed.

        Whatever cannot be read stays as it is, and is logged; the problems, a text each.
        """

        async def then() -> list[str]:
            await self.service.catch_up()
            return []

        return await self.host.reload(apply, then)

    async def directory_changed(self, keys: Set[str], accounts: Set[str]) -> None:
        """End the sessions of those access keys and accounts that may no longer send.

        Call it after the directory has read the change.
        """
        await self.service.directory_changed(keys, accounts)
