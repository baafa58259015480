"""The SASL mechanisms PLAIN and LOGIN, as the server sees them (RFC 4954)."""

import base64
import binascii
from collections.abc import Generator
from typing import Final, NamedTuple


class Credentials(NamedTuple):
    """The identity that a client claims, its proof, and the one that it wants to act as."""

    username: bytes
    password: bytes
    acts_as: bytes = b""


class SaslError(ValueError):
    """A response that cannot be decoded or has the wrong form."""


# A mechanism yields challenges, is sent the decoded responses and returns the credentials.
Exchange = Generator[bytes, bytes, Credentials]


def decode_response(line: bytes) -> bytes:
    """Decode one base64 response; ``=`` is the empty one (RFC 4954 §4). Raises SaslError."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("not base64") from None


def plain() -> Exchange:
    """``authzid NUL authcid NUL password`` (RFC 4616 §2)."""
    response = yield b""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise SaslError("PLAIN wants three parts")
    authzid, username, password = parts
    return Credentials(username, password, authzid)


def login() -> Exchange:
    """User name, then password (draft-murchison-sasl-login)."""
    username = yield b"Username:"
    password = yield b"Password:"
    return Credentials(username, password)


MECHANISMS: Final = {b"PLAIN": plain, b"LOGIN": login}
