"""Private keys that cost little or nothing to make."""

import os
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.source import ROOT

_NUMBER_OF_KEYS: Final = 4
_FOLDER: Final = ROOT / ".cache" / "test-keys"


def reuse_rsa_keys() -> None:
    """Have a checkout make only a few RSA keys, returned in turn, and check each PEM once.

    To make one takes a tenth of a second, and to check one as long: more than most tests do.
    They are good for nothing but tests.
    """
    generate, load = rsa.generate_private_key, cache(serialization.load_pem_private_key)
    calls = count()
    kept: dict[tuple[int, int, int], rsa.RSAPrivateKey] = {}
    ours: dict[bytes, rsa.RSAPrivateKey] = {}

    def generate_in_turn(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
        place = (public_exponent, key_size, next(calls) % _NUMBER_OF_KEYS)
        if place not in kept:
            path = _FOLDER / f"rsa-{'-'.join(map(str, place))}.pem"
            kept[place] = _read(path) or _write(path, generate(public_exponent, key_size))
            ours[_pem(kept[place])] = kept[place]
        return kept[place]

    def load_once(data: bytes, password: bytes | None, **options: Any) -> object:  # noqa: ANN401 - cryptography's
        octets = bytes(data)
        return ours[octets] if octets in ours else load(octets, password, **options)

    rsa.generate_private_key = generate_in_turn  # type: ignore[assignment]
    serialization.load_pem_private_key = load_once  # type: ignore[assignment]


def _read(path: Path) -> rsa.RSAPrivateKey | None:
    """The key that an earlier run of the tests has made."""
    try:
        key = serialization.load_pem_private_key(
            path.read_bytes(), None, unsafe_skip_rsa_key_validation=True
        )
    except (OSError, ValueError):
        return None
    return cast("rsa.RSAPrivateKey", key)


def _write(path: Path, key: rsa.RSAPrivateKey) -> rsa.RSAPrivateKey:
    """Keep a key for the next run; another process may do the same."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")
    own.touch(mode=0o600)
    own.write_bytes(_pem(key))
    own.replace(path)
    return key


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


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
