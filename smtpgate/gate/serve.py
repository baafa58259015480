"""``smtpgate serve``: one gate from its start to its end, by the signals of an operator."""

import asyncio
import importlib.util
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.gate.apply_alone import apply_alone
from smtpgate.gate.directory import open_directory
from smtpgate.gate.gate import Gate
from smtpgate.gate.interpreter import settle, share_interpreter
from smtpgate.gate.listen import bind, connections_wanted
from smtpgate.gate.log import open_log
from smtpgate.gate.systemd import feed_watchdog_until, notify
from smtpgate.ports import Clock
from smtpgate.smtp.sockets import raise_descriptor_limit
from smtpgate.tasks import Rerun, TaskOwner


@asynccontextmanager
async def open_gate(
    config: Config,
    *,
    clock: Clock | None = None,
    when_open: Callable[[], object] = lambda: None,
) -> AsyncIterator[Gate]:
    """A gate that takes connections; it is drained and stopped in every case.

    ``when_open`` is called when everything is open, before connections are taken.
    Raises OpenError or DirectoryError when it cannot start; nothing of the directory has been
    changed then.
    """
    clock, warnings = clock or SystemClock(), list[str]()
    with bind(config) as sockets:
        async with (
            open_log(config, clock) as log,
            open_directory(config, clock, warnings, use="connect") as store,
        ):
            gate = Gate(config, store, sockets, log, clock)
            try:
                gate.log_warnings(warnings)
                await gate.start(when_open)
                yield gate
            finally:
                await gate.stop()


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


async def serve(config: Config) -> None:
    """Run a gate until SIGTERM or SIGINT; SIGHUP reloads certificates and documents.

    A signal to stop during the start ends the start. Raises as :func:`open_gate`.
    """
    signals = _Signals()
    async with AsyncExitStack() as stack:
        opening = open_gate(config, when_open=settle)
        gate = await _unless(signals.stop, stack.enter_async_context(opening))
        if gate is not None:
            await _run_until_stop(gate, signals)


async def _unless(stop: asyncio.Event, start: Coroutine[Any, Any, Gate]) -> Gate | None:
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


async def _run_until_stop(gate: Gate, signals: _Signals) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: gate.log_stray_error(context))
    signals.reload_with(Rerun(gate.tasks, lambda: gate.reload(apply_alone), name="reload").ask)
    notify("READY=1")
    await feed_watchdog_until(signals.stop)
    notify("STOPPING=1")
    # Draining may take longer than the watchdog waits.
    stopped, watchdog = asyncio.Event(), TaskOwner()
    _ = watchdog.start(feed_watchdog_until(stopped), name="watchdog")
    await gate.stop()
    stopped.set()
    await watchdog.drain(1)


def run(config: Config) -> None:
    """Run :func:`serve` on uvloop where there is one: its TLS takes a tenth of the memory."""
    # Its default ends the process. Nothing that a reload reads has been read yet.
    _ = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    share_interpreter()
    raise_descriptor_limit(connections_wanted(config) + config.gate.reserved_descriptors)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(config))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module("uvloop").new_event_loop
    return factory
