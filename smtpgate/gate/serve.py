"""``smtpgate serve``: one gate from its start to its end, by the signals of an operator."""

import asyncio
import importlib.util
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.control import ReloadAnswer
from smtpgate.gate.apply_alone import apply_alone, applying_at_start
from smtpgate.gate.directory import open_directory
from smtpgate.gate.documents import Apply, apply_here
from smtpgate.gate.errors import OpenError
from smtpgate.gate.gate import Gate
from smtpgate.gate.interpreter import settle, share_interpreter
from smtpgate.gate.listen import (
    bind,
    connections_wanted,
    files_of_start,
    require_open_files,
    sockets_by_section,
)
from smtpgate.gate.log import open_log
from smtpgate.gate.parent import Parent, Prepared
from smtpgate.gate.shares import number_of_workers
from smtpgate.gate.systemd import feed_watchdog_until, notify, passed_sockets
from smtpgate.log import JsonLog
from smtpgate.ports import Clock
from smtpgate.smtp.sockets import raise_descriptor_limit
from smtpgate.tasks import Rerun, TaskOwner

T = TypeVar("T")


@asynccontextmanager
async def open_gate(
    config: Config,
    *,
    clock: Clock | None = None,
    inherited: Mapping[str, socket.socket] | None = None,
    when_open: Callable[[], object] = lambda: None,
    apply: Apply = apply_here,
) -> AsyncIterator[Gate]:
    """A gate that takes connections; it is drained and stopped in every case.

    ``inherited`` are listening sockets by their sections. ``when_open`` is called when
    everything is open, before connections are taken. ``apply`` applies the documents.
    Raises OpenError or DirectoryError when it cannot start; nothing of the directory has been
    changed then.
    """
    clock, warnings = clock or SystemClock(), list[str]()
    with bind(config, inherited) as sockets:
        async with (
            open_log(config, clock) as log,
            open_directory(config, clock, warnings, use="connect") as store,
        ):
            gate = Gate(config, store, sockets, log, clock)
            try:
                gate.host.log_warnings(warnings)
                await gate.start(when_open, apply)
                yield gate
            finally:
                await gate.stop()


@asynccontextmanager
async def _open_parent(
    config: Config, prepared: Prepared, apply: Apply
) -> AsyncIterator[Parent]:
    """A gate with workers, as :func:`open_gate`."""
    clock, warnings = SystemClock(), list[str]()
    async with (
        open_log(config, clock) as log,
        open_directory(config, clock, warnings, use="connect") as store,
    ):
        parent = Parent(config, prepared, store, log, clock)
        try:
            parent.host.log_warnings(warnings)
            await parent.start(apply)
            yield parent
        finally:
            await parent.stop()


class _Running(Protocol):
    """A gate that takes connections, in one process or several."""

    log: JsonLog
    tasks: TaskOwner
    failed: asyncio.Event

    @property
    def is_answering(self) -> bool:
        """False while nothing takes mail: systemd then restarts the service."""

    async def reload(self, apply: Apply) -> ReloadAnswer:
        """Load the configuration, the certificates and the documents again."""

    async def stop(self) -> None:
        """Drain, and close everything."""


class _Signals:
    """The signals of an operator, from before the start of a gate to its end."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._reload: Callable[[], object] | None = None
        self._is_reload_due = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)

    def reload_with(self, reload: Callable[[], object]) -> None:
        """Call ``reload`` on each SIGHUP, and now if there was one during the start."""
        self._reload = reload
        if self._is_reload_due:
            _ = reload()

    def _hangup(self) -> None:
        if self._reload is None:
            # The start may have read the certificates before.
            self._is_reload_due = True
        else:
            _ = self._reload()


async def serve(
    config: Config,
    apply: Apply = apply_here,
    inherited: Mapping[str, socket.socket] | None = None,
) -> None:
    """Run a gate in this process until SIGTERM or SIGINT; SIGHUP reloads.

    A signal to stop during the start ends the start. Raises as :func:`open_gate`.
    """
    await _serve(open_gate(config, inherited=inherited, when_open=settle, apply=apply))


async def _serve(opening: AbstractAsyncContextManager[_Running]) -> None:
    signals = _Signals()
    async with AsyncExitStack() as stack:
        gate = await _unless(signals.stop, stack.enter_async_context(opening))
        if gate is not None:
            await _run_until_stop(gate, signals)
            if gate.failed.is_set():
                raise OpenError(
                    "the process that forks workers has ended; start the gate again"
                )


async def _unless(stop: asyncio.Event, start: Coroutine[Any, Any, T]) -> T | None:
    """The started gate; ``None`` if ``stop`` came first, with everything closed again."""
    tasks = TaskOwner()
    starting, stopping = tasks.start(start, name="start"), tasks.start(stop.wait())
    try:
        _ = await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        _ = stopping.cancel()
        _ = starting.cancel()  # without effect on a start that is done
        _ = await asyncio.wait((starting,))
    return None if starting.cancelled() else starting.result()


async def _run_until_stop(gate: _Running, signals: _Signals) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: gate.log.stray_error(context))
    signals.reload_with(Rerun(gate.tasks, lambda: gate.reload(apply_alone), name="reload").ask)
    notify("READY=1")
    over, stopped, watchdog = asyncio.Event(), asyncio.Event(), TaskOwner()
    feeding = feed_watchdog_until(stopped, lambda: over.is_set() or gate.is_answering)
    _ = watchdog.start(feeding, name="watchdog")
    waits = [gate.tasks.start(one.wait()) for one in (signals.stop, gate.failed)]
    _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    # Draining may take longer than the watchdog waits.
    over.set()
    for wait in waits:
        _ = wait.cancel()
    await gate.stop()
    stopped.set()
    await watchdog.drain(1)


def run(config: Config) -> None:
    """Run a gate, in one process or with workers, until SIGTERM or SIGINT.

    It uses the sockets that a service manager has passed. It runs on uvloop where there is one:
    its TLS takes a tenth of the memory. Raises OpenError.
    """
    # Its default ends the process. Nothing that a reload reads has been read yet.
    _ = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    inherited = sockets_by_section(config, passed_sockets())
    share_interpreter()
    raise_descriptor_limit(connections_wanted(config) + config.gate.reserved_descriptors)
    require_open_files(files_of_start(config))
    workers, new_loop = number_of_workers(config), _loop_factory()
    with applying_at_start(config) as apply:
        if workers == 1:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(serve(config, apply, inherited))
            return
        with bind(config, inherited) as sockets:
            prepared = Prepared(config, workers, sockets, new_loop)
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(_serve(_open_parent(config, prepared, apply)))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module("uvloop").new_event_loop
    return factory
