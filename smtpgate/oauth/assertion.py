"""Assertions: short-lived JWTs that a client signs with its private key (RFC 7523 §3)."""

import base64
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from smtpgate.ports import NoTokenError

_MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3
_OTHER_KEY: Final = "the private key is neither RSA nor of the curve P-256"


def signed(
    claims: Mapping[str, str | int],
    *,
    private_key: bytes,
    certificate: bytes | None = None,
    key_id: str | None = None,
) -> str:
    """The claims as a JWT, signed with a private key in PEM. Raises NoTokenError.

    With a certificate the server finds the key by its thumbprint (RFC 7515 §4.1.8), as
    Microsoft Entra does; RSA then signs with PSS, which it asks for.
    https://learn.microsoft.com/entra/identity-platform/certificate-credentials
    """
    key, algorithm = _key(private_key, is_certified=certificate is not None)
    header: dict[str, Any] = {"alg": algorithm, "typ": "JWT"}
    if certificate is not None:
        header["x5t#S256"] = _thumbprint(certificate, private_key)
    if key_id is not None:
        header["kid"] = key_id
    try:
        return jwt.encode(header, {**claims, "jti": str(uuid4())}, key, algorithms=[algorithm])
    except (JoseError, ValueError) as error:
        raise NoTokenError(f"the private key cannot sign: {error}") from None


def _key(octets: bytes, *, is_certified: bool) -> tuple[RSAKey | ECKey, str]:
    key = _loaded(octets)
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _MIN_RSA_BITS:
            raise NoTokenError(f"the private key has less than {_MIN_RSA_BITS} bits")
        return RSAKey.import_key(octets), "PS256" if is_certified else "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return ECKey.import_key(octets), "ES256"
    raise NoTokenError(_OTHER_KEY)


def _loaded(octets: bytes) -> object:
    try:
        return serialization.load_pem_private_key(octets, password=None)
    except (ValueError, TypeError):  # no PEM; or it is encrypted
        raise NoTokenError("the private key is not in PEM, or has a password") from None
    except UnsupportedAlgorithm:
        raise NoTokenError(_OTHER_KEY) from None


def _thumbprint(certificate: bytes, private_key: bytes) -> str:
    """The SHA-256 of a certificate, if the private key is its own."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise NoTokenError("the certificate is not in PEM") from None
    if _public(found) != _public(_loaded(private_key)):
        raise NoTokenError("the certificate is of another key than the private key")
    return base64.urlsafe_b64encode(found.fingerprint(hashes.SHA256())).rstrip(b"=").decode()


def _public(owner: Any) -> bytes:  # noqa: ANN401 - a certificate or a private key
    key = owner.public_key()
    octets: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return octets
