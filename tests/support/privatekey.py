"""Private keys that cost little or nothing to make."""

from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_NUMBER_OF_KEYS: Final = 4


def reuse_rsa_keys() -> None:
    """Have a process make only a few RSA keys, returned in turn, and check each PEM once.

    To make one takes a tenth of a second, and to check one as long: more than most tests do.
    """
    generate, load = rsa.generate_private_key, cache(serialization.load_pem_private_key)
    calls = count()
    kept: dict[tuple[int, int, int], rsa.RSAPrivateKey] = {}

    def generate_in_turn(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
        place = (public_exponent, key_size, next(calls) % _NUMBER_OF_KEYS)
        if place not in kept:
            kept[place] = generate(public_exponent, key_size)
        return kept[place]

    def load_once(data: bytes, password: bytes | None, **options: Any) -> object:  # noqa: ANN401 - cryptography's
        return load(bytes(data), password, **options)

    rsa.generate_private_key = generate_in_turn  # type: ignore[assignment]
    serialization.load_pem_private_key = load_once  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class CheapKey:
    """Implements PrivateKey; its signatures are worth nothing."""

    pem: bytes
    algorithm: str = "rsa-sha256"

    def sign(self, digest: bytes) -> bytes:
        """The digest itself."""
        return digest


def load_cheap_key(pem: bytes) -> CheapKey:
    """The key of a file that begins with ``KEY``. Raises ValueError."""
    if not pem.startswith(b"KEY"):
        raise ValueError("no unencrypted PEM private key")
    return CheapKey(pem)
