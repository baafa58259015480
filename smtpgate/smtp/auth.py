"""AUTH: the command, the client's responses, and the check of its credentials (RFC 4954)."""

import asyncio
import base64
from functools import partial
from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.events import Authenticated, AuthFailed, AuthReason
from smtpgate.core.reply import CATALOGUE, reply_of
from smtpgate.ports import DirectoryUnavailableError, NoIssuerKeysError, TokenLogin
from smtpgate.smtp.credentials import TokenFailure
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.protocol import TOO_LONG, OutOfBudget, Work
from smtpgate.smtp.sasl import (
    MECHANISMS,
    WITH_TOKEN,
    Credentials,
    Exchange,
    SaslError,
    TokenCredentials,
    decode_response,
    refused,
)
from smtpgate.smtp.traced import trace_login

_SHOWN_OCTETS: Final = 64
# RSA and the curves take 0.1 to 0.7 ms.
_VERIFY_S: Final = 0.0005


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
    elif mechanism not in MECHANISMS or (mechanism in WITH_TOKEN and not dialogue.takes_tokens):
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
        return _work(dialogue, done.value)
    except SaslError:
        dialogue.note_error(CATALOGUE["auth-malformed"])
    else:
        _challenge(dialogue, exchange, challenge)
    return None


def _work(dialogue: Dialogue, found: Credentials | TokenCredentials | None) -> Work | None:
    """The check of complete credentials."""
    if isinstance(found, Credentials):
        return partial(_check, dialogue, found)
    if found is not None:
        return partial(_check_token, dialogue, found)
    dialogue.refuse(CATALOGUE["auth-invalid"], has_event=True)
    return None


async def _check(dialogue: Dialogue, credentials: Credentials) -> None:
    parts = dialogue.parts
    changes = parts.watch.changes
    if credentials.acts_as not in (b"", credentials.username):
        await _refuse(dialogue, _shown(credentials), "other-identity")
        return
    await parts.turns.step()
    try:
        found = await parts.authenticator.authenticate(
            credentials.username,
            credentials.password,
            dialogue.client_address,
            dialogue.client_certificate,
        )
    except DirectoryUnavailableError:
        dialogue.refuse(CATALOGUE["auth-unavailable"])
        return
    if not isinstance(found, AccessKey):
        await _refuse(dialogue, _shown(credentials), found)
        return
    _log_in(dialogue, found, changes=changes)


async def _check_token(dialogue: Dialogue, credentials: TokenCredentials) -> None:
    parts = dialogue.parts
    changes = parts.watch.changes
    await parts.turns.step(cost_s=_VERIFY_S)
    try:
        found = await parts.authenticator.authenticate_token(
            credentials, dialogue.client_address, dialogue.client_certificate
        )
    except (DirectoryUnavailableError, NoIssuerKeysError):
        dialogue.refuse(CATALOGUE["auth-unavailable"])
        return
    if isinstance(found, TokenFailure):
        await _note_failure(dialogue, found.username, found.reason, found.detail)
        if dialogue.auth_failures >= parts.config.max_auth_failures:
            dialogue.refuse(CATALOGUE["auth-invalid"], has_event=True)
            raise OutOfBudget("auth-failures")
        exchange = refused()
        _challenge(dialogue, exchange, next(exchange))
        return
    key, login = found
    _log_in(dialogue, key, changes=changes, login=login)


def _log_in(
    dialogue: Dialogue, key: AccessKey, *, changes: int, login: TokenLogin | None = None
) -> None:
    parts = dialogue.parts
    dialogue.key, dialogue.login = key, login
    dialogue.forget_client()
    dialogue.lift_bounds_before_auth()
    parts.watch.enter(dialogue, key, changes=changes)
    dialogue.publish(Authenticated(dialogue.client, parts.clock.now()))
    if parts.tracer.traces:
        trace_login(dialogue, key)
    dialogue.reply(CATALOGUE["auth-ok"])


async def _refuse(dialogue: Dialogue, username: str, reason: AuthReason) -> None:
    await _note_failure(dialogue, username, reason)
    dialogue.refuse(CATALOGUE["auth-invalid"], has_event=True)
    if dialogue.auth_failures >= dialogue.parts.config.max_auth_failures:
        raise OutOfBudget("auth-failures")


async def _note_failure(
    dialogue: Dialogue, username: str, reason: AuthReason, detail: str = ""
) -> None:
    parts = dialogue.parts
    dialogue.auth_failures += 1
    dialogue.publish(AuthFailed(dialogue.client, parts.clock.now(), username, reason, detail))
    if parts.tracer.traces:
        dialogue.trace_note(f"login refused: {reason}")
    # Guessing is slowed for this connection only; others are not made to wait.
    await asyncio.sleep(parts.config.auth_failure_delay_s)


def _shown(credentials: Credentials) -> str:
    return credentials.username[:_SHOWN_OCTETS].decode("utf-8", "replace")
