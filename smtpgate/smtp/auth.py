"""AUTH PLAIN and LOGIN: the mechanisms as the server sees them, and the command (RFC 4954)."""

import asyncio
import base64
import binascii
from collections.abc import Generator
from typing import Final, NamedTuple

from smtpgate.core.account import AccessKey
from smtpgate.core.events import Authenticated, AuthFailed, AuthReason
from smtpgate.core.reply import CATALOGUE, reply_of
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.protocol import TOO_LONG, OutOfBudget

_SHOWN_OCTETS: Final = 64

# -- the mechanisms ----------------------------------------------------------------------------


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

# -- the command -------------------------------------------------------------------------------


async def on_auth(dialogue: Dialogue, argument: bytes) -> None:
    """AUTH, with or without an initial response (RFC 4954 §4)."""
    name, _, initial = argument.partition(b" ")
    mechanism = name.upper()
    if not dialogue.may_authenticate:
        dialogue.note_error(CATALOGUE["tls-first"])
    elif not dialogue.is_esmtp:
        dialogue.bad_sequence("say EHLO first")
    elif dialogue.key is not None:
        dialogue.bad_sequence("already authenticated")
    elif dialogue.in_transaction:
        dialogue.bad_sequence("AUTH comes before MAIL")
    elif mechanism not in MECHANISMS:
        dialogue.note_error(CATALOGUE["auth-mechanism"])
    else:
        dialogue.mechanism = mechanism.decode("ascii")
        dialogue.forget_client()
        credentials = await _exchange(dialogue, mechanism, initial.strip() or None)
        if credentials is not None:
            await _check(dialogue, credentials)


async def _exchange(
    dialogue: Dialogue, mechanism: bytes, response: bytes | None
) -> Credentials | None:
    """The credentials of the client, or ``None`` when it was refused for their form."""
    exchange = MECHANISMS[mechanism]()
    challenge = next(exchange)
    while True:
        if response is None:
            encoded = base64.b64encode(challenge).decode("ascii")
            dialogue.reply(reply_of("auth-continue", challenge=encoded))
            response = await dialogue.read_line()
            if response == b"*":
                dialogue.note_error(CATALOGUE["auth-aborted"])
                return None
            if response == TOO_LONG:  # RFC 4954 §4: the exchange is over
                dialogue.note_error(CATALOGUE["line-too-long"])
                return None
        try:
            challenge = exchange.send(decode_response(response))
        except StopIteration as done:
            credentials: Credentials = done.value
            return credentials
        except SaslError:
            dialogue.note_error(CATALOGUE["auth-malformed"])
            return None
        response = None


async def _check(dialogue: Dialogue, credentials: Credentials) -> None:
    parts = dialogue.parts
    changes = parts.watch.changes
    if credentials.acts_as not in (b"", credentials.username):
        await _refuse(dialogue, credentials, "other-identity")
        return
    try:
        found = await parts.authenticator.authenticate(
            credentials.username, credentials.password, dialogue.client_address
        )
    except DirectoryUnavailableError:
        dialogue.refuse(CATALOGUE["auth-unavailable"])
        return
    if not isinstance(found, AccessKey):
        await _refuse(dialogue, credentials, found)
        return
    dialogue.key = found
    dialogue.forget_client()
    dialogue.lift_bounds_before_auth()
    parts.watch.enter(dialogue, found, changes=changes)
    dialogue.publish(Authenticated(dialogue.client, parts.clock.now()))
    dialogue.reply(CATALOGUE["auth-ok"])


async def _refuse(dialogue: Dialogue, credentials: Credentials, reason: AuthReason) -> None:
    parts = dialogue.parts
    dialogue.auth_failures += 1
    username = credentials.username[:_SHOWN_OCTETS].decode("utf-8", "replace")
    dialogue.publish(AuthFailed(dialogue.client, parts.clock.now(), username, reason))
    # Guessing is slowed for this connection only; others are not made to wait.
    await asyncio.sleep(parts.config.auth_failure_delay_s)
    dialogue.refuse(CATALOGUE["auth-invalid"], has_event=True)
    if dialogue.auth_failures >= parts.config.max_auth_failures:
        raise OutOfBudget("auth-failures")
