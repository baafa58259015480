"""The work that a host has once: documents, verification, key uses, HTTP."""

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from smtpgate.banning import BanList
from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.control import ControlServer, OwnProcess, Peers, Routes
from smtpgate.core.limits.bans import ClientFailed
from smtpgate.core.outbox.task import DestinationKind
from smtpgate.directory.event_settings import DirectorySubscribers
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.uses import KeyUses
from smtpgate.feedback.listener import FeedbackListener
from smtpgate.gate import bans, load, traces
from smtpgate.gate.certificates import FEEDBACK, Certificates
from smtpgate.gate.directory import prepare_directory
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.errors import OpenError
from smtpgate.gate.feedback import new_feedback_listener, new_feedback_page
from smtpgate.gate.frames import PeerNote, Report
from smtpgate.gate.key_watch import new_key_watcher
from smtpgate.gate.listen import shortage_of_files
from smtpgate.gate.notifications import new_sns_pages, open_sns_face
from smtpgate.gate.outbox import mail_timeout_s, new_outbox
from smtpgate.gate.reputation import new_reputation_worker
from smtpgate.gate.settings import ban_rules
from smtpgate.gate.sinks import Sinks, run_all
from smtpgate.gate.stores import Stores
from smtpgate.gate.token_desk import TokenDesk
from smtpgate.gate.verification import new_verification_worker
from smtpgate.http import FeedbackPage, HttpServer, Readiness
from smtpgate.journal.live import LiveJournal
from smtpgate.log import JsonLog, Level
from smtpgate.metrics import Metrics
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import Carrier, Clock, Reading, Upstream
from smtpgate.tasks import TaskOwner

_LAST_WORK_S: Final = 5


class Host:
    """The parts of a gate that a host has once, however many processes take mail."""

    def __init__(
        self,
        config: Config,
        store: DirectoryStore,
        certificates: Certificates,
        log: JsonLog,
        clock: Clock,
    ) -> None:
        """Put everything together; nothing is opened yet. Raises OpenError."""
        self.config = config
        self.store = store
        self.clock = clock
        self.log = log
        self.certificates = certificates
        self._for_life = TaskOwner()
        self._drift = 0
        self.metrics = Metrics(
            config.metrics,
            clock=clock,
            listeners=[listener.name for listener in config.listeners],
            upstreams=[upstream.name for upstream in config.upstreams],
        )
        self.readiness = Readiness(log.error)
        self.readiness.add("log", log.check)
        self.watcher = new_key_watcher(
            config, store, clock, Sinks(log, self.metrics, on_error=log.error), log.error
        )
        watching = () if self.watcher is None else (self.watcher,)
        self.sinks = Sinks(log, self.metrics, *watching, on_error=log.error)
        self.uses = KeyUses(store, on_error=log.error)
        self.verification = new_verification_worker(
            config, store, clock, events=self.sinks, on_error=log.error
        )
        self.tokens = TokenDesk(config, clock, log)
        self.stores = Stores(config, clock, self.sinks, log.error)
        self.stores.show(self.metrics, self.readiness)
        self.reputation = new_reputation_worker(
            config, store, self.stores.journal, clock, events=self.sinks, on_error=log.error
        )
        self.sns = open_sns_face(config, clock.now())
        self._set_up_control()
        self.outbox: OutboxSender | None = None
        self.http: HttpServer | None = None
        self.feedback: FeedbackListener | None = None
        self._feedback_page: FeedbackPage | None = None
        self._show()

    def _show(self) -> None:
        for source in (self.log.readings, self._readings, self.tokens.readings):
            self.metrics.watch(source)
        if self.reputation is not None:
            self.metrics.watch(self.reputation.readings)

    def _set_up_control(self) -> None:
        """Answer requests over the control socket; those for a reload are the gate's."""
        self.routes = Routes()
        self.peers: Peers = OwnProcess(self.routes, self.log.error)
        path = self.config.control_path
        self._control = ControlServer(path, self.routes, self.log.error)
        self.kept_bans: BanList | None = None  # for workers that start later
        bans.answer_requests(self.routes, lambda: self.peers, lambda: self.kept_bans)
        traces.answer_requests(self.routes, lambda: self.peers, self.log, self.clock)
        load.answer_requests(self.routes, lambda: self.peers, self.metrics, self.clock)

    def _readings(self) -> Iterable[Reading]:
        yield Reading("smtpgate_directory_drift", self._drift)
        yield from self.certificates.readings()

    def carry(self, carriers: Mapping[DestinationKind, Carrier]) -> None:
        """Have the outbox delivered by these, once started; if there is one."""
        self.outbox = new_outbox(
            self.config, self.stores, carriers, self.clock, self.sinks, self.log.error
        )
        if self.outbox is not None:
            self.metrics.watch(self.outbox.readings)
            self.stores.when_tasks_come(self.wake_outbox)
            if self.watcher is not None:
                self.watcher.deliver = self.outbox.queue.add

    def take_feedback(
        self, listening: socket.socket, upstream: Upstream, directory: LiveDirectory
    ) -> None:
        """Take mail that comes back there, once started; it goes into the outbox.

        Mail that is no report goes on by the upstream.
        """
        journal = self.stores.journal
        if isinstance(journal, LiveJournal) and self.outbox is not None:
            self.feedback = new_feedback_listener(
                self.config,
                listening,
                journal.store,
                self.outbox.queue,
                upstream,
                DirectorySubscribers(directory),
                None if (tls := self.certificates.of.get(FEEDBACK)) is None else tls.context,
                self.clock,
                self.sinks,
                self.log.error,
            )

    def take_records(self, directory: LiveDirectory) -> None:
        """Take the records that a mail server posts to HTTP, if they have a credential."""
        journal = self.stores.journal
        if isinstance(journal, LiveJournal) and self.outbox is not None:
            self._feedback_page = new_feedback_page(
                self.config,
                journal.store,
                self.outbox.queue,
                DirectorySubscribers(directory),
                self.clock,
                self.sinks,
                self.log.error,
            )

    async def stop_deliveries(self) -> None:
        """Take nothing more that comes back, and end the deliveries of the outbox.

        It comes before the parts end that these use.
        """
        if self._feedback_page is not None:
            self._feedback_page.stop()
        if self.feedback is not None:
            await self.feedback.stop()
        if self.outbox is not None:
            await self.outbox.stop()

    def wake_outbox(self) -> None:
        """There are new tasks in the outbox."""
        if self.outbox is not None:
            self.outbox.wake()

    def serve_http(
        self, listening: socket.socket, refresh: Callable[[], Awaitable[None]] | None = None
    ) -> HttpServer:
        """Serve metrics, health checks and links of subscriptions there, once started.

        ``refresh`` is awaited before each scrape.
        """
        self.http = HttpServer(
            listening,
            metrics=self.metrics.render,
            is_ready=self.readiness.is_ready,
            refresh=refresh,
            sns=new_sns_pages(
                self.config,
                self.store,
                self.clock,
                self.sns,
                None if self.outbox is None else self.outbox.queue,
                self.log.error,
            ),
            feedback=self._feedback_page,
        )
        return self.http

    async def open(self, apply: Apply = apply_here) -> None:
        """Open the stores, and ``apply`` the documents.

        Everything is opened before anything is applied, since other hosts may share the
        directory. Raises OpenError or DirectoryError, and nothing of the directory has been
        changed then.
        """
        self.certificates.warn(self.log, self.clock)
        if (shortage := shortage_of_files(self.config)) is not None:
            self.log.note("warning", "open files", problem=shortage)
        await self.stores.start()
        registers = self.config.directory.apply is None
        await prepare_directory(self.store, registers=registers)
        await self.apply(apply)

    async def start(self) -> None:
        """Serve HTTP and the control socket, and begin the work in the background.

        Raises OpenError.
        """
        try:
            self._control.start()
        except OSError as error:
            path, text = self.config.control_path, reason(error)
            raise OpenError(f"gate.control_socket: {path} cannot be made: {text}") from None
        if self.http is not None:
            await self.http.start()
        if self.feedback is not None:
            await self.feedback.start()
        _ = self._for_life.start(self.uses.run(), name="key uses")
        if self.watcher is not None:
            _ = self._for_life.start(self.watcher.run(), name="key watch")
        if self.outbox is not None:
            _ = self._for_life.start(self.outbox.run(), name="outbox")
        if self.reputation is not None:
            _ = self._for_life.start(self.reputation.run(), name="reputation")
        if self.config.directory.recheck:
            _ = self._for_life.start(self.verification.run(), name="verification")

    async def stop(self, transactions_cut_off: int) -> None:
        """End that work, close the stores, and with a last line the log."""
        steps = (
            self._control.stop,
            self.uses.stop,
            *(() if self.watcher is None else (self.watcher.stop,)),
            self.verification.stop,
            *(() if self.reputation is None else (self.reputation.stop,)),
            self.stop_deliveries,
            partial(self._for_life.drain, _LAST_WORK_S),
            self.tokens.close,
            self.stores.stop,
            *(() if self.http is None else (self.http.stop,)),
            self.metrics.pauses.stop,
        )
        await run_all(steps, self.log.error)
        level: Level = "warning" if transactions_cut_off else "info"
        self.log.note(level, "stopped", transactions_cut_off=transactions_cut_off)
        await self.log.close()

    def log_warnings(self, warnings: Iterable[str]) -> None:
        """Log warnings about the directory's files, one a line."""
        for warning in warnings:
            self.log.note("warning", "directory", problem=warning)

    def take(self, report: Report) -> None:
        """Log and count what a worker reports."""
        self.log.add_lines(report.lines)
        for count in report.counts:
            self.metrics.count(count)
        if report.submissions is not None:
            self.metrics.count_submissions(report.submissions)
        self.uses.take(report.uses)
        if self.watcher is not None:
            self.watcher.take(report.watched)

    def note(self, note: PeerNote) -> None:
        """Take a note that workers pass on to each other: those that start later need some."""
        if isinstance(note, ClientFailed) and self.kept_bans is not None:
            self.kept_bans.take(note)

    def use(self, config: Config, certificates: Certificates) -> None:
        """Go on with another configuration; what needs a restart is as it was."""
        self.config, self.certificates = config, certificates
        if self.kept_bans is not None:
            self.kept_bans.use(ban_rules(config), config.bans.trusted)
        if self.outbox is not None:
            self.outbox.use_mail_timeout(mail_timeout_s(config))

    async def apply(self, apply: Apply) -> None:
        """Apply what the documents changed, if the configuration names some."""
        if self.config.directory.apply is None:
            return
        applied = await apply(self.config, self.store)
        self._drift = applied.drift
        self.log_warnings(applied.warnings)
        for what, how in applied.differences:
            self.log.note("warning", "directory drift", object=what, problem=how)
        self.log.note("info", "directory applied", steps=applied.steps, drift=applied.drift)
