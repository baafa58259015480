"""Listening: every socket of the gate is made, or inherited, before anything else starts."""

import errno
import resource
import socket
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Self

from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.gate.errors import OpenError
from smtpgate.gate.shares import number_of_workers
from smtpgate.smtp.sockets import raise_descriptor_limit, shortage_of_descriptors

# With two ports it has 35 open when nobody is connected, and some more during the start.
FILES_OF_SMALL_GATE: Final = 60
# Its channel, and its line to the store.
_FILES_OF_WORKER: Final = 2
_BACKLOG: Final = 512
# The key that is wrong, where it is not the address, and what to do about it.
_CURES: Final = {
    errno.EADDRINUSE: ("port", "; another program has it, or another gate"),
    errno.EACCES: (
        "port",
        "; below 1024 it needs CAP_NET_BIND_SERVICE, which the systemd unit gives",
    ),
}


class ListeningSockets:
    """One listening socket a section, by its name: ``listener.NAME`` or ``http``."""

    def __init__(self, by_section: Mapping[str, socket.socket]) -> None:
        """Those of a parent process, which has them open too."""
        self._by_section = dict(by_section)
        self.inherited = frozenset(by_section)
        """The sections whose sockets the next gate has again, with the clients that wait."""

    def __getitem__(self, section: str) -> socket.socket:
        return self._by_section[section]

    def add(self, section: str, listening: socket.socket) -> None:
        """Own the socket of that section from now on."""
        self._by_section[section] = listening

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, but: Collection[str] = ()) -> None:
        """Close them all but those sections'; those that are closed already stay so."""
        for section, listening in self._by_section.items():
            if section not in but:
                listening.close()


def bind(
    config: Config, inherited: Mapping[str, socket.socket] | None = None
) -> ListeningSockets:
    """A listening socket for each section that has an address.

    One that was ``inherited`` under the section's name, such as from a parent process, is taken
    as it is. Raises OpenError, and leaves none open then.
    """
    inherited = inherited or {}
    sockets = ListeningSockets(inherited)
    try:
        for section, address, port in config.addresses():
            if section not in inherited:
                sockets.add(section, _bound(section, address, port))
            _send_at_once(sockets[section])
        _check_inherited(config, inherited)
    except BaseException:
        sockets.close()
        raise
    return sockets


def _send_at_once(listening: socket.socket) -> None:
    """Have accepted connections wait for no acknowledgement before they send (tcp(7)).

    asyncio sets that only for sockets that name their protocol. Without it the body of an
    answer comes 40 ms after its header fields.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def sockets_by_section(
    config: Config, passed: Iterable[tuple[str, socket.socket]]
) -> dict[str, socket.socket]:
    """The sockets that a service manager has passed, by the sections that they are for.

    One that has the name of a section is that section's; another one is for the section with
    its port, and its address if there are several. Raises OpenError, and closes all then.
    """
    passed = list(passed)
    try:
        return _by_section(config, passed)
    except BaseException:
        for _, one in passed:
            one.close()
        raise


def _by_section(
    config: Config, passed: Iterable[tuple[str, socket.socket]]
) -> dict[str, socket.socket]:
    found: dict[str, socket.socket] = {}
    for name, one in passed:
        section = name if _is_section(name) else _section_at(config, one)
        if section in found:
            raise OpenError(f"{section}: two sockets were passed for it")
        found[section] = one
    return found


def _is_section(name: str) -> bool:
    return name in {"http", "feedback"} or name.startswith(("listener.", "api."))


def _section_at(config: Config, passed: socket.socket) -> str:
    """The section that listens where the socket does. Raises OpenError."""
    if passed.family not in {socket.AF_INET, socket.AF_INET6}:
        raise OpenError("a socket was passed that is neither IPv4 nor IPv6")
    address, port, *_ = passed.getsockname()
    at_port = [(section, own) for section, own, at in config.addresses() if at == port]
    if len(at_port) > 1:
        at_port = [(section, own) for section, own in at_port if own == address]
    if len(at_port) != 1:
        where = f"{address} port {port}"
        raise OpenError(f"a socket on {where} was passed, and no section listens there")
    return at_port[0][0]


def _check_inherited(config: Config, inherited: Mapping[str, socket.socket]) -> None:
    sections = {section for section, _, _ in config.addresses()}
    for section, handed in inherited.items():
        if section not in sections:
            raise OpenError(f"{section}: a socket was inherited, and there is no such section")
        if not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OpenError(f"{section}: the inherited socket does not listen")


def _bound(section: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        key, cure = _CURES.get(error.errno or 0, ("address", ""))
        # Python appends the address to the system's words.
        words = reason(OSError(error.errno, (error.strerror or "").partition(" (while ")[0]))
        problem = f"cannot listen on {address} port {port}: {words}{cure}"
        raise OpenError(f"{section}.{key}: {problem}") from None


def connections_wanted(config: Config) -> int:
    """The most connections of clients that all listeners together may have."""
    return sum(listener.max_connections for listener in config.listeners)


def shortage_of_files(config: Config) -> str | None:
    """A warning when the limit of open files is too low for that many connections."""
    return shortage_of_descriptors(connections_wanted(config), config.gate.reserved_descriptors)


def require_open_files(least: int) -> None:
    """Have this process open so many files at once. Raises OpenError if it may not.

    Where the limit is too low for a start it shows anywhere, often in words of something else.
    """
    raise_descriptor_limit(least)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < least:
        raise OpenError(
            f"the limit of open files ({limit}) is too low to start: {least} are needed, and "
            f"one more for each connection; raise LimitNOFILE of the unit, or `ulimit -n' of "
            f"the shell"
        )


def files_of_start(config: Config) -> int:
    """The open files without which a gate cannot start, in the process that has the most."""
    ports = len(config.listeners) + len(config.apis)
    return FILES_OF_SMALL_GATE + ports + _FILES_OF_WORKER * number_of_workers(config)
