"""The service of SMTP in one process: listeners, and all that a message passes."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Set
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from smtpgate.admission import Admission
from smtpgate.api.notes import CallCounted, DoubtNoted, KeyUsed
from smtpgate.banning import BanList
from smtpgate.config import Config
from smtpgate.control import Routes
from smtpgate.core.limits.bans import ClientFailed
from smtpgate.core.limits.sums import LocalSums, Sums
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.routing.notes import RecipientLimitSeen, UpstreamFailed
from smtpgate.directory.event_settings import DirectorySubscribers
from smtpgate.directory.feed import Changes
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppressing import DirectoryLists
from smtpgate.gate import bans, load, traces
from smtpgate.gate.api import ApiServers
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.errors import OpenError
from smtpgate.gate.feedback import open_tagger
from smtpgate.gate.frames import PeerNote
from smtpgate.gate.issuers import OpenTokenLogins, new_token_logins
from smtpgate.gate.journal import JournalQuestions
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.live import new_live_directory, new_loader
from smtpgate.gate.memory import FreedMemory, trimmer
from smtpgate.gate.peers import WorkerPeers
from smtpgate.gate.service_log import ServiceLog
from smtpgate.gate.settings import admission_rules, ban_rules, pipeline_rules
from smtpgate.gate.sinks import Sinks, run_all
from smtpgate.gate.upstream import TokensOf, new_upstream
from smtpgate.http import Readiness
from smtpgate.log import JsonLog
from smtpgate.metrics.scraped import Scrape
from smtpgate.pacing import Pacer
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink, Ledger, Store
from smtpgate.publishing import EventPublisher
from smtpgate.random_octets import RandomOctets
from smtpgate.relay import RoutedUpstream
from smtpgate.smtp.credentials import Authenticator
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.listener import Listener
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.smtp.sockets import Sockets, most_sockets
from smtpgate.smtp.watch import SessionWatch
from smtpgate.spool import Spool
from smtpgate.tasks import LoopTurns, Offload, TaskOwner, Threads
from smtpgate.tracing import Tracer
from smtpgate.withholding import Withholding

_RECHECK_S: Final = 30
_LAST_WORK_S: Final = 5
# With sockets that the next gate has too, a client that has just connected has so long.
_FIRST_MESSAGE_S: Final = 5.0
# Seconds of a message beside the upstream's deadline_s and the wait for its rate.
_BESIDE_UPSTREAM_S: Final = 15


_random: Final = RandomOctets()


def _new_message_id(at: datetime) -> str:
    return message_id(at, _random.take(RANDOM_OCTETS))


def _new_session_id() -> str:
    return _random.take(6).hex()


def time_to_finish_s(config: Config) -> float:
    """The time that a complete message may take: its rate, the upstream, and the rest."""
    return config.deadline_s + config.limits.max_wait_s + _BESIDE_UPSTREAM_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The sums of the host's bounds, which several processes may share."""

    connections: Sums
    octets: Sums

    @classmethod
    def of_one_process(cls) -> "Bounds":
        """The bounds of a gate that is one process."""
        return cls(connections=LocalSums(), octets=LocalSums())


class ServiceStores(Protocol):
    """The stores as a service uses them: its own, or those of its parent."""

    @property
    def of_messages(self) -> Store:
        """Counts messages, and records them."""

    @property
    def ledger_watch(self) -> Ledger:
        """Knows which quotas are full."""

    @property
    def journal(self) -> EventSink:
        """Records what was refused before a message."""

    def show(self, metrics: Scrape, readiness: Readiness) -> None:
        """Show their state at ``/metrics`` and ``/readyz``."""

    async def start(self) -> None:
        """Open them. Raises OpenError."""

    async def stop(self) -> None:
        """Close them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The parts that a service uses and others own: its process, or the parent of that.

    ``sinks`` are the log and the metrics, ``uses`` are the sink of logins. ``routes`` has the
    handlers of the control socket in this process. ``tokens`` gives an upstream's access
    tokens. ``peers`` are ``None`` without other workers.
    """

    clock: Clock
    log: JsonLog
    metrics: Scrape
    sinks: EventSink
    uses: EventSink
    readiness: Readiness
    certificates: Certificates
    stores: ServiceStores
    bounds: Bounds
    routes: Routes
    tokens: TokensOf
    peers: WorkerPeers | None = None


class SmtpService:
    """Takes connections, and carries their messages to the upstream."""

    def __init__(
        self,
        config: Config,
        store: DirectoryStore,
        sockets: ListeningSockets,
        around: Surroundings,
    ) -> None:
        """Put everything together; nothing is opened yet. Raises OpenError."""
        self.config = config
        self.around = around
        self._is_restart_gentle = any(
            f"listener.{listener.name}" in sockets.inherited for listener in config.listeners
        )
        self._clock, self._log = around.clock, around.log
        self._notes = ServiceLog(around.log, config.gate.state_dir)
        self._rechecks = TaskOwner()
        self.tasks, self.sessions = TaskOwner(), TaskOwner()
        self.directory = new_live_directory(
            config, store, self._clock, self._note_changes, around.sinks
        )
        self.bans = self._ban_list()
        journal = around.stores.journal
        self._events = Sinks(
            around.sinks, around.uses, journal, self.bans, on_error=self._log.error
        )
        self.spool = Spool(config.gate.state_dir, self._notes.note_storage)
        freed = FreedMemory(self.tasks, trimmer())
        self._open_files = LocalSums()  # of messages that come in, over all reloads
        self.client_sockets = Sockets(
            most_sockets(config.gate.reserved_descriptors), freed.connection_closed
        )
        self.watch = SessionWatch(
            directory=self.directory,
            clock=self._clock,
            events=self._events,
            tasks=self.tasks,
            on_error=self._log.error,
        )
        self.admission = self._admission()
        self.tracer, self._turns = Tracer(self._clock.now), LoopTurns(self._clock.monotonic)
        threads = Threads("message", min(4, os.cpu_count() or 1))
        self._offload = Offload(self._turns, threads)
        self._questions = JournalQuestions(config)
        self.upstream, self.pacer = self._new_upstream(), self._new_pacer()
        self.token_logins = self._new_token_logins()
        self._put_together(sockets)
        self._answer_parts(around.routes)
        self._set_up_apis(store, sockets)
        self._show()

    def _answer_parts(self, routes: Routes) -> None:
        """Answer the part of this process in requests of the control socket.

        After a reload the newest service does: handlers refer to its listeners.
        """
        bans.answer_part(routes, self.bans)
        traces.answer_part(routes, self.tracer, self.listeners.values)
        load.answer_part(routes, self.listeners.values)

    def _put_together(self, sources: ListeningSockets | Mapping[str, Listener]) -> None:
        """Make the parts that change with any change of the configuration. Raises OpenError."""
        self.is_draining = False
        self._pipeline = self._new_pipeline()
        self.listeners = self._listeners(sources)

    def _new_upstream(self) -> RoutedUpstream:
        peers, notes = self.around.peers, self._notes
        return new_upstream(
            self.config,
            self._clock,
            self.tasks,
            on_limit=notes.note_limit,
            tokens=self.around.tokens,
            on_state=notes.note_state,
            tell_peers=None if peers is None else peers.tell,
            on_files=notes.note_files,
        )

    def _new_token_logins(
        self, before: OpenTokenLogins | None = None
    ) -> OpenTokenLogins | None:
        on_keys = self._notes.note_issuer
        return new_token_logins(self.config, self._clock, self.tasks, on_keys, before)

    def _new_pacer(self) -> Pacer:
        return Pacer(max_wait_s=self.config.limits.max_wait_s)

    # -- another configuration -----------------------------------------------------------------

    def with_config(self, config: Config, certificates: Certificates) -> "SmtpService":
        """The service with another configuration, which may take over from this one.

        It has the same sockets, directory, stores and memory of refusals, and the same
        connections to upstreams if nothing of them has changed. Nothing changes until it takes
        over. Raises OpenError.
        """
        other, before = copy(self), self.config
        other.config = config
        other.around = replace(self.around, certificates=certificates)
        if (config.upstreams, config.routes) != (before.upstreams, before.routes):
            other.upstream = other._new_upstream()
        if config.limits.max_wait_s != before.limits.max_wait_s:
            other.pacer = other._new_pacer()
        if (config.issuers, config.logins) != (before.issuers, before.logins):
            other.token_logins = other._new_token_logins(before=self.token_logins)
        sources = {f"listener.{name}": one for name, one in self.listeners.items()}
        other._put_together(sources)
        other._applications = self._api_servers.applications(
            config, other._pipeline, other.upstream
        )
        return other

    def take_over(self, before: "SmtpService") -> None:
        """Take the connections from now on, and the sessions after their transactions."""
        self.admission.use(admission_rules(self.config))
        self.bans.use(ban_rules(self.config), self.config.bans.trusted)
        reading = (self.config.default_limits, self.config.policy)
        if reading != (before.config.default_limits, before.config.policy):
            self.directory.use(new_loader(self.config, self.directory.store))
        for name, listener in self.listeners.items():
            before.listeners[name].hand_over(listener)
        answer_s = time_to_finish_s(self.config)
        self._api_servers.use(self.config, self._applications, answer_s)
        self.around.readiness.add("listeners", self._check_listeners)
        self._answer_parts(self.around.routes)
        if self.upstream is not before.upstream:
            for name in before.upstream.checks():
                self.around.readiness.remove(name)
            self._show_upstream()
            self.upstream.start()
        if self.token_logins is not before.token_logins:
            if before.token_logins is not None:  # its issuers may be the next one's too
                self.around.metrics.forget(before.token_logins.readings)
            if self.token_logins is not None:
                self.around.metrics.watch(self.token_logins.readings)
                self.token_logins.start()
        if self.pacer is not before.pacer:
            self.around.metrics.watch(self.pacer.readings)

    @property
    def is_in_use(self) -> bool:
        """True while something that began with this configuration goes on."""
        return (
            self._pipeline.in_flight > 0
            or any(one.has_sessions_of_its_own for one in self.listeners.values())
            or self._api_servers.is_answering(self._applications)
        )

    async def retire(self, others: Collection["SmtpService"]) -> None:
        """Close what nothing uses any more, and none of the other services."""
        metrics = self.around.metrics
        # The directory refers to the first service, and each listener to its successor: by them
        # no service would ever be free.
        self.listeners = {}
        if all(one.pacer is not self.pacer for one in others):
            self.pacer.release()
            metrics.forget(self.pacer.readings)
        tokens = self.token_logins
        if tokens is not None and all(one.token_logins is not tokens for one in others):
            tokens.close([one.token_logins for one in others if one.token_logins])
        if all(one.upstream is not self.upstream for one in others):
            await self.upstream.close()
            metrics.forget(self.upstream.readings)

    def _show(self) -> None:
        readiness, metrics = self.around.readiness, self.around.metrics
        readiness.add("listeners", self._check_listeners)
        readiness.add("directory", self._check_directory)
        for part in (self.directory, self.pacer, self.spool):
            metrics.watch(part.readings)
        if self.token_logins is not None:
            metrics.watch(self.token_logins.readings)
        self._show_upstream()

    def _show_upstream(self) -> None:
        for name, check in self.upstream.checks().items():
            self.around.readiness.add(name, check)
        self.around.metrics.watch(self.upstream.readings)

    def _ban_list(self) -> BanList:
        peers = self.around.peers
        return BanList(
            ban_rules(self.config),
            self.config.bans.trusted,
            clock=self._clock,
            events=self.around.sinks,
            tell_peers=None if peers is None else peers.tell,
        )

    def _admission(self) -> Admission:
        peers = self.around.peers
        return Admission(
            admission_rules(self.config),
            directory=self.directory,
            ledger=self.around.stores.ledger_watch,
            events=self._events,
            clock=self._clock,
            new_message_id=_new_message_id,
            on_error=self._log.error,
            tell_peers=None if peers is None else peers.tell,
        )

    def _new_pipeline(self) -> Pipeline:
        publisher = self._publisher()
        return Pipeline(
            pipeline_rules(self.config),
            directory=self.directory,
            store=self.around.stores.of_messages,
            pacer=self.pacer,
            upstream=self.upstream,
            routes=self.upstream.routes,
            admission=self.admission,
            publisher=publisher,
            withholding=Withholding(
                DirectoryLists(self.directory), publisher, self.config.simulator.host
            ),
            tagger=open_tagger(self.config),
            events=self._events,
            clock=self._clock,
            offload=self._offload,
            on_error=self._log.error,
        )

    def _publisher(self) -> EventPublisher | None:
        if not self.config.has_outbox:
            return None
        return EventPublisher(DirectorySubscribers(self.directory), self.config.hostname)

    def _set_up_apis(self, store: DirectoryStore, sockets: ListeningSockets) -> None:
        self._api_servers = ApiServers(
            self.config,
            store,
            sockets,
            self.around.certificates.of,
            directory=self.directory,
            ledger=self.around.stores.ledger_watch,
            journal=self._questions.reader,
            pipeline=self._pipeline,
            admission=self.admission,
            upstream=self.upstream,
            events=self._events,
            clock=self._clock,
            peers=self.around.peers,
            new_message_id=_new_message_id,
            on_error=self._log.error,
            answer_s=time_to_finish_s(self.config),
        )
        self.apis = self._api_servers.servers
        self._applications = self._api_servers.first

    def _intake(self) -> Intake:
        gate = self.config.gate
        return Intake(
            gate.max_inflight_octets,
            share=gate.max_inflight_share,
            reserve=gate.reserve_for_small_messages,
            spool_octets=self.config.message.spool_octets,
            spool_limit=gate.max_spooled_octets,
            max_files=gate.reserved_descriptors // 2,
            sums=self.around.bounds.octets,
            open_files=self._open_files,
        )

    def _listeners(
        self, sources: ListeningSockets | Mapping[str, Listener]
    ) -> dict[str, Listener]:
        gate, bounds, intake = self.config.gate, self.around.bounds, self._intake()
        authenticator = Authenticator(
            self.directory, gate.region, self._clock, self.token_logins
        )
        return {
            listener.name: Listener(
                SessionParts(
                    config=listener,
                    hostname=self.config.hostname,
                    max_message_octets=gate.max_message_octets,
                    max_recipients=gate.max_recipients,
                    normalize_bare_lf=self.config.message.bare_lf == "normalize",
                    can_report=self.config.has_outbox,
                    spool=self.spool,
                    tls=self.around.certificates.of.get(listener.name),
                    admission=self.admission,
                    pipeline=self._pipeline,
                    upstreams=self.upstream,
                    authenticator=authenticator,
                    watch=self.watch,
                    bans=self.bans,
                    events=self._events,
                    clock=self._clock,
                    tasks=self.sessions,
                    offload=self._offload,
                    turns=self._turns,
                    intake=intake,
                    on_error=self._log.error,
                    new_message_id=_new_message_id,
                    new_session_id=_new_session_id,
                    tracer=self.tracer,
                ),
                self.client_sockets,
                sources[f"listener.{listener.name}"],
                bounds.connections,
            )
            for listener in self.config.listeners
        }

    def _check_directory(self) -> tuple[bool, str]:
        """Not ready while the database does not answer: mail may be deferred then."""
        problem = self.directory.problem
        return problem is None, problem or "open"

    def _check_listeners(self) -> tuple[bool, str]:
        return not self.is_draining, "draining" if self.is_draining else "open"

    # -- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Follow the directory. Raises OpenError."""
        try:
            await self.directory.start()
        except DirectoryUnavailableError as error:
            raise OpenError(f"directory: {error}") from None

    async def listen(self) -> None:
        """Take connections."""
        self.upstream.start()
        if self.token_logins is not None:
            self.token_logins.start()
        for listener in self.listeners.values():
            listener.start()
        for api in self.apis.values():
            await api.start()

    async def drain(self, drain_s: float, finish_s: float) -> int:
        """Take no more connections, send 421 to idle sessions, finish running transactions.

        After ``drain_s`` those whose message is not complete are cut short; complete ones get
        ``finish_s``. Returns how many were cut short.
        """
        self.is_draining = True
        listeners = self.listeners.values()
        self.pacer.release()
        if self._is_restart_gentle:
            await self._close_gently(min(drain_s, _FIRST_MESSAGE_S))
        await run_all([one.close for one in listeners], self._log.error)
        await run_all([one.stop for one in self.apis.values()], self._log.error)
        await self.sessions.finish(drain_s)
        cut = sum(one.cut_off() for one in listeners)
        return cut + await self.sessions.drain(finish_s)

    async def _close_gently(self, first_s: float) -> None:
        """Let clients that have just connected send a message: the next gate has the others."""
        listeners = self.listeners.values()
        loop = asyncio.get_running_loop()
        until = loop.time() + first_s
        for one in listeners:
            one.close_gently()
        for one in listeners:
            await one.finish_opening(max(0.0, until - loop.time()))
        _ = await self.sessions.finish(max(0.0, until - loop.time()))

    async def close(self) -> None:
        """Close what a drain has left."""
        steps: tuple[Callable[[], object], ...] = (
            *(one.abort for one in self.listeners.values()),
            self.upstream.close,
            *(() if self.token_logins is None else (self.token_logins.close,)),
            self._questions.close,
            partial(self._rechecks.drain, _LAST_WORK_S),
            self.directory.stop,
            partial(self.tasks.drain, 1),
        )
        await run_all(steps, self._log.error)

    def take(self, note: PeerNote) -> None:
        """Take a note of another worker."""
        if isinstance(note, CallCounted | KeyUsed | DoubtNoted):
            self._api_servers.take(note)
        elif isinstance(note, ClientFailed):
            self.bans.take(note)
        elif isinstance(note, UpstreamFailed | RecipientLimitSeen):
            self.upstream.take(note)
        else:
            self.admission.take(note)

    # -- changes of the directory --------------------------------------------------------------

    async def catch_up(self) -> None:
        """Obey all changes that were committed so far. Raises DirectoryUnavailableError."""
        await self.directory.catch_up()
        await self._rechecks.drain(_RECHECK_S)

    def _note_changes(self, changes: Changes) -> None:
        """Recheck the sessions of changed access keys and accounts."""
        keys = {one.name for one in changes.subjects if one.kind == "key"}
        accounts = {one.account_id for one in changes.subjects if one.kind == "account"}
        if changes.everything:
            keys |= self.watch.keys
        _ = self._rechecks.start(self.directory_changed(keys, accounts), name="recheck")

    async def directory_changed(self, keys: Set[str], accounts: Set[str]) -> None:
        """End the sessions of those access keys and accounts that may no longer send.

        Call it after the directory has read the change.
        """
        await self.watch.recheck(keys, accounts)
