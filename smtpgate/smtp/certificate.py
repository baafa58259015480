"""The certificate of a listener: loaded, checked, and loaded again without a restart."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Literal, Self

from cryptography import x509

from smtpgate.config.sections import TlsPort
from smtpgate.ports import Reading

_ENDS_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """The files of a certificate, and the section whose keys name them.

    ``name`` is the listener's, for metrics. ``prefix`` is that of the keys in the section, and
    ``host_key`` the key of the name that the certificate should be for.
    """

    name: str
    section: str
    cert_file: Path
    key_file: Path
    min_tls: Literal["1.2", "1.3"]
    prefix: str = ""
    host_key: str = "gate.hostname"

    @classmethod
    def of(cls, port: TlsPort) -> Self:
        """Those of a port whose section has both."""
        return cls(
            name=port.label,
            section=port.section,
            cert_file=port.cert_file or Path(),
            key_file=port.key_file or Path(),
            min_tls=port.min_tls,
        )


class ServerTls:
    """The TLS settings of a listener, with the certificate that was last loaded.

    ``context`` stays the same object: every handshake that begins on it uses the newest
    certificate. Raises OSError naming the keys when the certificate cannot be used.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._newest, self._certificate = _load(files)
        self.context = self._newest
        self.context.sni_callback = self._use_newest

    @property
    def not_after(self) -> datetime:
        """When the certificate ends."""
        return self._certificate.not_valid_after_utc

    def readings(self) -> Iterator[Reading]:
        """The end of the certificate, for a scrape."""
        ends = self.not_after.timestamp()
        name = self._files.name
        yield Reading("smtpgate_certificate_not_after_timestamp_seconds", ends, (name,))

    def reload(self) -> None:
        """Read the files again; raises OSError, and keeps the old certificate then."""
        self._newest, self._certificate = _load(self._files)

    def warnings(self, hostname: str, now: datetime) -> list[str]:
        """Reasons why clients refuse the certificate, now or soon."""
        certificate, found = self._certificate, list[str]()
        starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if ends <= now:
            found.append(f"expired on {ends:%Y-%m-%d}")
        elif ends - now < _ENDS_SOON:
            found.append(f"expires on {ends:%Y-%m-%d}")
        if now < starts:
            found.append(f"is valid only from {starts:%Y-%m-%d %H:%M} UTC on")
        names = _names(certificate)
        if not any(_covers(name, hostname) for name in names):
            shown = ", ".join(names) or "no name"
            found.append(f"is for {shown} and not for {self._files.host_key}, {hostname}")
        where = f"{self._files.section}: the certificate in {self._files.cert_file}"
        return [f"{where} {problem}" for problem in found]

    def _use_newest(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> None:
        # OpenSSL calls this once a handshake, also when the client names no server.
        if self._newest is not self.context:
            connection.context = self._newest


def _load(files: CertificateFiles) -> tuple[ssl.SSLContext, x509.Certificate]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if files.min_tls == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    cert_file, key_file = files.cert_file, files.key_file
    try:
        # Without a password OpenSSL would ask for one, on a terminal.
        context.load_cert_chain(cert_file, key_file, password="")
        # The first one is the server's own (RFC 8446 §4.4.2).
        certificate = x509.load_pem_x509_certificates(cert_file.read_bytes())[0]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = _reason(error, cert_file)
        both = f"{files.prefix}cert_file {cert_file} with {files.prefix}key_file {key_file}"
        raise OSError(f"{files.section}: {both}: {reason}") from None
    return context, certificate


def _reason(error: OSError | ValueError, cert_file: Path) -> str:
    """The problem of a certificate and its key; OpenSSL's texts do not name the file."""
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the first certificate in cert_file"
    try:
        x509.load_pem_x509_certificates(cert_file.read_bytes())
    except (OSError, ValueError):
        return "cert_file holds no certificate in PEM"
    return (
        f"key_file holds no private key in PEM without a passphrase ({error.reason or error})"
    )


def _names(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that it is for (RFC 9525 §2: the subject has none)."""
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        return []
    addresses: list[IPv4Address | IPv6Address] = [
        address
        for address in names.get_values_for_type(x509.IPAddress)
        if isinstance(address, IPv4Address | IPv6Address)
    ]
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _covers(pattern: str, hostname: str) -> bool:
    """True if a certificate for that name is one for the host (RFC 9525 §6.3)."""
    pattern, hostname = pattern.lower().rstrip("."), hostname.lower().rstrip(".")
    if pattern.startswith("*."):
        return hostname.partition(".")[2] == pattern[2:]
    return pattern == hostname
