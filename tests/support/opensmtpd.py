"""A private OpenSMTPD as the gate's client: Debian's, in a room of its own."""

import smtplib
from collections.abc import Sequence
from typing import Final

from tests.support.daemons import (
    LOOPBACK,
    PATIENCE_S,
    Daemon,
    Lab,
    eventually,
    free_port,
    listens,
)
from tests.support.recipes import CA_FILE, recipe
from tests.support.relayhost import Relayhost
from tests.support.room import Room

_LISTEN: Final = """\
bounce warn-interval {warn_interval}
smtp max-message-size 40M
listen on {loopback} port {port} hostname client.example.com
"""
_MAILBOX: Final = """\
action "mailbox" relay host smtp+notls://{loopback}:{port} helo client.example.com
match from any for domain "{domain}" action "mailbox"
"""


class OpenSmtpd:
    """A running private OpenSMTPD."""

    def __init__(self, room: Room, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self._room = room
        self._port = port

    def log(self) -> str:
        """Its log."""
        return self.daemon.log()

    def inject(
        self,
        message: bytes,
        sender: str,
        recipients: Sequence[str],
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> None:
        """Hand a message over with SMTP."""
        with smtplib.SMTP(LOOPBACK, self._port, timeout=30) as smtp:
            smtp.sendmail(sender, recipients, message, mail_options, rcpt_options)

    def flush(self) -> None:
        """Try everything in the queue now (``smtpctl schedule all``)."""
        self._control("schedule", "all")

    def listing(self) -> str:
        """The queue as ``smtpctl show queue`` prints it; empty when nothing waits."""
        return self._control("show", "queue").strip()

    def wait_until_empty(self) -> None:
        """Wait until nothing is left to deliver."""
        eventually(lambda: not self.listing(), "OpenSMTPD's queue to be empty", PATIENCE_S)

    def _control(self, *words: str) -> str:
        # Debian installs it set-group-id; it refuses to run otherwise.
        group = ("setpriv", "--regid", "opensmtpq", "--clear-groups")
        return self._room.run(*group, self._room.program("smtpctl"), *words)


def opensmtpd_client(lab: Lab, relay: Relayhost) -> OpenSmtpd:
    """Start an OpenSMTPD that sends everything to the gate, by the guide's recipe."""
    room, port = Room(lab, "opensmtpd", "smtpd", "smtpctl"), free_port()
    config, password = recipe("OpenSMTPD", relay)
    more = _LISTEN.format(
        warn_interval="1s" if relay.warns_of_delay else "4h", loopback=LOOPBACK, port=port
    )
    if relay.mailbox_domain:
        more += _MAILBOX.format(
            loopback=LOOPBACK, port=relay.mailbox_port, domain=relay.mailbox_domain
        )
    room.give("var/lib/opensmtpd/empty", "root")
    room.write(CA_FILE, relay.ca_file.read_text())
    room.write(config.path, config.with_lines("match from local", more), mode=0o600)
    room.write(password.path, password.text, password.mode)
    daemon = lab.start(
        "opensmtpd",
        room.command(room.program("smtpd"), "-d", "-v"),
        room.path("log"),
        ready=lambda: listens(port),
    )
    return OpenSmtpd(room, daemon, port)
