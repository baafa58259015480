"""A port with TLS: where it listens, and its certificates."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import (
    Array,
    ExistingFile,
    ExistingPrivateFile,
    MadeFile,
    PrivateFile,
    Table,
)
from smtpgate.config.values import Address, Name, Port


class CertificateConfig(Table):
    """One of ``certificates``: a certificate beside the first, chosen by the client's SNI."""

    cert_file: ExistingFile
    key_file: ExistingPrivateFile


class TlsPort(Table):
    """A port for clients that log in, mostly with TLS."""

    written_as: ClassVar[Mapping[str, str | None]] = {"name": None}
    kind: ClassVar[str]

    name: Name
    address: Address = "127.0.0.1"
    port: Port
    cert_file: MadeFile | None = None
    key_file: PrivateFile | None = None
    certificates: Array[CertificateConfig] = ()
    min_tls: Literal["1.2", "1.3"] = "1.2"

    @property
    def section(self) -> str:
        """The name of its section in the file."""
        return f"{self.kind}.{self.name}"

    @property
    def label(self) -> str:
        """The name that metrics and log lines have for it."""
        return self.section

    def about_certificates(self, tls: str) -> Iterator[Problem]:
        """TLS needs a certificate and its key; without TLS they have no effect."""
        files = {"cert_file": self.cert_file, "key_file": self.key_file}
        for key, value in files.items():
            if tls == "none":
                if value is not None:
                    yield (key,), 'has no effect with tls = "none"'
            elif value is None and not (self.certificates and not any(files.values())):
                yield (key,), f'is missing; tls = "{tls}" needs it'
        if tls == "none" and self.certificates:
            yield ("certificates",), 'has no effect with tls = "none"'
