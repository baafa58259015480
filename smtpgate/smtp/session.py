"""A session: from the greeting to QUIT, the table of commands, and the small commands.

RFC 5321, RFC 6409. ``auth`` and ``transaction`` have the commands with subjects of their own.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from smtpgate.core.events import SessionClosed, SessionOpened
from smtpgate.core.message.body import StoredMessage
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.smtp.arrival import Chunk, IncomingMessage
from smtpgate.smtp.auth import on_auth, on_response
from smtpgate.smtp.command import EXTENSIONS, BadCommandError, parse_helo, split_command
from smtpgate.smtp.dialogue import WIRE, Dialogue
from smtpgate.smtp.handshake import HANDSHAKE_S
from smtpgate.smtp.protocol import ILL_ENDED, TOO_LONG, HangUp, OutOfBudget, Work
from smtpgate.smtp.traced import trace_begin, trace_end, trace_line, trace_note, trace_replies
from smtpgate.smtp.transaction import (
    abandon,
    cut_off,
    max_recipients,
    on_bdat,
    on_chunk,
    on_data,
    on_mail,
    on_message,
    on_rcpt,
)

# A command does what it can at once, and returns what has to wait.
Command = Callable[[Dialogue, bytes], Work | None]
# Commands that bring no message nearer; a client that sends nothing else must come to an end.
_JUNK: Final = frozenset({b"NOOP", b"RSET", b"VRFY", b"HELP", b"HELO", b"EHLO"})
# Behind a refused MAIL they are no errors of their own (RFC 2920 §3.1).
_OF_A_GROUP: Final = frozenset({b"RCPT", b"DATA", b"BDAT"})
# BINARYMIME is not: a message whose lines do not end with CRLF can be neither read nor signed.
_ALWAYS: Final = ("PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING")
_WITH_TOKENS: Final = "AUTH PLAIN LOGIN OAUTHBEARER XOAUTH2"
_NO_COMMAND: Final = {ILL_ENDED: "bad-line-end", TOO_LONG: "line-too-long"}


class SmtpSession(Dialogue):
    """One client's session, as its listener and the event loop see it."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the session into its listener's list, and start it."""
        self.owner.enter(self)
        super().connection_made(transport)
        if self.parts.tracer.traces:
            trace_begin(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed: it counts no longer."""
        super().connection_lost(error)
        self.owner.leave(self)
        # With TLS 1.3 the client judges the certificate after the server's handshake is done.
        if isinstance(error, ssl.SSLError) and self.key is None:
            self.note_tls_failed(error)
        if self.parts.tracer.traces:
            trace_end(self)

    async def serve_client(self) -> None:
        """Greet the client, and obey its commands until the session ends."""
        self.publish(SessionOpened(self.parts.config.name))
        last_word: Reply | None = None
        try:
            self._greet()
            while True:
                # No variable keeps the work while the next is waited for: it has the message.
                await (await self.next_work())()
        except HangUp as hang_up:
            last_word = hang_up.reply
            self._note_end(hang_up)
        except (ConnectionError, asyncio.CancelledError):
            self.abort()
        except Exception as error:  # noqa: BLE001 - the session ends, the gate lives on
            self.parts.on_error(error)
            last_word = CATALOGUE["temporary-failure"]
        finally:
            if self.incoming is not None:
                self.incoming.close()
            if self.key is not None:
                self.parts.watch.leave(self, self.key)
            try:
                await self.close(last_word)
            finally:
                self.publish(SessionClosed(self.parts.config.name))

    def _note_end(self, hang_up: HangUp) -> None:
        """The client left, or is disconnected: end its transaction, and note why."""
        cut_off(self, hang_up)
        if hang_up.reply is None:
            abandon(self)
        if isinstance(hang_up, OutOfBudget):
            self.note_exhausted(hang_up.budget)
            if hang_up.reply is None:
                self.abort()

    def _greet(self) -> None:
        self.end_if_due()
        if self.is_early:
            self.refuse_early()
        self.must_have_waited()
        self.reply(reply_of("greeting", hostname=self.hostname))

    def obey(self, line: bytes) -> Work | None:
        """Obey one line: a command, or the answer to a challenge of AUTH."""
        if self.parts.tracer.traces:
            trace_line(self, line)
        if self.exchange is not None:
            return on_response(self, line)
        verb, _, argument = line.partition(b" ")  # as nearly all clients write it
        command = COMMANDS.get(verb)
        if command is None:
            self.verb = b""
            if line in _NO_COMMAND:
                self.note_error(CATALOGUE[_NO_COMMAND[line]])
                return None
            verb, argument = split_command(line)
            command = COMMANDS.get(verb)
        if self.excused and verb not in _OF_A_GROUP:
            self.excused = 0
        if command is None:
            self.note_error(CATALOGUE["unknown-command"])
            return None
        self.verb = verb
        try:
            work = command(self, argument.strip(b" \t"))
        except BadCommandError as error:
            self.note_error(error.reply)
            return None
        if verb in _JUNK:
            self.count_junk()
        return work

    def trace_replies(self, wire: bytes) -> None:
        """A trace runs: show it the replies."""
        trace_replies(self, wire)

    def trace_note(self, text: str) -> None:
        """A trace runs: show it what happens to the session."""
        trace_note(self, text)

    def take_message(
        self, incoming: IncomingMessage, message: bytes | StoredMessage | None
    ) -> Work | None:
        """Take a message that has come up to its final dot."""
        return on_message(self, incoming, message)

    def chunk_taken(
        self, chunk: Chunk, incoming: IncomingMessage | None, message: bytes | StoredMessage
    ) -> Work | None:
        """All octets of a chunk have come."""
        return on_chunk(self, chunk, incoming, message)


# -- the small commands ------------------------------------------------------------------------


def _on_helo(session: Dialogue, argument: bytes) -> None:
    """HELO: no extensions, so no way to authenticate."""
    _greeted(session, argument, is_esmtp=False)
    session.reply_lines(f"250 {session.hostname}\r\n".encode())


def _on_ehlo(session: Dialogue, argument: bytes) -> None:
    """EHLO: offer what is really kept, here and by the upstream as last seen."""
    _greeted(session, argument, is_esmtp=True)
    offered = _extensions(session)
    session.offered = EXTENSIONS.intersection(offered)
    *lines, last = session.hostname, *offered
    first = "\r\n250-".join(lines)
    session.reply_lines(f"250-{first}\r\n250 {last}\r\n".encode())


def _greeted(session: Dialogue, argument: bytes, *, is_esmtp: bool) -> None:
    session.helo, session.is_esmtp = parse_helo(argument), is_esmtp
    session.must_have_waited()
    session.offered = frozenset()
    session.forget_client()
    abandon(session)


def _extensions(session: Dialogue) -> list[str]:
    facts = session.upstream
    upstream = facts.extensions
    offered = [f"SIZE {session.max_octets}", *_ALWAYS]
    offered += [
        name for name in ("8BITMIME", "SMTPUTF8") if upstream is None or name in upstream
    ]
    # RFC 3461 §5.2: its options are passed on, or the gate itself reports what is known here.
    if session.parts.can_report or (upstream is not None and "DSN" in upstream):
        offered.append("DSN")
    # RFC 8689 §2: an upstream has it only under verified TLS.
    if session.is_tls and upstream is not None and "REQUIRETLS" in upstream:
        offered.append("REQUIRETLS")
    limits = f"LIMITS RCPTMAX={max_recipients(session)}"  # RFC 9422 §4
    if (domains := facts.max_recipient_domains) is not None:
        limits += f" RCPTDOMAINMAX={domains}"
    offered.append(limits)
    if session.may_start_tls:
        offered.append("STARTTLS")
    if session.may_authenticate:
        offered.append(_WITH_TOKENS if session.takes_tokens else "AUTH PLAIN LOGIN")
    return offered


def _on_starttls(session: Dialogue, argument: bytes) -> Work | None:
    """STARTTLS: offered before AUTH and MAIL, and once."""
    tls = session.parts.tls
    if argument:
        session.note_error(reply_of("syntax", syntax="STARTTLS"))
    elif not session.may_start_tls or tls is None:
        session.note_error(CATALOGUE["tls-unavailable"])
    elif session.key is not None or session.in_transaction:
        session.bad_sequence("STARTTLS comes before AUTH and MAIL")
    else:
        session.must_have_waited()
        return partial(_start_tls, session, tls.context)
    return None


async def _start_tls(session: Dialogue, context: ssl.SSLContext) -> None:
    """EHLO and what came before the handshake is forgotten (RFC 3207 §4.2)."""
    await session.parts.turns.step(cost_s=HANDSHAKE_S)
    # Not before: its first octets would come to a session that does not expect TLS yet.
    session.reply(CATALOGUE["start-tls"])
    await session.start_tls(context)
    session.helo, session.is_esmtp, session.offered = "", False, frozenset()
    session.forget_client()
    if session.parts.tracer.traces:
        session.trace_note(f"TLS begins: {session.client.smtp.tls_version}")


def _on_noop(session: Dialogue, _argument: bytes) -> None:
    session.reply_lines(WIRE["ok"])


def _on_rset(session: Dialogue, _argument: bytes) -> None:
    """RSET: end the transaction."""
    abandon(session)
    session.reply_lines(WIRE["ok"])


def _on_vrfy(session: Dialogue, _argument: bytes) -> None:
    """VRFY: neither yes nor no (RFC 5321 §3.5.3)."""
    session.reply(CATALOGUE["vrfy"])


def _on_help(session: Dialogue, _argument: bytes) -> None:
    session.reply(CATALOGUE["help"])


def _on_unoffered(session: Dialogue, _argument: bytes) -> None:
    """EXPN, ETRN, TURN: known, not offered."""
    session.note_error(CATALOGUE["not-implemented"])


def _on_quit(session: Dialogue, _argument: bytes) -> None:
    abandon(session)
    raise HangUp(CATALOGUE["bye"])


COMMANDS: Final[Mapping[bytes, Command]] = {
    b"HELO": _on_helo,
    b"EHLO": _on_ehlo,
    b"STARTTLS": _on_starttls,
    b"AUTH": on_auth,
    b"MAIL": on_mail,
    b"RCPT": on_rcpt,
    b"DATA": on_data,
    b"BDAT": on_bdat,
    b"RSET": _on_rset,
    b"NOOP": _on_noop,
    b"VRFY": _on_vrfy,
    b"EXPN": _on_unoffered,
    b"ETRN": _on_unoffered,
    b"TURN": _on_unoffered,
    b"HELP": _on_help,
    b"QUIT": _on_quit,
}
