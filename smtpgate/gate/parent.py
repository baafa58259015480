"""A gate of several processes: this one has the work of the host, its workers take the mail."""

import asyncio
import pickle
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.control import ControlRequest, FromWorker, ReloadAnswer
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.bans import new_kept_list
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.crew import Crew
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.errors import OpenError
from smtpgate.gate.frames import (
    AbandonPart,
    CatchUpPart,
    CertificatesPart,
    Drain,
    PreparePart,
    Settings,
    Setup,
    SwitchPart,
)
from smtpgate.gate.host import Host
from smtpgate.gate.interpreter import settle
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.outbox import OwnPath, new_carriers
from smtpgate.gate.reloading import Reloader
from smtpgate.gate.service import Bounds, time_to_finish_s
from smtpgate.gate.shares import config_of_worker, number_of_workers
from smtpgate.gate.upstream import new_upstream
from smtpgate.gate.worker import Inheritance, run_worker
from smtpgate.log import JsonLog
from smtpgate.ports import Clock
from smtpgate.smtp.intake import ROOMS
from smtpgate.smtp.sockets import connections_key
from smtpgate.tasks import TaskOwner
from smtpgate.workers.fork_server import ForkServer
from smtpgate.workers.shared_sums import SharedSums

_PART_S: Final = 60.0
_SILENT: Final = "it did not answer in time"
_CHECKED_IN_WORKERS: Final = ("listeners", "directory")


class Prepared:
    """The parts that are made before the first fork, with all errors of the configuration."""

    def __init__(
        self,
        config: Config,
        workers: int,
        sockets: ListeningSockets,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        """Make it, and fork the fork server. Raises OpenError."""
        self.workers = workers
        self.certificates = Certificates(config)
        new_upstream(config, SystemClock(), TaskOwner())  # raises what is wrong with it
        listeners = [listener.name for listener in config.listeners]
        connections = SharedSums(workers, [connections_key(one) for one in listeners])
        octets = SharedSums(workers, ROOMS)
        self.sums = (connections, octets)
        self.ports = {name: sockets[f"listener.{name}"].getsockname()[1] for name in listeners}
        self.http = sockets["http"] if config.http.enabled else None
        self.feedback = sockets["feedback"] if config.feedback.enabled else None

        def run(number: int, channel: socket.socket, line: socket.socket) -> int:
            for ignored in (signal.SIGINT, signal.SIGHUP):
                _ = signal.signal(ignored, signal.SIG_IGN)
            inherited = Inheritance(
                config=config_of_worker(config, number, workers),
                number=number,
                workers=workers,
                sockets=sockets,
                certificates=self.certificates,
                bounds=Bounds(
                    connections=connections.of_worker(number), octets=octets.of_worker(number)
                ),
                clock=SystemClock(),
            )
            for own in (self.http, self.feedback):
                if own is not None:
                    own.close()
            with asyncio.Runner(loop_factory=new_loop) as runner:
                return runner.run(run_worker(inherited, channel, line))

        settle()  # so that no collection writes to what all processes share
        self.fork_server = ForkServer.start(run, sockets.close)
        # Only workers accept; a socket that is open here would keep connections waiting.
        sockets.close(but=("http", "feedback"))


class Parent:
    """A running gate with workers."""

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        store: DirectoryStore,
        log: JsonLog,
        clock: Clock,
    ) -> None:
        self.config = config
        self.log = log
        self.tasks = TaskOwner()
        self.failed = asyncio.Event()
        self._ports = prepared.ports
        self._workers = prepared.workers
        # The workers were forked with the configuration of the start.
        self._changes, self._config_octets = 0, b""
        self._is_stopping = False
        self.host = Host(config, store, prepared.certificates, log, clock)
        self.host.kept_bans = kept_bans = new_kept_list(config, clock)
        self._own_path: OwnPath | None = None
        if config.has_outbox:
            self._own_path = path = OwnPath(
                config, store, clock, self.host.sinks, self.host.tokens.of
            )
            self.host.carry(
                new_carriers(config, path.upstream, path.directory, self.host.sns, clock, log)
            )
            self.host.take_records(path.directory)
            if prepared.feedback is not None:
                self.host.take_feedback(prepared.feedback, path.upstream, path.directory)
        self.crew = crew = Crew(
            config,
            prepared.workers,
            prepared.fork_server,
            prepared.sums,
            self.host,
            lambda: Setup(self._settings(), kept_bans.standings()),
            self.failed.set,
        )
        self.host.peers = crew
        self._reloader = Reloader(self.host, self, self.tasks)
        self._reloader.answer_requests(self.host.routes)
        if prepared.http is not None:
            _ = self.host.serve_http(prepared.http, crew.refresh)
        self._show(crew)

    def _show(self, crew: Crew) -> None:
        metrics, readiness = self.host.metrics, self.host.readiness
        metrics.watch(crew.readings)
        metrics.watch_histograms(crew.histograms)
        metrics.processes.add(lambda: [one.pid for one in crew.members])
        readiness.add("workers", crew.check_workers)
        for name in _CHECKED_IN_WORKERS:
            readiness.add(name, partial(crew.check, name))
        for name in _checks_of_relay(self.config):
            readiness.add(name, partial(crew.check_of_relay, name))

    @property
    def is_answering(self) -> bool:
        """True while a worker answers; systemd restarts a gate of which none does."""
        return self._is_stopping or self.crew.is_answering

    async def start(self, apply: Apply) -> None:
        """Open the stores, ``apply`` the documents, and have workers take connections.

        Raises OpenError or DirectoryError, and nothing of the directory has been changed then.
        """
        await self.host.open(apply)
        if self._own_path is not None:
            await self._own_path.open()
        settle()
        self.host.metrics.pauses.start()
        await self.crew.start()
        await self.host.start()
        _ = self.tasks.start(self._reloader.watch_certificates(), name="certificates")
        workers = {str(one.number): one.pid for one in self.crew.members}
        self.log.note("info", "started", listeners=self._ports, workers=workers)

    async def stop(self) -> None:
        """Drain the workers, then end the work of the host."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._reloader.stop()
        cut = await self.crew.drain(self.config.gate.drain_s, time_to_finish_s(self.config))
        await self.tasks.drain(1)
        await self.host.stop_deliveries()
        if self._own_path is not None:
            await self._own_path.close()
        await self.host.stop(cut)

    async def reload(self, apply: Apply = apply_here) -> ReloadAnswer:
        """Load the configuration, the certificates and the documents again.

        Whatever cannot be used stays as it is, and is logged and answered.
        """
        return await self._reloader.reload(apply)

    # -- a reload, as the Reloader has it done -------------------------------------------------

    def _settings(self) -> Settings:
        """The configuration in use, for workers."""
        return Settings(self._changes, self._config_octets, self.host.certificates.octets)

    async def prepare(self, config: Config, certificates: Certificates) -> Sequence[str]:
        """Have all workers make their next service. Raises OpenError."""
        if number_of_workers(config) < self._workers:
            raise OpenError(
                f"upstream: max_connections is less than the {self._workers} workers, each of "
                f"which needs a connection; restart the gate for fewer workers"
            )
        self.host.tokens.prepare(config)
        if self._own_path is None:
            new_upstream(config, self.host.clock, self.tasks)  # raises what is wrong with it
        else:
            self._own_path.prepare(config)
        octets = pickle.dumps(config)
        settings = Settings(self._changes + 1, octets, certificates.octets)
        return await self._all_do(PreparePart(settings))

    async def abandon(self) -> None:
        """Have them forget it."""
        _ = await self._all_do(AbandonPart())

    async def switch(self, config: Config, _certificates: Certificates) -> Sequence[str]:
        """Have them use it.

        One that cannot, or does not answer, is drained, and another one takes its place.
        """
        readiness = self.host.readiness
        for name in _checks_of_relay(self.config):
            readiness.remove(name)
        for name in _checks_of_relay(config):
            readiness.add(name, partial(self.crew.check_of_relay, name))
        self.config = config
        self.host.tokens.use(config)
        self._changes, self._config_octets = self._changes + 1, pickle.dumps(config)
        if self._own_path is not None:
            self._own_path.use(config)
        drain = Drain(config.gate.drain_s, time_to_finish_s(config))
        silent = {one.number: _SILENT for one in self.crew.members}
        failed: dict[int, str] = {}
        async for one in self._answers_of_all(SwitchPart(self._settings())):
            _ = silent.pop(one.worker, None)
            if one.problem is not None:
                failed[one.worker] = one.problem
        for number in failed | silent:
            self.crew.replace(number, drain)
        return [f"worker {number}: {text}" for number, text in (failed | silent).items()]

    async def renew_certificates(self) -> Sequence[str]:
        """Have them use the certificates of the host."""
        return await self._all_do(CertificatesPart(self.host.certificates.octets))

    async def catch_up(self) -> Sequence[str]:
        """Have them obey what has changed in the directory."""
        return await self._all_do(CatchUpPart())

    async def _answers_of_all(self, part: ControlRequest) -> AsyncGenerator[FromWorker]:
        """The answers of all workers; those that do not answer in time do not count."""
        try:
            async with asyncio.timeout(_PART_S):
                async for one in self.crew.ask(part):
                    yield one
        except TimeoutError:
            self.log.note("error", "workers late", request=part.name)

    async def _all_do(self, part: ControlRequest) -> list[str]:
        """Have all workers do that; the problems of those that cannot."""
        return [
            f"worker {one.worker}: {one.problem}"
            async for one in self._answers_of_all(part)
            if one.problem is not None
        ]


def _checks_of_relay(config: Config) -> list[str]:
    """The names of the checks of upstreams and routes."""
    names = [f"upstream.{upstream.name}" for upstream in config.upstreams]
    return names + [f"route.{route.name}" for route in config.route_table if route.name]
