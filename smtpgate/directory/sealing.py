"""Secrets at rest: sealed with AES-256-GCM under a master key that the database never sees.

A sealed text names the master key that it is under, so that the key can be replaced while both
are known. It is bound to its context, the row that it is stored in: a database administrator
cannot give one user another's secret by copying a row.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_OCTETS: Final = 32
_NONCE_OCTETS: Final = 12  # NIST SP 800-38D §8.2
_FORM: Final = 1
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_CHECKED: Final = b"smtpgate master key"


class MasterKeyError(ValueError):
    """A master key file that cannot be used."""


class SealError(Exception):
    """Something sealed that cannot be opened: another master key, context, or damage."""


def new_master_key(key_id: str) -> str:
    """A line for a master key file, with a key that was never used."""
    return f"{key_id} {base64.b64encode(os.urandom(_KEY_OCTETS)).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The master keys of a file: the first seals, and each opens its own texts."""

    current: str
    _ciphers: dict[str, AESGCM] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "MasterKeys":
        """Read a file: one key a line, ``ID BASE64``, the current one first.

        Raises MasterKeyError, which says the line and nothing of the key.
        """
        ciphers: dict[str, AESGCM] = {}
        for number, key_id, key in _lines(text):
            if key_id in ciphers:
                raise MasterKeyError(f"line {number}: master key {key_id} stands twice")
            ciphers[key_id] = AESGCM(key)
        if not ciphers:
            raise MasterKeyError("holds no master key; `smtpgate init' makes one")
        return cls(next(iter(ciphers)), ciphers)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the current one first."""
        return tuple(self._ciphers)

    @property
    def prefix(self) -> bytes:
        """The beginning of all texts that are sealed under the current key."""
        return _head(self.current)

    def seal(self, secret: bytes, context: str) -> bytes:
        """The secret under the current key, for that context alone."""
        return self._seal(self.current, secret, context)

    def _seal(self, key_id: str, secret: bytes, context: str) -> bytes:
        nonce = os.urandom(_NONCE_OCTETS)
        head = _head(key_id)
        sealed = self._ciphers[key_id].encrypt(nonce, secret, head + context.encode())
        return head + nonce + sealed

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret that was sealed for that context. Raises SealError."""
        key_id = key_id_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(f"is sealed under master key {key_id}, which is not in the file")
        start = 2 + len(key_id)
        nonce, rest = sealed[start : start + _NONCE_OCTETS], sealed[start + _NONCE_OCTETS :]
        try:
            return cipher.decrypt(nonce, rest, sealed[:start] + context.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"cannot be opened with master key {key_id}") from None

    def check_text(self, key_id: str) -> bytes:
        """A value that shows later whether a key with that id is the same key."""
        return self._seal(key_id, _CHECKED, "check")

    def is_same(self, check_text: bytes) -> bool:
        """True if the key of that id here is the one that made the check text."""
        try:
            return self.open(check_text, "check") == _CHECKED
        except SealError:
            return False


def _head(key_id: str) -> bytes:
    return bytes((_FORM, len(key_id))) + key_id.encode()


def key_id_of(sealed: bytes) -> str:
    """The id of the master key that something is sealed under. Raises SealError."""
    try:
        form, length = sealed[0], sealed[1]
        key_id = sealed[2 : 2 + length].decode("ascii")
    except (IndexError, UnicodeDecodeError):
        raise SealError("is damaged") from None
    if form != _FORM or _ID.fullmatch(key_id) is None:
        raise SealError("is damaged, or was sealed by a later version")
    return key_id


def _lines(text: str) -> Iterator[tuple[int, str, bytes]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.strip().partition(" ")
        if _ID.fullmatch(key_id) is None:
            raise MasterKeyError(f"line {number}: an id has 1 to 32 letters, digits and ._-")
        try:
            key = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY_OCTETS:
            raise MasterKeyError(
                f"line {number}: master key {key_id} is not {_KEY_OCTETS} octets in base64"
            )
        yield number, key_id, key
