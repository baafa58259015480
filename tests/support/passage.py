"""A port that leads to another one, and counts the connections that have ended."""

import socket
import socketserver
import threading
from contextlib import suppress

from tests.support.daemons import LOOPBACK, Lab


class _Connection(socketserver.BaseRequestHandler):
    """Carries octets in both directions until one side ends."""

    def handle(self) -> None:
        passage = self.server
        assert isinstance(passage, Passage)
        with socket.create_connection((LOOPBACK, passage.leads_to), 10) as onward:
            onward.settimeout(None)
            back = threading.Thread(target=_carry, args=(onward, self.request))
            back.start()
            _carry(self.request, onward)
            back.join()
        passage.ended += 1


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Passage(socketserver.ThreadingTCPServer):
    """Listens on a free loopback port; ``ended`` connections have come and gone."""

    daemon_threads = True

    def __init__(self, leads_to: int) -> None:
        super().__init__((LOOPBACK, 0), _Connection)
        self.leads_to = leads_to
        self.ended = 0
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port."""
        port: int = self.server_address[1]
        return port

    def close(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()
        self._thread.join()


def passage(lab: Lab, leads_to: int) -> Passage:
    """Open one that closes with the lab."""
    opened = Passage(leads_to)
    lab.keep(opened)
    return opened
