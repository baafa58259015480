"""Our login at a server (RFC 4954): which mechanism, and the octets of each.

With a password PLAIN or LOGIN, with an access token OAUTHBEARER (RFC 7628) or its predecessor
XOAUTH2, which Google and Microsoft have beside it or instead of it.
https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Final

from smtpgate.core.sasl_mechanism import Mechanism
from smtpgate.core.secret import Secret
from smtpgate.core.upstream.commands import CommandError, command_line

# RFC 4954 §4: beyond this the initial response must wait for a challenge.
_MAX_COMMAND_OCTETS: Final = 512
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
# RFC 5801 §4: the two letters that end or begin something in the header of GS2.
_SASLNAME: Final = str.maketrans({"=": "=3D", ",": "=2C"})
# The answer to the JSON with which a server refuses a token: it replies 535 only then.
PROBLEM_SEEN: Final[Mapping[Mechanism, bytes]] = {
    "OAUTHBEARER": b"AQ==\r\n",  # RFC 7628 §3.2.3
    "XOAUTH2": b"\r\n",
}


def chosen(
    fitting: tuple[Mechanism, ...], wanted: Mechanism | None, offered: Iterable[str]
) -> Mechanism | None:
    """The best mechanism that fits and is offered; only the wanted one if there is one."""
    names = frozenset(offered)
    return next((one for one in fitting if one in names and wanted in (None, one)), None)


def plain_response(username: str, password: Secret) -> bytes:
    """The message of PLAIN (RFC 4616 §2), in Base64. Raises CommandError."""
    if "\0" in username or "\0" in password.value:
        raise CommandError("credentials must not hold NUL")
    return _base64(f"\0{username}\0{password.value}")


def token_response(
    mechanism: Mechanism, username: str, token: Secret, host: str, port: int
) -> bytes:
    """The message of OAUTHBEARER or XOAUTH2, in Base64. Raises CommandError."""
    if _CONTROL.search(username):
        raise CommandError("a user name must not hold control characters")
    if _TOKEN.fullmatch(token.value) is None:
        raise CommandError("an access token has only ASCII letters, digits and signs")
    if mechanism == "XOAUTH2":
        return _base64(f"user={username}\1auth=Bearer {token.value}\1\1")
    name = username.translate(_SASLNAME)
    place = f"host={host}\1port={port}\1"  # RFC 7628 §3.1
    return _base64(f"n,a={name},\1{place}auth=Bearer {token.value}\1\1")


def auth_commands(mechanism: Mechanism, response: bytes) -> tuple[bytes, bytes]:
    """AUTH, and the line for the challenge after it if the response is too long for one."""
    command = b"AUTH %s %s\r\n" % (mechanism.encode(), response)
    if len(command) <= _MAX_COMMAND_OCTETS:
        return command, b""
    return command_line("AUTH", mechanism), response + b"\r\n"


def login_response(fact: str | Secret | None) -> bytes:
    """One answer to a challenge of AUTH LOGIN."""
    text = fact.value if isinstance(fact, Secret) else fact or ""
    return _base64(text) + b"\r\n"


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())
