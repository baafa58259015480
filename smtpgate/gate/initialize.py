"""``smtpgate init``: the sample configuration, and the private files that are still missing.

It overwrites nothing, so it can be run again after every change. A host that joins others makes
no file that they share, and lists the files to copy from them.
"""

import base64
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from smtpgate.clock import SystemClock
from smtpgate.config import Config, ConfigError, load_config
from smtpgate.core.address import AddressError, parse_domain
from smtpgate.core.proof.dkim_record import dkim_name
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.directory.documents.models import DirectoryError, Document, read_documents
from smtpgate.directory.sealing import new_master_key
from smtpgate.signing.private_keys import dns_record, generate_private_key, load_private_key

_CONFIG: Final = "smtpgate.toml"
_PRIVATE: Final = "private"
_MASTER_KEY: Final = "m1"
_STATE_DIR: Final = 'state_dir = "state"'  # as the sample has it
_APPLY: Final = 'apply = "directory"'  # as the sample has it
_DOCUMENTS: Final = "directory"
_DOMAIN: Final = "ses-example.com"  # of the sample
_ANNOUNCED: Final = "announced.json"  # as it was printed
_TERM_KEY: Final = "journal.key"
_UNNAMED: Final = '#hostname = "gate.example.com"'  # as the sample has it
_SECRET_OCTETS: Final = 30  # 40 characters, as those of AWS
_CERTIFICATE_DAYS: Final = 3650
_MAX_COMMON_NAME: Final = 64  # RFC 5280 appendix A.1


class InitError(Exception):
    """A configuration that cannot be completed."""


@dataclass(frozen=True, slots=True)
class SmtpLogin:
    """A user name and password for a sender."""

    owner: str
    username: str
    password: Secret

    def __str__(self) -> str:
        return f"{self.owner}: user name {self.username}, password {self.password.value}"


@dataclass(frozen=True, slots=True)
class ToCopy:
    """A file to copy from another host of the fleet."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{os.path.normpath(self.path)}: {self.what}"


@dataclass(slots=True)
class InitReport:
    """The files that were made; its text alone shows the new passwords."""

    config: Path
    to_copy: list[ToCopy] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)
    logins: list[SmtpLogin] = field(default_factory=list)
    dns_records: list[DnsRecord] = field(default_factory=list)
    open_problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not self.made and not self.to_copy:
            yield f"{self.config}: nothing was missing"
        yield from (f"made {path}" for path in self.made)
        if self.logins:
            yield "\nSMTP logins, shown only once:"
            yield from (f"  {login}" for login in self.logins)
        if self.dns_records:
            yield "\nDNS records to publish:"
            yield from (f"  {record}" for record in self.dns_records)
        if self.to_copy:
            yield "\nCopy from another host, readable by the gate's user only:"
            yield from (f"  {file}" for file in self.to_copy)
            yield (
                "Then set the same directory.url, journal.url and ledger as there, and run "
                "`smtpgate check-config'."
            )
        if self.open_problems:
            yield "\nStill to do:"
            yield from (f"  {problem}" for problem in self.open_problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The values for a new configuration, in place of the sample's.

    ``domain`` takes the place of the sample's. With ``join`` there are no documents: the
    directory is shared, and another host applies them.
    """

    hostname: str | None = None
    state_dir: Path | None = None
    domain: str | None = None
    join: bool = False


def sample_folder() -> Path:
    """The folder of the sample configuration: in the package, or beside it in a checkout."""
    package = Path(str(files("smtpgate")))
    for folder in (package / "sample", package.parent / "config"):
        if (folder / _CONFIG).is_file():
            return folder
    raise InitError("the sample configuration is not part of this installation")


def initialize(
    target: Path, sample: Sample = Sample(), *, now: datetime | None = None
) -> InitReport:
    """Complete the configuration in a folder, from nothing if need be.

    The hostname is the certificate's too, when the configuration names none. With ``join``
    nothing is made that hosts of one directory share. Raises InitError, ConfigError,
    DirectoryError or OSError.
    """
    if target.exists() and not target.is_dir():
        raise InitError(f"{target} is not a folder")
    hostname = _checked(sample.hostname, "host name")
    sample = replace(sample, hostname=hostname, domain=_checked(sample.domain, "domain"))
    report = InitReport(target / _CONFIG)
    is_new = not report.config.exists()
    if is_new:
        _copy_sample(target, sample, report)
    elif sample.domain is not None:
        raise InitError(
            f"{report.config} exists already; write the domain into the documents yourself"
        )
    config = load_config(report.config, require_files=False)
    if not is_new:
        _must_agree(config, sample, report.config)
    hostname = config.gate.hostname or hostname or socket.getfqdn()
    _make_certificates(config, hostname, now or SystemClock().now(), report)
    if sample.join:
        report.to_copy += _shared(config)
    else:
        _make_keys(config, report)
    try:
        load_config(report.config)
    except ConfigError as error:
        copied = [str(file.path) for file in report.to_copy]
        report.open_problems = tuple(
            problem for problem in error.problems if not any(path in problem for path in copied)
        )
    return report


def _must_agree(config: Config, sample: Sample, file: Path) -> None:
    """Raise InitError for a value that differs from the one in an existing configuration."""
    if None not in (config.gate.hostname, sample.hostname) and (
        config.gate.hostname != sample.hostname
    ):
        there = f"gate.hostname is `{config.gate.hostname}', not `{sample.hostname}'"
        raise InitError(f"{file} exists already: {there}; change it there")
    if sample.state_dir is not None and config.gate.state_dir != sample.state_dir.absolute():
        there = f"gate.state_dir is {config.gate.state_dir}, not {sample.state_dir.absolute()}"
        raise InitError(f"{file} exists already: {there}; change it there")


def _make_keys(config: Config, report: InitReport) -> None:
    if not config.directory.master_key_file.exists():
        _make(config.directory.master_key_file, new_master_key(_MASTER_KEY).encode(), report)
    for document in _documents(config):
        _make_secrets(document, config.gate.region, report)
        _make_dkim_keys(document, report)


def _shared(config: Config) -> Iterator[ToCopy]:
    """The missing files that must not be made here, since other hosts have them."""
    if not config.directory.master_key_file.exists():
        what = "the key that encrypts the secrets in the directory"
        yield ToCopy(config.directory.master_key_file, what)
    term_key = config.gate.state_dir / _TERM_KEY
    if config.journal.enabled and not term_key.exists():
        yield ToCopy(term_key, "the key of the journal, if the hosts share a journal")
    documents = config.directory.apply
    if documents is not None and not documents.exists():
        yield ToCopy(documents, "the documents, if this host applies them too")
        return
    for document in _documents(config):
        for _, _, key in document.access_keys():
            path = _missing(document, key.secret_file)
            if path is not None:
                yield ToCopy(path, f"the secret of access key {key.id}")
        for domain, key_file in _dkim_key_files(document):
            path = _missing(document, key_file)
            if path is not None:
                yield ToCopy(path, f"the private key of a DKIM key of {domain}")


def _dkim_key_files(document: Document) -> Iterator[tuple[str, str | None]]:
    for account in document.accounts.values():
        for domain, identity in account.identities.items():
            yield from ((domain, key.key_file) for key in identity.dkim)


def _checked(name: str | None, what: str) -> str | None:
    if name is None:
        return None
    try:
        return parse_domain(name)
    except AddressError as error:
        raise InitError(f"{name!r} is not a {what}: {error}") from None


def _copy_sample(target: Path, wanted: Sample, report: InitReport) -> None:
    sample = sample_folder()
    for source in sorted(sample.rglob("*")):
        place = source.relative_to(sample)
        copy = target / place
        is_ours = place.parts[0] == _PRIVATE or place.name.startswith(".")
        is_document = place.parts[0] == _DOCUMENTS
        if source.is_dir() or is_ours or copy.exists() or (wanted.join and is_document):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        if is_document and wanted.domain is not None and place.name != _ANNOUNCED:
            text = copy.read_text("utf-8").replace(_DOMAIN, wanted.domain)
            copy.write_text(text, "utf-8")
        report.made.append(copy)
    text = report.config.read_text("utf-8")
    if wanted.hostname is not None:
        text = text.replace(_UNNAMED, f'hostname = "{wanted.hostname}"')
    if wanted.state_dir is not None:
        # A path of TOML's is one of JSON's.
        text = text.replace(_STATE_DIR, f"state_dir = {json.dumps(str(wanted.state_dir))}")
    if wanted.join:
        text = text.replace(f"\n{_APPLY}\n", f"\n#{_APPLY}\n")
    report.config.write_text(text, "utf-8")


def _make(path: Path, content: bytes, report: InitReport) -> None:
    """Write a file that only its owner can read, unless it exists."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.link(unfinished, path)  # unlike a renaming, this overwrites nothing
    finally:
        unfinished.unlink()
    report.made.append(Path(os.path.normpath(path)))


# -- TLS ---------------------------------------------------------------------------------------


def _make_certificates(
    config: Config, hostname: str, now: datetime, report: InitReport
) -> None:
    for listener in config.listeners:
        cert_file, key_file = listener.cert_file, listener.key_file
        if cert_file is None or key_file is None:
            continue
        if cert_file.exists() != key_file.exists():
            there, missing = sorted((cert_file, key_file), key=Path.exists, reverse=True)
            text = f"{there} exists and {missing} does not; add it, or remove both"
            raise InitError(f"{report.config}: listener.{listener.name}: {text}")
        if not cert_file.exists():
            certificate, key = _self_signed(hostname, now)
            _make(key_file, key, report)
            _make(cert_file, certificate, report)


def _self_signed(hostname: str, now: datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:_MAX_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _general_name(hostname: str) -> x509.GeneralName:
    literal = hostname.strip("[]").removeprefix("ipv6:")
    if literal == hostname:
        return x509.DNSName(hostname)
    return x509.IPAddress(ip_address(literal))


# -- what the directory's documents name -------------------------------------------------------


def _documents(config: Config) -> list[Document]:
    if config.directory.apply is None:
        return []
    problems: list[str] = []
    documents = read_documents(config.directory.apply, problems)
    if problems:
        raise DirectoryError(problems)
    return documents


def _make_secrets(document: Document, region: str, report: InitReport) -> None:
    for account_id, user, key in document.access_keys():
        path = _missing(document, key.secret_file)
        if path is None:
            continue
        secret = Secret(base64.b64encode(secrets.token_bytes(_SECRET_OCTETS)).decode())
        _make(path, f"{secret.value}\n".encode(), report)
        owner = f"account {account_id}" + (f", user {user}" if user else "")
        report.logins.append(SmtpLogin(owner, key.id, smtp_password(secret, region)))


def _make_dkim_keys(document: Document, report: InitReport) -> None:
    for account in document.accounts.values():
        for domain, identity in account.identities.items():
            for key in identity.dkim:
                path = _missing(document, key.key_file)
                if path is None:
                    continue
                pem = generate_private_key()
                _make(path, pem, report)
                record = dns_record(load_private_key(pem))
                name = dkim_name(key.selector, domain)
                report.dns_records.append(DnsRecord(name, record))


def _missing(document: Document, file_name: str | None) -> Path | None:
    """The file that a document names, if it does not exist."""
    if file_name is None:
        return None
    path = document.path.parent / file_name
    return None if path.exists() else path
