"""The client's side of a session, as traces show it. Nothing here runs while no trace does."""

from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.message.envelope import Client
from smtpgate.core.transcript import (
    SessionFacts,
    command_text,
    octets_of,
    reply_texts,
    response_text,
)
from smtpgate.smtp.command import split_command
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.protocol import ILL_ENDED, TOO_LONG
from smtpgate.tracing import SERVED, SessionTranscript, Tracer

_NO_LINE: Final = {
    ILL_ENDED: "(a line that does not end in CRLF, or has a CR or NUL in it)",
    TOO_LONG: "(a line that is too long)",
}


def trace_begin(dialogue: Dialogue) -> None:
    """The session has begun."""
    transcript = _transcript(dialogue, is_new=True)
    client = dialogue.client
    tls = f", {client.smtp.tls_version}" if client.smtp.tls_version else ""
    proxy = f", by the proxy {client.smtp.proxy}" if client.smtp.proxy else ""
    origin = f"{client.address} port {client.port}"
    text = f"connected from {origin} to listener {client.listener}{tls}{proxy}"
    transcript.add("client", "note", text)


def trace_line(dialogue: Dialogue, line: bytes) -> None:
    """A line has come, and is obeyed next."""
    transcript = _transcript(dialogue)
    if dialogue.exchange is not None:
        text = _NO_LINE.get(line) or response_text(line)
        transcript.last_verb = b""
    elif line in _NO_LINE:
        text = _NO_LINE[line]
    else:
        _note_doubt(dialogue, transcript)
        verb, argument = split_command(line)
        text = command_text(line, is_doubtful=transcript.is_doubtful)
        transcript.owes_doubtful |= transcript.is_doubtful
        if verb == b"RSET" and not argument:  # it has begun again
            transcript.is_doubtful = False
        transcript.last_verb, transcript.last_transaction = verb, dialogue.transaction
    transcript.add("client", "command", text)


def _note_doubt(dialogue: Dialogue, transcript: SessionTranscript) -> None:
    """See by the last command whether another one is to be expected now.

    Behind a refused AUTH may be credentials, behind a refused DATA a body. A transaction that
    has begun shows that the client sends commands.
    """
    verb, transaction = transcript.last_verb, dialogue.transaction
    if verb == b"DATA" or (verb == b"AUTH" and dialogue.key is None):
        transcript.is_doubtful = True
    elif verb == b"MAIL" and transaction not in (None, transcript.last_transaction):
        transcript.is_doubtful = False


def trace_message(dialogue: Dialogue, octets: int, *, is_whole: bool) -> None:
    """A message has come behind DATA."""
    transcript = _transcript(dialogue)
    transcript.last_verb = b""
    what = "a message" if is_whole else "a message that is thrown away, or more"
    transcript.add("client", "command", octets_of(octets, what))


def trace_chunk(dialogue: Dialogue, octets: int) -> None:
    """A chunk is announced, and all of it is read."""
    _transcript(dialogue).add("client", "command", octets_of(octets, "a chunk"))


def trace_replies(dialogue: Dialogue, wire: bytes) -> None:
    """Replies go out, in wire form; they may repeat what came behind a refused DATA or AUTH."""
    transcript = _transcript(dialogue)
    texts = reply_texts(wire, is_doubtful=transcript.owes_doubtful)
    transcript.owes_doubtful = transcript.is_doubtful
    transcript.add_all("client", "reply", texts)


def trace_login(dialogue: Dialogue, key: AccessKey) -> None:
    """The session has logged in."""
    transcript, account = _transcript(dialogue), key.principal.account.id
    transcript.logged_in(account, key.id)
    transcript.add("client", "note", f"logged in: account {account}, access key {key.id}")


def trace_note(dialogue: Dialogue, text: str) -> None:
    """Write something about the session."""
    _transcript(dialogue).add("client", "note", text)


def trace_end(dialogue: Dialogue) -> None:
    """The connection is closed."""
    transcript = _transcript(dialogue)
    transcript.add("client", "note", "connection closed")
    transcript.ended()


def trace_upstream(dialogue: Dialogue) -> None:
    """The session's task hands over a message: the upstream's side belongs to the session."""
    transcript = _transcript(dialogue)
    _ = SERVED.set(transcript if transcript.is_wanted else None)


def trace_stranger(tracer: Tracer, client: Client, text: str) -> None:
    """Write something about a connection that became no session."""
    text = f"connection from {client.address} to listener {client.listener}: {text}"
    tracer.note(SessionFacts(client.session_id, client.address, is_open=False), text)


def _transcript(dialogue: Dialogue, *, is_new: bool = False) -> SessionTranscript:
    """The session's transcript; another one for each time in which traces run."""
    tracer, known = dialogue.parts.tracer, dialogue.transcript
    if known is not None and known.period == tracer.period:
        return known
    dialogue.transcript = SessionTranscript(tracer, facts_of(dialogue), is_doubtful=not is_new)
    return dialogue.transcript


def facts_of(dialogue: Dialogue) -> SessionFacts:
    """The facts by which a session is chosen."""
    key = dialogue.key
    return SessionFacts(
        dialogue.session_id,
        dialogue.client_address,
        "" if key is None else key.principal.account.id,
        "" if key is None else key.id,
    )
