"""Events to several readers, and steps of an orderly end: an error of one stops no other."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from smtpgate.core.events import Event
from smtpgate.ports import EventSink, ReadsSome

OnError = Callable[[BaseException], None]


class SilentSink:
    """A sink that no event goes through."""

    reads: ClassVar[tuple[type, ...]] = ()

    def publish(self, _event: Event) -> None:
        """Take no note."""


class Sinks:
    """Passes each event to every sink that reads its kind, in order.

    An error of one does not reach the others.
    """

    def __init__(self, *sinks: EventSink, on_error: OnError) -> None:
        self._sinks = sinks
        self._on_error = on_error
        self._readers: dict[type, tuple[EventSink, ...]] = {}

    def publish(self, event: Event) -> None:
        """Pass the event on."""
        kind = type(event)
        readers = self._readers.get(kind)
        if readers is None:
            readers = self._readers[kind] = tuple(self._readers_of(kind))
        for sink in readers:
            try:
                sink.publish(event)
            except Exception as error:  # noqa: BLE001 - it must not change a verdict
                self._on_error(error)

    def _readers_of(self, kind: type) -> Iterator[EventSink]:
        for sink in self._sinks:
            if isinstance(sink, Sinks):
                yield from sink._readers_of(kind)
            elif not isinstance(sink, ReadsSome) or issubclass(kind, sink.reads):
                yield sink


async def run_all(steps: Iterable[Callable[[], object]], on_error: OnError) -> None:
    """Run each step to its end; an error of one is reported and does not stop the others."""
    for step in steps:
        try:
            done = step()
            if inspect.isawaitable(done):
                await done
        except Exception as error:  # noqa: BLE001 - the other parts must be closed too
            on_error(error)
