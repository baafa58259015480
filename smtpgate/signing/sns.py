"""The key and certificate that sign Amazon SNS's envelopes."""

import base64
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

# SHA-1 is in version 1 of SNS's signatures, which is the default that receivers know.
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1": hashes.SHA1(),  # noqa: S303
    "2": hashes.SHA256(),
}
_LEAST_BITS: Final = 2048


class SnsKeyError(ValueError):
    """A key or certificate that cannot sign envelopes."""


class SnsSigner:
    """Signs envelopes, and has the certificate that receivers check them with.

    ``digest`` is of the certificate: it is part of its URL, so a new certificate has a new one.
    """

    def __init__(self, key_pem: bytes, certificate_pem: bytes) -> None:
        try:
            key = load_pem_private_key(key_pem, None)
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except (TypeError, ValueError) as error:
            raise SnsKeyError(f"not a PEM file with a key or certificate: {error}") from None
        if not isinstance(key, RSAPrivateKey) or key.key_size < _LEAST_BITS:
            raise SnsKeyError(f"SNS signs with RSA keys; of at least {_LEAST_BITS} bits here")
        if certificate.public_key() != key.public_key():
            raise SnsKeyError("the certificate is not the key's")
        self._key = key
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)
        self.digest: Final = certificate.fingerprint(hashes.SHA256()).hex()[:32]

    def sign(self, text: str, version: Literal["1", "2"]) -> str:
        """The signature of a text, in base64."""
        signature = self._key.sign(text.encode(), PKCS1v15(), _HASHES[version])
        return base64.b64encode(signature).decode("ascii")

    @property
    def certificate_name(self) -> str:
        """The last part of the certificate's URL, as SNS names it."""
        return f"SimpleNotificationService-{self.digest}.pem"
