"""A worker: a process that takes mail, on sockets that it inherited from its parent.

The parent has its log, its metrics, the store and the work of the host; they talk over a
channel. When the parent is gone, the worker ends at once, as if it had been killed too. With
stores that other machines keep, it closes its listeners at once, so that the next gate finds
the ports free, and ends when what it has under way has ended, or after a few seconds.
"""

import asyncio
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from smtpgate.config import Config
from smtpgate.control import RefusedError, Routes
from smtpgate.core.limits.bans import ClientStanding
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.directory import open_directory
from smtpgate.gate.errors import OpenError
from smtpgate.gate.frames import (
    AbandonPart,
    Ask,
    CatchUpPart,
    CertificatesPart,
    Drain,
    JournalKey,
    Noted,
    PassedOn,
    PeerNote,
    Ping,
    Pong,
    PreparePart,
    Serving,
    Settings,
    Setup,
    StopAnswer,
    Stopped,
    StoreAnswer,
    SwitchPart,
    TasksWritten,
    TokenShared,
    ToParent,
    WorkerState,
    decode_for_worker,
    encode,
)
from smtpgate.gate.interpreter import settle
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.peers import WorkerPeers
from smtpgate.gate.questions import Answers
from smtpgate.gate.reporter import Reporter
from smtpgate.gate.service import (
    Bounds,
    ServiceStores,
    SmtpService,
    Surroundings,
    time_to_finish_s,
)
from smtpgate.gate.shares import config_of_worker
from smtpgate.gate.sinks import SilentSink, Sinks
from smtpgate.gate.store_line import StoreLine
from smtpgate.gate.store_link import LinkedStores
from smtpgate.gate.stores import Stores, has_one_owner
from smtpgate.gate.succession import Succession
from smtpgate.gate.token_desk import TokenLink
from smtpgate.http import Readiness
from smtpgate.log import JsonLog
from smtpgate.metrics import WorkerMetrics
from smtpgate.ports import Clock, EventSink
from smtpgate.smtp.certificate import PairOctets
from smtpgate.workers.channel import Channel
from smtpgate.workers.line import PacketLine

_ORPHANS_FINISH_S: Final = 5.0
_MOST_EARLY: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """The things that a worker has from its parent, all made before the fork."""

    config: Config  # with this worker's shares
    number: int
    workers: int
    sockets: ListeningSockets
    certificates: Certificates
    bounds: Bounds
    clock: Clock


class Worker:
    """One worker, from its fork to its end."""

    def __init__(self, inherited: Inheritance, line: socket.socket) -> None:
        """``line`` is its end of the line to the store, in use only if the parent has that."""
        self._inherited = inherited
        self._channel: Channel
        self._succession: Succession | None = None
        self._changes = 0  # the number of the configuration in use
        self._prepared = 0  # that of the one that it is prepared for
        self._is_ending = False
        self._peers = WorkerPeers(self._send)
        self._tokens = TokenLink(self._send)
        self._stop = asyncio.Event()
        self._routes = Routes()
        self._routes.add(CatchUpPart, self._catch_up)
        self._routes.add(PreparePart, self._prepare)
        self._routes.add(AbandonPart, self._abandon)
        self._routes.add(SwitchPart, self._switch)
        self._routes.add(CertificatesPart, self._use_certificates)
        self._bans: tuple[ClientStanding, ...] = ()
        # Notes that come before there is a service to take them.
        self._early: deque[PeerNote] = deque(maxlen=_MOST_EARLY)
        self._setup: asyncio.Future[Setup] = asyncio.get_running_loop().create_future()
        config = inherited.config
        self._drain = Drain(config.gate.drain_s, time_to_finish_s(config))
        self._linked: LinkedStores | None = None
        if has_one_owner(config):
            to_store = StoreLine(PacketLine(line), self._send, self.lose_parent)
            self._linked = LinkedStores(
                config, inherited.workers, inherited.clock, self._send, to_store
            )
        else:
            line.close()

    async def run(self, channel: Channel) -> int:
        """Take mail until the parent says so, or is gone; the exit status."""
        self._channel = channel
        config, clock = self._inherited.config, self._inherited.clock
        names = [listener.name for listener in config.listeners]
        self._metrics = WorkerMetrics(clock=clock, listeners=names)
        self._reporter = Reporter(channel, self._metrics, watches_keys=config.watch.enabled)
        self._log = log = JsonLog(config.log, clock=clock, writer=self._reporter)
        self._readiness = Readiness(log.error)
        self._metrics.watch(log.readings)
        self._answers = Answers(self._routes, self._send, log.error)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.set_exception_handler(lambda _, context: log.stray_error(context))
        channel.listen()
        status, cut = 1, 0
        try:
            await self._set_up()
            async with open_directory(config, clock, [], use="read") as store:
                cut = await self._serve(store)
            status = 0
        except OpenError as error:
            log.note("error", "worker not started", problem=str(error))
        except Exception as error:  # noqa: BLE001 - logged; the parent starts another one
            log.error(error)  # noqa: TRY400 - the gate's own log
        await self._end(cut)
        return status

    async def _set_up(self) -> None:
        """Use what has changed since the start of the gate, which forked this process.

        Raises OpenError.
        """
        setup = await self._setup
        settings, self._bans = setup.settings, setup.bans
        self._changes = settings.number
        certificates, config = self._inherited.certificates, self._inherited.config
        if settings.config:
            config = self._config_of(settings)
            certificates = Certificates(config, settings.certificates, before=certificates)
        self._use_octets(certificates, settings.certificates)
        self._inherited = replace(self._inherited, config=config, certificates=certificates)

    def _config_of(self, settings: Settings) -> Config:
        """The configuration with the shares of this worker."""
        config: Config = pickle.loads(settings.config)  # noqa: S301 - by the parent
        return config_of_worker(config, self._inherited.number, self._inherited.workers)

    def _use_octets(
        self, certificates: Certificates, octets: dict[str, tuple[PairOctets, ...]]
    ) -> None:
        """Use certificates that the parent has read. Raises OpenError."""
        try:
            certificates.use(octets)
        except OSError as error:
            raise OpenError(str(error)) from None

    async def _serve(self, store: DirectoryStore) -> int:
        """Serve from the start to the end; how many transactions were cut short."""
        log = self._log
        sinks = Sinks(log, self._metrics, self._reporter, on_error=log.error)
        stores = self._linked or self._own_stores(sinks)
        stores.show(self._metrics, self._readiness)
        await stores.start()
        try:
            service = self._new_service(store, stores, sinks)
            service.bans.restore(self._bans)
            self._bans = ()
            await service.open()
            settle()
            self._metrics.pauses.start()
            self._succession = succession = Succession(service)
            while self._early:
                service.take(self._early.popleft())
            await service.listen()
            self._answers.begin()
            self._send(Serving())
            _ = await self._stop.wait()
            succession.release()
            service = succession.current
            cut = await service.drain(self._drain.drain_s, self._drain.finish_s)
            await succession.close()
            await service.close()
        finally:
            await stores.stop()
            self._metrics.pauses.stop()
        return cut

    def _own_stores(self, sinks: EventSink) -> Stores:
        stores = Stores(self._inherited.config, self._inherited.clock, sinks, self._log.error)
        stores.when_tasks_come(lambda: self._send(TasksWritten()))
        return stores

    def _new_service(
        self, store: DirectoryStore, stores: ServiceStores, sinks: EventSink
    ) -> SmtpService:
        inherited = self._inherited
        return SmtpService(
            inherited.config,
            store,
            inherited.sockets,
            Surroundings(
                clock=inherited.clock,
                log=self._log,
                metrics=self._metrics,
                sinks=sinks,
                uses=SilentSink(),
                readiness=self._readiness,
                certificates=inherited.certificates,
                stores=stores,
                bounds=inherited.bounds,
                routes=self._routes,
                tokens=self._tokens.of,
                peers=self._peers,
            ),
        )

    async def _end(self, cut: int) -> None:
        self._is_ending = True
        await self._answers.close()
        await self._log.close()
        self._send(Stopped(cut, self._state()))
        await self._channel.end()

    # -- the channel ---------------------------------------------------------------------------

    def take(self, frames: Sequence[bytes]) -> None:
        """Obey the parent."""
        for frame in frames:
            received = decode_for_worker(frame)
            if isinstance(received, StoreAnswer | JournalKey):
                self._take_from_store(received)
            elif isinstance(received, TokenShared):
                self._tokens.take(received)
            else:
                self._obey(received)

    def _take_from_store(self, received: StoreAnswer | JournalKey) -> None:
        if self._linked is None:
            return
        if isinstance(received, JournalKey):
            self._linked.take_key(received)
        else:
            self._linked.link.take(received)

    def _obey(self, frame: Setup | Ping | Ask | StopAnswer | Drain | Noted | PassedOn) -> None:
        match frame:
            case Setup():
                self._setup.set_result(frame)
            case Ping(number):
                self._reporter.report()
                self._send(Pong(number, self._state()))
            case Ask() | StopAnswer():
                self._answers.take(frame)
            case Drain() as drain:
                self._drain = drain
                self._stop.set()
            case PassedOn(number):
                self._peers.passed_on(number)
            case Noted(note):
                if self._succession is None:
                    self._early.append(note)
                else:
                    self._succession.current.take(note)

    def lose_parent(self) -> None:
        """The parent is gone: end at once if it has the store, else soon.

        Without the store no verdict can be recorded, so none may be given.
        """
        if self._linked is not None and not self._is_ending:
            os._exit(1)
        self._drain = Drain(0, _ORPHANS_FINISH_S)
        self._stop.set()
        if not self._setup.done():
            self._setup.set_exception(OpenError("the parent has ended"))

    def _send(self, frame: ToParent) -> None:
        self._channel.send(encode(frame))

    def _state(self) -> WorkerState:
        metrics = self._metrics
        return WorkerState(
            metrics.readings(), list(metrics.histograms()), self._readiness.checks()
        )

    # -- requests of the parent ----------------------------------------------------------------

    async def _catch_up(self, _request: CatchUpPart) -> AsyncGenerator[object]:
        await self._serving.current.catch_up()
        yield True

    async def _use_certificates(self, part: CertificatesPart) -> AsyncGenerator[object]:
        self._use_octets(self._inherited.certificates, part.certificates)
        yield True

    async def _prepare(self, part: PreparePart) -> AsyncGenerator[object]:
        self._prepare_for(part.settings)
        yield True

    async def _abandon(self, _request: AbandonPart) -> AsyncGenerator[object]:
        self._serving.abandon()
        self._prepared = 0
        yield True

    async def _switch(self, part: SwitchPart) -> AsyncGenerator[object]:
        if self._stop.is_set():
            raise RefusedError("it is stopping")
        number = part.settings.number
        if number > self._changes:  # else it began with it
            if self._prepared != number:
                self._prepare_for(part.settings)
            self._serving.switch()
            around = self._serving.current.around
            self._inherited = replace(self._inherited, certificates=around.certificates)
            self._changes = number
        yield True

    @property
    def _serving(self) -> Succession:
        assert self._succession is not None  # noqa: S101 - requests are answered from then on
        return self._succession

    def _prepare_for(self, settings: Settings) -> None:
        """Make the next service. Raises RefusedError."""
        try:
            config = self._config_of(settings)
            before = self._inherited.certificates
            certificates = Certificates(config, settings.certificates, before=before)
            self._serving.prepare(config, certificates)
        except OpenError as error:
            raise RefusedError(str(error)) from None
        self._prepared = settings.number


async def run_worker(
    inherited: Inheritance, channel: socket.socket, line: socket.socket
) -> int:
    """Run a worker with its ends of channel and line; the exit status."""
    worker = Worker(inherited, line)
    return await worker.run(await Channel.open(channel, worker.take, worker.lose_parent))
