"""systemd: messages to it (sd_notify(3)), and sockets from it (sd_listen_fds(3))."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from smtpgate.gate.errors import OpenError

_LISTEN: Final = ("PID", "FDS", "FDNAMES")
_FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START
_MOST_SOCKETS: Final = 256
_LOOKS_WHEN_ILL: Final = 20  # in the time of one when all is well


def notify(state: str) -> bool:
    """Send a state such as ``READY=1``; whether a service manager was there to receive it.

    Nothing is raised: mail does not depend on the manager.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # sd_notify(3): an abstract socket, whose name begins with NUL
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        return False
    return True


def passed_sockets() -> list[tuple[str, socket.socket]]:
    """The sockets that the service manager has passed to this process, with their names.

    They are taken once: the variables are removed, so that no other process believes that they
    are its own. Variables that are meant for another process are ignored. Raises OpenError.
    """
    pid, count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in _LISTEN)
    if not count or pid != str(os.getpid()):
        return []
    if not count.isdecimal() or int(count) > _MOST_SOCKETS:
        raise OpenError(f"LISTEN_FDS: {count[:20]!r} is not a number of sockets")
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    named = names.split(":") if names else [""] * len(descriptors)
    if len(named) != len(descriptors):
        raise OpenError(f"LISTEN_FDNAMES: has {len(named)} names for {count} sockets")
    try:
        found = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    except OSError as error:
        raise OpenError(f"LISTEN_FDS: a descriptor is no socket: {error}") from None
    for one in found:
        one.set_inheritable(False)
    return list(zip(named, found, strict=True))


def watchdog_interval_s() -> float | None:
    """Seconds between two ``WATCHDOG=1``; ``None`` when systemd does not watch the process.

    Half of the time after which the service counts as hung (sd_watchdog_enabled(3)).
    """
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdecimal() or int(limit_us) == 0:
        return None
    if meant_for and meant_for != str(os.getpid()):
        return None
    return int(limit_us) / 2_000_000


async def feed_watchdog_until(stop: asyncio.Event, is_well: Callable[[], bool]) -> None:
    """Wait for the event, and send the watchdog, if there is one, a sign of life meanwhile.

    Without one while all is not well, so that systemd restarts the service. It looks again soon
    then: a bad moment must not cost a whole interval, after which systemd would wait no longer.
    """
    wait_s = interval_s = watchdog_interval_s()
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), wait_s)
        except TimeoutError:
            wait_s = interval_s
            if is_well():
                notify("WATCHDOG=1")
            elif interval_s is not None:
                wait_s = interval_s / _LOOKS_WHEN_ILL
