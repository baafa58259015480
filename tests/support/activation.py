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
        self.sockets = {
            name: socket.create_server((LOOPBACK, port), backlog=4096)
            for name, port in ports.items()
        }

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the new process must have."""
        return tuple(one.fileno() for one in self.sockets.values())

    def words(self, program: Sequence[str | Path]) -> list[str | Path]:
        """The command that starts the program with the sockets."""
        passed = ",".join(f"{name}={one.fileno()}" for name, one in self.sockets.items())
        return [sys.executable, "-m", __name__, passed, *program]

    def close(self) -> None:
        """Close them."""
        for one in self.sockets.values():
            one.close()


def put_in_place(descriptors: Mapping[str, int]) -> dict[str, str]:
    """Have this process's sockets where a program looks for them; the settings that say so."""
    # Out of the way first: a descriptor may be where another one is to be.
    least = _FIRST + len(descriptors)
    beyond = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, least) for one in descriptors.values()]
    for at, one in enumerate(beyond):
        os.dup2(one, _FIRST + at, inheritable=True)
        os.close(one)
    listen = {"PID": os.getpid(), "FDS": len(descriptors), "FDNAMES": ":".join(descriptors)}
    return {f"LISTEN_{key}": str(value) for key, value in listen.items()}


def main(passed: str, program: list[str]) -> NoReturn:
    """Become the program."""
    pairs = [one.rpartition("=") for one in passed.split(",")]
    listen = put_in_place({name: int(number) for name, _, number in pairs})
    os.execve(program[0], program, os.environ | listen)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
