"""The SASL mechanisms, as the server sees them (RFC 4954): with a password, or with a token."""

import base64
import binascii
import re
from collections.abc import Generator
from typing import Final, NamedTuple

from smtpgate.core.secret import Secret


class Credentials(NamedTuple):
    """The identity that a client claims, its proof, and the one that it wants to act as."""

    username: bytes
    password: bytes
    acts_as: bytes = b""


class TokenCredentials(NamedTuple):
    """An access token, and the user name beside it, which may be empty."""

    username: bytes
    token: Secret


class SaslError(ValueError):
    """A response that cannot be decoded or has the wrong form."""


# A mechanism yields challenges, is sent the decoded responses and returns the credentials;
# ``None`` after a refused token, when the client has taken note of why.
Exchange = Generator[bytes, bytes, Credentials | TokenCredentials | None]
# RFC 7628 §3.1; values have no control characters but these.
_PAIR: Final = re.compile(rb"([A-Za-z]+)=([\x21-\x7e \t\r\n]*)")
# RFC 6750 §2.1; RFC 9110 §11.1: the scheme in any case.
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_SASL_NAME: Final = re.compile(rb"(?:[^\0,=\x01]|=2C|=3D)+")  # RFC 5801 §4
# RFC 7628 §3.2.2
_REFUSED: Final = b'{"status":"invalid_token"}'


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


def xoauth2() -> Exchange:
    """``user=NAME ^A auth=Bearer TOKEN ^A ^A``.

    https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
    """
    response = yield b""
    pairs = _pairs(response)
    return TokenCredentials(pairs.get(b"user", b""), _token(pairs))


def oauthbearer() -> Exchange:
    """``n,a=NAME, ^A host=HOST ^A port=PORT ^A auth=Bearer TOKEN ^A ^A`` (RFC 7628 §3.1)."""
    response = yield b""
    header, mark, rest = response.partition(b"\1")
    if not mark or header.count(b",") != 2:
        raise SaslError("OAUTHBEARER wants a GS2 header")
    binding, name, _ = header.split(b",")
    if binding not in (b"n", b"y") or not header.endswith(b","):  # no channel is bound
        raise SaslError("OAUTHBEARER has no channel binding")
    pairs = _pairs(rest)
    if not pairs.get(b"port", b"1").isdigit():
        raise SaslError("the port is no number")
    return TokenCredentials(_sasl_name(name), _token(pairs))


def refused() -> Exchange:
    """Say why a token was refused; any response will do (RFC 7628 §3.2.3)."""
    _ = yield _REFUSED
    return None


def _pairs(response: bytes) -> dict[bytes, bytes]:
    """The pairs of a response that ends with an empty one. Raises SaslError."""
    if not response.endswith(b"\1\1"):
        raise SaslError("the response does not end with two ^A")
    pairs: dict[bytes, bytes] = {}
    for text in response[:-2].split(b"\1"):
        found = _PAIR.fullmatch(text)
        if found is None or found[1] in pairs:
            raise SaslError("the response has something else than pairs, or one twice")
        pairs[found[1]] = found[2]
    return pairs


def _token(pairs: dict[bytes, bytes]) -> Secret:
    """The token; an empty one, which nobody accepts, if the client only asks what to do."""
    text = pairs.get(b"auth")
    if text is None:
        raise SaslError("the response has no auth")
    found = _BEARER.fullmatch(text)
    if text and found is None:
        raise SaslError("auth is no bearer token")
    return Secret(found[1].decode("ascii") if found else "")


def _sasl_name(text: bytes) -> bytes:
    """The name behind ``a=``, which may be missing."""
    if not text:
        return b""
    if not text.startswith(b"a=") or _SASL_NAME.fullmatch(text[2:]) is None:
        raise SaslError("the authorization identity has another form")
    return text[2:].replace(b"=2C", b",").replace(b"=3D", b"=")


WITH_PASSWORD: Final = {b"PLAIN": plain, b"LOGIN": login}
WITH_TOKEN: Final = {b"OAUTHBEARER": oauthbearer, b"XOAUTH2": xoauth2}
MECHANISMS: Final = WITH_PASSWORD | WITH_TOKEN
