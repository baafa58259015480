"""A parent that has the listening sockets, as systemd has those of ``smtpgate.socket``.

``python -m tests.support.activation NAME=FD,... PROGRAM...`` becomes the program, with the
sockets where sd_listen_fds(3) says.
"""

import fcntl
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from tests.support.daemons import LOOPBACK

_FIRST: Final = 3


class SocketUnit:
    """Listening sockets that outlive the gates that they are passed to."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        """``ports`` by the names of the sockets."""
        self._sockets = {
            name: socket.create_server((LOOPBACK, port), backlog=4096)
            for name, port in ports.items()
        }

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the new process must have."""
        return tuple(one.fileno() for one in self._sockets.values())

    def words(self, program: Sequence[str | Path]) -> list[str | Path]:
        """The command that starts the program with the sockets."""
        passed = ",".join(f"{name}={one.fileno()}" for name, one in self._sockets.items())
        return [sys.executable, "-m", __name__, passed, *program]

    def close(self) -> None:
        """Close them."""
        for one in self._sockets.values():
            one.close()


def main(passed: str, program: list[str]) -> NoReturn:
    """Become the program."""
    pairs = [one.rpartition("=") for one in passed.split(",")]
    # Out of the way first: a descriptor may be where another one is to be.
    least = _FIRST + len(pairs)
    beyond = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, least) for *_, number in pairs]
    for at, one in enumerate(beyond):
        os.dup2(one, _FIRST + at, inheritable=True)
    names = ":".join(name for name, *_ in pairs)
    listen = {"PID": os.getpid(), "FDS": len(pairs), "FDNAMES": names}
    environment = os.environ | {f"LISTEN_{key}": str(value) for key, value in listen.items()}
    os.execve(program[0], program, environment)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
