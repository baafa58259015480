"""One gate: all its parts put together, started, reloaded, drained and stopped."""

import inspect
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime
from functools import partial
from typing import Any, Final

from smtpgate.admission import Admission
from smtpgate.config import Config
from smtpgate.core.events import Event
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.directory.feed import Changes
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.uses import KeyUses
from smtpgate.gate.directory import prepare_directory
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import new_journal, start_journal
from smtpgate.gate.ledger import new_ledger
from smtpgate.gate.listen import ListeningSockets, server_tls, shortage_of_files
from smtpgate.gate.live import new_live_directory
from smtpgate.gate.memory import FreedMemory, trimmer
from smtpgate.gate.settings import admission_rules, pipeline_rules
from smtpgate.gate.upstream import new_upstream
from smtpgate.gate.verification import new_verification_worker
from smtpgate.http import HttpServer, Readiness
from smtpgate.ledger.watch import LedgerWatch
from smtpgate.log import JsonLog
from smtpgate.metrics import Metrics
from smtpgate.pacing import Pacer
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink, Reading
from smtpgate.smtp.credentials import Authenticator
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.listener import Listener
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.smtp.sockets import Sockets, most_sockets
from smtpgate.smtp.watch import SessionWatch
from smtpgate.spool import Spool
from smtpgate.store.separate import SeparateStores
from smtpgate.tasks import Offload, TaskOwner

_RECHECK_S: Final = 30
_LAST_WORK_S: Final = 5
# Seconds of a message beside the upstream's deadline_s and the wait for its rate.
_BESIDE_UPSTREAM_S: Final = 15


class _Events:
    """Passes each event to every sink, in order; an error of one does not reach the others."""

    def __init__(self, *sinks: EventSink, on_error: Callable[[BaseException], None]) -> None:
        self._sinks = sinks
        self._on_error = on_error

    def publish(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.publish(event)
            except Exception as error:  # noqa: BLE001 - it must not change a verdict
                self._on_error(error)


async def _run_all(
    steps: Iterable[Callable[[], object]], on_error: Callable[[BaseException], None]
) -> None:
    """Run each step to its end; an error of one is reported and does not stop the others."""
    for step in steps:
        try:
            done = step()
            if inspect.isawaitable(done):
                await done
        except Exception as error:  # noqa: BLE001 - the other parts must be closed too
            on_error(error)


def _new_message_id(at: datetime) -> str:
    return message_id(at, os.urandom(RANDOM_OCTETS))


def _new_session_id() -> str:
    return os.urandom(6).hex()


class Gate:
    """One running gate."""

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
        self.tls = server_tls(config)
        self.metrics = self._metrics()
        self.tasks = TaskOwner()
        self._for_life, self._rechecks = TaskOwner(), TaskOwner()
        self.is_draining = False
        self._drift = 0
        self.readiness = self._readiness()
        sinks = _Events(self.log, self.metrics, on_error=self.log.error)
        self.directory = new_live_directory(
            config, store, self.clock, self._note_changes, sinks
        )
        self.metrics.watch(lambda: [Reading("smtpgate_directory_drift", self._drift)])
        self.uses = KeyUses(store, on_error=self.log.error)
        self.journal = new_journal(config, self.clock, sinks, self.log.error)
        self.readiness.add("journal", self.journal.check)
        events = _Events(sinks, self.uses, self.journal, on_error=self.log.error)
        self.verification = new_verification_worker(
            config, store, self.clock, events=events, on_error=self.log.error
        )
        self.upstream = new_upstream(config, self.clock, self.tasks, self._note_limit)
        self.ledger = new_ledger(config)
        self.ledger_watch = self._watched_ledger(sinks)
        self.message_store = SeparateStores(
            self.ledger_watch, self.journal, on_error=self.log.error
        )
        self.pacer = Pacer(max_wait_s=config.limits.max_wait_s)
        self.spool = Spool(config.gate.state_dir, self._note_storage)
        for part in (self.directory, self.journal, self.upstream, self.pacer, self.spool):
            self.metrics.watch(part.readings)
        self.sessions = TaskOwner()
        freed = FreedMemory(self.tasks, trimmer())
        self.client_sockets = Sockets(
            most_sockets(config.gate.reserved_descriptors), freed.connection_closed
        )
        self.watch = self._watch(events)
        self.listeners = self._listeners(events, sockets)
        self.http = self._http(sockets["http"]) if config.http.enabled else None

    def _readiness(self) -> Readiness:
        readiness = Readiness(self.log.error)
        readiness.add("listeners", self._check_listeners)
        readiness.add("directory", self._check_directory)
        readiness.add("log", self.log.check)
        return readiness

    def _metrics(self) -> Metrics:
        metrics = Metrics(
            self.config.metrics,
            clock=self.clock,
            listeners=[listener.name for listener in self.config.listeners],
        )
        for certificate in self.tls.values():
            metrics.watch(certificate.readings)
        metrics.watch(self.log.readings)
        return metrics

    def _watched_ledger(self, events: EventSink) -> LedgerWatch:
        watch = LedgerWatch(
            self.ledger, clock=self.clock, events=events, on_error=self.log.error
        )
        self.metrics.watch(watch.readings)
        self.readiness.add("ledger", self._check_ledger)
        return watch

    def _admission(self, events: EventSink) -> Admission:
        return Admission(
            admission_rules(self.config),
            directory=self.directory,
            ledger=self.ledger_watch,
            events=events,
            clock=self.clock,
            new_message_id=_new_message_id,
            on_error=self.log.error,
        )

    def _pipeline(self, admission: Admission, events: EventSink, offload: Offload) -> Pipeline:
        return Pipeline(
            pipeline_rules(self.config),
            directory=self.directory,
            store=self.message_store,
            pacer=self.pacer,
            upstream=self.upstream,
            admission=admission,
            events=events,
            clock=self.clock,
            offload=offload,
            on_error=self.log.error,
        )

    def _listeners(self, events: EventSink, sockets: ListeningSockets) -> dict[str, Listener]:
        gate, offload, admission = self.config.gate, Offload(), self._admission(events)
        pipeline = self._pipeline(admission, events, offload)
        authenticator = Authenticator(self.directory, gate.region, self.clock)
        intake = Intake(
            gate.max_inflight_octets,
            share=gate.max_inflight_share,
            reserve=gate.reserve_for_small_messages,
            spool_octets=self.config.message.spool_octets,
            spool_limit=gate.max_spooled_octets,
            max_files=gate.reserved_descriptors // 2,
        )
        return {
            listener.name: Listener(
                SessionParts(
                    config=listener,
                    hostname=self.config.hostname,
                    max_message_octets=gate.max_message_octets,
                    max_recipients=gate.max_recipients,
                    normalize_bare_lf=self.config.message.bare_lf == "normalize",
                    spool=self.spool,
                    tls=self.tls.get(listener.name),
                    admission=admission,
                    pipeline=pipeline,
                    upstream=self.upstream,
                    authenticator=authenticator,
                    watch=self.watch,
                    events=events,
                    clock=self.clock,
                    tasks=self.sessions,
                    offload=offload,
                    intake=intake,
                    on_error=self.log.error,
                    new_message_id=_new_message_id,
                    new_session_id=_new_session_id,
                ),
                self.client_sockets,
                sockets[f"listener.{listener.name}"],
            )
            for listener in self.config.listeners
        }

    def _watch(self, events: EventSink) -> SessionWatch:
        return SessionWatch(
            directory=self.directory,
            clock=self.clock,
            events=events,
            tasks=self.tasks,
            on_error=self.log.error,
        )

    def _http(self, listening: socket.socket) -> HttpServer:
        return HttpServer(
            listening,
            metrics=self.metrics.render,
            is_ready=self.readiness.is_ready,
        )

    def _note_limit(self, connections: int, problem: str) -> None:
        """Log that the upstream refused a further connection; messages wait for the others."""
        upstream = self.upstream.name
        self.log.note(
            "warning",
            "upstream-limit",
            upstream=upstream,
            connections=connections,
            problem=problem,
        )

    def _note_storage(self, problem: str | None) -> None:
        """Log that large messages cannot be written to files, or can be again."""
        folder = str(self.config.gate.state_dir)
        if problem is None:
            self.log.note("info", "storage usable", folder=folder)
        else:
            self.log.note("error", "storage unusable", folder=folder, problem=problem)

    def _check_directory(self) -> tuple[bool, str]:
        """Not ready while the database does not answer: mail may be deferred then."""
        problem = self.directory.problem
        return problem is None, problem or "open"

    def _check_ledger(self) -> tuple[bool, str]:
        """Not ready while the ledger cannot count, unless mail passes uncounted then."""
        counts, text = self.ledger_watch.state()
        return counts or self.config.limits.on_store_failure == "allow", text

    def _check_listeners(self) -> tuple[bool, str]:
        return not self.is_draining, "draining" if self.is_draining else "open"

    async def start(self, when_open: Callable[[], object] = lambda: None) -> None:
        """Open the stores, apply the documents, call ``when_open``, and take connections.

        Everything is opened before anything is applied, since other hosts may share the
        directory. Raises OpenError or DirectoryError, and nothing of the directory has been
        changed then.
        """
        self._warn_of_certificates()
        if (shortage := shortage_of_files(self.config)) is not None:
            self.log.note("warning", "open files", problem=shortage)
        await self.ledger_watch.look()
        self._must_have_fit_ledger()
        await start_journal(self.journal)
        await prepare_directory(self.store, registers=self.config.directory.apply is None)
        await self._apply(apply_here)
        try:
            await self.directory.start()
        except DirectoryUnavailableError as error:
            raise OpenError(f"directory: {error}") from None
        when_open()
        self.metrics.pauses.start()
        for listener in self.listeners.values():
            listener.start()
        if self.http is not None:
            await self.http.start()
        _ = self._for_life.start(self.ledger_watch.run(), name="ledger watch")
        _ = self._for_life.start(self.uses.run(), name="key uses")
        if self.config.directory.recheck:
            _ = self._for_life.start(self.verification.run(), name="verification")
        self.log.note(
            "info",
            "started",
            listeners={name: listener.port for name, listener in self.listeners.items()},
        )

    def _must_have_fit_ledger(self) -> None:
        if self.ledger_watch.is_unfit:
            raise OpenError(f"ledger: {self.ledger_watch.problem}")

    async def stop(self, drain_s: float | None = None, finish_s: float | None = None) -> None:
        """Drain: no new connections, 421 to idle sessions, running transactions finish.

        After ``drain_s`` those whose message is not complete are cut short; complete ones get
        ``finish_s``, by default as long as its rate and the upstream may take.
        """
        if self.is_draining:
            return
        self.is_draining = True
        config = self.config
        drain_s = config.gate.drain_s if drain_s is None else drain_s
        if finish_s is None:
            finish_s = config.sole_upstream.deadline_s + config.limits.max_wait_s
            finish_s += _BESIDE_UPSTREAM_S
        listeners = self.listeners.values()
        self.pacer.release()
        await _run_all([one.close for one in listeners], self.log.error)
        await self.sessions.finish(drain_s)
        cut = sum(one.cut_off() for one in listeners)
        cut += await self.sessions.drain(finish_s)
        steps = (
            *(one.abort for one in listeners),
            self.upstream.close,
            self.uses.stop,
            self.verification.stop,
            self.ledger_watch.stop,
            *(partial(one.drain, _LAST_WORK_S) for one in (self._rechecks, self._for_life)),
            self.directory.stop,
            partial(self.tasks.drain, 1),
            self.ledger.close,
            self.journal.stop,
            *(() if self.http is None else (self.http.stop,)),
            self.metrics.pauses.stop,
        )
        await _run_all(steps, self.log.error)
        self.log.note("warning" if cut else "info", "stopped", transactions_cut_off=cut)
        await self.log.close()

    def log_warnings(self, warnings: Iterable[str]) -> None:
        """Log warnings about the directory's files, one a line."""
        for warning in warnings:
            self.log.note("warning", "directory", problem=warning)

    def log_stray_error(self, context: Mapping[str, Any]) -> None:
        """Log an error outside any task, such as in a callback of the event loop."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.log.error(error)
        else:
            self.log.note("error", "event loop", problem=str(context.get("message", "")))

    def _warn_of_certificates(self) -> None:
        """Log why clients refuse a certificate, or will soon."""
        for tls in self.tls.values():
            for warning in tls.warnings(self.config.hostname, self.clock.now()):
                self.log.note("warning", "certificate", problem=warning)

    def reload_certificates(self) -> None:
        """Load the certificates again; the old one stays where the files cannot be read."""
        for name, tls in self.tls.items():
            try:
                tls.reload()
            except OSError as error:
                self.log.note("error", "certificate not loaded", problem=str(error))
            else:
                ends = tls.not_after
                self.log.note("info", "certificate loaded", listener=name, not_after=ends)
        self._warn_of_certificates()

    async def reload(self, apply: Apply = apply_here) -> None:
        """Load the certificates again, and ``apply`` what the documents changed.

        Whatever cannot be read stays as it is, and is logged.
        """
        self.reload_certificates()
        try:
            await self._apply(apply)
            await self.directory.catch_up()
            await self._rechecks.drain(_RECHECK_S)
        except Exception as error:  # noqa: BLE001 - logged; the directory stays as it is
            self.log.note("error", "directory not applied", problem=str(error))

    async def _apply(self, apply: Apply) -> None:
        if self.config.directory.apply is None:
            return
        applied = await apply(self.config, self.store)
        self._drift = applied.drift
        self.log_warnings(applied.warnings)
        for what, how in applied.differences:
            self.log.note("warning", "directory drift", object=what, problem=how)
        self.log.note("info", "directory applied", steps=applied.steps, drift=applied.drift)

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
