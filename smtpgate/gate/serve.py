"""``smtpgate serve``: one gate from its start to its end, by the signals of an operator."""

import asyncio
import importlib.util
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.gate.directory import open_directory
from smtpgate.gate.gate import Gate
from smtpgate.gate.listen import bind, connections_wanted
from smtpgate.gate.log import open_log
from smtpgate.gate.systemd import feed_watchdog_until, notify
from smtpgate.ports import Clock
from smtpgate.smtp.sockets import raise_descriptor_limit
from smtpgate.tasks import TaskOwner


@asynccontextmanager
async def open_gate(config: Config, *, clock: Clock | None = None) -> AsyncIterator[Gate]:
    """A gate that takes connections; it is drained and stopped in every case.

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
                await gate.start()
                yield gate
            finally:
                await gate.stop()


async def serve(config: Config) -> None:
    """Run a gate until SIGTERM or SIGINT; SIGHUP reloads certificates and documents.

    Raises as :func:`open_gate`.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    async with open_gate(config) as gate:
        loop.set_exception_handler(lambda _, context: gate.log_stray_error(context))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: gate.tasks.start(gate.reload()))
        notify("READY=1")
        await feed_watchdog_until(stop)
        notify("STOPPING=1")
        # Draining may take longer than the watchdog waits.
        stopped, watchdog = asyncio.Event(), TaskOwner()
        _ = watchdog.start(feed_watchdog_until(stopped), name="watchdog")
        await gate.stop()
        stopped.set()
        await watchdog.drain(1)


def run(config: Config) -> None:
    """Run :func:`serve` on uvloop where there is one: its TLS takes a tenth of the memory."""
    raise_descriptor_limit(connections_wanted(config) + config.gate.reserved_descriptors)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(config))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module("uvloop").new_event_loop
    return factory
