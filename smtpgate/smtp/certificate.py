"""The certificates of a listener: loaded, chosen by the client's SNI, and loaded again.

A listener has one or several, each with its key in files of its own. The first is for clients
that name no server, or one that no certificate is for. Certificates for the same names with
keys of several kinds, such as RSA and ECDSA, are offered together: OpenSSL takes what the
client can verify.
"""

import hashlib
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from smtpgate.config.tls_port import CertificateConfig, TlsPort
from smtpgate.ports import Reading

_ENDS_SOON: Final = timedelta(days=14)
# A renewal replaces both files, one after the other.
_READS: Final = 3


class PairFiles(NamedTuple):
    """The two files of a certificate, and the words that name their keys in an error."""

    cert_file: Path
    key_file: Path
    words: str


class PairOctets(NamedTuple):
    """The contents of both files."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """The files of a listener's certificates, and the section whose keys name them.

    ``name`` is the listener's, for metrics. ``host_key`` is the key of the name that one of the
    certificates should be for. With ``client_ca_file`` clients need a certificate too, or may
    show one if ``client_certificate`` is "optional".
    """

    name: str
    section: str
    pairs: tuple[PairFiles, ...]
    min_tls: Literal["1.2", "1.3"]
    host_key: str = "gate.hostname"
    client_ca_file: Path | None = None
    client_certificate: Literal["required", "optional"] = "required"

    @classmethod
    def of(
        cls,
        port: TlsPort,
        client_ca_file: Path | None = None,
        client_certificate: Literal["required", "optional"] = "required",
    ) -> Self:
        """Those of a port."""
        return cls(
            name=port.label,
            section=port.section,
            pairs=pairs_of(port.cert_file, port.key_file, port.certificates),
            min_tls=port.min_tls,
            client_ca_file=client_ca_file,
            client_certificate=client_certificate,
        )


def pairs_of(
    cert_file: Path | None,
    key_file: Path | None,
    more: Sequence[CertificateConfig],
    prefix: str = "",
) -> tuple[PairFiles, ...]:
    """All certificates of a section, the first one first; ``prefix`` is that of its keys."""
    found = []
    if cert_file is not None and key_file is not None:
        words = f"{prefix}cert_file {cert_file} with {prefix}key_file {key_file}"
        found.append(PairFiles(cert_file, key_file, words))
    for index, one in enumerate(more):
        both = f"cert_file {one.cert_file} with key_file {one.key_file}"
        words = f"certificates[{index}]: {both}"
        found.append(PairFiles(one.cert_file, one.key_file, words))
    return tuple(found)


class _Certificate(NamedTuple):
    """One certificate in use."""

    octets: PairOctets
    leaf: x509.Certificate

    @property
    def names(self) -> list[str]:
        return _names(self.leaf)


class _Choice(NamedTuple):
    """The contexts by the names of their certificates, and that of all other names."""

    by_name: dict[str, ssl.SSLContext]
    default: ssl.SSLContext
    unused: list[int]  # of certificates that have the names and the kind of key of another

    def of(self, name: str | None) -> ssl.SSLContext:
        if name is None:
            return self.default
        name = name.lower().rstrip(".")
        wildcard = f"*.{name.partition('.')[2]}"
        return self.by_name.get(name) or self.by_name.get(wildcard) or self.default


class ServerTls:
    """The TLS settings of a listener, with the certificates that were last loaded.

    ``context`` stays the same object: every handshake that begins on it uses the newest
    certificates. Raises OSError naming the keys when a certificate cannot be used.
    """

    def __init__(
        self, files: CertificateFiles, octets: Sequence[PairOctets] | None = None
    ) -> None:
        """``octets`` are the contents of the files, if another process has read them."""
        self.files = files
        if octets is None:
            octets = [_read(files, pair) for pair in files.pairs]
        self._client_ca = _read_client_ca(files)
        self._seen = [_versions(pair) for pair in files.pairs]
        self._in_use = self._certificates(octets)
        self._choice = self._choose(self._in_use)
        self._problems: dict[int, str] = {}
        self.context = self._choice.default
        self.context.sni_callback = self._use_newest

    @property
    def octets(self) -> tuple[PairOctets, ...]:
        """The contents of the files that are in use."""
        return tuple(one.octets for one in self._in_use)

    @property
    def not_after(self) -> datetime:
        """When the first certificate ends that ends."""
        return min(one.leaf.not_valid_after_utc for one in self._in_use)

    def readings(self) -> Iterator[Reading]:
        """The ends of the certificates, and whether newer ones cannot be used, for a scrape."""
        name, ends = self.files.name, dict[str, float]()
        for one in self._in_use:
            first, end = next(iter(one.names), ""), one.leaf.not_valid_after_utc.timestamp()
            ends[first] = min(end, ends.get(first, end))
        for first, end in ends.items():
            labels = (name, first)
            yield Reading("smtpgate_certificate_not_after_timestamp_seconds", end, labels)
        yield Reading("smtpgate_certificate_not_loaded", len(self._problems), (name,))

    def use(self, octets: Sequence[PairOctets]) -> None:
        """Use these certificates from the next handshake on; raises OSError."""
        self._client_ca = _read_client_ca(self.files)
        in_use = self._certificates(octets)
        self._choice, self._in_use = self._choose(in_use), in_use

    def update(self, now: datetime, *, always: bool = True) -> "Update":
        """Read the files again; without ``always`` those that have another version.

        A certificate that cannot be used, has expired or is not valid yet leaves the old one in
        use. Both files of a certificate are taken together, or neither.
        """
        versions = [_versions(pair) for pair in self.files.pairs]
        looked = [at for at, one in enumerate(versions) if always or one != self._seen[at]]
        self._seen, newest, problems = versions, list(self._in_use), list[str]()
        for at in looked:
            _ = self._problems.pop(at, None)
            try:
                newest[at] = self._newer(at, now)
            except OSError as error:
                self._problems[at] = str(error)
                problems.append(str(error))
        is_changed = [one.octets for one in newest] != list(self.octets)
        try:
            client_ca = _read_client_ca(self.files)
        except OSError as error:
            problems.append(str(error))
        else:
            is_changed |= client_ca != self._client_ca
            self._client_ca = client_ca
        if is_changed:
            self._choice, self._in_use = self._choose(newest), newest
        return Update(is_changed, tuple(problems))

    def warnings(self, hostname: str, now: datetime) -> list[str]:
        """Reasons why clients refuse a certificate, now or soon."""
        found = [
            (at, problem)
            for at, one in enumerate(self._in_use)
            for problem in _about_time(one.leaf, now)
        ]
        if not any(_covers(name, hostname) for one in self._in_use for name in one.names):
            shown = ", ".join(self._in_use[0].names) or "no name"
            found.append((0, f"is for {shown} and not for {self.files.host_key}, {hostname}"))
        text = "is never used: another one has the same names and the same kind of key"
        found += [(at, text) for at in self._choice.unused]
        return [f"{self._where(at)} {problem}" for at, problem in found]

    def _where(self, at: int) -> str:
        return f"{self.files.section}: the certificate in {self.files.pairs[at].cert_file}"

    def _newer(self, at: int, now: datetime) -> _Certificate:
        """The certificate that the files have now. Raises OSError."""
        pair, old = self.files.pairs[at], self._in_use[at]
        octets = _read(self.files, pair)
        if octets == old.octets:
            return old
        new = self._certificate(pair, octets)
        if _is_valid(old.leaf, now) and not _is_valid(new.leaf, now):
            problem = next(_about_time(new.leaf, now))
            raise OSError(f"{self.files.section}: {pair.words}: {problem}")
        return new

    def _certificates(self, octets: Sequence[PairOctets]) -> list[_Certificate]:
        pairs = zip(self.files.pairs, octets, strict=True)
        return [self._certificate(pair, one) for pair, one in pairs]

    def _certificate(self, pair: PairFiles, octets: PairOctets) -> _Certificate:
        """The certificate, if OpenSSL takes it with its key. Raises OSError."""
        context = _new_context(self.files, self._client_ca)
        try:
            _load(context, octets)
            # The first one is the server's own (RFC 8446 §4.4.2).
            leaf = x509.load_pem_x509_certificates(octets.certificate)[0]
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = _reason(error, octets)
            raise OSError(f"{self.files.section}: {pair.words}: {reason}") from None
        return _Certificate(octets, leaf)

    def _choose(self, certificates: Sequence[_Certificate]) -> _Choice:
        """Contexts for all names; certificates for the same names share one."""
        contexts: dict[frozenset[str], ssl.SSLContext] = {}
        by_name: dict[str, ssl.SSLContext] = {}
        kinds, unused = set[tuple[frozenset[str], type]](), list[int]()
        for at, one in enumerate(certificates):
            names = frozenset(name.lower().rstrip(".") for name in one.names)
            if (kind := (names, type(one.leaf.public_key()))) in kinds:
                unused.append(at)
                continue
            kinds.add(kind)
            if names not in contexts:
                contexts[names] = _new_context(self.files, self._client_ca)
            _load(contexts[names], one.octets)
            for name in names:
                by_name.setdefault(name, contexts[names])
        return _Choice(by_name, next(iter(contexts.values())), unused)

    def _use_newest(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        # OpenSSL calls this once a handshake, also when the client names no server.
        chosen = self._choice.of(name)
        if chosen is not self.context:
            connection.context = chosen


class Update(NamedTuple):
    """The outcome of a look at the files: why newer certificates are not used, a text each."""

    is_changed: bool
    problems: tuple[str, ...]


def _versions(pair: PairFiles) -> tuple[object, ...]:
    """The versions of both files, also behind links; ``None`` for one that is not there."""
    found: list[object] = []
    for path in (pair.cert_file, pair.key_file):
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _read(files: CertificateFiles, pair: PairFiles) -> PairOctets:
    """Both files, of one version. Raises OSError.

    Files that are replaced at each read are taken as they are: with another certificate's key
    they cannot be used, and are read again later.
    """
    octets = PairOctets(b"", b"")
    for _ in range(_READS):
        before = _versions(pair)
        try:
            octets = PairOctets(pair.cert_file.read_bytes(), pair.key_file.read_bytes())
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"{files.section}: {pair.words}: {reason}") from None
        if _versions(pair) == before:
            break
    return octets


def _read_client_ca(files: CertificateFiles) -> str | None:
    """The authorities of clients' certificates, in PEM, if OpenSSL takes them.

    Raises OSError.
    """
    path = files.client_ca_file
    if path is None:
        return None
    try:
        text = path.read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        is_read = isinstance(error, ssl.SSLError | ValueError)
        reason = (
            "holds no certificate in PEM" if is_read else _reason(error, PairOctets(b"", b""))
        )
        raise OSError(f"{files.section}.client_ca_file {path}: {reason}") from None
    return text


def _new_context(files: CertificateFiles, client_ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if files.min_tls == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    if client_ca is not None:
        is_optional = files.client_certificate == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if is_optional else ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca)
    return context


def pin_of(certificate: bytes | None) -> str:
    """The pin of a certificate in DER, see :func:`.naming.certificate_pin`; empty without one.

    One whose public key cannot be read has none either: no access key is for it.
    """
    if certificate is None:
        return ""
    try:
        public_key = x509.load_der_x509_certificate(certificate).public_key()
        octets = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return f"sha256:{hashlib.sha256(octets).hexdigest()}"


def _load(context: ssl.SSLContext, octets: PairOctets) -> None:
    """Load them from memory: what was checked is what is used. Raises OSError."""
    with ExitStack() as stack:
        names = []
        for content in octets:
            file = stack.enter_context(os.fdopen(os.memfd_create("certificate"), "wb", 0))
            _ = file.write(content)
            names.append(f"/proc/self/fd/{file.fileno()}")
        # Without a password OpenSSL would ask for one, on a terminal.
        context.load_cert_chain(names[0], names[1], password="")


def _reason(error: OSError | ValueError, octets: PairOctets) -> str:
    """The problem of a certificate and its key; OpenSSL's texts do not name the file."""
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the first certificate in cert_file"
    try:
        x509.load_pem_x509_certificates(octets.certificate)
    except ValueError:
        return "cert_file holds no certificate in PEM"
    if _is_private_key(octets.key):
        return "the key is not that of the first certificate in cert_file"
    return (
        f"key_file holds no private key in PEM without a passphrase ({error.reason or error})"
    )


def _is_private_key(octets: bytes) -> bool:
    """True for a key in PEM without a passphrase; OpenSSL does not tell one of another kind."""
    try:
        load_pem_private_key(octets, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _about_time(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    """The problems of its time: the first is that it is not valid now, if it is not."""
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < starts:
        yield f"is valid only from {starts:%Y-%m-%d %H:%M} UTC on"
    if ends <= now:
        yield f"expired on {ends:%Y-%m-%d}"
    elif ends - now < _ENDS_SOON:
        yield f"expires on {ends:%Y-%m-%d}"


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
