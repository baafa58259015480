"""DKIM keys for tests: one RSA key a run, an Ed25519 key from RFC 8463, and their DNS."""

import base64
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from smtpgate.core.identity import DkimKey
from smtpgate.signing.private_keys import dns_record, generate_private_key, load_private_key

DOMAIN: Final = "ses-example.com"
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# RFC 8463 §A.2
_ED25519_SECRET: Final = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")


@cache
def rsa_key() -> DkimKey:
    """An RSA key, made once a run."""
    return DkimKey("rsa", load_private_key(generate_private_key()))


def ed25519_pem() -> bytes:
    """The key of RFC 8463's example."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(_ED25519_SECRET)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def ed25519_key() -> DkimKey:
    """The same, with its selector."""
    return DkimKey("ed", load_private_key(ed25519_pem()))


def txt(name: str) -> bytes | None:
    """The DNS, which knows both keys."""
    for key in (rsa_key(), ed25519_key()):
        if name == f"{key.selector}._domainkey.{DOMAIN}.":
            return dns_record(key.private_key).encode("ascii")
    return None
