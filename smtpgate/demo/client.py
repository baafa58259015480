"""A mail client that records its dialogue: smtplib over STARTTLS with AUTH."""

import smtplib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_OK: Final = 250


@dataclass(frozen=True, slots=True)
class Sent:
    """The gate's reply to a message, and the dialogue before it."""

    code: int
    text: str
    dialogue: str


class _Client(smtplib.SMTP):
    def __init__(self, port: int) -> None:
        self.lines: list[str] = []
        super().__init__("127.0.0.1", port, local_hostname="client.example", timeout=20)

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send and record a command."""
        self.lines.append(f"C: {cmd.upper()} {args}".rstrip())
        super().putcmd(cmd, args)

    def send(self, s: Any) -> None:  # noqa: ANN401 - as smtplib takes it
        """Send octets, and record them if they are a message."""
        if not isinstance(s, str):
            self.lines += [f"C: {line}" for line in bytes(s).decode().splitlines()]
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        """Receive and record a reply."""
        code, text = super().getreply()
        self.lines += [f"S: {code} {line}" for line in text.decode("ascii").splitlines()]
        return code, text


def send(
    port: int, *, ca_file: Path, login: tuple[str, str], sender: str, message: str
) -> Sent:
    """Send one message to jane@example.net; the recorded dialogue begins after AUTH.

    When MAIL is refused, such as over a quota, no message is sent.
    """
    context = ssl.create_default_context(cafile=str(ca_file))
    context.check_hostname = False  # the certificate is for gate.example, the port is local
    with _Client(port) as client:
        client.starttls(context=context)
        client.login(*login)
        client.lines.clear()
        code, text = client.mail(sender)
        if code == _OK:
            client.rcpt("jane@example.net")
            code, text = client.data(message.replace("\n", "\r\n").encode())
        return Sent(code, " ".join(text.decode().split("\n")), "\n".join(client.lines))
