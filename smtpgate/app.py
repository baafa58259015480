"""The gate as a whole: made from a configuration, started, reloaded, drained, stopped."""

import asyncio
import importlib.util
import os
import signal
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from smtpgate.authenticator import DirectoryAuthenticator
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.account import SendingLimits
from smtpgate.core.events import Event
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.upstream import CommandError
from smtpgate.directory.files import FileDirectory
from smtpgate.http.server import HttpServer
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.log import JsonLog
from smtpgate.metrics import Metrics
from smtpgate.pipeline import Pipeline, Rules
from smtpgate.ports import Authenticator, Clock, EventSink
from smtpgate.private_keys import load_private_key
from smtpgate.relay.pool import PooledUpstream
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.listener import Listener, tls_context
from smtpgate.smtp.session import Door
from smtpgate.systemd import feed_watchdog_until, notify
from smtpgate.tasks import TaskOwner

__all__ = ["Gate", "check", "load_directory", "run", "serve"]


class _Events:
    """Hands each event to every sink, in order; the fault of one is not the others'."""

    def __init__(self, *sinks: EventSink, on_error: Callable[[BaseException], None]) -> None:
        self._sinks = sinks
        self._on_error = on_error

    def publish(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.publish(event)
            except Exception as error:  # noqa: BLE001 - it must not change a verdict
                self._on_error(error)


def hostname_of(config: Config) -> str:
    """The name that the gate calls itself."""
    return config.gate.hostname or socket.getfqdn()


def load_directory(config: Config) -> FileDirectory:
    """Read the directory that the configuration names. Raises DirectoryError."""
    return FileDirectory.load(
        config.directory.path,
        region=config.gate.region,
        partition=config.gate.partition,
        default_limits=SendingLimits(
            config.limits.max_24h_send, config.limits.max_send_rate_per_s
        ),
        address_tag_idiom=config.policy.address_tag_idiom,
        load_key=load_private_key,
    )


def check(config: Config) -> list[str]:
    """Read everything that starting would read, and say what there is.

    Raises DirectoryError or OSError.
    """
    directory = load_directory(config)
    for listener in config.listeners:
        tls_context(listener)
    _upstream(config, SystemClock(), TaskOwner())
    upstream = config.sole_upstream
    return [
        *(f"warning: {warning}" for warning in directory.warnings),
        *(
            f"listener {one.name}: {one.address} port {one.port}, tls {one.tls}"
            for one in config.listeners
        ),
        f"upstream {upstream.name}: {upstream.host} port {upstream.port}, tls {upstream.tls}",
        "directory: " + ", ".join(f"{n} {what}" for what, n in directory.counts().items()),
    ]


def _upstream(config: Config, clock: Clock, tasks: TaskOwner) -> PooledUpstream:
    upstream = config.sole_upstream
    try:
        return PooledUpstream(upstream, clock=clock, tasks=tasks)
    except (OSError, CommandError) as error:
        raise OSError(f"upstream.{upstream.name}: {error}") from None


def _new_message_id(at: datetime) -> str:
    return message_id(at, os.urandom(RANDOM_OCTETS))


def _log(config: Config, clock: Clock) -> JsonLog:
    return JsonLog(
        str(config.log.target),
        level=config.log.level,
        clock=clock,
        recipients=config.log.recipients,
    )


def _rules(config: Config, hostname: str) -> Rules:
    return Rules(
        hostname=hostname,
        region=config.gate.region,
        infer_arn=config.authorization.infer_arn,
        normalize_bare_lf=config.message.bare_lf == "normalize",
        require_signature=config.signing.require,
        allow_when_ledger_fails=config.limits.on_store_failure == "allow",
        mask_client=config.gate.received_client == "mask",
    )


class Gate:
    """One running gate."""

    def __init__(
        self,
        config: Config,
        directory: FileDirectory,
        *,
        authenticator: Authenticator | None = None,
    ) -> None:
        self.config = config
        self.directory = directory
        self.clock = SystemClock()
        self.log = _log(config, self.clock)
        self.metrics = Metrics(
            max_identities=config.metrics.max_identities,
            idle_s=config.metrics.idle_s,
            clock=self.clock,
        )
        self.tasks = TaskOwner()
        self.is_draining = False
        hostname = hostname_of(config)
        events = _Events(self.log, self.metrics, on_error=self.log.error)
        self.upstream = _upstream(config, self.clock, self.tasks)
        self.metrics.watch_upstream(config.sole_upstream.name, self.upstream)
        self.ledger = MemoryLedger()
        pipeline = self._pipeline(hostname, events)
        self.sessions = TaskOwner()
        authenticator = authenticator or DirectoryAuthenticator(directory, config.gate.region)
        intake = Intake(config.gate.max_inflight_octets)
        self.listeners = {
            listener.name: Listener(
                Door(
                    config=listener,
                    hostname=hostname,
                    max_message_octets=config.gate.max_message_octets,
                    max_recipients=config.gate.max_recipients,
                    tls_context=tls_context(listener),
                    pipeline=pipeline,
                    authenticator=authenticator,
                    events=events,
                    clock=self.clock,
                    tasks=self.sessions,
                    intake=intake,
                    on_error=self.log.error,
                )
            )
            for listener in config.listeners
        }
        self.http = self._http() if config.http.enabled else None

    def _pipeline(self, hostname: str, events: EventSink) -> Pipeline:
        return Pipeline(
            _rules(self.config, hostname),
            directory=self.directory,
            ledger=self.ledger,
            upstream=self.upstream,
            events=events,
            clock=self.clock,
            new_message_id=_new_message_id,
            on_error=self.log.error,
        )

    def _http(self) -> HttpServer:
        return HttpServer(
            self.config.http.address,
            self.config.http.port,
            metrics=self.metrics.render,
            is_ready=self.is_ready,
        )

    def is_ready(self) -> tuple[bool, Mapping[str, str]]:
        """Whether new mail is welcome, and why not."""
        return not self.is_draining, {"listeners": "draining" if self.is_draining else "open"}

    async def start(self) -> None:
        """Listen. Raises OSError naming the address that cannot be bound."""
        try:
            for listener in self.listeners.values():
                await listener.start()
            if self.http is not None:
                await self.http.start()
        except OSError:
            await self.stop(drain_s=0)
            raise
        for warning in self.directory.warnings:
            self.log.note("warning", "directory", problem=warning)
        self.log.note(
            "info",
            "started",
            listeners={name: listener.port for name, listener in self.listeners.items()},
        )

    async def stop(self, drain_s: float | None = None) -> None:
        """Drain: no new connections, 421 to idle sessions, running transactions finish."""
        if self.is_draining:
            return
        self.is_draining = True
        drain_s = self.config.gate.drain_s if drain_s is None else drain_s
        for listener in self.listeners.values():
            listener.close()
        cut = await self.sessions.drain(drain_s)
        for listener in self.listeners.values():
            listener.abort()
        await self.upstream.close()
        await self.tasks.drain(1)
        if self.http is not None:
            await self.http.stop()
        self.log.note("warning" if cut else "info", "stopped", transactions_cut_off=cut)
        await self.log.close()

    def note_stray_error(self, context: Mapping[str, Any]) -> None:
        """Log what went wrong outside any task, such as in a callback of the event loop."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.log.error(error)
        else:
            self.log.note("error", "event loop", problem=str(context.get("message", "")))

    async def reload(self) -> None:
        """Read the directory again; errors leave everything as it was."""
        try:
            await self.directory.reload()
        except Exception as error:  # noqa: BLE001 - told to the log; the old directory serves on
            self.log.note("error", "directory not reloaded", problem=str(error))
        else:
            self.log.note("info", "directory reloaded")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module("uvloop").new_event_loop
    return factory


async def serve(config: Config) -> None:
    """Run a gate until SIGTERM or SIGINT; SIGHUP reads the directory again."""
    gate = Gate(config, load_directory(config))
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: gate.note_stray_error(context))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: gate.tasks.start(gate.reload()))
    await gate.start()
    notify("READY=1")
    await feed_watchdog_until(stop)
    notify("STOPPING=1")
    await gate.stop()


def run(config: Config) -> None:
    """Run :func:`serve` on uvloop where there is one: its TLS takes a tenth of the memory."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(config))
