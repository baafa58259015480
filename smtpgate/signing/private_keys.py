"""Private keys for DKIM: parsed and checked once (40 ms), then used (0.25 ms a signature)."""

import base64
from typing import ClassVar, Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from msgspec import Struct

from smtpgate.core.identity import PrivateKey

Algorithm = Literal["rsa", "ed25519"]

MIN_RSA_BITS: Final = 2048  # RFC 8301 §3.2 asks for it
SMALLEST_RSA_BITS: Final = 1024  # verifiers accept no smaller one (RFC 8301 §3.2)
LARGEST_RSA_BITS: Final = 4096  # verifiers have to accept no larger one
_PADDING: Final = padding.PKCS1v15()
_PREHASHED: Final = Prehashed(hashes.SHA256())


class KeyFileError(ValueError):
    """A file without a private key that DKIM can use."""


class _RsaKey(Struct, frozen=True, gc=False):
    key: rsa.RSAPrivateKey
    algorithm: ClassVar[str] = "rsa-sha256"

    def sign(self, digest: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 over the digest (RFC 6376 §3.3.1)."""
        return self.key.sign(digest, _PADDING, _PREHASHED)

    def record(self) -> str:
        """The key's part of the DNS record."""
        octets = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"k=rsa; p={base64.b64encode(octets).decode('ascii')}"


class _Ed25519Key(Struct, frozen=True, gc=False):
    key: ed25519.Ed25519PrivateKey
    algorithm: ClassVar[str] = "ed25519-sha256"

    def sign(self, digest: bytes) -> bytes:
        """PureEdDSA over the digest (RFC 8463 §3)."""
        return self.key.sign(digest)

    def record(self) -> str:
        """The key's part of the DNS record (RFC 8463 §4.2)."""
        octets = self.key.public_key().public_bytes_raw()
        return f"k=ed25519; p={base64.b64encode(octets).decode('ascii')}"


def load_private_key(
    pem: bytes, *, is_checked: bool = False, min_rsa_bits: int = MIN_RSA_BITS
) -> PrivateKey:
    """Parse a PEM private key, RSA of those bits or more, or Ed25519. Raises KeyFileError.

    The arithmetic check of an RSA key takes nearly all of the time. ``is_checked`` skips it for
    a key from the gate's own store, which this function has accepted before.
    """
    try:
        key = serialization.load_pem_private_key(
            pem, password=None, unsafe_skip_rsa_key_validation=is_checked
        )
    except TypeError:
        raise KeyFileError(
            "the private key is encrypted; the gate needs it unencrypted"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError("not a private key in PEM") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < (SMALLEST_RSA_BITS if is_checked else min_rsa_bits):
            raise KeyFileError(
                f"an RSA key of {key.key_size} bits; {min_rsa_bits} or more are required"
            )
        return _RsaKey(key)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return _Ed25519Key(key)
    raise KeyFileError("neither an RSA nor an Ed25519 key")


def generate_private_key(algorithm: Algorithm = "rsa") -> bytes:
    """A new private key, RSA-2048 or Ed25519, as PEM. An RSA key takes a tenth of a second."""
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm == "ed25519"
        else rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)
    )
    return _pem(key)


def pem_of_base64(text: str, min_rsa_bits: int = MIN_RSA_BITS) -> bytes:
    """The RSA key of base64 text without a header, DER of PKCS #1 or PKCS #8, as PEM.

    The library's check holds the interpreter for 50 ms, mostly to see whether the primes are
    prime, while messages wait. Here the numbers have to fit each other, and a signature has to
    be right. A factor that is not prime harms only the owner who brought it. Raises
    KeyFileError.
    """
    try:
        octets = base64.b64decode(text, validate=True)
        key = serialization.load_der_private_key(
            octets, password=None, unsafe_skip_rsa_key_validation=True
        )
    except TypeError:
        raise KeyFileError("the private key is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(
            "not the base64 of a private key, without header and lines"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyFileError("the private key is not an RSA key")
    if key.key_size > LARGEST_RSA_BITS:
        raise KeyFileError(
            f"an RSA key of {key.key_size} bits; {LARGEST_RSA_BITS} are the most"
        )
    if key.key_size < min_rsa_bits:
        raise KeyFileError(
            f"an RSA key of {key.key_size} bits; {min_rsa_bits} or more are required"
        )
    if not _fits(key.private_numbers()) or not _signs(key):
        raise KeyFileError("the numbers of the RSA key do not fit each other")
    return _pem(key)


def _fits(key: rsa.RSAPrivateNumbers) -> bool:
    """True if the numbers are those of a key of two factors (RFC 8017 §3.2)."""
    n, e, d, p, q = key.public_numbers.n, key.public_numbers.e, key.d, key.p, key.q
    return (
        p != q
        and min(p, q) > 2
        and p % 2 == q % 2 == 1
        and p * q == n
        and 3 <= e < 2**33
        and e % 2 == 1
        and 0 < d < n
        and e * d % (p - 1) == 1
        and e * d % (q - 1) == 1
        and key.dmp1 == d % (p - 1)
        and key.dmq1 == d % (q - 1)
        and 0 < key.iqmp < p
        and key.iqmp * q % p == 1
    )


def _signs(key: rsa.RSAPrivateKey) -> bool:
    """True if a signature of the private half is one of the public half."""
    digest = bytes(range(32))
    try:
        key.public_key().verify(
            key.sign(digest, _PADDING, _PREHASHED), digest, _PADDING, _PREHASHED
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def _pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def dns_record(key: PrivateKey) -> str:
    """The TXT record to publish at ``SELECTOR._domainkey.DOMAIN`` (RFC 6376 §3.6.1)."""
    if not isinstance(key, _RsaKey | _Ed25519Key):
        raise TypeError("not a key of this module")
    return f"v=DKIM1; {key.record()}"
