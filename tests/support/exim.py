"""A private Exim, Debian's in a room of its own, as the gate's client or upstream.

As a client it has no daemon: a message is handed over and tried at once, and the queue is run
on demand.
"""

import re
from collections.abc import Sequence
from typing import Final

from tests.support.daemons import LOOPBACK, PATIENCE_S, Lab, eventually, free_port, listens
from tests.support.recipes import CA_FILE, recipe
from tests.support.relayhost import Relayhost
from tests.support.room import Room

_LOG: Final = "var/log/exim4/mainlog"
# Before the recipe: what a reader's configuration has already.
_MAIN: Final = """\
primary_hostname = client.example.com
exim_path = {program}
deliver_drop_privilege = true
keep_environment =
host_lookup =
never_users =
domainlist local_domains =
message_size_limit = 40M
qualify_domain = client.example.com
queue_run_max = 1
delay_warning = {delay_warning}
acl_smtp_rcpt = accept
dsn_advertise_hosts = :
smtputf8_advertise_hosts = :

"""
_MAILBOX_ROUTER: Final = """\
mailbox:
  driver = manualroute
  domains = {domain}
  transport = mailbox
  route_list = * {host} byname
  self = send

"""
_MAILBOX_TRANSPORT: Final = """\
mailbox:
  driver = smtp
  port = {port}
  hosts_avoid_tls = *

"""
_RETRY: Final = "* * F,2h,15m; G,16h,1h,1.5; F,4d,6h"
_AT_ONCE: Final = "* * F,1h,1s"


class Exim:
    """A private Exim."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def log(self) -> str:
        """Its main log."""
        return self._room.path(_LOG).read_text(errors="replace")

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None:
        """Hand a message over as a local program does, and try it once."""
        lines = message.replace(b"\r\n", b"\n")
        words = ("-odf", "-oem", "-i", "-f", sender, "--", *recipients)
        self._room.run(self._exim, *words, given=lines)

    def inject_smtp(self, dialogue: bytes) -> None:
        """Hand messages over by SMTP over standard input (``exim -bs``), and try them once."""
        said = self._room.run(self._exim, "-odf", "-bs", given=dialogue)
        assert not re.search("^[45]", said, re.MULTILINE), said

    def flush(self) -> None:
        """Try everything in the queue now (``exim -qf``)."""
        self._room.run(self._exim, "-qf")

    def listing(self) -> str:
        """The queue, with the recipients that are left; empty when nothing waits."""
        return self._room.run(self._exim, "-bpu").strip()

    def wait_until_empty(self) -> None:
        """Wait until nothing is left to deliver."""
        eventually(lambda: not self.listing(), "Exim's queue to be empty", PATIENCE_S)

    @property
    def _exim(self) -> str:
        return str(self._room.program("exim4"))


def exim_client(lab: Lab, relay: Relayhost) -> Exim:
    """Set up an Exim that sends everything to the gate, by the guide's recipe."""
    room = Room(lab, "exim4-daemon-light", "exim4")
    for folder in ("var/spool/exim4", "var/log/exim4", "var/lib/exim4", "run/exim4"):
        room.give(folder, "Debian-exim")
    config, password = recipe("Exim", relay)
    text = config.text.replace(_RETRY, _AT_ONCE)
    assert text != config.text
    if relay.mailbox_domain:
        router = _MAILBOX_ROUTER.format(domain=relay.mailbox_domain, host=LOOPBACK)
        transport = _MAILBOX_TRANSPORT.format(port=relay.mailbox_port)
        text = text.replace("begin routers\n\n", f"begin routers\n\n{router}")
        text = text.replace("begin transports\n\n", f"begin transports\n\n{transport}")
    main = _MAIN.format(
        delay_warning="1s" if relay.warns_of_delay else "0s", program=room.program("exim4")
    )
    room.write(CA_FILE, relay.ca_file.read_text())
    room.write(config.path, main + text)
    room.write(password.path, password.text, password.mode, group="Debian-exim")
    lab.keep_log("exim", room.path(_LOG))
    return Exim(room)


_SERVER: Final = """\
primary_hostname = client.example.com
exim_path = {program}
deliver_drop_privilege = true
keep_environment =
host_lookup =
rfc1413_hosts =
message_size_limit = 40M
daemon_smtp_ports = {port}
local_interfaces = {loopback}
dsn_advertise_hosts = *
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_only = true

begin routers
begin transports
begin retry
* * F,1h,1s
"""


class EximServer:
    """A private Exim as the gate's upstream, which takes every message into its queue."""

    def __init__(self, room: Room, port: int) -> None:
        self._room = room
        self.port = port

    def log(self) -> str:
        """Its main log."""
        return self._room.path(_LOG).read_text(errors="replace")

    def messages(self) -> list[bytes]:
        """The bodies that it has, in no order, with LF line ends."""
        files = self._room.path("var/spool/exim4/input").glob("*-D")
        return [file.read_bytes().partition(b"\n")[2] for file in files]

    def envelopes(self) -> list[str]:
        """The files with the envelope and the header block of each."""
        files = self._room.path("var/spool/exim4/input").glob("*-H")
        return [file.read_text(errors="replace") for file in files]


def exim_server(lab: Lab) -> EximServer:
    """Start an Exim that listens on a free port of loopback."""
    room, port = Room(lab, "exim4-daemon-light", "exim4"), free_port()
    for folder in ("var/spool/exim4", "var/log/exim4", "var/lib/exim4", "run/exim4"):
        room.give(folder, "Debian-exim")
    config = _SERVER.format(program=room.program("exim4"), port=port, loopback=LOOPBACK)
    room.write("etc/exim4/exim4.conf", config)
    lab.start(
        "exim (upstream)",
        room.command(room.program("exim4"), "-bdf"),
        room.path("log"),
        ready=lambda: listens(port),
    )
    lab.keep_log("exim", room.path(_LOG))
    return EximServer(room, port)
