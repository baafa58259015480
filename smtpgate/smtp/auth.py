"""AUTH: the command, the client's responses, and the check of its credentials (RFC 4954)."""

import asyncio
import base64
from functools import partial
from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.events import Authenticated, AuthFailed, AuthReason
from smtpgate.core.reply import CATALOGUE, reply_of
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.protocol import TOO_LONG, OutOfBudget, Work
from smtpgate.smtp.sasl import MECHANISMS, Credentials, Exchange, SaslError, decode_response

_SHOWN_OCTETS: Final = 64


def on_auth(dialogue: Dialogue, argument: bytes) -> Work | None:
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
        dialogue.must_have_waited()
        dialogue.mechanism = mechanism.decode("ascii")
        dialogue.forget_client()
        exchange = MECHANISMS[mechanism]()
        challenge, response = next(exchange), initial.strip()
        if response:
            return _respond(dialogue, exchange, response)
        _challenge(dialogue, exchange, challenge)
    return None


def on_response(dialogue: Dialogue, line: bytes) -> Work | None:
    """The client's response to a challenge."""
    dialogue.must_have_waited()
    exchange, dialogue.exchange = dialogue.exchange, None
    if line == b"*":
        dialogue.note_error(CATALOGUE["auth-aborted"])
    elif line == TOO_LONG:  # RFC 4954 §4: the exchange is over
        dialogue.note_error(CATALOGUE["line-too-long"])
    elif exchange is not None:
        return _respond(dialogue, exchange, line)
    return None


def _challenge(dialogue: Dialogue, exchange: Exchange, challenge: bytes) -> None:
    encoded = base64.b64encode(challenge).decode("ascii")
    dialogue.reply(reply_of("auth-continue", challenge=encoded))
    dialogue.exchange = exchange


def _respond(dialogue: Dialogue, exchange: Exchange, response: bytes) -> Work | None:
    """Hand a response to the mechanism; with the last one the credentials are complete."""
    try:
        challenge = exchange.send(decode_response(response))
    except StopIteration as done:
        return partial(_check, dialogue, done.value)
    except SaslError:
        dialogue.note_error(CATALOGUE["auth-malformed"])
    else:
        _challenge(dialogue, exchange, challenge)
    return None


async def _check(dialogue: Dialogue, credentials: Credentials) -> None:
    parts = dialogue.parts
    changes = parts.watch.changes
    if credentials.acts_as not in (b"", credentials.username):
        await _refuse(dialogue, credentials, "other-identity")
        return
    await parts.turns.step()
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
