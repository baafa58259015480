"""Counting sockets: from accept until they are closed, by listener, client and in all.

A socket counts before its first octet: before a PROXY header and before its TLS handshake.
"""

import contextlib
import resource
import sys
from collections.abc import Callable
from typing import Final

from smtpgate.config.sections import ListenerConfig
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.limits.sums import LocalSums, Sums
from smtpgate.core.message.envelope import network_of_client

_NOBODY: Final = ""


def raise_descriptor_limit(wanted: int) -> None:
    """Raise the limit of open files to so many, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < best:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))


def most_sockets(reserved: int) -> int:
    """The sockets that clients may have, if ``reserved`` open files are for other things."""
    return _left(resource.getrlimit(resource.RLIMIT_NOFILE)[0], reserved)


def shortage_of_descriptors(wanted: int, reserved: int) -> str | None:
    """The problem of having that many connections open at once, or ``None``.

    The limit is the one that :func:`raise_descriptor_limit` may raise to.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _left(limit, reserved)
    if wanted <= most:
        return None
    return (
        f"the limit of open files ({limit}) leaves {most} connections of clients, and "
        f"max_connections of all listeners is {wanted}: raise LimitNOFILE, or lower that"
    )


def _left(limit: int, reserved: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit - reserved)


class Sockets:
    """The number of open client sockets, within the limit of open files."""

    def __init__(self, limit: int, on_closed: Callable[[], None] = lambda: None) -> None:
        self.limit = limit
        self.open = 0
        self._on_closed = on_closed

    def close(self) -> None:
        """One fewer is open."""
        self.open -= 1
        self._on_closed()


class ConnectionSlot:
    """The place that one socket takes; it can be given back once, later calls do nothing."""

    __slots__ = ("_address", "_is_taken", "_places")

    def __init__(self, places: "ConnectionSlots") -> None:
        self._places = places
        self._address = _NOBODY
        self._is_taken = True

    def name_client(self, address: str) -> BudgetName | None:
        """Count the socket for that client too, or name the bound that it would pass."""
        refusal = self._places.count_client(address)
        if refusal is None:
            self._address = address
        return refusal

    def give_back(self) -> None:
        """The socket is closed."""
        if self._is_taken:
            self._is_taken = False
            self._places.give_back(self._address)


def connections_key(listener: str) -> str:
    """The key under which the connections of a listener are counted."""
    return f"connections {listener}"


class ConnectionSlots:
    """The places of one listener, in sums that other processes may share."""

    def __init__(
        self, config: ListenerConfig, sockets: Sockets, sums: Sums | None = None
    ) -> None:
        self._config = config
        self._sockets = sockets
        self._sums: Sums = sums or LocalSums()
        self._all = connections_key(config.name)

    def __len__(self) -> int:
        return self._sums.sum(self._all)

    def take(self) -> ConnectionSlot | BudgetName:
        """A place for a socket that was accepted, or the bound that it would pass."""
        if self._sockets.open >= self._sockets.limit:
            return "descriptors"
        if self._sums.add(self._all, 1) > self._config.max_connections:
            self._sums.subtract(self._all, 1)
            return "connections"
        self._sockets.open += 1
        return ConnectionSlot(self)

    def count_client(self, address: str) -> BudgetName | None:
        """Count one more socket of that client, or name the bound that it would pass."""
        client = self._key_of(address)
        if self._sums.add(client, 1) > self._config.max_connections_per_client:
            self._sums.subtract(client, 1)
            return "connections-per-client"
        return None

    def give_back(self, address: str) -> None:
        """One socket fewer, of that client when it is known."""
        self._sockets.close()
        self._sums.subtract(self._all, 1)
        if address != _NOBODY:
            self._sums.subtract(self._key_of(address), 1)

    def _key_of(self, address: str) -> str:
        return f"{self._config.name} {network_of_client(address)}"
