"""The gate's own return path: ``b+ID.TAG@DOMAIN``, an address that only the gate can make.

ID names the message and TAG is a keyed digest of it, so that a report that arrives there is
about a message that was sent, and nobody else can have mail accepted there. A message id of 60
characters would not fit into a local part of 64 octets (RFC 5321 §4.5.3.1.1), so ID is the part
of it that changes, its time and its random octets, in base32, which survives servers that
change the case of a local part.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from smtpgate.core.address import Mailbox
from smtpgate.core.message_id import compact_id, expanded_id

_PREFIX: Final = "b+"
# 100 bits: a forger has one chance in 10^30 with each attempt.
_TAG_OCTETS: Final = 13
TAG_LENGTH: Final = 20
_PURPOSE: Final = b"smtpgate return path\0"
_PATH: Final = re.compile(r"b\+([a-z2-7]{36})\.([a-z2-7]{20})@([^@\s]{1,253})", re.IGNORECASE)
MIN_KEY_OCTETS: Final = 32


class PathTagger:
    """Makes return paths with the current key, and knows those of the keys before it too."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """``keys`` begin with the current one."""
        self._keys = tuple(keys)

    def path_of(self, message_id: str, domain: str) -> Mailbox:
        """The return path of a message."""
        local_part, _, domain = return_path(message_id, domain, self._keys[0]).rpartition("@")
        return Mailbox(local_part, domain)

    def made(self, message_id: str, tag: str, domain: str) -> bool:
        """True if that is the tag of the message's return path."""
        return is_valid(TaggedPath(message_id, tag, domain), self._keys)

    def message_of(self, address: str) -> str | None:
        """The id of the message that has that return path; ``None`` for any other address."""
        path = tagged_path(address)
        return path.message_id if path is not None and is_valid(path, self._keys) else None


class TaggedPath(Struct, frozen=True, gc=False):
    """An address in the form of our return path, whose tag is not checked yet."""

    message_id: str
    tag: str
    domain: str

    def __str__(self) -> str:
        return f"{_PREFIX}{_lower(compact_id(self.message_id))}.{self.tag}@{self.domain}"


def return_path(message_id: str, domain: str, key: bytes) -> str:
    """The return path of a message at a MAIL FROM domain. Raises ValueError."""
    domain = domain.lower()
    return str(TaggedPath(message_id, _tag(message_id, domain, key), domain))


def tagged_path(address: str) -> TaggedPath | None:
    """Read an address in the form of our return path, or ``None`` if it is another one."""
    match = _PATH.fullmatch(address)
    if match is None:
        return None
    octets = base64.b32decode(match[1].upper() + "====")
    if _lower(octets) != match[1].lower():  # four bits of the last letter have no meaning
        return None
    return TaggedPath(expanded_id(octets), match[2].lower(), match[3].lower())


def is_valid(path: TaggedPath, keys: Sequence[bytes]) -> bool:
    """True if one of the keys made the tag: the current one, or the one before it.

    The time that it takes does not depend on the tag, nor on the key that fits.
    """
    fits = False
    for key in keys:
        expected = _tag(path.message_id, path.domain, key)
        fits |= hmac.compare_digest(expected.encode("ascii"), path.tag.encode("ascii"))
    return fits


def _tag(message_id: str, domain: str, key: bytes) -> str:
    if len(key) < MIN_KEY_OCTETS:
        raise ValueError(f"the key of the return path is shorter than {MIN_KEY_OCTETS} octets")
    text = _PURPOSE + message_id.encode("ascii") + b"\0" + domain.encode("utf-8")
    return _lower(hmac.digest(key, text, hashlib.sha256)[:_TAG_OCTETS])[:TAG_LENGTH]


def _lower(octets: bytes) -> str:
    return base64.b32encode(octets).decode("ascii").rstrip("=").lower()
