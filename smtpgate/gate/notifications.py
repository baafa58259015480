"""The parts that send notifications: the key of SNS's signatures, and the webhooks."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from smtpgate.admin.links import SubscriptionLinks
from smtpgate.config import Config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.errors import OpenError
from smtpgate.http import SnsPages
from smtpgate.ports import Clock, Outbox
from smtpgate.signing.sns import SnsKeyError, SnsSigner
from smtpgate.webhooks.carrier import FindSubscriptions, SnsFace, Webhooks
from smtpgate.webhooks.client import CallSettings, HttpCaller

_BITS: Final = 2048
# Receivers check the signature and the URL of the certificate, not its dates.
_CERTIFICATE_DAYS: Final = 3650
_MAX_COMMON_NAME: Final = 64


def open_sns_face(config: Config, now: datetime) -> SnsFace | None:
    """The signatures and URLs of SNS's envelopes; ``None`` if the gate has no public URL.

    Makes the key in the state folder if there is none. Raises OpenError.
    """
    settings = config.notifications
    if settings.base_url is None:
        return None
    key_file = settings.key_file or config.gate.state_dir / "sns.key"
    cert_file = settings.cert_file or config.gate.state_dir / "sns.pem"
    try:
        if settings.key_file is None and not (key_file.exists() and cert_file.exists()):
            _make(key_file, cert_file, config.hostname, now)
        signer = SnsSigner(key_file.read_bytes(), cert_file.read_bytes())
    except OSError as error:
        raise OpenError(f"notifications: {error.filename}: {error.strerror}") from None
    except SnsKeyError as error:
        raise OpenError(f"notifications: {key_file}, {cert_file}: {error}") from None
    return SnsFace(signer, settings.base_url)


def new_caller(config: Config) -> HttpCaller:
    """The caller of webhooks, with the bounds of the configuration."""
    settings = config.notifications
    return HttpCaller(
        CallSettings(
            allow_plaintext=settings.allow_plaintext,
            allow_private=settings.allow_private,
            timeout_s=config.outbox.timeout_s,
            ca_file=settings.ca_file,
        )
    )


def new_webhooks(
    config: Config, find: FindSubscriptions, sns: SnsFace | None, clock: Clock
) -> Webhooks:
    """The carrier of tasks to HTTPS subscriptions; ``find`` is the directory's."""
    return Webhooks(new_caller(config), find, sns, clock)


def new_sns_pages(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    sns: SnsFace | None,
    outbox: Outbox | None,
    on_error: Callable[[BaseException], None],
) -> SnsPages | None:
    """The pages that receivers of SNS's envelopes visit, if the gate has a public URL."""
    if sns is None:
        return None
    links = SubscriptionLinks(config, store, clock, outbox, on_error)
    return SnsPages(links, sns.signer.certificate_name, sns.signer.certificate_pem)


def _make(key_file: Path, cert_file: Path, hostname: str, now: datetime) -> None:
    """Make a key and its self-signed certificate. Raises OSError."""
    key = rsa.generate_private_key(65537, _BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:_MAX_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_file, pem)
    _write(cert_file, certificate.public_bytes(serialization.Encoding.PEM))


def _write(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as made:
        made.write(content)
        made.flush()
        os.fsync(made.fileno())
    part.replace(file)
