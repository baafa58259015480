"""Sockets whose requests a thread reads itself, without an event loop in between."""

import os
import select
import time
from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_EVENTS: Final = select.EPOLLIN


class Asked(Protocol[R_co]):
    """A request as it came, with all that its answer needs."""

    @property
    def request(self) -> R_co:
        """The request."""


class Inlet(Protocol[R_co]):
    """A socket on which requests come. Only the thread calls it; no method raises anything."""

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def read(self) -> Sequence[Asked[R_co]] | None:
        """The requests that have come together; ``None`` once no more come."""

    def answer(self, answered: Sequence[tuple[Any, Any]]) -> None:
        """Take the answers to some of what was read: what was asked, and the answer.

        The answer to a request that failed is the exception.
        """

    def close(self) -> None:
        """Close the socket; it may still get answers."""


class TimeLeft:
    """The end of a wait that is made of several."""

    def __init__(self, timeout_s: float | None) -> None:
        self._at_s = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def seconds(self) -> float | None:
        """The time that is left, or ``None`` where the wait has no end."""
        return None if self._at_s is None else max(0.0, self._at_s - time.monotonic())


class Inlets(Generic[R]):
    """The inlets of a thread, which waits for their requests, or for a call of ``ring``.

    ``add`` and ``ring`` may be called by any thread.
    """

    def __init__(self) -> None:
        self._inlets: dict[int, Inlet[R]] = {}
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, _EVENTS)

    def add(self, inlet: Inlet[R]) -> None:
        """Have the thread wait for its requests too."""
        descriptor = inlet.fileno()
        self._inlets[descriptor] = inlet
        self._epoll.register(descriptor, _EVENTS)

    def ring(self) -> None:
        """End the wait; the next one, if there is none now."""
        os.eventfd_write(self._bell, 1)

    def wait(self, timeout_s: float | None) -> list[tuple[Inlet[R], Sequence[Asked[R]]]] | None:
        """Wait; the requests of the inlets that have some, ``None`` after the timeout."""
        ready = self._epoll.poll(timeout_s)
        if not ready:
            return None
        found: list[tuple[Inlet[R], Sequence[Asked[R]]]] = []
        for descriptor, _ in ready:
            if descriptor == self._bell:
                _ = os.eventfd_read(self._bell)
                continue
            inlet = self._inlets[descriptor]
            asked = inlet.read()
            if asked is None:
                self._remove(descriptor)
            elif asked:
                found.append((inlet, asked))
        return found

    def _remove(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self._inlets.pop(descriptor).close()

    def close(self) -> None:
        """Close all of them."""
        for descriptor in tuple(self._inlets):
            self._remove(descriptor)
        self._epoll.close()
        os.close(self._bell)
