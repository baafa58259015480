"""The settings of a mail server that is the gate's client."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Relayhost:
    """The gate as a relay host: authenticated, with STARTTLS and a verified certificate.

    Mail for ``mailbox_domain`` does not go to the gate but to a server on ``mailbox_port``.
    With ``has_implicit_tls`` the port begins with TLS; nullmailer and Postfix alone obey that.
    ``cert_file`` is the gate's certificate, for dma, which knows its fingerprint only.
    With ``warns_of_delay`` the author is warned when a message has waited for a second.
    """

    port: int
    username: str
    password: str
    ca_file: Path
    tls_name: str
    mailbox_domain: str = ""
    mailbox_port: int = 0
    warns_of_delay: bool = False
    has_implicit_tls: bool = False
    cert_file: Path | None = None
