"""Postfix's ``smtp-sink`` as the next hop: accepts everything, and keeps it when asked to."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemons import LOOPBACK, Daemon, Lab, eventually, free_port, listens, need

# The lines that smtp-sink writes before the message: the envelope, then a trace field.
_ENVELOPE = (b"X-Client-Addr: ", b"X-Client-Proto: ", b"X-Helo-Args: ")


@dataclass(frozen=True, slots=True)
class SunkMessage:
    """One transaction as a sink saw it; the message has CRLF line ends.

    ``options`` are the parameters of MAIL, then those of each RCPT.
    """

    mail_from: str
    recipients: tuple[str, ...]
    message: bytes
    options: tuple[str, ...] = ()

    @property
    def header(self) -> bytes:
        """The header block, with the CRLF of its last field."""
        return self.message.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self) -> bytes:
        """The text below the empty line."""
        return self.message.partition(b"\r\n\r\n")[2]


def _read_dump(dump: bytes) -> SunkMessage:
    lines = dump.removesuffix(b"\n").split(b"\n")  # it ends each dump with an empty line
    mail_from, recipients, options = "", list[str](), list[str]()
    while lines:
        name, _, value = lines[0].partition(b": ")
        address, _, more = value.decode().removeprefix("<").partition(">")
        if name in (b"X-Mail-Args", b"X-Rcpt-Args"):
            options += more.split()
        if name == b"X-Mail-Args":
            mail_from = address
        elif name == b"X-Rcpt-Args":
            recipients.append(address)
        elif not lines[0].startswith(_ENVELOPE):
            break
        del lines[0]
    del lines[0]  # its Received field
    while lines and lines[0].startswith((b" ", b"\t")):
        del lines[0]
    return SunkMessage(mail_from, tuple(recipients), b"\r\n".join(lines), tuple(options))


class Sink:
    """A running smtp-sink."""

    def __init__(self, daemon: Daemon, port: int, folder: Path) -> None:
        self.daemon = daemon
        self.port = port
        self._folder = folder

    def count(self) -> int:
        """The number of transactions in which a message was sent."""
        return len(list(self._folder.glob("m.*")))

    def messages(self) -> list[SunkMessage]:
        """The messages kept so far, oldest first."""
        files = sorted(self._folder.glob("m.*"), key=lambda file: file.stat().st_mtime_ns)
        # A dump that lacks its final empty line is being written.
        dumps = (file.read_bytes() for file in files)
        return [_read_dump(dump) for dump in dumps if dump.endswith(b"\n\n")]

    def wait_for(self, count: int) -> list[SunkMessage]:
        """Wait until that many messages are there."""
        eventually(lambda: len(self.messages()) >= count, f"{count} messages at the sink")
        return self.messages()

    def close(self) -> None:
        """Stop it; what it kept can still be read."""
        self.daemon.close()


def smtp_sink(lab: Lab, *, port: int | None = None, dump: bool = True) -> Sink:
    """Start smtp-sink; with ``dump`` each message becomes a file, else it is thrown away."""
    program = need("smtp-sink", "postfix")
    port = port or free_port()
    folder = lab.new_folder("sink", mode=0o777)
    command: list[str | Path] = [program, "-C"]
    if os.geteuid() == 0:
        command += ["-u", "nobody"]  # it refuses to run as root
    if dump:
        command += ["-d", f"{folder}/m."]
    command += [f"{LOOPBACK}:{port}", "100"]
    daemon = lab.start("smtp-sink", command, folder / "log", ready=lambda: listens(port))
    return Sink(daemon, port, folder)
