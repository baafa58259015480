"""A private msmtp or dma as the gate's client: Debian's, each in a room of its own."""

import hashlib
import os
import signal
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.support.daemons import PATIENCE_S, Lab, eventually
from tests.support.recipes import CA_FILE, recipe
from tests.support.relayhost import Relayhost
from tests.support.room import Room

_SPOOL: Final = "var/spool/dma"


class Msmtp:
    """A private msmtp; it has no queue, so ``refused`` has what it could not send."""

    def __init__(self, room: Room) -> None:
        self.refused: list[int] = []
        self._room = room
        self._said: list[str] = []

    def log(self) -> str:
        """Its complaints."""
        return "".join(self._said)

    def inject(
        self, message: bytes, sender: str, recipients: Sequence[str], *options: str
    ) -> None:
        """Send a message; its exit status is kept if it is not 0."""
        done = self._room.run_to_end(
            self._room.program("msmtp"),
            *options,
            *("-f", sender, "--", *recipients),
            given=message.replace(b"\r\n", b"\n"),
        )
        self._said.append(done.stderr.decode())
        if done.returncode:
            self.refused.append(done.returncode)


def msmtp_client(lab: Lab, relay: Relayhost) -> Msmtp:
    """Set up an msmtp that sends everything to the gate, by the guide's recipe."""
    room = Room(lab, "msmtp", "msmtp")
    (config,) = recipe("msmtp", relay)
    room.write(CA_FILE, relay.ca_file.read_text())
    room.write(config.path, config.text, config.mode)
    return Msmtp(room)


class Dma:
    """A private dma; a process waits with each deferred recipient, and ends with the lab."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._log = room.path("log")
        self._runs: list[subprocess.Popen[bytes]] = []

    def log(self) -> str:
        """The output of its runs."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None:
        """Hand a message over as a local program does, and begin to send it."""
        lines = message.replace(b"\r\n", b"\n")
        self._start("-D", "-i", "-f", sender, *recipients, given=lines)

    def flush(self) -> None:
        """Try everything in the queue now (``dma -q``)."""
        self._start("-D", "-q")

    def listing(self) -> str:
        """The queue; empty when nothing waits."""
        listed = self._room.run(*self._dma, "-bp").strip()
        return "" if "Mail queue is empty" in listed else listed

    def wait_until_empty(self) -> None:
        """Wait until nothing is left to deliver."""
        eventually(lambda: not self.listing(), "dma's queue to be empty", PATIENCE_S)

    def close(self) -> None:
        """End the processes that wait, each with those that it has forked."""
        for run in self._runs:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait(PATIENCE_S)

    @property
    def _dma(self) -> tuple[str | Path, ...]:
        # Debian installs it set-group-id.
        group = ("setpriv", "--regid", "mail", "--clear-groups")
        return (*group, self._room.program("dma"))

    def _start(self, *words: str, given: bytes = b"") -> None:
        with self._log.open("ab") as log:
            run = subprocess.Popen(
                self._room.command(*self._dma, *words),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._runs.append(run)
        assert run.stdin is not None
        with run.stdin as stdin:
            stdin.write(given)


def dma_client(lab: Lab, relay: Relayhost) -> Dma:
    """Set up a dma that sends everything to the gate, by the guide's recipe."""
    room = Room(lab, "dma", "dma")
    room.give(_SPOOL, "mail")
    assert relay.cert_file is not None, "dma wants the fingerprint of the gate's certificate"
    first = relay.cert_file.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----"
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
    for file in recipe("dma", relay, fingerprint):
        room.write(file.path, file.text, file.mode, group="mail")
    client = Dma(room)
    lab.keep(client)
    lab.keep_log("dma", room.path("log"))
    return client
