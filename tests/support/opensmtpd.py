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
from tests.support.relayhost import Relayhost
from tests.support.room import Room

# With its 25 failures a session it would never split a message to many recipients.
_CONFIG: Final = """\
table logins {{ gate = {username}:{password} }}
mta limit max-failures-per-session 1000
bounce warn-interval {warn_interval}
smtp max-message-size 40M
listen on {loopback} port {port} hostname client.example.com
action "gate" relay host smtp+tls://gate@{host}:{relay_port} auth <logins> \\
  helo client.example.com
{mailbox}match from any for any action "gate"
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

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None:
        """Hand a message over with SMTP."""
        with smtplib.SMTP(LOOPBACK, self._port, timeout=30) as smtp:
            smtp.sendmail(sender, recipients, message)

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
    """Start an OpenSMTPD that sends everything to the gate: authenticated, over TLS."""
    room, port = Room(lab, "opensmtpd", "smtpd", "smtpctl"), free_port()
    mailbox = _MAILBOX.format(
        loopback=LOOPBACK, port=relay.mailbox_port, domain=relay.mailbox_domain
    )
    room.give("var/lib/opensmtpd/empty", "root")
    # The authorities that it trusts are in this file, and no setting says otherwise.
    room.write("etc/ssl/certs/ca-certificates.crt", relay.ca_file.read_text())
    room.write(
        "etc/smtpd.conf",
        _CONFIG.format(
            warn_interval="1s" if relay.warns_of_delay else "4h",
            username=relay.username,
            password=relay.password,
            loopback=LOOPBACK,
            port=port,
            host=relay.tls_name,
            relay_port=relay.port,
            mailbox=mailbox if relay.mailbox_domain else "",
        ),
        mode=0o600,
    )
    daemon = lab.start(
        "opensmtpd",
        room.command(room.program("smtpd"), "-d", "-v"),
        room.path("log"),
        ready=lambda: listens(port),
    )
    return OpenSmtpd(room, daemon, port)
