"""Events to several readers, and steps of an orderly end: an error of one stops no other."""

import inspect
from collections.abc import Callable, Iterable

from smtpgate.core.events import Event
from smtpgate.ports import EventSink

OnError = Callable[[BaseException], None]


class SilentSink:
    """A sink that no event goes through."""

    def publish(self, _event: Event) -> None:
        """Take no note."""


class Sinks:
    """Passes each event to every sink, in order; an error of one does not reach the others."""

    def __init__(self, *sinks: EventSink, on_error: OnError) -> None:
        self._sinks = sinks
        self._on_error = on_error

    def publish(self, event: Event) -> None:
        """Pass the event on."""
        for sink in self._sinks:
            try:
                sink.publish(event)
            except Exception as error:  # noqa: BLE001 - it must not change a verdict
                self._on_error(error)


async def run_all(steps: Iterable[Callable[[], object]], on_error: OnError) -> None:
    """Run each step to its end; an error of one is reported and does not stop the others."""
    for step in steps:
        try:
            done = step()
            if inspect.isawaitable(done):
                await done
        except Exception as error:  # noqa: BLE001 - the other parts must be closed too
            on_error(error)
